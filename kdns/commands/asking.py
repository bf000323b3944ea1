"""Asks DNS servers, one question at a time on each socket, and puts replies into lines of text.

ask_all --pace--> workers --each its own sockets--> both servers at once --> rows
"""

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random

from dnslib import CLASS, QTYPE, RCODE, RR, DNSError, DNSRecord
from dnslib.label import DNSLabelError

from kdns.compare.scene import Json
from kdns.wire import iana, name
from kdns.wire.framing import frame

TIMEOUT = 2.0
"""Seconds for one try."""
TRIES = 3
EDNS_SIZE = 1232
_TYPES = {text: number for number, text in iana.TYPE_NAMES.items()}
_UNREADABLE = (DNSError, DNSLabelError, struct.error, ValueError, IndexError, UnicodeError)


class AskingError(Exception):
    """A server that cannot be asked: one line, with what was expected."""


@dataclass(slots=True, frozen=True)
class Place:
    """Where a server is."""

    host: str
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_place(text: str) -> Place:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. Raises AskingError."""
    host, port = text, "53"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise AskingError(f"{text!r}: expected [ADDRESS] or [ADDRESS]:PORT")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host)
    except ValueError:
        raise AskingError(f"{text!r}: expected an IP address, and a port after a colon") from None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise AskingError(f"{text!r}: expected a port from 1 to 65535, got {port!r}")
    return Place(host, int(port))


def type_number(text: str) -> int:
    """The number of a type by its mnemonic, or TYPE123. Raises AskingError."""
    number = _TYPES.get(text.upper())
    if number is None and text.upper().startswith("TYPE") and text[4:].isdecimal():
        number = int(text[4:])
    if number is None or not 0 < number < 65536:
        raise AskingError(f"{text!r} is no type: expected A, AAAA, SRV, ... or TYPE123")
    return number


def build(question: Json, message_id: int) -> bytes:
    """The message that asks: RD, and EDNS with room for one datagram (RFC 6891)."""
    header = struct.pack("!6H", message_id, iana.RD, 1, 0, 0, 1)
    asked = name.from_text(question["name"])
    kind = struct.pack("!2H", type_number(question["type"]), iana.IN)
    opt = struct.pack("!BHHLH", 0, iana.OPT, question.get("edns", EDNS_SIZE), 0, 0)
    return header + asked + kind + opt


def read(data: bytes) -> Json:
    """A reply as text; see kdns.compare.scene."""
    try:
        record = DNSRecord.parse(data)
        return {
            "rcode": RCODE.get(record.header.rcode),
            "flags": " ".join(_flags(data)),
            "question": [str(question.qname) for question in record.questions],
            "answer": _section(record.rr),
            "authority": _section(record.auth),
            "additional": _section([rr for rr in record.ar if rr.rtype != QTYPE.OPT]),
            "edns": _edns(record.ar),
            "size": len(data),
        }
    except _UNREADABLE as error:
        return {"error": f"unreadable: {error}"}


def _flags(data: bytes) -> Iterator[str]:
    (bits,) = struct.unpack_from("!H", data, 2)
    for text in ("QR", "AA", "TC", "RD", "RA", "AD", "CD"):
        if bits & getattr(iana, text):
            yield text


def _section(records: Sequence[RR]) -> list[str]:
    return sorted(
        f"{rr.rname} {rr.ttl} {CLASS.get(rr.rclass)} {QTYPE.get(rr.rtype)} {rr.rdata}"
        for rr in records
    )


def _edns(records: Sequence[RR]) -> Json | None:
    for rr in records:
        if rr.rtype == QTYPE.OPT:
            do = bool(rr.ttl & iana.DO)
            return {"version": rr.ttl >> 16 & 255, "payload": rr.rclass, "do": do}
    return None


class _Datagrams(asyncio.DatagramProtocol):
    """The reply to the question in flight, known by its ID."""

    def __init__(self) -> None:
        self.waiting: tuple[bytes, asyncio.Future[bytes]] | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.waiting is None:
            return
        message_id, future = self.waiting
        if data[:2] == message_id and not future.done():
            future.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if self.waiting is not None and not self.waiting[1].done():
            self.waiting[1].set_exception(exc)


class Asker:
    """One server, asked one question after the other. Close it when done."""

    def __init__(self, place: Place, rng: Random, *, timeout: float = TIMEOUT) -> None:
        self._place = place
        self._rng = rng
        self._timeout = timeout
        self._udp: tuple[asyncio.DatagramTransport, _Datagrams] | None = None
        self._tcp: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, question: Json) -> Json:
        """The reply, or {"error": why}: after TRIES tries, which an open cluster must forgive."""
        wire = build(question, self._rng.randrange(1 << 16))
        once = self._by_stream if question.get("tcp") else self._by_datagram
        why = ""
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(self._timeout):
                    return read(await once(wire))
            except TimeoutError:
                why = f"no reply within {self._timeout:g} s"
            except (OSError, EOFError) as error:
                number = error.errno if isinstance(error, OSError) else None
                why = os.strerror(number) if number else "the connection was closed"
            self.close()
        return {"error": why}

    async def _by_datagram(self, wire: bytes) -> bytes:
        if self._udp is None:
            loop = asyncio.get_running_loop()
            self._udp = await loop.create_datagram_endpoint(
                _Datagrams, remote_addr=(self._place.host, self._place.port)
            )
        transport, protocol = self._udp
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        protocol.waiting = (wire[:2], future)
        transport.sendto(wire)
        return await future

    async def _by_stream(self, wire: bytes) -> bytes:
        if self._tcp is None:
            self._tcp = await asyncio.open_connection(self._place.host, self._place.port)
        reader, writer = self._tcp
        writer.write(frame(wire))
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
        if data[:2] != wire[:2]:
            raise EOFError("a reply to another question")
        return data

    def close(self) -> None:
        """Close the sockets; the next question opens others."""
        if self._udp is not None:
            self._udp[0].close()
        if self._tcp is not None:
            self._tcp[1].close()
        self._udp = self._tcp = None


@dataclass(slots=True)
class Pace:
    """So many questions a second to each server, no matter how quickly they are answered."""

    rate: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _next: float = field(default=0.0, init=False)

    async def turn(self) -> None:
        """Wait until it is the caller's turn."""
        now = self.monotonic()
        at = max(self._next, now)
        self._next = at + 1 / self.rate
        if at > now:
            await self.sleep(at - now)


async def ask_both(
    places: tuple[Place, Place],
    asked: Sequence[Json],
    pace: Pace,
    rng: Random,
    *,
    concurrency: int,
    told: Callable[[int], object] = lambda _done: None,
) -> list[tuple[Json, Json]]:
    """The replies of both servers to each question, in order.

    Both are asked at the same moment, so that a cluster that changes changes for both. `told` hears
    how many questions are done.
    """
    found: list[tuple[Json, Json]] = [({}, {})] * len(asked)
    waiting = iter(enumerate(asked))
    done = 0

    async def work() -> None:
        nonlocal done
        askers = [Asker(place, rng) for place in places]
        try:
            for index, question in waiting:
                await pace.turn()
                one, other = await asyncio.gather(*(asker.ask(question) for asker in askers))
                found[index] = (one, other)
                done += 1
                told(done)
        finally:
            for asker in askers:
                asker.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(asked))):
            group.create_task(work())
    return found
