"""The real program answers from a hosts file and from its Corefile, and reads the file again."""

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from kdns.testing.upstream import ZoneServer
from tests.serving import Server, free_port, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
ZONE = """$ORIGIN shop.example.
$TTL 300
@ SOA ns admin 1 2 3 4 5
www A 198.51.100.1
api A 198.51.100.2
"""
COREFILE = """. {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    loadbalance
    cache
    hosts {hosts} {{
        192.0.2.7 inline.shop.example
        bad line
        ttl 60
        reload 100ms
        fallthrough
    }}
    kubernetes cluster.local 10.96.0.0/16
    forward . 127.0.0.1:{upstream}
}}
alone.example {{
    bind 127.0.0.1
    hosts {hosts} {{
        reload 100ms
    }}
}}
"""
FILE = """192.0.2.1 www.shop.example
192.0.2.2 www.shop.example   # two of them
192.0.2.3 cart.shop.svc.cluster.local
192.0.2.4 here.alone.example
"""
both = pytest.mark.parametrize("workers", [1, 2])


class Hosts:
    """The program with a hosts file, before a server of the zone."""

    def __init__(self, server: Server, path: Path, metrics: int, workers: int) -> None:
        self.server = server
        self.path = path
        self.metrics = metrics
        self.workers = workers

    async def ask(self, text: str, rtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(text, rtype)
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await ask(query, "127.0.0.1", port=self.server.port, timeout=20)

    async def data(self, text: str, rtype: str = "A") -> set[str]:
        """What every worker says, be it hot or not: all of them the same."""
        said = [
            {str(rdata) for rrset in reply.answer for rdata in rrset}
            for tcp in (False, True)
            for reply in [await self.ask(text, rtype, tcp=tcp) for _ in range(8)]
        ]
        assert all(one == said[0] for one in said)
        return said[0]

    async def change(self, text: str, said: str = "again") -> None:
        """In one step, as a mounted ConfigMap changes; until both blocks of all have said so."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)
        for _ in range(2 * self.workers):
            await asyncio.to_thread(self.server.wait_for, said)

    def numbers(self, metric: str) -> list[float]:
        page = f"http://127.0.0.1:{self.metrics}/metrics"
        with urllib.request.urlopen(page, timeout=20) as reply:
            text = reply.read().decode()
        return [float(n) for n in re.findall(rf"^{metric}(?:{{.*}})? (.*)$", text, re.MULTILINE)]


@asynccontextmanager
async def hosts(folder: Path, text: str | None, workers: int) -> AsyncIterator[Hosts]:
    path, metrics = folder / "hosts", free_port()
    if text is not None:
        path.write_text(text)
    async with ZoneServer(ZONE) as upstream:
        (folder / "Corefile").write_text(
            COREFILE.format(hosts=path, upstream=upstream.port, metrics=metrics)
        )
        with ExitStack() as stack:
            program = serving(
                folder / "Corefile", "--workers", str(workers),
                "--manifests", str(EXAMPLES / "shop"),
            )  # fmt: skip
            server = await asyncio.to_thread(stack.enter_context, program)
            yield Hosts(server, path, metrics, workers)
            await asyncio.to_thread(stack.close)


@both
async def test_what_the_file_says_is_answered_and_read_again(tmp_path: Path, workers: int) -> None:
    async with hosts(tmp_path, FILE, workers) as running:
        assert await running.data("www.shop.example") == {"192.0.2.1", "192.0.2.2"}
        assert await running.data("WWW.shop.example", "AAAA") == set()
        assert await running.data("inline.shop.example") == {"192.0.2.7"}
        assert await running.data("1.2.0.192.in-addr.arpa", "PTR") == {"www.shop.example."}
        # hosts stands before kubernetes, and before forward.
        assert await running.data("cart.shop.svc.cluster.local") == {"192.0.2.3"}
        assert await running.data("api.shop.example") == {"198.51.100.2"}
        assert await running.data("here.alone.example") == {"192.0.2.4"}
        assert (await running.ask("none.alone.example")).rcode() == dns.rcode.SERVFAIL
        await running.change("192.0.2.5 api.shop.example\n192.0.2.6 none.alone.example\n")
        assert await running.data("www.shop.example") == {"198.51.100.1"}
        assert await running.data("api.shop.example") == {"192.0.2.5"}
        assert await running.data("inline.shop.example") == {"192.0.2.7"}
        assert "192.0.2.3" not in await running.data("cart.shop.svc.cluster.local")
        assert await running.data("here.alone.example") == set()
        assert await running.data("none.alone.example") == {"192.0.2.6"}
        told = await asyncio.to_thread(running.server.stop)
    assert running.server.process.returncode == 0, told
    assert told.count("Corefile:8: hosts: expected an IP address, got 'bad'; left out") == 1
    assert "Traceback" not in told


@both
async def test_a_file_that_comes_later_is_read_and_its_bad_lines_are_told(
    tmp_path: Path, workers: int
) -> None:
    async with hosts(tmp_path, None, workers) as running:
        assert await running.data("www.shop.example") == {"198.51.100.1"}
        assert await running.data("inline.shop.example") == {"192.0.2.7"}
        said = f"{running.path}:2: expected an IP address, got '192.0.2.300'; left out"
        await running.change("192.0.2.1 www.shop.example\n192.0.2.300 other.shop.example\n", said)
        assert await running.data("www.shop.example") == {"192.0.2.1"}
        told = await asyncio.to_thread(running.server.stop)
    # Once for each block: workers leave it to who started them.
    assert told.count("hosts: No such file or directory; expected a file; until it is good") == 2


@both
async def test_gauges_are_those_of_one_worker(tmp_path: Path, workers: int) -> None:
    async with hosts(tmp_path, FILE, workers) as running:
        await running.data("www.shop.example")
        # An address and its name for each line; the other block has fewer of them.
        assert await asyncio.to_thread(running.numbers, "coredns_hosts_entries") == [10]
        await running.change("192.0.2.1 www.shop.example\n")
        modified = running.path.stat().st_mtime
        seen = await asyncio.to_thread(running.numbers, "coredns_hosts_reload_timestamp_seconds")
        assert seen == [pytest.approx(modified, abs=1e-3)]
        assert await asyncio.to_thread(running.numbers, "coredns_hosts_entries") == [4]
