"""What becomes of a flood under a CPU limit: a server whose time, queue and kernel are a model.

    known, outside --sieve--> a queue with room for so many --while there is CPU--> answers
      RATE each a second       (else dropped)                LIMIT of each PERIOD

A millisecond is a step. What a datagram costs is what it costs kdns: a hot answer, a name turned
away, a name that an upstream is asked for.
"""

from collections.abc import Mapping, Sequence

import pytest

from kdns.net.admission import LEAST, TICK, Admission
from kdns.testing.clock import ManualClock

OURS = b"\7cluster\5local\0"
OUTSIDE = bytes(10) + b"\3www\7example\0\0\1\0\1"
CLIENT = bytes([10, 0, 0, 1])
HOT, TURNED, ASKED = 4.3e-6, 1.6e-6, 74e-6
LIMIT, PERIOD = 25, 100
"""Milliseconds."""
CAPACITY = LIMIT / PERIOD / HOT
"""Known names a second, alone."""
RATE = 1.5 * CAPACITY
"""Of each kind: half and half, at three times the capacity of known names."""
BATCH = 64
MOST = 10_082
"""Datagrams that a queue of 4 MiB has room for."""


class Flooded:
    """A server in a flood. known, outside: how many were answered or asked for so far."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.admission = Admission(self, self.clock)
        self.admission.ours([OURS])
        self.known = self.outside = 0
        self._keep = 1.0
        self._room = MOST
        self._queue = [0, 0]
        self._coming = [0.0, 0.0]
        self._owed = 0.0
        self._read = self._missed = self._batches = 0

    def passed(self) -> int:
        return self._read

    def waiting(self) -> int:
        return sum(self._queue)

    def room(self) -> int:
        return self._room

    def missed(self) -> int:
        return self._missed

    def clients(self) -> list[bytes]:
        return [CLIENT] * BATCH

    def thin(self, _zones: Sequence[bytes], keep: float, _clients: Mapping[bytes, float]) -> bool:
        self._keep = keep
        return True

    def hold(self, datagrams: int | None) -> None:
        self._room = MOST if datagrams is None else min(MOST, datagrams)

    def run(self, seconds: int, rate: float = RATE) -> tuple[int, int]:
        """How many were answered of known names meanwhile, and asked for of outside names."""
        before = self.known, self.outside
        late = 0
        for step in range(1000 * seconds):
            self._arrive(rate / 1000)
            late += 1
            if step % PERIOD < LIMIT:
                self._work()
                self.clock.advance(late / 1000)  # who may not run is told of no time
                late = 0
        self.clock.advance(late / 1000)
        return self.known - before[0], self.outside - before[1]

    def _arrive(self, each: float) -> None:
        for kind, part in enumerate((1.0, self._keep)):
            self._coming[kind] += each * part
            come = int(self._coming[kind])
            self._coming[kind] -= come
            # Both kinds come mixed, so each has half of the room that is left.
            taken = min(come, max(0, self._room - self.waiting()) // (2 - kind))
            self._queue[kind] += taken
            self._missed += come - taken + round(each * (1 - part))

    def _work(self) -> None:
        left = 0.001 - self._owed
        while left > 0:
            count = min(BATCH, self.waiting())
            outside = round(count * self._queue[1] / max(1, self.waiting()))
            self._queue[0] -= count - outside
            self._queue[1] -= outside
            self._read += count
            self.known += count - outside
            left -= (count - outside) * HOT
            for _ in range(outside):
                let_in = not self.admission.shedding or self.admission.admits(OUTSIDE, CLIENT)
                self.outside += let_in
                left -= ASKED if let_in else TURNED
            self._batches += 1
            if count < BATCH:
                self.admission.emptied = True
                left = 0
            elif self._batches % 4 == 0:
                self.admission.full()
        self._owed = -left


@pytest.fixture
def flooded() -> Flooded:
    """A second after a flood has begun."""
    made = Flooded()
    made.run(1)
    return made


def test_outside_names_have_the_least_and_known_names_the_rest(flooded: Flooded) -> None:
    """What could be answered while outside names were let in says little of what can be then, and
    so does the room that the queue was given for it: if it is full, there is too much."""
    for _ in range(3):
        known, outside = flooded.run(1)
        assert outside <= 1.1 * LEAST / TICK
        assert known > 0.9 * CAPACITY


def test_a_flood_that_pauses_is_met_as_it_was_when_it_goes_on(flooded: Flooded) -> None:
    flooded.run(1)
    flooded.run(1, rate=0.0)
    flooded.run(1)
    known, outside = flooded.run(1)
    assert outside <= 1.1 * LEAST / TICK
    assert known > 0.9 * CAPACITY


def test_when_the_flood_is_over_nobody_is_turned_away_any_more(flooded: Flooded) -> None:
    flooded.run(6, rate=1000.0)
    assert not flooded.admission.shedding
    flooded.run(1, rate=100.0)  # what waited at the end of a period is answered in the next one
    known, outside = flooded.run(1, rate=100.0)
    assert 99 <= known <= 101
    assert 99 <= outside <= 101
