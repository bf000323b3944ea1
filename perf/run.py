"""A session: starts the servers, puts the load on them, reads their costs, and cleans up.

core 0            the servers; only one of them is asked at a time, the others sleep
the last core     the load generator, which spins
one between them  the upstream and the API server; with two cores, the generator's
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import msgspec

from perf import dnsperf, upstreams
from perf.cluster import Cluster, Json, generate
from perf.counted import requests_of
from perf.flame import NotDrawn, drawn
from perf.measure import cpu_of, machine, memory_of, per_query
from perf.model import Figures, LoadResult, LoadSpec, Query, Workload
from perf.plan import HEADLINE, Cell, Settings, Stage, count_of, length, seconds_of, stages
from perf.record import Key, Record, Run, Skipped
from perf.server import NotServing, Server, free_port, pinned
from perf.share import NoShare, cpu_share, join
from perf.subjects import HOST, Site, Subject, tail
from perf.workloads import (
    SHAPES,
    SPECS,
    Question,
    build,
    query,
    questions,
)

OUTSTANDING: Final = 256
"""Questions unanswered at any time under a "max" load."""
SOCKETS: Final = 16
"""UDP source ports, or TCP connections."""
_ROOT: Final = Path(__file__).resolve().parent.parent
_PER_FILE: Final = 20_000
_SLACK: Final = 120.0
_WARM: Final = 3
_WARM_UPS: Final = 5


class Watcher(Protocol):
    """Is told how the session goes."""

    def begin(self, runs: int) -> None:
        """So many runs are planned."""

    def note(self, text: str) -> None:
        """Something that the reader should know."""

    def running(self, subject: str, cell: Cell, number: int) -> None:
        """A run begins."""

    def done(self, run: Run) -> None:
        """A run has ended well."""

    def passed(self) -> None:
        """A planned run is not made."""


class LoadFailed(Exception):
    """The load generator gave up; its own words."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core has what. workers: for a subject that takes many."""

    server: int
    workers: frozenset[int]
    helpers: int
    generator: int

    @classmethod
    def of(cls, cores: Sequence[int]) -> Cores:
        """The placement on these cores, one at least."""
        last = cores[-1]
        between = cores[-2] if len(cores) > 2 else last
        return cls(cores[0], frozenset(cores[:-1] or cores), between, last)

    @property
    def alone(self) -> bool:
        """Whether the generator has a core to itself, when the helpers have nothing to do."""
        return self.generator != self.server

    @property
    def apart(self) -> bool:
        """Whether it has one even when they do."""
        return self.generator not in {self.server, self.helpers}

    def __str__(self) -> str:
        text = f"server on core {self.server}, generator on core {self.generator}"
        if not self.alone:
            return f"{text}: they share it, and every latency shows it"
        return f"{text}, upstream on core {self.helpers}"


@dataclass(slots=True)
class Session:
    """One session. `folder` is ours for as long as it lasts."""

    settings: Settings
    subjects: Sequence[Subject]
    watcher: Watcher
    folder: Path
    flames: Path | None = None
    """Where a flame graph of each of kdns's workloads goes, if any are wanted."""
    runs: list[Run] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    second: list[dnsperf.Second] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    cores: Cores = field(default_factory=lambda: Cores.of(sorted(os.sched_getaffinity(0))))
    _clusters: dict[str, tuple[Cluster, tuple[Path, ...]]] = field(default_factory=dict)
    _ports: set[int] = field(default_factory=set)

    def run(self) -> None:
        """All of it. Whatever ends it, no process and no control group of it remains."""
        present = [s for s in self.subjects if self._is_present(s)]
        self.versions = {s.name: s.version() for s in present}
        planned = stages(self.settings)
        self.watcher.begin(length(self.settings, [s.name for s in present]))
        for number, stage in enumerate(planned):
            folder = self.folder / f"stage-{number}"
            folder.mkdir()
            with ExitStack() as stack:
                _Staged(self, stage, folder, stack).run(present)

    def record(self) -> Record:
        """What was measured so far."""
        return Record(
            made=dt.datetime.now(tz=dt.UTC).date().isoformat(),
            machine=machine(),
            placement=str(self.cores),
            versions=self.versions,
            settings=self.settings,
            runs=self.runs,
            skipped=self.skipped,
            second=self.second,
        )

    def skip(self, subject: str, workload: str, reason: str) -> None:
        """Say, once, why something is not measured."""
        made = Skipped(subject, workload, reason)
        if made not in self.skipped:
            self.skipped.append(made)
            self.watcher.note(f"{subject}{' ' * bool(workload)}{workload}: {reason}")

    def cluster(self, shape: str) -> tuple[Cluster, tuple[Path, ...]]:
        """The cluster of a shape, and the files of its objects."""
        if shape not in self._clusters:
            self.watcher.note(f"making a cluster of {SHAPES[shape].services:,} services")
            cluster = generate(SHAPES[shape], self.settings.seed)
            self._clusters[shape] = cluster, write_manifests(cluster, self.folder, shape)
        return self._clusters[shape]

    def port(self) -> int:
        """A port that nobody else of this session has."""
        while (port := free_port()) in self._ports:
            pass
        self._ports.add(port)
        return port

    def _is_present(self, subject: Subject) -> bool:
        reason = subject.missing()
        if reason is not None:
            self.skip(subject.name, "", reason)
        return reason is None


@dataclass(slots=True)
class _Serving:
    """A subject that answers."""

    server: Server
    port: int
    metrics: int
    """Its port; 0 for a server without."""


@dataclass(slots=True)
class _Staged:
    """One stage: its servers, for as long as `stack` is open."""

    session: Session
    stage: Stage
    folder: Path
    stack: ExitStack
    upstreams: tuple[int, ...] = ()
    api: str = ""
    serving: dict[str, _Serving] = field(default_factory=dict)

    def run(self, subjects: Sequence[Subject]) -> None:
        self.upstreams = self._start_upstreams()
        if any(s.name == "coredns" for s in subjects):
            self.api = self._start_api()
        for subject in subjects:
            if not subject.every_run and self._is_asked(subject):
                self._start(subject, self._site(subject, b""), self.stack)
        by_name = {s.name: s for s in subjects}
        warm: set[tuple[str, ...]] = set()
        for cell, number, name in self.stage.order(list(by_name)):
            if not self.session.settings.measures(name, cell.workload):
                continue
            if not self._measure(by_name[name], cell, number, warm):
                self.session.watcher.passed()
        for cell in self.stage.cells if self.session.settings.second_opinion else ():
            if cell.workload in HEADLINE and cell[1:3] == ("udp", "max"):
                self._ask_by_dnsperf(cell, [s.name for s in subjects if not s.every_run])

    def _ask_by_dnsperf(self, cell: Cell, subjects: Sequence[str]) -> None:
        """Have another generator than ours ask the same, of those that run."""
        session = self.session
        if not dnsperf.available():
            session.skip("dnsperf", "", "is not installed")
            return
        path = self.folder / f"{cell.workload}.questions"
        dnsperf.write_questions(self._questions(cell, 0), path)
        for number in self.stage.rounds:
            for name in subjects:
                if name not in self.serving:
                    continue
                serving = self.serving[name]
                pids = [serving.server.pid]
                try:
                    before = cpu_of(pids)
                    seconds = session.settings.seconds
                    said = dnsperf.ask(serving.port, path, seconds, session.cores.generator)
                    cpu = per_query(before, cpu_of(pids), said[1])
                except (dnsperf.NotMeasured, ProcessLookupError, ValueError) as error:
                    session.skip(name, f"{cell.workload}/dnsperf", str(error))
                    continue
                made = dnsperf.Second(name, cell.workload, number, *said, cpu.total_us)
                session.second.append(made)
                session.watcher.note(
                    f"{cell.workload}/udp dnsperf {name} {number + 1}: "
                    f"{made.qps:,.0f} q/s · CPU {made.cpu_us:.2f}"
                )

    def _is_asked(self, subject: Subject) -> bool:
        settings = self.session.settings
        return any(settings.measures(subject.name, cell.workload) for cell in self.stage.cells)

    def _measure(
        self, subject: Subject, cell: Cell, number: int, warm: set[tuple[str, ...]]
    ) -> bool:
        session = self.session
        if (reason := self._obstacle(subject, cell)) is not None:
            session.skip(subject.name, f"{cell.workload}/{cell.transport}", reason)
            return False
        session.watcher.running(subject.name, cell, number)
        with ExitStack() as stack:
            workload = self._workload(cell, number)
            if subject.every_run:
                said = tail(self._questions(cell, number), cell.transport)
                self._start(subject, self._site(subject, said), stack)
            if subject.name not in self.serving:
                return False
            try:
                warmed = subject.name, cell.workload, cell.transport
                if warmed not in warm and not SPECS[cell.workload].once:
                    warm.add(warmed)
                    self._warm(subject, cell, workload)
                self._settle(subject, cell, number)
                figures = self._figures(subject, cell, workload)
            except (LoadFailed, NotDrawn, OSError, ValueError) as error:
                session.skip(subject.name, f"{cell.workload}/{cell.transport}", str(error))
                return False
        key = Key(cell.workload, cell.transport, cell.mode, cell.rate)
        run = Run(subject.name, key, number, figures)
        session.runs.append(run)
        session.watcher.done(run)
        return True

    def _obstacle(self, subject: Subject, cell: Cell) -> str | None:
        spec = SPECS[cell.workload]
        if spec.forwards and not self.upstreams:
            return "the upstream takes a C compiler (cc)"
        if (reason := subject.cannot(spec, cell.transport)) is not None:
            return reason
        if subject.every_run or subject.name in self.serving:
            return None
        return "did not start"

    def _figures(self, subject: Subject, cell: Cell, workload: Workload) -> Figures:
        serving = self.serving[subject.name]
        pids = [serving.server.pid]
        counted = requests_of(serving.metrics) if serving.metrics else None
        before = cpu_of(pids)
        seconds = seconds_of(self.session.settings, cell)
        with ExitStack() as stack:
            if self.session.flames is not None and subject.name == "kdns":
                name = f"{cell.workload}-{cell.transport}-{cell.mode}"
                picture = self.session.flames / f"{name}.svg"
                title = f"kdns: {Key(*cell)}"
                stack.enter_context(drawn(pids[0], picture, seconds, title))
            result = self._load(subject, cell, workload, seconds)
        cpu = per_query(before, cpu_of(pids), result.answered)
        rss, peak = memory_of(pids)
        if counted is not None:
            counted = requests_of(serving.metrics) - counted
            if counted != result.sent and subject.name.startswith("kdns"):
                self.session.watcher.note(
                    f"{subject.name} counted {counted:,} queries of {result.sent:,}"
                )
        return Figures(result, cpu, rss, peak, counted)

    def _warm(self, subject: Subject, cell: Cell, workload: Workload) -> None:
        fast = cell._replace(mode="max", rate=None)
        get_around(
            lambda seconds: self._load(subject, fast, workload, seconds).sent,
            len(workload.queries),
            self.session.settings.warm_up,
        )

    def _settle(self, subject: Subject, cell: Cell, number: int) -> None:
        """Ask what the workload wants asked beforehand: other names, at the same rate."""
        seconds = SPECS[cell.workload].settle
        if not seconds or cell.rate is None:
            return
        cluster, _ = self.session.cluster(self.stage.shape)
        seed = -1 - self.session.settings.seed - number
        asked = questions(cell.workload, cluster, seed, int(cell.rate * seconds) + 1)
        self._load(subject, cell, build(cell.workload, asked, cell.transport), seconds)

    def _load(self, subject: Subject, cell: Cell, workload: Workload, seconds: float) -> LoadResult:
        cores = self.session.cores
        own = cores.apart if SPECS[cell.workload].forwards else cores.alone
        spec = LoadSpec(
            workload,
            HOST,
            self.serving[subject.name].port,
            cell.mode,
            cell.rate,
            seconds,
            OUTSTANDING,
            SOCKETS,
            self.session.settings.seed,
            cores.generator if own else None,
        )
        return generate_load(spec, cores.generator)

    def _questions(self, cell: Cell, number: int) -> list[Question]:
        cluster, _ = self.session.cluster(self.stage.shape)
        settings = self.session.settings
        # Each round asks other names of whom must not have heard of them.
        seed = settings.seed + number if SPECS[cell.workload].once else settings.seed
        return questions(cell.workload, cluster, seed, count_of(settings, cell))

    def _workload(self, cell: Cell, number: int) -> Workload:
        return build(cell.workload, self._questions(cell, number), cell.transport)

    def _site(self, subject: Subject, said: bytes) -> Site:
        folder = self.folder / subject.name
        folder.mkdir(exist_ok=True)
        cluster, manifests = self.session.cluster(self.stage.shape)
        port = self.session.port()
        workers = len(self.session.cores.workers) if subject.many else 1
        metrics = self.session.port() if subject.counts else 0
        return Site(
            folder,
            port,
            self.upstreams,
            cluster,
            manifests,
            self.api,
            workers=workers,
            tail=said,
            metrics=metrics,
        )

    def _start(self, subject: Subject, site: Site, stack: ExitStack) -> None:
        cores = self.session.cores
        cpus = cores.workers if subject.many else {cores.server}
        share = self.session.settings.cpu_share
        try:
            group = None
            if share is not None:
                group = stack.enter_context(cpu_share(share, subject.name))
            server = Server(subject.command(site), cpus, site.folder / "log")
            stack.enter_context(server)
            server.wait_ready(site.port, self._first(subject))
            if group is not None:
                join(group, server.family())
        except (NotServing, NoShare, OSError, subprocess.CalledProcessError) as error:
            self.session.skip(subject.name, "", str(error))
            return
        self.serving[subject.name] = _Serving(server, site.port, site.metrics)

    def _first(self, subject: Subject) -> Query:
        cluster, _ = self.session.cluster(self.stage.shape)
        host = cluster.services[-1].host()
        made = query(Question(host, "A", *cluster.look(host, "A")), "udp")
        return Query(made.wire, None) if subject.every_run else made

    def _start_upstreams(self) -> tuple[int, ...]:
        """Their ports, none when they cannot be had."""
        session = self.session
        cpus = {session.cores.helpers}
        try:
            return upstreams.start(
                self.stage.upstream, session.port, cpus, session.folder, self.stack
            )
        except (OSError, subprocess.CalledProcessError):
            return ()

    def _start_api(self) -> str:
        """Its URL. Raises NotServing."""
        _, manifests = self.session.cluster(self.stage.shape)
        command = [sys.executable, "-m", "perf.apiserver", *map(str, manifests)]
        log = self.folder / "api.log"
        # It takes orders from standard input, which must be a pipe: there are none.
        server = Server(command, {self.session.cores.helpers}, log, folder=_ROOT, told=True)
        self.stack.enter_context(server)
        return server.wait_line("http://")


def get_around(ask: Callable[[float], int], queries: int, seconds: float) -> None:
    """Ask everything three times, so that what is measured is no start; within bounds.

    ask: asks for so many seconds, and says how many queries that were. Every time begins at the
    same query, so it takes one that gets around: many short ones leave the end of a long list cold.
    """
    for _ in range(_WARM_UPS):
        # The first time an answer is made, the second time it is made hot, the third it is.
        if ask(seconds) >= _WARM * queries:
            return
        seconds *= 2


def write_manifests(cluster: Cluster, folder: Path, name: str) -> tuple[Path, ...]:
    """The cluster's objects in files, none of them too large for kdns."""
    return write_objects(cluster.objects(), folder, name)


def write_objects(objects: Iterable[Json], folder: Path, name: str) -> tuple[Path, ...]:
    """Objects as lists in JSON files, some ten thousand in each."""
    paths: list[Path] = []
    rest = iter(objects)
    while items := list(islice(rest, _PER_FILE)):
        path = folder / f"{name}-{len(paths)}.json"
        path.write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}))
        paths.append(path)
    return tuple(paths)


def generate_load(spec: LoadSpec, core: int) -> LoadResult:
    """Put a load on a server from a process of its own. Raises LoadFailed."""
    with pinned({core}):
        done = subprocess.run(
            [sys.executable, "-m", "perf.load"],
            input=msgspec.json.encode(spec),
            capture_output=True,
            cwd=_ROOT,
            timeout=spec.seconds + _SLACK,
            check=False,
        )
    if done.returncode:
        raise LoadFailed(done.stderr.decode(errors="replace").strip()[-500:])
    return msgspec.json.decode(done.stdout, type=LoadResult)
