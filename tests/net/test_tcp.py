"""Over TCP any number of questions share a connection, and nobody can hold it for nothing."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from kdns.net.listen import bind_tcp
from kdns.net.tcp import FAREWELL, TcpListener
from kdns.plugins.peer import Answerer, Peer
from kdns.plugins.pending import Pending
from kdns.testing.clock import ManualClock

Reply = bytes | None


def query(number: int = 0) -> bytes:
    """Twelve octets: as short as a message may be."""
    return struct.pack("!6H", number, 0, 0, 0, 0, 0)


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(m)) + m for m in messages)


def same(wire: bytes, peer: Peer) -> Reply:
    return wire


class Holding:
    """Answers nothing until the test does."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[bytes, Peer, Pending[Reply]]] = asyncio.Queue()

    def __call__(self, wire: bytes, peer: Peer) -> Pending[Reply]:
        pending: Pending[Reply] = Pending()
        self.asked.put_nowait((wire, peer, pending))
        return pending

    async def pending(self) -> Pending[Reply]:
        return (await self.asked.get())[2]


class Client:
    """One connection. `ended` is true when the server has closed it, however it did."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *messages: bytes) -> None:
        self.writer.write(framed(*messages))

    async def receive(self) -> bytes:
        (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        return await self.reader.readexactly(size)

    async def ask(self, wire: bytes) -> bytes:
        self.send(wire)
        return await self.receive()

    async def ended(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Service:
    """A listener, and clients of it."""

    def __init__(self, listener: TcpListener, host: str, port: int) -> None:
        self.listener = listener
        self.host = host
        self.port = port
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(self.host, self.port))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(
    answer: Answerer,
    *,
    clock: ManualClock | None = None,
    connections: int = 10,
    pipeline: int = 128,
    host: str = "127.0.0.1",
) -> AsyncIterator[Service]:
    sock = bind_tcp(host, 0)
    port = sock.getsockname()[1]
    listener = TcpListener(sock, answer, clock=clock, connections=connections, pipeline=pipeline)
    await listener.start()
    service = Service(listener, host, port)
    try:
        yield service
    finally:
        listener.abort()
        for client in service.clients:
            await client.close()
        await listener.close()


async def test_a_question_gets_its_reply_however_it_is_cut() -> None:
    async with serving(same) as service:
        client = await service.connect()
        stream = framed(query(1), query(2) + b"longer")
        for octet in stream:
            client.writer.write(bytes([octet]))
            await client.writer.drain()
        assert await client.receive() == query(1)
        assert await client.receive() == query(2) + b"longer"
        assert (service.listener.received, service.listener.sent) == (2, 2)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "::1"])
async def test_the_peer_and_the_address_asked_are_known(asked: str) -> None:
    holding = Holding()
    async with serving(holding, host="") as service:
        service.host = asked
        client = await service.connect()
        client.send(query())
        _, peer, pending = await holding.asked.get()
        pending.resolve(None)
        host, port = client.writer.get_extra_info("sockname")[:2]
        assert peer == Peer(host, port, "tcp", asked)


async def test_answers_go_out_as_they_are_ready() -> None:
    """RFC 7766, 6.2.1.1: replies need not come in the order of the questions."""
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(query(1), query(2), query(3))
        first, second, third = [await holding.pending() for _ in range(3)]
        for number, pending in ((3, third), (1, first), (2, second)):
            pending.resolve(query(number))
            assert await client.receive() == query(number)


async def test_a_thousand_questions_at_once_are_all_answered_in_order() -> None:
    async with serving(same) as service:
        client = await service.connect()
        client.send(*map(query, range(1000)))
        assert [await client.receive() for _ in range(1000)] == list(map(query, range(1000)))


async def test_no_more_than_the_bound_are_asked_before_one_is_answered() -> None:
    holding = Holding()
    async with serving(holding, pipeline=2) as service:
        client = await service.connect()
        client.send(*map(query, range(5)))
        waiting = [await holding.pending(), await holding.pending()]
        for number in range(5):
            for _ in range(3):
                await asyncio.sleep(0)
            assert holding.asked.empty()
            waiting.pop(0).resolve(query(number))
            assert await client.receive() == query(number)
            if number < 3:
                waiting.append(await holding.pending())


async def test_who_does_not_take_replies_is_not_asked_for_more_questions() -> None:
    async with serving(lambda wire, _: wire + bytes(60_000)) as service:
        client = await service.connect()
        client.send(*map(query, range(1000)))
        assert (await client.receive())[:12] == query(0)
        assert service.listener.received < 1000
        for number in range(1, 1000):
            assert (await client.receive())[:12] == query(number)


@pytest.mark.parametrize("length", [0, 11])
async def test_a_message_too_short_for_dns_closes_the_connection(length: int) -> None:
    async with serving(same) as service:
        client = await service.connect()
        assert await client.ask(query()) == query()
        client.send(bytes(length))
        assert await client.ended()


async def test_what_was_asked_before_a_message_too_short_is_answered_and_nothing_after_it() -> None:
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(query(1), query(2), b"", query(3))
        for number in (1, 2):
            (await holding.pending()).resolve(query(number))
        assert [await client.receive() for _ in range(2)] == [query(1), query(2)]
        assert await client.ended()
        assert holding.asked.empty()


async def test_who_half_closes_still_gets_pending_answers() -> None:
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(query(1), query(2))
        client.writer.write_eof()
        first, second = [await holding.pending() for _ in range(2)]
        await asyncio.sleep(0)
        first.resolve(query(1))
        second.resolve(query(2))
        assert [await client.receive() for _ in range(2)] == [query(1), query(2)]
        assert await client.ended()


async def test_a_connection_is_closed_ten_seconds_after_its_last_message(
    clock: ManualClock,
) -> None:
    """RFC 7766, 6.2.3."""
    async with serving(same, clock=clock) as service:
        client = await service.connect()
        await client.ask(query())
        clock.advance(9.0)
        await client.ask(query())
        clock.advance(9.0)
        assert await client.ask(query()) == query()
        clock.advance(10.0)
        assert await client.ended()
        assert clock.waiting == 0


async def test_a_silent_connection_is_closed_too(clock: ManualClock) -> None:
    async with serving(same, clock=clock) as service:
        client, other = await service.connect(), await service.connect()
        await other.ask(query())  # by now both are accepted
        clock.advance(10.0)
        assert await client.ended()
        assert await other.ended()


async def test_idle_time_does_not_run_while_an_answer_is_pending(clock: ManualClock) -> None:
    holding = Holding()
    async with serving(holding, clock=clock) as service:
        client = await service.connect()
        client.send(query())
        pending = await holding.pending()
        clock.advance(25.0)
        pending.resolve(query())
        assert await client.receive() == query()
        clock.advance(9.0)
        client.send(query())
        (await holding.pending()).resolve(query())
        assert await client.receive() == query()


async def test_an_answer_that_never_comes_does_not_hold_a_connection_for_ever(
    clock: ManualClock,
) -> None:
    holding = Holding()
    async with serving(holding, clock=clock) as service:
        client = await service.connect()
        client.send(query())
        pending = await holding.pending()
        clock.advance(60.0)
        assert await client.ended()
        pending.resolve(query())
        assert service.listener.dropped == 1


async def test_one_connection_too_many_takes_the_place_of_the_one_idle_longest() -> None:
    async with serving(same, connections=2) as service:
        first, second = await service.connect(), await service.connect()
        await second.ask(query())
        await first.ask(query())
        third = await service.connect()
        assert await third.ask(query()) == query()
        assert await second.ended()
        assert await first.ask(query()) == query()
        assert (service.listener.connections, service.listener.evicted) == (2, 1)


async def test_where_every_connection_waits_for_an_answer_the_newcomer_goes() -> None:
    holding = Holding()
    async with serving(holding, connections=1) as service:
        first = await service.connect()
        first.send(query())
        pending = await holding.pending()
        assert await (await service.connect()).ended()
        pending.resolve(query())
        assert await first.receive() == query()


async def test_an_answerer_that_raises_costs_only_its_question(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(wire: bytes, peer: Peer) -> Reply:
        if wire != query(9):
            raise RuntimeError("a bug")
        return wire

    async with serving(answer) as service:
        client = await service.connect()
        client.send(query(1), query(2), query(9))
        assert await client.receive() == query(9)
        assert service.listener.failures == 2
    assert [r.levelno for r in caplog.records if r.name == "kdns.net"] == [logging.ERROR]


async def test_a_reply_too_long_to_frame_is_dropped() -> None:
    def answer(wire: bytes, peer: Peer) -> Reply:
        return bytes(65_536) if wire == query(1) else wire

    async with serving(answer) as service:
        client = await service.connect()
        client.send(query(1), query(2))
        assert await client.receive() == query(2)
        assert service.listener.dropped == 1


async def test_a_client_that_is_gone_costs_only_its_replies() -> None:
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(query())
        pending = await holding.pending()
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        other = await service.connect()
        other.send(query())
        (await holding.pending()).resolve(query())
        assert await other.receive() == query()
        pending.resolve(query())


async def test_nothing_is_written_to_who_is_known_to_be_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event loop would say so for each reply."""
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(*map(query, range(10)))
        waiting = [await holding.pending() for _ in range(10)]
        (connection,) = service.listener._open
        assert connection._transport is not None
        connection._transport.abort()
        for pending in waiting:
            pending.resolve(query())
        assert await client.ended()
    assert caplog.messages == []


async def test_close_waits_for_pending_answers_and_ends_idle_connections_at_once() -> None:
    holding = Holding()
    async with serving(holding) as service:
        idle, busy = await service.connect(), await service.connect()
        busy.send(query())
        pending = await holding.pending()
        closing = asyncio.ensure_future(service.listener.close())
        assert await idle.ended()
        assert not closing.done()
        pending.resolve(query())
        assert await busy.receive() == query()
        assert await busy.ended()
        await closing
        with pytest.raises(ConnectionError):
            await service.connect()


async def test_close_answers_who_has_come_and_is_about_to_ask(clock: ManualClock) -> None:
    """A server that takes its place cannot: the connection is here."""
    async with serving(same, clock=clock) as service:
        client = await service.connect()
        closing = asyncio.ensure_future(service.listener.close())
        for _ in range(10):
            await asyncio.sleep(0)
        client.send(query())
        assert await client.receive() == query()
        clock.advance(FAREWELL)
        assert await client.ended()
        await closing


async def test_who_is_dismissed_is_answered_first_and_may_come_again() -> None:
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.send(query())
        pending = await holding.pending()
        service.listener.dismiss()
        pending.resolve(query())
        assert await client.receive() == query()
        assert await client.ended()
        again = await service.connect()
        again.send(query())
        (await holding.pending()).resolve(query())
        assert await again.receive() == query()


async def test_close_waits_no_longer_than_its_grace(clock: ManualClock) -> None:
    holding = Holding()
    async with serving(holding, clock=clock) as service:
        client = await service.connect()
        client.send(query())
        await holding.pending()
        closing = asyncio.ensure_future(service.listener.close(grace=2.0))
        await asyncio.sleep(0)
        clock.advance(2.0)
        await closing
        assert await client.ended()


async def test_a_listener_never_started_closes_its_socket() -> None:
    sock = bind_tcp("127.0.0.1", 0)
    await TcpListener(sock, same).close()
    assert sock.fileno() == -1
