"""The watches of a process: run, audited from time to time, and counted.

reflector  <- ApiClient.run      for ever
           <- ApiClient.audit    now and then, at random moments, one resource after the other
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from typing import NoReturn, Protocol

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import Reflector
from kdns.cluster.versions import DIGEST_BITS
from kdns.kube.client import ApiClient
from kdns.kube.patience import AUDIT_EVERY
from kdns.telemetry.meters import Labels, Meters, Values

log = logging.getLogger("kdns.kube")


class Chance(Protocol):
    """The method of `random.Random` that spreads audits."""

    def random(self) -> float:
        """A number of [0, 1)."""


class Watches:
    """All reflectors that run here, and what they and their audits have come to.

    audit_every: seconds between two audits of a resource, on average; 0 for none.
    """

    def __init__(
        self,
        rng: Chance,
        audit_every: float = AUDIT_EVERY,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rng = rng
        self._audit_every = audit_every
        self._sleep = sleep
        self._monotonic = monotonic
        self._running: list[tuple[ApiClient, Reflector]] = []
        self._lists: Values = {(resource.value,): 0 for resource in Resource}
        """Of reflectors that run no more."""
        self._audits: Values = {}
        self._faults: Values = {}

    async def run(self, client: ApiClient, reflectors: Iterable[Reflector]) -> NoReturn:
        """Keep the reflectors' sinks up to date, and audit them, until cancelled."""
        with self._counted(client, list(reflectors)) as running:
            async with asyncio.TaskGroup() as group:
                for reflector in running:
                    name = reflector.resource.value
                    group.create_task(client.run(reflector), name=f"watch {name}")
                    if self._audit_every:
                        group.create_task(self._audit(client, reflector), name=f"audit {name}")
        raise AssertionError("a watch has ended by itself")

    def ages(self) -> Iterator[tuple[str, float]]:
        """Seconds since a server last proved that it tells of each resource; inf for never."""
        now = self._monotonic()
        for client, reflector in self._running:
            heard = client.heard.get(reflector.resource)
            yield reflector.resource.value, inf if heard is None else now - heard

    def count_in(self, meters: Meters) -> None:
        """Have the numbers be metrics."""
        labels = ("resource",)
        meters.watch(
            "counter",
            "kdns_watch_lists",
            "Lists that were begun: the first one, and one whenever a watch could not go on.",
            labels,
            self._list_counts,
        )
        meters.watch(
            "gauge",
            "kdns_watch_failing",
            "1 while the API server does not tell of a resource as it should; the log says why.",
            labels,
            lambda: self._sums(lambda client, r: float(r.resource in client.failures)),
        )
        meters.watch(
            "gauge",
            "kdns_state_objects",
            "Objects that the API server has told of.",
            labels,
            lambda: self._sums(lambda _, reflector: len(reflector.versions)),
        )
        meters.watch(
            "gauge",
            "kdns_state_digest",
            "A number that replicas share when they were told the same objects in the same states.",
            labels,
            self._digests,
        )
        meters.watch(
            "counter",
            "kdns_audits",
            "Comparisons of what was told with what the API server has, by how they ended.",
            ("resource", "result"),
            self._audits.items,
        )
        meters.watch(
            "counter",
            "kdns_audit_faults",
            "Objects that audits found missing, outdated or left over, and had healed.",
            labels,
            self._faults.items,
        )

    @contextmanager
    def _counted(self, client: ApiClient, reflectors: list[Reflector]) -> Iterator[list[Reflector]]:
        pairs = [(client, reflector) for reflector in reflectors]
        for reflector in reflectors:
            labels = (reflector.resource.value,)
            self._faults.setdefault(labels, 0)
            for result in ("clean", "healed", "abandoned"):
                self._audits.setdefault((*labels, result), 0)
        self._running += pairs
        try:
            yield reflectors
        finally:
            self._running = [pair for pair in self._running if pair not in pairs]
            for reflector in reflectors:
                self._lists[reflector.resource.value,] += reflector.lists

    async def _audit(self, client: ApiClient, reflector: Reflector) -> NoReturn:
        labels = (reflector.resource.value,)
        while True:
            # Anywhere around its time: many replicas would otherwise audit at one moment.
            await self._sleep(self._audit_every * (0.5 + self._rng.random()))
            verdict = await client.audit(reflector)
            result = "abandoned" if verdict is None else "healed" if verdict.faults else "clean"
            self._audits[*labels, result] += 1
            self._faults[labels] += 0 if verdict is None else verdict.faults

    def _sums(
        self, number: Callable[[ApiClient, Reflector], float]
    ) -> Iterable[tuple[Labels, float]]:
        sums: Values = {}
        for client, reflector in self._running:
            labels = (reflector.resource.value,)
            sums[labels] = sums.get(labels, 0) + number(client, reflector)
        return sums.items()

    def _digests(self) -> Iterable[tuple[Labels, float]]:
        sums = self._sums(lambda _, reflector: reflector.versions.digest)
        return [(labels, int(number) % (1 << DIGEST_BITS)) for labels, number in sums]

    def _list_counts(self) -> Iterable[tuple[Labels, float]]:
        running = dict(self._sums(lambda _, reflector: reflector.lists))
        past = {labels: number for labels, number in self._lists.items() if number}
        return [(k, past.get(k, 0) + running.get(k, 0)) for k in past.keys() | running.keys()]
