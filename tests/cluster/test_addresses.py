"""Pages of numbers hold what one dict would, and take less."""

import tracemalloc
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.addresses import Addresses

octets = st.sampled_from((0, 1, 7, 255))
addresses = st.one_of(
    st.lists(octets, min_size=4, max_size=4).map(bytes),
    st.lists(octets, min_size=2, max_size=2).map(lambda few: bytes(few).ljust(16, b"\1")),
)
moves = st.lists(
    st.tuples(st.sampled_from(("a", "b", "c")), st.lists(addresses, max_size=4)), max_size=12
)
# Neighbours by the dozen, as they are on a node.
starts = st.sampled_from((bytes(3), b"\x0a\x00\x07", b"\xff" * 3, bytes(15), b"\xfd" + bytes(14)))
runs = st.builds(
    lambda start, lasts: {start + bytes((last,)) for last in lasts}, starts, st.binary(max_size=40)
)
changes = st.sampled_from((set.union, set.difference, lambda _, run: run))
steps = st.lists(st.tuples(st.sampled_from(("a", "b", "c")), changes, runs), max_size=12)


def follow(
    index: Addresses[str], happened: list[tuple[str, list[bytes]]]
) -> dict[str, list[bytes]]:
    """Move holders one after the other; what each has in the end."""
    has: dict[str, list[bytes]] = {}
    for holder, after in happened:
        before = has.get(holder, [])
        assert index.move(holder, before, after) == set(before) ^ set(after)
        has[holder] = after
    return has


@given(moves, st.booleans(), addresses, addresses)
def test_who_has_an_address_is_known_and_in_order(
    happened: list[tuple[str, list[bytes]]], asked_before: bool, one: bytes, other: bytes
) -> None:
    index = Addresses[str]()
    if asked_before:
        assert list(index.within(bytes(4), b"\xff" * 4)) == []
    has = follow(index, happened)
    everywhere = {address for listed in has.values() for address in listed}
    for octets in (4, 16):
        assert index.has(octets) == any(len(address) == octets for address in everywhere)
    for address in everywhere | {one, other}:
        assert index.at(address) == tuple(
            sorted(h for h, listed in has.items() if address in listed)
        )
    first, last = sorted((one, other[: len(one)].ljust(len(one), b"\xff")))
    expected = sorted(a for a in everywhere if len(a) == len(first) and first <= a <= last)
    assert list(index.within(first, last)) == expected
    assert bool(index) == bool(everywhere)


@given(moves)
def test_nothing_is_left_of_what_is_gone(happened: list[tuple[str, list[bytes]]]) -> None:
    index = Addresses[str]()
    has = follow(index, happened)
    list(index.within(bytes(4), b"\xff" * 4))
    for holder, listed in has.items():
        index.move(holder, listed, ())
    assert not index
    assert list(index.within(bytes(16), b"\xff" * 16)) == []


def test_a_range_may_begin_and_end_between_neighbours() -> None:
    index = Addresses[str]()
    index.move("a", (), [bytes((10, 0, 0, last)) for last in (1, 5, 9)])
    assert list(index.within(bytes((10, 0, 0, 2)), bytes((10, 0, 0, 8)))) == [bytes((10, 0, 0, 5))]


@given(steps)
def test_neighbours_are_those_of_a_dict_be_they_few_or_many(
    happened: list[tuple[str, Callable[[set[bytes], set[bytes]], set[bytes]], set[bytes]]],
) -> None:
    index = Addresses[str]()
    has: dict[str, set[bytes]] = {}
    for holder, change, run in happened:
        before = has.get(holder, set())
        has[holder] = change(before, run)
        assert index.move(holder, before, has[holder]) == before ^ has[holder]
        holders: dict[bytes, tuple[str, ...]] = {}
        for other in sorted(has):
            for address in has[other]:
                holders[address] = (*holders.get(address, ()), other)
        assert {address: index.at(address) for address in holders} == holders
        assert bool(index) == bool(holders)
        for width in (4, 16):
            held = [address for address in holders if len(address) == width]
            assert index.has(width) == bool(held)
            assert list(index.within(bytes(width), b"\xff" * width)) == sorted(held)


def test_there_may_be_more_holders_than_two_octets_can_number() -> None:
    index = Addresses[str]()
    few, many, shared = (bytes((10, 0, 0, 1)), bytes((10, 0, 1, 1)), bytes((10, 0, 2, 1)))
    index.move("early", (), [many[:3] + bytes((last,)) for last in range(2, 100)])
    index.move("early", (), [shared])
    for number in range(1 << 16):
        index.move(f"h{number}", (), [b"\x0b" + number.to_bytes(3, "big")])
    neighbours = [few[:3] + bytes((last,)) for last in range(1, 40)]
    index.move("late", (), [*neighbours, many, shared])
    assert index.at(many) == ("late",)
    assert index.at(many[:3] + b"\x02") == ("early",)
    assert index.at(shared) == ("early", "late")
    assert [index.at(address) for address in neighbours] == [("late",)] * 39
    assert index.at(bytes((11, 0, 255, 255))) == (f"h{0xFFFF}",)
    index.move("late", [*neighbours, many, shared], ())
    assert index.at(many) == index.at(few) == ()
    assert index.at(shared) == ("early",)


Move = tuple[str, list[bytes], list[bytes]]
"""Holder, before, after."""


def octets_of(moves: Iterable[Move]) -> int:
    """What an index takes after these."""
    tracemalloc.start()
    index = Addresses[str]()
    for holder, before, after in moves:
        index.move(holder, before, after)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken


def test_an_address_takes_few_octets() -> None:
    each = [f"h{number}" for number in range(2_000)]
    node = [bytes((10, 0, n % 20, n // 20)) for n in range(2_000)]
    slices: list[Move] = [
        (holder, [], node[n : n + 20]) for n, holder in zip(range(0, 2_000, 20), each, strict=False)
    ]
    assert octets_of(slices) < 12 * len(node)
    assert octets_of((h, [], [a]) for h, a in zip(each, node, strict=True)) < 30 * len(node)
    alone = [bytes((10, n >> 8, n & 255, 1)) for n in range(2_000)]
    assert octets_of((h, [], [a]) for h, a in zip(each, alone, strict=True)) < 160 * len(alone)


def test_who_comes_and_goes_for_ever_takes_no_more() -> None:
    first = [bytes((10, 0, 0, n)) for n in range(200)]

    def rounds(count: int) -> Iterable[Move]:
        for n in range(count):
            for holder in ("a", "b"):
                yield holder, [], first
            for address in first[n % 7 :: 7]:
                yield "a", [address], []
                yield "a", [], [address]
            yield "b", first[::2], []
            yield "a", first, []
            yield "b", first[1::2], []

    assert octets_of(rounds(100)) < octets_of(rounds(10)) + 5_000
