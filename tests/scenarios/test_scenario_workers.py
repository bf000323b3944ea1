"""Several processes that answer as one."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from kdns.testing.apiserver import ApiServer
from tests.scenarios.test_scenario_apiserver import SHOP, ask, service, until
from tests.serving import counted, free_port, serving

COREFILE = """. {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{port}
    kubernetes cluster.local {{
        endpoint {endpoint}
    }}
}}
"""


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_metrics_are_of_the_whole_to_the_query(tmp_path: Path, workers: int) -> None:
    async with ApiServer() as api:
        objects: list[dict[str, Any]] = [SHOP, service("cart", "10.96.0.20")]
        api.load(objects)
        path = tmp_path / "Corefile"
        metrics = free_port()
        path.write_text(COREFILE.format(port=metrics, endpoint=api.url))
        with serving(path, "--workers", str(workers)) as server:
            await api.watching("services")
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            before = await asyncio.to_thread(counted, metrics, "coredns_dns_requests_total")
            for number in range(200):
                name = "cart.shop" if number % 2 else f"none-{number % 7}.shop"
                await asyncio.to_thread(ask, server.port, name)
            query = dns.message.make_query("cart.shop.svc.cluster.local", "A")
            for _ in range(20):
                await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", 10, server.port)
            after = await asyncio.to_thread(counted, metrics, "coredns_dns_requests_total")
            replies = await asyncio.to_thread(counted, metrics, "coredns_dns_responses_total")
            assert after - before == 220
            assert replies == after
            # What is created later is known to every worker: 20 sockets ask, 20 are told.
            api.create(service("new", "10.96.0.21"))
            for _ in range(20):
                await asyncio.to_thread(until, server.port, "new.shop", ["10.96.0.21"])
            told = await asyncio.to_thread(server.stop)
            assert server.process.returncode == 0, told
            assert "Traceback" not in told


def test_multisocket_says_how_many(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n")
    with serving(path) as server:
        query = dns.message.make_query("who.am.i", "A")
        reply = dns.query.udp(query, "127.0.0.1", port=server.port, timeout=10)
        assert str(reply.additional[0][0]) == "127.0.0.1"
        told = server.stop()
        assert server.process.returncode == 0, told


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        path = tmp_path / "Corefile"
        metrics = free_port()
        path.write_text(COREFILE.format(port=metrics, endpoint=api.url))
        with serving(path, "--workers", "2") as server:
            await api.watching("services")
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            before = children(server.process.pid)
            for _ in range(40):
                await asyncio.to_thread(ask, server.port, "cart.shop")
            counted_before = await asyncio.to_thread(counted, metrics, "coredns_dns_requests_total")
            os.kill(before[0], signal.SIGKILL)
            # Each from a port of its own, so about half of them are for the one that is dead.
            replies = [await asyncio.to_thread(ask, server.port, "cart.shop") for _ in range(40)]
            assert [str(reply.answer[0][0]) for reply in replies] == ["10.96.0.20"] * 40
            after = children(server.process.pid)
            assert len(after) == 2
            assert len(set(after) - set(before)) == 1
            total = await asyncio.to_thread(counted, metrics, "coredns_dns_requests_total")
            assert total == counted_before + 40
            ages = await asyncio.to_thread(counted, metrics, "kdns_watch_age_seconds")
            assert 0 <= ages < 300
            # The new one is told what happens from now on, as the old one is.
            api.create(service("till", "10.96.0.21"))
            await asyncio.to_thread(until, server.port, "till.shop", ["10.96.0.21"])
            api.delete("Service", "shop", "cart")
            await asyncio.to_thread(until, server.port, "cart.shop", [])
            told = server.stop()
        assert "has ended: starting another one" in told
        assert server.process.returncode == 0
