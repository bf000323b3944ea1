"""Heavy hitters in little memory: SpaceSaving (Metwally, Agrawal, El Abbadi 2005).

A sketch counts at most `size` keys. A new key takes the place of the one counted least, and its
count too, for it may have been there before; how much of a count is inherited is its error. So:

    count - error <= true count <= count,  error <= total / size

and whatever makes more than total / size of everything is among the keys. Where batches are added,
true count <= count no longer holds to the last one: see `add_all`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, nlargest


@dataclass(slots=True)
class Sketch:
    """counts: by key, [count, error]. total: everything that was added."""

    size: int
    counts: dict[bytes, list[int]] = field(default_factory=dict)
    total: int = 0
    _least: list[tuple[int, bytes]] = field(default_factory=list)
    """A heap of keys by count; the count may be an old one, which is never too large."""

    def add(self, key: bytes, times: int = 1, error: int = 0) -> None:
        """Count a key. error: how much of `times` may be too much already."""
        self.total += times
        held = self.counts.get(key)
        if held is not None:
            held[0] += times
            held[1] += error
            return
        least = self._evict() if len(self.counts) >= self.size else 0
        count = least + times
        self.counts[key] = [count, least + error]
        heappush(self._least, (count, key))

    def add_all(self, batch: Mapping[bytes, int]) -> None:
        """Count many keys at once. Those that are too few to matter are counted in `total` alone.

        What is no more than a part in `size` of a batch is below the error that there is anyway. So
        a flood of keys that come once costs a pass over them, and drives nothing out.
        """
        total = sum(batch.values())
        floor = total if len(self.counts) + len(batch) > self.size else 0
        for key, times in batch.items():
            if times * self.size > floor:
                self.add(key, times)
                total -= times
        self.total += total

    def merge(self, other: "Sketch") -> None:
        """Count what another sketch has counted."""
        total = self.total + other.total
        counts = sorted(other.counts.items(), key=lambda held: held[1], reverse=True)
        for key, (count, error) in counts:
            self.add(key, count, error)
        self.total = total

    def most(self, number: int) -> list[tuple[bytes, int, int]]:
        """The keys counted most: key, count, error."""
        largest = nlargest(number, self.counts.items(), key=lambda held: (held[1][0], held[0]))
        return [(key, count, error) for key, (count, error) in largest]

    def _evict(self) -> int:
        """Forget the key that is counted least; its count."""
        if len(self._least) != len(self.counts):
            # It came from elsewhere, without the heap.
            self._least = [(count, key) for key, (count, _) in self.counts.items()]
            heapify(self._least)
        while True:
            count, key = heappop(self._least)
            now = self.counts[key][0]
            if now == count:
                del self.counts[key]
                return count
            heappush(self._least, (now, key))
