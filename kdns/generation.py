"""What is built from one Corefile: blocks, and all that their directives asked for.

    Process     sockets, clock, clusters' states          lives as long as the process
       ^
    Generation  blocks, handlers, counters, HTTP routes   lives as long as its Corefile, and its
                                                          last pending answer

The next generation is built beside the present one, and takes over in one step; it finds the states
and the upstreams that it needs where the present one has them. The present one then lives on for
the answers that are pending, and is taken apart.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar, cast

from kdns.admin.webconfig import Secured, read_web_config
from kdns.cluster.state import Cluster, Listener, OnChanged
from kdns.corefile.address import Place
from kdns.endpoint import Endpoint, label_of
from kdns.net.certificates import FileCertificates
from kdns.net.framestream import FrameStream
from kdns.net.upstreams import SharedUpstreams
from kdns.plan import Plan, PlannedBlock
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, refuse
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.encryption import Certificates, ServerTls
from kdns.plugins.hot import Lease
from kdns.plugins.interfaces import host_addresses
from kdns.plugins.parts import (
    STOPPING,
    HttpReply,
    HttpRequest,
    Page,
    Route,
    Routes,
    Scarce,
    SourceSettings,
    Timer,
    WebConfigError,
)
from kdns.plugins.pending import Pending
from kdns.plugins.table import WITHOUT_HANDLER
from kdns.plugins.tap import Sink, SinkSettings
from kdns.plugins.upstream import UpstreamExchange, UpstreamSettings
from kdns.telemetry.dnstap import CONTENT_TYPE
from kdns.telemetry.meters import Meters
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Top
from kdns.totals import Totals, totals

T = TypeVar("T")


class Process(Protocol):
    """What a generation needs of the process that it is built in."""

    rng: Random
    hostname: str
    loop: asyncio.AbstractEventLoop
    stopping: bool
    upstreams: SharedUpstreams

    @property
    def overseen(self) -> bool:
        """Whether another process tells it what it serves."""

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings, the same one for the same settings."""

    def outdated(self) -> list[str]:
        """What of the clusters we have not been told of for too long."""

    async def metrics(self, request: HttpRequest, *, runtime: bool) -> HttpReply:
        """What /metrics says."""

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        """See Parts.fetch."""

    async def top(self, request: HttpRequest) -> HttpReply:
        """What /top says."""

    async def profile(self, seconds: float) -> Profile:
        """See Parts.profile."""


class Generation:
    """One Corefile at work.

    endpoints: of every place that the plan listens on. Make it, and take it apart by `end`.
    Raises CorefileError for what only shows when it is built.
    """

    def __init__(
        self,
        process: Process,
        plan: Plan,
        endpoints: Mapping[Place, Endpoint],
    ) -> None:
        self.process = process
        self.plan = plan
        self.endpoints = endpoints
        self.blocks: list[Block] = []
        self.served: dict[Place, list[Block]] = {}
        """The blocks of each place."""
        self.clusters: list[Cluster] = []
        """Those that blocks answer from, in the order in which they were asked for."""
        self.meters = Meters()
        self.asked: Top | None = None
        """Where it is counted who asks what, if a block wants that."""
        self.routes: Routes = {}
        self.secured: dict[str, Secured] = {}
        """Addresses of HTTP that are served over TLS."""
        self.readiness: list[tuple[str, Callable[[], bool]]] = []
        self.started: list[Callable[[], Awaitable[object] | None]] = []
        self.stopped: list[Callable[[], Awaitable[object] | None]] = []
        self.scarce: list[tuple[Scarce, Callable[[float], object]]] = []
        self.lameduck = 0.0
        self.over = False
        self._uses: Counter[UpstreamSettings] = Counter()
        self._begun = False
        self._heard: list[tuple[Cluster, int, OnChanged | None]] = []
        self._listening: list[tuple[Cluster, tuple[Listener, ...], OnChanged | None]] = []
        try:
            self._build()
        except BaseException:
            self._dismantle()
            raise

    def take_over(self) -> None:
        """It runs from here on: what only one of two may count is for it."""
        for cluster, _, on_changed in self._listening:
            cluster.on_changed = on_changed

    async def begin(self) -> None:
        """Do what was to be done once the sockets are answered."""
        self._begun = True
        for action in self.started:
            waiting = action()
            if waiting is not None:
                await waiting

    def shrink(self, kept: float, pending: float) -> None:
        """Have these parts of what is kept from upstreams, and of questions to them."""
        for kind, shrink in self.scarce:
            shrink(kept if kind == "kept" else pending)

    def unready(self) -> list[str]:
        """The names of what is not ready."""
        return list(dict.fromkeys(name for name, ready in self.readiness if not ready()))

    def totals(self) -> Totals:
        """What was counted; what was answered hot is in it once the tables were counted."""
        counted = totals(self.blocks, [])
        # Afterwards, for some of it is read from what blocks have counted.
        counted.samples = self.meters.sample()
        return counted

    async def end(self) -> None:
        """Nothing of it is asked any more: have it finish what it began, and take it apart."""
        self.over = True
        if self._begun:
            for action in self.stopped:
                waiting = action()
                if waiting is not None:
                    await waiting
        self._dismantle()

    def _dismantle(self) -> None:
        """Handlers, blocks and what they were given hold each other: undo that.

        So all of it goes at once; the collector of cycles must not have to walk a cluster to find
        it.
        """
        self.over = True
        self._count_listeners()
        for cluster, listeners, on_changed in self._listening:
            cluster.unlisten(listeners)
            if cluster.on_changed is on_changed:
                cluster.on_changed = None
        for block in self.blocks:
            block.handler = refuse
            block.forwarded.clear()
            block.passing.clear()
            block.taken.clear()
            block.when_taken.clear()
            block.labels.clear()
            block.observers.clear()
        for held in (self.stopped, self.started, self.readiness, self.scarce, self._listening):
            held.clear()
        for settings in list(self._uses.elements()):
            self.release(settings)
        self.routes = {}
        self.served = {}
        self.meters = Meters()

    def _build(self) -> None:
        built: dict[int, Block] = {}
        for place, planned in self.plan.listeners().items():
            endpoint = self.endpoints[place]
            for block in planned:
                if id(block) not in built:
                    built[id(block)] = self._build_block(block, endpoint)
                self.served.setdefault(place, []).append(built[id(block)])
        self._count_listeners()

    def _build_block(self, planned: PlannedBlock, endpoint: Endpoint) -> Block:
        place = planned.places()[0]._replace(port=endpoint.place.port)
        block = Block(planned.zones, label=label_of(place))
        self.blocks.append(block)
        parts = BlockParts(self, block, endpoint.dispatcher)
        handler: Handler = refuse
        for known in reversed(planned.directives):
            handler = known.settings.build(parts, handler)
        block.handler = handler
        names = [known.plugin.name for known in planned.directives]
        block.enabled = tuple(dict.fromkeys(n for n in names if n not in WITHOUT_HANDLER))
        return block

    def hear(self, cluster: Cluster) -> None:
        """Blocks answer from this one, and listen to it from now on."""
        if cluster not in self.clusters:
            self.clusters.append(cluster)
            self._heard.append((cluster, len(cluster.listeners), cluster.on_changed))
            cluster.on_changed = None

    def _count_listeners(self) -> None:
        """Those that came while this was built are ours: nobody else runs in between."""
        for cluster, count, before in self._heard:
            self._listening.append((cluster, cluster.listeners[count:], cluster.on_changed))
            cluster.on_changed = before
        self._heard.clear()

    def upstream(self, settings: UpstreamSettings) -> UpstreamExchange:
        """See Parts.upstream. It may be another generation's too."""
        taken = self.process.upstreams.take(settings, self)
        self._uses[settings] += 1
        if self.over:
            self.release(settings)
        return taken

    def release(self, settings: UpstreamSettings) -> None:
        """See Parts.release."""
        if self._uses[settings]:
            self._uses[settings] -= 1
            self.process.upstreams.release(settings, self)


@dataclass(slots=True)
class BlockParts:
    """The world as the directives of one block see it: implements plugins.parts.Parts."""

    generation: Generation
    block: Block
    dispatcher: Dispatcher

    @property
    def rng(self) -> Random:
        return self.generation.process.rng

    @property
    def hostname(self) -> str:
        return self.generation.process.hostname

    @property
    def judged(self) -> bool:
        return self.generation.process.overseen

    @property
    def meters(self) -> Meters:
        return self.generation.meters

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        if self.generation.over:
            return _NEVER
        return self.generation.process.loop.call_later(delay, callback)

    def aside(self, work: Callable[[], T]) -> Pending[T]:
        pending: Pending[T] = Pending()

        def done(future: "asyncio.Future[T]") -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                pending.resolve(future.result())
            else:
                pending.fail(cast("Exception", error))

        self.generation.process.loop.run_in_executor(None, work).add_done_callback(done)
        return pending

    def local_addresses(self) -> tuple[bytes, ...]:
        return host_addresses()

    def upstream(self, settings: UpstreamSettings) -> UpstreamExchange:
        return self.generation.upstream(settings)

    def sink(self, settings: SinkSettings) -> Sink:
        return FrameStream(settings, CONTENT_TYPE)

    def release(self, settings: UpstreamSettings) -> None:
        self.generation.release(settings)

    def cluster(self, settings: SourceSettings) -> Cluster:
        cluster = self.generation.process.cluster(settings)
        self.generation.hear(cluster)
        return cluster

    def all_clusters(self) -> list[Cluster]:
        return self.generation.clusters

    def forget(self, changed: Iterable[object]) -> None:
        answers = [endpoint.dispatcher.hot for endpoint in self.generation.endpoints.values()]
        if any(answers):
            told = list(changed)
            for hot in answers:
                hot.forget(told)

    def renew(self, leases: Sequence[Lease]) -> None:
        for endpoint in self.generation.endpoints.values():
            endpoint.dispatcher.hot.renew(leases)

    def resolve(self, request: Request) -> Outcome:
        return self.dispatcher.resolve(request)

    def route(self, address: str, path: str, route: Route) -> None:
        self.generation.routes.setdefault(address, {})[path] = route

    def secure(self, address: str, file: str) -> None:
        secured = read_web_config(Path(file))
        if self.generation.secured.setdefault(address, secured) != secured:
            raise WebConfigError(f"{address} is served by another file already; expected the same")

    def certificates(self, settings: ServerTls) -> Certificates:
        return FileCertificates(settings, judged=self.judged)

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        if address in self.generation.secured:
            return None  # we do not come with a certificate
        return self.generation.process.fetch(address, path, seconds)

    def top(self, address: str) -> Top:
        if self.generation.asked is None:
            self.generation.asked = Top(time.monotonic)
        self.route(address, "/top", Page(self.generation.process.top))
        return self.generation.asked

    async def profile(self, seconds: float) -> Profile:
        return await self.generation.process.profile(seconds)

    def metrics_route(self, address: str, *, runtime: bool = False) -> None:
        page = partial(self.generation.process.metrics, runtime=runtime)
        self.route(address, "/metrics", Page(page))

    def when_short(self, kind: Scarce, shrink: Callable[[float], object]) -> None:
        self.generation.scarce.append((kind, shrink))

    def when_ready(self, name: str, ready: Callable[[], bool]) -> None:
        self.generation.readiness.append((name, ready))

    def unready(self) -> list[str]:
        if self.generation.process.stopping:
            return [STOPPING]
        return self.generation.unready()

    def outdated(self) -> list[str]:
        return self.generation.process.outdated()

    def linger(self, seconds: float) -> None:
        self.generation.lameduck = max(self.generation.lameduck, seconds)

    def when_started(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.generation.started.append(action)

    def when_stopped(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.generation.stopped.append(action)


class _Never:
    """A timer that was asked for after the end."""

    def cancel(self) -> None:
        """Nothing: it will not happen anyway."""


_NEVER = _Never()
