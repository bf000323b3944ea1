"""The server: built from a plan, started, and stopped in order.

start:  sockets, so that a port in use is told before anything else is done
        blocks, last directive first, each handler before the next
        HTTP, sources of objects, then the listeners begin to answer
stop:   readiness says no, linger (lameduck), listeners drain, sources and HTTP end
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random

from kdns.admin.http import AdminServer
from kdns.admin.metrics import metrics_route
from kdns.cluster.state import Cluster
from kdns.kube.sources import Sources
from kdns.net import batch
from kdns.net.listen import bind_all
from kdns.net.tcp import TcpListener
from kdns.net.udp import UdpListener
from kdns.net.upstream import Upstream
from kdns.plan import Plan, PlannedBlock
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, refuse
from kdns.plugins.dispatch import Dispatcher, FamilyFront
from kdns.plugins.hot import Table
from kdns.plugins.interfaces import host_addresses
from kdns.plugins.parts import STOPPING, Route, SourceSettings, Timer
from kdns.plugins.upstream import UpstreamExchange

log = logging.getLogger("kdns")

DRAIN = 5.0
"""Seconds that pending answers are waited for at the end, as in CoreDNS."""


class App:
    """One running server. Make it in a running loop."""

    def __init__(self, plan: Plan, sources: Sources, rng: Random) -> None:
        self._plan = plan
        self.sources = sources
        self.rng = rng
        self.loop = asyncio.get_running_loop()
        self.hostname = socket.gethostname()
        self.admin = AdminServer()
        self.blocks: list[Block] = []
        self.upstreams: dict[tuple[str, int], Upstream] = {}
        self.readiness: list[tuple[str, Callable[[], bool]]] = []
        self.started: list[Callable[[], Awaitable[object] | None]] = []
        self.lameduck = 0.0
        self.stopping = False
        self.addresses: list[tuple[str, int]] = []
        """Where it listens, once it does: (host, port), "" for every address."""
        self.dispatchers: list[Dispatcher] = []
        self._udp: list[UdpListener] = []
        self._tcp: list[TcpListener] = []

    async def start(self) -> None:
        """Listen and answer.

        Raises ListenError, AdminError, CorefileError, ManifestError and CredentialsError.
        """
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise

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
        return self.blocks

    async def _start(self) -> None:
        built: dict[int, Block] = {}
        for (host, port), planned in self._plan.listeners().items():
            dispatcher = Dispatcher(time.monotonic)
            self.dispatchers.append(dispatcher)
            bound = self._listen(host, port, dispatcher)
            self.addresses.append((host, bound))
            for block in planned:
                if id(block) not in built:
                    built[id(block)] = self._build(block, bound, dispatcher)
                dispatcher.serve(built[id(block)])
        await self.admin.start()
        await self.sources.start()
        for udp_listener in self._udp:
            udp_listener.start()
        for tcp_listener in self._tcp:
            await tcp_listener.start()
        for action in self.started:
            waiting = action()
            if waiting is not None:
                await waiting

    def _listen(self, host: str, port: int, dispatcher: Dispatcher) -> int:
        """Open the sockets of one address; the port that they got."""
        *udp, tcp = bind_all(host, port)
        for sock in udp:
            family = 2 if sock.family == socket.AF_INET6 else 1
            if batch.available():
                table = Table("udp", family, batch.pin)
                front = dispatcher.front(table)
                self._udp.append(batch.BatchedUdpListener(sock, front, table))
            else:
                self._udp.append(UdpListener(sock, dispatcher.front(Table("udp", family))))
        fronts = [dispatcher.front(Table("tcp", family)) for family in (1, 2)]
        self._tcp.append(TcpListener(tcp, FamilyFront(*fronts)))
        return int(tcp.getsockname()[1])

    def _build(self, planned: PlannedBlock, port: int, dispatcher: Dispatcher) -> Block:
        block = Block(planned.zones, label=f"dns://{_bracketed(planned.hosts[0])}:{port}")
        parts = BlockParts(self, block, dispatcher)
        handler: Handler = refuse
        for known in reversed(planned.directives):
            handler = known.settings.build(parts, handler)
        block.handler = handler
        self.blocks.append(block)
        return block

    async def _close(self) -> None:
        for udp in self._udp:
            await udp.close(DRAIN)
        for tcp in self._tcp:
            await tcp.close(DRAIN)
        for upstream in self.upstreams.values():
            await upstream.close()
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

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self.app.loop.call_later(delay, callback)

    def local_addresses(self) -> tuple[bytes, ...]:
        return host_addresses()

    def upstream(self, host: str, port: int) -> UpstreamExchange:
        upstreams = self.app.upstreams
        if (host, port) not in upstreams:
            upstreams[host, port] = Upstream(host, port, loop=self.app.loop, rng=self.app.rng)
        return upstreams[host, port]

    def cluster(self, settings: SourceSettings) -> Cluster:
        return self.app.sources.cluster(settings)

    def forget(self, changed: Iterable[object]) -> None:
        for dispatcher in self.app.dispatchers:
            dispatcher.hot.forget(changed)

    def resolve(self, request: Request) -> Outcome:
        return self.dispatcher.resolve(request)

    def route(self, address: str, path: str, route: Route) -> None:
        self.app.admin.route(address, path, route)

    def metrics_route(self, address: str) -> None:
        self.app.admin.route(address, "/metrics", metrics_route(self.app.counted_blocks))

    def when_ready(self, name: str, ready: Callable[[], bool]) -> None:
        self.app.readiness.append((name, ready))

    def unready(self) -> list[str]:
        if self.app.stopping:
            return [STOPPING]
        return list(dict.fromkeys(name for name, ready in self.app.readiness if not ready()))

    def linger(self, seconds: float) -> None:
        self.app.lameduck = max(self.app.lameduck, seconds)

    def when_started(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.app.started.append(action)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
