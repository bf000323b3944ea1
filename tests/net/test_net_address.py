"""Addresses are written as people write them."""

import socket

import pytest

from kdns.net.address import endpoint, numeric_host, socket_address


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:1", "::ffff:0:1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_a_mapped_address_is_ipv4_and_a_scope_is_left_out(host: str, written: str) -> None:
    assert numeric_host(host) == written


def test_an_ipv6_endpoint_has_brackets() -> None:
    assert endpoint("::1", 53) == "[::1]:53"
    assert endpoint("127.0.0.1", 53) == "127.0.0.1:53"
    assert endpoint("", 53) == ":53"


def test_a_numeric_host_has_a_family_and_a_name_has_none() -> None:
    assert socket_address("192.0.2.1", 53) == (socket.AF_INET, ("192.0.2.1", 53))
    assert socket_address("2001:db8::1", 53) == (socket.AF_INET6, ("2001:db8::1", 53, 0, 0))
    for host, port in (("localhost", 53), ("", -1), ("192.0.2.1", 65_536), ("x" * 70, 1)):
        with pytest.raises(ValueError, match="expected an IPv4 or IPv6 address and a port"):
            socket_address(host, port)
