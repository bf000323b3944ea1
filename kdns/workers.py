"""Several processes that answer, and one that watches for them.

    overseer   follows the cluster, holds its objects encoded, serves HTTP; reads no question
       | the Corefile and sockets; all objects; then put, remove, know: in order
       v
    worker     state, zones, hot answers, and sockets of its own on the same ports (SO_REUSEPORT)
       | counters, when the overseer is asked for metrics
       v
    overseer   adds them up

The kernel spreads clients over the workers by their addresses and ports. A worker gets nothing that
answering does not need, and holds the same state as every other one, for all are told the same.

A worker that dies is replaced, by the nursery, and reads its sockets once it knows all that the
others know: they are open in the overseer as well, so what comes in meanwhile waits. What the dead
one had counted when somebody last asked stays counted.

A new Corefile goes to the workers as the octets that the overseer read. Each builds it beside the
present one, and says so; when all have, all take it over.
"""

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random
from typing import TypeVar

from kdns.app import App
from kdns.cluster import model
from kdns.cluster.held import Held, decode
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Reader
from kdns.cluster.state import Cluster
from kdns.corefile.errors import CorefileError
from kdns.generation import Generation
from kdns.handing import hand_all, take_all
from kdns.messages import (
    Adopted,
    Applied,
    Asked,
    Assumed,
    Begin,
    Counted,
    Discarded,
    Dismissed,
    Known,
    Look,
    Looked,
    Ready,
    Removed,
    Staged,
    Stop,
    ToOverseer,
    ToWorker,
    frame,
    receive,
    to_overseer,
    to_worker,
)
from kdns.nursery import Ties
from kdns.plan import Plan, Written
from kdns.plugins.multisocket import MultiSocket
from kdns.plugins.parts import SourceSettings
from kdns.roles import FollowError
from kdns.sockets import Sockets
from kdns.telemetry import profiler
from kdns.telemetry.meters import Meters
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Window
from kdns.totals import Totals, past, together

log = logging.getLogger("kdns")

MAX_BACKLOG = 256 << 20
"""Octets that a worker may be behind; one that is further behind will not catch up."""
LIVELY = 10.0
"""Seconds after which the end of a worker is not taken for a failure to start."""
FIRST_PAUSE = 0.1
PATIENCE = 3.0
"""Seconds in which a worker says what it has counted, or who asks what."""
STAGED_WITHIN = 30.0
"""Seconds in which a worker builds a Corefile, or takes it over."""
STOPPED_WITHIN = 10.0
"""Seconds in which a worker drains and ends: twice of what pending answers have."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)
"""Why there may be room for another process later."""
LAST_PAUSE = 30.0
"""Seconds before a worker that ended at once is replaced: twice as many each time."""


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
        self.source = source
        self.cluster = cluster
        self._held = held
        self._tell = tell

    def put(
        self, resource: Resource, key: Key, _obj: model.Object, triggered: float | None = None
    ) -> None:
        body = self._held.body(resource, key)
        self._tell(Applied(self.source, resource.value, body, triggered))

    def remove(self, resource: Resource, key: Key) -> None:
        self._tell(Removed(self.source, resource.value, key))

    def assume(self, resource: Resource) -> None:
        self.cluster.assume(resource)
        self._tell(Assumed(self.source, resource.value))

    def know(self, resource: Resource) -> None:
        self.cluster.know(resource)
        self._tell(Known(self.source, resource.value))

    def recount(self, tell: Callable[[ToWorker], None]) -> None:
        """Tell somebody who knows nothing yet all of it."""
        for resource in Resource:
            for _, body in self._held.objects(resource):
                tell(Applied(self.source, resource.value, body))
            if resource in self._held.swept:
                tell(Known(self.source, resource.value))
            elif resource in self._held.assumed:
                tell(Assumed(self.source, resource.value))


class _Worker:
    """One worker as the overseer sees it."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, hand: socket.socket) -> None:
        self.number = number
        self.writer = writer
        self.hand = hand
        self.answer: asyncio.Future[Counted | None] | None = None
        """Of who has asked for the counters; None as a result: it has ended."""
        self.ready: asyncio.Future[str] | None = None
        """Of who wants to know whether it has staged; why not, or "" for yes."""
        self.looks: dict[bool, asyncio.Future[Looked]] = {}
        """Of who wants to know who asks what (False), and where the CPU time goes (True)."""
        self.counted: Counted | None = None
        """What it said last."""

    def tell(self, message: ToWorker) -> None:
        """Send. Who is hopelessly behind is given up."""
        self.send(frame(message))

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        if self.writer.transport.get_write_buffer_size() > MAX_BACKLOG:
            log.critical("worker %d is %d octets behind", self.number, MAX_BACKLOG)
            self.writer.transport.abort()

    def stage(self, written: Written, sockets: Sockets, sources: list[int]) -> None:
        """Have it build a Corefile. Raises OSError."""
        self.tell(Staged(written, hand_all(self.hand, sockets), sources))

    def expect(self) -> asyncio.Future[str]:
        """What will come of the Corefile that it is told about next: why not, or ""."""
        self.ready = asyncio.get_running_loop().create_future()
        return self.ready

    def take(self, message: ToOverseer) -> None:
        """It has said something."""
        match message:
            case Counted():
                self.counted = message
                if self.answer is not None and not self.answer.done():
                    self.answer.set_result(message)
            case Looked():
                look = self.looks.pop(message.asked is None, None)
                if look is not None and not look.done():
                    look.set_result(message)
            case Ready():
                if self.ready is not None and not self.ready.done():
                    self.ready.set_result(message.error)

    def end(self) -> None:
        """It is no more: nobody need wait for it. The next one is told all anew."""
        self.writer.close()
        self.hand.close()
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(None)
        if self.ready is not None and not self.ready.done():
            self.ready.set_result("")
        for look in self.looks.values():
            if not look.done():
                look.set_result(Looked())


class Overseer:
    """The workers as the watching process sees them; to its App, they are Followers.

    spawn: brings worker N to life, and returns our end of the ties to it. Raises OSError.
    sockets: of each worker. They stay open here.
    """

    def __init__(
        self, spawn: Callable[[int], Ties], written: Written, sockets: list[Sockets]
    ) -> None:
        self._spawn = spawn
        self._written = written
        self._sockets = sockets
        self._staged: tuple[Generation, list[Sockets], list[int]] | None = None
        self.number_of: Callable[[Cluster], int] = _nobody
        """The number by which `relay` is told of a cluster."""
        self._sources: list[int] = []
        self._workers: dict[int, _Worker] = {}
        self._relays: dict[int, Relay] = {}
        self._asking = asyncio.Lock()
        self._staging = asyncio.Lock()
        """Held while some workers may know a Corefile that others do not."""
        self._tasks: list[asyncio.Task[None]] = []
        self._past = Totals()
        """What those had counted that are no more."""
        self.replaced = 0
        self.stopping = False
        self.lost = asyncio.Event()
        """Set when a worker is lost and cannot be replaced."""

    async def start(self, sources: list[int]) -> None:
        """Bring them to life. sources: the numbers of the clusters that the Corefile asks for."""
        self._sources = sources
        for number in range(len(self._sockets)):
            reader = await self._open(number)
            task = asyncio.create_task(self._keep(number, reader), name=f"worker {number}")
            self._tasks.append(task)

    def tell(self, message: ToWorker) -> None:
        """Send to every worker."""
        octets = frame(message)
        for worker in self._workers.values():
            worker.send(octets)

    def relay(self, source: int, cluster: Cluster, held: Held) -> Reader:
        """The Reader that takes the place of a state of its own; `held` is told before it."""
        relay = self._relays[source] = Relay(source, cluster, held, self.tell)
        return relay

    async def totals(self) -> Totals:
        """What all workers have counted."""
        async with self._asking:
            waiting: dict[asyncio.Future[Counted | None], int] = {}
            for worker in self._workers.values():
                worker.answer = asyncio.get_running_loop().create_future()
                waiting[worker.answer] = worker.number
                worker.tell(Asked())
            for late in await _late(waiting, PATIENCE):
                # What it said last stands for it.
                log.warning("worker %d has not said what it has counted", waiting[late])
        told = [worker.counted.totals for worker in self._workers.values() if worker.counted]
        return together((self._past, *told))

    # Others.

    async def asked(self) -> list[Window]:
        """See Others."""
        told = await self._look(0.0)
        return [looked.asked for _, looked in told if looked.asked is not None]

    async def profiles(self, seconds: float) -> list[Profile]:
        """See Others."""
        told = await self._look(seconds)
        return [
            looked.profile.below(f"worker {number}")
            for number, looked in told
            if looked.profile is not None
        ]

    async def _look(self, seconds: float) -> list[tuple[int, Looked]]:
        """What each worker tells; who asks while others wait gets what they get."""
        profiles = seconds > 0
        looks: dict[int, asyncio.Future[Looked]] = {}
        for number, worker in self._workers.items():
            if profiles not in worker.looks:
                worker.looks[profiles] = asyncio.get_running_loop().create_future()
                worker.tell(Look(seconds))
            looks[number] = worker.looks[profiles]
        late = await _late(looks.values(), seconds + PATIENCE)
        for number, look in looks.items():
            if look in late and number in self._workers:
                self._workers[number].looks.pop(profiles, None)
        return [(number, look.result()) for number, look in looks.items() if look not in late]

    # Followers.

    async def stage(self, generation: Generation, sockets: list[Sockets]) -> None:
        """See Followers."""
        await self._staging.acquire()
        written = generation.plan.written
        sources = [self.number_of(cluster) for cluster in generation.clusters]
        self._staged = (generation, sockets, sources)
        waiting: dict[asyncio.Future[str], _Worker] = {}
        for worker in self._workers.values():
            waiting[worker.expect()] = worker
            try:
                worker.stage(written, sockets[worker.number], sources)
            except OSError as error:
                raise FollowError(f"worker {worker.number}: {error}") from error
        for late in await self._give_up(waiting):
            number = waiting[late].number
            raise FollowError(f"worker {number} has not built it in {STAGED_WITHIN:g} s")
        for ready in waiting:
            if reason := ready.result():
                raise FollowError(reason)

    async def adopt(self) -> None:
        """See Followers."""
        assert self._staged is not None, "nothing was staged"
        generation, fresh, self._sources = self._staged
        self._written = generation.plan.written
        places = generation.endpoints
        for held, opened in zip(self._sockets, fresh, strict=True):
            held.adopt(opened)
            held.close([place for place in held.places() if place not in places])
        for source in self._relays.keys() - self._sources:
            del self._relays[source]
        waiting = {worker.expect(): worker for worker in self._workers.values()}
        self.tell(Adopted())
        await self._give_up(waiting)
        self._unstage()

    async def _give_up(
        self, waiting: dict[asyncio.Future[str], _Worker]
    ) -> set[asyncio.Future[str]]:
        """Wait for what workers have to say; those that say nothing are replaced.

        What they say later would be taken for the answer to something else.
        """
        late = await _late(waiting, STAGED_WITHIN)
        for silent in late:
            log.critical("worker %d does not answer", waiting[silent].number)
            waiting[silent].writer.transport.abort()
        return late

    def discard(self) -> None:
        """See Followers."""
        if self._staged is not None:
            self.tell(Discarded())
            self._unstage()

    def _unstage(self) -> None:
        self._staged = None
        self._staging.release()

    def dismiss(self) -> None:
        """See Followers."""
        self.tell(Dismissed())

    async def stop(self) -> None:
        """Have every worker drain and end, and wait until all have."""
        self.stopping = True
        self.tell(Stop())
        for number, task in enumerate(self._tasks):
            if number not in self._workers:
                task.cancel()  # it waits to replace one that is not wanted any more
        if await _late(self._tasks, STOPPED_WITHIN):
            for worker in self._workers.values():
                log.critical("worker %d does not end", worker.number)
                worker.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sockets in self._sockets:
            sockets.close()

    async def _open(self, number: int) -> asyncio.StreamReader:
        """Bring a worker to life and tell it what there is. Raises OSError."""
        async with self._staging:
            ties = self._spawn(number)
            try:
                reader, writer = await asyncio.open_connection(sock=ties.link)
            except BaseException:
                ties.close()
                raise
            worker = _Worker(number, writer, ties.hand)
            # Nothing is awaited from here on: what happens next must come after all that has
            # happened.
            worker.stage(self._written, self._sockets[number], self._sources)
            for relay in self._relays.values():
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
            while (opened := await self._open_again(number)) is None:
                failures += 1
                # The end cancels who waits here.
                await asyncio.sleep(min(FIRST_PAUSE * 2**failures, LAST_PAUSE))
            if not opened:
                self.lost.set()
                return
            reader = opened[0]
            self.replaced += 1

    async def _open_again(self, number: int) -> list[asyncio.StreamReader] | None:
        """What the next worker is listened to by; nothing if there is none, None for not now."""
        try:
            return [await self._open(number)]
        except OSError as error:
            log.critical("worker %d cannot be replaced: %s", number, error.strerror or error)
            return None if error.errno in NO_ROOM else []

    async def _listen(self, worker: _Worker, reader: asyncio.StreamReader) -> None:
        """Take what it says, until it ends."""
        while (body := await receive(reader)) is not None:
            worker.take(to_overseer(body))
        self._workers.pop(worker.number, None)
        if worker.counted is not None:
            self._past = past((self._past, worker.counted.totals))
        worker.end()


class ToldSources:
    """Stands for Sources in a worker: clusters that are told and do not ask."""

    def __init__(self) -> None:
        self.meters = Meters()
        self._by_number: dict[int, Cluster] = {}
        self._numbers: list[int] = []
        self._asked: dict[SourceSettings, Cluster] = {}

    def expect(self, numbers: list[int]) -> None:
        """A Corefile is about to be built that asks for these clusters, in this order."""
        self._numbers = list(numbers)
        self._asked = {}

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings. The overseer, which builds the same, knows its number."""
        cluster = self._asked.get(settings)
        if cluster is None:
            number = self._numbers.pop(0)
            if number not in self._by_number:
                self._by_number[number] = Cluster(time.time, _ignore)
            cluster = self._asked[settings] = self._by_number[number]
        return cluster

    async def start(self) -> None:
        """Nothing: what is told comes by the link."""

    async def keep(self, clusters: Sequence[Cluster]) -> None:
        """Forget all others."""
        kept = {id(cluster) for cluster in clusters}
        self._by_number = {n: c for n, c in self._by_number.items() if id(c) in kept}

    async def close(self) -> None:
        """Nothing."""

    def ages(self) -> Iterable[tuple[str, float]]:
        """Nothing: the overseer knows."""
        return ()

    def take(self, message: Applied | Removed | Known | Assumed) -> None:
        """Apply what the overseer told, of a cluster that is asked for here."""
        cluster = self._by_number.get(message.source)
        if cluster is None:
            return
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


T = TypeVar("T")


async def _late(waiting: Collection[asyncio.Future[T]], seconds: float) -> set[asyncio.Future[T]]:
    """Those that have no result in so many seconds."""
    return (await asyncio.wait(waiting, timeout=seconds))[1] if waiting else set()


def _nobody(_: Cluster) -> int:
    raise LookupError("no source of clusters was named")


def _ignore(_: str) -> None:
    """The overseer has told of it."""


async def work(ties: Ties, rng: Random, memory: int | None = None) -> None:
    """The life of a worker: answer until told to stop, or until the overseer is gone.

    memory: octets that it may have; None for any number.
    """
    reader, writer = await asyncio.open_connection(sock=ties.link)
    profiling: asyncio.Task[None] | None = None
    sources = ToldSources()
    app: App | None = None
    while (body := await receive(reader)) is not None:
        message = to_worker(body)
        if app is None:
            assert isinstance(message, Staged), "a worker is told first what it serves"
            sources.expect(message.sources)
            sockets = take_all(ties.hand, message.places)
            app = App(message.written.plan(os.environ), sources, rng, sockets)
            app.serves_admin = False
            app.memory = memory
            await app.prepare()
            continue
        match message:
            case Staged():
                writer.write(frame(Ready(_stage(message, sources, app, ties.hand))))
            case Adopted():
                await app.adopt()
                writer.write(frame(Ready("")))
            case Discarded():
                await app.discard()
            case Begin():
                await app.answer()
            case Asked():
                writer.write(frame(Counted(app.totals())))
            case Look(seconds=0.0):
                writer.write(frame(Looked(asked=app.asked())))
            case Look():
                profiling = asyncio.create_task(_profile(message.seconds, writer))
            case Dismissed():
                app.dismiss()
            case Stop():
                break
            case told:
                sources.take(told)
    if profiling is not None:
        profiling.cancel()
    if app is not None:
        await app.stop(linger=False)
    writer.close()


async def _profile(seconds: float, writer: asyncio.StreamWriter) -> None:
    """Take a profile while all else goes on, and tell it."""
    try:
        looked = Looked(profile=await profiler.take(seconds))
    except profiler.ProfilingError:
        looked = Looked()
    writer.write(frame(looked))


def _stage(message: Staged, sources: ToldSources, app: App, hand: socket.socket) -> str:
    """Build a Corefile beside what runs; why it cannot be, or "" where it is."""
    sockets = Sockets()
    try:
        sockets = take_all(hand, message.places)
        sources.expect(message.sources)
        app.stage(message.written.plan(os.environ), sockets)
    except (CorefileError, OSError) as error:
        sockets.close()
        return str(error)
    return ""
