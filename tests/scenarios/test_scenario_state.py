"""The real program with a memory: it starts from what it knew when there is nobody to ask."""

import asyncio
import urllib.request
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from kdns.testing.apiserver import ApiServer
from tests.scenarios.test_scenario_apiserver import SHOP, answers, ask, corefile, service, until
from tests.serving import free_port, serving


def explained(reply: dns.message.Message) -> list[int]:
    """The codes of a reply's extended errors."""
    return [int(error.code) for error in reply.extended_errors()]


async def remember(folder: Path, api: ApiServer) -> Path:
    """Run once, until the cluster is known, and end; where the state is now."""
    api.load([SHOP, service("cart", "10.96.0.20"), service("old", "10.96.0.30")])
    state = folder / "state"
    with serving(corefile(folder, api), "--state-dir", str(state)) as server:
        await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
        reply = await asyncio.to_thread(ask, server.port, "cart.shop")
        assert explained(reply) == []
        await asyncio.to_thread(server.stop)
    assert [path.name for path in state.iterdir()] == ["cluster-0.state"]
    return state


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_start_without_an_api_server_answers_from_memory_and_says_so(
    tmp_path: Path, workers: str
) -> None:
    """RFC 8914, section 4.4: Stale Answer."""
    async with ApiServer() as api:
        state = await remember(tmp_path, api)
        for resource in ("services", "namespaces", "endpointslices"):
            api.forbid(resource)
        api.delete("Service", "shop", "old")
        options = ("--state-dir", str(state), "--workers", workers)
        with serving(corefile(tmp_path, api), *options) as server:
            reply = await asyncio.to_thread(ask, server.port, "cart.shop")
            assert [str(rdata) for rdata in reply.answer[0]] == ["10.96.0.20"]
            assert reply.answer[0].ttl <= 5
            assert explained(reply) == [3]
            denied = await asyncio.to_thread(ask, server.port, "none.shop")
            assert (denied.rcode(), explained(denied)) == (dns.rcode.NXDOMAIN, [3])
            assert await asyncio.to_thread(answers, server.port, "old.shop") == ["10.96.0.30"]
            # The API server is back: what it says now is applied over what was remembered.
            api.create(service("new", "10.96.0.21"))
            for resource in ("services", "namespaces", "endpointslices"):
                api.allow(resource)
            await asyncio.to_thread(until, server.port, "new.shop", ["10.96.0.21"])
            await asyncio.to_thread(until, server.port, "old.shop", [])
            await asyncio.to_thread(_until_fresh, server.port)
            reply = await asyncio.to_thread(ask, server.port, "cart.shop")
            assert [str(rdata) for rdata in reply.answer[0]] == ["10.96.0.20"]


@pytest.mark.parametrize("monitor", ["until-ready", "continuously"])
async def test_a_start_from_memory_is_ready(tmp_path: Path, monitor: str) -> None:
    """Also where readiness looks at how old the watch is: it has had no time to be old yet."""
    async with ApiServer() as api:
        state = await remember(tmp_path, api)
        api.refuse(500, times=None)
        port = free_port()
        path = corefile(tmp_path, api)
        ready = f"ready 127.0.0.1:{port} {{\n monitor {monitor}\n }}\n bind"
        path.write_text(path.read_text().replace("bind", ready))
        with serving(path, "--state-dir", str(state)):
            page = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/ready")
            with page:
                assert page.status == 200


def _until_fresh(port: int) -> None:
    """Ask until all of the cluster has been listed: every question is answered at once."""
    while explained(ask(port, "cart.shop")):
        pass


async def test_a_damaged_memory_is_refused_and_said_so(tmp_path: Path) -> None:
    async with ApiServer() as api:
        state = await remember(tmp_path, api)
        path = state / "cluster-0.state"
        path.write_bytes(path.read_bytes()[:-1])
        api.forbid("services")
        with serving(corefile(tmp_path, api), "--state-dir", str(state)) as server:
            reply = await asyncio.to_thread(ask, server.port, "cart.shop")
            told = await asyncio.to_thread(server.stop)
    assert (reply.rcode(), explained(reply)) == (dns.rcode.SERVFAIL, [14])
    assert f"{path}: damaged: its checksum is not that of its content" in told


async def test_a_memory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async with ApiServer() as api, ApiServer() as other:
        state = await remember(tmp_path, api)
        other.forbid("services")
        with serving(corefile(tmp_path, other), "--state-dir", str(state)) as server:
            reply = await asyncio.to_thread(ask, server.port, "cart.shop")
            told = await asyncio.to_thread(server.stop)
    assert explained(reply) == [14]
    assert f"it is of {api.url}, " in told


async def test_a_place_that_cannot_be_written_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        with serving(corefile(tmp_path, api), "--state-dir", "/proc/kdns") as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            told = await asyncio.to_thread(server.stop)
            assert server.process.returncode == 0
    assert "the state cannot be written" in told
