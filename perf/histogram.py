"""A histogram of latencies whose buckets grow with the value: any range, one relative error.

Values are whole µs. Below 256 each has a bucket of its own; from there on every octave is cut into
128 buckets, so that a bucket's upper bound is less than 1/128 above any value in it. Values from
2**31 (36 minutes) on share the last bucket; `worst` is exact nevertheless.
"""

import math
from collections.abc import Iterable
from typing import Final, Self

_BITS: Final = 7
_EXACT: Final = 1 << (_BITS + 1)
_HIGHEST: Final = (1 << 31) - 1

Buckets = list[tuple[int, int]]
"""(upper bound in µs, count) of every bucket that is not empty, bounds rising."""


def index_of(value: int) -> int:
    """The bucket of a value in µs, at least 0."""
    if value < _EXACT:
        return value
    shift = min(value, _HIGHEST).bit_length() - _BITS - 1
    return (shift << _BITS) + (min(value, _HIGHEST) >> shift)


def upper_bound(index: int) -> int:
    """The largest value in bucket `index`, µs."""
    if index < _EXACT:
        return index
    shift = (index >> _BITS) - 1
    return ((index - (shift << _BITS) + 1) << shift) - 1


class Histogram:
    """Counts of latencies. `count` is how many; `worst`, in µs, the largest, 0 without any."""

    def __init__(self) -> None:
        self._counts = [0] * (index_of(_HIGHEST) + 1)
        self.count = 0
        self.worst = 0

    def record(self, value: int, count: int = 1) -> None:
        """Count a latency in µs. Raises ValueError for one below 0."""
        if value < 0:
            raise ValueError(f"a latency of {value} µs; expected 0 or more")
        self._counts[index_of(value)] += count
        self.count += count
        self.worst = max(self.worst, value)

    def record_all(self, values: list[int]) -> None:
        """Count many latencies in µs, each at least 0: the quick way of `record`."""
        counts = self._counts
        for value in values:
            counts[value if value < _EXACT else index_of(value)] += 1
        self.count += len(values)
        self.worst = max(self.worst, *values) if values else self.worst

    def percentile(self, percent: float) -> int:
        """The latency in µs that `percent` of all latencies do not exceed, 0 without any.

        The nearest rank, rounded up to the upper bound of its bucket, but never above `worst`.
        """
        # Rounded first: 99.9 per cent of 1,000 is 999, and not the next number a float can hold.
        rank = max(1, math.ceil(round(percent * self.count / 100, 6)))
        passed = 0
        for bound, count in self.buckets():
            passed += count
            if passed >= rank:
                return min(bound, self.worst)
        return self.worst

    def merge(self, other: Self) -> None:
        """Add what another histogram counted."""
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count
        self.count += other.count
        self.worst = max(self.worst, other.worst)

    def buckets(self) -> Buckets:
        """What is in it, ready for JSON."""
        return [(upper_bound(i), count) for i, count in enumerate(self._counts) if count]

    @classmethod
    def from_buckets(cls, buckets: Iterable[tuple[int, int]], worst: int | None = None) -> Self:
        """The histogram that `buckets` came from; `worst` where it is not given is a bound.

        Raises ValueError for a bound or a count below 0.
        """
        made = cls()
        for bound, count in buckets:
            if count < 0:
                raise ValueError(f"{count} latencies up to {bound} µs; expected 0 or more")
            if count:
                made.record(bound, count)
        if worst is not None:
            made.worst = worst
        return made
