"""Frame Streams: the handshake, what is lost and what is not, and bounds."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from kdns.net import framestream
from kdns.net.framestream import FrameStream
from kdns.plugins.tap import SinkSettings
from kdns.testing.collector import ACCEPT, DNSTAP, FINISH, READY, START, STOP, Collector
from tests.certificates import Certificates


class Sleeper:
    """Stands for `sleep`; a wait ends when the test says so."""

    def __init__(self) -> None:
        self.slept: asyncio.Queue[float] = asyncio.Queue()
        self.go = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.slept.put_nowait(seconds)
        await self.go.wait()
        self.go.clear()


def to(collector: Collector, queue: int = 100, buffer: int = 0) -> SinkSettings:
    return SinkSettings("tcp", f"127.0.0.1:{collector.port}", queue, buffer)


@asynccontextmanager
async def sending(
    settings: SinkSettings, sleeper: Sleeper | None = None
) -> AsyncIterator[FrameStream]:
    stream = FrameStream(settings, DNSTAP, sleep=sleeper or Sleeper())
    stream.start()
    try:
        yield stream
    finally:
        await stream.close()


async def test_frames_come_in_their_order_over_tcp() -> None:
    async with Collector() as collector, sending(to(collector, buffer=1 << 20)) as stream:
        for number in range(3):
            stream.put(b"%d" % number)
        assert [await collector.frame() for _ in range(3)] == [b"0", b"1", b"2"]
        assert (stream.sent, stream.dropped) == (3, 0)


async def test_frames_come_over_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "tap")
    settings = SinkSettings("unix", path, 100, 0)
    async with Collector(path) as collector, sending(settings) as stream:
        stream.put(b"frame")
        assert await collector.frame() == b"frame"


async def test_the_handshake_goes_both_ways_and_the_end_takes_leave() -> None:
    async with Collector() as collector:
        async with sending(to(collector)) as stream:
            stream.put(b"frame")
            await collector.frame()
            stream.put(b"last")
        assert await collector.frame() == b"last"
        assert collector.controls == [READY, START, STOP]
        assert collector.ended.is_set()


async def test_what_comes_while_there_is_no_collector_waits_for_it(tmp_path: Path) -> None:
    path, sleeper = str(tmp_path / "tap"), Sleeper()
    async with sending(SinkSettings("unix", path, 100, 0), sleeper) as stream:
        stream.put(b"early")
        assert [await sleeper.slept.get()] == [1.0]
        async with Collector(path) as collector:
            sleeper.go.set()
            assert await collector.frame() == b"early"
            await stream.close()


async def test_pauses_grow_while_it_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sleeper = Sleeper()
    async with sending(SinkSettings("unix", str(tmp_path / "none"), 100, 0), sleeper):
        pauses = []
        for _ in range(6):
            pauses.append(await sleeper.slept.get())
            sleeper.go.set()
    assert pauses == [1.0, 2.0, 5.0, 10.0, 10.0, 10.0]
    # Once, not at each try.
    (told,) = [r for r in caplog.records if r.name == "kdns.dnstap"]
    assert told.levelname == "WARNING"
    assert told.getMessage().endswith(": No such file or directory; trying again")


async def test_a_connection_that_is_lost_is_made_again() -> None:
    sleeper = Sleeper()
    async with Collector() as collector, sending(to(collector), sleeper) as stream:
        stream.put(b"first")
        await collector.frame()
        collector.drop()
        assert await sleeper.slept.get() == 0.1
        stream.put(b"second")
        sleeper.go.set()
        assert await collector.frame() == b"second"
        assert collector.connections == 2


async def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    async with sending(SinkSettings("unix", str(tmp_path / "none"), 3, 0)) as stream:
        for _ in range(5):
            stream.put(b"frame")
        assert stream.dropped == 2
    assert stream.dropped == 5


async def test_the_queue_is_bounded_in_octets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framestream, "MAX_OCTETS", 10)
    stream = FrameStream(SinkSettings("unix", str(tmp_path / "none"), 100, 0), DNSTAP)
    for _ in range(3):
        stream.put(b"5 oct")
    assert stream.dropped == 1


async def test_a_collector_of_something_else_gets_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sleeper = Sleeper()
    async with Collector(content_type=b"odd") as collector, sending(to(collector), sleeper) as it:
        it.put(b"frame")
        await sleeper.slept.get()
        assert it.sent == 0
    assert "the collector takes b'odd', not b'protobuf:dnstap.Dnstap'" in caplog.text


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "expected a control frame"),
        (bytes(7) + b"\x04" + bytes(3) + bytes((FINISH,)), "expected ACCEPT, got control frame 5"),
        (b"\0", "1 bytes read on a total of 8 expected bytes"),
    ],
)
async def test_who_speaks_otherwise_is_told_of(
    says: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(says)
        writer.close()

    sleeper = Sleeper()
    async with await asyncio.start_server(odd, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with sending(SinkSettings("tcp", place, 100, 0), sleeper):
            await sleeper.slept.get()
    assert reason in caplog.text


async def test_close_without_start_drops_what_waits(tmp_path: Path) -> None:
    stream = FrameStream(SinkSettings("unix", str(tmp_path / "none"), 100, 0), DNSTAP)
    stream.put(b"frame")
    await stream.close()
    await stream.close()
    assert stream.dropped == 1


@pytest.mark.parametrize("verify", [True, False])
async def test_over_tls_a_collector_is_believed_if_its_certificate_is_or_if_told_to(
    verify: bool, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper = Sleeper()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context: ssl.SSLContext = certificates.server_context()
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with sending(SinkSettings("tls", place, 100, 0, verify), sleeper):
            await sleeper.slept.get()
    assert ("certificate verify failed" in caplog.text) == verify


class Deaf:
    """A collector that shakes hands and then reads no more. Use `async with`."""

    def __init__(self, path: str, *, half_closes: bool = False) -> None:
        self._path = path
        self._half_closes = half_closes
        self.shaken = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    _writers: list[asyncio.StreamWriter]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]
        ready = 4 + 4 + 4 + 8 + len(DNSTAP)
        accept = bytes((0, 0, 0, ACCEPT, 0, 0, 0, 1)) + len(DNSTAP).to_bytes(4) + DNSTAP
        await reader.readexactly(ready)
        writer.write(bytes(4) + len(accept).to_bytes(4) + accept)
        await reader.readexactly(ready)  # START says as much as READY
        await reader.readexactly(4)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        if self._half_closes:
            writer.write_eof()
        self.shaken.set()


MORE_THAN_BUFFERS = [bytes(1 << 16)] * 64


async def test_a_collector_that_reads_no_more_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framestream, "FAREWELL", 0.0)
    path = str(tmp_path / "tap")
    async with Deaf(path) as deaf, sending(SinkSettings("unix", path, 100, 0)) as stream:
        for frame in MORE_THAN_BUFFERS:
            stream.put(frame)
        await deaf.shaken.wait()
        await stream.close()
        # Those that were on their way are told of as well.
        assert stream.sent + stream.dropped == len(MORE_THAN_BUFFERS)


async def test_a_collector_that_half_closes_and_reads_no_more_is_left(tmp_path: Path) -> None:
    path, sleeper = str(tmp_path / "tap"), Sleeper()
    settings = SinkSettings("unix", path, 100, 0)
    async with Deaf(path, half_closes=True), sending(settings, sleeper) as stream:
        for frame in MORE_THAN_BUFFERS:
            stream.put(frame)
        await sleeper.slept.get()
        assert stream.dropped > 0
