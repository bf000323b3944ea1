"""`python -m perf workers`: whether two workers answer twice what one does.

Where server and generator share two cores, a second worker takes the generator's time, and nothing
can be seen. So each worker is held to the same part of a core by a control group of its own, the
generator has the rest, and what limits is the workers alone:

    one worker at 10 %     q/s       two workers at 10 % each     q/s     ratio
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from perf.cluster import generate
from perf.measure import cpu_of, parse_stat, per_query
from perf.model import LoadResult, LoadSpec, Workload
from perf.run import LoadFailed, generate_load, write_manifests
from perf.server import NotServing, Server, free_port
from perf.share import NoShare, cpu_share, join
from perf.subjects import HOST, Kdns, Site
from perf.workloads import SHAPES, Question, build, query, questions

_WORKLOAD: Final = "cluster-1k"
_SOCKETS: Final = 256
"""So many source ports that the kernel, which goes by them, gives each worker about as many."""
_OUTSTANDING: Final = 1024
_PERIOD: Final = 10_000
"""Microseconds in which a worker may use its share: short, so that the questions that wait for one
that has used it up are not all there are."""
_WARM_UP: Final = 3.0


@dataclass(frozen=True, slots=True)
class Scaled:
    """One run: answers a second, the workers' CPU per answer in µs, and the share of the answers
    that each worker gave."""

    workers: int
    qps: float
    cpu_us: float
    lost: int
    wrong: int
    spread: tuple[float, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its command line."""
    parser.add_argument("--percent", type=int, default=10, help="of a core for each worker (10)")
    parser.add_argument("--most", type=int, default=2, help="workers at the most (2)")
    parser.add_argument("--runs", type=int, default=5, help="rounds (5)")
    parser.add_argument("--length", type=float, default=3.0, help="seconds of each run (3)")
    parser.add_argument("--scale-json", type=Path, metavar="FILE", help="write the runs there")


def main(args: argparse.Namespace, folder: Path, console: Console) -> int:
    """Measure, and show; 0 when everything was measured and nothing was lost or wrong."""
    cluster = generate(SHAPES["5k"], 1)
    manifests = write_manifests(cluster, folder, "5k")
    workload = build(_WORKLOAD, questions(_WORKLOAD, cluster, 1, 0), "udp")
    host = cluster.services[-1].host()
    first = query(Question(host, "A", *cluster.look(host, "A")), "udp")
    found: dict[int, list[Scaled]] = {}
    try:
        with ExitStack() as stack:
            serving = {}
            for workers in (1, args.most):
                place = folder / str(workers)
                place.mkdir()
                site = Site(
                    place, free_port(), (9,), cluster, manifests, "", workers, b"", free_port()
                )
                server = Server(Kdns().command(site), set(os.sched_getaffinity(0)), place / "log")
                stack.enter_context(server)
                server.wait_ready(site.port, first)
                pids = answering(server.family(), workers)
                _load(workload, site.port, _WARM_UP)
                for number, pid in enumerate(pids):
                    group = cpu_share(args.percent, f"worker-{workers}-{number}", period=_PERIOD)
                    # The server ends before its groups are taken away.
                    stack.callback(server.stop)
                    join(stack.enter_context(group), [pid])
                    stack.callback(server.stop)
                serving[workers] = site.port, pids
            for _ in range(args.runs):
                for workers, (port, pids) in serving.items():
                    made = _measure(workload, port, pids, args.length)
                    found.setdefault(workers, []).append(made)
    except (NoShare, NotServing, LoadFailed, OSError) as error:
        console.print(f"workers: {error}", style="red", markup=False)
        return 1
    console.print(table(found, args.percent))
    if args.scale_json is not None:
        runs = [asdict(run) for of in found.values() for run in of]
        args.scale_json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return int(any(run.wrong for of in found.values() for run in of))


def answering(pids: Sequence[int], workers: int, proc: Path = Path("/proc")) -> list[int]:
    """Those of a server's processes that answer: the youngest generation of them.

    Raises NotServing when there are not so many.
    """
    parents = {pid: parse_stat((proc / str(pid) / "stat").read_text()).parent for pid in pids}
    youngest = [pid for pid in pids if pid not in parents.values()]
    if len(youngest) != workers:
        raise NotServing(f"{len(youngest)} processes that answer; expected {workers}")
    return youngest


def table(found: dict[int, list[Scaled]], percent: int) -> Table:
    """What was measured, medians of the runs."""
    made = Table(title=f"{_WORKLOAD}/udp, each worker held to {percent} % of a core")
    for column in ("workers", "answers/s", "CPU µs", "lost", "shares", "ratio"):
        made.add_column(column, justify="right")
    base = median([run.qps for run in found[min(found)]])
    for workers, runs in sorted(found.items()):
        qps = median([run.qps for run in runs])
        made.add_row(
            str(workers),
            f"{qps:,.0f}",
            f"{median([run.cpu_us for run in runs]):.2f}",
            f"{sum(run.lost for run in runs):,}",
            " ".join(f"{share:.0%}" for share in runs[-1].spread),
            f"{qps / base:.2f}",
        )
    return made


def _measure(workload: Workload, port: int, pids: list[int], seconds: float) -> Scaled:
    before = [cpu_of([pid]) for pid in pids]
    load = _load(workload, port, seconds)
    after = [cpu_of([pid]) for pid in pids]
    spent = [
        per_query(a, b, max(1, load.answered)).total_us for a, b in zip(before, after, strict=True)
    ]
    total = sum(spent)
    shares = tuple(one / total for one in spent) if total else ()
    return Scaled(len(pids), load.qps, total, load.lost, load.wrong, shares)


def _load(workload: Workload, port: int, seconds: float) -> LoadResult:
    spec = LoadSpec(workload, HOST, port, "max", None, seconds, _OUTSTANDING, _SOCKETS, 1, None)
    return generate_load(spec, max(os.sched_getaffinity(0)))
