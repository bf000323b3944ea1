"""Reading a query: one question and its OPT out of any datagram, or the refusal that it gets."""

import struct

import dns.exception
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.wire import iana, name
from kdns.wire.errors import NotAQuery, NotImplementedOpcode, WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import (
    HEADER,
    MAX_QUERY_RECORDS,
    Edns,
    Query,
    read_query,
    salvage,
)
from tests import strategies as some

QUESTION = b"\x03www\x07Example\x00\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"


def message(rest: bytes = QUESTION, *counts: int, flags: int = iana.RD) -> bytes:
    """A header with `counts` (one question when none is given), and `rest`."""
    return HEADER.pack(0x1234, flags, *(counts or (1, 0, 0, 0))) + rest


def refusal(wire: bytes) -> bytes | None:
    """What the sender of an unreadable message is told."""
    with pytest.raises(WireError) as caught:
        read_query(wire)
    return salvage(wire, caught.value)


def header_of_refusal(rcode: Rcode, flags: int = iana.RD) -> bytes:
    return HEADER.pack(0x1234, iana.QR | flags | rcode, 0, 0, 0, 0)


# A question: RFC 1035, sections 4.1.1 and 4.1.2.


def test_a_question_is_read_with_its_letter_case() -> None:
    query = read_query(message())
    assert query.id == 0x1234
    assert query.rd
    assert query.qname == b"\x03www\x07Example\x00"
    assert query.key == b"\x03www\x07example\x00"
    assert (query.qtype, query.qclass) == (iana.A, iana.IN)
    assert query.edns is None
    assert not query.do
    assert query.size == 29
    assert repr(query) == "Query(www.Example. IN A)"


def test_the_question_of_the_root_and_of_types_and_classes_nobody_knows() -> None:
    query = read_query(message(b"\x00" + struct.pack("!HH", 64_999, 77)))
    assert (query.qname, query.qtype, query.qclass) == (name.ROOT, 64_999, 77)
    assert repr(query) == "Query(. CLASS77 TYPE64999)"


@given(some.query_wires())
def test_any_valid_query_is_read_as_it_was_meant(pair: tuple[Query, bytes]) -> None:
    meant, wire = pair
    query = read_query(wire)
    for field in ("id", "flags", "qname", "key", "qtype", "qclass", "edns", "rd", "do"):
        assert getattr(query, field) == getattr(meant, field)
    assert query.size == len(wire)


def test_another_question_of_the_same_client_keeps_all_but_name_and_type() -> None:
    query = read_query(message(QUESTION + OPT, 1, 0, 0, 1))
    other = query.ask_instead(b"\x01B\x00", iana.AAAA)
    assert (other.qname, other.key, other.qtype) == (b"\x01B\x00", b"\x01b\x00", iana.AAAA)
    for field in ("id", "flags", "qclass", "edns", "size"):
        assert getattr(other, field) == getattr(query, field)


# What is no query gets silence.


@pytest.mark.parametrize("wire", [b"", b"\x00", message()[:11], message(flags=iana.QR)])
def test_short_messages_and_responses_are_met_with_silence(wire: bytes) -> None:
    with pytest.raises(NotAQuery) as caught:
        read_query(wire)
    assert salvage(wire, caught.value) is None


def test_a_response_is_met_with_silence_whatever_else_is_wrong_with_it() -> None:
    assert refusal(message(b"", 9, 9, 9, 9, flags=0xFFFF)) is None


# What this server does not do: RFC 1035, section 4.1.1; RFC 8906, section 3.1.4.


@pytest.mark.parametrize("opcode", range(1, 16))
@pytest.mark.parametrize("rest", [QUESTION, b"", b"\xff" * 40])
def test_every_other_opcode_gets_notimp_whatever_follows(opcode: int, rest: bytes) -> None:
    flags = opcode << 11 | iana.RD | iana.CD
    wire = message(rest, 1, 0, 0, 0, flags=flags)
    with pytest.raises(NotImplementedOpcode):
        read_query(wire)
    assert refusal(wire) == header_of_refusal(Rcode.NOTIMP, flags)


# What is broken gets FORMERR: RFC 1035, section 4.1.1; RFC 9619; RFC 6891, section 6.1.1.

RECORD = b"\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01a"


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(message(b"", 0, 0, 0, 0), id="no question"),
        pytest.param(message(QUESTION, 0, 0, 0, 0), id="a question that is not counted"),
        pytest.param(message(OPT, 0, 0, 0, 1), id="no question, but an OPT"),
        pytest.param(message(QUESTION * 2, 2, 0, 0, 0), id="two questions"),
        pytest.param(message(QUESTION, 65_535, 0, 0, 0), id="65,535 questions"),
        pytest.param(message(b""), id="a question that is not there"),
        pytest.param(message(QUESTION[:5]), id="a name cut inside a label"),
        pytest.param(message(QUESTION[:12]), id="a name without its end"),
        pytest.param(message(QUESTION[:13]), id="a question without type"),
        pytest.param(message(QUESTION[:16]), id="a question with half a class"),
        pytest.param(message(b"\xc0\x0c\x00\x01\x00\x01"), id="a pointer to itself"),
        pytest.param(message(b"\x01a\xc0\x0c\x00\x01\x00\x01"), id="a loop"),
        pytest.param(message(b"\xc0\x00\x00\x01\x00\x01"), id="a pointer into the header"),
        pytest.param(message(b"\x40" + b"a" * 64 + b"\x00\x00\x01\x00\x01"), id="a label of 64"),
        pytest.param(message(b"\x01a" * 128 + b"\x00\x00\x01\x00\x01"), id="a name of 257"),
        pytest.param(message(QUESTION + b"\x00"), id="one trailing octet"),
        pytest.param(message(QUESTION + OPT), id="an OPT that is not counted"),
        pytest.param(message(QUESTION + OPT + b"!", 1, 0, 0, 1), id="an octet after the OPT"),
        pytest.param(message(QUESTION, 1, 0, 0, 1), id="an OPT that is not there"),
        pytest.param(message(QUESTION + OPT[:10], 1, 0, 0, 1), id="an OPT cut in its header"),
        pytest.param(message(QUESTION + OPT * 2, 1, 0, 0, 2), id="two OPTs"),
        pytest.param(message(QUESTION + OPT, 1, 1, 0, 0), id="an OPT in Answer"),
        pytest.param(message(QUESTION + OPT, 1, 0, 1, 0), id="an OPT in Authority"),
        pytest.param(message(QUESTION + b"\x01a" + OPT, 1, 0, 0, 1), id="an OPT with an owner"),
        pytest.param(message(QUESTION + RECORD[:-1], 1, 0, 0, 1), id="record data cut off"),
        pytest.param(message(QUESTION + b"\xc0\x1d" + RECORD, 1, 0, 0, 1), id="an owner in a loop"),
        pytest.param(message(QUESTION, 1, 65_535, 65_535, 65_535), id="records that are not there"),
    ],
)
def test_what_is_broken_gets_formerr(wire: bytes) -> None:
    assert refusal(wire) == header_of_refusal(Rcode.FORMERR)


def opt(options: bytes, *, version: int = 0) -> bytes:
    return struct.pack("!BHHBBHH", 0, 41, 1232, 0, version, 0, len(options)) + options


@pytest.mark.parametrize(
    "options",
    [b"\x00", b"\x00\x03\x00", b"\x00\x03\x00\x01", b"\x00\x03\x00\x00\x00\x0a\x00\x09abc"],
)
def test_options_that_run_past_their_opt_get_formerr(options: bytes) -> None:
    """RFC 6891, section 6.1.2: the options fill RDATA exactly."""
    wire = message(QUESTION + opt(options), 1, 0, 0, 1)
    assert refusal(wire) == header_of_refusal(Rcode.FORMERR)


def test_a_refusal_keeps_id_opcode_rd_and_cd_and_nothing_else() -> None:
    flags = 0x7FFF & ~iana.OPCODE_MASK
    wire = message(b"", 0, 0, 0, 0, flags=flags)
    assert refusal(wire) == header_of_refusal(Rcode.FORMERR, iana.RD | iana.CD)


# EDNS: RFC 6891, sections 6.1.2 to 6.1.3 and 6.2.3; RFC 3225.


@pytest.mark.parametrize(
    ("offered", "taken"), [(0, 512), (511, 512), (512, 512), (1232, 1232), (65_535, 65_535)]
)
def test_a_size_below_512_counts_as_512(offered: int, taken: int) -> None:
    record = b"\x00\x00\x29" + struct.pack("!HIH", offered, 0, 0)
    edns = read_query(message(QUESTION + record, 1, 0, 0, 1)).edns
    assert edns == Edns(size=taken, version=0, do=False)


def test_do_and_options_are_read_in_order_unknown_ones_too() -> None:
    record = (
        OPT[:-2] + b"\x00\x0d" + b"\x00\x03\x00\x00" + b"\xfd\xe9\x00\x01!" + b"\x00\x03\x00\x00"
    )
    query = read_query(message(QUESTION + record, 1, 0, 0, 1))
    assert query.do
    assert query.edns == Edns(1232, 0, do=True, options=((3, b""), (65_001, b"!"), (3, b"")))


def test_other_flags_of_the_opt_are_ignored() -> None:
    """RFC 6891, section 6.1.4: Z must be ignored by receivers; so is an extended rcode."""
    record = b"\x00\x00\x29\x04\xd0\xff\x00\x7f\xff\x00\x00"
    assert read_query(message(QUESTION + record, 1, 0, 0, 1)).edns == Edns(1232, 0, do=False)


@pytest.mark.parametrize("options", [b"", b"\x00\x03\x00\x00", b"\x00", b"\x00\x03\xff\xff"])
def test_another_version_is_told_whatever_its_options_look_like(options: bytes) -> None:
    """Section 6.1.3: it gets BADVERS. Options of a version we do not know are not ours to judge."""
    edns = read_query(message(QUESTION + opt(options, version=1), 1, 0, 0, 1)).edns
    assert edns == Edns(1232, 1, do=False)


def test_other_records_before_and_after_the_opt_are_passed_over() -> None:
    """An IXFR holds a SOA in Authority (RFC 1995), a signed query a TSIG at its end (RFC 8945)."""
    wire = message(QUESTION + RECORD * 2 + b"\xc0\x0c" + RECORD[1:] + OPT + RECORD, 1, 1, 1, 3)
    assert read_query(wire).edns == Edns(1232, 0, do=True)


def test_records_are_read_up_to_a_bound() -> None:
    """Nobody needs them in a query, and each may be dear to read."""
    most = MAX_QUERY_RECORDS
    assert read_query(message(QUESTION + RECORD * (most - 1) + OPT, 1, 0, 0, most)).do
    wire = message(QUESTION + RECORD * most + OPT, 1, 1, 0, most)
    assert refusal(wire) == header_of_refusal(Rcode.FORMERR)


def test_the_root_that_owns_an_opt_may_be_a_pointer() -> None:
    wire = message(QUESTION + b"\xc0\x18" + OPT[1:], 1, 0, 0, 1)
    assert read_query(wire).do


# Any bytes.


def check_refusal(wire: bytes, error: WireError) -> None:
    """Silence for what is no query; else the header alone, with what it must keep."""
    told = salvage(wire, error)
    if isinstance(error, NotAQuery):
        assert told is None
        assert len(wire) < 12 or wire[2] & 0x80
        return
    assert told is not None
    kept = struct.unpack("!H", wire[2:4])[0] & 0x7910
    assert told == wire[:2] + struct.pack("!5H", iana.QR | error.rcode | kept, 0, 0, 0, 0)


def check(wire: bytes) -> None:
    """`wire` is a query, as dnspython reads it too, or an error that has its answer."""
    try:
        query = read_query(wire)
    except WireError as error:
        check_refusal(wire, error)
        return
    question = dns.message.from_wire(wire, question_only=True)
    assert (query.id, query.flags) == (question.id, int(question.flags))
    (rrset,) = question.question
    assert (query.qname, query.qtype, query.qclass) == (
        rrset.name.to_wire(),
        rrset.rdtype,
        rrset.rdclass,
    )
    try:
        whole = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        # It also judges the data of records that are not ours to judge in a query.
        return
    assert (query.edns is None) == (whole.edns < 0)
    if query.edns is not None:
        assert query.edns.version == whole.edns
        assert query.edns.size == max(whole.payload, 512)
        assert query.do == bool(whole.ednsflags & dns.flags.DO)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_query_or_a_wire_error(wire: bytes) -> None:
    check(wire)


@given(st.binary(max_size=80))
def test_any_bytes_after_a_header_with_one_question_are(rest: bytes) -> None:
    check(message(rest, 1, 0, 0, 1))


@given(some.mutated(some.query_wires().map(lambda pair: pair[1])))
def test_any_broken_query_is(wire: bytes) -> None:
    check(wire)


@given(
    some.mutated(st.just(message(QUESTION + RECORD + b"\xc0\x0c" + RECORD[1:] + OPT, 1, 1, 1, 1)))
)
def test_any_broken_query_with_records_is(wire: bytes) -> None:
    check(wire)
