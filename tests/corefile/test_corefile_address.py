"""What the keys of a server block stand for."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.corefile.address import ZoneAddress, expand_zone, normalize
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Token


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (".", "dns://.:53"),
        (".:5353", "dns://.:5353"),
        ("Cluster.Local", "dns://cluster.local.:53"),
        ("cluster.local.:1053", "dns://cluster.local.:1053"),
        ("dns://example.org", "dns://example.org.:53"),
        ("DNS://example.org", "dns://example.org.:53"),
        ("tls://example.org", "tls://example.org.:853"),
        ("quic://example.org", "quic://example.org.:853"),
        ("grpc://example.org", "grpc://example.org.:443"),
        ("https://example.org", "https://example.org.:443"),
        ("https3://example.org", "https3://example.org.:443"),
        ("https://.:8443", "https://.:8443"),
        ("_sip._tcp.example.org", "dns://_sip._tcp.example.org.:53"),
        ("10.0.0.1", "dns://10.0.0.1.:53"),
        ("0/25.2.0.192.in-addr.arpa", "dns://0/25.2.0.192.in-addr.arpa.:53"),
        ("10.0.0.0/8", "dns://10.in-addr.arpa.:53"),
        ("10.0.0.0/8:5353", "dns://10.in-addr.arpa.:5353"),
        ("dns://2001:db8::/32:5353", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:5353"),
        ("2001:db8::/32", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:53"),
    ],
)
def test_a_key_is_scheme_zone_and_port(key: str, expected: str) -> None:
    (address,) = normalize(key, 53)
    assert str(address) == expected


def test_the_default_port_is_that_of_plain_dns_only() -> None:
    assert normalize(".", 1053) == [ZoneAddress(".", 1053, "dns")]
    assert normalize("tls://.", 1053) == [ZoneAddress(".", 853, "tls")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0/0", ["in-addr.arpa."]),
        ("10.1.2.3/8", ["10.in-addr.arpa."]),
        ("10.0.0.0/15", ["0.10.in-addr.arpa.", "1.10.in-addr.arpa."]),
        ("10.0.0.0/9", [f"{n}.10.in-addr.arpa." for n in range(128)]),
        ("192.168.1.0/17", [f"{n}.168.192.in-addr.arpa." for n in range(128)]),
        ("10.9.3.0/18", [f"{n}.9.10.in-addr.arpa." for n in range(64)]),
        ("192.0.2.128/25", [f"{n}.2.0.192.in-addr.arpa." for n in range(128, 256)]),
        ("192.0.2.7/32", ["7.2.0.192.in-addr.arpa."]),
        ("::/0", ["ip6.arpa."]),
        ("2001:db8::/30", [f"{n}.b.d.0.1.0.0.2.ip6.arpa." for n in "89ab"]),
        ("2001:DB8::1/64", ["0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."]),
        ("2001:db8::/65", [f"{n}.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa." for n in range(8)]),
        ("::1/128", ["1" + ".0" * 31 + ".ip6.arpa."]),
        ("in-addr.arpa", ["in-addr.arpa."]),
        ("Example.ORG", ["example.org."]),
        (".", ["."]),
    ],
)
def test_a_prefix_stands_for_the_reverse_zones_that_cover_it(
    text: str, expected: list[str]
) -> None:
    assert expand_zone(text) == expected
    assert [address.zone for address in normalize(text + ":53", 53)] == expected


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 128))
def test_an_address_is_in_exactly_one_zone_of_a_prefix_that_holds_it(
    address: object, bits: int
) -> None:
    host = ip_address(str(address))
    network = ip_network(f"{host}/{min(bits, host.max_prefixlen)}", strict=False)
    zones = expand_zone(str(network))
    name = host.reverse_pointer + "."
    assert sum(name == zone or name.endswith("." + zone) for zone in zones) == 1
    assert len(set(zones)) == len(zones) <= 128


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "expected a zone in ''"),
        (":53", "expected a zone in ':53'; the root zone is written '.'"),
        ("dns://", "expected a zone in 'dns://'"),
        (".:", "expected a port from 1 to 65535"),
        (".:0", "expected a port from 1 to 65535"),
        (".:65536", "expected a port from 1 to 65535"),
        (".:-1", "expected a port from 1 to 65535"),
        (".:٥٣", "expected a port from 1 to 65535"),
        (".:" + "9" * 5000, "expected a port from 1 to 65535"),
        ("example.org:domain", "expected a port from 1 to 65535"),
        (
            "ftp://example.org",
            "expected a scheme of dns, tls, quic, grpc, https, https3, got 'ftp'",
        ),
        ("10.0.0.0/33", "expected a prefix such as"),
        ("10.0.0/8", "expected a prefix such as"),
        ("10.0.0.0/", "expected a prefix such as"),
        ("10.0.0.0/ff", "expected a prefix such as"),
        ("10.0.0.0/+8", "expected a prefix such as"),
        ("2001:db8::/129", "expected a prefix such as"),
        ("2001:zz::/32", "expected a domain name or a prefix such as"),
        ("2001:db8::1", "expected a domain name or a prefix such as"),
        ("..", "expected a domain name"),
        ("a..b", "expected a domain name"),
        ("a b", "expected a domain name"),
        ("a" * 64 + ".org", "expected a domain name"),
        (".".join(["a" * 63] * 4), "expected a domain name"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_with_its_place(key: str, expected: str) -> None:
    with pytest.raises(CorefileError) as caught:
        normalize(Token(key, "Corefile", 7), 53)
    assert str(caught.value).startswith(f"Corefile:7: {expected}")


def test_a_zone_of_a_directive_has_neither_port_nor_scheme() -> None:
    for text in ("example.org:53", "dns://example.org", ""):
        with pytest.raises(CorefileError, match=r"^expected a domain name"):
            expand_zone(text)


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"[a-z0-9.:/]{1,30}", fullmatch=True)))
def test_any_key_gives_zones_or_an_error(key: str) -> None:
    addresses, failure = normalize_or_fail(Token(key, "Corefile", 1))
    assert bool(addresses) == (failure is None)
    assert failure is None or str(failure).startswith("Corefile:1: expected ")
    for address in addresses:
        assert address.zone.endswith(".")
        assert 1 <= address.port <= 65535
        assert expand_zone(address.zone) == [address.zone]


def normalize_or_fail(key: Token) -> tuple[list[ZoneAddress], CorefileError | None]:
    try:
        return normalize(key, 53), None
    except CorefileError as error:
        return [], error
