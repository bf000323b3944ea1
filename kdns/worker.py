"""One of several processes that answer: it is told all that it needs, and asks nobody.

What it serves, the sockets that it listens on and the objects of clusters come by its ties to the
overseer (`kdns.workers`), in the order in which they count. It answers from the first Begin on,
until it is told to stop or the overseer is gone.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterable, Sequence
from random import Random, SystemRandom

from kdns.app import App
from kdns.children import OTHER_VERSION, Birth, Ties, leave_to_the_overseer
from kdns.cluster.held import decode
from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.corefile.errors import CorefileError
from kdns.handing import take_all
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
    frame,
    receive,
    to_worker,
)
from kdns.plugins.parts import SourceSettings
from kdns.process import have_standard_files, log_to_stdout, run
from kdns.sockets import Sockets
from kdns.telemetry import profiler
from kdns.telemetry.meters import Meters


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


def _ignore(_: str) -> None:
    """The overseer has told of it."""


def live(ties: Ties, memory: int | None) -> int:
    """The life of a worker, in a process that has no loop; its exit status. See `work`."""

    async def whole() -> int:
        await work(ties, SystemRandom(), memory)
        return 0

    return run(whole())


def be_born(told: str) -> int:
    """The life of a worker in a process that was started for it; its exit status.

    told: its Birth. What cannot be read as one, or is of another version, was not told by what we
    are.
    """
    leave_to_the_overseer()
    try:
        birth = Birth.read(told)
    except ValueError:
        return OTHER_VERSION
    if not birth.is_ours:
        return OTHER_VERSION
    have_standard_files()
    log_to_stdout(birth.log)
    return live(birth.ties(), birth.memory or None)


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
            app = App(message.written.plan(os.environ), sources, rng, sockets, admin=None)
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
            case Probed():
                writer.write(frame(Alive()))
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
    ties.hand.close()
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
