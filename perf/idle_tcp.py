"""`python -m perf idle-tcp`: what connections that do nothing cost those who ask over UDP.

    round    UDP alone, then UDP beside `connections` idle ones and one that sends octet by octet

The rounds' ratios of the 99th percentiles are what matters, and their median.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from kdns.wire.framing import frame
from perf.cluster import generate
from perf.idlers import IdleSpec
from perf.measure import cpu_of, memory_of, per_query
from perf.model import LoadResult, LoadSpec
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_manifests
from perf.server import NotServing, Server, free_port, pinned
from perf.subjects import HOST, Kdns, Site
from perf.workloads import SHAPES, build, questions

_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Terms:
    """How many connections, queries a second, seconds of each run, and rounds."""

    connections: int = 10_000
    rate: float = 5_000.0
    seconds: float = 2.0
    repeat: int = 11
    seed: int = 1


class Half(NamedTuple):
    """UDP in one run: latencies as the load says, and the server's CPU per query in µs."""

    load: LoadResult
    cpu: float


class Round(NamedTuple):
    """One round. `begun` and `ended`: connections open before and after its second half."""

    alone: Half
    beside: Half
    begun: int
    ended: int

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles."""
        return self.beside.load.p99 / max(1.0, self.alone.load.p99)


def main(terms: Terms, console: Console) -> int:
    """Measure, and show it: 0, or 1 where that is not possible here."""
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, ExitStack() as stack:
        try:
            asked = Asked(terms, Path(folder), stack)
            for number in range(terms.repeat):
                rounds.append(asked.round())
                console.print(f"round {number + 1} of {terms.repeat}: {rounds[-1].ratio:.2f}")
        except (NotServing, LoadFailed, OSError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
        console.print(table(terms, rounds))
        console.print(f"memory of the server, with all of them: {asked.memory / 1024:.0f} MiB")
    return 0


def table(terms: Terms, rounds: Sequence[Round]) -> Table:
    """What came of it."""
    made = Table(
        title=f"{terms.connections:,} idle connections and an octet at a time beside "
        f"{terms.rate:,.0f} queries a second over UDP, {terms.seconds:g} s, medians",
        title_justify="left",
    )
    for head in ("", "p50 µs", "p99 µs", "CPU µs", "lost", "open before", "and after"):
        made.add_column(head, justify="left" if not head else "right")
    for name, halves in (
        ("UDP alone", [each.alone for each in rounds]),
        ("beside them", [each.beside for each in rounds]),
    ):
        beside = name != "UDP alone"
        made.add_row(
            name,
            f"{median(half.load.p50 for half in halves):,.0f}",
            f"{median(half.load.p99 for half in halves):,.0f}",
            f"{median(half.cpu for half in halves):.2f}",
            f"{sum(half.load.lost for half in halves):,}",
            f"{min(each.begun for each in rounds):,}" if beside else "",
            f"{min(each.ended for each in rounds):,}" if beside else "",
        )
    ratio = median(each.ratio for each in rounds)
    made.caption = f"p99, beside them to alone: {ratio:.2f}, the median of {len(rounds)} rounds"
    return made


class Asked:
    """kdns, asked over UDP. `stack` ends what it starts. Raises NotServing and OSError."""

    def __init__(self, terms: Terms, folder: Path, stack: ExitStack) -> None:
        self._terms = terms
        self._cores = Cores.of(sorted(os.sched_getaffinity(0)))
        self.memory = 0
        """KiB."""
        cluster = generate(SHAPES["5k"], terms.seed)
        self._workload = build("cluster-1k", questions("cluster-1k", cluster, terms.seed, 0), "udp")
        manifests = write_manifests(cluster, folder, "5k")
        site = Site(folder, free_port(), (free_port(),), cluster, manifests)
        self._port = site.port
        self._server = Server(Kdns().command(site), {self._cores.server}, folder / "log")
        stack.enter_context(self._server)
        self._server.wait_ready(site.port, self._workload.queries[0])
        self._ask()

    def round(self) -> Round:
        """One more. Raises LoadFailed, OSError."""
        alone = self._ask()
        with idlers(self._spec(), self._cores.helpers) as counts:
            begun = next(counts)
            beside = self._ask()
            self.memory = max(self.memory, memory_of([self._server.pid])[0])
            return Round(alone, beside, begun, next(counts))

    def _ask(self) -> Half:
        terms, cores = self._terms, self._cores
        spec = LoadSpec(
            workload=self._workload,
            host=HOST,
            port=self._port,
            mode="open",
            rate=terms.rate,
            seconds=terms.seconds,
            outstanding=1,
            connections=SOCKETS,
            seed=terms.seed,
            cpu=cores.generator if cores.apart else None,
        )
        before = cpu_of([self._server.pid])
        load = generate_load(spec, cores.generator)
        used = per_query(before, cpu_of([self._server.pid]), max(1, load.answered))
        return Half(load, used.total_us)

    def _spec(self) -> IdleSpec:
        trickle = frame(self._workload.queries[0].wire)
        return IdleSpec(HOST, self._port, self._terms.connections, trickle)


@contextmanager
def idlers(spec: IdleSpec, core: int) -> Iterator[Iterator[int]]:
    """Connections held by a process of their own; the counts of those that are open, at first and
    at the end. Raises LoadFailed."""
    with pinned({core}):
        process = subprocess.Popen(
            [sys.executable, "-m", "perf.idlers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec) + b"\n")
    process.stdin.flush()
    try:
        yield _counts(process)
    finally:
        process.kill()
        with process:  # closes what is left, and waits for it
            pass


def _counts(process: subprocess.Popen[bytes]) -> Iterator[int]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for last in (False, True):
        if last:
            process.stdin.close()
        line = process.stdout.readline()
        if not line:
            raise LoadFailed(process.stderr.read().decode(errors="replace").strip()[-500:])
        yield int(line)
