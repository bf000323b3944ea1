"""rrl: response rate limiting, so that nobody is flooded with answers that others have asked for.

Each account is of one client network, one kind of answer, and what was asked; it is credited with
so many answers a second, and what is over that is withheld, but for one in `slip-ratio`, which is
sent truncated and without records: a client that is who it says asks again over TCP, without limit.

    kind       account of                     for it
    response   qname and type                 responses-per-second
    nodata     qname and type                 nodata-per-second
    nxdomain   the zone that denies           nxdomains-per-second
    referral   the zone that is referred to   referrals-per-second
    error      nothing else                   errors-per-second

An account holds a second's credit at most, and owes `window` seconds' at most. The table is
bounded; where it is full, the account that was not used for longest goes.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Outcome, Request, Withheld
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.plugins.peer import packed
from kdns.plugins.pending import after
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply

Kind = Literal["response", "nodata", "nxdomain", "referral", "error", "request"]
OPTIONS: dict[str, Kind] = {
    "responses-per-second": "response",
    "nodata-per-second": "nodata",
    "nxdomains-per-second": "nxdomain",
    "referrals-per-second": "referral",
    "errors-per-second": "error",
    "requests-per-second": "request",
}
_ANSWERS: tuple[Kind, ...] = ("nodata", "nxdomain", "referral", "error")
MAX_RATE = 1_000_000
Account = tuple[bytes, str, bytes, int]


@dataclass(slots=True)
class Settings(Configured):
    """The settings of one rrl directive. rates: a second, by kind; 0 for no limit."""

    zones: tuple[str, ...]
    rates: dict[Kind, int] = field(default_factory=dict)
    window: int = 15
    prefix4: int = 24
    prefix6: int = 56
    slip: int = 2
    accounts: int = 100_000
    report_only: bool = False

    def rate(self, kind: Kind) -> int:
        """What is allowed of a kind of answers; those that nothing is said of are as `response`."""
        given = self.rates.get(kind)
        if given is None and kind in _ANSWERS:
            given = self.rates.get("response")
        return given or 0

    def explain(self) -> str:
        kinds: tuple[Kind, ...] = ("response", *_ANSWERS, "request")
        said = [f"{rate} {kind}" for kind in kinds if (rate := self.rate(kind))]
        limits = " ".join(self.zones) + ": a second, for each client network: " + ", ".join(said)
        return f"{limits}; only counted" if self.report_only else limits

    def warnings(self) -> tuple[str, ...]:
        return () if any(self.rates.values()) else ("rrl without a rate limits nothing",)

    def build(self, parts: Parts, following: Handler) -> Handler:
        # What is answered hot is answered by nobody who could count it.
        parts.block.watches_queries = True
        limiter = Limiter(self, parts.monotonic)
        parts.meters.watch(
            "counter",
            "kdns_dropped",
            "Queries without an answer because there was too much to do, by their kind.",
            ("reason",),
            lambda: [(("rrl",), limiter.dropped)],
        )
        parts.meters.watch(
            "counter",
            "kdns_rrl_exceeded",
            "Answers above their rate, and what became of them.",
            ("server", "action"),
            lambda: [
                ((parts.block.label, "drop"), limiter.dropped),
                ((parts.block.label, "slip"), limiter.slipped),
                ((parts.block.label, "report"), limiter.reported),
            ],
        )
        return LimitingHandler(self, limiter, following)


class Limiter:
    """The accounts, and counts of what was done about those that are overdrawn."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float]) -> None:
        self.dropped = self.slipped = self.reported = 0
        self._settings = settings
        self._monotonic = monotonic
        self._accounts: OrderedDict[Account, tuple[float, float]] = OrderedDict()
        """Balance, in answers, and when that was."""
        self._over = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def exceeds(self, account: Account, rate: int) -> bool:
        """Take one answer from an account; whether it is overdrawn."""
        now = self._monotonic()
        balance, when = self._accounts.pop(account, (float(rate), now))
        balance = min(float(rate), balance + (now - when) * rate) - 1
        balance = max(balance, -float(rate) * self._settings.window)
        while len(self._accounts) >= self._settings.accounts:
            self._accounts.popitem(last=False)
        self._accounts[account] = balance, now
        return balance < 0

    def slips(self) -> bool:
        """Whether this one of those above their rate is sent truncated."""
        self._over += 1
        return self._settings.slip > 0 and self._over % self._settings.slip == 0


class LimitingHandler:
    """Asks the next directive, and withholds what is too much."""

    def __init__(self, settings: Settings, limiter: Limiter, following: Handler) -> None:
        self._settings = settings
        self._limiter = limiter
        self._following = following
        self._zones = tuple(name.from_text(zone) for zone in settings.zones)

    def __call__(self, request: Request) -> Outcome:
        """Answer, within the rates."""
        key = request.query.key
        # TCP has a handshake, so nobody else gets the answer; and who follows an alias is us.
        ours = request.peer.proto != "udp" or request.aliases > 0
        if ours or not any(name.is_below(key, zone) for zone in self._zones):
            return self._following(request)
        network = self._network(request.peer.host)
        rate = self._settings.rate("request")
        if rate and self._limiter.exceeds((network, "request", b"", 0), rate):
            if not self._settings.report_only:
                self._limiter.dropped += 1
                return Withheld()
            self._limiter.reported += 1
        return after(self._following(request), lambda reply: self._limited(request, reply, network))

    def _limited(self, request: Request, reply: Reply, network: bytes) -> Reply:
        kind, about, qtype = judged(request, reply)
        rate = self._settings.rate(kind)
        limiter = self._limiter
        if not rate or not limiter.exceeds((network, kind, about, qtype), rate):
            return reply
        if self._settings.report_only:
            limiter.reported += 1
            return reply
        if limiter.slips():
            limiter.slipped += 1
            return Reply(reply.rcode, aa=reply.aa, tc=True, by=reply.by)
        limiter.dropped += 1
        return Withheld(reply.rcode, by=reply.by)

    def _network(self, host: str) -> bytes:
        address = packed(host)
        length = self._settings.prefix4 if len(address) == 4 else self._settings.prefix6
        spare = 8 * len(address) - length
        number = int.from_bytes(address, "big") >> spare
        return (number << spare).to_bytes(len(address), "big")


def judged(request: Request, reply: Reply) -> tuple[Kind, bytes, int]:
    """The kind of an answer, and what its account is about."""
    query = request.query
    if reply.rcode == Rcode.NXDOMAIN:
        # By the zone: who asks for random names is to find them all in one account.
        return "nxdomain", _owner(reply, iana.SOA), 0
    if reply.rcode != Rcode.NOERROR:
        return "error", b"", 0
    if reply.answer:
        return "response", query.key, query.qtype
    if any(rrset.rtype == iana.NS for rrset in reply.authority):
        return "referral", _owner(reply, iana.NS), 0
    return "nodata", query.key, query.qtype


def _owner(reply: Reply, rtype: int) -> bytes:
    for rrset in reply.authority:
        if rrset.rtype == rtype:
            return rrset.owner.lower()
    return b""


def parse(directive: Directive, zones: tuple[str, ...]) -> Settings:
    """See configured.Parse. `rrl [ZONES…] { … }`, with the options of CoreDNS's external plugin."""
    named = tuple(zone for arg in directive.args for zone in expand_zone(arg))
    made = Settings(named or zones)

    def number(minimum: int, maximum: int, put: Callable[[int], object]) -> Callable[..., None]:
        def read(option: Directive) -> None:
            (given,) = values.exactly(option, 1)
            put(values.integer(given, minimum=minimum, maximum=maximum))

        return read

    def into(attribute: str) -> Callable[[int], object]:
        return lambda value: setattr(made, attribute, value)

    def report(option: Directive) -> None:
        made.report_only = values.flag(option)

    def rate_of(kind: Kind) -> Callable[[int], object]:
        return lambda value: made.rates.update({kind: value})

    rates = {option: number(0, MAX_RATE, rate_of(kind)) for option, kind in OPTIONS.items()}
    read_options(
        directive,
        {
            **rates,
            "window": number(1, 3600, into("window")),
            "ipv4-prefix-length": number(1, 32, into("prefix4")),
            "ipv6-prefix-length": number(1, 128, into("prefix6")),
            "slip-ratio": number(0, 10, into("slip")),
            "max-table-size": number(1, 10_000_000, into("accounts")),
            "report-only": report,
        },
    )
    return made
