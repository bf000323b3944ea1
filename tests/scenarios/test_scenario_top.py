"""The real program, and people who look into it: who asks what, and where the time goes."""

import asyncio
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from kdns.testing.apiserver import ApiServer
from tests.scenarios.test_scenario_apiserver import SHOP, ask, service, until
from tests.serving import command, environment, free_port, serving

COREFILE = """. {{
    bind 127.0.0.1
    top 127.0.0.1:{top}
    pprof 127.0.0.1:{pprof}
    kubernetes cluster.local {{
        endpoint {endpoint}
        pods verified
    }}
}}
"""
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "client", "namespace": "shop"},
    "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"},
}


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
        body: bytes = reply.read()
        return body


def by_key(told: dict[str, Any], kind: str) -> dict[str, int]:
    return {one["key"]: one["count"] for one in told[kind]["most"]}


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_is_known_who_asks_what(tmp_path: Path, workers: int) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20"), POD])
        top, pprof = free_port(), free_port()
        path = tmp_path / "Corefile"
        path.write_text(COREFILE.format(top=top, pprof=pprof, endpoint=api.url))
        with serving(path, "--workers", str(workers)) as server:
            await api.watching("pods")
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            for name in ["cart.shop"] * 20 + ["api.example.com.shop"] * 10:
                await asyncio.to_thread(ask, server.port, name)
            told = json.loads(await asyncio.to_thread(get, top, "/top"))
            assert by_key(told, "names")["cart.shop.svc.cluster.local."] >= 20
            assert by_key(told, "denied") == {"api.example.com.shop.svc.cluster.local.": 10}
            assert by_key(told, "wasted") == {"api.example.com.": 10}
            assert by_key(told, "clients").keys() == {"127.0.0.1"}
            assert by_key(told, "namespaces") == {"shop": told["clients"]["total"]}
            shown = await asyncio.to_thread(
                subprocess.run,
                command("top", f"127.0.0.1:{top}", "--once"),
                capture_output=True,
                text=True,
                check=True,
                env=environment(),
            )
            assert "api.example.com." in shown.stdout


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_profile_is_of_every_process_that_answers(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "Corefile"
    pprof = free_port()
    path.write_text(f". {{\n bind 127.0.0.1\n pprof 127.0.0.1:{pprof}\n whoami\n}}\n")
    with serving(path, "--workers", str(workers)) as server:
        profiling = asyncio.create_task(
            asyncio.to_thread(get, pprof, "/debug/pprof/profile?seconds=1&format=collapsed")
        )
        await asyncio.to_thread(keep_busy, server.port, profiling)
        text = (await profiling).decode()
    outermost = {line.partition(";")[0] for line in text.splitlines()}
    if workers == 1:
        assert "_on_readable" in text
    else:
        assert outermost & {"worker 0", "worker 1"}


def keep_busy(port: int, until_done: "asyncio.Task[bytes]") -> None:
    number = 0
    while not until_done.done():
        query = dns.message.make_query(f"n{number}.example", "A")
        dns.query.udp(query, "127.0.0.1", port=port, timeout=20)
        number += 1
