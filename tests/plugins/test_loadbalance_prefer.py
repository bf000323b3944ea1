"""Networks whose addresses come first."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.loadbalance_prefer import Network, Preference
from kdns.wire import iana, name
from kdns.wire.reply import RRset
from tests.plugins.fakes import addresses, networks

prefixes: st.SearchStrategy[Network] = st.one_of(
    st.builds(
        lambda number, size: ip_network((number, size), strict=False),
        st.integers(0, 2**32 - 1).map(IPv4Address),
        st.integers(0, 4),
    ),
    st.builds(
        lambda number, size: ip_network((number, size), strict=False),
        st.integers(0, 2**128 - 1).map(IPv6Address),
        st.integers(0, 4),
    ),
)
addressed = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def within(network: Network, address: bytes) -> bool:
    """As the standard library sees it."""
    if len(address) == 4:
        return IPv4Address(address) in network
    return IPv6Address(address) in network


@given(st.lists(prefixes, max_size=4), st.lists(addressed, min_size=1, max_size=8))
def test_parts_are_in_the_order_of_the_networks_and_within_them_as_they_were(
    preferred: list[Network], held: list[bytes]
) -> None:
    expected: list[tuple[bytes, ...]] = []
    left = held
    for network in preferred:
        expected.append(tuple(address for address in left if within(network, address)))
        left = [address for address in left if not within(network, address)]
    expected.append(tuple(left))
    assert Preference(preferred).parts(held) == [part for part in expected if part]


def test_sets_stand_in_the_order_of_their_best_address_among_what_is_there() -> None:
    text = RRset(name.from_text("t"), iana.TXT, 5, (b"\1a",))
    six = RRset(name.from_text("a"), iana.AAAA, 5, (bytes(16),))
    four, other = addresses("a", 1, 2), addresses("b", 3)
    preference = Preference(networks("192.0.2.3/32", "::/64"))
    assert preference.sets((four, text, six, other)) == (other, text, six, four)
    assert preference.sets((text, four)) == (text, four)
