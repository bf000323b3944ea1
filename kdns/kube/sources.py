"""Clusters kept up to date: from an API server, or from manifests in its place.

One state is kept for all directives that ask for the same objects of the same server.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from random import Random

from kdns.cluster.reflector import Reflector
from kdns.cluster.sink import Sink
from kdns.cluster.state import Cluster
from kdns.kube.client import ApiClient
from kdns.kube.credentials import Connection, endpoint, in_cluster
from kdns.kube.kubeconfig import kubeconfig
from kdns.kube.manifests import Manifests
from kdns.plugins.parts import SourceSettings

log = logging.getLogger("kdns.kube")


class Sources:
    """Makes clusters and feeds them.

    manifests: files and folders that stand in for every API server; empty for none.
    kubeconfig_file: takes the place of what the Corefile says about the API server.
    relay: the Sink that is fed in place of a cluster, given its number and itself.
    """

    def __init__(
        self,
        *,
        manifests: tuple[str, ...] = (),
        service_cidrs: tuple[str, ...] = (),
        kubeconfig_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
        rng: Random,
        relay: Callable[[int, Cluster], Sink] | None = None,
    ) -> None:
        self._manifests = manifests
        self._service_cidrs = service_cidrs
        self._kubeconfig_file = kubeconfig_file
        self._environ = environ
        self._rng = rng
        self._relay = relay
        self._clusters: dict[SourceSettings, Cluster] = {}
        self._tasks: list[asyncio.Task[object]] = []
        self._stopping = asyncio.Event()

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings, fed from when `start` is called."""
        cluster = self._clusters.get(settings)
        if cluster is None:
            cluster = Cluster(time.time, lambda reason: log.warning("left out: %s", reason))
            self._clusters[settings] = cluster
        return cluster

    async def start(self) -> None:
        """Read the manifests, or find the way to the API servers, and begin to follow them.

        Raises ManifestError and CredentialsError; what happens later is logged, and tried again.
        """
        for number, (settings, cluster) in enumerate(self._clusters.items()):
            sink: Sink = self._relay(number, cluster) if self._relay else cluster
            if self._manifests:
                manifests = self._read_manifests(settings, sink)
                self._spawn(manifests.watch(sink, self._stopping), "manifests")
            else:
                connection = await self._connect(settings)
                log.info("watching %s", connection.server)
                self._spawn(self._follow(connection, settings, sink), connection.server)

    async def close(self) -> None:
        """Follow nothing any more. The clusters keep the state that they have."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_of_the_end)
        self._tasks.append(task)

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
            return endpoint(settings.endpoint, *(settings.tls or ()))
        return in_cluster(self._environ)

    async def _follow(self, connection: Connection, settings: SourceSettings, sink: Sink) -> None:
        selected = {resource: (labels, fields) for resource, labels, fields in settings.selectors}
        async with ApiClient(connection) as client, asyncio.TaskGroup() as group:
            for resource in sorted(settings.resources, key=lambda r: r.value):
                labels, fields = selected[resource]
                reflector = Reflector(
                    resource,
                    sink,
                    self._rng,
                    label_selector=str(labels),
                    field_selector=str(fields),
                    on_bad_object=lambda reason: log.warning("left out: %s", reason),
                )
                group.create_task(client.run(reflector), name=f"watch {resource.value}")


def _tell_of_the_end(task: "asyncio.Task[object]") -> None:
    """These tasks are endless: one that ends by itself is a fault of ours, never silent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s is no longer followed", task.get_name(), exc_info=error)
