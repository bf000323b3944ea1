"""Over UDP each question gets its reply from the address that was asked, whatever happens."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import pytest

from kdns.net.listen import bind_udp
from kdns.net.udp import UdpListener
from kdns.plugins.peer import Answerer, Peer
from kdns.plugins.pending import Pending
from kdns.testing.clock import ManualClock

Reply = bytes | None


def upper(wire: bytes, peer: Peer) -> Reply:
    return wire.upper()


class Holding:
    """Answers nothing until the test does."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[bytes, Peer, Pending[Reply]]] = asyncio.Queue()

    def __call__(self, wire: bytes, peer: Peer) -> Pending[Reply]:
        pending: Pending[Reply] = Pending()
        self.asked.put_nowait((wire, peer, pending))
        return pending


class Unwilling(socket.socket):
    """A socket whose sends fail as told; None lets them through."""

    failure: Callable[[], OSError] | None = None

    @classmethod
    def bound(cls) -> "Unwilling":
        sock = cls(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def sendmsg(self, *args: object) -> int:
        if self.failure is not None:
            raise self.failure()
        return super().sendmsg(*args)  # type: ignore[arg-type]  # as they came


@asynccontextmanager
async def listening(
    answer: Answerer, sock: socket.socket | None = None, clock: ManualClock | None = None
) -> AsyncIterator[UdpListener]:
    listener = UdpListener(sock or bind_udp("127.0.0.1", 0), answer, clock=clock)
    listener.start()
    try:
        yield listener
    finally:
        listener.abort()


class Client:
    """A connected socket: it takes replies from the address it asked and from no other."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((host, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def send(self, wire: bytes) -> None:
        self.sock.send(wire)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, 65_535)

    async def ask(self, wire: bytes) -> bytes:
        self.send(wire)
        return await self.receive()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "::1"])
async def test_a_dual_stack_wildcard_replies_from_the_address_asked(asked: str) -> None:
    sock = bind_udp("", 0)
    port, peers = port_of(sock), list[Peer]()

    def answer(wire: bytes, peer: Peer) -> Reply:
        peers.append(peer)
        return b"reply to " + wire

    async with listening(answer, sock):
        with Client(asked, port) as client:
            assert await client.ask(b"one") == b"reply to one"
            host, source = client.sock.getsockname()[:2]
    assert peers == [Peer(host, source, "udp", asked)]


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2"])
async def test_an_ipv4_wildcard_replies_from_the_address_asked(asked: str) -> None:
    sock = bind_udp("0.0.0.0", 0)
    holding = Holding()
    async with listening(holding, sock):
        with Client(asked, port_of(sock)) as client:
            client.send(b"one")
            _, peer, pending = await holding.asked.get()
            assert peer.local == asked
            pending.resolve(b"late, and from there too")
            assert await client.receive() == b"late, and from there too"


async def test_a_socket_on_one_address_names_it() -> None:
    holding = Holding()
    sock = bind_udp("127.0.0.2", 0)
    async with listening(holding, sock):
        with Client("127.0.0.2", port_of(sock)) as client:
            client.send(b"one")
            _, peer, pending = await holding.asked.get()
            assert (peer.host, peer.local, peer.proto) == ("127.0.0.1", "127.0.0.2", "udp")
            pending.resolve(None)


async def test_datagrams_ignore_what_icmp_says_of_the_path() -> None:
    sock = bind_udp("127.0.0.1", 0)
    async with listening(upper, sock):
        assert sock.getsockopt(socket.IPPROTO_IP, 10) == 5  # IP_MTU_DISCOVER, IP_PMTUDISC_OMIT


async def test_the_largest_query_is_not_cut_and_many_are_answered_in_order() -> None:
    sock = bind_udp("127.0.0.1", 0)
    async with listening(lambda wire, _: str(len(wire)).encode(), sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            assert await client.ask(b"x" * 65_507) == b"65507"
            for size in range(1, 101):
                client.send(b"x" * size)
            assert [int(await client.receive()) for _ in range(100)] == list(range(1, 101))
        assert (listener.received, listener.sent, listener.dropped) == (101, 101, 0)


async def test_silence_is_silence_and_the_next_question_is_answered() -> None:
    sock = bind_udp("127.0.0.1", 0)
    async with listening(lambda wire, _: None if wire == b"hush" else wire, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            client.send(b"hush")
            assert await client.ask(b"speak") == b"speak"
        assert (listener.received, listener.sent) == (2, 1)


async def test_an_answerer_that_raises_is_logged_once_and_costs_only_its_datagram(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(wire: bytes, peer: Peer) -> Reply:
        if wire == b"bad":
            raise RuntimeError("a bug")
        return wire

    sock = bind_udp("127.0.0.1", 0)
    async with listening(answer, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            for wire in (b"bad", b"bad", b"good"):
                client.send(wire)
            assert await client.receive() == b"good"
        assert listener.failures == 2
    records = [r for r in caplog.records if r.name == "kdns.net"]
    assert [r.levelno for r in records] == [logging.ERROR]
    assert records[0].exc_info


async def test_replies_the_socket_does_not_take_now_go_later_and_not_without_bound() -> None:
    sock = Unwilling.bound()
    holding = Holding()
    async with listening(holding, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            sock.failure = BlockingIOError
            for number in range(300):
                client.send(b"%d" % number)
                _, _, pending = await holding.asked.get()
                pending.resolve(b"%d" % number)
            assert (listener.sent, listener.dropped) == (0, 300 - 256)
            sock.failure = None
            assert [int(await client.receive()) for _ in range(256)] == list(range(256))
        assert listener.sent == 256


@pytest.mark.parametrize(
    "number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPERM, errno.EMSGSIZE, errno.ENOBUFS]
)
async def test_a_reply_that_cannot_be_sent_is_counted_and_the_next_one_goes(number: int) -> None:
    sock = Unwilling.bound()
    holding = Holding()
    async with listening(holding, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            sock.failure = lambda: OSError(number, "no")
            client.send(b"lost")
            (await holding.asked.get())[2].resolve(b"lost")
            sock.failure = None
            client.send(b"kept")
            (await holding.asked.get())[2].resolve(b"kept")
            assert await client.receive() == b"kept"
        assert (listener.sent, listener.dropped) == (1, 1)


async def test_a_reply_after_close_is_dropped() -> None:
    sock = bind_udp("127.0.0.1", 0)
    holding = Holding()
    async with listening(holding, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            client.send(b"one")
            pending = (await holding.asked.get())[2]
            listener.abort()
            listener.abort()
            pending.resolve(b"nobody hears")
        assert (listener.sent, listener.dropped, listener.unanswered) == (0, 1, 0)


async def test_close_answers_what_has_come_in() -> None:
    sock = bind_udp("127.0.0.1", 0)
    listener = UdpListener(sock, upper)
    listener.start()
    with Client("127.0.0.1", port_of(sock)) as client:
        for _ in range(100):
            client.send(b"waits")
        await listener.close()
        assert [await client.receive() for _ in range(100)] == [b"WAITS"] * 100


async def test_close_waits_for_pending_replies() -> None:
    sock = bind_udp("127.0.0.1", 0)
    holding = Holding()
    async with listening(holding, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            client.send(b"one")
            pending = (await holding.asked.get())[2]
            closing = asyncio.ensure_future(listener.close())
            await asyncio.sleep(0)
            assert not closing.done()
            pending.resolve(b"the last")
            await closing
            assert await client.receive() == b"the last"
        assert sock.fileno() == -1
        await listener.close()


async def test_close_waits_no_longer_than_its_grace(clock: ManualClock) -> None:
    sock = bind_udp("127.0.0.1", 0)
    holding = Holding()
    async with listening(holding, sock, clock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            client.send(b"one")
            await holding.asked.get()
            closing = asyncio.ensure_future(listener.close(grace=3.0))
            await asyncio.sleep(0)
            clock.advance(3.0)
            await closing
    assert sock.fileno() == -1


async def test_an_answerer_may_close_the_listener() -> None:
    sock = bind_udp("127.0.0.1", 0)
    closed = asyncio.Event()

    def answer(wire: bytes, peer: Peer) -> Reply:
        listener.abort()
        closed.set()
        return wire

    async with listening(answer, sock) as listener:
        with Client("127.0.0.1", port_of(sock)) as client:
            client.send(b"one")
            client.send(b"two")
            await closed.wait()
            await asyncio.sleep(0)
        assert (listener.received, listener.dropped) == (1, 1)
