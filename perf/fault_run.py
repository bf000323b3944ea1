"""Runs of faults: kdns and an API server, questions all the time, and a table of what became of it.

python -m perf faults              every fault, a quarter of an hour
python -m perf faults killed cut   some
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from kdns.testing.apiserver import ApiServer
from perf.answers import matches
from perf.cluster import ABROAD, HOME, REVERSE_4, REVERSE_6, Cluster, Shape, generate
from perf.faults import FAULTS, Fault, Json
from perf.model import LoadResult, LoadSpec, Query
from perf.run import generate_load
from perf.server import Server, free_port
from perf.subjects import HOST
from perf.workloads import Question, build, query, questions

SHAPE = Shape(services=1_000, headless=((20, 20),), abroad=1_000)
RATE = 500.0
"""Queries a second: what is looked for is a wrong or lost answer, not how many there can be."""
BOOKMARKS = 10.0
"""Seconds between bookmarks; a real API server sends one a minute."""
SETTLE = 400.0
"""Seconds after which answers that are still not right never will be."""
_PAUSE = 0.02
_PROBES = "probes"
_PORTS = 40
_REPLACED = 2.0
"""Seconds in which a worker that was killed is replaced by one that answers."""
_REQUESTS = "coredns_dns_requests_total"


class UnsettledError(Exception):
    """A run that did not end in the right state."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run.

    sent, lost, wrong: questions about what did not change. p99: µs, of the worst load of the run.
    settled: seconds from the end of the fault until all answers were right; None for never.
    lists: how often everything was listed. healed: objects that audits found wrong. ready: seconds
    from the start of kdns to its first right answer, of the last start.
    """

    name: str
    about: str
    sent: int
    lost: int
    wrong: int
    p99: float
    settled: float | None
    lists: int
    healed: int
    ready: float

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong or lost, and the end was the right one."""
        return not self.lost and not self.wrong and self.settled is not None and self.sent > 0


class Probes:
    """Services that change, and what they are to be answered with; the last ones of each kind."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._count = 0
        self.expected: dict[str, str | None] = {}

    def change(self, *, told: bool) -> None:
        """See faults.Stage.change."""
        number = self._count
        self._count += 1
        self._put(number, f"10.200.{number // 250}.{number % 250 + 1}", told=told)
        if number >= 1:
            self._put(number - 1, f"10.201.{number // 250}.{number % 250 + 1}", told=told)
        if number >= 2:
            name = f"p{number - 2}"
            delete = self._api.delete if told else self._api.lose_deletion
            delete("Service", _PROBES, name)
            self.expected[f"{name}.{_PROBES}"] = None

    def questions(self) -> list[Query]:
        """Each probe's question, with its right answer."""
        asked = [
            Question(f"{name}.svc.{HOME}", "A", 0 if address else 3, (address,) if address else ())
            for name, address in self.expected.items()
        ]
        return [query(question, "udp") for question in asked]

    def _put(self, number: int, address: str, *, told: bool) -> None:
        name = f"p{number}"
        obj: Json = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": _PROBES},
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]},
        }
        if told:
            self._api.load([obj])
        else:
            self._api.lose(obj)
        self.expected[f"{name}.{_PROBES}"] = address


class Run:
    """One run on its way: a faults.Stage."""

    def __init__(self, fault: Fault, cluster: Cluster, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.fault = fault
        self.probes = Probes(api)
        self.results: list[LoadResult] = []
        self.ready = 0.0
        self.scale = 1.0
        self.rate = RATE
        self._folder = folder
        self._port, self._metrics = free_port(), free_port()
        self._server: Server | None = None
        self._starts = 0
        self._loads: list[asyncio.Task[LoadResult]] = []
        self._asked = build("mixed", questions("mixed", cluster, 1, 0), "udp")
        last = cluster.services[-1].host()
        self._first = query(Question(last, "A", *cluster.look(last, "A")), "udp")

    async def sleep(self, seconds: float) -> None:
        """See faults.Stage."""
        await asyncio.sleep(seconds * self.scale)

    def times(self, number: int) -> int:
        """See faults.Stage."""
        return max(1, round(number * self.scale))

    def change(self, *, told: bool = True) -> None:
        """See faults.Stage."""
        self.probes.change(told=told)

    def expect(self, name: str, address: str | None) -> None:
        """See faults.Stage."""
        self.probes.expected[name] = address

    def write_token(self, token: str) -> None:
        """See faults.Stage."""
        (self._folder / "token").write_text(token)

    async def ask_on(self, seconds: float) -> None:
        """See faults.Stage."""
        spec = LoadSpec(
            workload=self._asked,
            host=HOST,
            port=self._port,
            mode="open",
            rate=self.rate,
            seconds=seconds * self.scale,
            outstanding=1,
            connections=8,
            seed=1,
            cpu=None,
        )
        core = max(os.sched_getaffinity(0))
        self._loads.append(asyncio.create_task(asyncio.to_thread(generate_load, spec, core)))

    async def asked(self) -> None:
        """See faults.Stage."""
        for load in self._loads:
            self.results.append(await load)
        self._loads.clear()

    async def restart(self) -> None:
        """See faults.Stage."""
        self.stop()
        await self.start()

    async def kill_worker(self) -> None:
        """See faults.Stage. Raises UnsettledError."""
        assert self._server is not None, "killed before it was started"
        before = await self.counted(_REQUESTS)
        alive = _children(self._server.pid)
        os.kill(alive[0], signal.SIGKILL)
        took = await asyncio.to_thread(self._ask_from_everywhere)
        after = await self.counted(_REQUESTS)
        born = [pid for pid in _children(self._server.pid) if pid not in alive]
        if len(born) != 1 or after < before or took > _REPLACED:
            told = (
                f"{len(born)} new workers, {took:.1f} s, {before} questions counted, then {after}"
            )
            raise UnsettledError(f"a worker was killed: {told}")

    async def start(self) -> None:
        """Start kdns; return when it answers. Raises NotServing."""
        self._starts += 1
        log = self._folder / f"kdns-{self._starts}.log"
        began = time.monotonic()
        self._server = Server(self._command(), os.sched_getaffinity(0), log)
        await asyncio.to_thread(self._server.wait_ready, self._port, self._first)
        self.ready = time.monotonic() - began

    def stop(self) -> None:
        """Stop kdns; twice is harmless."""
        if self._server is not None:
            self._server.stop()

    async def settle(self, seconds: float = SETTLE) -> float:
        """Seconds until everything that changed is answered right. Raises UnsettledError."""
        return await asyncio.to_thread(self._settle, seconds)

    async def counted(self, metric: str) -> int:
        """The sum of a metric's samples."""
        text = await asyncio.to_thread(_fetch, f"http://{HOST}:{self._metrics}/metrics")
        return int(sum(map(float, re.findall(rf"^{metric}{{.*}} (\S+)$", text, re.MULTILINE))))

    def write_files(self) -> None:
        """The Corefile, and a kubeconfig whose token is in a file of its own."""
        zones = " ".join(zone.rstrip(".") for zone in (HOME, ABROAD, REVERSE_4, REVERSE_6))
        config = self._folder / "kubeconfig"
        (self._folder / "Corefile").write_text(
            f". {{\n  bind {HOST}\n  errors\n  prometheus {HOST}:{self._metrics}\n"
            f"  kubernetes {zones} {{\n    pods insecure\n    kubeconfig {config}\n  }}\n}}\n"
        )
        self.write_token("first")
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.api.url}}],
            "users": [{"name": "u", "user": {"tokenFile": str(self._folder / "token")}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        config.write_bytes(msgspec.json.encode(kubeconfig))

    def _command(self) -> list[str]:
        serve = [sys.executable, "-m", "kdns", "serve", "-quiet"]
        files = ["-conf", str(self._folder / "Corefile"), "-dns.port", str(self._port)]
        state = ["--state-dir", str(self._folder / "state")]
        return [*serve, *files, *state, *self.fault.options]

    def _ask_from_everywhere(self) -> float:
        """Seconds until questions from many ports were answered, however they are spread."""
        began = time.monotonic()
        for _ in range(_PORTS):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_REPLACED)
                sock.connect((HOST, self._port))
                if not _is_right(sock, self._first):
                    raise UnsettledError("a question was not answered")
        return time.monotonic() - began

    def _settle(self, seconds: float) -> float:
        began = time.monotonic()
        waiting = self.probes.questions()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            sock.connect((HOST, self._port))
            while waiting:
                waiting = [each for each in waiting if not _is_right(sock, each)]
                if waiting and time.monotonic() - began > seconds:
                    raise UnsettledError(f"{len(waiting)} answers are wrong after {seconds:.0f} s")
                time.sleep(_PAUSE if waiting else 0.0)
        return time.monotonic() - began


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_right(sock: socket.socket, asked: Query) -> bool:
    try:
        sock.send(asked.wire)
        return matches(asked, sock.recv(65535))
    except (TimeoutError, ConnectionError):
        return False


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310 (ours, on loopback)
        return str(page.read().decode())


@asynccontextmanager
async def _bookmarks(api: ApiServer) -> AsyncIterator[None]:
    """Bookmarks from time to time, as an API server sends them."""

    async def send() -> None:
        while True:
            await asyncio.sleep(BOOKMARKS)
            api.bookmark()

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()


async def run_fault(
    fault: Fault, cluster: Cluster, folder: Path, *, scale: float = 1.0, rate: float = RATE
) -> Outcome:
    """Do one run in a folder that is there. Raises NotServing and LoadFailed."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(ApiServer(tokens=["first"]))
        await stack.enter_async_context(_bookmarks(api))
        api.load(dict(obj) for obj in cluster.objects())
        api.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _PROBES}}])
        run = Run(fault, cluster, api, folder)
        run.scale, run.rate = scale, rate
        run.write_files()
        stack.callback(run.stop)
        await run.start()
        for _ in range(3):
            run.change()
        await run.settle()
        await run.ask_on(fault.seconds)
        await run.sleep(1)
        settled = None
        with suppress(UnsettledError):
            await fault.act(run)
            settled = await run.settle()
        await run.asked()
        results = run.results
        return Outcome(
            fault.name,
            fault.about,
            sent=sum(result.sent for result in results),
            lost=sum(result.lost for result in results),
            wrong=sum(result.wrong for result in results),
            p99=max(result.p99 for result in results),
            settled=settled,
            lists=await run.counted("kdns_watch_lists_total"),
            healed=await run.counted("kdns_audit_faults_total"),
            ready=run.ready,
        )


def table(outcomes: Sequence[Outcome]) -> Table:
    """What became of the runs, for people."""
    made = Table(title="Faults of the API server", title_justify="left")
    made.add_column("fault", style="cyan", no_wrap=True)
    headings = ("asked", "lost", "wrong", "p99 ms", "right after s", "lists", "healed", "start s")
    for heading in headings:
        made.add_column(heading, justify="right")
    for each in outcomes:
        made.add_row(
            each.name,
            f"{each.sent:,}",
            _count(each.lost),
            _count(each.wrong),
            f"{each.p99 / 1000:.1f}",
            "[red]never" if each.settled is None else f"{each.settled:.1f}",
            str(each.lists),
            str(each.healed),
            f"{each.ready:.2f}",
        )
    return made


def _count(number: int) -> str:
    return f"[red]{number:,}" if number else "0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m perf faults`."""
    names = [fault.name for fault in FAULTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument("--faults-json", type=Path, metavar="FILE", help="write the outcomes there")


def main(names: Sequence[str], json: Path | None, folder: Path, console: Console) -> int:
    """Run the faults of these names, or all; 1 when one did not end well, 2 for a bad name."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        console.print(f"no fault {unknown[0]!r}; expected one of {', '.join(known)}", style="red")
        return 2
    cluster = generate(SHAPE, 1)
    outcomes: list[Outcome] = []
    for name in names or known:
        console.print(f"{name}: {known[name].about}", style="dim")
        place = folder / name
        place.mkdir()
        outcomes.append(asyncio.run(run_fault(known[name], cluster, place)))
    console.print(table(outcomes))
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes)) + b"\n")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1
