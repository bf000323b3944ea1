"""A collector of Frame Streams that does as it is told, and a reader of dnstap's protobuf."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from struct import unpack
from types import TracebackType
from typing import Self

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
DNSTAP = b"protobuf:dnstap.Dnstap"


class Collector:
    """Listens on a path, or on a free port of 127.0.0.1. Use `async with`.

    content_type: what it accepts. `controls` has the kinds of control frames that came.
    """

    def __init__(self, path: str = "", content_type: bytes = DNSTAP) -> None:
        self._path = path
        self._content_type = content_type
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.ended = asyncio.Event()
        """Set when a sender has taken leave."""
        self.controls: list[int] = []
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    async def frame(self) -> bytes:
        """The next frame."""
        return await self._frames.get()

    def drop(self) -> None:
        """Break off every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while (length := _number(await reader.readexactly(4))) or await self._control(
                reader, writer
            ):
                if length:
                    self._frames.put_nowait(await reader.readexactly(length))
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a control frame; False at the end."""
        body = await reader.readexactly(_number(await reader.readexactly(4)))
        kind = _number(body[:4])
        self.controls.append(kind)
        if kind == READY:
            told = self._content_type
            accepted = bytes((0, 0, 0, ACCEPT)) + bytes((0, 0, 0, 1)) + len(told).to_bytes(4) + told
            writer.write(bytes(4) + len(accepted).to_bytes(4) + accepted)
        elif kind == STOP:
            writer.write(bytes(4) + bytes((0, 0, 0, 4)) + bytes((0, 0, 0, FINISH)))
            await writer.drain()
            self.ended.set()
            return False
        return True


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def fields(message: bytes) -> dict[int, int | bytes]:
    """The fields of a protobuf message by number, none of which is there twice."""
    found: dict[int, int | bytes] = {}
    at = iter(message)
    for tag in _varints(at):
        number, kind = tag >> 3, tag & 7
        assert number not in found, f"field {number} is there twice"
        if kind == 0:
            found[number] = next(_varints(at))
        elif kind == 5:
            found[number] = unpack("<I", _take(at, 4))[0]
        else:
            assert kind == 2, f"wire type {kind}"
            found[number] = _take(at, next(_varints(at)))
    return found


def _varints(at: Iterator[int]) -> Iterator[int]:
    number = shift = 0
    for octet in at:
        number |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            yield number
            number = shift = 0


def _take(at: Iterator[int], count: int) -> bytes:
    taken = bytes(islice(at, count))
    assert len(taken) == count, "the message is cut off"
    return taken
