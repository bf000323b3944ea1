"""The server: built from a plan, started, and stopped in order.

start:  sockets, so that a port in use is told before anything else is done
        blocks, last directive first, each handler before the next
        HTTP, sources of objects, then the listeners begin to answer
stop:   readiness says no, linger (lameduck), listeners drain, sources and HTTP end
"""

import asyncio
import gc
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from kdns.admin.http import AdminServer
from kdns.admin.metrics import metrics_page
from kdns.admin.probe import says_ok
from kdns.cluster.state import Cluster
from kdns.net import batch
from kdns.net.framestream import FrameStream
from kdns.net.listen import bind_all
from kdns.net.tcp import TcpListener
from kdns.net.udp import UdpListener
from kdns.net.upstreams import AnyUpstream, make_upstream
from kdns.plan import Plan, PlannedBlock
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, refuse
from kdns.plugins.dispatch import Dispatcher, FamilyFront
from kdns.plugins.hot import Table
from kdns.plugins.interfaces import host_addresses
from kdns.plugins.parts import STOPPING, HttpReply, HttpRequest, Page, Route, SourceSettings, Timer
from kdns.plugins.pending import Pending
from kdns.plugins.table import WITHOUT_HANDLER
from kdns.plugins.tap import Sink, SinkSettings
from kdns.plugins.upstream import UpstreamExchange, UpstreamSettings
from kdns.telemetry import lines
from kdns.telemetry.dnstap import CONTENT_TYPE
from kdns.telemetry.meters import Labels, Meters, Sample, merge
from kdns.telemetry.process import watch_process

log = logging.getLogger("kdns")

COLLECT = (5_000, 20, 1_000)
"""Thresholds of the collector of cycles: rarely the young, hardly ever the old."""
MAX_WATCH_AGE = 300.0
"""Seconds without a sign of the API server after which what we know may be the past: five of its
bookmarks."""
DRAIN = 5.0
"""Seconds that pending answers are waited for at the end, as in CoreDNS."""


class ClusterSources(Protocol):
    """Where the states of clusters come from; kube.sources.Sources, or what stands for it."""

    meters: Meters

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings, the same one for the same settings."""

    async def start(self) -> None:
        """Begin to feed them."""

    async def close(self) -> None:
        """Feed nothing any more."""

    def ages(self) -> Iterable[tuple[str, float]]:
        """By resource: seconds since it was last known that we are told of it; inf for never."""


class Sockets:
    """The listening sockets of one process, by the address and port of the plan."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[socket.socket]] = {}

    def put(self, host: str, port: int, sockets: list[socket.socket]) -> None:
        """Hold the UDP sockets and, last, the TCP socket of one address."""
        self._held[host, port] = sockets

    def take(self, host: str, port: int) -> list[socket.socket]:
        """Give them away."""
        return self._held.pop((host, port))

    def ports(self) -> dict[tuple[str, int], int]:
        """The port that each address got: another than the plan's where that is 0."""
        return {place: int(held[-1].getsockname()[1]) for place, held in self._held.items()}

    def close(self) -> None:
        """Close what was not taken."""
        for sockets in self._held.values():
            for sock in sockets:
                sock.close()
        self._held.clear()


def open_sockets(plan: Plan, processes: int = 1) -> list[Sockets]:
    """The sockets of each process, all on the ports of the plan. Raises ListenError."""
    opened = [Sockets() for _ in range(processes)]
    try:
        for host, port in plan.listeners():
            if processes == 1:
                opened[0].put(host, port, bind_all(host, port))
                continue
            # Sockets that share a port would share it with another server too: so see first
            # that nobody has it.
            probe = bind_all(host, port)
            bound = int(probe[-1].getsockname()[1])
            for sock in probe:
                sock.close()
            for sockets in opened:
                sockets.put(host, port, bind_all(host, bound, reuse_port=True))
    except BaseException:
        for sockets in opened:
            sockets.close()
        raise
    return opened


class App:
    """One process of a server. Make it in a running loop.

    sockets: what it answers on; None for a process that only oversees others. `admin` may be put
    off, and `refresh` is awaited before metrics are read.
    """

    def __init__(
        self, plan: Plan, sources: ClusterSources, rng: Random, sockets: Sockets | None
    ) -> None:
        self._plan = plan
        self._sockets = sockets
        self.sources = sources
        self.rng = rng
        self.loop = asyncio.get_running_loop()
        self.hostname = socket.gethostname()
        self.admin = AdminServer()
        self.serves_admin = True
        self.ports: dict[tuple[str, int], int] = {}
        """The ports that others answer on, where the plan leaves them open."""
        self.refresh: Callable[[], Awaitable[object]] | None = None
        self.blocks: list[Block] = []
        self.clusters: list[Cluster] = []
        """Those that blocks answer from."""
        self.upstreams: dict[UpstreamSettings, AnyUpstream] = {}
        self.uses: Counter[UpstreamSettings] = Counter()
        """How many directives ask each of them."""
        self.closing: set[asyncio.Task[None]] = set()
        """Those that nobody asks any more, on their way out."""
        self.meters = Meters()
        self.others: list[Sample] = []
        """What other processes of the server have counted, as `refresh` found it."""
        self.readiness: list[tuple[str, Callable[[], bool]]] = []
        self.started: list[Callable[[], Awaitable[object] | None]] = []
        self.stopped: list[Callable[[], Awaitable[object] | None]] = []
        self.lameduck = 0.0
        self.stopping = False
        self.addresses: list[tuple[str, int]] = []
        """Where it listens, once it does: (host, port), "" for every address."""
        self.dispatchers: list[Dispatcher] = []
        self._probes: set[asyncio.Task[bool]] = set()
        self._udp: list[UdpListener] = []
        self._admitting: list[tuple[batch.BatchedUdpListener, Dispatcher]] = []
        self._tcp: list[TcpListener] = []

    def outdated(self) -> list[str]:
        """What of the cluster we have not been told of for too long."""
        return sorted({name for name, age in self.sources.ages() if age > MAX_WATCH_AGE})

    async def start(self) -> None:
        """Listen and answer.

        Raises ListenError, AdminError, CorefileError, ManifestError and CredentialsError.
        """
        await self.prepare()
        await self.answer()

    async def prepare(self) -> None:
        """Do all but answer: what comes in waits. Raises what `start` raises."""
        try:
            await self._prepare()
        except BaseException:
            await self._close()
            raise

    async def answer(self) -> None:
        """Answer what has come in, and what comes."""
        debug = any(block.debug for block in self.blocks)
        log.setLevel(logging.DEBUG if debug else logging.NOTSET)
        if self._sockets is None:
            return
        for udp_listener in self._udp:
            udp_listener.start()
        for tcp_listener in self._tcp:
            await tcp_listener.start()
        for action in self.started:
            waiting = action()
            if waiting is not None:
                await waiting
        self.settle()

    async def stop(self, *, linger: bool = True) -> None:
        """Be not ready, linger, and stop. Twice is harmless."""
        if self.stopping:
            return
        self.stopping = True
        if linger and self.lameduck:
            log.info("stopping in %g s", self.lameduck)
            await asyncio.sleep(self.lameduck)
        await self._close()

    def counted_blocks(self) -> list[Block]:
        """The blocks, with all that was answered hot in their counters."""
        for dispatcher in self.dispatchers:
            for table in dispatcher.tables:
                table.count()
        for block in self.blocks:
            for counters in block.by_zone:
                counters.settle()
        return self.blocks

    def samples(self) -> list[Sample]:
        """What all processes of the server have counted, but for the blocks' counters."""
        return merge((self.meters.sample(), self.sources.meters.sample(), self.others))

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        """See Parts.fetch."""
        if not self.serves_admin:
            return None
        pending: Pending[bool] = Pending()
        task = self.loop.create_task(
            says_ok(address, self.admin.ports.get(address, 0), path, seconds), name="self-probe"
        )
        self._probes.add(task)

        def done(task: "asyncio.Task[bool]") -> None:
            self._probes.discard(task)
            pending.resolve(not task.cancelled() and task.exception() is None and task.result())

        task.add_done_callback(done)
        return pending

    def settle(self) -> None:
        """Once everything is known, have the collector of cycles leave it alone.

        What a cluster holds lives long and has no cycles; walking all of it, again and again,
        stops every answer for as long as it takes. Until then this asks again in a second.
        """
        if self.stopping:
            return
        if not all(ready() for _, ready in self.readiness):
            self.loop.call_later(1.0, self.settle)
            return
        names = sum(len(cluster.services) for cluster in self.clusters)
        for dispatcher in self.dispatchers:
            dispatcher.widen(names)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)

    async def _prepare(self) -> None:
        built: dict[int, Block] = {}
        for (host, port), planned in self._plan.listeners().items():
            dispatcher = Dispatcher(time.monotonic)
            self.dispatchers.append(dispatcher)
            bound = self.ports.get((host, port), port)
            if self._sockets is not None:
                bound = self._listen(self._sockets.take(host, port), dispatcher)
            self.addresses.append((host, bound))
            for block in planned:
                if id(block) not in built:
                    built[id(block)] = self._build(block, bound, dispatcher)
                dispatcher.serve(built[id(block)])
            self._count_unserved(dispatcher, planned, bound)
        for listener, dispatcher in self._admitting:
            listener.admission.ours(dispatcher.own_zones())
        self.meters.watch(
            "gauge",
            "kdns_watch_age_seconds",
            "Seconds since the API server last proved that it tells of a resource.",
            ("resource",),
            self._ages,
        )
        if self.upstreams:
            self._watch_connections()
        watch_process(self.meters, whole=self.serves_admin)
        self.meters.watch(
            "counter",
            "kdns_log_dropped_lines",
            "Log lines that were dropped because nobody took them.",
            (),
            lambda: [((), lines.dropped())],
        )
        if self.serves_admin:
            await self.admin.start()
        await self.sources.start()

    def _listen(self, sockets: list[socket.socket], dispatcher: Dispatcher) -> int:
        """Make listeners of the sockets of one address; the port that they have."""
        *udp, tcp = sockets
        bound = int(tcp.getsockname()[1])
        for sock in udp:
            family = 2 if sock.family == socket.AF_INET6 else 1
            if batch.available():
                table = Table("udp", family, batch.pin)
                front = dispatcher.front(table)
                listener = batch.BatchedUdpListener(sock, front, table)
                self._udp.append(listener)
                self._admitting.append((listener, dispatcher))
                self._watch_drops(listener)
            else:
                self._udp.append(UdpListener(sock, dispatcher.front(Table("udp", family))))
        fronts = [dispatcher.front(Table("tcp", family)) for family in (1, 2)]
        self._tcp.append(TcpListener(tcp, FamilyFront(*fronts)))
        return bound

    def _watch_connections(self) -> None:
        """CoreDNS's counts of how often a question to an upstream finds a connection open."""

        def read(place: int) -> Iterable[tuple[Labels, float]]:
            for settings, upstream in self.upstreams.items():
                for proto, *counts in upstream.reuse():
                    yield ("forward", str(settings), proto), counts[place]

        for place, metric, text in (
            (0, "coredns_proxy_conn_cache_hits", "over a connection that was open"),
            (1, "coredns_proxy_conn_cache_misses", "that had a connection opened"),
        ):
            self.meters.watch(
                "counter",
                metric,
                f"Questions to an upstream {text}.",
                ("proxy_name", "to", "proto"),
                partial(read, place),
            )

    def _count_unserved(
        self, dispatcher: Dispatcher, planned: list[PlannedBlock], port: int
    ) -> None:
        """Have queries for names of no zone counted where those of the others are."""
        nobody = dispatcher.nobody
        nobody.label = f"dns://{_bracketed(planned[0].hosts[0])}:{port}"
        nobody.counted = any(
            known.plugin.name == "prometheus" for block in planned for known in block.directives
        )
        self.blocks.append(nobody)
        self.meters.watch(
            "counter",
            "kdns_unserved_queries",
            "Messages that no block was asked about: unreadable ones, and names of no zone.",
            (),
            lambda: [((), dispatcher.unserved)],
        )

    def _ages(self) -> Iterable[tuple[Labels, float]]:
        oldest: dict[Labels, float] = {}
        for name, age in self.sources.ages():
            oldest[name,] = max(age, oldest.get((name,), 0.0))
        return oldest.items()

    def _watch_drops(self, listener: batch.BatchedUdpListener) -> None:
        self.meters.watch(
            "counter",
            "kdns_udp_receive_drops",
            "Queries that the kernel dropped because the socket's buffer was full.",
            (),
            lambda: [((), listener.kernel_drops())],
        )
        admission = listener.admission
        self.meters.watch(
            "counter",
            "kdns_dropped",
            "Queries that got no answer because there was too much to do, by what they were.",
            ("reason",),
            lambda: [(("outside",), admission.outside), (("greedy",), admission.greedy)],
        )
        self.meters.watch(
            "gauge",
            "kdns_shedding",
            "Sockets that turn new outside names away, since not all can be answered.",
            (),
            lambda: [((), int(admission.shedding))],
        )

    def _build(self, planned: PlannedBlock, port: int, dispatcher: Dispatcher) -> Block:
        block = Block(planned.zones, label=f"dns://{_bracketed(planned.hosts[0])}:{port}")
        parts = BlockParts(self, block, dispatcher)
        handler: Handler = refuse
        for known in reversed(planned.directives):
            handler = known.settings.build(parts, handler)
        block.handler = handler
        names = [known.plugin.name for known in planned.directives]
        block.enabled = tuple(dict.fromkeys(n for n in names if n not in WITHOUT_HANDLER))
        self.blocks.append(block)
        return block

    async def _close(self) -> None:
        for udp in self._udp:
            await udp.close(DRAIN)
        for tcp in self._tcp:
            await tcp.close(DRAIN)
        for task in self._probes:
            task.cancel()
        for action in self.stopped:
            waiting = action()
            if waiting is not None:
                await waiting
        for upstream in self.upstreams.values():
            await upstream.close()
        await asyncio.gather(*self.closing)
        await self.sources.close()
        await self.admin.close()


@dataclass(slots=True)
class BlockParts:
    """The world as the directives of one block see it: implements plugins.parts.Parts."""

    app: App
    block: Block
    dispatcher: Dispatcher

    @property
    def rng(self) -> Random:
        return self.app.rng

    @property
    def hostname(self) -> str:
        return self.app.hostname

    @property
    def meters(self) -> Meters:
        return self.app.meters

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self.app.loop.call_later(delay, callback)

    def local_addresses(self) -> tuple[bytes, ...]:
        return host_addresses()

    def upstream(self, settings: UpstreamSettings) -> UpstreamExchange:
        held = self.app.upstreams
        if settings not in held:
            held[settings] = make_upstream(settings, loop=self.app.loop, rng=self.app.rng)
        self.app.uses[settings] += 1
        return held[settings]

    def release(self, settings: UpstreamSettings) -> None:
        self.app.uses[settings] -= 1
        if not self.app.uses[settings]:
            del self.app.uses[settings]
            closing = self.app.loop.create_task(self.app.upstreams.pop(settings).close())
            self.app.closing.add(closing)
            closing.add_done_callback(self.app.closing.discard)

    def cluster(self, settings: SourceSettings) -> Cluster:
        cluster = self.app.sources.cluster(settings)
        if cluster not in self.app.clusters:
            self.app.clusters.append(cluster)
        return cluster

    def forget(self, changed: Iterable[object]) -> None:
        for dispatcher in self.app.dispatchers:
            dispatcher.hot.forget(changed)

    def resolve(self, request: Request) -> Outcome:
        return self.dispatcher.resolve(request)

    def route(self, address: str, path: str, route: Route) -> None:
        self.app.admin.route(address, path, route)

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        return self.app.fetch(address, path, seconds)

    def sink(self, settings: SinkSettings) -> Sink:
        return FrameStream(settings, CONTENT_TYPE)

    def metrics_route(self, address: str, *, runtime: bool = False) -> None:
        read = metrics_page(self.app.counted_blocks, self.app.samples, runtime=runtime)

        async def scrape(request: HttpRequest) -> HttpReply:
            if self.app.refresh is not None:
                await self.app.refresh()
            return read(request)

        self.app.admin.route(address, "/metrics", Page(scrape))

    def when_ready(self, name: str, ready: Callable[[], bool]) -> None:
        self.app.readiness.append((name, ready))

    def unready(self) -> list[str]:
        if self.app.stopping:
            return [STOPPING]
        return list(dict.fromkeys(name for name, ready in self.app.readiness if not ready()))

    def outdated(self) -> list[str]:
        return self.app.outdated()

    def linger(self, seconds: float) -> None:
        self.app.lameduck = max(self.app.lameduck, seconds)

    def when_started(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.app.started.append(action)

    def when_stopped(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.app.stopped.append(action)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
