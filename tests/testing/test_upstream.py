"""The test server of a zone says what Knot DNS 3.2 said; the scripted one does as it is told."""

import asyncio
import json
import socket
import struct
from pathlib import Path
from typing import TypedDict

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.testing import upstream
from kdns.testing.authority import Authority
from kdns.testing.upstream import ScriptedUpstream, ZoneServer

DATA = Path(__file__).parent.parent / "data" / "conformance"
ZONE = DATA / "upstream.example.test.zone"


class Row(TypedDict, total=False):
    """One query and Knot's replies, as hex; None is silence. `tcp` is absent where it is `udp`."""

    what: str
    query: str
    udp: str | None
    tcp: str | None


def rows() -> list[Row]:
    lines = (DATA / "upstream.example.test.knot.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def words(wire: bytes | None) -> str:
    """A message as dnspython reads it: everything but how its names are compressed."""
    return "silence" if wire is None else dns.message.from_wire(wire).to_text()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(ZONE.read_text())


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_every_answer_is_what_knot_answered(authority: Authority, proto: str) -> None:
    different = []
    for row in rows():
        said = row["tcp"] if proto == "tcp" and "tcp" in row else row["udp"]
        got = authority.answer(bytes.fromhex(row["query"]), tcp=proto == "tcp")
        if words(got) != words(None if said is None else bytes.fromhex(said)):
            different.append(row["what"])
    assert different == []


@given(st.binary(max_size=80))
def test_any_bytes_give_a_reply_or_silence(wire: bytes) -> None:
    reply = Authority(ZONE.read_text()).answer(wire, tcp=False)
    assert reply is None or reply[:2] == wire[:2]


@given(st.integers(1, 70), st.binary(max_size=20))
def test_a_spoilt_query_gives_a_reply_or_silence(cut: int, tail: bytes) -> None:
    query = dns.message.make_query("x.wild.example.test", "A", use_edns=0).to_wire()
    Authority(ZONE.read_text()).answer(query[:cut] + tail, tcp=False)


@pytest.mark.parametrize("text", ["", "www.example. 60 IN A 192.0.2.1", "@ IN A x", "a b c"])
def test_what_is_no_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="zone file"):
        Authority(text)


def test_a_chain_out_of_the_zone_ends_at_its_edge_and_a_loop_ends() -> None:
    zone = Authority(
        "$ORIGIN z.\n$TTL 9\n@ SOA ns h 1 2 3 4 5\nout CNAME a.b.\na CNAME b\nb CNAME a\n"
    )
    query = dns.message.make_query("out.z", "A").to_wire()
    reply = dns.message.from_wire(zone.answer(query, tcp=False) or b"")
    assert [str(r) for r in reply.answer] == ["out.z. 9 IN CNAME a.b."]
    assert reply.authority == []
    assert zone.answer(dns.message.make_query("a.z", "A").to_wire(), tcp=False) is not None


async def test_a_zone_server_answers_over_udp_and_tcp_on_one_port() -> None:
    async with ZoneServer(ZONE) as server:
        query = dns.message.make_query("big.example.test", "TXT")
        cut = await dns.asyncquery.udp(query, server.host, port=server.port)
        whole = await dns.asyncquery.tcp(query, server.host, port=server.port)
        assert cut.to_text().count("TC") == 1
        assert len(whole.answer) == 1
        assert server.queries == 2


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.replies.put_nowait(data)


QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x01\x00\x01"


async def test_a_scripted_upstream_takes_its_steps_in_order_and_records_the_questions() -> None:
    loop = asyncio.get_running_loop()
    script = [upstream.servfail, upstream.wrong_id, upstream.wrong_question, upstream.truncated]
    async with ScriptedUpstream(upstream.silence, *script) as server:
        transport, client = await loop.create_datagram_endpoint(
            Client, remote_addr=(server.host, server.port)
        )
        for _ in range(6):
            transport.sendto(QUERY)
        replies = [await client.replies.get() for _ in range(5)]
        transport.close()
        questions = [await server.asked() for _ in range(6)]
    assert replies[0][2:4] == b"\x81\x02"
    assert replies[1][:2] == b"\xed\x34"
    assert replies[2][12:] == b"\x03vww" + QUERY[16:]
    assert replies[3][2:4] == b"\x83\x00"
    assert replies[4] == upstream.echo(QUERY)
    assert [q.wire for q in questions] == [QUERY] * 6
    assert server.questions == questions
    assert {q.proto for q in questions} == {"udp"}


async def test_a_held_question_is_answered_when_the_test_says_so_and_close_closes() -> None:
    async with ScriptedUpstream("hold", "close") as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        framed = struct.pack("!H", len(QUERY)) + QUERY
        writer.write(framed[:5])
        await writer.drain()
        writer.write(framed[5:])
        (await server.held()).reply(b"any bytes")
        assert await reader.readexactly(11) == b"\x00\x09any bytes"
        writer.write(framed)
        assert await reader.read() == b""
        writer.close()
        assert server.connections == 1


async def test_after_a_server_ends_its_port_is_free() -> None:
    async with ScriptedUpstream() as server:
        port = server.port
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
