"""`python -m perf restarts` and `reloads`: changes under load, and not one question lost.

    over UDP, then over TCP:   change   change   change  ...
                             |--------- queries at a fixed rate --------->

A restart is a new process that takes the place of the old one (`--takeover`); a reload is another
Corefile and SIGUSR1. A question is lost when it is not answered within a second; over TCP, when it
is not answered on one more connection either, after the first was closed.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from perf.cluster import generate
from perf.model import LoadResult, LoadSpec, Transport
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_manifests
from perf.server import NotServing, Server, free_port
from perf.subjects import HOST, Kdns, Site
from perf.workloads import SHAPES, build, questions

KINDS: Final = ("restarts", "reloads")
WORKLOAD: Final = "cluster-1k"
PATIENCE: Final = 60.0
"""Seconds that one change may take."""
MARGIN: Final = 1.0
"""Seconds of questions before the first change and after the last one."""
DONE: Final = "Reloading complete"


@dataclass(frozen=True, slots=True)
class Terms:
    """How many changes, queries a second, and workers. pause: seconds between two changes."""

    changes: int = 20
    rate: float = 5_000.0
    workers: int = 1
    pause: float = 0.5
    seed: int = 1


class Outcome(NamedTuple):
    """What came of it over one transport. seconds: how long each change took."""

    transport: Transport
    seconds: tuple[float, ...]
    load: LoadResult

    @property
    def well(self) -> bool:
        """Whether every question was answered, and rightly."""
        return self.load.lost == 0 and self.load.wrong == 0 and self.load.sent > 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be said of the terms."""
    parser.add_argument("--changes", type=int, metavar="N", help="how many (20)")
    parser.add_argument("--rate", type=float, default=argparse.SUPPRESS, help="q/s (5,000)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that answer (1)")
    parser.add_argument("--pause", type=float, metavar="SECONDS", help="between changes (0.5)")


def main(kind: str, terms: Terms, console: Console) -> int:
    """Do them, and show what came of it: 0, or 1 where a question was lost or answered wrongly."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, ExitStack() as stack:
        try:
            for transport in get_args(Transport):
                place = Path(folder) / transport
                place.mkdir()
                outcomes.append(Trial(kind, terms, transport, place, stack).run())
        except (NotServing, LoadFailed, OSError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    console.print(table(kind, terms, outcomes))
    return 0 if all(outcome.well for outcome in outcomes) else 1


def table(kind: str, terms: Terms, outcomes: Sequence[Outcome]) -> Table:
    """What came of it."""
    made = Table(
        title=f"{terms.changes} {kind} in a row under {terms.rate:,.0f} queries a second, "
        f"{terms.workers} to answer",
        title_justify="left",
    )
    for head in ("", "queries", "lost", "wrong", "asked twice", "p99 ms", "worst ms", "a change s"):
        made.add_column(head, justify="left" if not head else "right")
    for transport, seconds, load in outcomes:
        made.add_row(
            transport,
            f"{load.sent:,}",
            f"{load.lost:,}",
            f"{load.wrong:,}",
            f"{load.reasked:,}",
            f"{load.p99 / 1000:.1f}",
            f"{load.worst / 1000:.1f}",
            f"{sum(seconds) / len(seconds):.2f}" if seconds else "",
        )
    made.caption = "wrong: SERVFAIL, or any other answer than the right one"
    return made


class Trial:
    """kdns, changed again and again. `stack` ends what it starts."""

    def __init__(
        self, kind: str, terms: Terms, transport: Transport, folder: Path, stack: ExitStack
    ) -> None:
        self._kind = kind
        self._terms = terms
        self._transport = transport
        self._folder = folder
        self._stack = stack
        self._cores = Cores.of(sorted(os.sched_getaffinity(0)))
        cluster = generate(SHAPES["5k"], terms.seed)
        asked = questions(WORKLOAD, cluster, terms.seed, 0)
        self._workload = build(WORKLOAD, asked, transport)
        manifests = write_manifests(cluster, folder, "5k")
        port, more = free_port(), free_port()
        site = Site(folder, port, (more,), cluster, manifests, workers=terms.workers)
        self._port = port
        self._command = [*Kdns().command(site), "--takeover", str(folder / "control")]
        self._corefile = folder / "Corefile"
        self._text = self._corefile.read_text(encoding="utf-8")
        self._number = 0
        self._server = self._start()
        # What is asked to see that it is there goes over UDP, whatever is measured.
        self._server.wait_ready(port, build(WORKLOAD, asked, "udp").queries[0])

    def run(self) -> Outcome:
        """All changes under load. Raises NotServing, LoadFailed and OSError."""
        change: Callable[[], None] = self._restart if self._kind == "restarts" else self._reload
        each = self._timed(change) + self._terms.pause
        # A machine that has other things to do may take longer for one than for another.
        seconds = 2 * MARGIN + 1.5 * each * self._terms.changes
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self._ask, seconds)
            time.sleep(MARGIN)
            took: list[float] = []
            for _ in range(self._terms.changes):
                took.append(self._timed(change))
                time.sleep(self._terms.pause)
            if asking.done():
                raise LoadFailed("the changes took longer than the questions; the machine is busy")
            load = asking.result()
        self._server.stop()
        return Outcome(self._transport, tuple(took), load)

    def _ask(self, seconds: float) -> LoadResult:
        spec = LoadSpec(
            workload=self._workload,
            host=HOST,
            port=self._port,
            mode="open",
            rate=self._terms.rate,
            seconds=seconds,
            outstanding=1,
            connections=SOCKETS,
            seed=self._terms.seed,
            cpu=self._cores.generator if self._cores.apart else None,
            reask=True,
        )
        return generate_load(spec, self._cores.generator)

    def _start(self) -> Server:
        self._number += 1
        log = self._folder / f"log-{self._number}"
        server = Server(self._command, {self._cores.server}, log)
        self._stack.enter_context(server)
        return server

    def _restart(self) -> None:
        before, self._server = self._server, self._start()
        status = before.wait_end(PATIENCE)
        if status:
            raise NotServing(f"the server before ended with status {status}")

    def _reload(self) -> None:
        self._number += 1
        more = f"reload-{self._number}.test:{self._port} {{\n bind {HOST}\n whoami\n}}\n"
        beside = self._corefile.with_suffix(".new")
        beside.write_text(self._text + more, encoding="utf-8")
        beside.replace(self._corefile)
        os.kill(self._server.pid, signal.SIGUSR1)
        # The first server has number 1, and the first reload number 2.
        self._server.wait_lines(DONE, self._number - 1, PATIENCE)

    @staticmethod
    def _timed(change: Callable[[], None]) -> float:
        began = time.monotonic()
        change()
        return time.monotonic() - began
