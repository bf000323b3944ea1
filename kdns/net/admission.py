"""Who is served when not all can be: what is hot or ours first, new work for upstreams last.

A socket whose queue would take more than LONG seconds to read, and has not been empty for STANDING
seconds, is asked for more than it can do; so is one where that takes less, since there is room for
little, but as large a part of the room is taken. (A long queue alone says nothing: one that empties
is a burst, or the end of a pause that a CPU limit makes.) From then on, every TICK:

    the queue is short, or was empty?   yes: more may come in       no: less may come in
                                           ^                           v
    budget   new outside names that are asked for, LEAST at least; what is hot costs nothing of it
    keep     once that is LEAST: what the kernel lets in of names that are not ours; see sieve.py
    clients  once that is the least too: what it lets in of who asks for all others; see greedy.py

until it has been so for CALM ticks with nobody turned away. A client that asks for more of the
budget than an even share for each client is turned away first.

What is turned away gets no answer: clients ask again, or ask another server, as they do for a
datagram that is lost. What waits is held to AGE seconds, for who asked earlier has given up.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from kdns.net.clock import Timer
from kdns.net.greedy import Greedy

_log = logging.getLogger("kdns.net")

STANDING: Final = 0.2
"""Two periods of the kernel's CPU bandwidth control."""
LONG: Final = 0.1
TICK: Final = 0.1
DRAINS: Final = 0.95
AGE: Final = 0.25
CALM: Final = 20
LEAST: Final = 4
"""New outside names in a tick that are asked for whatever happens."""
MOST: Final = 1 << 16
FEW: Final = 32
"""So few turned away in a tick are no flood any more."""
FIRST: Final = 64
LEAST_KEPT: Final = 1 / 256
CELLS: Final = 4096
"""Counters of clients, by a hash of their address: some share one, and that is fair enough."""
FEWEST: Final = 512
"""Datagrams that there is always room for."""
QUIET: Final = 60.0
"""Seconds in which it is said at most once that anybody is turned away."""
_QNAME: Final = 10
"""Where the name begins in a query after its ID."""
_FULL_CELL: Final = 255


Passing = tuple[bytes, Callable[[bytes], bool]]
"""A zone, and whether a name of it is known."""


class Gate(Protocol):
    """A socket as an admission sees it."""

    def passed(self) -> int:
        """How many datagrams have been read so far."""

    def waiting(self) -> int:
        """How many datagrams are in the queue."""

    def room(self) -> int:
        """For how many datagrams the queue has room, those in it included; 0 where nobody knows."""

    def missed(self) -> int:
        """How many datagrams the kernel has dropped so far, for want of room or as told to."""

    def clients(self) -> Iterable[bytes]:
        """Who asked lately: addresses as octets, each as often as it asked."""

    def thin(self, zones: Sequence[bytes], keep: float, clients: Mapping[bytes, float]) -> bool:
        """Let in `keep` of what is in none of the zones, and of some clients a part of what would
        come in; whether that is possible."""

    def hold(self, datagrams: int | None) -> None:
        """Have room for so many datagrams in the queue; None: for as many as in calm times."""


class Scheduler(Protocol):
    """What it needs of an event loop."""

    def time(self) -> float:
        """Seconds of a clock that never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call `callback` in `delay` seconds."""


class Admission:
    """Who is let in at one socket. `shedding`: whether anybody is turned away at all.

    emptied: set by who reads, whenever there is nothing left to read. Counts: outside names that
    were turned away since there was no budget left, `outside`, or since their client had had its
    share, `greedy`; and how often it began to turn anybody away, `begun`.
    """

    def __init__(self, gate: Gate, scheduler: Scheduler) -> None:
        self.emptied = True
        self.shedding = False
        self.outside = 0
        self.greedy = 0
        self.begun = 0
        self.budget = FIRST
        self.keep = 1.0
        self.clients = Greedy()
        self._gate = gate
        self._scheduler = scheduler
        self._ours: tuple[bytes, ...] = (b"\0",)
        self._passing: tuple[Passing, ...] = ()
        self._since = scheduler.time()
        self._said = -QUIET
        self._passed = 0
        self._missed = 0
        self._waited = 0
        self._served = 0.0
        self._timer: Timer | None = None
        self._left = 0
        self._turned = 0
        self._calm = 0
        self._cells = bytearray(CELLS)
        self._share = FIRST

    def ours(self, zones: Sequence[bytes], passing: Sequence[Passing] = ()) -> None:
        """Which zones cost no upstream anything: names as on the wire, in lower case.

        passing: of those, the ones whose unknown names are passed on to upstreams, so that they
        are outside names; and whether a name is known. The kernel lets in all of them.
        Until this is told nothing is turned away.
        """
        self._ours = tuple(zones)
        self._passing = tuple(passing)
        if self.keep < 1:
            self._thin(self.keep)

    def full(self) -> None:
        """For who reads: it has read for its turn, and there is more."""
        now = self._scheduler.time()
        if self.emptied:
            self.emptied = False
            self._since = now
            self._passed = self._gate.passed()
        elif not self.shedding and now - self._since >= STANDING:
            passed = self._gate.passed()
            self._served = (passed - self._passed) / (now - self._since) * TICK
            self._since, self._passed = now, passed
            if self._is_long():
                self._begin()

    def admits(self, key: bytes, client: bytes) -> bool:
        """Whether a query that is not hot is let in; to be asked while `shedding`.

        key: what follows the ID. client: an address, as octets.
        """
        end = key.find(0, _QNAME) + 1
        qname = key[_QNAME:end].lower()
        if qname.endswith(self._ours) and all(
            known(qname) for zone, known in self._passing if qname.endswith(zone)
        ):
            return True
        cell = hash(client) % CELLS
        asked = self._cells[cell]
        if asked < _FULL_CELL:
            self._cells[cell] = asked + 1
        if self._left > 0 and asked < self._share:
            self._left -= 1
            return True
        self._turned += 1
        if self._left > 0:
            self.greedy += 1
        else:
            self.outside += 1
        return False

    def close(self) -> None:
        """Turn nobody away any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.shedding:
            # The socket may be another process's too, and go on there.
            self._gate.thin(self._ours, 1.0, {})
            self._gate.hold(None)
        self.shedding = False

    def _begin(self) -> None:
        self.shedding = True
        self.begun += 1
        self.budget = FIRST
        self._calm = 0
        now = self._scheduler.time()
        if now >= self._said + QUIET:
            self._said = now
            _log.warning("asked for more than can be answered: turning away new outside names")
        self._passed = self._gate.passed()
        self._missed = self._gate.missed()
        self._hold()
        self._renew(1)
        self._timer = self._scheduler.call_later(TICK, self._tick)

    def _tick(self) -> None:
        gate, before = self._gate, (self._passed, self._missed, self._waited)
        self._passed, self._missed, self._waited = gate.passed(), gate.missed(), gate.waiting()
        passed, missed = self._passed - before[0], self._missed - before[1]
        if not passed and not self._waited:
            # Nothing came: nobody read to find the queue empty.
            self.emptied = True
        if not self.emptied:
            # While it never waits for anybody, what it reads is what it can do.
            self._served += (passed - self._served) / 4
        self._hold()
        self.clients.sample(gate.clients())
        if self.emptied or not self._is_long():
            self._relax(missed)
        else:
            self._harden(far=missed > passed, drains=self._waited < before[2] * DRAINS)
        self.emptied = False
        if self._calm >= CALM:
            self.shedding = False
            self.emptied = True
            self._timer = None
            self._gate.hold(None)
            return
        self._renew(CELLS - self._cells.count(0))
        self._timer = self._scheduler.call_later(TICK, self._tick)

    def _relax(self, missed: int) -> None:
        """There was time to spare. missed: what the kernel has dropped meanwhile."""
        if self.clients.relax(over=missed <= FEW):
            self._calm = 0
            self._thin(self.keep)
        elif self.keep < 1:
            self._calm = 0
            # What asked for too much may be gone, and then nobody is to wait for small steps.
            self._thin(1.0 if missed <= FEW else min(1.0, self.keep * 1.5))
        elif self._turned:
            self._calm = 0
            over = self._turned <= FEW
            self.budget = min(MOST, self.budget + (FIRST if over else self.budget // 8 + 1))
        else:
            self._calm += 1

    def _harden(self, *, far: bool, drains: bool) -> None:
        """There is too much. far: more was lost than was read. drains: what waits becomes less.

        Then enough is held back of who is served in any case, and what waits takes its time.
        """
        self._calm = 0
        if self.budget > LEAST:
            self.budget = max(LEAST, self.budget // 8 if far else self.budget * 3 // 4)
        elif self.keep > LEAST_KEPT:
            self._thin(max(LEAST_KEPT, self.keep / (8 if far else 2)))
        elif not drains and self.clients.harden():
            self._thin(self.keep)

    def _is_long(self) -> bool:
        waiting, room, most = self._gate.waiting(), self._gate.room(), self._served * LONG / TICK
        # Where there is room for less than that, a queue would be full and still be short.
        return waiting > most or (0 < room <= most and waiting * AGE > room * LONG)

    def _thin(self, keep: float) -> None:
        if self._gate.thin(self._ours, keep, self.clients.kept):
            self.keep = keep

    def _hold(self) -> None:
        self._gate.hold(max(FEWEST, int(self._served * AGE / TICK)))

    def _renew(self, clients: int) -> None:
        self._left = self.budget
        self._share = max(1, self.budget // max(1, clients))
        self._turned = 0
        self._cells = bytearray(CELLS)
