"""The generator against servers on loopback: what it sends, matches, and calls wrong."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest
from dnslib import QTYPE, RR, A, DNSHeader, DNSQuestion, DNSRecord

from kdns.testing.upstream import ScriptedUpstream, ZoneServer, echo
from perf.load import check, digest, run
from perf.model import LoadResult, LoadSpec, Query, Transport, Workload

ZONE = """
$ORIGIN example.
@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60
@ 3600 IN NS ns
ns 60 IN A 10.0.0.1
web 60 IN A 10.0.0.2
web 60 IN A 10.0.0.3
"""
NXDOMAIN = 3
PATIENCE = 60.0
"""Seconds: no machine is so slow that its answers are lost here."""


def wire(name: str, qtype: int = QTYPE.A) -> bytes:
    return bytes(DNSRecord(DNSHeader(id=0), q=DNSQuestion(name, qtype)).pack())


def address(last: int) -> tuple[int, bytes]:
    return QTYPE.A, bytes([10, 0, 0, last])


RIGHT = (
    Query(wire("ns.example."), digest(0, [address(1)])),
    Query(wire("web.example."), digest(0, [address(3), address(2)])),
    Query(wire("none.example."), digest(NXDOMAIN, [])),
    Query(wire("web.example.", QTYPE.AAAA), digest(0, [])),
)


def spec(queries: tuple[Query, ...], port: int, transport: Transport = "udp") -> LoadSpec:
    """200 queries within a hundredth of a second."""
    return LoadSpec(
        workload=Workload("test", transport, queries),
        host="127.0.0.1",
        port=port,
        mode="open",
        rate=20_000,
        seconds=0.01,
        outstanding=10,
        connections=1,
        seed=1,
        cpu=None,
    )


@contextmanager
def responder(reply: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """A UDP server in a thread that sends what `reply` makes of each query; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                query, peer = sock.recvfrom(4096)
                if not query:
                    return
                for answer in reply(query):
                    sock.sendto(answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


def answered_with(*addresses: str) -> Callable[[bytes], list[bytes]]:
    """Each query is answered with these, beginning with another one each time."""
    turn = list(addresses)

    def reply(query: bytes) -> list[bytes]:
        turn.append(turn.pop(0))
        record = DNSRecord.parse(query).reply()
        for text in turn:
            record.add_answer(RR(record.q.qname, rdata=A(text), ttl=5))
        return [bytes(record.pack())]

    return reply


def whole(result: LoadResult) -> tuple[int, int, int, int]:
    return result.sent, result.answered, result.lost, result.wrong


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("connections", [1, 7])
async def test_every_query_of_the_plan_is_asked_and_answered_rightly(
    transport: Transport, connections: int
) -> None:
    async with ZoneServer(ZONE) as server:
        asked = replace(spec(RIGHT, server.port, transport), connections=connections)
        result = await asyncio.to_thread(run, asked, PATIENCE)
        assert server.queries == 200
    assert whole(result) == (200, 200, 0, 0)
    assert sum(count for _, count in result.histogram) == 200
    assert 0 < result.p50 <= result.p90 <= result.p99 <= result.p999 <= result.worst
    assert result.qps == pytest.approx(200 / result.seconds)
    assert result.seconds >= 0.01


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_closed_loop_is_answered_rightly(transport: Transport) -> None:
    async with ZoneServer(ZONE) as server:
        asked = replace(spec(RIGHT, server.port, transport), mode="max", rate=None)
        result = await asyncio.to_thread(run, asked, PATIENCE)
        assert server.queries == result.sent >= 10
    assert (result.lost, result.wrong) == (0, 0)


async def test_queries_are_asked_in_rotation() -> None:
    async with ScriptedUpstream(otherwise=echo) as server:
        asked = spec(tuple(replace(query, expect=None) for query in RIGHT), server.port)
        result = await asyncio.to_thread(run, asked, PATIENCE)
        wires = [question.wire[2:] for question in server.questions]
        ids = {question.wire[:2] for question in server.questions}
    assert [wires.count(query.wire[2:]) for query in RIGHT] == [50] * 4
    assert len(ids) == 200
    assert result.wrong == 0


async def test_only_the_query_with_another_answer_is_wrong() -> None:
    wrong = replace(RIGHT[1], expect=digest(0, [address(2)]))
    async with ZoneServer(ZONE) as server:
        asked = spec((*RIGHT, wrong), server.port)
        result = await asyncio.to_thread(run, asked, PATIENCE)
    assert whole(result) == (200, 200, 0, 40)


def test_records_in_another_order_are_the_same_answer() -> None:
    with responder(answered_with("10.0.0.2", "10.0.0.3")) as port:
        assert whole(run(spec((RIGHT[1],), port), PATIENCE)) == (200, 200, 0, 0)


def test_a_server_that_lies_gives_wrong_answers() -> None:
    with responder(answered_with("10.0.0.2", "10.0.0.4")) as port:
        assert whole(run(spec((RIGHT[1],), port), PATIENCE)) == (200, 200, 0, 200)


def test_bytes_that_are_no_message_and_second_answers_count_for_nothing() -> None:
    right = answered_with("10.0.0.2", "10.0.0.3")

    def noisy(query: bytes) -> list[bytes]:
        return [b"", query[:1], query[:11], *right(query) * 2]

    with responder(noisy) as port:
        assert whole(run(spec((RIGHT[1],), port), PATIENCE)) == (200, 200, 0, 0)


async def test_what_a_closed_connection_leaves_unanswered_is_lost() -> None:
    async with ScriptedUpstream(echo, "close", otherwise=echo) as server:
        asked = spec((Query(wire("ns.example."), None),), server.port, "tcp")
        result = await asyncio.to_thread(run, asked, PATIENCE)
    assert result.sent == result.answered + result.lost == 200
    assert result.lost >= 1


async def test_the_harness_talks_json_with_a_process_of_its_own() -> None:
    async with ZoneServer(ZONE) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "perf.load"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        text, _ = await process.communicate(msgspec.json.encode(spec(RIGHT, server.port)))
    assert process.returncode == 0
    result = msgspec.json.decode(text, type=LoadResult)
    assert (result.sent, result.wrong) == (200, 0)


async def test_a_spec_that_makes_no_sense_ends_the_process_with_a_reason() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "perf.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, reason = await process.communicate(msgspec.json.encode(replace(spec(RIGHT, 1), rate=0.0)))
    assert process.returncode == 2
    assert (
        reason
        == b"perf.load: rate is 0.0; expected more than 0 and at most 10000000 queries a second\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": 0.0}, "seconds is 0.0; expected more than 0"),
        ({"rate": None}, "rate is None; expected more than 0"),
        ({"rate": 1e9}, "rate is 1000000000.0; expected .* at most 10000000"),
        ({"mode": "max", "outstanding": 0}, "outstanding is 0; expected 1 to 10000000"),
        ({"connections": 0}, "connections is 0; expected 1 to 4096"),
    ],
)
def test_a_spec_is_checked(change: dict[str, object], message: str) -> None:
    fields = msgspec.to_builtins(spec(RIGHT, 1)) | change
    with pytest.raises(ValueError, match=message):
        check(msgspec.convert(fields, LoadSpec))


def test_a_workload_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="a workload without queries"):
        run(spec((), 1))
