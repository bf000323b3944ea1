"""Who has an address: two levels, for the addresses of a node or of a service range stand together.

    10.128.7 -> page: 1 -> 17, 2 -> 4, ...      all but the last octet -> the last octet -> a number
    17       -> holders, and how many addresses have that number

A number stands for a holder, or for several together, as an endpoint of two services has. Many
neighbours are a page of 256 numbers, which is six octets for each of a hundred; few stand one after
the other, five octets each. A holder has as many numbers as it likes: it need not be looked up by
what it is, and what comes one by one is twelve octets more.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import compress
from struct import Struct
from typing import Generic, TypeAlias, TypeVar

Holder = TypeVar("Holder", bound=str | bytes)

_Page: TypeAlias = "array[int] | bytes"
_FEW = Struct("<BI")
"""The last octet and the number, in a page of few."""
_WIDTH = _FEW.size
_NUMBER = Struct("<I")
_MOST = 15 * _WIDTH
"""Octets of the largest page of few: the sooner they are many, the less of a list is copied."""
_NONE = array("H", [0]) * 256
"""A page of many with nobody in it. Only numbers from 65,536 on take more than two octets."""
_NARROW = 0xFFFF


class Addresses(Generic[Holder]):
    """Holders by their addresses, of 4 or 16 octets; the holders of one address in their order."""

    def __init__(self) -> None:
        self._pages: dict[bytes, _Page] = {}
        self._starts = {4: 0, 16: 0}
        # By length; None until somebody asks for a range.
        self._sorted: dict[int, list[bytes]] | None = None
        # By number, of which 0 is nobody's; of one that is free, its uses are the next free one.
        self._holders: list[Holder | tuple[Holder, ...]] = [()]
        self._uses = array("I", [0])
        self._free = 0

    def __bool__(self) -> bool:
        return bool(self._pages)

    def has(self, octets: int) -> bool:
        """Whether anybody has an address of so many octets."""
        return self._starts[octets] > 0

    def at(self, address: bytes) -> tuple[Holder, ...]:
        """Who has it."""
        page = self._pages.get(address[:-1], b"")
        return _each(self._holders[_number(page, address[-1])])

    def move(self, holder: Holder, before: Iterable[bytes], after: Iterable[bytes]) -> set[bytes]:
        """`holder` had the addresses `before`, and now has `after`; those that are in one only."""
        left, come = set(before), set(after)
        own = 0
        if left:
            left, come = left - come, come - left
            own = self._leave(holder, left)
        if come:
            own = self._come(holder, come, own)
        if own and not self._uses[own]:
            self._release(own)
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
            for octet in _octets(self._pages[start]):
                address = start + octet.to_bytes(1, "big")
                if first <= address <= last:
                    yield address

    def _leave(self, holder: Holder, left: set[bytes]) -> int:
        """Take it from addresses; a number of its own, which may have no more uses, or 0."""
        pages = self._pages
        # Of each number of several holders, that of those who stay.
        stay: dict[int, int] = {}
        own = taken = 0
        for address in left:
            start, last = address[:-1], address[-1]
            page = pages[start]
            number = _number(page, last)
            if number != own:
                held = self._holders[number]
                if held != holder:
                    if number not in stay:
                        stay[number] = self._number_for([h for h in _each(held) if h != holder])
                    self._replace(start, last, number, stay[number])
                    continue
                if own:
                    self._use(own, -taken)
                own, taken = number, 0
            taken += 1
            if isinstance(page, bytes):
                page = _without(page, last)
                if page:
                    pages[start] = page
                    continue
            else:
                page[last] = 0
                if page != _NONE:
                    continue
            del pages[start]
            self._closed(start)
        self._uses[own] -= taken
        return own

    def _come(self, holder: Holder, come: set[bytes], own: int) -> int:
        """Give it addresses, where nobody else has them by its own number, which is as above."""
        pages = self._pages
        own = own or self._number_for([holder])
        # Of each number that others have, that of them and the holder.
        joined: dict[int, int] = {}
        alone = len(come)
        for address in come:
            start, last = address[:-1], address[-1]
            try:
                page = pages[start]
            except KeyError:
                pages[start] = _FEW.pack(last, own)
                self._opened(start)
                continue
            # The two most frequent cases have no call, for a list of all comes by here.
            if isinstance(page, array):
                if not page[last] and own <= _NARROW:
                    page[last] = own
                    continue
            elif last not in page[::_WIDTH] and len(page) < _MOST:
                pages[start] = page + _FEW.pack(last, own)
                continue
            number = _number(page, last)
            if not number:
                self._write(start, last, own)
                continue
            if number not in joined:
                joined[number] = self._number_for(sorted([*_each(self._holders[number]), holder]))
            self._replace(start, last, number, joined[number])
            alone -= 1
        self._uses[own] += alone
        return own

    def _replace(self, start: bytes, last: int, number: int, then: int) -> None:
        """An address had a number, and gets another one."""
        self._use(number, -1)
        self._use(then, 1)
        self._write(start, last, then)

    def _number_for(self, holders: list[Holder]) -> int:
        """A number that no address has yet."""
        held = tuple(holders) if len(holders) > 1 else holders[0]
        number = self._free
        if number:
            self._free, self._uses[number] = self._uses[number], 0
            self._holders[number] = held
        else:
            number = len(self._holders)
            self._holders.append(held)
            self._uses.append(0)
        return number

    def _use(self, number: int, more: int) -> None:
        uses = self._uses[number] + more
        self._uses[number] = uses
        if not uses:
            self._release(number)

    def _release(self, number: int) -> None:
        self._holders[number] = ()
        self._uses[number], self._free = self._free, number

    def _write(self, start: bytes, last: int, number: int) -> None:
        page = self._pages[start]
        if isinstance(page, bytes):
            page = _without(page, last) + _FEW.pack(last, number)
            self._pages[start] = page if len(page) <= _MOST else _many(page)
            return
        if number > _NARROW and page.typecode == _NONE.typecode:
            page = self._pages[start] = array("I", page)
        page[last] = number

    def _opened(self, start: bytes) -> None:
        if self._sorted is not None:
            insort(self._sorted[len(start) + 1], start)
        self._starts[len(start) + 1] += 1

    def _closed(self, start: bytes) -> None:
        self._starts[len(start) + 1] -= 1
        if self._sorted is not None:
            listed = self._sorted[len(start) + 1]
            del listed[bisect_left(listed, start)]

    def _order(self) -> dict[int, list[bytes]]:
        if self._sorted is None:
            self._sorted = {4: [], 16: []}
            for start in sorted(self._pages):
                self._sorted[len(start) + 1].append(start)
        return self._sorted


def _each(held: Holder | tuple[Holder, ...]) -> tuple[Holder, ...]:
    return held if isinstance(held, tuple) else (held,)


def _number(page: _Page, last: int) -> int:
    if not isinstance(page, bytes):
        return page[last]
    at = page[::_WIDTH].find(last) * _WIDTH
    return _NUMBER.unpack_from(page, at + 1)[0] if at >= 0 else 0


def _octets(page: _Page) -> Iterable[int]:
    """The last octets, in their order."""
    return sorted(page[::_WIDTH]) if isinstance(page, bytes) else compress(range(256), page)


def _without(few: bytes, last: int) -> bytes:
    at = few[::_WIDTH].find(last) * _WIDTH
    return few[:at] + few[at + _WIDTH :] if at >= 0 else few


def _many(few: bytes) -> _Page:
    numbers = dict(_FEW.iter_unpack(few))
    page = array("H" if max(numbers.values()) <= _NARROW else "I", _NONE)
    for last, number in numbers.items():
        page[last] = number
    return page
