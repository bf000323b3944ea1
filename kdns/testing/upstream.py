"""Upstream servers for tests: one that is right about its zone, one that does as it is told."""

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, TypeAlias, cast

from kdns.net.listen import bind_pair
from kdns.net.tcp import TcpListener
from kdns.net.udp import UdpListener
from kdns.plugins.peer import Peer, Proto
from kdns.testing.authority import Authority

_HEADER: Final = 12
_SERVFAIL: Final = 2


class ZoneServer:
    """An authoritative server of one zone over UDP and TCP, on a free loopback port.

    `zone` is the text of a zone file, or its path. `queries` counts what was asked.
    Raises ValueError when `zone` is none.
    """

    def __init__(self, zone: str | Path, *, host: str = "127.0.0.1") -> None:
        text = zone.read_text(encoding="utf-8") if isinstance(zone, Path) else zone
        self._authority = Authority(text)
        self.host = host
        self.port = 0
        self.queries = 0
        self._udp: UdpListener | None = None
        self._tcp: TcpListener | None = None

    async def __aenter__(self) -> Self:
        udp, tcp = bind_pair(self.host)
        self.port = udp.getsockname()[1]
        self._udp = UdpListener(udp, self._answer)
        self._tcp = TcpListener(tcp, self._answer)
        self._udp.start()
        await self._tcp.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._udp is not None and self._tcp is not None:
            await self._udp.close()
            await self._tcp.close()

    def _answer(self, wire: bytes, peer: Peer) -> bytes | None:
        self.queries += 1
        return self._authority.answer(wire, tcp=peer.proto == "tcp")


Action: TypeAlias = Callable[[bytes], bytes | tuple[bytes, ...] | None]
"""From a query to its reply, or to several; None is silence."""
Ending: TypeAlias = Literal["close", "reset", "cut"]
"""How a connection may end: in order; at once; in the middle of a message."""


class Question(NamedTuple):
    """One query a ScriptedUpstream got: its bytes, over what, and from which port and host."""

    wire: bytes
    proto: Proto
    client_port: int
    client_host: str


@dataclass
class Held:
    """A question whose reply waits until the test says so."""

    question: Question
    _send: Callable[[bytes], None] = field(repr=False)

    def reply(self, wire: bytes) -> None:
        """Send `wire` as it is; may be called any number of times."""
        self._send(wire)


Step: TypeAlias = Action | Ending | Literal["hold"]
"""What to do with a question: reply by an Action, keep it for the test, or end the connection
(over UDP: silence, but for `cut`, which sends half of the question as its reply)."""


class ScriptedUpstream:
    """A server over UDP and TCP on a free loopback port that does with each question as told.

    `script` lists the steps for the questions to come, in their order; when it is empty,
    `otherwise` holds. Questions are recorded in `questions`; `await asked()` gives the next of
    them, `await held()` the next one held.
    With a `context` its TCP is TLS. `connections` counts TCP connections accepted, and `resumed`
    those of them that went on with a session from before.
    """

    def __init__(
        self,
        *script: Step,
        otherwise: Step | None = None,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._context = context
        self.script: deque[Step] = deque(script)
        self.otherwise: Step = otherwise or echo
        self.host = host
        self.port = 0
        self.connections = self.resumed = 0
        self.questions: list[Question] = []
        self._asked: asyncio.Queue[Question] = asyncio.Queue()
        self._held: asyncio.Queue[Held] = asyncio.Queue()
        self._open: set[_Stream] = set()
        self._datagrams: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        udp, tcp = bind_pair(self.host)
        self.port = udp.getsockname()[1]
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._server = await loop.create_server(lambda: _Stream(self), sock=tcp, ssl=self._context)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            self._server.close()
        for stream in list(self._open):
            stream.end()
        await asyncio.gather(*(stream.gone.wait() for stream in list(self._open)))
        await asyncio.sleep(0)

    async def asked(self) -> Question:
        """The next question, when it has come; each is given once."""
        return await self._asked.get()

    @property
    def waits(self) -> bool:
        """Whether a question is held that was not given yet."""
        return not self._held.empty()

    async def held(self) -> Held:
        """The next question held, when it has come; each is given once."""
        return await self._held.get()

    def close_connections(self) -> None:
        """Close every TCP connection that is open."""
        for stream in list(self._open):
            stream.end()

    def take(self, question: Question, send: Callable[[bytes], None]) -> Ending | None:
        """For the protocols: do the next step. How the connection is to end, if it is."""
        self.questions.append(question)
        self._asked.put_nowait(question)
        step = self.script.popleft() if self.script else self.otherwise
        if step == "hold":
            self._held.put_nowait(Held(question, send))
        elif isinstance(step, str):
            return step
        elif (made := step(question.wire)) is not None:
            for reply in (made,) if isinstance(made, bytes) else made:
                send(reply)
        return None

    def opened(self, stream: "_Stream", *, resumed: bool) -> None:
        """For the protocols."""
        self.connections += 1
        self.resumed += resumed
        self._open.add(stream)

    def lost(self, stream: "_Stream") -> None:
        """For the protocols."""
        self._open.discard(stream)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedUpstream) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def send(wire: bytes) -> None:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(wire, addr)

        if self._server.take(Question(data, "udp", addr[1], addr[0]), send) == "cut":
            send(echo(data)[: len(data) // 2])


class _Stream(asyncio.Protocol):
    # Framed by hand, and not by the code under test: the same mistake twice would go unseen.
    def __init__(self, server: ScriptedUpstream) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        encrypted = transport.get_extra_info("ssl_object")
        self._server.opened(self, resumed=bool(encrypted and encrypted.session_reused))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and self._transport is not None:
            (size,) = struct.unpack_from("!H", self._buffer)
            if len(self._buffer) < 2 + size:
                return
            wire, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            host, port = self._transport.get_extra_info("peername")[:2]
            ending = self._server.take(Question(wire, "tcp", port, host), self._send)
            if ending is not None:
                self.end(ending)
                return

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.lost(self)
        self.gone.set()

    def end(self, ending: Ending = "close") -> None:
        if self._transport is None:
            return
        if ending == "cut":
            self._transport.write(struct.pack("!H", 2 * _HEADER) + bytes(_HEADER))
        if ending == "reset":
            self._transport.abort()
        else:
            self._transport.close()

    def _send(self, wire: bytes) -> None:
        if self._transport is not None:
            self._transport.write(struct.pack("!H", len(wire)) + wire)


def echo(query: bytes) -> bytes:
    """The query itself as a reply without records: QR set, NOERROR."""
    return query[:2] + bytes((query[2] | 0x80,)) + query[3:]


def silence(query: bytes) -> None:
    """No reply at all."""


def servfail(query: bytes) -> bytes:
    """A reply with rcode SERVFAIL."""
    reply = bytearray(echo(query))
    reply[3] = reply[3] & 0xF0 | _SERVFAIL
    return bytes(reply)


def truncated(query: bytes) -> bytes:
    """A reply with the TC bit: ask again over TCP."""
    reply = bytearray(echo(query))
    reply[2] |= 0x02
    return bytes(reply)


def wrong_id(query: bytes) -> bytes:
    """A reply to another ID."""
    reply = echo(query)
    return bytes((reply[0] ^ 0xFF,)) + reply[1:]


def wrong_question(query: bytes) -> bytes:
    """A reply about another name of the same length."""
    reply = bytearray(echo(query))
    if reply[_HEADER]:
        reply[_HEADER + 1] ^= 0x01
    return bytes(reply)
