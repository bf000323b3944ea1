"""cache: keeps what other servers have answered, for as long as they said.

Only what was forwarded is kept: the cluster's own names are live, and what was said of a name
before the cluster had it does not hide it (fallthrough). Each record keeps the TTL that it
came with, less its age; an entry lasts as long as its shortest. A denial lasts as long as its SOA
says (RFC 2308, section 5), and one without a SOA is not kept.

    asked --fresh--> aged copy, hot for as long as it is fresh and asked for: see leases
      | |
      | +--stale, allowed--> handed out at once or for want of better (RFC 8767), asked again
      +--unknown--> the next directive; what comes back is kept
"""

from collections.abc import Callable, Iterable

from kdns.corefile.model import Directive
from kdns.plugins import cache_options, forwarding
from kdns.plugins.cache_options import Options
from kdns.plugins.cache_store import Kept, Key, Store
from kdns.plugins.chain import Handler, Outcome, Request, extended_error
from kdns.plugins.configured import Configured
from kdns.plugins.leases import Leases
from kdns.plugins.parts import Parts
from kdns.plugins.pending import Pending, after
from kdns.telemetry.meters import Labels
from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.passed import Passed
from kdns.wire.reply import Reply

NAME = "cache"
DENIED = "cache/denial"
"""Who answered, for the counters: behind the slash, which kind of entry."""
EDE_STALE = 3
EDE_STALE_NXDOMAIN = 19
_FAILURES = (Rcode.SERVFAIL, Rcode.NOTIMP)


class Cache(Configured):
    """The settings of one cache directive."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def explain(self) -> str:
        options = self.options
        parts = [
            f"{' '.join(options.zones)}: answers for {options.success.most} s at most",
            f"denials for {options.denial.most} s",
        ]
        if options.stale:
            how = "after asking first" if options.verify else "at once"
            parts.append(f"stale ones for {options.stale:g} s more, {how}")
        if options.prefetch:
            parts.append(f"fetched ahead from {options.prefetch} hits on")
        return "; ".join(parts)

    def build(self, parts: Parts, following: Handler) -> Handler:
        handler = CacheHandler(self.options, parts, following)
        parts.when_short("kept", handler.shrink)
        count(handler, parts)
        return handler


class CacheHandler:
    """Answers from what is kept, keeps what comes back, and passes the rest on."""

    def __init__(self, options: Options, parts: Parts, following: Handler) -> None:
        self.options = options
        self.stores = {"success": Store(options.success.capacity)}
        self.stores["denial"] = Store(options.denial.capacity)
        self.misses = self.prefetches = self.stale_served = self.drops = 0
        self._octets = options.octets
        self._parts = parts
        self._following = following
        self._zones = tuple(name.from_text(zone) for zone in options.zones)
        self._disabled = {
            kind: tuple(name.from_text(zone) for zone in settings.disabled)
            for kind, settings in (("success", options.success), ("denial", options.denial))
        }
        self.leases = Leases(parts, self.stores, self._used, still=options.keepttl)
        parts.block.when_taken.append(lambda: self.leases.end(self._is_live))

    def shrink(self, part: float) -> None:
        """Keep a part of what may be kept, from now on."""
        self._octets = int(self.options.octets * part)
        for kind, settings in (("success", self.options.success), ("denial", self.options.denial)):
            self.stores[kind].shrink(int(settings.capacity * part))
        self._fit()

    def __call__(self, request: Request) -> Outcome:
        """Answer from the cache, or pass on."""
        query = request.query
        if not any(name.is_below(query.key, zone) for zone in self._zones):
            return self._following(request)
        if self._is_live(query.key):
            # Somebody else may have denied it before it came to be.
            return self._following(request)
        flags: object = query.flags & (iana.RD | iana.CD) | query.do
        if query.sent:
            # What an upstream is told besides may be what it answers by: a client's network, say.
            flags = (flags, query.sent)
        key = (query.key, query.qtype, query.qclass, flags)
        kept = self._find(key)
        if kept is None:
            denial = self._cut(key) if self.options.nxdomain_cut else None
            return denial or self._ask(request, key)
        now = self._parts.monotonic()
        if now < kept.expires:
            return self._fresh(request, kept, now)
        if now >= kept.expires + self.options.stale or kept.passed.rcode in _FAILURES:
            return self._ask(request, key)
        if now < kept.recheck:
            return self._stale(kept)
        if self.options.verify:
            return self._verified(request, kept)
        self._refresh(request, kept)
        return self._stale(kept)

    def _is_live(self, qname: bytes) -> bool:
        """Whether a directive behind this one has the name now, though it passes others on."""
        block = self._parts.block
        return any(qname.endswith(zone) and stays(qname) for zone, stays in block.passing) or any(
            taken(qname) for taken in block.taken
        )

    def _may_come(self, qname: bytes) -> bool:
        """Whether a directive behind this one may have the name later, and does not say when."""
        return any(name.is_below(qname, zone) for zone, _ in self._parts.block.passing)

    def _find(self, key: Key) -> Kept | None:
        return self.stores["success"].get(key) or self.stores["denial"].get(key)

    def _cut(self, key: Key) -> Reply | None:
        """RFC 8020, section 2: where a name does not exist, nothing below it does."""
        qname, _, qclass, flags = key
        for above in name.suffixes(qname)[:-1]:
            kept = self.stores["denial"].get((above, _CUT, qclass, flags))
            if kept is None:
                continue
            age = self._parts.monotonic() - kept.stored
            if age < kept.lasts:
                denial = kept.passed.aged(0 if self.options.keepttl else int(age))
                # Not as octets: their pointers count from another question.
                return Reply(Rcode.NXDOMAIN, authority=denial.authority, ad=denial.ad, by=DENIED)
        return None

    def _fresh(self, request: Request, kept: Kept, now: float) -> Reply:
        options = self.options
        due = kept.expires
        if options.prefetch:
            self._heard(kept, 1, now)
            due -= kept.lasts * options.prefetch_part / 100
            if now >= due and kept.hits >= options.prefetch:
                self.prefetches += not kept.refreshing
                self._refresh(request, kept)
        age = 0 if options.keepttl else int(now - kept.stored)
        reply = kept.passed.aged(age) if age else kept.passed.copy()
        hot = kept.passed.rcode not in _FAILURES and not self._parts.block.watches_queries
        if hot and not self._may_come(kept.key[0]):
            lease = self.leases.take(kept, age, due)
            reply.depends = None if lease is None else (lease,)
        return self._ours(reply, kept)

    def _heard(self, kept: Kept, times: int, now: float) -> None:
        """It was asked for, which may be a reason to fetch it again."""
        if now - kept.first > self.options.prefetch_within:
            kept.hits = 0
        kept.hits += times
        kept.first = now

    def _used(self, kept: Kept, times: int, now: float) -> None:
        """It was handed out hot, within the last second."""
        self.stores[kept.kind].get(kept.key)
        if self.options.prefetch:
            self._heard(kept, times, now)

    def _ours(self, reply: Passed, kept: Kept) -> Reply:
        # RFC 1035, section 4.1.1: AA is for who has authority; who has it from a cache has not.
        reply.aa = False
        reply.by = NAME if kept.kind == "success" else DENIED
        return reply

    def _stale(self, kept: Kept) -> Reply:
        """RFC 8767, sections 4 and 6; RFC 8914, sections 4.4 and 4.20."""
        self.stale_served += 1
        reply = kept.passed.bounded(0, self.options.stale_ttl)
        denied = kept.passed.rcode == Rcode.NXDOMAIN
        reply.options = (extended_error(EDE_STALE_NXDOMAIN if denied else EDE_STALE),)
        return self._ours(reply, kept)

    def _verified(self, request: Request, kept: Kept) -> Outcome:
        """Ask first; what is stale is for want of an answer in time."""
        outcome = self._following(request)
        if not isinstance(outcome, Pending):
            return self._better(kept, outcome)
        result: Pending[Reply] = Pending()

        def late() -> None:
            if not result.done:
                result.resolve(self._stale(kept))

        timer = self._parts.call_later(self.options.stale_patience, late)

        def came(reply: Reply) -> None:
            timer.cancel()
            better = self._better(kept, reply)
            if not result.done:
                result.resolve(better)

        def failed(error: Exception) -> None:
            timer.cancel()
            if not result.done:
                result.resolve(self._stale(kept))

        outcome.when_done(came, failed)
        return result

    def _better(self, kept: Kept, reply: Reply) -> Reply:
        """A new reply, or the stale one where the new one is a failure or, if so told, a denial."""
        if _is_failure(reply):
            kept.recheck = self._parts.monotonic() + self.options.stale_recheck
            return self._stale(kept)
        denied = reply.rcode == Rcode.NXDOMAIN or not reply.answer
        if self.options.prefer_positive and denied and kept.kind == "success":
            return self._stale(kept)
        return self._keep(kept.key, reply)

    def _refresh(self, request: Request, kept: Kept) -> None:
        """Ask again, for those who come later."""
        if kept.refreshing:
            return
        kept.refreshing = True

        def came(reply: Reply) -> None:
            kept.refreshing = False
            if _is_failure(reply):
                kept.recheck = self._parts.monotonic() + self.options.stale_recheck
                return
            self._keep(kept.key, reply)
            renewed = self._find(kept.key)
            if renewed is not None:
                # What was asked for often is, whenever it was fetched.
                renewed.hits, renewed.first = kept.hits, kept.first

        def failed(error: Exception) -> None:
            kept.refreshing = False

        outcome = self._following(request)
        if isinstance(outcome, Pending):
            outcome.when_done(came, failed)
        else:
            came(outcome)

    def _ask(self, request: Request, key: Key) -> Outcome:
        self.misses += 1
        return after(self._following(request), lambda reply: self._keep(key, reply))

    def _keep(self, key: Key, reply: Reply) -> Reply:
        """Keep a reply if it may be; the reply itself goes on to who asked."""
        if type(reply) is not Passed or reply.by != forwarding.NAME or reply.tc:
            return reply
        if reply.rcode in _FAILURES:
            # RFC 2308, section 7: for a short time, lest a broken server be asked without end.
            self._put("denial", key, reply.copy(), self.options.servfail)
            return reply
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            return reply
        try:
            lasts, kind, kept = self._judged(key, reply)
        except WireError:
            self.drops += 1
            return reply
        if lasts > 0 and not any(name.is_below(key[0], zone) for zone in self._disabled[kind]):
            self._put(kind, key, kept, lasts)
            # RFC 6604, section 3: behind an alias it is the alias's target that does not exist.
            if self.options.nxdomain_cut and kept.rcode == Rcode.NXDOMAIN and not kept.answer:
                self._put("denial", (key[0], _CUT, key[2], key[3]), kept, lasts)
            if kept.carried is not reply.carried:
                return _named(kept.copy(), reply)
        return reply

    def _judged(self, key: Key, reply: Passed) -> tuple[float, str, Passed]:
        """How long a reply lasts, of which kind it is, and with which TTLs it is kept."""
        success, denial = self.options.success, self.options.denial
        if reply.rcode == Rcode.NOERROR and _answers(reply, key[1]):
            shortest = min(reply.ttls())
            if shortest == 0 and not success.least:
                return 0, "success", reply
            kept = reply.bounded(success.least, success.most)
            return max(success.least, min(shortest, success.most)), "success", kept
        soa = next((rrset for rrset in reply.authority if rrset.rtype == iana.SOA), None)
        if soa is None:
            return 0, "denial", reply
        # RFC 2308, section 5: the lesser of the SOA's own TTL and its MINIMUM field.
        lasts = min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big"))
        if lasts == 0 and not denial.least:
            return 0, "denial", reply
        lasts = max(denial.least, min(lasts, denial.most))
        kept = reply.bounded(denial.least, lasts)
        return lasts, "denial", kept

    def _put(self, kind: str, key: Key, passed: Passed, lasts: float) -> None:
        if lasts <= 0:
            return
        self.stores[_OTHER[kind]].drop(key)
        self.stores[kind].put(Kept(key, kind, passed, self._parts.monotonic(), lasts))
        self._fit()

    def _fit(self) -> None:
        success, denial = self.stores.values()
        while success.octets + denial.octets > self._octets:
            max(success, denial, key=_octets).evict()


_OTHER = {"success": "denial", "denial": "success"}
_CUT = 0
"""In the place of a type: this name and all below it do not exist."""


def _octets(store: Store) -> int:
    return store.octets


def _is_failure(reply: Reply) -> bool:
    """Whether it is worse than what is stale: a refusal, or half an answer."""
    return reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) or reply.tc


def _answers(reply: Passed, qtype: int) -> bool:
    """Whether a reply has what was asked for; aliases that lead to nothing are a denial."""
    counts = reply.carried.counts if reply.carried is not None else (len(reply.answer), 0, 0)
    if not counts[0]:
        return False
    if not counts[1]:
        return True
    return qtype in (iana.ANY, iana.CNAME) or any(
        rrset.rtype not in (iana.CNAME, iana.DNAME, _RRSIG) for rrset in reply.answer
    )


_RRSIG = 46


def _named(reply: Passed, like: Passed) -> Passed:
    reply.by, reply.aa = like.by, like.aa
    return reply


def count(handler: CacheHandler, parts: Parts) -> None:
    """Have what a handler counts among the metrics, under CoreDNS's names."""
    meters, block = parts.meters, parts.block
    # Not the block's attribute: where workers answer, that is replaced by a sum of theirs.
    counted = tuple(block.by_zone)
    zones = ",".join(handler.options.zones)
    plain: Labels = (block.label, zones, "")

    def by_type(
        read: Callable[[str, Store], float],
    ) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [
            ((block.label, kind, zones, ""), read(kind, store))
            for kind, store in handler.stores.items()
        ]

    def alone(read: Callable[[], float]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [(plain, read())]

    def hits(kind: str) -> int:
        by = NAME if kind == "success" else DENIED
        replies = [counters.responses for counters in counted]
        return sum(n for by_rcode in replies for (_, who), n in by_rcode.items() if who == by)

    typed, untyped = ("server", "type", "zones", "view"), ("server", "zones", "view")
    meters.watch(
        "gauge",
        "coredns_cache_entries",
        "Replies that are kept.",
        typed,
        by_type(lambda _, store: len(store)),
    )
    meters.watch(
        "counter",
        "coredns_cache_evictions",
        "Replies that made room for others.",
        typed,
        by_type(lambda _, store: store.evictions),
    )
    meters.watch(
        "counter",
        "coredns_cache_hits",
        "Questions that were answered from what is kept.",
        typed,
        by_type(lambda kind, _: hits(kind)),
    )
    for metric, text, read in (
        (
            "coredns_cache_requests",
            "Questions that came to the cache.",
            lambda: hits("success") + hits("denial") + handler.misses,
        ),
        ("coredns_cache_misses", "Questions that were passed on.", lambda: handler.misses),
        (
            "coredns_cache_drops",
            "Replies that cannot be read and are not kept.",
            lambda: handler.drops,
        ),
        ("coredns_cache_prefetch", "Replies fetched ahead.", lambda: handler.prefetches),
        (
            "coredns_cache_served_stale",
            "Replies handed out after their time.",
            lambda: handler.stale_served,
        ),
    ):
        meters.watch("counter", metric, text, untyped, alone(read))
    meters.watch(
        "gauge",
        "kdns_cache_octets",
        "What kept replies take.",
        typed,
        by_type(lambda _, store: store.octets),
    )


def parse(directive: Directive, zones: tuple[str, ...]) -> Cache:
    """See configured.Parse."""
    return Cache(cache_options.read(directive, zones))
