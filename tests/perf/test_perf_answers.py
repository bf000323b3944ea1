"""An answer is right by its question, its rcode and the set of its rdatas, and by nothing else."""

import pytest
from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSHeader, DNSQuestion, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from perf.answers import Tally, digest, digest_of, matches
from perf.model import Query

NAME = "web.shop.svc.cluster.local"


def reply(
    *addresses: str, name: str = NAME, rcode: int = 0, ttl: int = 30, ident: int = 7
) -> bytes:
    record = DNSRecord(DNSHeader(id=ident, qr=1, aa=1, rcode=rcode), q=DNSQuestion(name))
    for address in addresses:
        record.add_answer(RR(name, rdata=A(address), ttl=ttl))
    return bytes(record.pack())


def query(expect: bytes | None) -> Query:
    return Query(bytes(DNSRecord(DNSHeader(id=0), q=DNSQuestion(NAME)).pack()), expect)


TWO = digest(0, [(QTYPE.A, bytes([10, 0, 0, 1])), (QTYPE.A, bytes([10, 0, 0, 2]))])


@pytest.mark.parametrize(
    "answer",
    [
        reply("10.0.0.1", "10.0.0.2"),
        reply("10.0.0.2", "10.0.0.1"),
        reply("10.0.0.1", "10.0.0.2", ttl=5, ident=0xFFFF),
        reply("10.0.0.1", "10.0.0.2", name=NAME.upper()),
    ],
)
def test_order_ttl_id_and_letter_case_make_no_answer_wrong(answer: bytes) -> None:
    assert matches(query(TWO), answer)


@pytest.mark.parametrize(
    "answer",
    [
        reply("10.0.0.1"),
        reply("10.0.0.1", "10.0.0.3"),
        reply("10.0.0.1", "10.0.0.2", rcode=RCODE.SERVFAIL),
        reply("10.0.0.1", "10.0.0.2", name="api.shop.svc.cluster.local"),
        reply("10.0.0.1", "10.0.0.2")[:-1],
        query(None).wire,
        b"",
    ],
)
def test_other_records_rcode_or_question_and_no_response_at_all_are_wrong(answer: bytes) -> None:
    assert not matches(query(TWO), answer)


def test_a_query_that_expects_nothing_takes_anything() -> None:
    assert matches(query(None), b"")


def test_the_type_of_a_record_is_part_of_it() -> None:
    assert digest(0, [(QTYPE.A, b"abcd")]) != digest(0, [(QTYPE.TXT, b"abcd")])


def test_names_in_records_count_uncompressed() -> None:
    record = DNSRecord(DNSHeader(qr=1), q=DNSQuestion(NAME))
    record.add_answer(RR(NAME, QTYPE.CNAME, rdata=CNAME("db.shop.svc.cluster.local")))
    record.add_answer(RR("db.shop.svc.cluster.local", QTYPE.AAAA, rdata=AAAA("::1")))
    target = b"\2db\4shop\3svc\7cluster\5local\0"
    expected = digest(0, [(QTYPE.AAAA, bytes(15) + b"\1"), (QTYPE.CNAME, target)])
    assert digest_of(bytes(record.pack())) == expected


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_wrong_answers_are_counted_however_few_are_remembered(
    answers: list[int], remembered: int
) -> None:
    tally = Tally([query(TWO)], remembered)
    wires = [
        reply("10.0.0.1", "10.0.0.2"),
        reply("10.0.0.2", "10.0.0.1"),
        reply("10.0.0.1"),
        reply(rcode=RCODE.NXDOMAIN),
    ]
    for number in answers:
        body = wires[number][2:]
        if body in tally.seen[0]:
            tally.seen[0][body] += 1
        else:
            tally.first(0, body)
    assert tally.wrong() == sum(number >= 2 for number in answers)
    assert len(tally.seen[0]) <= remembered
