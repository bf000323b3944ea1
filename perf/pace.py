"""When queries go out: at times fixed in advance, or as fast as answers come back.

Times are seconds since the start of the run. A pace reads no clock and sends nothing: it says how
many queries may go now and when each of them was due, which is what their latency is counted from.
So a generator that is late sends what it owes at once, and the delay shows in the figures (there is
no coordinated omission).
"""

from array import array
from typing import Final, Protocol

SPIN: Final = 150e-6
"""Seconds before a query is due from which on a generator with a core of its own does not sleep:
more than the time it takes to be woken."""


class Pace(Protocol):
    """How many queries may go, and when they were due."""

    def allowed(self, now: float, sent: int, unanswered: int) -> int:
        """How many queries may be sent at `now`, when `sent` were, `unanswered` of them pending."""
        ...

    def dues(self, first: int, count: int, now: float) -> "array[float]":
        """When queries number `first` and up, which are being sent at `now`, were due."""
        ...

    def next_due(self, sent: int) -> float | None:
        """When the next query will be due; None when time alone brings none."""
        ...

    def over(self, now: float, sent: int) -> bool:
        """Whether nothing more will be sent."""
        ...

    def unsent(self, sent: int) -> int:
        """How many queries of the plan were never sent."""
        ...


class OpenPace:
    """Query k is due at k / rate, for `seconds`, whatever becomes of the queries before it.

    What is overdue then may still be sent for `grace` seconds.
    """

    def __init__(self, rate: float, seconds: float, grace: float = 1.0) -> None:
        self.total = max(1, round(rate * seconds))
        self._rate = rate
        self._end = seconds + grace

    def allowed(self, now: float, sent: int, unanswered: int) -> int:
        return min(self.total, int(now * self._rate) + 1) - sent

    def dues(self, first: int, count: int, now: float) -> "array[float]":
        rate = self._rate
        return array("d", [number / rate for number in range(first, first + count)])

    def next_due(self, sent: int) -> float | None:
        return sent / self._rate if sent < self.total else None

    def over(self, now: float, sent: int) -> bool:
        return sent >= self.total or now >= self._end

    def unsent(self, sent: int) -> int:
        return self.total - sent


class ClosedPace:
    """Keeps `outstanding` queries unanswered for `seconds`; a query is due when it is sent."""

    def __init__(self, outstanding: int, seconds: float) -> None:
        self._outstanding = outstanding
        self._seconds = seconds

    def allowed(self, now: float, sent: int, unanswered: int) -> int:
        return 0 if now >= self._seconds else self._outstanding - unanswered

    def dues(self, first: int, count: int, now: float) -> "array[float]":
        return array("d", [now]) * count

    def next_due(self, sent: int) -> float | None:
        return None

    def over(self, now: float, sent: int) -> bool:
        return now >= self._seconds

    def unsent(self, sent: int) -> int:
        return 0


def nap(now: float, until: float, unanswered: int, *, own_core: bool) -> float:
    """Seconds to sleep, unless an answer comes first, before doing something `until`; 0: do not.

    With a core of its own the generator spins while it waits for answers, since being woken would
    show in their latency, and just before a query is due. Without one, it takes nobody's time.
    """
    if not own_core:
        return max(0.0, until - now)
    if unanswered:
        return 0.0
    return max(0.0, until - now - SPIN)
