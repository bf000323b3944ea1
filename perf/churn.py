"""`python -m perf churn`: rolling updates while queries run.

For each rate of updates, after a while without any: how long an update takes until it is answered,
what is answered in the meantime, and whether every answer is right in the end.

One core has kdns, another one the API server and the load generator. What the query rate loses is
judged by the share of its core that the updates take: what kdns uses beyond what the same queries
cost it without updates, in runs before and after. So that does not depend on how fast the other
core is. At full speed the rates themselves are judged, a few seconds without updates and a few with
them in turn: of the rounds in which kdns had no rest, for in the others it did not set the rate.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from perf.answers import matches
from perf.certificate import make
from perf.large import Large
from perf.measure import Machine, cpu_of, machine
from perf.model import LoadResult, LoadSpec, Query, Workload
from perf.page import facts_of, page
from perf.rollout import Order, Outcome
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_objects
from perf.server import NotServing, Server
from perf.subjects import HOST
from perf.svg import Line, Point, Strip, lines, strips
from perf.sync import Serving, compiled, ready_queries, serving, start_api
from perf.workloads import query

_MARGIN: Final = 2.0
"""Seconds of load before the first update and after the last one."""
_RACE: Final = 4.0
"""Seconds of updates at full speed."""
_OUTSTANDING: Final = 512
"""Queries that are unanswered at full speed: kdns is never without work."""
_BUSY: Final = 0.9
_LEFT: Final = 0.85
_BLUE: Final = "#1f5fa8"
_RED: Final = "#b3261e"
_TRIES: Final = 3
_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Updates a second, and for how many seconds each; queries a second; the cluster.

    rounds: how many at full speed, and `full` updates a second in them.
    """

    rates: tuple[float, ...] = (100.0, 1_000.0, 5_000.0)
    seconds: float = 60.0
    rate: float = 5_000.0
    rounds: int = 5
    full: float = 1_000.0
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

    def left(self, still: Sequence[Run]) -> float:
        """The share of the core that is left for queries, beside runs without updates."""
        if not self.updates:
            return 1.0
        each = sum(run.cpu for run in still) / sum(run.load.answered for run in still)
        return 1 - max(0.0, self.cpu - each * self.load.answered) / self.seconds


@dataclass(frozen=True, slots=True)
class Round:
    """A few seconds at full speed without updates, and as many with them."""

    still: Run
    rolling: Run

    @property
    def kept(self) -> float:
        """The rate with updates, beside that without."""
        return self.rolling.load.qps / self.still.load.qps

    @property
    def left(self) -> float:
        """As Run.left."""
        return self.rolling.left([self.still])

    @property
    def is_full(self) -> bool:
        """Whether kdns had no rest, so that it was what set the rate."""
        return min(run.cpu / run.load.seconds for run in (self.still, self.rolling)) >= _BUSY


@dataclass(frozen=True, slots=True)
class Result:
    """All runs, with one without updates before and after each; and rounds at full speed."""

    terms: Terms
    made: Machine
    runs: list[Run]
    rounds: list[Round]

    def left(self, run: Run) -> float:
        """As Run.left, beside the runs without updates just before and after it."""
        place = self.runs.index(run)
        near = self.runs[max(0, place - 1) : place + 2]
        return run.left([each for each in near if not each.updates])


def main(terms: Terms, path: Path | None, html: Path | None, console: Console) -> int:
    """Measure, show, and write it, as a record and as a page: 0 when all went well.

    See `troubles`.
    """
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, compiled(Path(folder)):
        try:
            runs, rounds = measure(terms, Path(folder), console)
        except (NotServing, LoadFailed, OSError, subprocess.CalledProcessError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    result = Result(terms, machine(), runs, rounds)
    console.print(table(result))
    console.print(full_speed(result))
    found = list(troubles(result))
    for trouble in found:
        console.print(trouble, markup=False, style="red")
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    if html is not None:
        html.write_text(render(result), encoding="utf-8")
    return 1 if found else 0


def render(result: Result) -> str:
    """The page."""
    terms = result.terms
    rolled = [run for run in result.runs if run.updates and run.p50 is not None]
    waits = [
        Line(name, colour, [Point(run.updates, *(3 * (ms * 1e3,))) for run, ms in found])
        for name, colour, found in (
            ("p50", _BLUE, [(run, run.p50) for run in rolled if run.p50]),
            ("p99", _RED, [(run, run.p99) for run in rolled if run.p99]),
        )
    ]
    pictures = {}
    if rolled:
        pictures["From an update to its answer"] = lines(
            "From an update to its answer", waits, "updates a second", "µs"
        )
    if result.rounds:
        rates = [
            Strip(name, colour, [run.load.qps / 1e3 for run in runs])
            for name, colour, runs in (
                ("without updates", _BLUE, [each.still for each in result.rounds]),
                (f"{terms.full:,.0f} a second", _RED, [each.rolling for each in result.rounds]),
            )
        ]
        pictures["Full speed, a dot for each round"] = strips(
            "Full speed", rates, "thousand answers a second", 0
        )
    facts = facts_of(result.made) | {
        "cluster": f"{terms.services:,} services, {terms.headless:,} of them rolling, "
        f"{terms.endpoints:,} endpoints",
        "placement": "kdns on a core, the API server and the load generator on another one",
    }
    return page(
        "Answers while endpoints change",
        "How long an update takes until it is answered, and what updates cost those who ask.",
        facts,
        pictures,
        (table(result), full_speed(result)),
        troubles(result),
    )


def troubles(result: Result) -> Iterator[str]:
    """Wrong or lost answers at any rate; slowness at 1,000 updates a second and below."""
    rounds = [run for each in result.rounds for run in (each.still, each.rolling)]
    for run in (*result.runs, *rounds):
        name = f"{run.updates:,.0f} updates a second"
        if run.load.wrong or run.load.lost:
            yield f"{name}: {run.load.wrong} answers wrong and {run.load.lost} lost meanwhile"
        if run.wrong or run.missing:
            yield f"{name}: {run.wrong} final answers wrong, {run.missing} updates not answered"
    for run in (run for run in result.runs if 0 < run.updates <= 1_000):
        name = f"{run.updates:,.0f} updates a second"
        if run.p99 is not None and run.p99 >= 20:
            yield f"{name}: p99 from update to answer is {run.p99:.1f} ms; expected below 20"
        if (left := result.left(run)) < _LEFT:
            yield f"{name}: {left:.0%} of the core are left for queries; expected {_LEFT:.0%}"
    kept = [each.kept for each in result.rounds if each.is_full]
    if kept and median(kept) < _LEFT:
        yield f"full speed: {median(kept):.0%} of the rate; expected {_LEFT:.0%}"
    if result.rounds and not kept:
        yield "full speed: kdns had time to rest in every round, so what it loses is not known"


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
            f"{result.left(run):.0%}",
            f"{run.wrong:,}",
            f"{run.missing:,}",
            f"{run.late:.2f}",
        )
    return made


def full_speed(result: Result) -> Table:
    """What came of the rounds."""
    made = Table(title=f"full speed, {result.terms.full:,.0f} updates a second")
    made.title_justify = "left"
    for head in (
        "q/s without",
        "with",
        "kept",
        "µs CPU",
        "CPU/s without",
        "with",
        "left",
        "p99 ms",
    ):
        made.add_column(head, justify="right")
    for each in result.rounds:
        still, rolling = each.still, each.rolling
        made.add_row(
            f"{still.load.qps:,.0f}",
            f"{rolling.load.qps:,.0f}",
            f"{each.kept:.0%}",
            f"{still.cpu / still.load.answered * 1e6:.2f}",
            f"{still.cpu / still.load.seconds:.2f}",
            f"{rolling.cpu / rolling.load.seconds:.2f}",
            f"{each.left:.0%}",
            "" if rolling.p99 is None else f"{rolling.p99:.2f}",
        )
    full = [each for each in result.rounds if each.is_full]
    if full:
        kept, left = median(r.kept for r in full), median(r.left for r in full)
        made.caption = (
            f"medians where kdns had no rest: {kept:.0%} of the rate, {left:.0%} of the core left"
        )
    return made


def measure(terms: Terms, folder: Path, console: Console) -> tuple[list[Run], list[Round]]:
    """Runs at each rate with runs without updates around them, and rounds at full speed.

    Raises NotServing, LoadFailed and OSError.
    """
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
        runs = [session.run(0.0)]
        for rate in terms.rates:
            console.print(f"{rate:,.0f} updates a second", style="dim")
            runs += [session.run(rate), session.run(0.0)]
        rounds = []
        for number in range(terms.rounds):
            console.print(f"full speed, {number + 1} of {terms.rounds}", style="dim")
            rounds.append(Round(session.race(0.0), session.race(terms.full)))
        return runs, rounds


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
        return self._run(rate, seconds, self._terms.rate)

    def race(self, rate: float) -> Run:
        """As `run`, for a few seconds and at full speed."""
        return self._run(rate, _RACE, None)

    def _run(self, rate: float, seconds: float, queries: float | None) -> Run:
        outcome = Outcome(self._updates, [], 0, 0.0)
        margin = _MARGIN if queries else _MARGIN / 2
        with ThreadPoolExecutor(1) as pool:
            before = cpu_of([self._kdns.server.pid]).ran
            asked = pool.submit(self._load, seconds + 2 * margin, queries)
            time.sleep(margin)
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

    def _load(self, seconds: float, rate: float | None) -> LoadResult:
        large, terms = self._large, self._terms
        # What rolls is asked for too; its answers are judged in the end.
        asked = (query(large.rolled(index, 0), "udp") for index in range(large.headless))
        rolling = [Query(each.wire, None) for each in asked]
        still = [query(question, "udp") for question in large.questions()]
        spec = LoadSpec(
            workload=Workload("churn", "udp", (*rolling, *still)),
            host=HOST,
            port=self._kdns.port,
            mode="open" if rate else "max",
            rate=rate,
            seconds=seconds,
            outstanding=_OUTSTANDING,
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
