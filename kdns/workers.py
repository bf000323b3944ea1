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

A worker that dies is replaced, by a new process, and reads its sockets once it knows all that the
others know: they are open in the overseer as well, so what comes in meanwhile waits. What the dead
one had counted when somebody last asked stays counted. One that lives but shows no sign of it, for
it is stopped or hangs, is ended and replaced too.

A new Corefile goes to the workers as the octets that the overseer read. Each builds it beside the
present one, and says so; when all have, all take it over.
"""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NoReturn, TypeVar

from kdns.children import Ties
from kdns.cluster import model
from kdns.cluster.held import Held
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Reader
from kdns.cluster.state import Cluster
from kdns.generation import Generation
from kdns.handing import hand_all
from kdns.messages import (
    Adopted,
    Alive,
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
    Probed,
    Ready,
    Removed,
    Staged,
    Stop,
    ToOverseer,
    ToWorker,
    frame,
    receive,
    to_overseer,
)
from kdns.plan import Plan, Written
from kdns.plugins.multisocket import MultiSocket
from kdns.roles import FollowError
from kdns.sockets import Sockets
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Window
from kdns.totals import Totals, past, together

log = logging.getLogger("kdns")

MAX_BACKLOG = 256 << 20
"""Octets that a worker may be behind; one that is further behind will not catch up."""
LIVELY = 10.0
"""Seconds after which the end of a worker is not taken for a failure to start."""
PROBE_EVERY = 5.0
"""Seconds between two looks at whether each worker is there."""
MISSES = 3
"""Looks in a row without a sign of a worker before it is ended. Looks are counted, not seconds: who
was stopped together with its workers finds them well."""
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

    def recount(self) -> Iterator[ToWorker]:
        """All of it, for somebody who knows nothing yet; each message as of when it is taken.

        Who hears of changes too, from the first of these on, ends up with what is held: whatever is
        told of a key last is what it has.
        """
        for resource in Resource:
            for key in self._held.keys(resource):
                body = self._held.get(resource, key)
                if body is not None:
                    yield Applied(self.source, resource.value, body)
            if resource in self._held.swept:
                yield Known(self.source, resource.value)
            elif resource in self._held.assumed:
                yield Assumed(self.source, resource.value)


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
        self._given_up = False
        self._misses = 0
        self._waiting = 0
        """Octets that it had not taken at the last look."""
        self._sent = 0
        self._taken = 0

    def tell(self, message: ToWorker) -> None:
        """Send. Who is hopelessly behind is given up."""
        self.send(frame(message))

    def send(self, octets: bytes) -> None:
        """Send what is framed already."""
        if self._given_up:
            return
        self.writer.write(octets)
        self._sent += len(octets)
        if self.writer.transport.get_write_buffer_size() > MAX_BACKLOG:
            self.give_up(f"is {MAX_BACKLOG} octets behind")

    async def tell_all(self, messages: Iterable[ToWorker]) -> None:
        """Send, no faster than it reads. Raises ConnectionError once it is no more."""
        for message in messages:
            self.tell(message)
            await self.writer.drain()

    def give_up(self, why: str) -> None:
        """Want nothing of it any more: who listens to it finds that it has ended."""
        log.critical("worker %d %s: it is given up", self.number, why)
        self._given_up = True
        self.writer.transport.abort()

    def is_silent(self) -> bool:
        """Whether there was no sign of it for so many looks; this is one. It is asked for one.

        It has answered, or reads: what waited at the last look has gone. Octets that the kernel
        takes for it at once are no sign.
        """
        waiting = self.writer.transport.get_write_buffer_size()
        taken = self._sent - waiting
        reads = self._waiting > 0 and taken > self._taken
        self._waiting, self._taken = waiting, taken
        self._misses = 0 if reads else self._misses + 1
        if self._misses > MISSES:
            return True
        self.tell(Probed())
        return False

    def ask(self) -> asyncio.Future[Counted | None]:
        """What it has counted. Who asks while others wait gets what they get."""
        if self.answer is None or self.answer.done():
            self.answer = asyncio.get_running_loop().create_future()
            self.tell(Asked())
        return self.answer

    def stage(self, written: Written, sockets: Sockets, sources: list[int]) -> None:
        """Have it build a Corefile. Raises OSError."""
        self.tell(Staged(written, hand_all(self.hand, sockets), sources))

    def expect(self) -> asyncio.Future[str]:
        """What will come of the Corefile that it is told about next: why not, or ""."""
        self.ready = asyncio.get_running_loop().create_future()
        return self.ready

    def take(self, message: ToOverseer) -> None:
        """It has said something."""
        self._misses = 0
        match message:
            case Alive():
                pass
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
    end: ends worker N at once, if it is still there. Raises OSError.
    sockets: of each worker. They stay open here.
    """

    def __init__(
        self,
        spawn: Callable[[int], Ties],
        end: Callable[[int], object],
        written: Written,
        sockets: list[Sockets],
    ) -> None:
        self._spawn = spawn
        self._end = end
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
        self._attending: asyncio.Task[NoReturn] | None = None
        self._past = Totals()
        """What those had counted that are no more."""
        self.replaced = 0
        self.stopping = False
        self.lost = asyncio.Event()
        """Set when a worker is lost and cannot be replaced."""

    async def start(self, sources: list[int]) -> None:
        """Bring them to life. sources: the numbers of the clusters that the Corefile asks for."""
        self._sources = sources
        self._attending = asyncio.create_task(self._attend(), name="attend")
        async with self._staging:
            births = [self._bear(number) for number in range(len(self._sockets))]
            readers = await asyncio.gather(*births)
        for number, reader in enumerate(readers):
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
        """What all workers have counted; of one that does not answer in time, what it said last."""
        async with self._asking:
            waiting = {worker.ask(): worker.number for worker in self._workers.values()}
            for late in await _late(waiting, PATIENCE):
                log.warning("worker %d has not said what it has counted", waiting[late])
        told = [worker.counted.totals for worker in self._workers.values() if worker.counted]
        return together((self._past, *told))

    async def answering(self) -> None:
        """Wait until every worker has done all that it was told until now, or is no more."""
        await asyncio.gather(*[worker.ask() for worker in self._workers.values()])

    def attend(self) -> None:
        """Look at every worker, and end who has shown no sign of itself for long."""
        for worker in list(self._workers.values()):
            if worker.is_silent():
                self._abandon(worker, "shows no sign of life")

    async def _attend(self) -> NoReturn:
        while True:
            await asyncio.sleep(PROBE_EVERY)
            self.attend()

    def _abandon(self, worker: _Worker, why: str) -> None:
        worker.give_up(why)
        try:
            self._end(worker.number)
        except OSError as error:
            log.critical("worker %d cannot be ended: %s", worker.number, error)

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
        written = generation.plan.written
        sources = [self.number_of(cluster) for cluster in generation.clusters]
        await self._staging.acquire()
        self._staged = (generation, sockets, sources)
        waiting: dict[asyncio.Future[str], _Worker] = {}
        for worker in self._workers.values():
            waiting[worker.expect()] = worker
            try:
                worker.stage(written, sockets[worker.number], sources)
            except ConnectionError:
                pass  # It has ended, and nobody has told us yet: the next one is told all anew.
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
            self._abandon(waiting[silent], "does not answer")
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
        if self._attending is not None:
            self._attending.cancel()
        self.tell(Stop())
        for number, task in enumerate(self._tasks):
            if number not in self._workers:
                task.cancel()  # it waits to replace one that is not wanted any more
        if await _late(self._tasks, STOPPED_WITHIN):
            for worker in list(self._workers.values()):
                self._abandon(worker, "does not end")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sockets in self._sockets:
            sockets.close()

    async def _open(self, number: int) -> asyncio.StreamReader:
        """Bring a worker to life and tell it what there is. Raises OSError."""
        async with self._staging:
            return await self._bear(number)

    async def _bear(self, number: int) -> asyncio.StreamReader:
        """The same, while nobody changes the Corefile. One that ends at once does not raise."""
        ties = self._spawn(number)
        try:
            reader, writer = await asyncio.open_connection(sock=ties.link)
        except BaseException:
            ties.close()
            raise
        worker = self._workers[number] = _Worker(number, writer, ties.hand)
        try:
            # Nothing is awaited between its first message and its place among those who are told.
            worker.stage(self._written, self._sockets[number], self._sources)
            for relay in list(self._relays.values()):
                await worker.tell_all(relay.recount())
            worker.tell(Begin())
        except ConnectionError:
            pass  # Who listens to it finds that it has ended.
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


T = TypeVar("T")


async def _late(waiting: Collection[asyncio.Future[T]], seconds: float) -> set[asyncio.Future[T]]:
    """Those that have no result in so many seconds."""
    return (await asyncio.wait(waiting, timeout=seconds))[1] if waiting else set()


def _nobody(_: Cluster) -> int:
    raise LookupError("no source of clusters was named")
