"""The real program before an upstream of ours: what goes out, what comes back, what is kept."""

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode

from kdns.net.listen import bind_pair
from kdns.testing.upstream import ScriptedUpstream
from kdns.wire import iana, name
from kdns.wire.message import Query, read_query
from kdns.wire.reply import Reply, RRset, write_reply
from tests.serving import Server, serving


def found(wire: bytes) -> bytes:
    """The upstream's answer to every question: one address, and a record of no known type."""
    query: Query = read_query(wire)
    records = (
        RRset(query.qname, iana.A, 300, (bytes((192, 0, 2, 1)),)),
        RRset(query.qname, 65400, 300, (b"\x01\x02\x03",)),
    )
    return write_reply(query, Reply(answer=records, aa=True), limit=1232)


@asynccontextmanager
async def before(
    folder: Path, upstream: ScriptedUpstream, directives: str = ""
) -> AsyncIterator[Server]:
    """The program, forwarding everything to the upstream."""
    text = f"{directives}\n forward . 127.0.0.1:{upstream.port}"
    async with running(folder, text) as server:
        yield server


@asynccontextmanager
async def running(folder: Path, text: str) -> AsyncIterator[Server]:
    """The program, with these directives for the root."""
    path = folder / "Corefile"
    path.write_text(f". {{\n bind 127.0.0.1\n {text}\n}}\n")
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, serving(path))
        await asyncio.to_thread(stack.close)


async def ask(server: Server, text: str = "a.example") -> dns.message.Message:
    query = dns.message.make_query(text, "A", use_edns=0)
    return await dns.asyncquery.udp(query, "127.0.0.1", port=server.port, timeout=20)


PORTS, PER_PORT = 10, 100
"""Clients that ask the same: so many, each with an ID of its own, from each of so many ports.
All questions of a port, or all replies to it, are fewer than what a socket's buffer holds."""


class Crowd(asyncio.DatagramProtocol):
    """The clients of one port."""

    def __init__(self) -> None:
        self.replies: dict[int, bytes] = {}
        self.all_answered = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def ask(self, text: str, first: int = 0, count: int = PER_PORT) -> None:
        assert self._transport is not None
        for number in range(first, first + count):
            self._transport.sendto(dns.message.make_query(text, "A", id=number).to_wire())

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.replies[int.from_bytes(data[:2], "big")] = data
        if len(self.replies) == PER_PORT:
            self.all_answered.set()


async def test_a_thousand_clients_that_ask_the_same_are_one_question(tmp_path: Path) -> None:
    # Without second tries, which would be asked for who waits long.
    async with ScriptedUpstream(otherwise="hold") as upstream:
        place = f"127.0.0.1:{upstream.port}"
        once = f"forward . {place} {{\n max_connect_attempts 1\n read_timeout 5s\n }}"
        async with running(tmp_path, f"cache\n {once}") as server:
            loop = asyncio.get_running_loop()
            opened = [
                await loop.create_datagram_endpoint(Crowd, remote_addr=("127.0.0.1", server.port))
                for _ in range(PORTS)
            ]
            held = []
            for number, (_, crowd) in enumerate(opened):
                crowd.ask("a.example")
                # When another question from the same port has come through, they have been read.
                crowd.ask(f"after-{number}.example", PER_PORT, 1)
                held += [await upstream.held() for _ in range(1 if number else 2)]
            (asked,) = [one for one in held if b"after" not in one.question.wire]
            asked.reply(found(asked.question.wire))
            for transport, crowd in opened:
                await crowd.all_answered.wait()
                transport.close()
    wires = [wire for _, crowd in opened for wire in crowd.replies.values()]
    names = [question.wire[12:24] for question in upstream.questions]
    assert names.count(name.from_text("a.example") + b"\0") == 1
    answers = [dns.message.from_wire(wire).answer[0].to_text() for wire in wires]
    assert answers == ["a.example. 300 IN A 192.0.2.1"] * (PORTS * PER_PORT)


async def test_records_of_no_known_type_come_back_unchanged(tmp_path: Path) -> None:
    async with ScriptedUpstream(otherwise=found) as upstream, before(tmp_path, upstream) as server:
        reply = await ask(server, "A.eXample")
    assert [str(rrset) for rrset in reply.answer] == [
        "A.eXample. 300 IN A 192.0.2.1",
        r"A.eXample. 300 IN TYPE65400 \# 3 010203",
    ]


async def test_what_is_kept_is_not_asked_again_and_is_counted(tmp_path: Path) -> None:
    probe, other = bind_pair("127.0.0.1")
    metrics = probe.getsockname()[1]
    probe.close()
    other.close()
    directives = f"cache 30\n prometheus 127.0.0.1:{metrics}"
    async with (
        ScriptedUpstream(otherwise=found) as upstream,
        before(tmp_path, upstream, directives) as server,
    ):
        replies = [await ask(server) for _ in range(9)]
        text = await asyncio.to_thread(_scrape, metrics)
        assert len(upstream.questions) == 1
    assert all(0 < reply.answer[0].ttl <= 30 for reply in replies)
    assert [bool(reply.flags & dns.flags.AA) for reply in replies] == [True] + [False] * 8
    assert re.search(r'coredns_cache_hits_total\{.*type="success".*\} 8\.0', text)
    assert re.search(r"coredns_cache_misses_total\{.*\} 1\.0", text)
    assert re.search(r'coredns_dns_responses_total\{plugin="cache".*\} 8\.0', text)
    assert re.search(r'coredns_forward_responses_total\{rcode="NOERROR".*\} 1\.0', text)


async def test_where_no_upstream_listens_it_is_servfail_with_the_reason(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        pass
    async with before(tmp_path, upstream) as server:
        reply = await ask(server)
    assert reply.rcode() == dns.rcode.SERVFAIL
    (option,) = reply.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == dns.edns.EDECode.NETWORK_ERROR


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
        return str(reply.read().decode())


def at_home(wire: bytes) -> bytes:
    """A resolver's answer that names this host, and the upstream's of an address elsewhere."""
    query: Query = read_query(wire)
    if query.key != name.from_text("ns.example"):
        return found(wire)
    home = (RRset(query.qname, iana.A, 300, (bytes((127, 0, 0, 1)),)),)
    return write_reply(query, Reply(answer=home if query.qtype == iana.A else ()), limit=512)


async def test_an_upstream_that_is_named_is_looked_up_and_asked(tmp_path: Path) -> None:
    async with ScriptedUpstream(otherwise=at_home) as upstream:
        place = f"127.0.0.1:{upstream.port}"
        text = f"forward . ns.example:{upstream.port} {{\n resolver {place}\n }}"
        async with running(tmp_path, text) as server:
            # It is looked up once it listens; until then it says that it knows nobody to ask.
            names = {(await upstream.asked()).wire[12:24] for _ in range(2)}
            reply = await ask(server)
            while reply.rcode() == dns.rcode.SERVFAIL:
                reply = await ask(server)
    assert names == {name.from_text("ns.example")}
    assert reply.answer[0].to_text() == "a.example. 300 IN A 192.0.2.1"
