"""The loop of a run: send what the pace allows, read what came, give up what is late, or sleep.

Sockets, clock and sleep come in from outside, so that a run can be driven by hand.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from perf.ledger import Ledger
from perf.pace import Pace, nap

BATCH: Final = 64
"""The most queries that go out of one socket before answers are read again."""

_RETRY: Final = 0.001
"""Seconds after which a full socket is tried again."""

_SWEEP: Final = 0.005
"""Seconds between two looks for what has expired."""


class Lane(Protocol):
    """One socket; a slot is a query of its ring."""

    @property
    def owes(self) -> bool:
        """Whether part of what was pushed has still to be sent, by `pull`."""
        ...

    def fileno(self) -> int:
        """The socket's file descriptor."""
        ...

    def push(self, first: int, last: int) -> int:
        """Send slots `first` to `last`; how many of them went."""
        ...

    def pull(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """IDs and bodies of what has come. Raises ConnectionError when the connection is lost."""
        ...

    def reopen(self) -> None:
        """Connect anew. Raises OSError."""
        ...


class Sleeper(Protocol):
    """Waits for lanes, at most so long."""

    def watch(self, fd: int, lane: int) -> None:
        """From now on the lane with this number is read at `fd`."""
        ...

    def ready(self, nap: float) -> list[int]:
        """The numbers of lanes worth reading, after at most `nap` seconds without any."""
        ...


class Drive:
    """A run over `lanes`, each with its ledger.

    clock gives seconds. own_core: whether spinning takes time from nobody. reask: see LoadSpec.
    `sent` counts queries.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[Lane, Ledger]],
        pace: Pace,
        sleeper: Sleeper,
        clock: Callable[[], float],
        *,
        own_core: bool,
        reask: bool = False,
    ) -> None:
        self.sent = 0
        self._lanes = lanes
        self._pace = pace
        self._sleeper = sleeper
        self._clock = clock
        self._own_core = own_core
        self._reask = reask
        self._turn = 0
        self._start = 0.0
        self._last_event = 0.0
        self._next_sweep = 0.0
        for number, (lane, _) in enumerate(lanes):
            sleeper.watch(lane.fileno(), number)

    def run(self) -> float:
        """Send everything, wait for what is unanswered; seconds from the start to the last answer.

        Raises OSError when the server takes no connection any more.
        """
        self._start = self._clock()
        while True:
            now = self._clock() - self._start
            unanswered = self._unanswered(now)
            over = self._pace.over(now, self.sent)
            if over and not unanswered:
                return self._last_event
            allowed = 0 if over else self._pace.allowed(now, self.sent, unanswered)
            gone = self._send(allowed, now) if allowed > 0 else 0
            pause = self._pause(unanswered + gone, allowed - gone, gone, over=over)
            for number in self._sleeper.ready(pause):
                self._receive(number)

    def _unanswered(self, now: float) -> int:
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            for _, ledger in self._lanes:
                ledger.expire(now)
        return sum([ledger.unanswered for _, ledger in self._lanes])

    def _send(self, allowed: int, now: float) -> int:
        """Spread what is allowed over the lanes, beginning with the one whose turn it is."""
        lanes = self._lanes
        left = allowed
        share = min(BATCH, -(-allowed // len(lanes)))
        for _ in lanes:
            lane, ledger = lanes[self._turn]
            self._turn = (self._turn + 1) % len(lanes)
            first, last = ledger.free(min(share, left))
            gone = lane.push(first, last) if last > first else 0
            if gone:
                ledger.sent(first, self._pace.dues(self.sent, gone, now), now)
                self.sent += gone
                self._last_event = now
                left -= gone
            if not left:
                break
        return allowed - left

    def _receive(self, number: int) -> None:
        lane, ledger = self._lanes[number]
        try:
            ids, bodies = lane.pull()
        except ConnectionError:
            lane.reopen()
            self._sleeper.watch(lane.fileno(), number)
            if not self._reask:
                ledger.abandon()
                return
            for first, last in ledger.again(self._clock() - self._start):
                # What does not go is lost in time, and counted.
                lane.push(first, last)
            return
        if ids:
            now = self._clock() - self._start
            ledger.expire(now)
            ledger.take(ids, bodies, now)
            self._last_event = now

    def _pause(self, unanswered: int, owed: int, gone: int, *, over: bool) -> float:
        """Seconds during which nothing but an answer can make something to do."""
        if owed > 0 and gone:
            return 0.0
        now = self._clock() - self._start
        due = None if over else self._pace.next_due(self.sent)
        until = due if due is not None and owed <= 0 else self._next_sweep
        if unanswered:
            until = min(until, self._next_sweep)
        if owed > 0 or any(lane.owes for lane, _ in self._lanes):
            until = min(until, now + _RETRY)
        return nap(now, until, unanswered, own_core=self._own_core)
