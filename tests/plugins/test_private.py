"""Which answers hold an address of no public network."""

from ipaddress import ip_address

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.private import has_private
from kdns.wire import iana, name
from kdns.wire.reply import Reply, RRset

OWNER = name.from_text("a.example")


def of(rtype: int, *rdatas: bytes) -> Reply:
    return Reply(answer=(RRset(OWNER, rtype, 60, rdatas),))


def service(rtype: str, text: str) -> Reply:
    """A record of SVCB or HTTPS, as dnspython writes it."""
    rdata = dns.rdata.from_text("IN", rtype, text)
    return of(int(rdata.rdtype), rdata.to_wire() or b"")


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("8.8.8.8", False),
        ("10.0.0.1", True),
        ("127.0.0.1", True),
        ("169.254.1.1", True),
        ("100.64.0.1", True),
        ("2600::1", False),
        ("fd00::1", True),
        ("fe80::1", True),
        ("::1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::10.0.0.1", True),
        ("64:ff9b::8.8.8.8", False),
        ("2002:a00:1::1", True),
        ("2002:808:808::1", False),
    ],
)
def test_an_address_is_judged_with_what_it_stands_for(text: str, private: bool) -> None:
    address = ip_address(text)
    assert has_private(of(iana.A if address.version == 4 else iana.AAAA, address.packed)) is private


def test_one_among_others_is_enough_and_so_is_one_beside_the_answer() -> None:
    public, private = bytes((8, 8, 8, 8)), bytes((10, 0, 0, 1))
    assert has_private(of(iana.A, public, private))
    assert has_private(Reply(additional=(RRset(OWNER, iana.A, 60, (private,)),)))


@pytest.mark.parametrize("rtype", ["SVCB", "HTTPS"])
@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("1 . alpn=h2 ipv4hint=8.8.8.8 ipv6hint=2600::1", False),
        ("1 . alpn=h2 ipv4hint=8.8.8.8,10.0.0.1", True),
        ("1 svc.example. port=8443 ipv6hint=2600::1,fd00::1", True),
        ("1 . key65400=AAAA", False),
        ("0 other.example.", False),
    ],
)
def test_hints_are_addresses_too(rtype: str, text: str, private: bool) -> None:
    """RFC 9460, section 7.3: clients connect to them without asking further."""
    assert has_private(service(rtype, text)) is private


@pytest.mark.parametrize("rtype", [iana.A, iana.AAAA, 64, 65, iana.TXT])
@given(rdata=st.binary(max_size=40))
def test_any_data_is_judged(rtype: int, rdata: bytes) -> None:
    assert has_private(of(rtype, rdata)) in {True, False}
