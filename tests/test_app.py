"""One process of a server: one Corefile at work, and another in its place without a gap."""

import asyncio
import gc
import re
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random
from types import MethodType

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from kdns import app as app_module
from kdns.admin.http import AdminError, AdminServer
from kdns.admin.probe import says_ok
from kdns.app import App
from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.corefile.address import Place
from kdns.corefile.errors import CorefileError
from kdns.memory import ROOMY
from kdns.net.tcp import IDLE, MAX_CONNECTIONS
from kdns.net.tls import ROOM
from kdns.plan import Plan, make_plan
from kdns.plugins.forwarding import MAX_FLIGHTS, Forwarding
from kdns.plugins.kubernetes import KubernetesHandler
from kdns.plugins.parts import NOTHING_ASKED
from kdns.roles import NotReadyError
from kdns.sockets import open_sockets
from kdns.worker import ToldSources
from tests.certificates import Certificates
from tests.serving import free_port

PLACE = Place("127.0.0.1", 0)
WHOAMI = ". {\n bind 127.0.0.1\n whoami\n prometheus 127.0.0.1:0\n}\n"
ELSEWHERE = WHOAMI.replace(". {", "elsewhere {")
MORE = ". {\n bind 127.0.0.2\n whoami\n}\n"
CLUSTER = ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n"
OTHER_CLUSTER = ". {\n bind 127.0.0.1\n kubernetes cluster.local {\n  labels app\n }\n}\n"


class Numbered(ToldSources):
    """Clusters that nobody tells anything, in the order in which they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[object, Cluster] = {}
        self.kept: list[Cluster] = []

    def cluster(self, settings: object) -> Cluster:
        return self.known.setdefault(settings, Cluster(lambda: 1.0, lambda _: None))

    async def keep(self, clusters: object) -> None:
        assert isinstance(clusters, list)
        self.kept = clusters


def planned(text: str) -> Plan:
    return make_plan(text, "Corefile", environ={}, port=0)


class Running:
    """An App, and what changes it."""

    def __init__(self, app: App, admin: AdminServer) -> None:
        self.app = app
        self.admin = admin

    async def change(self, text: str) -> None:
        plan = planned(text)
        new = [place for place in plan.listeners() if place not in self.app.places]
        assert self.app.sockets is not None
        await self.app.change(plan, open_sockets(new, ours=[self.app.sockets]))

    async def rcode(self, qname: str = "a.example", *, number: int = 0) -> int:
        """What it says at the address of that number."""
        query = dns.message.make_query(qname, "A")
        host, port, _ = self.app.addresses[number]
        reply = await dns.asyncquery.udp(query, host or "127.0.0.1", port=port, timeout=10)
        return reply.rcode()

    async def scrape(self) -> str:
        page = await self.app.metrics(NOTHING_ASKED, runtime=False)
        return page.body.decode()


@asynccontextmanager
async def running(
    text: str, sources: ToldSources | None = None, memory: int | None = None
) -> AsyncIterator[Running]:
    plan = planned(text)
    (sockets,) = open_sockets(plan.listeners())
    admin = AdminServer()
    app = App(plan, sources or Numbered(), Random(1), sockets, admin)
    app.memory = memory
    await app.start()
    try:
        yield Running(app, admin)
    finally:
        await app.stop(linger=False)


@pytest.fixture(autouse=True)
def untouched_collector() -> Iterator[None]:
    """The collector of cycles is the process's: what is changed of it is put back."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def turns(count: int = 10) -> None:
    """Let the loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


def know(cluster: Cluster) -> None:
    for resource in Resource:
        cluster.assume(resource)


# What takes over.


async def test_another_corefile_answers_from_one_step_on() -> None:
    async with running(WHOAMI) as server:
        assert await server.rcode() == dns.rcode.NOERROR
        await server.change(ELSEWHERE)
        assert await server.rcode() == dns.rcode.REFUSED


async def test_an_address_that_stays_keeps_its_sockets() -> None:
    async with running(WHOAMI) as server:
        assert server.app.sockets is not None
        before = [sock.fileno() for sock in server.app.sockets.at(PLACE)]
        await server.change(ELSEWHERE)
        assert [sock.fileno() for sock in server.app.sockets.at(PLACE)] == before


async def test_an_address_that_is_new_is_answered_on() -> None:
    async with running(WHOAMI) as server:
        await server.change(WHOAMI + MORE)
        assert await server.rcode(number=1) == dns.rcode.NOERROR


async def test_an_address_that_is_gone_is_closed() -> None:
    async with running(WHOAMI + MORE) as server:
        gone = server.app.addresses[1][1]
        await server.change(WHOAMI)
        await turns()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", gone))


async def test_every_address_becomes_one_address() -> None:
    (free,) = open_sockets([Place("", 0)])
    unused_port = free.ports()[Place("", 0)]
    free.close()
    everywhere = f".:{unused_port} {{\n whoami\n}}\n"
    async with running(everywhere) as server:
        await server.change(f".:{unused_port} {{\n bind 127.0.0.1\n whoami\n}}\n")
        assert await server.rcode() == dns.rcode.NOERROR


async def test_routes_of_the_new_corefile_are_served_and_no_others() -> None:
    async with running(WHOAMI) as server:
        before = server.admin.ports
        await server.change(ELSEWHERE.replace("prometheus 127.0.0.1:0", "health 127.0.0.1:0"))
        assert server.admin.ports == before
        port = before["127.0.0.1:0"]
        assert await says_ok("127.0.0.1:0", port, "/health", 10)
        assert not await says_ok("127.0.0.1:0", port, "/metrics", 10)


# What keeps the present one.


async def test_what_cannot_be_built_leaves_all_as_it_was() -> None:
    async with running(WHOAMI) as server:
        with pytest.raises(CorefileError, match=r"^Corefile:8: "):
            await server.change(WHOAMI + MORE.replace("whoami", "forward . /nowhere/resolv.conf"))
        assert await server.rcode() == dns.rcode.NOERROR
        assert server.app.places == [PLACE]


async def test_a_port_in_use_leaves_all_as_it_was() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(WHOAMI) as server:
            with pytest.raises(AdminError, match="address already in use"):
                await server.change(WHOAMI + MORE.replace("whoami", f"health 127.0.0.1:{port}"))
            assert await server.rcode() == dns.rcode.NOERROR
            assert server.app.sockets is not None
            assert server.app.sockets.places() == [PLACE]


async def test_what_is_not_ready_in_time_leaves_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_module, "READY_WITHIN", 0.0)
    sources = Numbered()
    async with running(CLUSTER, sources) as server:
        (cluster,) = server.app.running.clusters
        know(cluster)
        with pytest.raises(NotReadyError, match="not ready in 0 s: kubernetes"):
            await server.change(OTHER_CLUSTER)
        assert sources.kept == [cluster]
        assert server.app.running.clusters == [cluster]
        assert len(cluster.listeners) == 2


# States of clusters.


async def test_a_cluster_of_the_same_settings_is_the_same_state() -> None:
    sources = Numbered()
    async with running(CLUSTER, sources) as server:
        before = server.app.running.clusters
        know(before[0])
        await server.change(CLUSTER.replace("cluster.local", "cluster.local {\n ttl 9\n }"))
        assert server.app.running.clusters == before == sources.kept


async def test_another_cluster_is_waited_for_until_it_is_known() -> None:
    sources = Numbered()
    async with running(CLUSTER, sources) as server:
        (before,) = server.app.running.clusters
        know(before)
        changing = asyncio.create_task(server.change(OTHER_CLUSTER))
        await turns()
        assert server.app.running.clusters == [before]
        (other,) = set(sources.known.values()) - {before}
        know(other)
        await changing
        assert server.app.running.clusters == [other] == sources.kept


async def test_who_waits_for_a_cluster_need_not_wait_for_another_to_change() -> None:
    """Else a Corefile with a wrong address could never be mended."""
    async with running(CLUSTER) as server:
        (before,) = server.app.running.clusters
        await server.change(OTHER_CLUSTER)
        assert server.app.running.clusters != [before]


async def test_what_ran_before_goes_and_the_collector_need_not_look_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_module, "RETIRE", 0.0)
    async with running(CLUSTER) as server:
        (cluster,) = server.app.running.clusters
        know(cluster)
        await server.rcode("a.b.svc.cluster.local")
        handler = weakref.ref(server.app.running.blocks[0].handler)
        assert isinstance(handler(), KubernetesHandler)
        gc.disable()
        try:
            await server.change(CLUSTER)
            await turns()
            assert handler() is None
        finally:
            gc.enable()
        assert len(cluster.listeners) == 2


# What is counted.


@pytest.mark.parametrize("retire", [0.0, 60.0])
async def test_totals_do_not_fall(monkeypatch: pytest.MonkeyPatch, retire: float) -> None:
    monkeypatch.setattr(app_module, "RETIRE", retire)
    async with running(WHOAMI) as server:
        for _ in range(3):
            await server.rcode()
        await server.change(ELSEWHERE)
        await turns()
        for _ in range(2):
            await server.rcode("b.elsewhere")
        text = await server.scrape()
    zones = re.findall(r'^coredns_dns_requests_total{.*zone="(.*)"} (.*)$', text, re.MULTILINE)
    assert sorted(zones) == [(".", "3.0"), ("elsewhere.", "2.0")]


async def test_counters_go_on_where_the_labels_are_the_same() -> None:
    async with running(WHOAMI) as server:
        await server.rcode()
        await server.change(WHOAMI)
        await server.rcode()
        text = await server.scrape()
    assert re.findall(r"^coredns_dns_requests_total{.*} (.*)$", text, re.MULTILINE) == ["2.0"]


# The end.


async def test_a_server_that_lingers_answers_but_is_not_ready() -> None:
    async with running(WHOAMI) as server:
        await server.app.linger(lameduck=True)
        assert server.app.stopping
        assert await server.rcode() == dns.rcode.NOERROR


# Bounds.


FORWARDS = ". {{\n bind 127.0.0.1\n prometheus 127.0.0.1:0\n cache{}\n forward . 127.0.0.1:1\n}}\n"


async def test_the_bound_of_memory_is_told_to_what_keeps_things_and_to_a_new_corefile() -> None:
    async with running(FORWARDS.format(""), memory=ROOMY // 4) as server:
        assert forwardings(server) == [MAX_FLIGHTS // 4]
        await server.change(FORWARDS.format(" 30"))
        assert forwardings(server) == [MAX_FLIGHTS // 4] * 2
        assert "kdns_memory_limit_bytes 1.34217728e+08" in await server.scrape()


async def test_without_one_everything_has_its_full_size() -> None:
    async with running(FORWARDS.format("")) as server:
        assert forwardings(server) == [MAX_FLIGHTS]
        assert "kdns_memory_limit_bytes" not in await server.scrape()


def forwardings(server: Running) -> list[int]:
    """How many questions may be in flight, of each Corefile that there is."""
    found = []
    for generation in (*server.app._retired, server.app.running):
        for kind, shrink in generation.scarce:
            if kind == "pending":
                assert isinstance(shrink, MethodType)
                assert isinstance(shrink.__self__, Forwarding)
                found.append(shrink.__self__.most_flights)
    return found


async def test_connections_are_as_the_corefile_says_and_no_more_than_there_are_files_for() -> None:
    async with running(WHOAMI.replace("whoami", "whoami\n timeouts {\n idle 30s\n}")) as server:
        (tcp,) = server.app._endpoints[PLACE]._tcp
        assert tcp.idle == 30.0
        assert tcp.limit <= MAX_CONNECTIONS
        await server.change(WHOAMI)
        assert tcp.idle == IDLE


async def test_connections_have_shorter_turns_while_any_address_turns_questions_away() -> None:
    async with running(WHOAMI + MORE) as server:
        one, other = server.app._endpoints.values()
        assert not other._tcp[0].busy()
        one._batched()[0].admission.shedding = True
        assert other._tcp[0].busy()


async def test_over_tls_connections_are_no_more_than_there_is_memory_for(
    certificates: Certificates,
) -> None:
    files = f"tls {certificates.cert} {certificates.key}"
    text = ". {\n bind 127.0.0.1\n whoami\n}\n"
    for port in (free_port(), free_port()):
        text += f"tls://.:{port} {{\n bind 127.0.0.1\n {files}\n timeouts {{\n read 9s\n }}\n}}\n"
    async with running(text, memory=4 * 600 * ROOM) as server:
        plain, *encrypted = server.app._endpoints.values()
        assert [tcp.limit for endpoint in encrypted for tcp in endpoint._tcp] == [300, 300]
        assert plain._tcp[0].limit > 300
        # The handshake is part of the first read.
        assert [endpoint._tcp[0].handshake for endpoint in encrypted] == [9.0, 9.0]
        assert plain._tcp[0].certificates is None


async def test_what_an_address_dropped_is_counted_also_when_it_is_gone() -> None:
    shedding = WHOAMI.replace("whoami", "whoami\n shed")
    async with running(shedding) as server:
        endpoint = server.app._endpoints[PLACE]
        (udp,) = endpoint._batched()
        udp.admission.outside, udp.admission.greedy, udp.dropped = 3, 2, 1
        label = f'server="dns://127.0.0.1:{server.app.addresses[0][1]}"'
        counted = {
            'kdns_dropped_total{reason="outside"} 3.0',
            'kdns_dropped_total{reason="greedy"} 2.0',
            f'coredns_shed_dropped_total{{reason="query",{label}}} 5.0',
            f'coredns_shed_dropped_total{{reason="response",{label}}} 1.0',
        }
        assert counted <= set((await server.scrape()).splitlines())
        await server.change(WHOAMI.replace("bind 127.0.0.1", "bind 127.0.0.2"))
        await endpoint.close(0.0)
        await turns()
        assert counted <= set((await server.scrape()).splitlines())


@pytest.mark.parametrize("directive", ["whoami", "top 127.0.0.1:0"])
async def test_what_is_counted_of_who_asks_minds_no_step_of_the_clock_on_the_wall(
    directive: str,
) -> None:
    async with running(f". {{\n bind 127.0.0.1\n {directive}\n}}\n") as server:
        began = server.app.asked().began
        assert 0 <= time.monotonic() - began < 3600
