"""Who has an address: two levels, for the addresses of a node or of a service range stand together.

    10.128.7 -> {1: holders, 2: holders, ...}       all but the last octet -> the last octet

The small numbers of the second level are there once in the process, and a holder that is alone is
the same tuple of one for all of its addresses. So an address takes fifty octets where neighbours
are many, and about three hundred where it has none.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Holder = TypeVar("Holder", bound=str | bytes)


class Addresses(Generic[Holder]):
    """Holders by their addresses, of 4 or 16 octets; the holders of one address in their order."""

    def __init__(self) -> None:
        self._held: dict[bytes, dict[int, tuple[Holder, ...]]] = {}
        self._starts = {4: 0, 16: 0}
        # By length; None until somebody asks for a range.
        self._sorted: dict[int, list[bytes]] | None = None

    def __bool__(self) -> bool:
        return bool(self._held)

    def has(self, octets: int) -> bool:
        """Whether anybody has an address of so many octets."""
        return self._starts[octets] > 0

    def at(self, address: bytes) -> tuple[Holder, ...]:
        """Who has it."""
        return self._held.get(address[:-1], {}).get(address[-1], ())

    def move(self, holder: Holder, before: Iterable[bytes], after: Iterable[bytes]) -> set[bytes]:
        """`holder` had the addresses `before`, and now has `after`; those that are in one only."""
        left, come = set(before), set(after)
        if left:
            left, come = left - come, come - left
        for address in left:
            self._take(address, holder)
        alone = (holder,)
        for address in come:
            start, last = address[:-1], address[-1]
            try:
                beside = self._held[start]
            except KeyError:
                beside = self._open(start)
            if last in beside:
                beside[last] = tuple(sorted((*beside[last], holder)))
            else:
                beside[last] = alone
        left |= come
        return left

    def within(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The addresses that somebody has from `first` to `last`, inclusive, in their order.

        Both are of one length. Asked rarely, so the order is made when it is first needed, and
        kept from then on.
        """
        starts = self._order()[len(first)]
        begin, end = bisect_left(starts, first[:-1]), bisect_right(starts, last[:-1])
        for start in starts[begin:end]:
            for octet in sorted(self._held[start]):
                address = start + octet.to_bytes(1, "big")
                if first <= address <= last:
                    yield address

    def _open(self, start: bytes) -> dict[int, tuple[Holder, ...]]:
        if self._sorted is not None:
            insort(self._sorted[len(start) + 1], start)
        made: dict[int, tuple[Holder, ...]] = {}
        self._held[start] = made
        self._starts[len(start) + 1] += 1
        return made

    def _take(self, address: bytes, holder: Holder) -> None:
        start, last = address[:-1], address[-1]
        beside = self._held[start]
        rest = tuple([other for other in beside[last] if other != holder])
        if rest:
            beside[last] = rest
            return
        del beside[last]
        if not beside:
            del self._held[start]
            self._starts[len(address)] -= 1
            if self._sorted is not None:
                listed = self._sorted[len(address)]
                del listed[bisect_left(listed, start)]

    def _order(self) -> dict[int, list[bytes]]:
        if self._sorted is None:
            self._sorted = {4: [], 16: []}
            for start in sorted(self._held):
                self._sorted[len(start) + 1].append(start)
        return self._sorted
