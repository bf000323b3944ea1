"""Frame Streams: frames to a collector that has said that it wants them.

    connected --READY--> <--ACCEPT-- --START--> frames … --STOP--> <--FINISH--

A control frame has an empty length before its own (farsightsec/fstrm). Frames wait in a bounded
queue while there is no connection; one that was lost is made again, after longer and longer pauses.
"""

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from struct import Struct
from typing import Final

from kdns.plugins.tap import SinkSettings

log = logging.getLogger("kdns.dnstap")

PATIENCE: Final = 4.0
"""Seconds for connecting and each answer of the collector, as in CoreDNS."""
FAREWELL: Final = 1.0
"""Seconds that the end may take."""
PAUSES: Final = (0.1, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next try, after so many that sent nothing; the last one goes on."""
MAX_OCTETS: Final = 64 << 20
"""Of all frames that wait."""
MAX_CONTROL: Final = 512
_BATCH: Final = 64 << 10
_LENGTH = Struct("!I")
_TWO = Struct("!II")
_ACCEPT, _START, _STOP, _READY, _FINISH = 1, 2, 3, 4, 5
_CONTENT_TYPE = 1


class FrameStreamError(Exception):
    """The other end does not speak as it should: what it said, and what was expected."""


class FrameStream:
    """Sends frames to one collector. A plugins.tap.Sink. Make it in a running loop."""

    def __init__(
        self,
        settings: SinkSettings,
        content_type: bytes,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._content_type = content_type
        self._sleep = sleep
        self._frames: deque[bytes] = deque()
        self._octets = 0
        self._told = asyncio.Event()
        self._closing = False
        self._pumping = False
        self._why = ""
        """What is wrong, as it was logged."""
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name=f"dnstap to {self._settings}")

    def put(self, frame: bytes) -> None:
        """See Sink."""
        if len(self._frames) >= self._settings.queue or self._octets + len(frame) > MAX_OCTETS:
            self.dropped += 1
            return
        self._frames.append(frame)
        self._octets += len(frame)
        self._told.set()

    async def close(self) -> None:
        """See Sink. Twice is harmless."""
        self._closing = True
        self._told.set()
        task, self._task = self._task, None
        if task is not None:
            if not self._pumping:
                task.cancel()  # there is nobody to take leave of
            done, _ = await asyncio.wait([task], timeout=FAREWELL)
            if not done:
                task.cancel()
                await asyncio.wait([task])
        self.dropped += len(self._frames)
        self._frames.clear()

    async def _run(self) -> None:
        failures = 0
        while not self._closing:
            before = self.sent
            try:
                await self._connection()
            except (OSError, TimeoutError, EOFError, FrameStreamError) as error:
                why = _reason(error)
                if why != self._why:
                    log.warning("dnstap to %s: %s; trying again", self._settings, why)
                    self._why = why
            failures = failures + 1 if before == self.sent else 0
            if not self._closing:
                await self._sleep(PAUSES[min(failures, len(PAUSES) - 1)])

    async def _connection(self) -> None:
        """One connection, to its end. Raises what ends it before its time."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await self._connect()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(_control(_READY, self._content_type))
                await self._accepted(reader)
                writer.write(_control(_START, self._content_type))
                await writer.drain()
            self._why = ""
            log.info("dnstap to %s: connected", self._settings)
            self._pumping = True
            await self._pump(reader, writer)
            _write(writer, _control(_STOP))
            await writer.drain()
            with suppress(EOFError, FrameStreamError):
                while (await _read_control(reader))[0] != _FINISH:
                    continue
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._pumping = self._pumping and self._closing
            await _close(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        settings = self._settings
        if settings.transport == "unix":
            return await asyncio.open_unix_connection(settings.place)
        host, _, port = settings.place.rpartition(":")
        context = None
        if settings.transport == "tls":
            context = ssl.create_default_context()
            if not settings.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        if settings.buffer:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.buffer)
        return reader, writer

    async def _accepted(self, reader: asyncio.StreamReader) -> None:
        kind, types = await _read_control(reader)
        if kind != _ACCEPT:
            raise FrameStreamError(f"expected ACCEPT, got control frame {kind}")
        if self._content_type not in types:
            wanted = ", ".join(repr(each) for each in types) or "nothing"
            raise FrameStreamError(f"the collector takes {wanted}, not {self._content_type!r}")

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what comes until we close. Raises when the collector has gone."""

        def over(gone: "asyncio.Task[bytes]") -> None:
            if not gone.cancelled():
                # It may have closed its side alone: what it does not read would be waited for.
                writer.transport.abort()
            self._told.set()

        gone = asyncio.create_task(reader.read(1))
        gone.add_done_callback(over)
        try:
            while True:
                await self._told.wait()
                self._told.clear()
                while self._frames:
                    await self._send(writer)
                if self._closing:
                    return
                if gone.done():
                    raise EOFError("the collector has closed the connection")
        finally:
            gone.cancel()
            await asyncio.wait([gone])

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        pieces: list[bytes] = []
        size = count = 0
        while self._frames and size < _BATCH:
            frame = self._frames.popleft()
            pieces += (_LENGTH.pack(len(frame)), frame)
            size += len(frame)
            count += 1
        self._octets -= size
        try:
            _write(writer, b"".join(pieces))
            await writer.drain()
        except BaseException:
            self.dropped += count
            raise
        self.sent += count


def _write(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Raises OSError, on every loop, where the connection has gone."""
    if writer.is_closing():
        raise ConnectionResetError("the collector has closed the connection")
    writer.write(octets)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close it; what the collector does not take in time is let go."""
    writer.close()
    try:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


def _control(kind: int, content_type: bytes = b"") -> bytes:
    body = _LENGTH.pack(kind)
    if content_type:
        body += _TWO.pack(_CONTENT_TYPE, len(content_type)) + content_type
    return _TWO.pack(0, len(body)) + body


async def _read_control(reader: asyncio.StreamReader) -> tuple[int, list[bytes]]:
    """The kind and the content types of a control frame. Raises FrameStreamError and EOFError."""
    empty, length = _TWO.unpack(await reader.readexactly(_TWO.size))
    if empty or not _LENGTH.size <= length <= MAX_CONTROL:
        raise FrameStreamError("expected a control frame")
    body = await reader.readexactly(length)
    types: list[bytes] = []
    at = _LENGTH.size
    while at + _TWO.size <= length:
        field, size = _TWO.unpack_from(body, at)
        at += _TWO.size
        if field == _CONTENT_TYPE:
            types.append(body[at : at + size])
        at += size
    return _LENGTH.unpack_from(body)[0], types


def _reason(error: Exception) -> str:
    """What an error says, without its number: an address that nobody listens at, mostly."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, TimeoutError):
        text = f"no answer in {PATIENCE:g} s"
    return text or type(error).__name__
