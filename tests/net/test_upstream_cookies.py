"""DNS cookies towards upstreams: RFC 7873, section 5, RFC 9018, and RFC 6891, section 7."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from kdns.net.listen import bind_udp
from kdns.net.upstream import Upstream
from kdns.net.upstream_cookies import LOST, RETRY
from kdns.net.upstreams import make_upstream
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamSettings
from kdns.testing.clock import ManualClock
from kdns.testing.upstream import ScriptedUpstream, Step, silence
from kdns.wire import iana, name
from kdns.wire.message import Edns, Query, read_query, read_response
from kdns.wire.reply import Reply, RRset, opt_record, write_reply

Result = bytes | UpstreamError
SERVER = b"S" * 16
TRUE, FORGED = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 66))


def question(*, edns: bool) -> bytes:
    opt = opt_record() if edns else b""
    head = bytes.fromhex("123401000001000000000000")
    return head[:11] + bytes((edns,)) + name.from_text("a.example") + b"\0\1\0\1" + opt


def cookie_of(wire: bytes) -> bytes:
    """The whole cookie of a query; empty for none."""
    edns = read_query(wire).edns
    return dict(edns.options).get(iana.EDNS_COOKIE, b"") if edns else b""


def reply(wire: bytes, *cookie: bytes, rcode: int = 0, address: bytes = TRUE) -> bytes:
    query = read_query(wire)
    rrset = RRset(query.qname, iana.A, 60, (address,))
    said = Reply(rcode, () if rcode else (rrset,))
    said.options = tuple((iana.EDNS_COOKIE, value) for value in cookie)
    return write_reply(query, said, limit=4096)


def giving(wire: bytes) -> bytes:
    """A server that takes part."""
    cookie = cookie_of(wire)
    return reply(wire, cookie[:8] + SERVER) if cookie else reply(wire)


def demanding(wire: bytes) -> bytes:
    """One that wants its own part back (RFC 7873, section 5.2.3)."""
    cookie = cookie_of(wire)
    if cookie[8:] == SERVER or not cookie:
        return giving(wire)
    return reply(wire, cookie[:8] + SERVER, rcode=23)


def forged(wire: bytes) -> bytes:
    """By somebody who has guessed port and ID, but has not seen the cookie."""
    return reply(wire, bytes(8) + SERVER, address=FORGED)


def forged_without(wire: bytes) -> bytes:
    query = read_query(wire)
    bare = Query(query.qname, query.qtype, id=query.id)
    return write_reply(bare, Reply(answer=(RRset(query.qname, iana.A, 60, (FORGED,)),)), limit=512)


def old(wire: bytes) -> bytes:
    """A server that knows no EDNS."""
    query = read_query(wire)
    if query.edns is None:
        return reply(wire)
    return write_reply(Query(query.qname, query.qtype, id=query.id), Reply(1), limit=512)


class Asking:
    def __init__(self, server: ScriptedUpstream) -> None:
        self.server = server
        self.clock = ManualClock()
        self.upstream = Upstream(
            server.host,
            server.port,
            loop=asyncio.get_running_loop(),
            rng=Random(1),
            clock=self.clock,
            cookies=True,
        )

    async def ask(self, *, edns: bool = False) -> Result:
        got: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.begin(edns=edns).when_done(got.set_result)
        return await got

    def begin(self, *, edns: bool = False) -> Pending[Result]:
        return self.upstream.ask(question(edns=edns), tcp=False, timeout=5.0)

    async def address(self, *, edns: bool = False) -> bytes:
        wire = await self.ask(edns=edns)
        assert isinstance(wire, bytes)
        return read_response(wire).answer[0].rdata

    def cookies(self) -> list[tuple[str, bytes]]:
        """Over what each question came, and its cookie."""
        return [(q.proto, cookie_of(q.wire)) for q in self.server.questions]


@asynccontextmanager
async def asking(*script: Step, otherwise: Step = giving) -> AsyncIterator[Asking]:
    async with ScriptedUpstream(*script, otherwise=otherwise) as server:
        made = Asking(server)
        try:
            yield made
        finally:
            await made.upstream.close()


@pytest.mark.parametrize("edns", [False, True])
async def test_a_server_that_gives_cookies_gets_them_back(edns: bool) -> None:
    """RFC 7873, sections 5.1 and 5.3."""
    async with asking() as made:
        assert [await made.address(edns=edns) for _ in range(3)] == [TRUE] * 3
        ours = made.cookies()[0][1]
        assert len(ours) == 8
        assert made.cookies()[1:] == [("udp", ours + SERVER)] * 2


async def test_our_own_edns_is_no_larger_than_what_forward_says() -> None:
    async with asking() as made:
        await made.ask()
        edns = read_query(made.server.questions[0].wire).edns
        assert edns == Edns(1232, 0, False, ((iana.EDNS_COOKIE, made.cookies()[0][1]),))


@pytest.mark.parametrize("forgery", [forged, forged_without])
async def test_a_reply_without_our_cookie_is_not_believed_and_tcp_is_asked(forgery: Step) -> None:
    """RFC 7873, section 5.3; and who answers over TCP has seen the question."""
    async with asking(giving, forgery) as made:
        assert [await made.address() for _ in range(2)] == [TRUE] * 2
        assert made.cookies()[2] == ("tcp", b"")


async def test_a_server_that_stops_giving_them_is_believed_again() -> None:
    """It was replaced, say; each of its replies would else be asked for twice."""
    async with asking(giving, otherwise=reply) as made:
        for _ in range(LOST + 3):
            assert await made.address() == TRUE
        assert [proto for proto, _ in made.cookies()] == (
            ["udp"] + ["udp", "tcp"] * LOST + ["udp"] * 2
        )


async def test_a_server_that_gives_none_is_asked_without_for_a_time() -> None:
    async with asking(otherwise=reply) as made:
        for _ in range(3):
            await made.ask()
        made.clock.advance(RETRY)
        await made.ask()
        assert [bool(cookie) for _, cookie in made.cookies()] == [True, False, False, True]


async def test_only_one_question_is_a_trial() -> None:
    async with asking("hold", otherwise=reply) as made:
        first = made.begin()
        held = await made.server.held()
        await made.ask()
        held.reply(reply(held.question.wire))
        got: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        first.when_done(got.set_result)
        await got
        assert [bool(cookie) for _, cookie in made.cookies()] == [True, False]


async def test_a_server_that_drops_what_has_a_cookie_is_asked_without() -> None:
    async with asking(silence, otherwise=reply) as made:
        got: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        made.begin().when_done(got.set_result)
        await made.server.asked()
        made.clock.advance(5.0)
        assert isinstance(await got, UpstreamError)
        assert await made.address() == TRUE
        assert made.cookies()[1] == ("udp", b"")


async def test_a_server_that_knows_no_edns_is_asked_without() -> None:
    """RFC 6891, section 7."""
    async with asking(otherwise=old) as made:
        assert await made.address() == TRUE
        assert [read_query(q.wire).edns is None for q in made.server.questions] == [False, True]


async def test_who_speaks_edns_itself_is_told_that_the_server_does_not() -> None:
    async with asking(otherwise=old) as made:
        wire = await made.ask(edns=True)
        assert isinstance(wire, bytes)
        assert read_response(wire).rcode == 1


async def test_a_server_that_wants_its_cookie_gets_it() -> None:
    """RFC 7873, section 5.3: BADCOOKIE brings the cookie to come back with."""
    async with asking(otherwise=demanding) as made:
        assert await made.address() == TRUE
        assert [len(cookie) for _, cookie in made.cookies()] == [8, 8 + len(SERVER)]


async def test_one_that_is_never_content_is_asked_over_tcp() -> None:
    """RFC 7873, section 5.3."""

    def never(wire: bytes) -> bytes:
        cookie = cookie_of(wire)
        return reply(wire, cookie[:8] + SERVER, rcode=23) if cookie else reply(wire)

    async with asking(otherwise=never) as made:
        assert await made.address() == TRUE
        assert [proto for proto, _ in made.cookies()] == ["udp", "udp", "tcp"]


async def test_one_that_only_echoes_has_no_part_of_its_own() -> None:
    """As CoreDNS does with what it does not know: it proves all the same that it has seen it."""
    async with asking(otherwise=lambda wire: reply(wire, cookie_of(wire))) as made:
        assert [await made.address() for _ in range(3)] == [TRUE] * 3
        assert [len(cookie) for _, cookie in made.cookies()] == [8] * 3


@pytest.mark.parametrize("cookies", [True, False])
async def test_they_are_sent_unless_the_settings_say_otherwise(cookies: bool) -> None:
    async with ScriptedUpstream(otherwise=giving) as server:
        given = UpstreamSettings(server.host, server.port, cookies=cookies)
        upstream = make_upstream(given, loop=asyncio.get_running_loop(), rng=Random(1))
        got: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        upstream.ask(question(edns=False), tcp=False, timeout=10.0).when_done(got.set_result)
        await got
        assert bool(cookie_of(server.questions[0].wire)) is cookies
        await upstream.close()


async def test_a_question_with_options_of_its_own_is_left_as_it_is() -> None:
    async with asking() as made:
        opt = opt_record(options=((3, b""),))
        wire = question(edns=True)[:-11] + opt
        got: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        made.upstream.ask(wire, tcp=False, timeout=5.0).when_done(got.set_result)
        await got
        assert made.server.questions[0].wire[2:] == wire[2:]


async def test_a_question_with_options_of_its_own_is_no_trial() -> None:
    async with asking() as made:
        wire = question(edns=True)[:-11] + opt_record(options=((3, b""),))
        made.upstream.ask(wire, tcp=False, timeout=5.0)
        await made.server.asked()
        await made.ask()
        assert len(made.cookies()[1][1]) == 8


async def test_a_question_that_did_not_reach_the_server_is_no_trial() -> None:
    """It was not up yet, say."""
    async with asking() as made:
        loop = asyncio.get_running_loop()
        port = int(made.server.port)
        await made.server.__aexit__(None, None, None)
        refused = await made.ask()
        assert isinstance(refused, UpstreamError)
        with bind_udp(made.server.host, port) as sock:
            made.begin()
            assert cookie_of(await loop.sock_recv(sock, 512))
