"""`python -m perf idle-tcp`: what connections that do nothing cost those who ask over UDP.

    round    UDP alone, then UDP beside `connections` idle ones and one that sends octet by octet

The rounds' ratios of the 99th percentiles are what matters, and their median.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from kdns.wire.framing import frame
from perf.idlers import IdleSpec
from perf.measure import memory_of, per_query
from perf.model import LoadResult
from perf.run import LoadFailed
from perf.server import NotServing
from perf.steady import Steady, failed, helper
from perf.subjects import HOST


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
            asked = Idling(terms, Path(folder), stack)
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


class Idling:
    """kdns, asked over UDP. `stack` ends what it starts. Raises NotServing and OSError."""

    def __init__(self, terms: Terms, folder: Path, stack: ExitStack) -> None:
        self.memory = 0
        """KiB."""
        self._steady = Steady(terms.rate, terms.seconds, terms.seed, folder, stack)
        trickle = frame(self._steady.workload.queries[0].wire)
        self._spec = IdleSpec(HOST, self._steady.port, terms.connections, trickle)
        self._ask()

    def round(self) -> Round:
        """One more. Raises LoadFailed, OSError."""
        alone = self._ask()
        with idlers(self._spec, self._steady.cores.helpers) as counts:
            begun = next(counts)
            beside = self._ask()
            self.memory = max(self.memory, memory_of([self._steady.server.pid])[0])
            return Round(alone, beside, begun, next(counts))

    def _ask(self) -> Half:
        load, before, after = self._steady.ask()
        return Half(load, per_query(before, after, max(1, load.answered)).total_us)


@contextmanager
def idlers(spec: IdleSpec, core: int) -> Iterator[Iterator[int]]:
    """Connections held by a process of their own; the counts of those that are open, at first and
    at the end. Raises LoadFailed."""
    with helper("perf.idlers", spec, core) as process:
        yield _counts(process)


def _counts(process: subprocess.Popen[bytes]) -> Iterator[int]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for last in (False, True):
        if last:
            process.stdin.close()
        line = process.stdout.readline()
        if not line:
            raise failed(process.stderr.read())
        yield int(line)
