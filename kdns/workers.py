"""Several processes that answer, and one that watches for them.

    overseer   follows the cluster, holds its objects encoded, serves HTTP; no listening socket
       | first all of it, then put, remove, know: in the order in which they came
       v
    worker     state, zones, hot answers, and sockets of its own on the same ports (SO_REUSEPORT)
       | counters, when the overseer is asked for metrics
       v
    overseer   adds them up

The kernel spreads clients over the workers by their addresses and ports. A worker gets nothing that
answering does not need, and holds the same state as every other one, for all are told the same.

A worker that dies is replaced, by the nursery, and reads its sockets once it knows all that the
others know. What the dead one had counted when somebody last asked stays counted.
"""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable

import msgspec

from kdns.app import App
from kdns.cluster import model
from kdns.cluster.held import Held, decode
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Reader
from kdns.cluster.state import Cluster
from kdns.plan import Plan
from kdns.plugins.block import Block, Counters
from kdns.plugins.multisocket import MultiSocket
from kdns.plugins.parts import SourceSettings
from kdns.telemetry.meters import Meters, Sample, merge

log = logging.getLogger("kdns")

MAX_BACKLOG = 256 << 20
"""Octets that a worker may be behind; one that is further behind will not catch up."""
LIVELY = 10.0
"""Seconds after which the end of a worker is not taken for a failure to start."""
FIRST_PAUSE = 0.1
LAST_PAUSE = 30.0
"""Seconds before a worker that ended at once is replaced: twice as many each time."""
_LENGTH = struct.Struct("!I")


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Overseer to worker, and back."""


class Applied(_Message, frozen=True, array_like=True, tag=True):
    """Reader.put for one of the sources; the object is encoded by cluster.held."""

    source: int
    resource: str
    body: bytes
    triggered: float | None = None


class Removed(_Message, frozen=True, array_like=True, tag=True):
    """Reader.remove."""

    source: int
    resource: str
    key: Key


class Known(_Message, frozen=True, array_like=True, tag=True):
    """Reader.know."""

    source: int
    resource: str


class Assumed(_Message, frozen=True, array_like=True, tag=True):
    """Reader.assume."""

    source: int
    resource: str


class Begin(_Message, frozen=True, array_like=True, tag=True):
    """That was all there is by now: answer."""


class Asked(_Message, frozen=True, array_like=True, tag=True):
    """Wants the counters."""


class Stop(_Message, frozen=True, array_like=True, tag=True):
    """Drain, and end."""


class Counted(_Message, frozen=True, array_like=True, tag=True):
    """The counters of each zone of each block, in the order of the plan, and everything else."""

    blocks: list[Counters]
    samples: list[Sample]


ToWorker = Applied | Removed | Known | Assumed | Begin | Asked | Stop
_encode = msgspec.msgpack.Encoder().encode
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_counted = msgspec.msgpack.Decoder(Counted)


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
    """A Reader that tells every worker. See Reader.

    cluster: of the overseer; it stays empty, but for what was listed whole: nobody asks it.
    held: has been told already.
    """

    def __init__(
        self, source: int, cluster: Cluster, held: Held, tell: Callable[[ToWorker], None]
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._held = held
        self._tell = tell

    def put(
        self, resource: Resource, key: Key, _obj: model.Object, triggered: float | None = None
    ) -> None:
        body = self._held.body(resource, key)
        self._tell(Applied(self._source, resource.value, body, triggered))

    def remove(self, resource: Resource, key: Key) -> None:
        self._tell(Removed(self._source, resource.value, key))

    def assume(self, resource: Resource) -> None:
        self._cluster.assume(resource)
        self._tell(Assumed(self._source, resource.value))

    def know(self, resource: Resource) -> None:
        self._cluster.know(resource)
        self._tell(Known(self._source, resource.value))

    def recount(self, tell: Callable[[ToWorker], None]) -> None:
        """Tell somebody who knows nothing yet all of it."""
        for resource in Resource:
            for _, body in self._held.objects(resource):
                tell(Applied(self._source, resource.value, body))
            if resource in self._held.swept:
                tell(Known(self._source, resource.value))
            elif resource in self._held.assumed:
                tell(Assumed(self._source, resource.value))


class _Worker:
    """One worker as the overseer sees it."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self.answer: asyncio.Future[Counted | None] | None = None
        """Of who has asked for the counters; None as a result: it has ended."""
        self.counted: Counted | None = None
        """What it said last."""

    def tell(self, message: ToWorker) -> None:
        """Send. Who is hopelessly behind is given up."""
        self.send(_frame(message))

    def send(self, frame: bytes) -> None:
        self.writer.write(frame)
        if self.writer.transport.get_write_buffer_size() > MAX_BACKLOG:
            log.critical("worker %d is %d octets behind", self.number, MAX_BACKLOG)
            self.writer.transport.abort()


class Overseer:
    """The workers as the watching process sees them.

    spawn: brings worker N to life, and returns our end of the link to it. Raises OSError.
    """

    def __init__(self, spawn: Callable[[int], socket.socket], count: int) -> None:
        self._spawn = spawn
        self._count = count
        self._workers: dict[int, _Worker] = {}
        self._relays: list[Relay] = []
        self._asking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._gone: list[Counted] = []
        """What those had counted that are no more; all of them added up, once there are two."""
        self.replaced = 0
        self.stopping = False
        self.lost = asyncio.Event()
        """Set when a worker is lost and cannot be replaced."""

    async def start(self) -> None:
        """Bring them to life."""
        for number in range(self._count):
            reader = await self._open(number)
            task = asyncio.create_task(self._keep(number, reader), name=f"worker {number}")
            self._tasks.append(task)

    def tell(self, message: ToWorker) -> None:
        """Send to every worker."""
        frame = _frame(message)
        for worker in self._workers.values():
            worker.send(frame)

    def relay(self, source: int, cluster: Cluster, held: Held) -> Reader:
        """The Reader that takes the place of a state of its own; `held` is told before it."""
        relay = Relay(source, cluster, held, self.tell)
        self._relays.append(relay)
        return relay

    async def counters(self, blocks: list[Block]) -> list[Sample]:
        """Give the blocks the sums of all workers' counters; what else they have counted."""
        async with self._asking:
            waiting = []
            for worker in self._workers.values():
                worker.answer = asyncio.get_running_loop().create_future()
                waiting.append(worker.answer)
                worker.tell(Asked())
            await asyncio.gather(*waiting)
        gathered = self._gone + [w.counted for w in self._workers.values() if w.counted]
        sums = [total(each) for each in zip(*(counted.blocks for counted in gathered), strict=True)]
        for block in blocks:
            if sums:
                block.by_zone[:] = [sums.pop(0) for _ in block.by_zone]
        return merge(counted.samples for counted in gathered)

    async def stop(self) -> None:
        """Have every worker drain and end, and wait until all have."""
        self.stopping = True
        self.tell(Stop())
        for number, task in enumerate(self._tasks):
            if number not in self._workers:
                task.cancel()  # it waits to replace one that is not wanted any more
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open(self, number: int) -> asyncio.StreamReader:
        """Bring a worker to life and tell it what there is. Raises OSError."""
        reader, writer = await asyncio.open_connection(sock=self._spawn(number))
        worker = _Worker(number, writer)
        # Nothing is awaited from here on: what happens next must come after all that has happened.
        for relay in self._relays:
            relay.recount(worker.tell)
        worker.tell(Begin())
        self._workers[number] = worker
        return reader

    async def _keep(self, number: int, reader: asyncio.StreamReader) -> None:
        """Listen to a worker, and to the next one when it has ended."""
        failures = 0
        while True:
            began = time.monotonic()
            await self._listen(self._workers[number], reader)
            if self.stopping:
                return
            failures = failures + 1 if time.monotonic() - began < LIVELY else 0
            delay = min(FIRST_PAUSE * 2**failures, LAST_PAUSE) if failures else 0.0
            log.critical("worker %d has ended: starting another one in %g s", number, delay)
            await asyncio.sleep(delay)
            try:
                reader = await self._open(number)
            except OSError as error:
                log.critical("worker %d cannot be replaced: %s", number, error)
                self.lost.set()
                return
            self.replaced += 1

    async def _listen(self, worker: _Worker, reader: asyncio.StreamReader) -> None:
        """Take its counters when they come, until it ends."""
        while (body := await _receive(reader)) is not None:
            worker.counted = _counted.decode(body)
            if worker.answer is not None and not worker.answer.done():
                worker.answer.set_result(worker.counted)
        self._workers.pop(worker.number, None)
        worker.writer.close()
        if worker.counted is not None:
            self._gone.append(_together([*self._gone, worker.counted]))
            del self._gone[:-1]
        if worker.answer is not None and not worker.answer.done():
            worker.answer.set_result(None)


def _together(gathered: list[Counted]) -> Counted:
    """What several had counted, as if it had been one. Gauges of who is no more are nothing."""
    blocks = [total(counters) for counters in zip(*(one.blocks for one in gathered), strict=True)]
    samples = merge(one.samples for one in gathered)
    return Counted(blocks, [sample for sample in samples if sample.kind != "gauge"])


def total(counters: Iterable[Counters]) -> Counters:
    """The sum."""
    result = Counters()
    for one in counters:
        result.add(one)
    return result


class ToldSources:
    """Stands for Sources in a worker: clusters that are told and do not ask."""

    def __init__(self) -> None:
        self.meters = Meters()
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

    def ages(self) -> Iterable[tuple[str, float]]:
        """Nothing: the overseer knows."""
        return ()

    def take(self, message: Applied | Removed | Known | Assumed) -> None:
        """Apply what the overseer told."""
        cluster = self._by_number[message.source]
        resource = Resource(message.resource)
        match message:
            case Applied():
                item = decode(resource, message.body)
                cluster.put(resource, item.key, item.obj, message.triggered)
            case Removed():
                cluster.remove(resource, message.key)
            case Known():
                cluster.know(resource)
            case Assumed():
                cluster.assume(resource)


def _ignore(_: str) -> None:
    """The overseer has told of it."""


async def work(link: socket.socket, sources: ToldSources, app: App) -> None:
    """The life of a worker: answer until told to stop, or until the overseer is gone."""
    reader, writer = await asyncio.open_connection(sock=link)
    await app.prepare()
    while (body := await _receive(reader)) is not None:
        match _to_worker.decode(body):
            case Begin():
                await app.answer()
            case Asked():
                counters = [one for block in app.counted_blocks() for one in block.by_zone]
                writer.write(_frame(Counted(counters, app.meters.sample())))
            case Stop():
                break
            case told:
                sources.take(told)
    await app.stop(linger=False)
    writer.close()


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
