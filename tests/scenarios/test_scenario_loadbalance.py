"""The real program hands out addresses by weight and by network, and reads its weights again."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from kdns.testing.upstream import ZoneServer
from tests.scenarios.test_scenario_workers import children
from tests.serving import Server, command, environment, serving

ZONE = """$ORIGIN shop.example.
$TTL 300
@ SOA ns admin 1 2 3 4 5
www A 192.0.2.1
www A 192.0.2.2
www A 192.0.2.3
www AAAA 2001:db8::1
www AAAA 2001:db8::2
old CNAME www
"""
COREFILE = """. {{
    bind 127.0.0.1
    loadbalance {balance}
    cache
    forward . 127.0.0.1:{port}
}}
"""
ASKED = 200
"""Questions: that what weighs 255 to 1 is not first for most has a chance of 1 in 10**180."""
both = pytest.mark.parametrize("workers", [1, 2])


@asynccontextmanager
async def balanced(folder: Path, balance: str, workers: int = 1) -> AsyncIterator[Server]:
    """The program before a server of the zone."""
    path = folder / "Corefile"
    async with ZoneServer(ZONE) as upstream:
        path.write_text(COREFILE.format(balance=balance, port=upstream.port))
        with ExitStack() as stack:
            program = serving(path, "--workers", str(workers))
            yield await asyncio.to_thread(stack.enter_context, program)
            await asyncio.to_thread(stack.close)


async def order(server: Server, text: str = "www", rtype: str = "A", *, tcp: bool) -> list[str]:
    """The addresses, as one client is told them."""
    query = dns.message.make_query(f"{text}.shop.example", rtype)
    ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    reply = await ask(query, "127.0.0.1", port=server.port, timeout=20)
    return [str(rdata) for rdata in reply.answer[-1]]


async def first(server: Server, text: str = "www", rtype: str = "A", *, tcp: bool = False) -> str:
    """The address that most clients are told first."""
    count = Counter([(await order(server, text, rtype, tcp=tcp))[0] for _ in range(ASKED)])
    return count.most_common(1)[0][0]


def write(path: Path, text: str) -> None:
    """In one step, as a mounted ConfigMap changes."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


@both
async def test_weights_count_for_every_client_and_are_read_again(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "weights"
    path.write_text("# of the shop\nWWW.shop.example\n192.0.2.2 255\n2001:db8::2 255\n")
    balance = f"weighted {path} {{\n reload 100ms\n }}"
    async with balanced(tmp_path, balance, workers) as server:
        assert await first(server) == "192.0.2.2"
        assert await first(server, "old") == "192.0.2.2"
        assert await first(server, rtype="AAAA") == "2001:db8::2"
        assert await first(server, tcp=True) == "192.0.2.2"
        write(path, "www.shop.example\n192.0.2.3 255\n")
        for _ in range(workers):
            await asyncio.to_thread(server.wait_for, f"read {path} again")
        assert await first(server) == "192.0.2.3"
        write(path, "www.shop.example\n192.0.2.1 255\n192.0.2.3 0\n")
        for _ in range(workers):
            said = f"{path}:3: expected a weight from 1 to 255, got '0'; what it said before goes"
            await asyncio.to_thread(server.wait_for, said)
        assert await first(server) == "192.0.2.3"
        # Nobody is left out for good: what has little weight comes first for somebody.
        while (await order(server, tcp=False))[0] == "192.0.2.3":
            pass
        told = await asyncio.to_thread(server.stop)
    assert server.process.returncode == 0, told
    assert told.count("expected a weight") == workers
    assert "Traceback" not in told


async def test_a_worker_that_is_replaced_answers_though_the_file_is_bad_by_now(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights"
    path.write_text("www.shop.example\n192.0.2.2 255\n")
    async with balanced(tmp_path, f"weighted {path}", 2) as server:
        before = children(server.process.pid)
        write(path, "bad bad bad")
        os.kill(before[0], signal.SIGKILL)
        # Each from a port of its own, so about half of them wait for the new one.
        assert {len(await order(server, tcp=False)) for _ in range(40)} == {3}
        assert len(set(children(server.process.pid)) - set(before)) == 1
        told = await asyncio.to_thread(server.stop)
    assert told.count("starting another one") == 1


async def test_preferred_networks_come_first_for_every_client(tmp_path: Path) -> None:
    balance = "{\n prefer 192.0.2.2/31 2001:db8::2/128\n }"
    async with balanced(tmp_path, balance) as server:
        orders = [await order(server, tcp=tcp) for tcp in (False, True) for _ in range(20)]
        assert {each[2] for each in orders} == {"192.0.2.1"}
        assert {each[0] for each in orders} == {"192.0.2.2", "192.0.2.3"}
        sixes = [await order(server, rtype="AAAA", tcp=False) for _ in range(4)]
        assert sixes == [["2001:db8::2", "2001:db8::1"]] * 4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bad_file_of_weights_is_told_before_anything_is_answered(
    tmp_path: Path, workers: str
) -> None:
    path, corefile = tmp_path / "weights", tmp_path / "Corefile"
    path.write_text("www.shop.example\n192.0.2.2\n")
    corefile.write_text(COREFILE.format(balance=f"weighted {path}", port=53))
    ended = subprocess.run(
        command("serve", "-conf", str(corefile), "-dns.port", "0", "--workers", workers),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert ended.returncode == 1
    expected = f"{path}:2: expected a weight behind the address 192.0.2.2"
    assert f"{corefile}:3: loadbalance: {expected}" in ended.stderr
