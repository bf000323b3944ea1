"""Reading a reply: every record out of what an upstream sent, its names in full."""

import struct
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.wire import iana
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import HEADER, Response, naptr_replacement, read_response, ttl_places
from tests import strategies as some

QUESTION = b"\x03www\x07Example\x00\x00\x01\x00\x01"


def message(rest: bytes = QUESTION, *counts: int, flags: int = iana.QR) -> bytes:
    """A header with `counts` (one question when none is given), and `rest`."""
    return HEADER.pack(0x1234, flags, *(counts or (1, 0, 0, 0))) + rest


ZONE = """
www.Example. 300 IN CNAME web.example.
web.example. 60 IN A 192.0.2.1
web.example. 60 IN A 192.0.2.2
web.example. 60 IN AAAA 2001:db8::1
example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 5
example. 3600 IN NS ns.example.
example. 3600 IN MX 10 mail.example.
_dns._udp.example. 30 IN SRV 0 5 53 ns.example.
1.2.0.192.in-addr.arpa. 30 IN PTR web.example.
example. 3600 IN TXT "one" "two"
example. 3600 IN NAPTR 1 2 "u" "E2U+sip" "!^.*$!sip:x@example!" web.example.
example. 3600 IN RP admin.example. text.example.
example. 3600 IN AFSDB 1 afs.example.
old.example. 3600 IN DNAME new.example.
example. 3600 IN TYPE65280 \\# 3 c00cff
"""


def rrsets(text: str = ZONE) -> list[dns.rrset.RRset]:
    """The record sets of a zone file, one record each."""
    fields = [line.split(maxsplit=4) for line in text.strip().splitlines()]
    return [dns.rrset.from_text(owner, int(ttl), *rest) for owner, ttl, *rest in fields]


def reply(answer: list[dns.rrset.RRset]) -> dns.message.Message:
    """A reply of an upstream, as dnspython makes it."""
    made = dns.message.make_query("www.Example.", "A", use_edns=0, want_dnssec=True, id=7)
    made.flags |= dns.flags.QR | dns.flags.AA
    made.answer = answer
    return made


def test_every_record_of_a_reply_is_read_with_its_names_in_full() -> None:
    given_sets = rrsets()
    response = read_response(reply(given_sets).to_wire())
    assert response.id == 7
    assert response.flags & iana.AA
    assert response.question == (b"\x03www\x07Example\x00", iana.A, iana.IN)
    assert response.edns is not None
    assert response.edns.do
    assert (response.authority, response.additional) == ((), ())
    for record, rrset in zip(response.answer, given_sets, strict=True):
        assert record.owner.lower() == rrset.name.canonicalize().to_wire()
        assert (record.rtype, record.rclass) == (rrset.rdtype, rrset.rdclass)
        assert record.ttl == rrset.ttl
        assert record.rdata.lower() == rrset[0].to_wire().lower()


def test_records_stay_in_their_sections_and_the_opt_in_none() -> None:
    made = reply(rrsets()[:1])
    made.authority, made.additional = rrsets()[4:6], rrsets()[1:2]
    response = read_response(made.to_wire())
    found = [
        [record.rtype for record in section]
        for section in (response.answer, response.authority, response.additional)
    ]
    assert found == [[iana.CNAME], [iana.SOA, iana.NS], [iana.A]]


def test_an_rcode_has_its_upper_bits_in_the_opt() -> None:
    made = reply([])
    for rcode in (Rcode.BADCOOKIE, 4095):
        made.set_rcode(dns.rcode.Rcode.make(int(rcode)))
        assert read_response(made.to_wire()).rcode == rcode
    made.use_edns(False)
    made.set_rcode(dns.rcode.Rcode.NXDOMAIN)
    response = read_response(made.to_wire())
    assert response.rcode == Rcode.NXDOMAIN
    assert response.edns is None


def raw(rtype: int, data: bytes, *, ttl: int = 1, owner: bytes = b"\xc0\x0c") -> bytes:
    """A reply with one record, its data as given; www.Example is at 12, Example at 16."""
    record = owner + struct.pack("!HHIH", rtype, iana.IN, ttl, len(data)) + data
    return message(QUESTION + record, 1, 1, 0, 0)


@pytest.mark.parametrize(("ttl", "read"), [(2**31 - 1, 2**31 - 1), (2**31, 0), (2**32 - 1, 0)])
def test_a_ttl_with_its_highest_bit_set_is_zero(ttl: int, read: int) -> None:
    """RFC 2181, section 8."""
    (record,) = read_response(raw(iana.A, bytes(4), ttl=ttl)).answer
    assert record.ttl == read


EXAMPLE = b"\x07Example\x00"
WWW = b"\x03www" + EXAMPLE


@pytest.mark.parametrize(
    ("rtype", "data", "expanded"),
    [
        (iana.NS, b"\xc0\x10", EXAMPLE),
        (iana.CNAME, b"\x01a\xc0\x10", b"\x01a" + EXAMPLE),
        (iana.PTR, b"\x00", b"\x00"),
        (iana.DNAME, b"\xc0\x10", EXAMPLE),
        *((rtype, b"\xc0\x10", EXAMPLE) for rtype in (3, 4, 7, 8, 9)),
        *((rtype, b"\xc0\x0c\xc0\x10", WWW + EXAMPLE) for rtype in (14, 17)),
        *((rtype, b"\x00\x05\xc0\x10", b"\x00\x05" + EXAMPLE) for rtype in (15, 18, 21, 36)),
        (26, b"\x00\x05\xc0\x10\xc0\x0c", b"\x00\x05" + EXAMPLE + WWW),
        (iana.SRV, b"\x00\x01\x00\x02\x00\x03\xc0\x0c", b"\x00\x01\x00\x02\x00\x03" + WWW),
        (iana.SOA, b"\xc0\x0c\xc0\x10" + bytes(20), WWW + EXAMPLE + bytes(20)),
        (
            35,
            b"\x00\x01\x00\x02\x01u\x00\x02!!\xc0\x10",
            b"\x00\x01\x00\x02\x01u\x00\x02!!" + EXAMPLE,
        ),
        (iana.TXT, b"\x02\xc0\x10", b"\x02\xc0\x10"),
        (46, b"\xc0\x10" * 12, b"\xc0\x10" * 12),
        (some.UNKNOWN_TYPE, b"\xc0\x10", b"\xc0\x10"),
        (some.UNKNOWN_TYPE, b"", b""),
    ],
)
def test_names_in_data_are_expanded_where_they_may_be_compressed(
    rtype: int, data: bytes, expanded: bytes
) -> None:
    """RFC 3597, section 4: in the types of RFC 1035 and a few more; other data is opaque."""
    (record,) = read_response(raw(rtype, data)).answer
    assert record.rdata == expanded


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x00" * 11, id="shorter than a header"),
        pytest.param(message(flags=iana.RD), id="a query"),
        pytest.param(message(b"", 0, 0, 0, 0), id="no question"),
        pytest.param(message(QUESTION[:-1]), id="a question cut off"),
        pytest.param(message(QUESTION, 1, 1, 0, 0), id="a record that is not there"),
        pytest.param(message(QUESTION, 1, 4097, 0, 0), id="more records than 64 KiB hold"),
        pytest.param(raw(iana.A, bytes(4))[:-5], id="a record's header cut off"),
        pytest.param(raw(iana.A, bytes(4))[:-1], id="a record's data cut off"),
        pytest.param(raw(iana.CNAME, b""), id="no target"),
        pytest.param(raw(iana.CNAME, EXAMPLE + b"!"), id="an octet after the target"),
        pytest.param(raw(iana.CNAME, b"\x03ab"), id="a target that runs past its data"),
        pytest.param(raw(iana.MX, b"\x00\x01"), id="no exchange"),
        pytest.param(raw(iana.SRV, b"\x00" * 5), id="half a SRV"),
        pytest.param(raw(iana.SOA, WWW), id="a SOA of one name"),
        pytest.param(raw(iana.SOA, WWW * 2 + bytes(19)), id="a SOA that is too short"),
        pytest.param(raw(35, b"\x00\x01\x00\x02\x01u"), id="a NAPTR cut in its strings"),
        pytest.param(raw(35, b"\x00\x01\x00\x02\x00\x00\x09a\x00"), id="a string past a NAPTR"),
        pytest.param(raw(iana.OPT, b"\x00", owner=b"\x00"), id="an OPT with half an option"),
    ],
)
def test_a_broken_reply_is_a_wire_error(wire: bytes) -> None:
    with pytest.raises(WireError):
        read_response(wire)


def check_response(wire: bytes) -> None:
    """`wire` is a WireError, or its records are those that dnspython reads, where it can."""
    try:
        response = read_response(wire)
    except WireError:
        return
    assert isinstance(response, Response)
    try:
        expected = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        # It judges the data of types that are opaque to us.
        return
    if response.flags & iana.OPCODE_MASK:
        # What the sections of an UPDATE hold has another meaning (RFC 2136).
        return
    found = (response.answer, response.authority, response.additional)
    for ours, theirs in zip(found, expected.sections[1:], strict=True):
        assert [(r.owner, r.rtype, r.ttl) for r in ours] == [
            (rrset.name.to_wire(), rrset.rdtype, rrset.ttl) for rrset in theirs
        ]


@given(st.binary(max_size=80))
def test_any_bytes_are_a_reply_or_a_wire_error(rest: bytes) -> None:
    check_response(rest)
    check_response(message(QUESTION + rest, 1, 1, 0, 0))


@given(some.mutated(st.just(reply(rrsets()).to_wire())))
def test_any_broken_reply_is(wire: bytes) -> None:
    check_response(wire)


# Where the TTLs stand.


def test_ttls_can_be_found_where_they_stand_but_for_what_an_opt_has_there() -> None:
    """RFC 6891, section 6.1.3."""
    wire = reply(rrsets()).to_wire()
    found = [int.from_bytes(wire[place : place + 4], "big") for place in ttl_places(wire)]
    assert found == [rrset.ttl for rrset in rrsets()]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\0" * 11, id="no header"),
        pytest.param(message(b"\x03www"), id="half a question"),
        pytest.param(message(QUESTION, 1, 1, 0, 0), id="no record"),
        pytest.param(message(QUESTION + WWW + bytes(9), 1, 1, 0, 0), id="half a record"),
    ],
)
def test_where_there_are_none_is_a_wire_error(wire: bytes) -> None:
    with pytest.raises(WireError):
        ttl_places(wire)


@given(st.binary(max_size=80))
def test_any_bytes_have_ttls_or_are_a_wire_error(rest: bytes) -> None:
    wire = message(QUESTION + rest, 1, 1, 1, 1)
    with suppress(WireError):
        assert all(place + 4 <= len(wire) for place in ttl_places(wire))


def test_the_replacement_of_a_naptr_stands_behind_its_strings() -> None:
    """RFC 3403, section 4.1: order, preference, flags, services, regexp, replacement."""
    data = b"\x00\x01\x00\x02\x01u\x03E2U\x00" + WWW
    assert data[naptr_replacement(data) :] == WWW
    with pytest.raises(WireError):
        naptr_replacement(b"\x00\x01\x00\x02\x01u")
