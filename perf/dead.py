"""`python -m perf dead`: what it costs those who ask for cluster names that all upstreams are dead.

    round    cluster names alone; beside new outside names; beside as many, all upstreams dead
    stale    names that are kept, asked for after their time, when all are dead

The upstreams are the same in all of them: they are stopped, as if the network swallowed what is
sent there, and go on. The ratios of the 99th percentiles are what matters, and their median.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, inet_aton, socket
from statistics import median
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from kdns.wire.iana import Rcode
from perf.model import LoadResult
from perf.run import Cores, LoadFailed
from perf.server import NotServing, Server, free_port
from perf.steady import Steady, failed, helper
from perf.storm import Ledger, StormResult, StormSpec
from perf.subjects import HOST, compile_echo
from perf.workloads import UPSTREAM_ADDRESS

_STALE: Final = "cache 30 {\n        serve_stale 1h immediate"
_UPSTREAMS: Final = 3
_TTL: Final = 1
"""Of what the upstreams say, seconds: what is kept is soon stale."""
_KEPT: Final = tuple(f"kept-{number}" for number in range(100))
_KNOWN: Final = 2.5
"""Seconds after which it is known that nobody answers."""
_START: Final = 1.0
"""Seconds in which whoever asks for outside names has begun."""
_WARM_UPS: Final = 3
LATEST: Final = 5.0
"""Seconds within which every question must be answered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Cluster names and outside names a second, seconds of each run, and rounds."""

    rate: float = 2_000.0
    outside: float = 500.0
    seconds: float = 3.0
    repeat: int = 5
    seed: int = 1


class Run(NamedTuple):
    """Cluster names in one run, the part of a core that the server had, and the storm beside it."""

    load: LoadResult
    core: float
    storm: StormResult | None


class Round(NamedTuple):
    """One round."""

    alone: Run
    living: Run
    dead: Run


def main(terms: Terms, console: Console) -> int:
    """Measure, and show it: 0 if all were answered in time, by what was kept where it could be."""
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, ExitStack() as stack:
        try:
            asked = Beside(terms, Path(folder), stack)
            for number in range(terms.repeat):
                rounds.append(asked.round())
                p99s = ", ".join(f"{run.load.p99:,.0f}" for run in rounds[-1])
                console.print(f"round {number + 1} of {terms.repeat}: p99 {p99s} µs")
            stale = asked.stale()
        except (NotServing, LoadFailed, OSError, subprocess.CalledProcessError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    console.print(table(terms, rounds))
    console.print(
        f"kept, after their time: {stale.stale:,} of {stale.asked:,} answered stale and saying so, "
        f"the slowest in {stale.slowest:.3f} s"
    )
    wrong = faults(rounds, stale)
    for fault in wrong:
        console.print(fault, style="red")
    return 1 if wrong else 0


def faults(rounds: Sequence[Round], stale: StormResult) -> list[str]:
    """What must not be."""
    storms = [run.storm for each in rounds for run in each if run.storm is not None]
    made = []
    if any(storm.answered < storm.asked for storm in (*storms, stale)):
        made.append("questions about outside names had no answer")
    if any(storm.slowest >= LATEST for storm in (*storms, stale)):
        made.append(f"an answer took {LATEST:g} s or more")
    if any(each.dead.storm and Rcode.NOERROR in each.dead.storm.rcodes for each in rounds):
        made.append("the upstreams were not dead")
    if stale.stale < stale.asked or not stale.asked:
        made.append("what was kept was not handed out")
    return made


def table(terms: Terms, rounds: Sequence[Round]) -> Table:
    """What came of it."""
    made = Table(
        title=f"{terms.rate:,.0f} cluster names a second, beside {terms.outside:,.0f} new outside "
        f"names, {terms.seconds:g} s, medians",
        title_justify="left",
    )
    for head in ("", "p50 µs", "p99 µs", "lost", "core", "outside answers", "slowest s"):
        made.add_column(head, justify="left" if not head else "right")
    columns = zip(*rounds, strict=True)
    for title, runs in zip(("alone", "upstreams alive", "all dead"), columns, strict=True):
        storms = [run.storm for run in runs if run.storm is not None]
        made.add_row(
            title,
            f"{median(run.load.p50 for run in runs):,.0f}",
            f"{median(run.load.p99 for run in runs):,.0f}",
            f"{sum(run.load.lost for run in runs):,}",
            f"{median(run.core for run in runs):.1%}",
            _told(storms),
            f"{max(storm.slowest for storm in storms):.2f}" if storms else "",
        )
    ratios = [
        median(each.dead.load.p99 / max(1.0, base(each).load.p99) for each in rounds)
        for base in _BASES
    ]
    made.caption = (
        f"p99, all dead to alone: {ratios[0]:.2f}, to upstreams alive: {ratios[1]:.2f}, "
        f"the medians of {len(rounds)} rounds"
    )
    return made


_BASES: Final[tuple[Callable[[Round], Run], ...]] = (
    lambda each: each.alone,
    lambda each: each.living,
)


def _told(storms: Sequence[StormResult]) -> str:
    counted: dict[str, int] = {}
    for storm in storms:
        for rcode, times in storm.rcodes.items():
            text = Rcode(rcode).name
            counted[text] = counted.get(text, 0) + times
    return ", ".join(f"{times:,} {text}" for text, times in counted.items())


class Beside:
    """kdns before its upstreams. `stack` ends what it starts. Raises NotServing and OSError."""

    def __init__(self, terms: Terms, folder: Path, stack: ExitStack) -> None:
        self._terms = terms
        self._cores = Cores.of(sorted(os.sched_getaffinity(0)))
        self._upstreams: list[Server] = []
        self._steady = Steady(
            terms.rate,
            terms.seconds,
            terms.seed,
            folder,
            stack,
            upstreams=self._start_upstreams(folder, stack),
            corefile=lambda text: text.replace("cache 30 {", _STALE),
        )
        for _ in range(_WARM_UPS):
            self._ask()

    def round(self) -> Round:
        """One more. Raises LoadFailed, NotServing and OSError."""
        alone = self._ask()
        living = self._beside(0.0)
        with self._death():
            dead = self._beside(_KNOWN)
        return Round(alone, living, dead)

    def stale(self) -> StormResult:
        """What becomes of names that are kept. Raises LoadFailed, NotServing and OSError."""
        with self._storm(_KEPT) as ended:
            time.sleep(_START + 2 * len(_KEPT) / self._terms.outside)
            ended()
        time.sleep(_TTL + 0.1)
        with self._death(), self._storm(_KEPT) as ended:
            time.sleep(self._terms.seconds)
            return ended()

    def _beside(self, known: float) -> Run:
        with self._storm() as ended:
            time.sleep(known)
            run = self._ask()
            return run._replace(storm=ended())

    def _ask(self) -> Run:
        load, before, after = self._steady.ask()
        spent = after.user + after.system - before.user - before.system
        return Run(load, spent / self._terms.seconds, None)

    @contextmanager
    def _storm(self, labels: tuple[str, ...] = ()) -> Iterator[Callable[[], StormResult]]:
        """Outside names, until what it gives is called: that says what came of them."""
        spec = StormSpec(HOST, self._steady.port, self._terms.outside, labels)

        def ended() -> StormResult:
            said, words = process.communicate()
            if process.returncode:
                raise failed(words)
            return msgspec.json.decode(said, type=StormResult)

        with helper("perf.storm", spec, self._cores.helpers) as process:
            yield ended

    def _start_upstreams(self, folder: Path, stack: ExitStack) -> tuple[int, ...]:
        program = str(compile_echo(folder))
        said = bytes.fromhex("c00c 0001 0001") + _TTL.to_bytes(4, "big") + b"\0\4"
        said += inet_aton(UPSTREAM_ADDRESS)
        ports = []
        for _ in range(_UPSTREAMS):
            ports.append(port := free_port())
            command = [program, HOST, str(port), said.hex(), "0", "0"]
            server = Server(command, {self._cores.helpers}, folder / f"upstream-{port}.log")
            self._upstreams.append(stack.enter_context(server))
        return tuple(ports)

    @contextmanager
    def _death(self) -> Iterator[None]:
        """Of all upstreams; afterwards they live, and the server knows."""
        try:
            for upstream in self._upstreams:
                os.kill(upstream.pid, signal.SIGSTOP)
            yield
        finally:
            for upstream in self._upstreams:
                os.kill(upstream.pid, signal.SIGCONT)
        self._wait_for_life()

    def _wait_for_life(self) -> None:
        ledger = Ledger()
        end = time.monotonic() + 2 * LATEST
        with socket(AF_INET, SOCK_DGRAM) as sock:
            sock.settimeout(LATEST)
            sock.connect((HOST, self._steady.port))
            while Rcode.NOERROR not in ledger.result.rcodes:
                if time.monotonic() > end:
                    raise NotServing("does not know that its upstreams live")
                sock.send(ledger.ask(f"alive-{time.monotonic_ns()}", 0.0))
                ledger.answer(sock.recv(65535), 0.0)
