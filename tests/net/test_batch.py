"""Batched UDP answers as plain UDP does, many at a time, and from memory that is still there.

What is sent before the loop has its turn is received as one batch: so tests choose batches.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Self

import dns.message
import pytest

from kdns.net import batch
from kdns.net.batch import SLOTS, BatchedUdpListener
from kdns.net.listen import bind_udp, deepen
from kdns.net.sieve import sift
from kdns.plugins.block import Block
from kdns.plugins.hot import Counting, HotAnswers, Lease, Prepared, Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.wire import reply as written
from kdns.wire.message import read_query
from tests.plugins.fakes import addresses, question

pytestmark = pytest.mark.skipif(not batch.available(), reason="this system has no recvmmsg")

Reply = bytes | None
Answer = Callable[[bytes, Peer], Reply | Pending[Reply]]
BLOCK = Block((".",), counted=True)
INBOX = 4096


def wire(number: int, kind: bytes) -> bytes:
    """A datagram: an ID, and what is to be done about it."""
    return number.to_bytes(2, "big") + kind


class Server:
    """An Answerer that does what a datagram says, and what it keeps hot."""

    def __init__(self) -> None:
        self.table = Table("udp", 1, batch.pin)
        self.answers = HotAnswers()
        self.asked: list[bytes] = []
        self.peers: set[Peer] = set()
        self.pending: asyncio.Queue[tuple[bytes, Pending[Reply]]] = asyncio.Queue()
        self.does: dict[bytes, Answer] = {
            b"silence": lambda wire, peer: None,
            b"pending": self._later,
            b"done": self._done,
        }

    def keep(self, kind: bytes, *bodies: bytes) -> None:
        """Have a hot answer, with a body of octets that nobody else has."""
        made = Prepared(bodies, (kind,), Block((".",), counted=True), 1, 0, "test")
        self.answers.put(kind, made)
        self.table.put(kind, made)

    def __call__(self, wire: bytes, peer: Peer) -> Reply | Pending[Reply]:
        self.asked.append(wire)
        self.peers.add(peer)
        does = self.does.get(wire[2:])
        return wire[:2] + b"cold " + wire[2:] if does is None else does(wire, peer)

    def _later(self, wire: bytes, peer: Peer) -> Pending[Reply]:
        pending: Pending[Reply] = Pending()
        self.pending.put_nowait((wire, pending))
        return pending

    def _done(self, wire: bytes, peer: Peer) -> Pending[Reply]:
        pending: Pending[Reply] = Pending()
        pending.resolve(wire)
        return pending


@asynccontextmanager
async def listening(
    server: Server, sock: socket.socket | None = None
) -> AsyncIterator[BatchedUdpListener]:
    listener = BatchedUdpListener(sock or bind_udp("127.0.0.1", 0), server, server.table)
    listener.start()
    try:
        yield listener
    finally:
        listener.abort()


@pytest.fixture
def server() -> Server:
    return Server()


class Clients:
    """Connected sockets: each takes replies from the address that it asked and from no other."""

    def __init__(self, listener: BatchedUdpListener) -> None:
        self._port = int(listener._sock.getsockname()[1])
        self._stack = ExitStack()

    def ask(self, host: str = "127.0.0.1") -> socket.socket:
        """One more."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.connect((host, self._port))
        return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


async def receive(sock: socket.socket, count: int = 1) -> list[bytes]:
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(sock, 65_535) for _ in range(count)]


SOCKETS = [
    ("127.0.0.1", ("127.0.0.1",)),
    ("0.0.0.0", ("127.0.0.1", "127.0.0.2")),
    ("::1", ("::1",)),
    ("", ("127.0.0.1", "127.0.0.2", "::1")),
]


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize(("bound", "asked"), SOCKETS)
async def test_each_of_200_in_flight_gets_its_answer_from_the_address_asked(
    server: Server, bound: str, asked: tuple[str, ...]
) -> None:
    """Hot, turning, cold, silent, pending and raised ones, in one heap, again and again."""

    def fails(wire: bytes, peer: Peer) -> Reply:
        raise RuntimeError("a bug")

    server.does[b"raise"] = fails
    server.keep(b"hot", b"hot body")
    server.keep(b"turning", b"one", b"two")
    kinds = (b"hot", b"cold", b"hot", b"turning", b"silence", b"pending", b"hot", b"done", b"raise")
    async with listening(server, bind_udp(bound, 0)) as listener:
        with Clients(listener) as clients:
            socks = [clients.ask(host) for host in asked]
            for start in (0, 1000, 2000):
                wanted: dict[socket.socket, list[bytes]] = {sock: [] for sock in socks}
                late = 0
                for number in range(200):
                    sock, kind = socks[number // 9 % len(socks)], kinds[number % 9]
                    sock.send(wire(start + number, kind))
                    late += kind == b"pending"
                    if kind not in (b"silence", b"raise"):
                        wanted[sock].append(wire(start + number, kind))
                for _ in range(late):
                    query, pending = await server.pending.get()
                    pending.resolve(query[:2] + b"late")
                for sock, queries in wanted.items():
                    replies = {r[:2]: r[2:] for r in await receive(sock, len(queries))}
                    for query in queries:
                        assert replies[query[:2]] in told(query[2:])
            assert listener.received == 600
            sent = sum(kinds[n % 9] not in (b"silence", b"raise") for n in range(200))
            hits = sum(kinds[n % 9] in (b"hot", b"turning") for n in range(200))
            assert (listener.sent, listener.hits) == (3 * sent, 3 * hits)
            assert (listener.dropped, listener.unanswered) == (0, 0)
            assert {peer.local for peer in server.peers} == set(asked)
            assert {peer.host for peer in server.peers} == {
                str(sock.getsockname()[0]) for sock in socks
            }


def told(kind: bytes) -> tuple[bytes, ...]:
    """What the answers to a kind may be."""
    return {
        b"hot": (b"hot body",),
        b"turning": (b"one", b"two"),
        b"pending": (b"late",),
        b"done": (b"done",),
    }.get(kind, (b"cold " + kind,))


async def test_a_batch_that_is_all_hot_asks_nobody_and_turns_within(server: Server) -> None:
    server.keep(b"turning", *(b"%d" % n for n in range(3)))
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for number in range(9):
                client.send(wire(number, b"turning"))
            replies = await receive(client, 9)
            assert [r[2:] for r in replies] == [b"1", b"2", b"0"] * 3
            assert [r[:2] for r in replies] == [wire(number, b"") for number in range(9)]
        assert (server.asked, listener.hits, listener.batches) == ([], 9, 1)
        counters = server.table.entries[b"turning"].prepared.block.counters
        server.table.count()
        assert counters.requests == {("udp", 1, 1): 9}
        assert sum(counters.durations.counts) == 9


async def test_more_than_one_batch_is_answered_whole(
    server: Server,
) -> None:
    server.keep(b"hot", b"body")
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            # Few enough for the queues of both sockets.
            count = 2 * SLOTS + 5
            for number in range(count):
                client.send(wire(number, b"hot"))
            assert len(await receive(client, count)) == count
        assert (listener.received, listener.sent, listener.batches) == (count, count, 3)


# Memory.


def trample(size: int) -> list[bytes]:
    """Take the memory that was just freed, and fill it with something else."""
    return [b"%c" % (n & 0x7F) * size for n in range(2000)]


async def test_answers_that_die_in_the_middle_of_a_batch_are_still_sent_whole(
    server: Server,
) -> None:
    """What a slot before had taken was good when it was asked for."""
    trampled: list[list[bytes]] = []

    def change(wire: bytes, peer: Peer) -> Reply:
        server.answers.forget([b"a", b"b"])
        trampled.append(trample(200))
        return wire

    server.does[b"change"] = change
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for start in range(0, 600, 60):
                server.keep(b"a", bytes([97]) * 200)
                server.keep(b"b", bytes([98]) * 200, bytes([99]) * 200)
                for number in range(start, start + 20):
                    client.send(wire(number, b"ab"[number % 2 :][:1]))
                client.send(wire(start + 20, b"change"))
                for number in range(start + 21, start + 41):
                    client.send(wire(number, b"ab"[number % 2 :][:1]))
                replies = [r[2:] for r in await receive(client, 41)]
                assert set(replies[:20:2]) == {bytes([97]) * 200}
                assert set(replies[1:20:2]) == {bytes([98]) * 200, bytes([99]) * 200}
                assert replies[20] == b"change"
                assert set(replies[21:]) == {b"cold a", b"cold b"}
        assert listener.hits == 10 * 20


async def test_an_answer_that_grew_older_is_sent_from_where_it_lies_now(server: Server) -> None:
    lease, cold = Lease(), question("a.example", id=0)[2:]
    query = read_query(bytes(2) + cold)
    bodies = [
        written.write_reply(
            query, written.Reply(answer=(addresses("a.example", *last),)), limit=512
        )[2:]
        for last in ((1, 2), (2, 1))
    ]
    made = Counting(tuple(bodies), (lease,), BLOCK, 1, 0, "test")
    server.answers.put(cold, made)
    server.table.put(cold, made)
    trampled: list[list[bytes]] = []
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            shown = set()
            for number in range(1, 30):
                lease.seconds = 1
                server.answers.renew([lease])
                trampled.append(trample(len(bodies[0])))
                client.send(wire(number, cold))
                (reply,) = await receive(client, 1)
                answer = dns.message.from_wire(reply).answer[0]
                shown.add((answer.ttl, str(answer[0])))
        assert listener.hits == 29
    assert shown == {(30 - n, f"192.0.2.{1 + n % 2}") for n in range(1, 30)}


async def test_an_answer_that_is_born_and_dies_in_one_batch_is_sent_whole(server: Server) -> None:
    trampled: list[list[bytes]] = []

    def born(wire: bytes, peer: Peer) -> Reply:
        server.keep(b"new", wire[1:2] * 200)
        return wire

    def dies(wire: bytes, peer: Peer) -> Reply:
        server.answers.forget([b"new"])
        trampled.append(trample(200))
        return wire

    server.does.update({b"new": born, b"change": dies})
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for number in range(200, 250):
                for kind in (b"new", b"new", b"change", b"new", b"change"):
                    client.send(wire(number, kind))
                replies = [r[2:] for r in await receive(client, 5)]
                assert replies == [b"new", b"%c" % number * 200, b"change", b"new", b"change"]
        assert listener.hits == 50


async def test_cold_replies_live_until_they_are_sent(server: Server) -> None:
    trampled: list[list[bytes]] = []

    def large(wire: bytes, peer: Peer) -> Reply:
        trampled.append(trample(202))
        return wire[:2] + wire[2:3] * 200

    server.does.update({b"x": large, b"y": large})
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for number in range(20):
                client.send(wire(number, b"xy"[number % 2 :][:1]))
            replies = await receive(client, 20)
    assert replies == [wire(n, b"xy"[n % 2 :][:1] * 200) for n in range(20)]


async def test_an_answer_that_becomes_hot_in_a_batch_is_hot_in_its_rest(server: Server) -> None:
    def first(wire: bytes, peer: Peer) -> Reply:
        server.keep(b"new", b"from the table")
        return wire

    server.does[b"new"] = first
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for number in range(5):
                client.send(wire(number, b"new"))
            assert [r[2:] for r in await receive(client, 5)] == [b"new"] + [b"from the table"] * 4
        assert (len(server.asked), listener.hits) == (1, 4)


def test_a_pin_is_where_the_octets_are() -> None:
    for size in (1, 11, 300, 70_000):
        body = b"%c" % (size & 0x7F) * size
        address, kept = batch.pin(body)
        assert kept is body
        assert batch._ffi.buffer(batch._ffi.cast("char *", address), size)[:] == body


# What comes in.


async def test_the_answerer_sees_each_datagram_as_it_came(server: Server) -> None:
    """Short ones too, though what was in their slots before is still there; long ones are cut."""
    sizes = (0, 1, 2, 3, 11, 12, INBOX - 1, INBOX, INBOX + 1, 9000)
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for _ in sizes:
                client.send(b"12" + b"x" * 100)
            await receive(client, len(sizes))
            server.asked.clear()
            for size in sizes:
                client.send(b"y" * size)
            replies = await receive(client, len(sizes))
        assert server.asked == [b"y" * min(size, INBOX) for size in sizes]
        # An Answerer whose replies have other IDs than the queries is its own affair.
        expected = [q[:2] + b"cold " + q[2:] for q in server.asked]
        assert sorted(replies) == sorted(expected)
        assert listener.sent == 2 * len(sizes)


@pytest.mark.parametrize("reply", [b"", b"1", b"no", b"other than the ID"])
async def test_a_reply_with_another_id_goes_as_it_is(server: Server, reply: bytes) -> None:
    server.does[b"odd"] = lambda wire, peer: reply
    server.keep(b"hot", b"body")
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for kind in (b"hot", b"odd", b"hot"):
                client.send(wire(7, kind))
            assert sorted(await receive(client, 3)) == sorted([wire(7, b"body")] * 2 + [reply])
        assert (listener.sent, listener.dropped) == (3, 0)


# What cannot be sent, and what cannot be received.


class Calls:
    """The system's calls, but for what the test says. sends: how many are taken, or an errno."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.sends: list[int] = []
        self.receives: list[int] = []
        self.counts: list[int] = []

    def sendmmsg(self, fd: int, messages: object, count: int, flags: int) -> int:
        self.counts.append(count)
        step = self.sends.pop(0) if self.sends else count
        if step < 0:
            batch._ffi.errno = -step
            return -1
        return int(self._real.sendmmsg(fd, messages, min(step, count), flags))

    def recvmmsg(self, fd: int, messages: object, count: int, flags: int, timeout: object) -> int:
        if self.receives:
            batch._ffi.errno = self.receives.pop(0)
            return -1
        return int(self._real.recvmmsg(fd, messages, count, flags, timeout))


async def exchange(
    server: Server, listener: BatchedUdpListener, sends: list[int], count: int = 10
) -> tuple[list[int], list[int]]:
    """Ask `count` questions in one batch: the numbers that were answered, and calls of sendmmsg."""
    calls = Calls(listener._lib)
    calls.sends = sends
    listener._lib = calls
    with Clients(listener) as clients:
        client = clients.ask()
        for number in range(count):
            client.send(wire(number, b"hot" if number % 3 else b"cold"))
        lost = sum(step < 0 and -step not in AGAIN for step in sends)
        replies = await receive(client, count - lost)
    answered = [int.from_bytes(r[:2], "big") for r in replies]
    bodies = {r[2:] for r in replies}
    assert bodies <= {b"hot body", b"cold cold"}
    return answered, calls.counts


AGAIN = (errno.EAGAIN, errno.EINTR, errno.ENOBUFS)


async def test_what_was_not_taken_at_once_is_offered_again(server: Server) -> None:
    server.keep(b"hot", b"hot body")
    async with listening(server) as listener:
        answered, calls = await exchange(server, listener, [3, 1, 2])
        assert answered == list(range(10))
        assert calls == [10, 7, 6, 4]
        assert (listener.sent, listener.dropped) == (10, 0)


@pytest.mark.parametrize("number", AGAIN)
async def test_when_the_socket_is_full_the_rest_goes_one_by_one(
    server: Server, number: int
) -> None:
    server.keep(b"hot", b"hot body")
    async with listening(server, bind_udp("0.0.0.0", 0)) as listener:
        answered, calls = await exchange(server, listener, [4, -number])
        assert answered == list(range(10))
        assert calls == [10, 6]
        assert (listener.sent, listener.dropped) == (10, 0)


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPERM])
async def test_a_reply_that_cannot_be_sent_costs_no_other(server: Server, number: int) -> None:
    server.keep(b"hot", b"hot body")
    async with listening(server) as listener:
        answered, _ = await exchange(server, listener, [-number, 4, -number])
        assert answered == [1, 2, 3, 4, 6, 7, 8, 9]
        assert (listener.sent, listener.dropped) == (8, 2)


async def test_an_error_about_an_earlier_reply_is_no_reason_to_stop(server: Server) -> None:
    async with listening(server) as listener:
        calls = listener._lib = Calls(listener._lib)
        calls.receives = [errno.ECONNREFUSED, errno.EINTR, errno.EAGAIN]
        with Clients(listener) as clients:
            client = clients.ask()
            client.send(wire(1, b"x"))
            assert await receive(client) == [wire(1, b"cold x")]
        assert (listener.received, listener.dropped) == (1, 1)


async def test_a_lost_client_does_not_disturb_the_others(server: Server) -> None:
    """The kernel says "refused" of the port that is gone, to a socket that is connected to it."""
    async with listening(server) as listener:
        with Clients(listener) as clients:
            lasting = clients.ask()
            for number in range(20):
                with Clients(listener) as gone:
                    gone.ask().send(wire(number, b"x"))
                lasting.send(wire(number, b"x"))
            assert len(await receive(lasting, 20)) == 20


# The end.


@pytest.mark.parametrize("reopened", [True, False])
async def test_an_answerer_may_close_the_listener_and_nothing_goes_to_another_s_socket(
    server: Server, reopened: bool
) -> None:
    server.keep(b"hot", b"body")
    opened: list[socket.socket] = []
    closed = asyncio.Event()

    def close(wire: bytes, peer: Peer) -> Reply:
        before = listener._fd
        listener.abort()
        while reopened and not any(sock.fileno() == before for sock in opened):
            opened.append(bind_udp("127.0.0.1", 0))
        closed.set()
        return wire

    server.does[b"close"] = close
    async with listening(server) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            for kind in (b"hot", b"close", b"cold", b"pending", b"hot"):
                client.send(wire(1, kind))
            await closed.wait()
            with pytest.raises((BlockingIOError, ConnectionRefusedError)):
                client.recv(100)
        (_, pending) = server.pending.get_nowait()
        pending.resolve(b"nobody hears")
        assert (listener.received, listener.sent, listener.dropped) == (5, 0, 5)
        assert listener.kernel_drops() == 0
    for sock in opened:
        sock.close()


async def test_close_waits_for_what_is_pending(server: Server) -> None:
    async with listening(server, bind_udp("0.0.0.0", 0)) as listener:
        with Clients(listener) as clients:
            client = clients.ask("127.0.0.2")
            client.send(wire(1, b"pending"))
            query, pending = await server.pending.get()
            closing = asyncio.ensure_future(listener.close())
            await asyncio.sleep(0)
            assert not closing.done()
            pending.resolve(query)
            await closing
            assert await receive(client) == [query]


async def test_what_the_kernel_dropped_is_known(server: Server) -> None:
    sock = bind_udp("127.0.0.1", 0)
    async with listening(server, sock) as listener:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            sock.getsockopt(socket.SOL_SOCKET, 55, 36)
        except OSError:
            pytest.skip("this kernel does not tell")
        with Clients(listener) as clients:
            client = clients.ask()
            for number in range(100):
                client.send(wire(number, b"x" * 500))
            assert listener.kernel_drops() > 0


# Addresses that mean something on one interface only.


@pytest.fixture
def memory() -> Iterator[batch._Memory]:
    with bind_udp("::", 0) as sock:
        yield batch._Memory(sock)


def arrive(memory: batch._Memory, slot: int, local: str, interface: int, source: str) -> None:
    """What the kernel writes for a datagram."""
    packed = socket.inet_pton(socket.AF_INET6, local)
    memory._controls[40 * slot + 16 : 40 * slot + 36] = packed + struct.pack("=i", interface)
    name = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", 4242, 0)
    name += socket.inet_pton(socket.AF_INET6, source) + struct.pack("=I", interface)
    memory._names[28 * slot : 28 * slot + 28] = name


@pytest.mark.usefixtures("ipv6")
def test_the_interface_is_kept_for_link_local_addresses_alone(memory: batch._Memory) -> None:
    for slot, local in enumerate(("fe80::1", "fd00::1", "::ffff:10.0.0.1", "fe80::2")):
        arrive(memory, slot, local, 5, "fe80::9")
    memory.tidy(4)
    kept = [
        struct.unpack("=i", memory._controls[40 * slot + 32 : 40 * slot + 36])[0]
        for slot in range(4)
    ]
    assert kept == [5, 0, 0, 5]
    peer, back = memory.origin(0)
    assert peer == Peer("fe80::9", 4242, "udp", "fe80::1")
    assert back.address == ("fe80::9", 4242, 0, 5)
    assert memory.origin(2)[0].local == "10.0.0.1"


OURS = b"\0" * 10 + b"\7cluster\5local\0\0\1\0\1"
OUTSIDE = b"\0" * 10 + b"\7example\0\0\1\0\1"


async def test_under_pressure_new_outside_names_stay_unanswered(server: Server) -> None:
    async with listening(server) as listener:
        admission = listener.admission
        admission.ours([b"\7cluster\5local\0"])
        admission.shedding = True  # as it is when there is no budget left
        with Clients(listener) as clients:
            sock = clients.ask()
            sock.send(wire(1, OUTSIDE))
            sock.send(wire(2, OURS))
            reply = await asyncio.get_running_loop().sock_recv(sock, 512)
    assert reply[:2] == b"\0\2"
    assert (admission.outside, server.asked) == (1, [wire(2, OURS)])


async def test_an_ipv6_client_is_known_by_its_address(server: Server) -> None:
    async with listening(server, bind_udp("::1", 0)) as listener:
        listener.admission.ours([b"\7cluster\5local\0"])
        listener.admission.shedding = True
        with Clients(listener) as clients:
            sock = clients.ask("::1")
            sock.send(wire(1, OUTSIDE))
            sock.send(wire(2, OURS))
            await asyncio.get_running_loop().sock_recv(sock, 512)
    assert listener._memory.client(0) == bytes(15) + b"\1"


async def test_a_queue_that_stands_is_told_to_the_admission(server: Server) -> None:
    server.keep(b"hot", b"body")
    async with listening(server) as listener:
        with Clients(listener) as clients:
            sock = clients.ask()
            for number in range(5 * SLOTS):
                sock.send(wire(number, b"hot"))
            listener._on_readable()
            assert not listener.admission.emptied
            listener._on_readable()
            assert listener.admission.emptied


async def test_the_kernel_sifts_for_us_where_it_can(server: Server) -> None:
    async with listening(server) as listener:
        assert listener.thin([b"\7cluster\5local\0"], 0.0, {})
        assert not listener.thin([b"\7cluster\5local\0"] * 300, 0.0, {})
        with Clients(listener) as clients:
            sock = clients.ask()
            sock.send(wire(1, OUTSIDE))
            sock.send(wire(2, OURS))
            await asyncio.get_running_loop().sock_recv(sock, 512)
    assert listener.received == 1


async def test_a_queue_that_is_held_short_takes_less(server: Server) -> None:
    async with listening(server) as listener:
        listener.hold(512)
        with Clients(listener) as clients:
            sock = clients.ask()
            for number in range(2048):
                sock.send(wire(number, OURS))
            assert 400 < listener.waiting() < 1024
            assert listener.missed() == 2048 - listener.waiting()
            # What is there when the last one is let in is full, if by less than that one.
            assert listener.waiting() - 2 <= listener.room() == 512


async def test_a_queue_that_somebody_held_short_is_long_again_once_we_read(
    server: Server,
) -> None:
    sock = bind_udp("127.0.0.1", 0)
    long = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    deepen(sock, 4096)
    async with listening(server, sock):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == long


@pytest.mark.parametrize(
    ("bound", "asked", "address"),
    [
        ("127.0.0.1", "127.0.0.1", bytes((127, 0, 0, 1))),
        ("::1", "::1", bytes(15) + b"\x01"),
    ],
)
@pytest.mark.usefixtures("ipv6")
async def test_of_each_batch_one_client_stands_for_all(
    server: Server, bound: str, asked: str, address: bytes
) -> None:
    server.keep(b"hot", b"body")
    told: list[tuple[bytes, int]] = []
    async with listening(server, bind_udp(bound, 0)) as listener:
        listener.sample = lambda client, times: told.append((client, times))
        with Clients(listener) as clients:
            sock = clients.ask(asked)
            for number in range(10):
                sock.send(wire(number, b"hot"))
            await receive(sock, 10)
    assert {client for client, _ in told} == {address}
    assert sum(times for _, times in told) == 10
    assert len(told) == listener.batches


async def test_a_socket_that_one_before_us_had_the_kernel_sift_lets_all_in(server: Server) -> None:
    """A worker that was killed while it held clients back, say."""
    sock = bind_udp("127.0.0.1", 0)
    sift(sock, [b"\7cluster\5local\0"], 0.0)
    async with listening(server, sock) as listener:
        with Clients(listener) as clients:
            client = clients.ask()
            client.send(wire(1, b"cold"))
            assert await asyncio.wait_for(receive(client), 10) == [wire(1, b"cold cold")]
