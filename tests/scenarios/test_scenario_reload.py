"""A new Corefile takes over while the server answers; a bad one does not."""

import asyncio
import os
import signal
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.query
import dns.rcode
import pytest

from kdns.testing.apiserver import ApiServer
from tests.scenarios.test_scenario_apiserver import SHOP, service, until
from tests.scenarios.test_scenario_workers import children
from tests.serving import Server, counted, free_port, serving

COREFILE = """. {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    kubernetes {zone} {{
        endpoint {endpoint}
    }}
    {more}
}}
"""
DONE = "Reloading complete"
both = pytest.mark.parametrize("workers", [1, 2])


def rcode(port: int, qname: str, host: str = "127.0.0.1") -> int:
    query = dns.message.make_query(qname, "A")
    return dns.query.udp(query, host, port=port, timeout=20).rcode()


def reload(server: Server, said: str = DONE) -> None:
    """Tell it to read the Corefile again, and wait until it has."""
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for(said)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        text: str = page.read().decode()
    return text


class Written:
    """A Corefile of a cluster, written now and then."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.path = folder / "Corefile"
        self.metrics = free_port()
        self._endpoint = endpoint
        self.write()

    def write(self, zone: str = "cluster.local", more: str = "", after: str = "") -> None:
        """Another one takes its place, as a mounted ConfigMap changes: in one step."""
        beside = self.path.with_suffix(".new")
        text = COREFILE.format(metrics=self.metrics, zone=zone, endpoint=self._endpoint, more=more)
        beside.write_text(text + after)
        beside.replace(self.path)


@both
async def test_a_new_corefile_takes_over_and_the_cluster_is_not_listed_again(
    tmp_path: Path, workers: int
) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        written = Written(tmp_path, api.url)
        with serving(written.path, "--workers", str(workers)) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            asked = list(api.requests)
            written.write(zone="other.local")
            await asyncio.to_thread(reload, server)
            name = "cart.shop.svc.{}.local"
            rcodes = [rcode(server.port, name.format(zone)) for zone in ("other", "cluster")]
            assert rcodes == [dns.rcode.NOERROR, dns.rcode.REFUSED]
            # What happens from now on is known too.
            api.create(service("till", "10.96.0.21"))
            await asyncio.to_thread(found, server.port, "till.shop.svc.other.local")
            assert list(api.requests) == asked
            told = server.stop()
        assert server.process.returncode == 0, told
        assert "Traceback" not in told


def closed(port: int) -> int:
    """Ask until nobody listens there any more; how many questions were answered."""
    query = dns.message.make_query("example.org", "A")
    answered = 0
    with suppress(ConnectionError, EOFError):
        while True:
            dns.query.tcp(query, "127.0.0.1", port=port, timeout=20)
            answered += 1
    return answered


def found(port: int, qname: str) -> None:
    while rcode(port, qname) != dns.rcode.NOERROR:
        pass


@both
async def test_a_bad_corefile_leaves_the_present_one_and_says_its_line(
    tmp_path: Path, workers: int
) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        written = Written(tmp_path, api.url)
        with serving(written.path, "--workers", str(workers)) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            written.write(more="frobnicate")
            await asyncio.to_thread(reload, server, "reload failed")
            assert f"{written.path}:7: directive 'frobnicate' is not known" in server.output[-1]
            assert rcode(server.port, "cart.shop.svc.cluster.local") == dns.rcode.NOERROR
            metrics = await asyncio.to_thread(scrape, written.metrics)
            assert "\ncoredns_reload_failed_total 1.0\n" in metrics


@both
async def test_addresses_come_and_go_and_totals_do_not_fall(tmp_path: Path, workers: int) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        written = Written(tmp_path, api.url)
        port = free_port()
        with serving(written.path, "--workers", str(workers)) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            await asyncio.to_thread(counted, written.metrics, "coredns_dns_requests_total")
            more = f"example.org:{port} {{\n bind 127.0.0.1\n whoami\n prometheus 127.0.0.1:0\n}}\n"
            written.write(after=more)
            await asyncio.to_thread(reload, server)
            for _ in range(10):
                assert await asyncio.to_thread(rcode, port, "example.org") == dns.rcode.NOERROR
            before = await asyncio.to_thread(counted, written.metrics, "coredns_dns_requests_total")
            written.write()
            await asyncio.to_thread(reload, server)
            late = await asyncio.to_thread(closed, port)
            assert await asyncio.to_thread(rcode, server.port, "a.b") == dns.rcode.REFUSED
            after = await asyncio.to_thread(counted, written.metrics, "coredns_dns_requests_total")
            assert after == before + late + 1


async def test_a_worker_that_is_replaced_after_a_reload_serves_the_new_corefile(
    tmp_path: Path,
) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        written = Written(tmp_path, api.url)
        with serving(written.path, "--workers", "2") as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            written.write(zone="other.local")
            await asyncio.to_thread(reload, server)
            for worker in children(server.process.pid):
                os.kill(worker, signal.SIGKILL)
            asked = [
                await asyncio.to_thread(rcode, server.port, "cart.shop.svc.other.local")
                for _ in range(20)
            ]
            assert asked == [dns.rcode.NOERROR] * 20


def test_a_corefile_is_read_again_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n reload 2s 1s\n whoami\n}\n")
    with serving(path) as server:
        imported = tmp_path / "imported"
        imported.write_text("example.org {\n bind 127.0.0.1\n whoami\n}\n")
        path.write_text(path.read_text() + f"import {imported}\n")
        server.wait_for(DONE)
        imported.write_text("example.net {\n bind 127.0.0.1\n whoami\n}\n")
        server.wait_for(DONE)
        told = server.stop()
        assert server.process.returncode == 0, told


@both
def test_told_to_stop_it_is_not_ready_and_goes_on_for_the_lameduck(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "Corefile"
    health, ready = free_port(), free_port()
    path.write_text(
        f". {{\n bind 127.0.0.1\n whoami\n ready 127.0.0.1:{ready}\n"
        f" health 127.0.0.1:{health} {{\n lameduck 1h\n }}\n}}\n"
    )
    query = dns.message.make_query("a.example", "A")
    with serving(path, "--workers", str(workers)) as server:
        assert status(ready, "/ready") == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as before:
            dns.query.tcp(query, "127.0.0.1", sock=before, timeout=20)
            server.process.send_signal(signal.SIGTERM)
            # The client is told to go, and may come again.
            assert before.recv(1) == b""
        assert (status(ready, "/ready"), status(health, "/health")) == (503, 200)
        reply = dns.query.tcp(query, "127.0.0.1", port=server.port, timeout=20)
        assert {reply.rcode(), rcode(server.port, "a.example")} == {dns.rcode.NOERROR}


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as page:
            found: int = page.status
    except urllib.error.HTTPError as error:
        return error.code
    return found


def test_quit_ends_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n whoami\n health 127.0.0.1:0 {\n lameduck 1h\n }\n}\n")
    with serving(path) as server:
        server.process.send_signal(signal.SIGQUIT)
        assert server.process.wait(timeout=60) == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_lameduck(
    tmp_path: Path, first: signal.Signals
) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n whoami\n health 127.0.0.1:0 {\n lameduck 1h\n }\n}\n")
    with serving(path) as server:
        server.process.send_signal(first)
        server.wait_for("stopping in 3600 s")
        assert rcode(server.port, "a.example") == dns.rcode.NOERROR
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 2


@both
def test_told_to_stop_while_it_changes_it_stops_as_it_was(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n ready 127.0.0.1:0\n whoami\n}\n")
    with serving(path, "--workers", str(workers)) as server:
        waits = "kubernetes cluster.local {\n  endpoint http://127.0.0.1:1\n }\n health 127.0.0.1:0"
        path.write_text(path.read_text().replace("whoami", waits))
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("watching ")
        told = server.stop()
        assert (server.process.returncode, "Traceback" in told) == (0, False)
