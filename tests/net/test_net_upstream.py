"""Every question to an upstream ends once: in the reply to it, or in an error that says why not."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random

import pytest

from kdns.net.listen import bind_pair
from kdns.net.upstream import Upstream
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamExchange
from kdns.testing.clock import ManualClock
from kdns.testing.upstream import (
    ScriptedUpstream,
    Step,
    echo,
    servfail,
    silence,
    truncated,
    wrong_id,
    wrong_question,
)

Result = bytes | UpstreamError


def query(name: str = "www", ident: int = 0x1234) -> bytes:
    label = bytes([len(name)]) + name.encode()
    head = ident.to_bytes(2, "big") + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    return head + label + b"\x07Example\x00\x00\x01\x00\x01"


async def result(pending: Pending[Result]) -> Result:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    pending.when_done(future.set_result)
    return await future


async def reply(pending: Pending[Result]) -> bytes:
    got = await result(pending)
    assert isinstance(got, bytes), got
    return got


async def failure(pending: Pending[Result]) -> str:
    got = await result(pending)
    assert isinstance(got, UpstreamError)
    return got.failure


class Pair:
    """A scripted server, and our side of it with a clock that stands still."""

    def __init__(self, server: ScriptedUpstream, upstream: Upstream, clock: ManualClock) -> None:
        self.server = server
        self.upstream = upstream
        self.clock = clock

    def ask(self, wire: bytes, *, tcp: bool = False) -> Pending[Result]:
        exchange: UpstreamExchange = self.upstream
        return exchange.ask(wire, tcp=tcp, timeout=5.0)


def make(
    host: str, port: int, clock: ManualClock, sockets: int = 16, limit: int = 4096
) -> Upstream:
    return Upstream(
        host,
        port,
        loop=asyncio.get_running_loop(),
        rng=Random(1),
        clock=clock,
        sockets=sockets,
        limit=limit,
    )


@asynccontextmanager
async def pair(
    *script: Step, otherwise: Step | None = None, sockets: int = 16, limit: int = 4096
) -> AsyncIterator[Pair]:
    clock = ManualClock()
    async with ScriptedUpstream(*script, otherwise=otherwise) as server:
        upstream = make(server.host, server.port, clock, sockets, limit)
        try:
            yield Pair(server, upstream, clock)
        finally:
            await upstream.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_question_gets_its_reply_under_its_own_id(tcp: bool) -> None:
    async with pair(echo, servfail) as it:
        assert await reply(it.ask(query(), tcp=tcp)) == echo(query())
        assert await reply(it.ask(query(), tcp=tcp)) == servfail(query())
        sent = [q.wire for q in it.server.questions]
        assert [w[2:] for w in sent] == [query()[2:]] * 2
        assert len({w[:2] for w in sent} | {query()[:2]}) == 3
        assert {q.proto for q in it.server.questions} == {"tcp" if tcp else "udp"}
        assert (it.upstream.asked, it.upstream.answered, it.upstream.unanswered) == (2, 2, 0)
        assert it.clock.waiting <= 1


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_reply_to_another_question_is_ignored_and_counted(tcp: bool) -> None:
    async with pair("hold") as it:
        pending = it.ask(query(), tcp=tcp)
        held = await it.server.held()
        asked = held.question.wire
        for forged in (wrong_id(asked), wrong_question(asked), asked):
            held.reply(forged)
        held.reply(echo(asked))
        held.reply(echo(asked))
        assert await reply(pending) == echo(query())
        await reply(it.ask(query(), tcp=tcp))
        assert it.upstream.ignored >= 3


async def test_a_reply_in_other_letter_case_is_handed_on_as_it_came() -> None:
    async with pair(lambda wire: echo(wire).replace(b"Example", b"eXAMPLE")) as it:
        assert await reply(it.ask(query())) == echo(query()).replace(b"Example", b"eXAMPLE")


async def test_a_truncated_reply_over_udp_is_asked_again_over_tcp() -> None:
    async with pair(truncated, lambda wire: echo(wire) + b"whole") as it:
        assert await reply(it.ask(query())) == echo(query()) + b"whole"
        assert [q.proto for q in it.server.questions] == ["udp", "tcp"]


async def test_where_tcp_fails_the_truncated_reply_is_better_than_none() -> None:
    async with pair(truncated, "close", "close") as it:
        assert await reply(it.ask(query())) == truncated(query())
    async with pair(truncated, "hold") as it:
        pending = it.ask(query())
        await it.server.held()
        it.clock.advance(5.0)
        assert await reply(pending) == truncated(query())


@pytest.mark.parametrize("tcp", [False, True])
async def test_without_a_reply_in_time_the_question_fails_and_a_late_one_is_ignored(
    tcp: bool,
) -> None:
    async with pair("hold", sockets=1) as it:
        pending = it.ask(query(), tcp=tcp)
        held = await it.server.held()
        it.clock.advance(4.9)
        assert not pending.done
        it.clock.advance(0.1)
        told = await result(pending)
        assert isinstance(told, UpstreamError)
        assert told.failure == "timeout"
        assert str(told).endswith(": no reply in 5 s: i/o timeout")
        assert (it.upstream.failed, it.upstream.unanswered) == (1, 0)
        held.reply(echo(held.question.wire))
        assert await reply(it.ask(query("other"), tcp=tcp)) == echo(query("other"))
        if not tcp:
            assert it.upstream.ignored == 1


@pytest.mark.parametrize("tcp", [False, True])
async def test_where_nobody_listens_the_question_fails_at_once(
    tcp: bool, clock: ManualClock
) -> None:
    udp, tcp_sock = bind_pair("127.0.0.1")
    port = udp.getsockname()[1]
    udp.close()
    tcp_sock.close()
    upstream = make("127.0.0.1", port, clock)
    got = await result(upstream.ask(query(), tcp=tcp, timeout=5.0))
    assert isinstance(got, UpstreamError)
    assert got.failure == "refused"
    assert str(got).startswith(f"upstream 127.0.0.1:{port}: ")
    await upstream.close()
    assert clock.waiting == 0


async def test_more_questions_than_the_bound_fail_at_once() -> None:
    async with pair(otherwise=silence, limit=2) as it:
        first, second, third = it.ask(query()), it.ask(query()), it.ask(query())
        assert await failure(third) == "busy"
        assert not first.done
        assert not second.done


@pytest.mark.parametrize("wire", [b"", b"short", query()[:20], query()[:4] + b"\0\0" + query()[6:]])
async def test_what_is_no_question_is_not_sent(wire: bytes) -> None:
    async with pair() as it:
        assert await failure(it.ask(wire)) == "malformed"
        await reply(it.ask(query()))
        assert len(it.server.questions) == 1


async def test_pending_questions_of_a_socket_have_different_ids() -> None:
    async with pair(otherwise="hold", sockets=1) as it:
        waiting = [it.ask(query()) for _ in range(100)]
        held = [await it.server.held() for _ in range(100)]
        assert len({h.question.wire[:2] for h in held}) == 100
        assert {h.question.client_port for h in held} == {held[0].question.client_port}
        for one in reversed(held):
            one.reply(echo(one.question.wire))
        assert [await reply(w) for w in waiting] == [echo(query())] * 100


async def test_questions_go_out_from_many_ports_and_after_a_while_from_others() -> None:
    async with pair() as it:
        for _ in range(100):
            await reply(it.ask(query()))
        before = {q.client_port for q in it.server.questions}
        assert 10 <= len(before) <= 16
        it.clock.advance(60.0)
        it.server.questions.clear()
        for _ in range(100):
            await reply(it.ask(query()))
        after = {q.client_port for q in it.server.questions}
        assert len(after - before) >= 8


@contextmanager
def no_more_files() -> Iterator[None]:
    """As when others in this process have all that there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("sockets", [1, 16])
async def test_without_files_for_another_port_the_old_ones_go_on(sockets: int) -> None:
    async with pair(sockets=sockets) as it:
        await reply(it.ask(query()))
        before = {q.client_port for q in it.server.questions}
        it.clock.advance(60.0)
        with no_more_files():
            for _ in range(10):
                await reply(it.ask(query()))
        assert {q.client_port for q in it.server.questions} == before


@pytest.mark.parametrize("tcp", [False, True])
async def test_that_we_have_no_files_is_not_the_upstreams_fault(tcp: bool) -> None:
    async with pair() as it:
        with no_more_files():
            got = await result(it.ask(query(), tcp=tcp))
    assert isinstance(got, UpstreamError)
    assert (got.failure, "too many open files" in str(got)) == ("busy", True)


async def test_a_question_pending_on_a_port_that_was_left_still_gets_its_reply() -> None:
    async with pair("hold", sockets=1) as it:
        it.clock.advance(1.0)
        pending = it.upstream.ask(query(), tcp=False, timeout=100.0)
        held = await it.server.held()
        it.clock.advance(60.0)
        await reply(it.ask(query("other")))
        assert it.server.questions[1].client_port != held.question.client_port
        held.reply(echo(held.question.wire))
        assert await reply(pending) == echo(query())


async def test_questions_over_tcp_share_a_connection_whatever_the_order_of_replies() -> None:
    async with pair("hold", "hold") as it:
        first, second = it.ask(query("one"), tcp=True), it.ask(query("two"), tcp=True)
        third = it.ask(query("three"), tcp=True)
        assert await reply(third) == echo(query("three"))
        held = [await it.server.held() for _ in range(2)]
        for one in reversed(held):
            one.reply(echo(one.question.wire))
        assert await reply(first) == echo(query("one"))
        assert await reply(second) == echo(query("two"))
        assert it.server.connections == 1


async def test_many_questions_over_tcp_open_few_connections() -> None:
    async with pair(otherwise="hold") as it:
        waiting = [it.ask(query(), tcp=True) for _ in range(1000)]
        for _ in range(1000):
            held = await it.server.held()
            held.reply(echo(held.question.wire))
        assert [await reply(w) for w in waiting] == [echo(query())] * 1000
        assert 1 < it.server.connections <= 8


async def test_a_lost_connection_has_its_questions_asked_once_more() -> None:
    async with pair("close") as it:
        assert await reply(it.ask(query(), tcp=True)) == echo(query())
        assert it.server.connections == 2
    async with pair("close", "close") as it:
        assert await failure(it.ask(query(), tcp=True)) == "lost"
        assert it.server.connections == 2


async def test_a_message_too_short_on_a_stream_loses_the_connection() -> None:
    async with pair(lambda _: b"nonsense") as it:
        assert await reply(it.ask(query(), tcp=True)) == echo(query())
        assert it.server.connections == 2


async def test_an_idle_connection_is_closed_and_the_next_question_opens_another() -> None:
    async with pair() as it:
        await reply(it.ask(query(), tcp=True))
        it.clock.advance(9.0)
        await reply(it.ask(query(), tcp=True))
        assert it.server.connections == 1
        it.clock.advance(20.0)
        await reply(it.ask(query(), tcp=True))
        assert it.server.connections == 2


async def test_a_connection_that_left_a_question_unanswered_gets_no_more() -> None:
    async with pair("hold") as it:
        pending = it.ask(query(), tcp=True)
        await it.server.held()
        it.clock.advance(5.0)
        assert await failure(pending) == "timeout"
        await reply(it.ask(query(), tcp=True))
        assert it.server.connections == 2


@pytest.mark.parametrize("tcp", [False, True])
async def test_close_fails_what_is_pending_and_everything_after(tcp: bool) -> None:
    async with pair(otherwise=silence) as it:
        pending = it.ask(query(), tcp=tcp)
        await it.server.asked()
        connecting = it.ask(query(), tcp=True)
        await it.upstream.close()
        assert await failure(pending) == "closed"
        assert await failure(connecting) == "closed"
        assert await failure(it.ask(query())) == "closed"
        assert it.clock.waiting == 0


async def test_close_before_the_first_step_of_connecting() -> None:
    async with pair() as it:
        pending = it.ask(query(), tcp=True)
        await it.upstream.close()
        assert await failure(pending) == "closed"


async def test_who_gets_a_reply_may_ask_again_or_close_at_once() -> None:
    async with pair(sockets=1) as it:
        again: Pending[Result] = it.ask(query()).then(lambda _: it.ask(query("again")))
        assert await reply(again) == echo(query("again"))
        closing: list[asyncio.Future[None]] = []
        done = asyncio.Event()

        def close(_: Result) -> None:
            closing.append(asyncio.ensure_future(it.upstream.close()))
            done.set()

        it.ask(query()).when_done(close)
        await done.wait()
        await closing[0]


@pytest.mark.usefixtures("ipv6")
async def test_an_upstream_may_have_an_ipv6_address(clock: ManualClock) -> None:
    async with ScriptedUpstream(truncated, host="::1") as server:
        upstream = make("::1", server.port, clock)
        assert await reply(upstream.ask(query(), tcp=False, timeout=1.0)) == echo(query())
        await upstream.close()
        assert [q.proto for q in server.questions] == ["udp", "tcp"]


def test_a_name_is_no_upstream() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(ValueError, match="expected an IPv4 or IPv6 address"):
        Upstream("dns.example", 53, loop=loop, rng=Random(1))
    loop.close()


async def test_questions_over_what_is_open_and_what_is_opened_are_counted() -> None:
    async with pair(otherwise=echo, sockets=1) as it:
        for tcp in (False, True):
            for _ in range(3):
                await reply(it.ask(query(), tcp=tcp))
        assert it.upstream.reuse() == [("udp", 2, 1), ("tcp", 2, 1)]
