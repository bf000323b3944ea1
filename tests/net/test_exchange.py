"""A reply is believed when its ID, its QR bit and its question are right (RFC 5452, 9.1)."""

import errno
import os
import struct

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from kdns.net.exchange import Exchange, match, question_of, words_of
from kdns.testing.upstream import echo, wrong_question

QUERY = dns.message.make_query("www.Example.test", "HTTPS", id=0x1234).to_wire()


def table_with(query: bytes) -> tuple[dict[int, Exchange], Exchange, bytes]:
    table: dict[int, Exchange] = {}
    exchange = Exchange(query, question_of(query) or b"")
    return table, exchange, exchange.enter(table, 0x4321)


def test_a_query_goes_out_under_another_id_and_its_reply_comes_back_under_its_own() -> None:
    table, exchange, sent = table_with(QUERY)
    assert sent == b"\x43\x21" + QUERY[2:]
    assert match(table, echo(sent)) is exchange
    assert exchange.own(echo(sent)) == echo(QUERY)
    exchange.leave()
    exchange.leave()
    assert table == {}


def test_the_letter_case_of_the_name_does_not_matter() -> None:
    table, exchange, sent = table_with(QUERY)
    assert match(table, echo(sent).replace(b"Example", b"eXAMPLE")) is exchange


def test_another_id_name_type_or_class_or_no_qr_bit_does_not_match() -> None:
    table, _, sent = table_with(QUERY)
    right = echo(sent)
    wrong = [
        sent,
        b"\x43\x22" + right[2:],
        wrong_question(sent),
        right[:-3] + b"\x61" + right[-2:],  # TYPE97: HTTPS, which is 65, in lower case
        right[:-1] + b"\x03",
        right[:-1],
        right[:11],
        b"",
    ]
    assert [match(table, reply) for reply in wrong] == [None] * len(wrong)


def test_a_message_without_exactly_one_question_has_none() -> None:
    head = struct.pack("!6H", 1, 0, 0, 0, 0, 0)
    assert question_of(head) is None
    assert question_of(QUERY[:4] + b"\x00\x02" + QUERY[6:]) is None
    assert question_of(QUERY[:12] + b"\xc0\x0c\x00\x01\x00\x01") is None
    assert question_of(QUERY[:12] + b"\x00\x00\x01\x00\x01") == b"\x00\x00\x01\x00\x01"


@given(st.binary(max_size=100))
def test_any_bytes_match_or_do_not(reply: bytes) -> None:
    table, exchange, _ = table_with(QUERY)
    assert match(table, reply) in {None, exchange}
    assert question_of(reply) is None or len(reply) > 12


def test_an_error_without_a_question_is_believed_only_where_it_makes_sense() -> None:
    table, exchange, sent = table_with(QUERY)
    for rcode, believed in ((0, False), (1, True), (2, False), (3, False), (4, True), (5, True)):
        reply = sent[:2] + bytes((0x81, 0x80 | rcode)) + bytes(8)
        assert match(table, reply) is (exchange if believed else None)
        assert match(table, reply + b"x") is None


def test_what_the_system_says_is_in_the_words_of_coredns_log() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    assert words_of(refused) == "connection refused"
    assert words_of(OSError("It says so")) == "it says so"
