"""Two levels of octets hold what one dict would."""

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
