"""Writing: what was meant is what dnspython and dnslib read, and it is never more than may be."""

import struct
from itertools import chain

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rrset
import dnslib
import pytest
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from hypothesis import assume, given
from hypothesis import strategies as st

from kdns.wire import iana, name, rdata
from kdns.wire.iana import Rcode
from kdns.wire.message import Edns, Query, read_response
from kdns.wire.reply import (
    MAX_TCP_SIZE,
    OUR_UDP_SIZE,
    Reply,
    RRset,
    opt_record,
    size_limit,
    write_reply,
)
from tests import strategies as some

QNAME = name.from_text("www.Example.com.")
COM = name.from_text("com.")
HOST = name.from_text("ns1.example.com.")

Row = tuple[dns.name.Name, int, int, int, dns.rdata.Rdata]
"""Owner, class, type, TTL, data."""


def a_set(owner: bytes = QNAME, count: int = 1) -> RRset:
    datas = tuple(bytes((10, 0, index >> 8, index & 255)) for index in range(count))
    return RRset(owner, iana.A, 30, datas)


def parse(wire: bytes) -> dns.message.Message:
    """The message as dnspython reads it, one record a set."""
    return dns.message.from_wire(wire, one_rr_per_rrset=True)


def rows_read(section: list[dns.rrset.RRset]) -> list[Row]:
    return [(r.name, r.rdclass, r.rdtype, r.ttl, r[0]) for r in section]


def rows_meant(rrsets: tuple[RRset, ...]) -> list[Row]:
    return list(chain.from_iterable(map(rows_of, rrsets)))


def rows_of(rrset: RRset) -> list[Row]:
    owner = dns.name.from_wire(rrset.owner, 0)[0]
    rclass, rtype = RdataClass.make(rrset.rclass), RdataType.make(rrset.rtype)
    datas = [dns.rdata.from_wire(rclass, rtype, data, 0, len(data)) for data in rrset.rdatas]
    return [(owner, rclass, rtype, rrset.ttl, data) for data in datas]


@st.composite
def exchanges(
    draw: st.DrawFn, opcodes: st.SearchStrategy[int] | None = None
) -> tuple[Query, Reply]:
    """A question and an answer to it."""
    query = draw(some.queries(opcodes=opcodes))
    return query, draw(some.replies(query))


limits = st.integers(0, 5000) | st.sampled_from((512, 1232, 4096)) | st.just(MAX_TCP_SIZE)


# What holds for every reply.


@given(exchanges(), limits)
def test_what_is_read_is_what_was_meant_in_order_as_far_as_it_goes(
    exchange: tuple[Query, Reply], limit: int
) -> None:
    """No record is lost but from the end, none comes twice, and none changes its meaning.

    TC says whether Answer or Authority was cut (RFC 2181, section 9); Additional is made of whole
    sets, and is empty when something before it was cut.
    """
    query, reply = exchange
    wire = write_reply(query, reply, limit=limit)
    read = parse(wire)
    answer, authority, additional = map(rows_read, read.sections[1:])
    wanted, wanted_too = rows_meant(reply.answer), rows_meant(reply.authority)
    assert answer == wanted[: len(answer)]
    assert authority == wanted_too[: len(authority)]
    assert len(answer) == len(wanted) or not authority
    cut = len(answer) < len(wanted) or len(authority) < len(wanted_too)
    assert bool(read.flags & dns.flags.TC) == (cut or reply.tc)
    whole = [rows_meant(reply.additional[:count]) for count in range(len(reply.additional) + 1)]
    assert additional in whole
    assert not (cut and additional)


@given(exchanges(), limits)
def test_a_reply_never_exceeds_its_limit(exchange: tuple[Query, Reply], limit: int) -> None:
    """Every client can take 512 octets (RFC 1035, section 4.2.1), so a lower limit is 512."""
    assert len(write_reply(*exchange, limit=limit)) <= max(limit, 512)


@given(exchanges(st.integers(0, 15)), st.booleans())
def test_id_opcode_rd_cd_and_question_come_back_in_their_letter_case(
    exchange: tuple[Query, Reply], ra: bool
) -> None:
    """RFC 1035, section 4.1.1; RFC 4035, section 3; every other flag is ours to set."""
    query, reply = exchange
    wire = write_reply(query, reply, limit=512, ra=ra)
    id_, flags, qdcount = struct.unpack("!3H", wire[:6])
    assert (id_, qdcount) == (query.id, 1)
    asked = query.qname + struct.pack("!HH", query.qtype, query.qclass)
    assert wire[12 : 12 + len(asked)] == asked
    kept = iana.OPCODE_MASK | iana.RD | iana.CD
    assert flags & kept == query.flags & kept
    assert flags & iana.QR
    assert bool(flags & iana.AA) == reply.aa
    # RFC 6840, section 5.8: AD is for those who have shown that they know it.
    assert bool(flags & iana.AD) == (reply.ad and (query.do or bool(query.flags & iana.AD)))
    assert bool(flags & iana.RA) == ra
    assert not flags & 0x40, "Z must be zero"


@given(exchanges())
def test_an_opt_is_answered_with_an_opt_and_only_then(exchange: tuple[Query, Reply]) -> None:
    """RFC 6891, sections 6.1.1 and 6.1.3; DO comes back as it was (RFC 3225, section 3)."""
    query, reply = exchange
    read = parse(write_reply(query, reply, limit=1232, size=1400))
    if query.edns is None:
        assert read.edns < 0
        assert read.rcode() == (reply.rcode if reply.rcode < 16 else Rcode.SERVFAIL)
        return
    assert (read.edns, read.payload, read.rcode()) == (0, 1400, reply.rcode)
    assert bool(read.ednsflags & dns.flags.DO) == (query.do or reply.do)
    assert not read.ednsflags & 0x7FFF, "Z must be zero (RFC 6891, section 6.1.4)"


@given(exchanges(), limits)
def test_options_are_the_replys_own_and_those_too_long_are_left_out(
    exchange: tuple[Query, Reply], limit: int
) -> None:
    """The query's options are never echoed: an option that we do not know is ignored."""
    query, reply = exchange
    query.edns = query.edns or Edns(1232, 0, do=False, options=((some.LOCAL_OPTIONS[0], b"?"),))
    response = read_response(write_reply(query, reply, limit=limit))
    assert response.edns is not None
    left = iter(reply.options)
    assert all(option in left for option in response.edns.options)
    octets = sum(4 + len(data) for _, data in reply.options)
    if octets + len(query.qname) + 27 <= max(limit, 512):
        assert response.edns.options == reply.options


@given(st.data(), limits)
def test_dnslib_reads_it_too(data: st.DataObject, limit: int) -> None:
    """As many records and the same owners; it takes no labels but UTF-8, and no empty data."""
    query = data.draw(some.queries(qnames=some.host_names()))
    near = st.sampled_from(name.suffixes(query.qname)) | some.host_names()
    reply = data.draw(some.replies(query, near))
    assume(all(all(s.rdatas) for s in reply.answer + reply.authority + reply.additional))
    wire = write_reply(query, reply, limit=limit)
    read, second = dnslib.DNSRecord.parse(wire), parse(wire)
    found = [*read.rr, *read.auth, *(record for record in read.ar if record.rtype != iana.OPT)]
    assert [
        (name.from_labels(record.rname.label), record.rtype, record.ttl) for record in found
    ] == [
        (rrset.name.to_wire(), rrset.rdtype, rrset.ttl)
        for rrset in chain.from_iterable(second.sections[1:])
    ]


@given(exchanges())
def test_our_own_reader_reads_it_too(exchange: tuple[Query, Reply]) -> None:
    query, reply = exchange
    reply.options, reply.tc = (), False
    wire = write_reply(query, reply, limit=MAX_TCP_SIZE)
    response = read_response(wire)
    assume(not response.flags & iana.TC)
    meant = [
        (rrset.owner.lower(), rrset.rtype, rrset.rclass, rrset.ttl, data.lower())
        for rrset in reply.answer + reply.authority
        for data in rrset.rdatas
    ]
    read = [
        (record.owner.lower(), record.rtype, record.rclass, record.ttl, record.rdata.lower())
        for record in response.answer + response.authority
    ]
    assert read == meant


@given(some.names().flatmap(lambda of: st.tuples(st.just(of), st.lists(some.names_near(of)))))
def test_names_that_must_not_be_compressed_stand_in_full(
    names: tuple[bytes, list[bytes]],
) -> None:
    """SRV: RFC 2782; DNAME: RFC 6672, section 2.5; types nobody knows: RFC 3597, section 4."""
    qname, targets = names
    query = Query(qname, iana.SRV)
    for target in targets:
        srv = rdata.srv(0, 10, 53, target)
        sets = tuple(
            RRset(qname, rtype, 5, (data,))
            for rtype, data in [(iana.SRV, srv), (iana.DNAME, target), (some.UNKNOWN_TYPE, target)]
        )
        for rrset in sets:
            wire = write_reply(query, Reply(answer=(a_set(qname), rrset)), limit=MAX_TCP_SIZE)
            assert wire.endswith(rrset.rdatas[0])


# Compression: RFC 1035, section 4.1.4.


def written(*answer: RRset, qname: bytes = QNAME) -> bytes:
    """What stands after the question."""
    wire = write_reply(Query(qname, iana.A), Reply(answer=answer), limit=MAX_TCP_SIZE)
    assert rows_read(parse(wire).answer) == rows_meant(answer)
    return wire[12 + len(qname) + 4 :]


def after_owner(rtype: int, data: bytes, ttl: int = 30) -> bytes:
    return struct.pack("!HHIH", rtype, iana.IN, ttl, len(data)) + data


def test_the_questions_name_is_a_pointer_to_it_in_any_letter_case() -> None:
    """So the answer's owner has the letter case of the question (RFC 4343, section 4.1)."""
    expected = b"\xc0\x0c" + after_owner(iana.A, bytes((10, 0, 0, 0)))
    assert written(a_set()) == written(a_set(QNAME.lower())) == written(a_set(QNAME.upper()))
    assert written(a_set()) == expected


def test_an_ancestor_of_the_question_is_a_pointer_into_it() -> None:
    assert written(a_set(COM)).startswith(b"\xc0\x18\x00\x01")


def test_a_name_beside_the_question_shares_its_end() -> None:
    assert written(a_set(HOST)).startswith(b"\x03ns1\xc0\x10\x00\x01")


def test_the_second_record_of_a_set_points_at_the_first_ones_owner() -> None:
    data = written(a_set(HOST, 2))
    owner = 12 + len(QNAME) + 4
    assert data[6 + 14 :].startswith(struct.pack("!H", 0xC000 | owner) + b"\x00\x01")


def test_the_root_is_its_one_octet_never_a_pointer() -> None:
    record = b"\x00" + after_owner(iana.A, bytes((10, 0, 0, 0)))
    assert written(a_set(name.ROOT)) == record
    assert written(a_set(name.ROOT), qname=name.ROOT) == record
    assert written(RRset(QNAME, iana.NS, 30, (name.ROOT,))) == b"\xc0\x0c" + after_owner(2, b"\x00")


@pytest.mark.parametrize("rtype", [iana.NS, iana.CNAME, iana.PTR])
def test_targets_of_rfc_1035_types_are_compressed(rtype: int) -> None:
    data = written(RRset(QNAME, rtype, 30, (HOST,)))
    assert data == b"\xc0\x0c" + after_owner(rtype, b"\x03ns1\xc0\x10")


def test_mx_and_soa_are_compressed_behind_and_between_their_numbers() -> None:
    assert written(RRset(QNAME, iana.MX, 30, (b"\x00\x0a" + HOST,))) == b"\xc0\x0c" + after_owner(
        iana.MX, b"\x00\x0a\x03ns1\xc0\x10"
    )
    soa = rdata.soa(HOST, HOST, 1, 2, 3, 4, 5)
    first = struct.pack("!H", 0xC000 | 12 + len(QNAME) + 4 + 12)
    assert written(RRset(QNAME, iana.SOA, 30, (soa,))) == b"\xc0\x0c" + after_owner(
        iana.SOA, b"\x03ns1\xc0\x10" + first + soa[-20:]
    )


def test_owners_in_additional_point_at_the_targets_of_srv() -> None:
    """The target stands in full, and is the prior occurrence that its addresses' owners need."""
    for target in (HOST, QNAME):
        srv = RRset(QNAME, iana.SRV, 30, (rdata.srv(0, 10, 53, target),))
        reply = Reply(answer=(srv,), additional=(a_set(target),))
        wire = write_reply(Query(QNAME, iana.SRV), reply, limit=512)
        assert wire[-16:-12] == (b"\xc0\x0c" if target == QNAME else b"\xc0\x33") + b"\x00\x01"
        assert rows_read(parse(wire).additional) == rows_meant(reply.additional)


def test_a_question_that_is_a_srv_target_still_lends_its_suffixes() -> None:
    srv = RRset(COM, iana.SRV, 30, (rdata.srv(0, 10, 53, QNAME),))
    assert written(srv, a_set(HOST)).endswith(b"\x03ns1\xc0\x10" + after_owner(1, b"\x0a\0\0\0"))


def test_no_pointer_leads_beyond_14_bits() -> None:
    """Names behind the first 16 KiB are written in full again, or point at one before."""
    filler = RRset(QNAME, some.UNKNOWN_TYPE, 30, (bytes(0x4000),))
    far = name.from_text("far.away.")
    data = written(filler, a_set(far, 3), a_set(name.from_text("ns1.far.away."), 2), a_set(HOST, 2))
    assert data.count(b"\x03far\x04away\x00") == 5
    assert data.count(b"\x03ns1\xc0\x10") == 2
    srv = RRset(QNAME, iana.SRV, 30, (rdata.srv(0, 10, 53, far),))
    assert written(filler, srv, a_set(far)).count(b"\x03far\x04away\x00") == 2


def test_a_name_that_starts_before_16_kib_and_ends_behind_lends_only_its_first_suffixes() -> None:
    head = 12 + len(QNAME) + 4 + 12
    near = name.from_text("aaaa.bbbb.cccc.")
    filler = RRset(QNAME, some.UNKNOWN_TYPE, 30, (bytes(0x4000 - 6 - head),))
    data = written(filler, a_set(near, 2), a_set(name.from_text("cccc."), 2))
    assert data.count(b"\x04cccc\x00") == 3
    srv = RRset(QNAME, iana.SRV, 30, (rdata.srv(0, 10, 53, near),))
    short = RRset(QNAME, some.UNKNOWN_TYPE, 30, (bytes(0x4000 - 24 - head),))
    assert written(short, srv, a_set(name.from_text("cccc."))).count(b"\x04cccc\x00") == 2


# Truncation: RFC 2181, section 9; RFC 6891, section 6.2.3.


@pytest.mark.parametrize(
    ("size", "udp", "limit"),
    [(None, True, 512), (512, True, 512), (1232, True, 1232), (65_535, True, 4096),
     (None, False, 65_535), (512, False, 65_535)],
)  # fmt: skip
def test_the_limit_is_what_the_client_takes_and_4096_at_most(
    size: int | None, udp: bool, limit: int
) -> None:
    edns = None if size is None else Edns(size, 0, do=False)
    assert size_limit(Query(QNAME, iana.A, edns=edns), udp=udp) == limit


def test_the_limit_is_narrower_where_bufsize_says_so() -> None:
    query = Query(QNAME, iana.A, edns=Edns(4096, 0, do=False))
    assert size_limit(query, udp=True, cap=1232) == 1232
    assert size_limit(query, udp=False, cap=1232) == 65_535


def test_as_many_whole_records_as_fit_and_tc() -> None:
    """29 addresses of 16 octets behind a question of 33 and a header: 509 of 512."""
    wire = write_reply(Query(QNAME, iana.A), Reply(answer=(a_set(count=100),)), limit=512)
    read = parse(wire)
    assert read.flags & dns.flags.TC
    assert len(read.answer) == (512 - 12 - len(QNAME) - 4) // 16 == 29


@pytest.mark.parametrize(("surplus", "tc"), [(0, False), (-1, True)])
def test_a_reply_of_exactly_the_limit_is_whole(surplus: int, tc: bool) -> None:
    query = Query(QNAME, iana.A, edns=Edns(1232, 0, do=False))
    reply = Reply(answer=(a_set(count=60),), options=((iana.EDNS_NSID, b"me"),))
    octets = len(write_reply(query, reply, limit=MAX_TCP_SIZE))
    read = parse(write_reply(query, reply, limit=octets + surplus))
    assert bool(read.flags & dns.flags.TC) == tc
    assert len(read.answer) == 60 - tc


def test_an_authority_that_does_not_fit_sets_tc() -> None:
    """RFC 2308, section 3: a negative answer without its SOA is another answer."""
    soa = RRset(COM, iana.SOA, 30, (rdata.soa(HOST, HOST, 1, 2, 3, 4, 5),))
    wide = RRset(COM, iana.TXT, 30, (rdata.txt(b"x" * 250, b"y" * 200),))
    reply = Reply(Rcode.NXDOMAIN, authority=(wide, soa))
    read = parse(write_reply(Query(QNAME, iana.A), reply, limit=512))
    assert read.flags & dns.flags.TC
    assert rows_read(read.authority) == rows_meant((wide,))


def test_nothing_is_written_after_what_did_not_fit() -> None:
    """Smaller sets are not preferred to larger ones, and no name points at what was taken back."""
    wide = RRset(HOST, iana.TXT, 30, tuple(rdata.txt(bytes((n,)) * 250) for n in range(2)))
    reply = Reply(answer=(a_set(),), additional=(wide, a_set(HOST)))
    wire = write_reply(Query(QNAME, iana.A), reply, limit=512)
    assert parse(wire).additional == []
    assert len(wire) == 12 + len(QNAME) + 4 + 16


def test_an_additional_that_does_not_fit_goes_without_tc_and_in_whole_sets() -> None:
    reply = Reply(answer=(a_set(),), additional=(a_set(HOST, 2), a_set(COM, 40), a_set(COM)))
    read = parse(write_reply(Query(QNAME, iana.A), reply, limit=512))
    assert not read.flags & dns.flags.TC
    assert rows_read(read.additional) == rows_meant(reply.additional[:1])


def test_a_tcp_reply_takes_65535_octets_and_one_more_record_is_cut() -> None:
    query = Query(QNAME, iana.A)
    filler = RRset(QNAME, some.UNKNOWN_TYPE, 30, (bytes(65_535 - 12 - len(QNAME) - 4 - 12),))
    wire = write_reply(query, Reply(answer=(filler,)), limit=MAX_TCP_SIZE)
    assert len(wire) == 65_535
    assert not parse(wire).flags & dns.flags.TC
    read = parse(write_reply(query, Reply(answer=(filler, a_set())), limit=MAX_TCP_SIZE))
    assert read.flags & dns.flags.TC
    assert len(read.answer) == 1


def test_the_longest_question_with_an_opt_fits_every_limit() -> None:
    qname = name.from_labels([b"x" * 63] * 3 + [b"x" * 61])
    query = Query(qname, iana.A, edns=Edns(512, 0, do=True))
    reply = Reply(answer=(a_set(qname),), options=((iana.EDNS_NSID, b"n" * 300), (15, b"\x00\x17")))
    for limit in (0, 282, 512):
        read = parse(write_reply(query, reply, limit=limit))
        assert [option.otype for option in read.options] == [15]
        assert len(read.answer) == 1


# EDNS: RFC 6891.


def test_badvers_stands_in_both_halves_of_the_rcode() -> None:
    query = Query(QNAME, iana.A, edns=Edns(1232, 1, do=True))
    read = parse(write_reply(query, Reply(Rcode.BADVERS), limit=1232))
    assert read.rcode() == dns.rcode.BADVERS
    assert read.edns == 0
    assert read.payload == OUR_UDP_SIZE
    assert read.ednsflags & dns.flags.DO


def test_an_rcode_that_needs_an_opt_is_servfail_without_one() -> None:
    """Its lower bits alone would say NOERROR."""
    read = parse(write_reply(Query(QNAME, iana.A), Reply(Rcode.BADVERS), limit=512))
    assert read.rcode() == dns.rcode.SERVFAIL


def test_without_edns_there_are_no_options() -> None:
    reply = Reply(options=((iana.EDNS_NSID, b"me"),))
    assert len(write_reply(Query(QNAME, iana.A), reply, limit=512)) == 12 + len(QNAME) + 4


def test_an_option_beyond_what_a_record_can_hold_is_left_out() -> None:
    query = Query(QNAME, iana.A, edns=Edns(1232, 0, do=False))
    reply = Reply(options=((iana.EDNS_NSID, bytes(65_536)), (iana.EDNS_EDE, b"\x00\x0e")))
    read = parse(write_reply(query, reply, limit=MAX_TCP_SIZE))
    assert [option.otype for option in read.options] == [dns.edns.OptionType.EDE]


@pytest.mark.parametrize(("surplus", "kept"), [(0, 1), (1, 0)])
def test_an_option_may_fill_the_room_to_the_last_octet(surplus: int, kept: int) -> None:
    query = Query(QNAME, iana.A, edns=Edns(512, 0, do=False))
    bare = 12 + len(QNAME) + 4 + 11
    option = (iana.EDNS_NSID, bytes(512 - bare - 4 + surplus))
    wire = write_reply(query, Reply(options=(option,)), limit=512)
    assert len(parse(wire).options) == kept
    assert len(wire) == (512 if kept else bare)


def test_the_cd_bit_can_be_another_than_the_querys() -> None:
    for asked, told in [(0, True), (iana.CD, False)]:
        query = Query(QNAME, iana.A, flags=iana.RD | asked)
        read = parse(write_reply(query, Reply(cd=told), limit=512))
        assert bool(read.flags & dns.flags.CD) == told


def test_an_opt_of_our_own_for_a_question_of_our_own() -> None:
    assert opt_record() == b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    assert opt_record(rcode=0xABC, do=True, size=4096, options=[(3, b"x")]) == (
        b"\x00\x00\x29\x10\x00\xab\x00\x80\x00\x00\x05\x00\x03\x00\x01x"
    )


def test_the_roots_soa_is_denied_with_like_any_other() -> None:
    """Its owner is a single octet, which no pointer could shorten."""
    soa = rdata.soa(name.ROOT, name.ROOT, 1, 2, 3, 4, 5)
    query = Query(QNAME, iana.A)
    reply = Reply(iana.Rcode.NXDOMAIN, authority=(RRset(name.ROOT, iana.SOA, 60, (soa,)),))
    (read,) = parse(write_reply(query, reply, limit=512)).authority
    assert read.to_text() == ". 60 IN SOA . . 1 2 3 4 5"


@pytest.mark.parametrize("zone", ["example.", "test.", "www.example.", "other.org."])
@pytest.mark.parametrize("edns", [None, Edns(1232, 0, do=True)])
def test_a_denial_reads_as_the_soa_that_was_given(zone: str, edns: Edns | None) -> None:
    """Whether the SOA stands above the question or elsewhere, its names below it or not."""
    apex = name.from_text(zone)
    soa = rdata.soa(name.from_text(f"ns.{zone}"), name.from_text("host.master.net"), 1, 2, 3, 4, 5)
    query = Query(name.from_text("WwW.Example."), iana.A, id=7, edns=edns)
    reply = Reply(iana.Rcode.NXDOMAIN, authority=(RRset(apex, iana.SOA, 60, (soa,)),), aa=True)
    wire = write_reply(query, reply, limit=512)
    read = parse(wire)
    (found,) = read.authority
    assert found.to_text().lower() == f"{zone} 60 in soa ns.{zone} host.master.net. 1 2 3 4 5"
    assert (read.id, read.rcode(), read.edns) == (7, dns.rcode.NXDOMAIN, 0 if edns else -1)
    assert read.question[0].name.to_text() == "WwW.Example."
