"""`python -m perf overload`: kdns on part of a core, in little memory, asked for more than it can.

    capacity   known names alone, as fast as they go; then half of them new outside names
    overload   one of these at `factor` times its own capacity, for `seconds`; and half of each at
               as many times that of known names alone
    recovery   from the last query of the overload until somebody who asks slowly is answered again

All are of one server in one run, so what matters is their ratio. See perf.flood and perf.probe.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from perf import upstreams
from perf.cluster import Cluster, generate
from perf.flood import DIGITS
from perf.measure import memory_of
from perf.model import FloodResult, FloodSpec
from perf.probe import Prober, recovery, served
from perf.run import Cores, LoadFailed, write_manifests
from perf.server import NotServing, Server, free_port, pinned
from perf.share import NoShare, cpu_share, inside, join, killed, memory_bound, peak
from perf.subjects import HOST, Kdns, Site
from perf.workloads import (
    FORWARDED,
    SHAPES,
    Question,
    build,
    query,
    questions,
)

MIB: Final = 1 << 20
_ROOT: Final = Path(__file__).resolve().parent.parent
_SLACK: Final = 120.0
KNOWN: Final = "known names alone"
HALF: Final = "half new outside names"
LEAST: Final = 0.9
"""Of a capacity, what is answered of known names when more is asked for."""
LATEST: Final = 1.0
"""Seconds after an overload in which all are answered again."""
_AFTERWARDS: Final = 3.0
"""Seconds for which it is looked at how the server recovers."""
_OUTSTANDING: Final = 64
"""Questions unanswered at any time while a capacity is measured: no queue worth the name."""
_WARM_UP: Final = 2.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How kdns is held and asked: percent of a core, MiB, times its capacity, seconds."""

    share: int = 25
    memory: int = 160
    factor: float = 3.0
    seconds: float = 60.0
    capacity_seconds: float = 5.0
    seed: int = 1


class Outcome(NamedTuple):
    """One overload. `capacity` and `offered` are queries a second, of all kinds together."""

    asked: str
    """What was offered."""
    limit: str
    """What `capacity` is the capacity of."""
    capacity: float
    offered: float
    flood: FloodResult
    recovered: float
    quiet: float
    """The part of the known names that somebody else was answered who asked a little."""
    grown: int
    """KiB that the server's memory grew by, from a tenth of the way to the end."""

    @property
    def ratio(self) -> float:
        """Answers for known names to the capacity."""
        return self.flood.known.good / self.capacity


class Record(NamedTuple):
    """All that a run found. Memory in KiB, `most` in MiB."""

    terms: Terms
    outcomes: list[Outcome]
    killed: int
    most: float

    def missed(self) -> list[str]:
        """What was asked of kdns and not kept, in words; see LEAST and LATEST."""
        found = [f"{self.killed} killed for memory; expected none"] if self.killed else []
        for each in self.outcomes:
            under = f"{each.asked}, at {self.terms.factor:g} times the capacity of {each.limit}"
            if each.ratio < LEAST:
                found.append(f"{under}: {each.ratio:.2f} of it answered; expected {LEAST}")
            if not each.recovered <= LATEST:
                found.append(f"{under}: recovered in {each.recovered:.2f} s; expected {LATEST} s")
            if each.flood.known.wrong:
                found.append(f"{under}: {each.flood.known.wrong} wrong answers; expected none")
        return found


def main(terms: Terms, path: Path | None, console: Console) -> int:
    """Measure, and show it: 0, or 1 where a bound is not kept or that is not possible here.

    path: where the record goes, if anywhere.
    """
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, ExitStack() as stack:
        try:
            held = Held(terms, Path(folder), stack, console)
            capacities = {KNOWN: held.capacity(b""), HALF: held.capacity(held.outside)}
            outcomes = [
                held.overload(asked, limit, capacities[limit])
                for asked, limit in ((KNOWN, KNOWN), (HALF, KNOWN), (HALF, HALF))
            ]
            made = Record(terms, outcomes, *held.end())
        except (NoShare, NotServing, LoadFailed, OSError, subprocess.CalledProcessError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    console.print(table(terms, made.outcomes))
    console.print(
        f"still the process that was started; {made.killed} killed for memory; "
        f"{made.most:.0f} MiB at most"
    )
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    for missed in made.missed():
        console.print(missed, markup=False, style="red")
    return 1 if made.missed() else 0


_MEASURES: Final[dict[str, Callable[[Outcome], str]]] = {
    "capacity": lambda each: f"{each.capacity:,.0f}",
    "offered": lambda each: f"{each.offered:,.0f}",
    "known names: answered": lambda each: f"{each.flood.known.good:,.0f}",
    "to the capacity": lambda each: f"{each.ratio:.2f}",
    "99th percentile": lambda each: f"{each.flood.known.p99 / 1000:.0f} ms",
    "wrong": lambda each: f"{each.flood.known.wrong}",
    "outside names: answered": lambda each: f"{each.flood.outside.good:,.0f}",
    "a quiet client: answered": lambda each: f"{each.quiet:.0%}",
    "recovered in": lambda each: f"{each.recovered:.2f} s",
    "memory grew by": lambda each: f"{each.grown / 1024:.1f} MiB",
}


def table(terms: Terms, outcomes: Sequence[Outcome]) -> Table:
    """What came of it."""
    made = Table(
        title=f"{terms.factor:g} times the capacity for {terms.seconds:g} s, "
        f"on {terms.share} % of a core and {terms.memory} MiB",
        title_justify="left",
    )
    made.add_column("a second, where not said otherwise")
    for each in outcomes:
        made.add_column(f"{each.asked}\nto capacity of\n{each.limit}", justify="right")
    for measure, read in _MEASURES.items():
        made.add_row(measure, *map(read, outcomes))
    return made


class Held:
    """kdns, held. `stack` ends everything that it starts. Raises NoShare, NotServing, OSError."""

    def __init__(self, terms: Terms, folder: Path, stack: ExitStack, console: Console) -> None:
        self._terms = terms
        self._console = console
        self._cores = Cores.of(sorted(os.sched_getaffinity(0)))
        self._floods = 0
        cluster = generate(SHAPES["5k"], terms.seed)
        asked = questions("cluster-1k", cluster, terms.seed, 0)
        self._known = build("cluster-1k", asked, "udp").queries
        self.outside = query(Question(f"{'0' * DIGITS}.{FORWARDED}", "A", 0, ()), "udp").wire
        share = stack.enter_context(cpu_share(terms.share, "overload"))
        self._memory = stack.enter_context(memory_bound(terms.memory * MIB, share, "overload"))
        site = self._site(folder, cluster, stack)
        command = inside((self._memory,), Kdns().command(site))
        self._server = Server(command, {self._cores.server}, folder / "kdns" / "log")
        stack.enter_context(self._server)
        self._server.wait_ready(site.port, self._known[0])
        join(share, self._server.family())
        self._port = site.port
        self._flood(self.outside, None, _WARM_UP)

    def capacity(self, outside: bytes) -> float:
        """Right answers a second, as fast as they go."""
        made = self._flood(outside, None, self._terms.capacity_seconds)
        return made.known.good + made.outside.good

    def overload(self, asked: str, limit: str, capacity: float) -> Outcome:
        """Offer a multiple of a capacity, and see what comes of it."""
        terms = self._terms
        self._console.print(f"offering {terms.factor:g} times {capacity:,.0f} a second: {asked}")
        outside = self.outside if asked == HALF else b""
        rate = capacity * terms.factor
        sizes: list[int] = []
        with Prober(HOST, self._port, (self._ask_known, self._ask_outside)) as prober:
            flood = self._flood(outside, rate, terms.seconds, sizes)
            time.sleep(max(0.0, flood.ended + _AFTERWARDS - time.monotonic()))
        recovered = recovery(prober.probes, flood.ended)
        grown = sizes[-1] - sizes[len(sizes) // 10] if sizes else 0
        sent = flood.known.sent + flood.outside.sent
        quiet = served(prober.probes, flood.ended, 2, 0)
        return Outcome(asked, limit, capacity, sent / terms.seconds, flood, recovered, quiet, grown)

    def end(self) -> tuple[int, float]:
        """How many were killed for memory, and MiB at the peak.

        Raises NotServing where the server is not the process that was started.
        """
        self._server.wait_ready(self._port, self._known[0], 1.0)
        return killed(self._memory), peak(self._memory) / MIB

    def _ask_known(self, number: int) -> bytes:
        return self._known[number % len(self._known)].wire

    def _ask_outside(self, number: int) -> bytes:
        return self.outside[:13] + b"p%015x" % (self._floods << 32 | number) + self.outside[29:]

    def _flood(
        self, outside: bytes, rate: float | None, seconds: float, sizes: list[int] | None = None
    ) -> FloodResult:
        self._floods += 1
        cores = self._cores
        spec = FloodSpec(
            known=self._known,
            outside=outside,
            host=HOST,
            port=self._port,
            mode="max" if rate is None else "open",
            rate=rate,
            seconds=seconds,
            outstanding=_OUTSTANDING,
            seed=self._floods,
            cpu=cores.generator if cores.apart else None,
        )
        return flood(spec, cores.generator, self._server, sizes)

    def _site(self, folder: Path, cluster: Cluster, stack: ExitStack) -> Site:
        asked = upstreams.start("near", free_port, {self._cores.helpers}, folder, stack)
        manifests = write_manifests(cluster, folder, "5k")
        (folder / "kdns").mkdir()
        return Site(folder / "kdns", free_port(), asked, cluster, manifests)


def flood(spec: FloodSpec, core: int, server: Server, sizes: list[int] | None) -> FloodResult:
    """Have it done by a process of its own; `sizes` gets the server's memory, KiB, as it goes.

    Raises LoadFailed.
    """
    with pinned({core}):
        process = subprocess.Popen(
            [sys.executable, "-m", "perf.flood"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec))
    process.stdin.close()
    process.stdin = None
    end = time.monotonic() + spec.seconds + _SLACK
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                said, errors = process.communicate(timeout=0.5)
                if process.returncode:
                    raise LoadFailed(errors.decode(errors="replace").strip()[-500:])
                return msgspec.json.decode(said, type=FloodResult)
            if time.monotonic() > end:
                raise LoadFailed("the flood does not end")
            if sizes is not None:
                sizes.append(memory_of([server.pid])[0])
    finally:
        process.kill()
