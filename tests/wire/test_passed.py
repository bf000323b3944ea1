"""Replies handed on as they came: what stays, what is written anew, what is not believed."""

from collections.abc import Sequence

import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.message import MAX_RECORDS, Edns, Query
from kdns.wire.passed import Passed, read_passed
from kdns.wire.reply import Reply, RRset, write_reply

QNAME = "a.example."


def rrset(owner: str, ttl: int, kind: str, *datas: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(dns.name.from_text(owner), ttl, "IN", kind, *datas)


def sent(
    answer: Sequence[dns.rrset.RRset] = (),
    authority: Sequence[dns.rrset.RRset] = (),
    additional: Sequence[dns.rrset.RRset] = (),
    *,
    qname: str = QNAME,
    edns: bool = False,
) -> bytes:
    """A reply as dnspython writes it, to a question for A."""
    query = dns.message.make_query(dns.name.from_text(qname), "A", use_edns=0 if edns else -1)
    reply = dns.message.make_response(query)
    reply.answer, reply.authority = list(answer), list(authority)
    reply.additional = list(additional)
    return reply.to_wire()


def passed_on(
    passed: Reply, qname: str = QNAME, *, limit: int = 65535, edns: bool = False
) -> bytes:
    query = Query(name.from_text(qname), iana.A, id=9, edns=Edns(4096, 0, False) if edns else None)
    return write_reply(query, passed, limit=limit, ra=True)


def texts(sections: list[dns.rrset.RRset]) -> list[str]:
    return [line for section in sections for line in str(section).splitlines()]


A = rrset(QNAME, 60, "A", "192.0.2.1", "192.0.2.2")
SOA = rrset("example.", 300, "SOA", "ns.example. root.example. 1 2 3 4 5")


@pytest.mark.parametrize("edns", [False, True])
def test_the_records_come_out_as_they_went_in(edns: bool) -> None:
    glue = rrset("ns.example.", 30, "A", "192.0.2.53")
    unknown = rrset(QNAME, 5, "TYPE65400", r"\# 3 010203")
    wire = sent([A, unknown], [rrset("example.", 9, "NS", "ns.example.")], [glue], edns=edns)
    passed = read_passed(wire, "forward")
    assert passed.carried is not None
    got = dns.message.from_wire(passed_on(passed, edns=edns))
    before = dns.message.from_wire(wire)
    for section in ("answer", "authority", "additional"):
        assert texts(getattr(got, section)) == texts(getattr(before, section))
    assert (got.id, got.edns) == (9, 0 if edns else -1)


def test_the_owner_has_the_letter_case_of_who_asks_now() -> None:
    got = dns.message.from_wire(passed_on(read_passed(sent([A])), "A.eXample."))
    assert str(got.answer[0].name) == "A.eXample."


def test_a_name_spelled_out_is_written_as_a_pointer() -> None:
    """RFC 1035, section 4.1.4 leaves compression to the sender; its letter case is not ours."""
    wire = bytearray(sent())
    wire[7] = 1
    record = name.from_text("A.EXAMPLE") + bytes((0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1))
    passed = read_passed(bytes(wire) + record)
    assert passed.carried is not None
    assert passed.carried.records[:2] == b"\xc0\x0c"


def test_a_question_for_the_root_is_answered_too() -> None:
    root = rrset(".", 60, "NS", "a.root-servers.net.")
    passed = read_passed(sent([root], qname="."))
    assert passed.answer == (
        RRset(name.ROOT, iana.NS, 60, (name.from_text("a.root-servers.net"),)),
    )


def chain(*extra: dns.rrset.RRset) -> Passed:
    alias = rrset(QNAME, 60, "CNAME", "b.other.")
    return read_passed(sent([alias, rrset("b.other.", 30, "A", "192.0.2.1"), *extra]))


def test_an_alias_leads_to_its_target() -> None:
    assert [found.rtype for found in chain().answer] == [iana.CNAME, iana.A]


def test_what_nobody_asked_for_is_left_out_of_the_answer() -> None:
    """RFC 5452, section 6."""
    passed = chain(rrset("www.bank.example.", 60, "A", "203.0.113.6"))
    assert [found.rtype for found in passed.answer] == [iana.CNAME, iana.A]
    assert b"bank" not in passed_on(passed)


def test_what_stands_beside_the_name_is_left_out_of_the_authority_section() -> None:
    wire = sent([], [SOA, rrset("bank.example.", 60, "NS", "ns.evil.example.")])
    assert [found.rtype for found in read_passed(wire).authority] == [iana.SOA]


def test_an_alias_out_of_order_is_followed_all_the_same() -> None:
    target = rrset("b.other.", 30, "A", "192.0.2.1")
    passed = read_passed(sent([target, rrset(QNAME, 60, "CNAME", "b.other.")]))
    assert {found.rtype for found in passed.answer} == {iana.CNAME, iana.A}


def test_a_dname_leads_on_below_it() -> None:
    """RFC 6672, section 2.2: what stands before the owner is put before the target."""
    dname = rrset("example.", 60, "DNAME", "other.")
    signature = rrset(
        "example.", 60, "RRSIG", "DNAME 8 1 60 20300101000000 20200101000000 1 example. AA=="
    )
    alias = rrset(QNAME, 60, "CNAME", "a.other.")
    address = rrset("a.other.", 60, "A", "192.0.2.1")
    passed = read_passed(sent([dname, signature, alias, address]))
    assert {found.rtype for found in passed.answer} == {iana.DNAME, 46, iana.CNAME, iana.A}
    synthesized = read_passed(sent([dname, address]))
    assert {found.rtype for found in synthesized.answer} == {iana.DNAME, iana.A}
    stray = read_passed(sent([rrset("bank.", 60, "DNAME", "evil."), A]))
    assert {found.rtype for found in stray.answer} == {iana.A}


def test_a_record_that_comes_twice_is_passed_on_once() -> None:
    wire = bytearray(sent([rrset(QNAME, 60, "A", "192.0.2.1")]))
    wire[7] = 2
    passed = read_passed(bytes(wire) + bytes(wire[-16:]))
    assert passed.answer == (RRset(name.from_text(QNAME), iana.A, 60, (bytes((192, 0, 2, 1)),)),)


def test_a_record_that_two_sections_have_is_in_the_first_of_them() -> None:
    """RFC 9460, section 4.1: servers add what a SVCB record leads to, be it the record itself."""
    one = rrset(QNAME, 300, "SVCB", "2 a.example. port=853")
    other = rrset(QNAME, 200, "SVCB", "3 b.example. port=853")
    passed = read_passed(sent([one], [], [one, other]))
    assert [len(section) for section in (passed.answer, passed.additional)] == [1, 1]
    assert passed.ttls() == [300, 200]


def test_a_set_with_several_ttls_gets_the_lowest() -> None:
    """RFC 2181, section 5.2."""
    wire = sent([rrset(QNAME, 60, "A", "192.0.2.1"), rrset(QNAME, 30, "A", "192.0.2.2")])
    assert read_passed(wire).ttls() == [30, 30]


def test_a_ttl_with_its_highest_bit_set_is_zero() -> None:
    """RFC 2181, section 8."""
    wire = bytearray(sent([rrset(QNAME, 60, "A", "192.0.2.1")]))
    wire[-10] = 0x80
    assert read_passed(bytes(wire)).ttls() == [0]


def test_signatures_keep_their_own_ttls() -> None:
    """RFC 4034, section 3."""
    text = "20300101000000 20200101000000 1 example. AA=="
    one = rrset(QNAME, 60, "RRSIG", f"A 8 2 60 {text}")
    other = rrset(QNAME, 30, "RRSIG", f"AAAA 8 2 60 {text}")
    assert read_passed(sent([one, other])).ttls() == [60, 30]


def opt_first() -> bytes:
    wire = bytearray(sent([], [], [A], edns=True))
    opt, start = wire[-11:], len(sent())
    return bytes(wire[:start] + opt + wire[start:-11])


def test_an_opt_that_is_not_the_last_record_is_taken_out() -> None:
    passed = read_passed(opt_first())
    (found,) = passed.additional
    assert set(found.rdatas) == {bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))}
    assert dns.message.from_wire(passed_on(passed)).edns == -1


def test_the_opt_holds_the_upper_bits_of_the_rcode() -> None:
    """RFC 6891, section 6.1.3."""
    wire = bytearray(sent(edns=True))
    wire[-6] = 1
    assert read_passed(bytes(wire)).rcode == 16


# What stands beside the answer.


B = rrset("b.example.", 9, "A", "192.0.2.9")


@pytest.mark.parametrize(
    "leads",
    [
        rrset(QNAME, 60, "NS", "b.example."),
        rrset(QNAME, 60, "PTR", "B.EXAMPLE."),
        rrset(QNAME, 60, "MX", "10 b.example."),
        rrset(QNAME, 60, "SRV", "0 5 53 b.example."),
        rrset(QNAME, 60, "SVCB", "1 b.example. port=53"),
        rrset(QNAME, 60, "HTTPS", "0 b.example."),
        rrset(QNAME, 60, "CNAME", "b.example."),
    ],
)
@pytest.mark.parametrize("anew", [False, True])
def test_what_an_answer_leads_to_may_stand_beside_it(leads: dns.rrset.RRset, anew: bool) -> None:
    """RFC 1035, section 3.3; RFC 2782; RFC 9460, section 4.1."""
    elsewhere = [rrset("c.example.", 9, "A", "192.0.2.9")] * anew
    passed = read_passed(sent([leads], [], [B, *elsewhere, OTHER]))
    assert {found.owner.lower() for found in passed.additional} == {name.from_text("b.example")}


OTHER = rrset("b.example.", 9, "AAAA", "2001:db8::9")


def test_so_may_what_that_leads_to() -> None:
    """RFC 6763, section 12."""
    text = rrset("i.example.", 60, "SRV", "0 5 53 b.example.")
    passed = read_passed(sent([rrset(QNAME, 60, "PTR", "i.example.")], [], [text, B]))
    assert len(passed.additional) == 2


def test_what_nothing_leads_to_goes() -> None:
    """RFC 2181, section 5.4.1: it is what is to be trusted least."""
    wire = sent([A, rrset(QNAME, 60, "TYPE65280", r"\# 3 000107")], [], [B, OTHER])
    # No data of SVCB that anybody can read.
    passed = read_passed(wire.replace((65280).to_bytes(2, "big"), b"\0\x40"))
    assert passed.additional == ()


# Time.


def test_records_age_each_on_its_own() -> None:
    passed = chain().aged(40)
    assert passed.ttls() == [20, 0]
    assert chain().aged(40, floor=7).ttls() == [20, 7]


def test_ttls_are_brought_between_bounds() -> None:
    assert chain().bounded(35, 50).ttls() == [50, 35]
    assert chain().bounded(0, 3600).ttls() == [60, 30]
    assert read_passed(sent()).bounded(5, 10).ttls() == []


def test_octets_are_of_the_records() -> None:
    assert read_passed(sent([A])).octets == 32


# Directives look inside, and write.


def test_a_directive_that_changes_nothing_leaves_the_octets() -> None:
    passed = read_passed(sent([A], [SOA]))
    octets = passed.carried
    passed.answer = passed.answer
    passed.authority = tuple(passed.authority)
    passed.additional = ()
    assert passed.carried is octets


@pytest.mark.parametrize("section", ["answer", "authority", "additional"])
def test_what_a_directive_writes_is_what_goes_out(section: str) -> None:
    passed = read_passed(sent([A], [SOA], [rrset(QNAME, 9, "AAAA", "2001:db8::9")]))
    other = RRset(name.from_text("c.example"), iana.A, 7, (bytes(4),))
    setattr(passed, section, (other,))
    assert passed.carried is None
    got = dns.message.from_wire(passed_on(passed))
    assert texts(getattr(got, section)) == ["c.example. 7 IN A 0.0.0.0"]
    kept = {"answer", "authority", "additional"} - {section}
    assert all(getattr(got, other_section) for other_section in kept)


def test_what_is_taken_apart_goes_out_under_another_question() -> None:
    alias = rrset(QNAME, 60, "CNAME", "b.a.example.")
    wire = sent([alias, rrset("b.a.example.", 60, "A", "192.0.2.1")], [SOA])
    passed = read_passed(wire, "forward")
    passed.take_apart()
    assert passed.carried is None
    got = dns.message.from_wire(passed_on(passed, "another.and.longer.example."))
    before = dns.message.from_wire(wire)
    assert texts(got.answer + got.authority) == texts(before.answer + before.authority)


def test_a_copy_is_somebody_elses() -> None:
    passed = read_passed(sent([A]))
    copy = passed.copy()
    copy.answer = ()
    assert passed.answer


def test_a_reply_that_does_not_fit_is_truncated() -> None:
    many = rrset(QNAME, 60, "A", *[f"192.0.2.{n}" for n in range(100)])
    got = dns.message.from_wire(passed_on(read_passed(sent([many])), limit=512))
    assert got.flags & dns.flags.TC
    assert 0 < len(got.answer[0]) < 100


# What cannot be read.


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"short", "shorter than a header"),
        (bytes(12), "not a reply to one question"),
        (sent([A])[:-1], "data is cut off"),
        (sent([A])[:-9], "header is cut off"),
        (sent()[:-1], "question is cut off"),
        (sent() + b"x", "1 octets after"),
        (sent()[:6] + bytes((0xFF, 0xFF)) + sent()[8:], f"at most {MAX_RECORDS}"),
    ],
)
def test_what_is_wrong_is_told(wire: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        read_passed(wire)


@given(st.binary(max_size=64), st.integers(0, 300))
def test_any_octets_give_a_reply_that_can_be_passed_on_or_an_error(noise: bytes, at: int) -> None:
    whole = sent([A, rrset(QNAME, 9, "MX", "5 mail.example.")], [SOA], edns=True)
    wire = whole[:at] + noise + whole[at + len(noise) :]
    try:
        passed = read_passed(wire)
    except WireError:
        return
    try:
        sections = passed.answer, passed.authority, passed.additional
    except WireError:
        pytest.fail("what was read can be looked into")
    assert all(isinstance(section, tuple) for section in sections)
    qname, _ = name.read(wire, 12)
    written = write_reply(Query(qname, iana.A), passed, limit=65535)
    read_passed(written)
