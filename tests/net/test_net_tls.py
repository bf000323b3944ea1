"""Over TLS questions are answered as over TCP, and nobody can hold a connection by a handshake."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.net.files import FEWEST
from kdns.net.listen import bind_tcp
from kdns.net.tcp import TcpListener
from kdns.net.tls import HANDSHAKE, MAX_CONNECTIONS, ROOM, Encrypted, Outcome, Turns, for_memory
from kdns.plugins.peer import Answerer, Peer
from kdns.testing.clock import ManualClock
from tests.certificates import Certificates
from tests.net.test_tcp import Client, Holding, Service, framed, query, same


class Showing:
    """Implements encryption.Certificates."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context

    def context(self) -> ssl.SSLContext | None:
        return self._context


class Secret(Service):
    """A listener, and clients of it that speak TLS."""

    def __init__(self, listener: TcpListener, port: int, context: ssl.SSLContext) -> None:
        super().__init__(listener, "127.0.0.1", port)
        self.context = context

    async def shake_hands(self, context: ssl.SSLContext | None = None) -> Client:
        client = Client(
            *await asyncio.open_connection(self.host, self.port, ssl=context or self.context)
        )
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(
    certificates: Certificates,
    answer: Answerer = same,
    *,
    clock: ManualClock | None = None,
    connections: int = 10,
    pipeline: int = 128,
    ask_client: bool = False,
) -> AsyncIterator[Secret]:
    sock = bind_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    listener = TcpListener(sock, answer, clock=clock, connections=connections, pipeline=pipeline)
    listener.certificates = Showing(certificates.server_context(ask_client=ask_client))
    await listener.start()
    service = Secret(listener, port, certificates.client_context())
    try:
        yield service
    finally:
        listener.abort()
        for client in service.clients:
            client.writer.transport.abort()
            with suppress(ConnectionError, ssl.SSLError):
                await client.writer.wait_closed()
        await listener.close()


# As over TCP.


async def test_questions_are_answered_and_who_asks_is_known(certificates: Certificates) -> None:
    holding = Holding()
    async with serving(certificates, holding) as service:
        client = await service.shake_hands()
        client.send(query(1))
        wire, peer, pending = await holding.asked.get()
        host, port = client.writer.get_extra_info("sockname")
        assert (wire, peer) == (query(1), Peer(host, port, "tcp", "127.0.0.1", encrypted=True))
        pending.resolve(query(1))
        assert await client.receive() == query(1)
        assert service.listener.handshakes == {"done": 1}


async def test_answers_go_out_as_they_are_ready(certificates: Certificates) -> None:
    """RFC 7858, section 3.3, by RFC 7766: pipelined, and in any order."""
    holding = Holding()
    async with serving(certificates, holding) as service:
        client = await service.shake_hands()
        client.send(query(1), query(2), query(3))
        first, second, third = [await holding.pending() for _ in range(3)]
        for number, pending in ((3, third), (1, first), (2, second)):
            pending.resolve(query(number))
            assert await client.receive() == query(number)


async def test_no_more_than_the_bound_are_asked_before_one_is_answered(
    certificates: Certificates,
) -> None:
    holding = Holding()
    async with serving(certificates, holding, pipeline=2) as service:
        client = await service.shake_hands()
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


async def test_who_does_not_take_replies_is_not_asked_for_more_questions(
    certificates: Certificates,
) -> None:
    async with serving(certificates, lambda wire, _: wire + bytes(60_000)) as service:
        client = await service.shake_hands()
        client.send(*map(query, range(1000)))
        assert (await client.receive())[:12] == query(0)
        assert service.listener.received < 1000
        for number in range(1, 1000):
            assert (await client.receive())[:12] == query(number)


async def test_a_connection_is_closed_ten_seconds_after_its_last_message(
    certificates: Certificates, clock: ManualClock
) -> None:
    async with serving(certificates, clock=clock) as service:
        client = await service.shake_hands()
        await client.ask(query())
        clock.advance(9.0)
        await client.ask(query())
        clock.advance(9.0)
        assert await client.ask(query()) == query()
        clock.advance(10.0)
        assert await client.ended()
        assert clock.waiting == 0


async def test_close_waits_for_pending_answers(certificates: Certificates) -> None:
    holding = Holding()
    async with serving(certificates, holding) as service:
        client = await service.shake_hands()
        client.send(query())
        pending = await holding.pending()
        closing = asyncio.ensure_future(service.listener.close())
        for _ in range(10):
            await asyncio.sleep(0)
        pending.resolve(query())
        assert await client.receive() == query()
        assert await client.ended()
        await closing


# Handshakes.


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a piece"])
async def test_who_does_not_finish_the_handshake_goes_after_the_bound(
    certificates: Certificates, clock: ManualClock, sent: bytes
) -> None:
    async with serving(certificates, clock=clock) as service:
        stalled, other = await service.connect(), await service.shake_hands()
        stalled.writer.write(sent)
        clock.advance(HANDSHAKE - 1.0)
        assert await other.ask(query()) == query()
        assert service.listener.connections == 2
        clock.advance(1.0)
        assert await stalled.ended()
        assert await other.ask(query()) == query()
        assert service.listener.handshakes == {"done": 1, "late": 1}


async def test_the_bound_is_as_told(certificates: Certificates, clock: ManualClock) -> None:
    async with serving(certificates, clock=clock) as service:
        service.listener.handshake = 2.0
        stalled, other = await service.connect(), await service.shake_hands()
        await other.ask(query())  # by now its handshake is over
        clock.advance(2.0)
        assert await stalled.ended()


async def test_a_connection_without_its_handshake_counts_and_goes_for_who_comes(
    certificates: Certificates,
) -> None:
    async with serving(certificates, connections=2) as service:
        stalled = [await service.connect() for _ in range(2)]
        client = await service.shake_hands()
        assert await client.ask(query()) == query()
        assert await stalled[0].ended()
        assert (service.listener.connections, service.listener.evicted) == (2, 1)


@pytest.mark.parametrize(
    "garbage",
    [framed(query()), b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05hello"],
    ids=["plain DNS", "HTTP", "zeros", "a record"],
)
async def test_what_is_no_handshake_closes_the_connection_and_costs_nobody_else(
    certificates: Certificates, garbage: bytes
) -> None:
    async with serving(certificates) as service:
        other, client = await service.shake_hands(), await service.connect()
        client.writer.write(garbage)
        await client.reader.read()  # an alert, and the end
        assert await other.ask(query()) == query()
        assert service.listener.handshakes == {"done": 1, "failed": 1}
        assert service.listener.received == 1


async def test_without_a_certificate_nobody_is_answered(certificates: Certificates) -> None:
    async with serving(certificates) as service:
        service.listener.certificates = Showing(None)
        client = await service.connect()
        client.send(query())
        assert await client.ended()
        assert (service.listener.received, service.listener.connections) == (0, 0)


async def test_who_leaves_in_the_handshake_is_counted(certificates: Certificates) -> None:
    async with serving(certificates) as service:
        client = await service.connect()
        client.writer.write_eof()
        assert await client.ended()
        assert service.listener.handshakes == {"failed": 1}
        assert service.listener.connections == 0


async def test_who_has_no_certificate_where_one_is_demanded_is_not_answered(
    certificates: Certificates,
) -> None:
    async with serving(certificates, ask_client=True) as service:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            # In TLS 1.3 the client's part of the handshake ends before the server has judged it.
            await (await service.shake_hands()).ask(query())
        context = certificates.client_context()
        context.load_cert_chain(certificates.new_cert, certificates.new_key)
        assert await (await service.shake_hands(context)).ask(query()) == query()
        assert service.listener.received == 1


@pytest.mark.parametrize(
    ("octets", "listeners", "each"),
    [
        (None, 1, MAX_CONNECTIONS),
        (None, 2, MAX_CONNECTIONS // 2),
        (1 << 40, 0, MAX_CONNECTIONS),
        (4 * 100 * ROOM, 1, 100),
        (4 * 100 * ROOM, 2, 50),
        (0, 1, FEWEST),
    ],
)
def test_all_connections_take_a_quarter_of_the_memory_at_most(
    octets: int | None, listeners: int, each: int
) -> None:
    assert for_memory(octets, listeners) == each


# In memory: what a client of the event loop's cannot be brought to do.


class Below(asyncio.Transport):
    """The TCP connection, as the server sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.held: list[bool] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 4242), "sockname": ("192.0.2.9", 853)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert not self.closed, "uvloop refuses this"
        self.held.append(True)

    def resume_reading(self) -> None:
        assert not self.closed, "uvloop refuses this"
        self.held.append(False)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close


class Inner(asyncio.Protocol):
    """Who answers: everything that it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = 0
        self.lost = 0
        self.full: list[bool] = []

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def eof_received(self) -> bool:
        self.ended += 1
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1

    def pause_writing(self) -> None:
        self.full.append(True)

    def resume_writing(self) -> None:
        self.full.append(False)


class Wire:
    """A client and the server's side of one connection, and what goes over between them."""

    def __init__(self, certificates: Certificates, *, older: bool = False) -> None:
        self.clock = ManualClock()
        self.below, self.inner = Below(), Inner()
        self.outcomes: list[Outcome] = []
        self.waiting: list[Callable[[], object]] | None = None
        context = certificates.server_context()
        told = self.outcomes.append
        self.server = Encrypted(self.inner, context, self.clock, HANDSHAKE, self.turn, told)
        self.server.connection_made(self.below)
        client = certificates.client_context()
        if older:
            client.maximum_version = ssl.TLSVersion.TLSv1_2
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self._incoming, self._outgoing, server_hostname="kubernetes")

    def turn(self, act: Callable[[], object]) -> None:
        """At once, mostly."""
        if self.waiting is None:
            act()
        else:
            self.waiting.append(act)

    def carry(self) -> None:
        """What each has sent to the other."""
        if self._outgoing.pending:
            self.server.data_received(self._outgoing.read())
        self._incoming.write(bytes(self.below.written))
        self.below.written.clear()

    def shake_hands(self) -> "Wire":
        while self.outcomes != ["done"]:
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.carry()
        return self

    def sent(self) -> bytes:
        """All that the client has to read; the rest raises ssl.SSLWantReadError."""
        self.carry()
        return self.tls.read(1 << 20)


both = pytest.mark.parametrize("older", [False, True], ids=["1.3", "1.2"])


async def test_handshakes_are_done_one_in_a_turn_of_the_loop() -> None:
    """Whoever asks something waits for one of them, and not for all."""
    done: list[int] = []
    turns = Turns(asyncio.get_running_loop())
    for number in range(3):
        turns(partial(done.append, number))
    for expected in ([], [0], [0, 1], [0, 1, 2], [0, 1, 2]):
        assert done == expected
        await asyncio.sleep(0)
    turns(partial(done.append, 3))
    await asyncio.sleep(0)
    assert done == [0, 1, 2, 3]


async def test_who_waits_for_its_turn_cannot_send_more_meanwhile(
    certificates: Certificates,
) -> None:
    wire = Wire(certificates)
    wire.waiting = []
    with pytest.raises(ssl.SSLWantReadError):
        wire.tls.do_handshake()
    wire.carry()
    assert (wire.below.held, len(wire.below.written)) == ([True], 0)
    wire.server.resume_reading()
    (act,) = wire.waiting
    act()
    assert wire.below.held == [True, False]
    assert wire.below.written


async def test_who_is_about_to_be_lost_is_neither_held_back_nor_let_come(
    certificates: Certificates,
) -> None:
    wire = Wire(certificates)
    wire.waiting = []
    with pytest.raises(ssl.SSLWantReadError):
        wire.tls.do_handshake()
    wire.carry()
    wire.below.closed = True
    (act,) = wire.waiting
    act()
    wire.server.pause_reading()
    wire.server.resume_reading()
    assert wire.below.held == [True]


async def test_who_is_gone_when_its_turn_comes_costs_nothing(certificates: Certificates) -> None:
    wire = Wire(certificates)
    wire.waiting = []
    with pytest.raises(ssl.SSLWantReadError):
        wire.tls.do_handshake()
    wire.carry()
    wire.server.connection_lost(None)
    (act,) = wire.waiting
    act()
    assert (wire.outcomes, wire.inner.lost) == (["failed"], 1)


@both
async def test_octets_are_the_same_on_both_sides(certificates: Certificates, older: bool) -> None:
    wire = Wire(certificates, older=older).shake_hands()
    wire.tls.write(b"question")
    wire.carry()
    assert wire.inner.heard == b"question"
    wire.server.write(bytes(40_000))
    got = b""
    while len(got) < 40_000:
        got += wire.sent()
    assert got == bytes(40_000)


@both
async def test_who_says_that_it_asks_no_more_still_gets_its_answers(
    certificates: Certificates, older: bool
) -> None:
    wire = Wire(certificates, older=older).shake_hands()
    wire.tls.write(b"question")
    with suppress(ssl.SSLWantReadError):
        wire.tls.unwrap()
    wire.carry()
    assert (wire.inner.heard, wire.inner.ended) == (b"question", 1)
    wire.server.write(b"answer")
    assert not wire.below.closed
    assert wire.below.written
    wire.server.eof_received()
    assert wire.inner.ended == 1


async def test_an_end_without_close_notify_is_an_end(certificates: Certificates) -> None:
    wire = Wire(certificates).shake_hands()
    assert wire.server.eof_received()
    assert wire.inner.ended == 1
    wire.server.write(b"answer")
    assert wire.sent() == b"answer"


async def test_the_end_is_told_with_a_close_notify(certificates: Certificates) -> None:
    """RFC 8446, section 6.1."""
    wire = Wire(certificates).shake_hands()
    wire.server.write(b"answer")
    wire.server.close()
    wire.server.close()
    assert wire.below.closed
    assert (wire.sent(), wire.sent()) == (b"answer", b"")


async def test_what_is_not_wanted_yet_waits_and_comes_when_it_is(
    certificates: Certificates,
) -> None:
    wire = Wire(certificates).shake_hands()
    wire.server.pause_reading()
    wire.tls.write(b"question")
    wire.carry()
    assert wire.server.eof_received()
    assert (wire.inner.heard, wire.inner.ended, wire.below.held[-1]) == (b"", 0, True)
    wire.server.resume_reading()
    await asyncio.sleep(0)
    assert (wire.inner.heard, wire.inner.ended, wire.below.held[-1]) == (b"question", 1, False)


async def test_who_answers_hears_when_replies_are_not_taken(certificates: Certificates) -> None:
    wire = Wire(certificates).shake_hands()
    wire.server.pause_writing()
    wire.server.resume_writing()
    assert wire.inner.full == [True, False]


async def test_a_record_that_is_damaged_ends_the_connection(certificates: Certificates) -> None:
    wire = Wire(certificates).shake_hands()
    wire.server.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert wire.below.closed
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        wire.sent()
    wire.server.write(b"answer")
    wire.server.data_received(b"more")
    assert wire.inner.heard == b""


async def test_who_cannot_be_written_to_any_more_is_cut_off(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def write(self, data: memoryview) -> int:
            raise ssl.SSLError(1, "protocol is shutdown")

    wire = Wire(certificates).shake_hands()
    monkeypatch.setattr(wire.server, "_tls", Broken())
    wire.server.write(b"answer")
    assert wire.below.closed


async def test_after_the_end_nothing_happens_any_more(certificates: Certificates) -> None:
    wire = Wire(certificates).shake_hands()
    wire.server.resume_reading()
    wire.server.connection_lost(None)
    await asyncio.sleep(0)
    wire.server.write(b"answer")
    for act in (wire.server.close, wire.server.abort, wire.server.pause_reading):
        act()
    wire.server.resume_reading()
    assert wire.server.is_closing()
    assert wire.server.get_write_buffer_size() == 0
    assert wire.server.get_extra_info("peername") is None
    assert (wire.inner.lost, wire.outcomes, wire.clock.waiting) == (1, ["done"], 0)


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_any_octets_end_the_connection_or_wait_for_more(
    certificates: Certificates, pieces: list[bytes], begun: bool
) -> None:
    async def receive() -> None:
        wire = Wire(certificates)
        if begun:
            with suppress(ssl.SSLWantReadError):
                wire.tls.do_handshake()
            wire.carry()
        for piece in pieces:
            if not wire.below.closed:
                wire.server.data_received(piece)
        wire.clock.advance(HANDSHAKE)
        wire.server.connection_lost(None)
        assert wire.below.closed
        assert (len(wire.outcomes), wire.inner.heard, wire.inner.lost) == (1, b"", 1)

    asyncio.run(receive())
