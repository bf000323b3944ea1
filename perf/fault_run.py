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
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from kdns.testing.apiserver import ApiServer
from perf.answers import matches
from perf.cluster import ABROAD, HOME, REVERSE_4, REVERSE_6, Cluster, Shape, generate
from perf.fault_report import Outcome, Result, View, save
from perf.faults import FAULTS, Fault, Json
from perf.measure import machine
from perf.model import LoadResult, LoadSpec, Query
from perf.run import LoadFailed
from perf.server import NotServing, Server, free_port, pinned
from perf.subjects import HOST
from perf.workloads import Question, build, query, questions

SHAPE = Shape(services=1_000, headless=((20, 20),), abroad=1_000)
RATE = 500.0
"""Queries a second: what is looked for is a wrong or lost answer, not how many there can be."""
BOOKMARKS = 10.0
"""Seconds between bookmarks; a real API server sends one a minute."""
SETTLE = 400.0
"""Seconds after which answers that are still not right never will be."""
INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ROOT = Path(__file__).resolve().parent.parent
_SLACK = 120.0
"""Seconds that a load may take beyond those for which it asks."""
_PAUSE = 0.02
_PROBES = "probes"
_PORTS = 40
_REPLACED = 2.0
"""Seconds in which a worker that was killed is replaced by one that answers."""
_REQUESTS = "coredns_dns_requests_total"


class UnsettledError(Exception):
    """A run that did not end in the right state."""


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
        self.ready: float | None = None
        self.scale = 1.0
        self.rate = RATE
        self._folder = folder
        self._port, self._metrics = free_port(), free_port()
        self._server: Server | None = None
        self._starts = 0
        self._loads: list[asyncio.Task[LoadResult]] = []
        self._over = threading.Event()
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
        self._loads.append(asyncio.create_task(_load(spec)))

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

    async def end(self) -> None:
        """Stop everything, whatever is on its way; no thread waits for answers after this."""
        self._over.set()
        self.stop()
        for load in self._loads:
            load.cancel()
        await asyncio.gather(*self._loads, return_exceptions=True)

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
                if self._over.is_set():
                    raise UnsettledError("the run is over")
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


def _generator() -> subprocess.Popen[bytes]:
    """What loads a server, on the last core."""
    with pinned({max(os.sched_getaffinity(0))}):
        return subprocess.Popen(
            [sys.executable, "-m", "perf.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )


async def _load(spec: LoadSpec) -> LoadResult:
    """As run.generate_load, but cancelled, it leaves no process. Raises LoadFailed."""
    process = _generator()
    wanted, most = msgspec.json.encode(spec), spec.seconds + _SLACK
    try:
        said, errors = await asyncio.to_thread(process.communicate, wanted, most)
    except subprocess.TimeoutExpired:
        raise LoadFailed("the load does not end") from None
    finally:
        # Where it has not ended yet: the thread sees it end.
        process.kill()
    if process.returncode:
        raise LoadFailed(errors.decode(errors="replace").strip()[-500:])
    return msgspec.json.decode(said, type=LoadResult)


async def run_fault(
    fault: Fault, cluster: Cluster, folder: Path, *, scale: float = 1.0, rate: float = RATE
) -> Outcome:
    """Do one run in a folder that is there; what fails is told in what became of it."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(ApiServer(tokens=["first"]))
        await stack.enter_async_context(_bookmarks(api))
        api.load(dict(obj) for obj in cluster.objects())
        api.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _PROBES}}])
        run = Run(fault, cluster, api, folder)
        run.scale, run.rate = scale, rate
        run.write_files()
        stack.push_async_callback(run.end)
        outcome = Outcome(fault.name, fault.about)
        try:
            try:
                outcome = replace(outcome, settled=await _act(run))
            except UnsettledError as error:
                outcome = replace(outcome, why=str(error))
            await run.asked()
            lists = await run.counted("kdns_watch_lists_total")
            healed = await run.counted("kdns_audit_faults_total")
            outcome = replace(outcome, lists=lists, healed=healed)
        except Exception as error:  # noqa: BLE001 (the other runs go on, and this one says why)
            outcome = replace(outcome, why=_reason(error))
        results = run.results
        return replace(
            outcome,
            sent=sum(result.sent for result in results),
            lost=sum(result.lost for result in results),
            wrong=sum(result.wrong for result in results),
            p99=max((result.p99 for result in results), default=None),
            ready=run.ready,
        )


async def _act(run: Run) -> float:
    """The run itself. Raises UnsettledError, and whatever else may fail."""
    await run.start()
    for _ in range(3):
        run.change()
    await run.settle()
    await run.ask_on(run.fault.seconds)
    await run.sleep(1)
    await run.fault.act(run)
    return await run.settle()


def _reason(error: Exception) -> str:
    """In words. Errors that we have no words for are told with their kind."""
    expected = isinstance(error, NotServing | LoadFailed)
    return str(error) if expected else f"{type(error).__name__}: {error}"


async def _play(faults: Sequence[Fault], folder: Path, view: View) -> None:
    """One after the other. Raises CancelledError when told to end, with nothing left running."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "run by a loop"

    def interrupt() -> None:
        # A second one would come while processes are being stopped, and leave some.
        for each in _SIGNALS:
            loop.add_signal_handler(each, lambda: None)
        task.cancel()

    for each in _SIGNALS:
        loop.add_signal_handler(each, interrupt)
    cluster = generate(SHAPE, 1)
    for number, fault in enumerate(faults):
        view.begin(fault.name, fault.about)
        place = folder / f"{number}-{fault.name}"
        place.mkdir()
        view.end(await run_fault(fault, cluster, place))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `python -m perf faults`."""
    names = [fault.name for fault in FAULTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    for kind in ("--json", "--html"):
        parser.add_argument(kind, type=Path, metavar="FILE", default=argparse.SUPPRESS)


def main(
    names: Sequence[str], json: Path | None, html: Path | None, folder: Path, console: Console
) -> int:
    """Run the faults of these names, or all, and show, and write what is known, as a record and as
    a page: 1 when one did not end well, 2 for a bad name, INTERRUPTED when it was ended before.
    """
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        console.print(f"no fault {unknown[0]!r}; expected one of {', '.join(known)}", style="red")
        return 2
    faults = [known[name] for name in names or known]
    with View(console) as view:
        try:
            asyncio.run(_play(faults, folder, view))
        except asyncio.CancelledError:
            console.print("interrupted: what is known is kept", style="dim")
            return INTERRUPTED
        finally:
            save(Result(machine(), RATE, len(faults), view.outcomes), json, html)
    return 0 if all(outcome.is_good for outcome in view.outcomes) else 1
