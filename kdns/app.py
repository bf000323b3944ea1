"""The server: a Corefile at work in one process, started, changed for another, and stopped.

start:  sockets, so that a port in use is told before anything else is done
        blocks, last directive first, each handler before the next
        HTTP, sources of objects, then the listeners begin to answer
change: the same beside what runs; when that is as ready as what runs, one step takes it over
stop:   readiness says no, linger (lameduck), listeners drain, sources and HTTP end
"""

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from kdns.admin.metrics import metrics_page
from kdns.admin.probe import says_ok
from kdns.admin.top import top_page
from kdns.cluster.state import Cluster
from kdns.corefile.address import Place
from kdns.counts import EndpointCounts
from kdns.endpoint import Endpoint
from kdns.generation import Generation
from kdns.memory import Level, MemoryGuard, give_back, resident
from kdns.net.files import for_clients, raise_limit
from kdns.net.tls import for_memory
from kdns.net.upstreams import SharedUpstreams
from kdns.plan import Plan
from kdns.plugins.block import Block, Counters
from kdns.plugins.parts import HttpReply, HttpRequest, SourceSettings
from kdns.plugins.pending import Pending
from kdns.roles import Admin, ClusterSources, Followers, NotReadyError, Others
from kdns.sockets import Sockets
from kdns.telemetry import lines, profiler
from kdns.telemetry.meters import Labels, Meters, Sample, merge
from kdns.telemetry.process import watch_process
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Window
from kdns.totals import Totals, past, together

log = logging.getLogger("kdns")

COLLECT = (20_000, 5, 10_000)
"""Thresholds of the collector of cycles: everybody waits for it, and hardly anything here is one.
With a thousand and ten instead, the slowest hundredth of 10,000 new outside names a second took
twenty times as long."""
MAX_WATCH_AGE = 300.0
"""Seconds without a sign of the API server after which what we know may be the past: five of its
bookmarks."""
DRAIN = 5.0
"""Seconds that pending answers are waited for at the end, as in CoreDNS."""
RETIRE = 10.0
"""Seconds after which nobody waits for an answer of an earlier Corefile any more: twice what a
question to other servers takes at most."""
READY_WITHIN = 30.0
"""Seconds in which a new Corefile must be as ready as the present one."""
LOOK = 0.05
"""Seconds between two looks whether it is."""


@dataclass(slots=True)
class _Change:
    """A Corefile that is about to take over, and the endpoints that it alone has."""

    generation: Generation
    fresh: dict[Place, Endpoint] = field(default_factory=dict)


class App:
    """One process of a server. Make it in a running loop.

    sockets: what it answers on; None for a process that only oversees others. admin: None for one
    that others oversee. `refresh` gives what others have counted, and is awaited before metrics are
    read.
    """

    def __init__(
        self,
        plan: Plan,
        sources: ClusterSources,
        rng: Random,
        sockets: Sockets | None,
        admin: Admin | None,
    ) -> None:
        self._plan = plan
        self.sockets = sockets
        self.sources = sources
        self.rng = rng
        self.loop = asyncio.get_running_loop()
        self.hostname = socket.gethostname()
        self.admin = admin
        self.ports: dict[Place, int] = {}
        """The ports that others answer on, where the plan leaves them open."""
        self.refresh: Callable[[], Awaitable[Totals]] | None = None
        self.followers: Followers | None = None
        self.others: Others | None = None
        self.meters = Meters()
        """Of the process; those of a Corefile are its generation's."""
        self.upstreams = SharedUpstreams(rng)
        self.memory: int | None = None
        """Octets of memory that there may be; None for any number."""
        self._guard: MemoryGuard | None = None
        self.offered: Callable[[str], list[socket.socket]] = lambda address: []
        """Sockets that are open already for an address of HTTP."""
        self.stopping = False
        self._closed = False
        self._began = time.monotonic()
        self._generation: Generation | None = None
        self._staged: _Change | None = None
        self._retired: list[Generation] = []
        self._endpoints: dict[Place, Endpoint] = {}
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._past = Totals()
        self._sum = Totals()
        self._counts = EndpointCounts(self._open)
        self._pages: dict[bool, Callable[[HttpRequest], HttpReply]] = {}
        """Made when first asked for: a worker never is."""
        self._probes: set[asyncio.Task[bool]] = set()

    @property
    def running(self) -> Generation:
        """The Corefile at work."""
        assert self._generation is not None, "asked for before it was prepared"
        return self._generation

    @property
    def addresses(self) -> list[Place]:
        """Where it listens, with the ports that it has."""
        return [endpoint.place for endpoint in self._endpoints.values()]

    @property
    def places(self) -> list[Place]:
        """The same, as the Corefile names them."""
        return list(self._endpoints)

    # What a generation asks of its process.

    @property
    def overseen(self) -> bool:
        """Whether another process tells it what it serves."""
        return self.admin is None

    def cluster(self, settings: SourceSettings) -> Cluster:
        """See ClusterSources."""
        return self.sources.cluster(settings)

    def outdated(self) -> list[str]:
        """What of the cluster we have not been told of for too long, or not since we started."""
        since_start = time.monotonic() - self._began
        ages = [(name, min(age, since_start)) for name, age in self.sources.ages()]
        return sorted({name for name, age in ages if age > MAX_WATCH_AGE})

    async def metrics(self, request: HttpRequest, *, runtime: bool) -> HttpReply:
        """What /metrics says. runtime: see Parts.metrics_route."""
        others = Totals() if self.refresh is None else await self.refresh()
        self._sum = together((self.totals(), others))
        page = self._pages.get(runtime)
        if page is None:
            page = metrics_page(self._shown_blocks, self._shown_samples, runtime=runtime)
            self._pages[runtime] = page
        return page(request)

    async def top(self, request: HttpRequest) -> HttpReply:
        """What /top says."""
        window = self.asked()
        if self.others is not None:
            for other in await self.others.asked():
                window.merge(other)
        return top_page(window, time.monotonic(), request)

    def asked(self) -> Window:
        """Who has asked this process what."""
        self.totals()  # so that hot answers are counted
        asked = self.running.asked
        return Window(time.monotonic()) if asked is None else asked.read()

    async def profile(self, seconds: float) -> Profile:
        """See Parts.profile."""
        if self.others is None:
            return await profiler.take(seconds)
        own, *theirs = await asyncio.gather(profiler.take(seconds), self.others.profiles(seconds))
        profiles = [own.below("overseer"), *theirs[0]]
        return Profile(seconds, [sample for one in profiles for sample in one.samples])

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        """See Parts.fetch."""
        if self.admin is None:
            return None
        pending: Pending[bool] = Pending()
        port = self.admin.ports.get(address, 0)
        task = self.loop.create_task(says_ok(address, port, path, seconds), name="self-probe")
        self._probes.add(task)

        def done(task: "asyncio.Task[bool]") -> None:
            self._probes.discard(task)
            pending.resolve(not task.cancelled() and task.exception() is None and task.result())

        task.add_done_callback(done)
        return pending

    # Start.

    async def start(self) -> None:
        """Listen and answer.

        Raises ListenError, AdminError, CorefileError, ManifestError and CredentialsError.
        """
        await self.prepare()
        await self.answer()

    async def prepare(self, *, silently: bool = False) -> None:
        """Do all but answer: what comes in waits. Raises what `start` raises.

        silently: HTTP is not served before `answer` either, for another process serves it.
        """
        self._watch()
        try:
            generation = self.stage(self._plan, self.sockets)
            if self.admin is not None:
                for address in generation.routes:
                    if held := self.offered(address):
                        self.admin.hold(address, held)
                await self.admin.open(generation.routes)
                if not silently:
                    await self.admin.renew(generation.routes, generation.secured)
            await self.sources.start()
            self._take_over()
            self._guard_memory()
        except BaseException:
            await self._close()
            raise

    async def answer(self) -> None:
        """Answer what has come in, and what comes."""
        if self.admin is not None:
            await self.admin.renew(self.running.routes, self.running.secured)
        await self._begin()
        self.settle()

    # Change.

    async def change(self, plan: Plan, opened: list[Sockets]) -> None:
        """Have `plan` take the place of what runs, with no answer lost.

        opened: for each process that answers, sockets of the places that are new; they are taken
        over. Raises what `start` raises, NotReadyError and FollowError; then all is as it was.
        """
        async with self._changing:
            self.ports |= opened[0].ports()
            try:
                generation = self.stage(plan, opened[0] if self.sockets is not None else None)
                if self.followers is not None:
                    await self.followers.stage(generation, opened)
                await self.sources.start()
                if self.admin is not None:
                    await self.admin.open(generation.routes)
                await self._until_ready(generation, self.running.unready)
            except BaseException:
                await self.discard()
                if self.followers is not None:
                    self.followers.discard()
                for sockets in opened:
                    sockets.close()
                raise
            if self.followers is not None:
                await self.followers.adopt()
            await self.adopt()

    def stage(self, plan: Plan, sockets: Sockets | None) -> Generation:
        """Build what `plan` says beside what runs; `discard` what came of it if this raises.

        sockets: of the places that are new. Raises CorefileError.
        """
        endpoints: dict[Place, Endpoint] = {}
        fresh: dict[Place, Endpoint] = {}
        for place in plan.listeners():
            known = self._endpoints.get(place)
            if known is None:
                held = [] if sockets is None else sockets.at(place)
                port = int(held[0].getsockname()[1]) if held else self.ports.get(place, place.port)
                known = fresh[place] = Endpoint(place._replace(port=port), held, self._shedding)
            endpoints[place] = known
        if sockets is not None and self.sockets is not None and sockets is not self.sockets:
            self.sockets.adopt(sockets)
        try:
            generation = Generation(self, plan, endpoints)
        except BaseException:
            for place, endpoint in fresh.items():
                endpoint.abort()
                if self.sockets is not None:
                    self.sockets.close([place])
            raise
        self._staged = _Change(generation, fresh)
        return generation

    async def adopt(self) -> None:
        """Have what was staged take over, and what ran before see to its last answers."""
        before = self.running
        gone = self._take_over()
        self._retired.append(before)
        if self.admin is not None:
            await self.admin.renew(self.running.routes, self.running.secured)
        await self._begin()
        if not set(self.running.clusters) <= set(before.clusters):
            self.settle()
        for place, endpoint in gone.items():
            self._do(self._close_endpoint(place, endpoint))
        await self.sources.keep(self.running.clusters)
        self.loop.call_later(RETIRE, self._bury, before)

    async def discard(self) -> None:
        """Forget what was staged; all is as it was."""
        staged, self._staged = self._staged, None
        if staged is not None:
            for place, endpoint in staged.fresh.items():
                await self._close_endpoint(place, endpoint)
            await staged.generation.end()
        if self.admin is not None:
            await self.admin.renew(self.running.routes, self.running.secured)
        await self.sources.keep(self.running.clusters)

    async def _begin(self) -> None:
        debug = any(block.debug for block in self.running.blocks)
        log.setLevel(logging.DEBUG if debug else logging.NOTSET)
        for endpoint in self._endpoints.values():
            await endpoint.start()
        if self.sockets is not None:
            await self.running.begin()

    def _take_over(self) -> dict[Place, Endpoint]:
        """The one step: from here on all questions are for what was staged.

        The endpoints that it does not have.
        """
        staged, self._staged = self._staged, None
        assert staged is not None, "nothing was staged"
        generation = self._generation = staged.generation
        gone = {p: e for p, e in self._endpoints.items() if p not in generation.endpoints}
        generation.take_over()
        self._endpoints = dict(generation.endpoints)
        for place, endpoint in self._endpoints.items():
            endpoint.serve(generation.served[place])
        self._widen()
        if self._guard is not None:
            self._guard.tell()
        return gone

    async def until_ready(self) -> None:
        """Until all is known. Raises NotReadyError."""
        await self._until_ready(self.running, list)

    async def _until_ready(self, generation: Generation, others: Callable[[], list[str]]) -> None:
        """Until nothing is not ready but what is not in `others` either. Raises NotReadyError."""
        ready: asyncio.Future[None] = self.loop.create_future()

        def look() -> None:
            if ready.done():
                return
            if set(generation.unready()) <= set(others()):
                ready.set_result(None)
            else:
                self.loop.call_later(LOOK, look)

        look()
        try:
            await asyncio.wait_for(ready, READY_WITHIN)
        except TimeoutError:
            waiting = ", ".join(generation.unready())
            raise NotReadyError(f"not ready in {READY_WITHIN:g} s: {waiting}") from None

    def _bury(self, generation: Generation) -> None:
        """Nobody waits for it any more: what it has counted stays."""
        if self.stopping:
            return
        self._retired.remove(generation)
        self._past = past((self._past, generation.totals()))
        self._do(generation.end())

    def _do(self, work: Coroutine[object, object, None]) -> None:
        """Nobody waits for this."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Stop.

    async def stop(self, *, linger: bool = True) -> None:
        """Be not ready, linger, and stop. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        await self.linger(lameduck=linger)
        await self._close()

    async def linger(self, *, lameduck: bool) -> None:
        """Be not ready, and go on for the lameduck time, if so told."""
        self.stopping = True
        self.dismiss()
        seconds = self.running.lameduck if lameduck else 0.0
        if seconds:
            log.info("stopping in %g s", seconds)
            await asyncio.sleep(seconds)

    def dismiss(self) -> None:
        """Have clients over TCP go, before they are cut off."""
        if self.followers is not None:
            self.followers.dismiss()
        for endpoint in self._endpoints.values():
            endpoint.dismiss()

    async def _close(self) -> None:
        if self._guard is not None:
            self._guard.close()
        staged, self._staged = self._staged, None
        endpoints = self._endpoints | (staged.fresh if staged is not None else {})
        await asyncio.gather(*[self._close_endpoint(*item) for item in endpoints.items()])
        for task in self._probes:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        generations = [*self._retired]
        if self._generation is not None:
            generations.append(self._generation)
        if staged is not None:
            generations.append(staged.generation)
        for generation in generations:
            await generation.end()
        await self.upstreams.close()
        await self.sources.close()
        if self.admin is not None:
            await self.admin.close()

    async def _close_endpoint(self, place: Place, endpoint: Endpoint) -> None:
        dropped = endpoint.kernel_drops()
        await endpoint.close(DRAIN)
        self._counts.keep(endpoint, dropped)
        self._past = past((self._past, endpoint.totals()))
        if self.sockets is not None:
            self.sockets.close([place])

    # What is counted.

    def totals(self) -> Totals:
        """What this process has counted, whatever its Corefile was."""
        nobodies = [endpoint.totals() for endpoint in self._endpoints.values()]
        before = past((self._past, *[generation.totals() for generation in self._retired]))
        own = Totals([], merge((self.meters.sample(), self.sources.meters.sample())))
        now = [] if self._generation is None else [self._generation.totals()]
        return together((before, *now, *nobodies, own))

    def _shown_blocks(self) -> list[Block]:
        """The blocks that metrics tell of, each with everybody's counters."""
        sums = {(total.label, total.zone): total for total in self._sum.blocks}
        shown: list[Block] = []
        for block in (*self.running.blocks, *[e.dispatcher.nobody for e in self._open()]):
            counted = [sums.pop((block.label, zone)).counters for zone in block.zones]
            shown.append(_with_counters(block, counted))
        for total in sums.values():
            block = Block((total.zone,), total.label, counted=total.counted)
            shown.append(_with_counters(block, [total.counters]))
        return shown

    def _shown_samples(self) -> list[Sample]:
        return self._sum.samples

    def _watch(self) -> None:
        self.meters.watch(
            "gauge",
            "kdns_watch_age_seconds",
            "Seconds since the API server last proved that it tells of a resource.",
            ("resource",),
            self._ages,
        )
        self.meters.watch(
            "counter",
            "kdns_log_dropped_lines",
            "Log lines that were dropped because nobody took them.",
            (),
            lambda: [((), lines.dropped())],
        )
        watch_process(self.meters, whole=self.admin is not None)
        self._watch_connections()
        if self.sockets is not None:
            self._counts.watch(self.meters)

    def _watch_connections(self) -> None:
        """CoreDNS's counts of how often a question to an upstream finds a connection open."""

        def read(place: int) -> Iterable[tuple[Labels, float]]:
            for (to, proto), count in self.upstreams.reuse(place):
                yield ("forward", to, proto), count

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

    def _shedding(self) -> bool:
        """Whether a socket turns questions away: over TLS there is none, and all share one loop."""
        return any(endpoint.shedding() for endpoint in self._endpoints.values())

    def _open(self) -> Iterable[Endpoint]:
        return self._endpoints.values()

    def _ages(self) -> Iterable[tuple[Labels, float]]:
        oldest: dict[Labels, float] = {}
        for name, age in self.sources.ages():
            oldest[name,] = max(age, oldest.get((name,), 0.0))
        return oldest.items()

    # What is kept in order.

    def settle(self) -> None:
        """Once everything is known, have the collector of cycles leave it alone.

        What a cluster holds lives long and has no cycles; walking all of it, again and again,
        stops every answer for as long as it takes. What the list took on its way is given back.
        Until then this asks again in a second.
        """
        if self.stopping:
            return
        if self.running.unready():
            self.loop.call_later(1.0, self.settle)
            return
        self._widen()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        give_back()

    def _guard_memory(self) -> None:
        if self.memory is not None and self.sockets is not None:
            self._guard = MemoryGuard(self.memory, resident, self._shrink, self.loop, give_back)
            self._guard.watch(self.meters)
            self._guard.start()

    def _shrink(self, level: Level) -> None:
        for generation in (*self._retired, self.running):
            generation.shrink(level.kept, level.pending)
        for endpoint in self._endpoints.values():
            endpoint.shrink(level.hot)

    def _widen(self) -> None:
        """Have room for what the cluster has, and no more connections than there are files and
        memory for."""
        endpoints = self._endpoints.values()
        connections = for_clients(raise_limit(), len(endpoints))
        names = sum(len(cluster.services) for cluster in self.running.clusters)
        encrypted = for_memory(self.memory, sum(e.place.transport == "tls" for e in endpoints))
        for endpoint in endpoints:
            endpoint.dispatcher.widen(names)
            tls = endpoint.place.transport == "tls"
            endpoint.bound(min(connections, encrypted) if tls else connections)


def _with_counters(block: Block, counters: list[Counters]) -> Block:
    """A block as metrics tell of it."""
    shown = replace(block)
    shown.by_zone = counters
    return shown
