"""Questions on their way to other servers, and which server gets the next one.

    asked --merged?--> Flight --try--> target --reply--> everybody who waits
                         ^  |  no reply in the time that 95 % of its replies take: one more try,
                         |  |  elsewhere where there is an elsewhere; the first reply counts
                         +--+  an error: the next target at once

A question in flight is an entry in a table, whoever and however many ask it. A target that fails
`max_fails` times in a row is left out until it answers a probe; probes begin with a failure and end
with a reply. Before the first of its time-outs, one that falls silent while many ask it is left out
for those that answer, and what it owes is asked of them. While all are down a question is asked
once, and again when one is back. Nothing waits longer than DEADLINE, whatever the upstreams do.

Which questions are due is known by the tick, so that no other is looked at, however many there are;
and a few are seen to at a time, so that whoever asks meanwhile does not wait for all of them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from kdns.plugins.chain import EDE_NETWORK_ERROR, extended_error, failure
from kdns.plugins.dice import Dice
from kdns.plugins.parts import Timer
from kdns.plugins.pending import Pending
from kdns.plugins.tap import Tap
from kdns.plugins.upstream import UpstreamError, UpstreamExchange
from kdns.telemetry.histogram import SECONDS, Histogram
from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import HEADER, Query
from kdns.wire.passed import Passed, read_passed
from kdns.wire.reply import OUR_UDP_SIZE, Reply, opt_record

log = logging.getLogger("kdns.query")

NAME = "forward"
DEADLINE = 4.8
"""Seconds for one question, all tries together: a client that waits for 5 s, as resolv.conf(5) has
it, still gets its answer when we are busy."""
MAX_FLIGHTS = 16_384
"""Different questions in flight."""
MAX_WAITING = 65_536
"""Clients that wait for them."""
FEWEST = 64
"""Of either, however short memory is."""
TICK = 0.01
"""How often, in seconds, it is looked at which questions want a second try."""
PACE = 16
"""Questions that are seen to before others have their turn, and PAUSE seconds later the rest."""
PAUSE = 0.001
ODD_RCODE = -1
"""Stands for all rcodes that nobody has assigned, so that no upstream can make many."""
FIRST_GUESS = 0.3
"""Seconds that an upstream is taken to need, before it has answered."""
EXPLORE = 16
"""One question in so many goes to a random upstream under the `fastest` policy."""
HEDGES = 0.1
"""Second tries for each question that is asked, on average; upstreams that are slow all at once
must not be asked twice for everything."""
MAX_HEDGES = 200.0
"""What may be saved up of them."""
SILENT_QUESTIONS = 8
SILENT_SECONDS = 0.25
"""An upstream that was asked so much, and for so long, and has said nothing, may be dead."""


@dataclass(slots=True, frozen=True)
class Rules:
    """How to choose and judge upstreams; see the options of `forward`."""

    policy: str = "random"
    force_tcp: bool = False
    prefer_udp: bool = False
    read_timeout: float = 2.0
    max_fails: int = 2
    max_tries: int = 0
    failover: frozenset[int] = frozenset()
    failfast: bool = False
    probe_every: float = 0.5
    probe_name: bytes = name.ROOT
    probe_recursive: bool = True


class Clocked(Protocol):
    """What it needs of the world."""

    @property
    def rng(self) -> Random:
        """Chance."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in `delay` seconds."""


class Target:
    """One upstream, how it does, and what is counted of it. Times are in seconds."""

    __slots__ = (
        "asked",
        "durations",
        "exchange",
        "fails",
        "label",
        "probe_failures",
        "probing",
        "replies",
        "silent",
        "since",
        "slow",
        "smooth",
        "tried",
        "unheard",
    )

    def __init__(self, label: str, exchange: UpstreamExchange) -> None:
        self.label = label
        self.exchange = exchange
        self.fails = 0
        """Failures since the last reply."""
        self.silent = False
        """Whether it is left out for saying nothing."""
        self.unheard = 0
        """Questions since the last reply, the first of them at `since`."""
        self.since = 0.0
        self.probing = False
        self.probe_failures = 0
        self.asked = 0
        self.smooth = FIRST_GUESS
        """Round-trip time, smoothed as in RFC 6298, section 2."""
        self.slow = FIRST_GUESS
        """What 95 % of the round trips do not exceed."""
        self.tried = False
        self.durations: dict[int, Histogram] = {}
        self.replies: dict[int, int] = {}
        """By rcode; those that nobody has assigned are one."""

    def answered(self, seconds: float, rcode: int) -> None:
        """It replied."""
        self.fails = self.unheard = 0
        self.silent = False
        if rcode not in iana.RCODE_NAMES:
            rcode = ODD_RCODE
        self.replies[rcode] = self.replies.get(rcode, 0) + 1
        histogram = self.durations.get(rcode)
        if histogram is None:
            # What is kept may be another's, who asks the same upstream.
            self.durations[rcode] = Histogram.of(SECONDS)
            histogram = self.durations[rcode]
        histogram.observe(SECONDS, seconds)
        if not self.tried:
            self.tried = True
            self.smooth, self.slow = seconds, 3 * seconds
            return
        self.smooth += (seconds - self.smooth) / 8
        # A quantile found by steps: nineteen small ones down weigh as much as one up.
        step = (self.slow + 0.001) / 4
        self.slow += step * 0.95 if seconds > self.slow else -step * 0.05


class Flight:
    """One question in flight, and who waits for its answer."""

    __slots__ = (
        "deadline",
        "fallback",
        "key",
        "left",
        "out",
        "reason",
        "slot",
        "targets",
        "tcp",
        "waiting",
        "wire",
    )

    def __init__(self, key: object, wire: bytes, *, tcp: bool, deadline: float, left: int) -> None:
        self.key = key
        self.wire = wire
        self.tcp = tcp
        self.deadline = deadline
        self.slot: dict[Flight, None] | None = None
        """Those that are due when it is."""
        self.left = left
        """Tries that there may still be."""
        self.out = 0
        """Tries without a result."""
        self.targets: list[Target] = []
        """Where it was tried."""
        self.waiting: list[Pending[Reply]] = []
        self.reason = ""
        self.fallback: Passed | None = None
        """A reply that another upstream might better."""


class Forwarding:
    """Asks `targets` by the rules."""

    def __init__(self, targets: Sequence[Target], rules: Rules, parts: Clocked) -> None:
        self.targets = list(targets)
        """May be replaced, and be none for a time."""
        self.rules = rules
        self.taps: Sequence[Tap] = ()
        """Who is told of what goes out and comes back; a block's own list, so maybe later."""
        self.waiting = 0
        """Clients that wait."""
        self.merged = self.hedged = self.broken = 0
        """Counts: questions that joined another; second tries; questions when all were down."""
        self._parts = parts
        self._dice = Dice(parts.rng)
        self.most_flights, self.most_waiting = MAX_FLIGHTS, MAX_WAITING
        self._flights: dict[object, Flight] = {}
        self._turn = 0
        self._hedges = MAX_HEDGES
        self._ticking = False
        self._slots: dict[int, dict[Flight, None]] = {}
        """By the tick in which they are due."""
        self._tick_seen = 0
        self._parked: dict[Flight, None] = {}
        """To be tried again once an upstream is back."""

    def shrink(self, part: float) -> None:
        """Have a part of the questions in flight, and of the clients that wait, from now on."""
        self.most_flights = max(FEWEST, int(MAX_FLIGHTS * part))
        self.most_waiting = max(FEWEST, int(MAX_WAITING * part))

    def replace(self, targets: Sequence[Target]) -> None:
        """Ask these from now on; whoever waits for one that is up has them asked."""
        self.targets = list(targets)
        if self._any_up():
            self._back(self._parts.monotonic())

    def ask(self, query: Query, *, tcp: bool) -> Pending[Reply]:
        """The reply to a client's question, a SERVFAIL where there is none in time.

        tcp: whether the client asks over TCP.
        """
        pending: Pending[Reply] = Pending()
        if self.waiting >= self.most_waiting:
            pending.resolve(self._busy("clients wait", self.most_waiting))
            return pending
        rules = self.rules
        tcp = rules.force_tcp or (tcp and not rules.prefer_udp)
        edns = query.edns
        sent = query.sent
        spoken = 1 if sent else 0
        if edns is not None:
            spoken = 1 + edns.do
        # AD says that we know the bit (RFC 6840, section 5.7), so that one reply does for all.
        flags = query.flags & (iana.RD | iana.CD) | iana.AD
        key = (query.key, query.qtype, query.qclass, flags, spoken, sent, tcp)
        flight = self._flights.get(key)
        if flight is not None:
            self.merged += 1
            self.waiting += 1
            flight.waiting.append(pending)
            return pending
        if len(self._flights) >= self.most_flights:
            pending.resolve(self._busy("questions are in flight", self.most_flights))
            return pending
        now = self._parts.monotonic()
        wire = _question(query, flags, spoken)
        flight = Flight(key, wire, tcp=tcp, deadline=now + DEADLINE, left=self._tries())
        target = self._first()
        if target is None:
            self.broken += 1
            down = "every upstream is down" if self.targets else "no upstream is known yet"
            pending.resolve(_unanswered(down))
            return pending
        self._flights[key] = flight
        self.waiting += 1
        flight.waiting.append(pending)
        self._hedges = min(self._hedges + HEDGES, MAX_HEDGES)
        if not self._ticking:
            self._ticking = True
            self._tick_seen = int(now / TICK)
            self._parts.call_later(TICK, self._tick)
        self._try(flight, target, now)
        return pending

    def _tries(self) -> int:
        return self.rules.max_tries or 2 * len(self.targets)

    def _try(self, flight: Flight, target: Target, now: float) -> None:
        flight.left -= 1
        flight.out += 1
        self._plan(flight, min(now + target.slow, flight.deadline))
        flight.targets.append(target)
        target.asked += 1
        if not target.unheard:
            target.since = now
        target.unheard += 1
        for tap in self.taps:
            tap.forwarded(target.label, flight.wire, tcp=flight.tcp)
        seconds = min(self.rules.read_timeout, flight.deadline - now)
        target.exchange.ask(flight.wire, tcp=flight.tcp, timeout=seconds).when_done(
            lambda result: self._judge(flight, target, now, result),
            lambda error: self._judge(flight, target, now, UpstreamError("lost", str(error))),
        )

    def _plan(self, flight: Flight, due: float) -> None:
        """See to it in the first tick after `due`."""
        if flight.slot is not None:
            flight.slot.pop(flight, None)
        number = int(due / TICK) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
        slot[flight] = None
        flight.slot = slot

    def _judge(
        self, flight: Flight, target: Target, asked: float, result: bytes | UpstreamError
    ) -> None:
        flight.out -= 1
        now = self._parts.monotonic()
        if isinstance(result, UpstreamError):
            if result.failure != "busy":
                self._failed(target)
            self._go_on(flight, str(result), now, late=result.failure == "timeout")
            return
        for tap in self.taps:
            tap.returned(target.label, result, now - asked, tcp=flight.tcp)
        try:
            reply = read_passed(result, NAME)
        except WireError as error:
            self._go_on(flight, f"unreadable reply of {target.label}: {error}", now)
            return
        except Exception as error:
            # Whatever it is, the clients get an answer; and nobody above us knows of them.
            log.exception("a reply of %s could not be read", target.label)
            self._go_on(flight, f"unreadable reply of {target.label}: {error}", now)
            return
        reply.upstream = target.label
        was_up = self._up(target)
        target.answered(now - asked, reply.rcode)
        if not was_up:
            self._back(now)
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            # RFC 1035, section 4.1.1: AA is about the name in an answer, and here is none.
            reply.aa = False
        if reply.rcode in self.rules.failover and flight.waiting and flight.left > 0:
            flight.fallback = reply
            if self._fresh(flight) is not None:
                self._go_on(flight, "", now)
                return
        self._land(flight, reply)

    def _go_on(self, flight: Flight, reason: str, now: float, *, late: bool = False) -> None:
        """A try came to nothing. late: for want of a reply in time."""
        if not flight.waiting:
            return
        flight.reason = reason or flight.reason
        if flight.left > 0 and now < flight.deadline:
            if late and not self._any_up():
                # Whoever is asked is probed too, so we shall know when it is worth another try.
                self._parked[flight] = None
                self._plan(flight, flight.deadline)
                return
            self._try(flight, self._next(flight), now)
            return
        if not flight.out:
            self._land(flight, flight.fallback)

    def _land(self, flight: Flight, reply: Passed | None) -> None:
        """Give everybody who waits the reply, each their own: directives write on them."""
        waiting, flight.waiting = flight.waiting, []
        if not waiting:
            return
        del self._flights[flight.key]
        self._parked.pop(flight, None)
        if flight.slot is not None:
            flight.slot.pop(flight, None)
        self.waiting -= len(waiting)
        if reply is None:
            for pending in waiting:
                pending.resolve(_unanswered(flight.reason or "no upstream in time"))
            return
        for pending in waiting[1:]:
            pending.resolve(reply.copy())
        waiting[0].resolve(reply)

    def _tick(self) -> None:
        """Try again what is overdue, and give up what is out of time."""
        now = self._parts.monotonic()
        if self.rules.max_fails and len(self.targets) > 1:
            for target in self.targets:
                if not target.silent and self._up(target) and _is_silent(target, now):
                    self._silence(target, now)
        room = PACE
        number = int(now / TICK)
        while self._tick_seen < number:
            slot = self._slots.get(self._tick_seen + 1)
            while slot and room:
                self._see_to(next(iter(slot)), now)
                room -= 1
            if slot:
                break
            self._tick_seen += 1
            self._slots.pop(self._tick_seen, None)
        self._ticking = bool(self._flights)
        if self._ticking:
            self._parts.call_later(TICK if room else PAUSE, self._tick)
        else:
            self._slots.clear()

    def _see_to(self, flight: Flight, now: float) -> None:
        """Try again, or give up, what is due."""
        if flight.deadline <= now:
            self._land(flight, flight.fallback)
            return
        self._plan(flight, flight.deadline)
        if flight.left <= 0:
            return
        elsewhere = self._fresh(flight)
        if flight in self._parked or (elsewhere is not None and flight.targets[-1].silent):
            # Not a second try beside the first: from there nothing will come.
            self._parked.pop(flight, None)
            self._try(flight, elsewhere or self._next(flight), now)
        elif self._hedges >= 1 and self._any_up():
            self._hedges -= 1
            self.hedged += 1
            self._try(flight, elsewhere or self._next(flight), now)

    def _back(self, now: float) -> None:
        """An upstream answers again: who waits for one has it asked."""
        for flight in self._parked:
            self._plan(flight, now)

    def _silence(self, target: Target, now: float) -> None:
        """Leave out what says nothing, and ask others for what it owes."""
        target.silent = True
        log.warning(
            "upstream %s is left out: silent for %.1f s and %d questions",
            target.label,
            now - target.since,
            target.unheard,
        )
        for flight in self._flights.values():
            if flight.targets[-1] is target:
                self._plan(flight, now)
        self._watch(target)

    def _up(self, target: Target) -> bool:
        return not target.silent and self._unfailed(target)

    def _any_up(self) -> bool:
        return any(self._up(target) for target in self.targets)

    def _unfailed(self, target: Target) -> bool:
        most = self.rules.max_fails
        return not most or target.fails < most

    def _first(self) -> Target | None:
        """Where a new question goes; None when all are down and that is to be said."""
        targets, dice = self.targets, self._dice
        count = len(targets)
        if not count:
            return None
        policy = self.rules.policy
        if policy == "sequential":
            start = 0
        elif policy == "round_robin":
            start = self._turn
            self._turn = (start + 1) % count
        elif policy == "fastest" and dice.below(EXPLORE):
            up = [target for target in targets if self._up(target)]
            if up:
                return min(up, key=_round_trip)
            start = 0
        else:
            start = dice.below(count) if count > 1 else 0
        for index in range(start, start + count):
            target = targets[index % count]
            if self._up(target):
                return target
        # All are down, by what we know; knowing may be old, so somebody is asked all the same.
        unfailed = [target for target in targets if self._unfailed(target)]
        if self.rules.failfast and not unfailed:
            return None
        asked = unfailed or targets
        return asked[dice.below(len(asked))]

    def _fresh(self, flight: Flight) -> Target | None:
        """One that is up and was not tried for this question."""
        for target in self.targets:
            if target not in flight.targets and self._up(target):
                return target
        return None

    def _next(self, flight: Flight) -> Target:
        """Where a question goes that was asked already."""
        fresh = self._fresh(flight)
        if fresh is not None:
            return fresh
        tried = flight.targets
        again = [target for target in self.targets if self._up(target)]
        if again:
            return min(again, key=tried.count)
        untried = [target for target in self.targets if target not in tried]
        asked = untried or self.targets
        return asked[self._dice.below(len(asked))]

    def _failed(self, target: Target) -> None:
        target.fails += 1
        if self.rules.max_fails and target.fails == self.rules.max_fails:
            log.warning("upstream %s is left out: %d failures in a row", target.label, target.fails)
        if self.rules.max_fails:
            self._watch(target)

    def _watch(self, target: Target) -> None:
        """Probe it until it answers."""
        if not target.probing:
            target.probing = True
            self._parts.call_later(self.rules.probe_every, lambda: self._probe(target))

    def _probe(self, target: Target) -> None:
        """Any reply will do: it is there."""
        if not target.fails and not target.silent:
            target.probing = False
            return
        rules = self.rules
        flags = iana.RD if rules.probe_recursive else 0
        query = Query(rules.probe_name, iana.NS, flags=flags, id=0)
        seconds = max(rules.probe_every, 1.0)
        target.exchange.ask(
            _question(query, flags, 0), tcp=rules.force_tcp, timeout=seconds
        ).when_done(lambda result: self._probed(target, result))

    def _probed(self, target: Target, result: bytes | UpstreamError) -> None:
        if isinstance(result, UpstreamError):
            if result.failure == "closed":
                return
            target.fails += 1
            target.probe_failures += 1
            self._parts.call_later(self.rules.probe_every, lambda: self._probe(target))
            return
        was_up = self._up(target)
        target.fails = target.unheard = 0
        target.silent = target.probing = False
        if not was_up:
            log.info("upstream %s answers again", target.label)
            self._back(self._parts.monotonic())

    def _busy(self, what: str, most: int) -> Reply:
        return failure(f"{most} {what} already", NAME)


def _round_trip(target: Target) -> float:
    return target.smooth


def _is_silent(target: Target, now: float) -> bool:
    """Whether an upstream has said nothing where it should have."""
    patience = max(SILENT_SECONDS, 2 * target.slow)
    return target.unheard >= SILENT_QUESTIONS and now - target.since >= patience


def _unanswered(reason: str) -> Reply:
    return failure(reason, NAME, options=(extended_error(EDE_NETWORK_ERROR),))


def _question(query: Query, flags: int, spoken: int) -> bytes:
    """The client's question for an upstream: its flags, in lower case, our EDNS.

    EDNS goes out when the client spoke it, with our own size; options are between two neighbours
    (RFC 6891, section 6.2.6) and are not passed on, but what a directive adds is. The letter case
    is nobody's: several may wait for the reply, and each gets its own.
    """
    opt = _OPTS[spoken]
    if query.sent:
        opt = opt_record(do=spoken > 1, size=OUR_UDP_SIZE, options=query.sent)
    tail = query.qtype.to_bytes(2, "big") + query.qclass.to_bytes(2, "big")
    return HEADER.pack(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.key + tail + opt


_OPTS = (
    b"",
    opt_record(do=False, size=OUR_UDP_SIZE),
    opt_record(do=True, size=OUR_UDP_SIZE),
)


def rcodes(texts: Sequence[str]) -> frozenset[int]:
    """Numbers of rcodes by name. Raises KeyError."""
    return frozenset(Rcode[text.upper()] for text in texts)
