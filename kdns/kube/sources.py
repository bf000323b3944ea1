"""Clusters kept up to date: from an API server, or from manifests in its place.

One state is kept for all directives that ask for the same objects of the same server.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import NoReturn

from kdns.cluster.held import Held
from kdns.cluster.objects import Resource
from kdns.cluster.reflector import Reflector
from kdns.cluster.sink import Reader, Sink
from kdns.cluster.state import Cluster
from kdns.kube import snapshot
from kdns.kube.client import ApiClient
from kdns.kube.credentials import Connection, endpoint, in_cluster
from kdns.kube.kubeconfig import kubeconfig
from kdns.kube.manifests import Manifests
from kdns.kube.patience import AUDIT_EVERY, WATCH_SILENCE_SECONDS
from kdns.kube.snapshot import SnapshotError
from kdns.kube.watches import Watches
from kdns.plugins.parts import SourceSettings
from kdns.telemetry.meters import Meters

WRITE_EVERY = 10.0
"""Seconds between two writings of the state."""
AFTER_FAULT = 10.0
"""Seconds before a cluster is followed anew that a fault of ours has stopped."""

log = logging.getLogger("kdns.kube")


class Sources:
    """Makes clusters and feeds them.

    manifests: files and folders that stand in for every API server; empty for none.
    kubeconfig_file: takes the place of what the Corefile says about the API server.
    relay: the Reader that is fed in place of a cluster, given its number, itself, and what holds
    its objects and is told before.
    state_dir: where the state is written when it changes, and read from at the start; "" for not.
    write_every: seconds between two writings at least.
    watch_silence: seconds after which a watch that says nothing is left.
    after_fault: seconds before a cluster is followed anew that a fault of ours has stopped.
    audit_every: seconds between two audits of what the API server has told; 0 for none.
    """

    def __init__(
        self,
        *,
        manifests: tuple[str, ...] = (),
        service_cidrs: tuple[str, ...] = (),
        kubeconfig_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
        rng: Random,
        relay: Callable[[int, Cluster, Held], Reader] | None = None,
        state_dir: str = "",
        write_every: float = WRITE_EVERY,
        audit_every: float = AUDIT_EVERY,
        watch_silence: float = WATCH_SILENCE_SECONDS,
        after_fault: float = AFTER_FAULT,
    ) -> None:
        self.meters = Meters()
        """What is counted of talking to API servers."""
        self._watch_silence = watch_silence
        self._after_fault = after_fault
        self._watches = Watches(rng, audit_every)
        self._watches.count_in(self.meters)
        self._state_dir = state_dir
        self._write_every = write_every
        self._manifests = manifests
        self._service_cidrs = service_cidrs
        self._kubeconfig_file = kubeconfig_file
        self._environ = environ
        self._rng = rng
        self._relay = relay
        self._fed: dict[SourceSettings, _Fed] = {}
        self._numbers = count()

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings, fed from when `start` is called next."""
        fed = self._fed.get(settings)
        if fed is None:
            cluster = Cluster(time.time, _left_out, pod_names=settings.pod_names)
            fed = self._fed[settings] = _Fed(next(self._numbers), cluster)
        return fed.cluster

    def number(self, cluster: Cluster) -> int:
        """How `relay` was told of a cluster of ours."""
        return next(fed.number for fed in self._fed.values() if fed.cluster is cluster)

    async def start(self) -> None:
        """Read the manifests, or find the way to the API servers, and begin to follow them.

        Those that are followed already go on. Raises ManifestError and CredentialsError; what
        happens later is logged, and tried again.
        """
        for slot, (settings, fed) in enumerate(self._fed.items()):
            if not fed.tasks:
                await self._feed(slot, settings, fed)

    async def keep(self, clusters: Sequence[Cluster]) -> None:
        """Forget all others. These are in the order in which the Corefile asks for them."""
        places = {id(cluster): place for place, cluster in enumerate(clusters)}
        gone = [fed for fed in self._fed.values() if id(fed.cluster) not in places]
        kept = [item for item in self._fed.items() if id(item[1].cluster) in places]
        self._fed = dict(sorted(kept, key=lambda item: places[id(item[1].cluster)]))
        await asyncio.gather(*[fed.close() for fed in gone])
        for slot, fed in enumerate(self._fed.values()):
            if fed.snapshot is not None:
                fed.snapshot.move(self._path(slot))

    def ages(self) -> Iterator[tuple[str, float]]:
        """Seconds since an API server last proved that it tells of each resource; inf for never.

        Manifests are looked at all the time, and are not in it.
        """
        return self._watches.ages()

    async def close(self) -> None:
        """Follow nothing any more. The clusters keep the state that they have."""
        await asyncio.gather(*[fed.close() for fed in self._fed.values()])

    async def _feed(self, slot: int, settings: SourceSettings, fed: "_Fed") -> None:
        sink: Sink = fed.cluster
        held = Held(_left_out, fed.cluster, pod_names=settings.pod_names)
        remembers = bool(self._state_dir) and not self._manifests
        if self._relay is not None:
            held.then = self._relay(fed.number, fed.cluster, held)
        if self._relay or remembers:
            sink = held
        if self._manifests:
            if self._state_dir:
                log.info("%s is not used: manifests are read at every start", self._state_dir)
            manifests = self._read_manifests(settings, sink)
            fed.spawn(manifests.watch(sink, fed.stopping), "manifests")
            return
        connection = await self._connect(settings)
        if remembers:
            identity = f"{' '.join(connection.servers)}, {_selected(settings)}"
            fed.snapshot = _Snapshot(self._path(slot), identity, held, settings.resources)
            fed.snapshot.recall()
            fed.spawn(fed.snapshot.keep(self._write_every), f"state of {connection.server}")
        log.info("watching the API server at %s", " or ".join(connection.servers))
        follow = self._follow(connection, settings, sink, remembers=bool(held.assumed))
        fed.spawn(follow, connection.server)

    def _path(self, slot: int) -> Path:
        return Path(self._state_dir) / f"cluster-{slot}.state"

    def _read_manifests(self, settings: SourceSettings, sink: Sink) -> Manifests:
        selectors = {resource: (labels, fields) for resource, labels, fields in settings.selectors}
        manifests = Manifests(
            self._manifests,
            service_cidrs=self._service_cidrs,
            selectors=selectors,
            resources=settings.resources,
        )
        manifests.apply_to(sink)
        return manifests

    async def _connect(self, settings: SourceSettings) -> Connection:
        if self._kubeconfig_file is not None:
            return await kubeconfig(self._kubeconfig_file, "", self._environ)
        if settings.kubeconfig is not None:
            return await kubeconfig(*settings.kubeconfig, self._environ)
        if settings.endpoint is not None:
            others = settings.other_endpoints
            return endpoint(settings.endpoint, *(settings.tls or ()), others=others)
        return in_cluster(self._environ)

    async def _follow(
        self, connection: Connection, settings: SourceSettings, sink: Sink, *, remembers: bool
    ) -> NoReturn:
        """Keep it up to date until cancelled, whatever is wrong, be it with us."""
        while True:
            reflectors = self._reflectors(settings, sink, holds=remembers)
            try:
                async with ApiClient(
                    connection, silence=self._watch_silence, meters=self.meters
                ) as client:
                    await self._watches.run(client, reflectors)
            except Exception:  # A fault of ours: a state that stays as it is would be a worse one.
                log.exception("%s: a fault; listing anew", connection.server)
                remembers = True
                await asyncio.sleep(self._after_fault)

    def _reflectors(self, settings: SourceSettings, sink: Sink, *, holds: bool) -> list[Reflector]:
        selected = {resource: (labels, fields) for resource, labels, fields in settings.selectors}
        return [
            Reflector(
                resource,
                sink,
                self._rng,
                label_selector=str(selected[resource][0]),
                field_selector=str(selected[resource][1]),
                holds=holds,
                on_bad_object=_left_out,
            )
            for resource in sorted(settings.resources, key=lambda r: r.value)
        ]


class _Fed:
    """One cluster, and what keeps it up to date."""

    def __init__(self, number: int, cluster: Cluster) -> None:
        self.number = number
        self.cluster = cluster
        self.snapshot: _Snapshot | None = None
        self.stopping = asyncio.Event()
        self.tasks: list[asyncio.Task[object]] = []

    def spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        """Do something until the end."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_of_the_end)
        self.tasks.append(task)

    async def close(self) -> None:
        """Follow it no more. It keeps the state that it has."""
        self.stopping.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        if self.snapshot is not None:
            self.snapshot.write()


class _Snapshot:
    """What is held of one cluster, and the file that remembers it."""

    def __init__(
        self, path: Path, identity: str, held: Held, resources: frozenset[Resource]
    ) -> None:
        self._path = path
        self._identity = identity
        self._held = held
        self._resources = resources
        self._written = 0
        self._why = ""
        """What is wrong with writing, as it was logged."""

    def recall(self) -> None:
        """Tell what the file has, if it can be believed, as what once was."""
        try:
            remembered = snapshot.read(self._path, self._identity)
        except SnapshotError as error:
            log.warning("the remembered state is not used: %s", error)
            return
        if remembered is None:
            log.info(
                "%s: nothing is remembered yet; cluster names wait for the API server", self._path
            )
            return
        for item in remembered:
            self._held.put(item)
        for resource in self._resources:
            self._held.assume(resource)
        self._written = self._held.changes
        log.warning(
            "answering from %d objects remembered in %s until the API server is there",
            len(remembered),
            self._path,
        )

    def move(self, path: Path) -> None:
        """Write to another file from now on: a start looks there for the cluster of this place."""
        if path != self._path:
            self._path = path
            self._written = -1

    async def keep(self, every: float) -> NoReturn:
        """Write when something has changed, not more often than `every` seconds."""
        while True:
            await asyncio.sleep(every)
            if self._is_due():
                # The octets are there; joining, hashing and writing them is nobody's wait.
                changes, objects = self._held.changes, self._objects()
                if await asyncio.to_thread(self._put, objects):
                    self._written = changes

    def write(self) -> None:
        """Write now what is not written yet."""
        if self._is_due() and self._put(self._objects()):
            self._written = self._held.changes

    def _is_due(self) -> bool:
        """Only what was listed whole is worth remembering; until then the old file is better."""
        return self._held.changes != self._written and self._resources <= self._held.swept

    def _objects(self) -> dict[Resource, list[bytes]]:
        return {
            resource: [body for _, body in self._held.objects(resource)]
            for resource in sorted(self._resources, key=lambda resource: resource.value)
        }

    def _put(self, objects: dict[Resource, list[bytes]]) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            snapshot.write(self._path, self._identity, objects)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._why:
                # Once, and not every ten seconds of a night in which a disk is full.
                self._why = why
                log.warning("%s: the state cannot be written: %s; trying again", self._path, why)
            return False
        if self._why:
            self._why = ""
            log.info("%s: the state is written again", self._path)
        return True


def _left_out(reason: str) -> None:
    log.warning("left out: %s", reason)


def _selected(settings: SourceSettings) -> str:
    """What of the server's objects is followed, in words that are the same for the same."""
    told = sorted(
        f"{resource.value} [{labels}] [{fields}]" for resource, labels, fields in settings.selectors
    )
    names = " ".join(sorted(resource.value for resource in settings.resources))
    return f"{names}{', with pod names' * settings.pod_names}; {'; '.join(told)}"


def _tell_of_the_end(task: "asyncio.Task[object]") -> None:
    """These tasks are endless: one that ends by itself is a fault of ours, never silent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s is no longer followed", task.get_name(), exc_info=error)
