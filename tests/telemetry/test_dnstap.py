"""dnstap's protobuf, read back by another reader, and by dnstap-ldns where there is one."""

import shutil
import subprocess
from pathlib import Path

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.telemetry.dnstap import CONTENT_TYPE, Message, MessageType, Server, SocketProtocol, encode
from kdns.testing.collector import fields

SERVER = Server(b"node-1", b"kdns-1")
QUERY = dns.message.make_query("a.example", "AAAA").to_wire()
ASKED = Message(
    MessageType.CLIENT_QUERY,
    SocketProtocol.UDP,
    "192.0.2.1",
    4242,
    "192.0.2.9",
    query_time=1700000000.25,
    query=QUERY,
)


def message(encoded: bytes) -> dict[int, int | bytes]:
    inner = fields(encoded)[14]
    assert isinstance(inner, bytes)
    return fields(inner)


def test_the_envelope_says_who_taps_and_that_it_holds_a_message() -> None:
    told = fields(encode(SERVER, ASKED, b"more"))
    assert {number: value for number, value in told.items() if number != 14} == {
        1: b"node-1",
        2: b"kdns-1",
        3: b"more",
        15: 1,
    }


def test_a_query_has_its_addresses_time_and_octets() -> None:
    assert message(encode(SERVER, ASKED)) == {
        1: 5,
        2: 1,
        3: 1,
        4: bytes((192, 0, 2, 1)),
        5: bytes((192, 0, 2, 9)),
        6: 4242,
        8: 1700000000,
        9: 250_000_000,
        10: QUERY,
    }


def test_a_response_has_both_times_and_an_ipv6_address_its_family() -> None:
    told = message(
        encode(
            SERVER,
            Message(
                MessageType.FORWARDER_RESPONSE,
                SocketProtocol.DOT,
                response_address="2001:db8::1",
                response_port=853,
                query_time=1.0,
                response_time=2.5,
                response=b"reply",
            ),
        )
    )
    assert told == {
        1: 8,
        2: 2,
        3: 3,
        5: b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01",
        7: 853,
        8: 1,
        9: 0,
        12: 2,
        13: 500_000_000,
        14: b"reply",
    }


@pytest.mark.parametrize("address", ["", "a name"])
def test_what_is_no_address_is_left_out_with_its_family(address: str) -> None:
    told = message(encode(SERVER, Message(MessageType.CLIENT_QUERY, SocketProtocol.TCP, address)))
    assert told == {1: 5, 3: 2}


def test_a_scope_is_no_part_of_an_address() -> None:
    told = message(
        encode(SERVER, Message(MessageType.CLIENT_QUERY, SocketProtocol.UDP, "fe80::1%2"))
    )
    assert told[4] == b"\xfe\x80" + bytes(13) + b"\x01"


@given(st.binary(max_size=300), st.integers(0, 65535), st.floats(1, 2**33))
def test_whatever_is_told_can_be_read_back(octets: bytes, port: int, when: float) -> None:
    told = message(
        encode(
            SERVER,
            Message(
                MessageType.CLIENT_RESPONSE,
                SocketProtocol.UDP,
                query_port=port,
                response_time=when,
                response=octets,
            ),
        )
    )
    assert (told.get(14, b""), told.get(6, 0), told[12]) == (octets, port, int(when))


@pytest.mark.skipif(shutil.which("dnstap-ldns") is None, reason="dnstap-ldns is not installed")
def test_dnstap_s_own_tool_reads_it(tmp_path: Path) -> None:
    frame = encode(SERVER, ASKED)
    start = b"\0\0\0\x02" + b"\0\0\0\x01" + len(CONTENT_TYPE).to_bytes(4, "big") + CONTENT_TYPE
    stop = b"\0\0\0\x03"
    file = tmp_path / "tap"
    file.write_bytes(
        bytes(4)
        + len(start).to_bytes(4, "big")
        + start
        + len(frame).to_bytes(4, "big")
        + frame
        + bytes(4)
        + len(stop).to_bytes(4, "big")
        + stop
    )
    done = subprocess.run(
        ["dnstap-ldns", "-r", str(file), "-y"], check=True, capture_output=True, text=True
    )
    for line in (
        'identity: "node-1"',
        "type: CLIENT_QUERY",
        "query_time: !!timestamp 2023-11-14 22:13:20.250000",
        "socket_family: INET",
        'query_address: "192.0.2.1"',
        "query_port: 4242",
        ";a.example.\tIN\tAAAA",
    ):
        assert line in done.stdout
