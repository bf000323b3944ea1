"""The real program against an API server: what it answers as the cluster changes."""

import asyncio
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
import yaml

from kdns.cluster.model import TRIGGER_TIME
from kdns.testing.apiserver import ApiServer
from kdns.testing.upstream import ScriptedUpstream
from tests.serving import counted, free_port, serving

SHOP: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def service(name: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]},
    }


def ask(port: int, name: str, kind: str = "A") -> dns.message.Message:
    return dns.query.udp(
        dns.message.make_query(f"{name}.svc.cluster.local", kind, use_edns=0),
        "127.0.0.1",
        port=port,
        timeout=10,
    )


def answers(port: int, name: str) -> list[str]:
    return [str(rdata) for rrset in ask(port, name).answer for rdata in rrset]


def until(port: int, name: str, expected: list[str]) -> None:
    """Ask until the event has arrived: every question is answered at once, so nothing is slept."""
    while answers(port, name) != expected:
        pass


def corefile(folder: Path, api: ApiServer, options: str = "") -> Path:
    path = folder / "Corefile"
    path.write_text(
        f". {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n"
        f"  endpoint {api.url}\n  {options}\n }}\n}}\n"
    )
    return path


async def test_a_service_is_answered_once_created_and_not_once_deleted(tmp_path: Path) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        with serving(corefile(tmp_path, api)) as server:
            for resource in ("services", "namespaces", "endpointslices"):
                await api.watching(resource)
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            assert await asyncio.to_thread(answers, server.port, "new.shop") == []
            api.create(service("new", "10.96.0.21"))
            await asyncio.to_thread(until, server.port, "new.shop", ["10.96.0.21"])
            api.replace(service("new", "10.96.0.22"))
            await asyncio.to_thread(until, server.port, "new.shop", ["10.96.0.22"])
            api.delete("Service", "shop", "new")
            await asyncio.to_thread(until, server.port, "new.shop", [])
            reply = await asyncio.to_thread(ask, server.port, "new.shop")
            assert reply.rcode() == dns.rcode.NXDOMAIN
            assert await asyncio.to_thread(answers, server.port, "cart.shop") == ["10.96.0.20"]


async def test_a_relist_after_410_finds_what_happened_meanwhile(tmp_path: Path) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20"), service("old", "10.96.0.30")])
        with serving(corefile(tmp_path, api)) as server:
            await api.watching("services")
            await asyncio.to_thread(until, server.port, "old.shop", ["10.96.0.30"])
            api.close_watches()
            api.delete("Service", "shop", "old")
            api.create(service("new", "10.96.0.21"))
            api.compact()
            await asyncio.to_thread(until, server.port, "new.shop", ["10.96.0.21"])
            await asyncio.to_thread(until, server.port, "old.shop", [])
            assert await asyncio.to_thread(answers, server.port, "cart.shop") == ["10.96.0.20"]


async def test_losing_the_api_server_loses_no_answer(tmp_path: Path) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        path = corefile(tmp_path, api)
        with serving(path) as server:
            await api.watching("services")
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            api.drop_connections()
            api.refuse(503, times=1000)
            assert await asyncio.to_thread(answers, server.port, "cart.shop") == ["10.96.0.20"]


async def test_before_the_first_sync_nothing_is_denied(tmp_path: Path) -> None:
    """SERVFAIL with the extended error Not Ready (RFC 8914, section 4.15), never NXDOMAIN."""
    async with ApiServer() as api:
        api.forbid("services")
        with serving(corefile(tmp_path, api)) as server:
            reply = await asyncio.to_thread(ask, server.port, "cart.shop")
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert [str(e) for e in reply.extended_errors()] == [
                "EDE 14 (Not Ready): the cluster's state is not known yet"
            ]


async def test_before_the_first_sync_nobody_else_is_asked(tmp_path: Path) -> None:
    """Not where names fall through either: an upstream would deny what we do not know yet."""
    async with ApiServer() as api, ScriptedUpstream() as upstream:
        api.forbid("services")
        path = tmp_path / "Corefile"
        path.write_text(
            f". {{\n bind 127.0.0.1\n kubernetes cluster.local in-addr.arpa {{\n"
            f"  endpoint {api.url}\n  fallthrough\n }}\n forward . 127.0.0.1:{upstream.port}\n}}\n"
        )
        with serving(path) as server:
            for name in ("cart.shop.svc.cluster.local", "1.0.96.10.in-addr.arpa"):
                query = dns.message.make_query(name, "A")
                reply = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 10, server.port)
                assert reply.rcode() == dns.rcode.SERVFAIL
        assert upstream.questions == []


async def test_every_endpoint_of_a_corefile_is_tried(tmp_path: Path) -> None:
    async with ApiServer() as api, ApiServer() as gone:
        await gone.stop()
        api.load([SHOP, service("cart", "10.96.0.20")])
        path = corefile(tmp_path, api)
        path.write_text(path.read_text().replace("endpoint", f"endpoint {gone.url}"))
        with serving(path) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_time_until_a_change_is_answered_is_measured(
    tmp_path: Path, workers: str
) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        metrics = free_port()
        path = corefile(tmp_path, api)
        path.write_text(path.read_text().replace("bind", f"prometheus 127.0.0.1:{metrics}\n bind"))
        with serving(path, "--workers", workers) as server:
            for resource in ("services", "namespaces", "endpointslices"):
                await api.watching(resource)
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            api.create(ready_slice("cart", "10.128.0.1"))
            await asyncio.to_thread(until, server.port, "10-128-0-1.cart.shop", ["10.128.0.1"])
            name = "coredns_kubernetes_dns_programming_duration_seconds_count"
            counted_ = await asyncio.to_thread(counted, metrics, name)
            assert counted_ >= 1
            assert counted_ <= int(workers)


def ready_slice(name: str, address: str) -> dict[str, Any]:
    """A slice of a service, as the controller writes it when an endpoint has become ready."""
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
            "annotations": {TRIGGER_TIME: "2024-01-01T00:00:00Z"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


async def test_a_kubeconfig_shows_the_way(tmp_path: Path) -> None:
    async with ApiServer(tokens=["secret"]) as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        config = tmp_path / "kubeconfig"
        config.write_text(yaml.safe_dump(kubeconfig))
        path = tmp_path / "Corefile"
        path.write_text(". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n")
        with serving(path, "--kubeconfig", str(config)) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])


async def test_selectors_hold_as_the_api_server_applies_them(tmp_path: Path) -> None:
    async with ApiServer() as api:
        chosen = service("cart", "10.96.0.20")
        chosen["metadata"]["labels"] = {"tier": "a"}
        api.load([SHOP, chosen, service("other", "10.96.0.21")])
        with serving(corefile(tmp_path, api, "labels tier=a")) as server:
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            assert await asyncio.to_thread(answers, server.port, "other.shop") == []
