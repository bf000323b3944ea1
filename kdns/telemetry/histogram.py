"""Counts of observations by size, in buckets of fixed bounds, as Prometheus has them."""

from bisect import bisect_left
from dataclasses import dataclass

SECONDS = tuple(0.00025 * 2**k for k in range(16))
"""Upper bounds of durations, 0.25 ms to 8.192 s: CoreDNS's."""
OCTETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)
"""Upper bounds of the sizes of messages: CoreDNS's."""


@dataclass(slots=True)
class Histogram:
    """counts: by bucket, the last one being for what is above every bound; sum: of the values."""

    counts: list[int]
    sum: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> "Histogram":
        """An empty one."""
        return cls([0] * (len(bounds) + 1))

    def observe(self, bounds: tuple[float, ...], value: float, times: int = 1) -> None:
        """Count a value; `bounds` are the ones that it was made of."""
        self.counts[bisect_left(bounds, value)] += times
        self.sum += value * times

    def add(self, other: "Histogram") -> None:
        """Count what another one has counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def take(self, times: int) -> "Histogram":
        """Take `times` of the observations out, of all sizes alike; at most what there is."""
        total = sum(self.counts)
        times = min(times, total)
        part = Histogram([count * times // total if total else 0 for count in self.counts])
        missing = times - sum(part.counts)
        for index, count in enumerate(self.counts):
            more = min(missing, count - part.counts[index])
            part.counts[index] += more
            missing -= more
        part.sum = self.sum * times / total if total else 0.0
        self.counts = [a - b for a, b in zip(self.counts, part.counts, strict=True)]
        self.sum -= part.sum
        return part
