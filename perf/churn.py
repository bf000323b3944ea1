"""`python -m perf churn`: rolling updates while queries run.

For each rate of updates, after a while without any: how long an update takes until it is answered,
what is answered in the meantime, and whether every answer is right in the end.

One core has kdns, another one the API server and the load generator, which would slow each other
down at full speed. So what the query rate would lose at full speed is judged by the share of its
core that the updates take: what kdns uses beyond what the same queries cost it without updates.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from perf.answers import matches
from perf.certificate import make
from perf.large import Large
from perf.measure import Machine, cpu_of, machine
from perf.model import LoadResult, LoadSpec, Query, Workload
from perf.rollout import Order, Outcome
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_objects
from perf.server import NotServing, Server
from perf.subjects import HOST
from perf.sync import Serving, compiled, ready_queries, serving, start_api
from perf.workloads import query

_MARGIN: Final = 2.0
"""Seconds of load before the first update and after the last one."""
_TRIES: Final = 3
_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Updates a second, and for how many seconds each; queries a second; the cluster."""

    rates: tuple[float, ...] = (100.0, 1_000.0, 5_000.0)
    seconds: float = 60.0
    rate: float = 5_000.0
    services: int = 5_000
    endpoints: int = 100_000
    headless: int = 1_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One rate of updates. p50, p99: ms from an update to its answer; None for none.

    seconds: for which there were updates. cpu: seconds of the server's CPU during the load.
    wrong: of the final answers.
    """

    updates: float
    seconds: float
    load: LoadResult
    cpu: float
    p50: float | None
    p99: float | None
    missing: int
    late: float
    wrong: int

    def left(self, still: Run) -> float:
        """The share of the core that is left for queries, beside a run without updates."""
        if not self.updates:
            return 1.0
        queries = still.cpu / still.load.answered * self.load.answered
        return 1 - max(0.0, self.cpu - queries) / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """All runs; the first one is without updates."""

    terms: Terms
    made: Machine
    runs: list[Run]


def main(terms: Terms, path: Path | None, console: Console) -> int:
    """Measure, show, and write it: 0 when all went well, see `troubles`."""
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, compiled(Path(folder)):
        try:
            runs = list(measure(terms, Path(folder), console))
        except (NotServing, LoadFailed, OSError, subprocess.CalledProcessError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    result = Result(terms, machine(), runs)
    console.print(table(result))
    found = list(troubles(result))
    for trouble in found:
        console.print(trouble, markup=False, style="red")
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return 1 if found else 0


def troubles(result: Result) -> Iterator[str]:
    """Wrong or lost answers at any rate; slowness at 1,000 updates a second and below."""
    still, *rest = result.runs
    for run in result.runs:
        name = f"{run.updates:,.0f} updates a second"
        if run.load.wrong or run.load.lost:
            yield f"{name}: {run.load.wrong} answers wrong and {run.load.lost} lost meanwhile"
        if run.wrong or run.missing:
            yield f"{name}: {run.wrong} final answers wrong, {run.missing} updates not answered"
    for run in (run for run in rest if run.updates <= 1_000):
        name = f"{run.updates:,.0f} updates a second"
        if run.p99 is not None and run.p99 >= 20:
            yield f"{name}: p99 from update to answer is {run.p99:.1f} ms; expected below 20"
        if run.left(still) < 0.85:
            yield f"{name}: {run.left(still):.0%} of the core are left for queries; expected 85 %"


def table(result: Result) -> Table:
    """What came of it."""
    terms = result.terms
    made = Table(
        title=f"{terms.headless:,} of {terms.services:,} services rolling, "
        f"{terms.endpoints:,} endpoints, {terms.rate:,.0f} queries a second",
        title_justify="left",
    )
    heads = ("updates/s", "p50 ms", "p99 ms", "query p99 µs", "lost", "wrong", "CPU s", "left")
    for head in (*heads, "final wrong", "missing", "late s"):
        made.add_column(head, justify="right")
    for run in result.runs:
        waits = ["" if wait is None else f"{wait:.2f}" for wait in (run.p50, run.p99)]
        made.add_row(
            f"{run.updates:,.0f}",
            *waits,
            f"{run.load.p99:,.0f}",
            f"{run.load.lost:,}",
            f"{run.load.wrong:,}",
            f"{run.cpu:.2f}",
            f"{run.left(result.runs[0]):.0%}",
            f"{run.wrong:,}",
            f"{run.missing:,}",
            f"{run.late:.2f}",
        )
    return made


def measure(terms: Terms, folder: Path, console: Console) -> Iterator[Run]:
    """A run without updates, and one for each rate. Raises NotServing, LoadFailed and OSError."""
    cores = Cores.of(sorted(os.sched_getaffinity(0)))
    large = Large(terms.services, terms.endpoints, headless=terms.headless)
    console.print("making a cluster", style="dim")
    manifests = write_objects(large.objects(), folder, "churn")
    pem = make(folder, HOST)
    with ExitStack() as stack:
        api, url = start_api(manifests, pem, cores.generator, folder, stack)
        kdns = stack.enter_context(serving(folder, cores.server, url, pem, "insecure"))
        kdns.wait(next(ready_queries(large)))
        kdns.settle()
        session = Session(terms, large, cores, api, kdns)
        session.run(0.0)  # so that the first one to be counted is no start
        for rate in (0.0, *terms.rates):
            console.print(f"{rate:,.0f} updates a second", style="dim")
            yield session.run(rate)


class Session:
    """A kdns and its API server."""

    def __init__(
        self, terms: Terms, large: Large, cores: Cores, api: Server, kdns: Serving
    ) -> None:
        self._terms = terms
        self._large = large
        self._cores = cores
        self._api = api
        self._kdns = kdns
        self._updates = 0
        self._orders = 0

    def run(self, rate: float) -> Run:
        """Queries, and updates at a rate. Raises LoadFailed, NotServing, OSError."""
        seconds = self._terms.seconds if rate else min(self._terms.seconds, 10.0)
        outcome = Outcome(self._updates, [], 0, 0.0)
        with ThreadPoolExecutor(1) as pool:
            before = cpu_of([self._kdns.server.pid]).ran
            asked = pool.submit(self._load, seconds + 2 * _MARGIN)
            time.sleep(_MARGIN)
            if rate:
                outcome = self._roll(rate, seconds)
            load = asked.result()
            cpu = cpu_of([self._kdns.server.pid]).ran - before
        wrong = wrong_answers(self._kdns.port, self._final())
        return Run(
            rate,
            seconds,
            load,
            cpu,
            *percentiles(outcome.waits),
            outcome.missing,
            outcome.late,
            wrong,
        )

    def _roll(self, rate: float, seconds: float) -> Outcome:
        port = self._kdns.port
        order = Order(self._large, HOST, port, rate, seconds, self._updates)
        self._orders += 1
        self._api.tell(f"churn {msgspec.json.encode(order).decode()}")
        line = self._api.wait_line("churned ", count=self._orders)
        outcome = msgspec.json.decode(line.removeprefix("churned "), type=Outcome)
        self._updates = outcome.updates
        return outcome

    def _load(self, seconds: float) -> LoadResult:
        large, terms = self._large, self._terms
        # What rolls is asked for too; its answers are judged in the end.
        asked = (query(large.rolled(index, 0), "udp") for index in range(large.headless))
        rolling = [Query(each.wire, None) for each in asked]
        still = [query(question, "udp") for question in large.questions()]
        spec = LoadSpec(
            workload=Workload("churn", "udp", (*rolling, *still)),
            host=HOST,
            port=self._kdns.port,
            mode="open",
            rate=terms.rate,
            seconds=seconds,
            outstanding=1,
            connections=SOCKETS,
            seed=terms.seed,
            cpu=None,
        )
        return generate_load(spec, self._cores.generator)

    def _final(self) -> Iterator[Query]:
        for index in range(self._large.headless):
            turns, rest = divmod(self._updates, self._large.headless)
            yield query(self._large.rolled(index, turns + (index < rest)), "udp")
        for question in self._large.questions():
            yield query(question, "udp")


def percentiles(waits: list[float]) -> tuple[float | None, float | None]:
    """The 50th and the 99th, in ms."""
    if not waits:
        return None, None
    ordered = sorted(waits)
    last = len(ordered) - 1
    return ordered[last // 2] * 1e3, ordered[round(last * 0.99)] * 1e3


def wrong_answers(port: int, queries: Iterable[Query]) -> int:
    """How many of these are not answered right, each asked by itself. Raises OSError."""
    wrong = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT)
        sock.connect((HOST, port))
        for asked in queries:
            wrong += not any(_right(sock, asked) for _ in range(_TRIES))
    return wrong


def _right(sock: socket.socket, asked: Query) -> bool:
    sock.send(asked.wire)
    try:
        return matches(asked, sock.recv(65535))
    except TimeoutError:
        return False
