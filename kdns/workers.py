"""Several processes that answer, and one that watches for them.

    overseer   follows the cluster, serves HTTP, holds no listening socket
       | apply, remove, sweep: in the order in which they came, over a socket pair
       v
    worker     state, zones, hot answers, and sockets of its own on the same ports (SO_REUSEPORT)
       | counters, when the overseer is asked for metrics
       v
    overseer   adds them up

The kernel spreads clients over the workers by their addresses and ports. A worker gets nothing that
answering does not need, and holds the same state as every other one, for all are told the same.
"""

import asyncio
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import msgspec

from kdns.app import App, Sockets
from kdns.cluster import objects
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Sink
from kdns.cluster.state import Cluster
from kdns.plan import Plan
from kdns.plugins.block import Block, Counters
from kdns.plugins.multisocket import MultiSocket
from kdns.plugins.parts import SourceSettings
from kdns.telemetry.meters import Sample, merge

log = logging.getLogger("kdns")

MAX_BACKLOG = 256 << 20
"""Octets that a worker may be behind; one that is further behind will not catch up."""
_LENGTH = struct.Struct("!I")


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Overseer to worker, and back."""


class Applied(_Message, frozen=True, array_like=True, tag=True):
    """Sink.apply for one of the sources; the object is in MessagePack."""

    source: int
    resource: str
    body: bytes


class Removed(_Message, frozen=True, array_like=True, tag=True):
    """Sink.remove."""

    source: int
    resource: str
    key: Key


class Swept(_Message, frozen=True, array_like=True, tag=True):
    """Sink.sweep."""

    source: int
    resource: str
    keys: list[Key]


class Asked(_Message, frozen=True, array_like=True, tag=True):
    """Wants the counters."""


class Stop(_Message, frozen=True, array_like=True, tag=True):
    """Drain, and end."""


class Counted(_Message, frozen=True, array_like=True, tag=True):
    """The counters of each block, in the order of the plan, and everything else that is counted."""

    blocks: list[Counters]
    samples: list[Sample]


ToWorker = Applied | Removed | Swept | Asked | Stop
_encode = msgspec.msgpack.Encoder().encode
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_counted = msgspec.msgpack.Decoder(Counted)
_objects: dict[Resource, msgspec.msgpack.Decoder[objects.Object]] = {
    resource: msgspec.msgpack.Decoder(resource.type) for resource in Resource
}


def wanted(plan: Plan) -> int:
    """How many workers the Corefile asks for: the most that a block does."""
    asked = [
        known.settings.workers
        for block in plan.blocks
        for known in block.directives
        if isinstance(known.settings, MultiSocket)
    ]
    return max(asked, default=1)


class Relay:
    """A Sink that tells a state and every worker. See Sink."""

    def __init__(self, source: int, cluster: Cluster, tell: Callable[[ToWorker], None]) -> None:
        self._source = source
        self._cluster = cluster
        self._tell = tell

    def apply(self, resource: Resource, obj: objects.Object) -> None:
        self._cluster.apply(resource, obj)
        self._tell(Applied(self._source, resource.value, _encode(obj)))

    def remove(self, resource: Resource, key: Key) -> None:
        self._cluster.remove(resource, key)
        self._tell(Removed(self._source, resource.value, key))

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        self._cluster.sweep(resource, keys)
        self._tell(Swept(self._source, resource.value, list(keys)))


class Overseer:
    """The workers as the watching process sees them. `links` are its ends of the socket pairs."""

    def __init__(self, links: Iterable[socket.socket]) -> None:
        self._sockets = list(links)
        self._readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._asking = asyncio.Lock()
        self._answers: list[asyncio.Queue[Counted]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.stopping = False
        self.lost = asyncio.Event()
        """Set when a worker has ended that was not told to."""

    async def start(self) -> None:
        """Open the links."""
        for number, link in enumerate(self._sockets):
            reader, writer = await asyncio.open_connection(sock=link)
            self._readers.append(reader)
            self._writers.append(writer)
            self._answers.append(asyncio.Queue())
            self._tasks.append(asyncio.create_task(self._listen(number), name=f"worker {number}"))

    def tell(self, message: ToWorker) -> None:
        """Send to every worker. One that is hopelessly behind is given up."""
        frame = _frame(message)
        for number, writer in enumerate(self._writers):
            writer.write(frame)
            if writer.transport.get_write_buffer_size() > MAX_BACKLOG:
                log.critical("worker %d is %d octets behind", number, MAX_BACKLOG)
                writer.transport.abort()

    def relay(self, source: int, cluster: Cluster) -> Sink:
        """The Sink that takes the place of a state of its own."""
        return Relay(source, cluster, self.tell)

    async def counters(self, blocks: list[Block]) -> list[Sample]:
        """Give the blocks the sums of all workers' counters; what else they have counted."""
        async with self._asking:
            self.tell(Asked())
            gathered = [await answers.get() for answers in self._answers]
        for index, block in enumerate(blocks):
            block.counters = total(counted.blocks[index] for counted in gathered)
        return merge(counted.samples for counted in gathered)

    async def stop(self) -> None:
        """Have every worker drain and end, and wait until all have."""
        self.stopping = True
        self.tell(Stop())
        await asyncio.gather(*self._tasks)
        for writer in self._writers:
            writer.close()

    async def _listen(self, number: int) -> None:
        while (body := await _receive(self._readers[number])) is not None:
            self._answers[number].put_nowait(_counted.decode(body))
        if not self.stopping:
            log.critical("worker %d has ended", number)
            self.lost.set()


def total(counters: Iterable[Counters]) -> Counters:
    """The sum."""
    result = Counters()
    for one in counters:
        result.add(one)
    return result


class ToldSources:
    """Stands for Sources in a worker: clusters that are told and do not ask."""

    def __init__(self) -> None:
        self._clusters: dict[SourceSettings, Cluster] = {}
        self._by_number: list[Cluster] = []

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings. Numbered as in the overseer, which builds the same plan."""
        cluster = self._clusters.get(settings)
        if cluster is None:
            cluster = self._clusters[settings] = Cluster(time.time, _ignore)
            self._by_number.append(cluster)
        return cluster

    async def start(self) -> None:
        """Nothing: what is told comes by the link."""

    async def close(self) -> None:
        """Nothing."""

    def take(self, message: Applied | Removed | Swept) -> None:
        """Apply what the overseer told."""
        cluster = self._by_number[message.source]
        resource = Resource(message.resource)
        match message:
            case Applied():
                cluster.apply(resource, _objects[resource].decode(message.body))
            case Removed():
                cluster.remove(resource, message.key)
            case Swept():
                cluster.sweep(resource, set(message.keys))


def _ignore(_: str) -> None:
    """The overseer has told of it."""


async def work(link: socket.socket, sources: ToldSources, app: App) -> None:
    """The life of a worker: answer until told to stop, or until the overseer is gone."""
    reader, writer = await asyncio.open_connection(sock=link)
    await app.start()
    while (body := await _receive(reader)) is not None:
        match _to_worker.decode(body):
            case Asked():
                counters = [block.counters for block in app.counted_blocks()]
                writer.write(_frame(Counted(counters, app.meters.sample())))
            case Stop():
                break
            case told:
                sources.take(told)
    await app.stop(linger=False)
    writer.close()


def open_links(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """(overseer's end, worker's end) for each worker."""
    return [socket.socketpair() for _ in range(count)]


def fork(links: list[tuple[socket.socket, socket.socket]], sockets: list[Sockets]) -> int | None:
    """Make the workers. Which of them this process is; None in the overseer.

    Each keeps its own sockets and end of its link, and closes those of the others.
    """
    for number in range(len(links)):
        if os.fork() == 0:
            for other, (overseers, workers) in enumerate(links):
                overseers.close()
                if other != number:
                    workers.close()
                    sockets[other].close()
            return number
    for (_, workers), opened in zip(links, sockets, strict=True):
        workers.close()
        opened.close()
    return None


def _frame(message: _Message) -> bytes:
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


async def _receive(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None at the end."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        return await reader.readexactly(_LENGTH.unpack(head)[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
