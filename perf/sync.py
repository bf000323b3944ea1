"""`python -m perf sync`: what a large cluster takes, from start to ready and from then on.

    one        one process follows an API server in another one, over TLS
    relist     the API server forgets (410) while that process is asked
    pods       the same with pods beside it, `pods verified`
    workers    the same with two processes that answer; one of them is killed while it is asked
    snapshot   a start from the remembered state, and no API server

CPU is judged by what a bare decoding of the same octets into the same types takes in the same run.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import urlopen

import msgspec
from rich.console import Console
from rich.table import Table

from perf.answers import matches
from perf.bare import Decoded, Weight
from perf.certificate import Pem, make
from perf.large import Large
from perf.measure import Machine, cpu_of, machine, memory_of, parse_status
from perf.model import LoadResult, LoadSpec, Query, Workload
from perf.page import facts_of, page
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_objects
from perf.server import NotServing, Server, free_port, pinned
from perf.subjects import HOST
from perf.svg import Strip, strips
from perf.workloads import query

_ROOT: Final = Path(__file__).resolve().parent.parent
_PAUSE: Final = 0.01
_READY: Final = 120.0
_SETTLE: Final = 3.0
_LOAD: Final = 8.0
_BEFORE: Final = 2.0
"""Seconds of load before something happens."""
_EACH: Final = 64
"""Sockets that ask at once until all are answered: some of them are for any worker."""
_BLUE: Final = "#1f5fa8"
_RED: Final = "#b3261e"
_MB: Final = 1e6 / 1024
"""KiB."""
_PAGE: Final = struct.Struct("=Q")
_OF_A_FILE: Final = 1 << 63 | 1 << 61
"""The bits of a page in memory that is a file's, or is shared as such."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The cluster, the pods beside it, queries a second in the meantime, and the order of names."""

    services: int = 5_000
    endpoints: int = 100_000
    pods: int = 100_000
    rate: float = 2_000.0
    seed: int = 1


class Started(NamedTuple):
    """A start. ready: seconds until the first right answer; cpu: used until then. Memory is in KiB:
    resident once it has settled, at its highest, all processes' share of what they have, and what
    they have together where nobody else runs the same libraries (see `alone`)."""

    ready: float
    cpu: float
    rss: int
    peak: int
    pss: int
    alone: int


class Relisted(NamedTuple):
    """Peaks in KiB from the settled state on, before and after; cpu: seconds for the list."""

    before: int
    peak: int
    load: LoadResult


class Killed(NamedTuple):
    """answered: seconds until every socket had its answer again; totals: queries counted before,
    just after the kill, and at the end."""

    answered: float
    load: LoadResult
    totals: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Result:
    """All of it. imports: seconds of CPU that importing takes. weights: octets for each."""

    terms: Terms
    made: Machine
    imports: float
    bare: Decoded
    one: Started
    relisted: Relisted
    pods: Started
    workers: Started
    killed: Killed
    recalled: float
    weights: dict[str, Weight]


class Bound(NamedTuple):
    """A figure, and the most that it should be."""

    name: str
    figure: float
    most: float
    form: str

    @property
    def kept(self) -> bool:
        """Whether it is."""
        return self.figure <= self.most


def bounds(result: Result) -> list[Bound]:
    """What is promised of a cluster of 5,000 services and 100,000 endpoints."""
    one, relisted, killed = result.one, result.relisted, result.killed
    before, after, end = killed.totals
    return [
        Bound("memory, settled", one.rss / _MB, 110, "{:.1f} MB"),
        Bound("memory, at its peak", one.peak / _MB, 160, "{:.1f} MB"),
        Bound("CPU to ready, beside a bare decoding", _ratio(result), 4, "{:.2f} times"),
        Bound("memory with the pods, settled", result.pods.rss / _MB, 190, "{:.1f} MB"),
        Bound("two workers and all, beside one process", _share(result), 1.6, "{:.2f} times"),
        Bound(
            "peak of a relist, beside settled",
            relisted.peak / relisted.before,
            1.15,
            "{:.3f} times",
        ),
        Bound("answers lost or wrong in a relist", _missed(relisted.load), 0, "{:.0f}"),
        Bound("start from the snapshot", result.recalled, 1, "{:.2f} s"),
        Bound("a killed worker's clients wait", killed.answered, 2, "{:.2f} s"),
        Bound("totals fall when it is killed by", max(before - after, after - end, 0), 0, "{:.0f}"),
    ]


def _ratio(result: Result) -> float:
    return (result.one.cpu - result.imports) / result.bare.seconds


def _share(result: Result) -> float:
    # Not by PSS: of the libraries it leaves out what the harness has mapped too, which is another
    # part of one process's than of three.
    return result.workers.alone / result.one.alone


def _missed(load: LoadResult) -> int:
    return load.lost + load.wrong


def main(terms: Terms, path: Path | None, html: Path | None, console: Console) -> int:
    """Measure, show, and write it, as a record and as a page.

    0 when every bound is kept, 1 when one is not, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder, compiled(Path(folder)):
        try:
            result = Session(terms, Path(folder), console).run()
        except (NotServing, LoadFailed, OSError, subprocess.CalledProcessError) as error:
            console.print(str(error), markup=False, style="red")
            return 1
    for shown in tables(result):
        console.print(shown)
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    if html is not None:
        html.write_text(render(result), encoding="utf-8")
    return 0 if all(bound.kept for bound in bounds(result)) else 1


def render(result: Result) -> str:
    """The page."""
    terms = result.terms
    starts = [
        ("one process", result.one),
        ("with pods", result.pods),
        ("two workers", result.workers),
    ]
    alone = starts[:2]
    pictures = {
        title: strips(title, [Strip(name, colour, [value]) for name, value in rows], unit, digits)
        for title, colour, rows, unit, digits in (
            ("Memory, settled", _BLUE, [(n, s.rss / _MB) for n, s in alone], "MB resident", 0),
            ("Memory, at its peak", _RED, [(n, s.peak / _MB) for n, s in alone], "MB resident", 0),
            (
                "Memory, settled, where what processes share is counted once",
                _BLUE,
                [(n, s.alone / _MB) for n, s in starts],
                "MB of all processes together",
                0,
            ),
            ("From start to ready", _BLUE, [(n, s.ready) for n, s in starts], "seconds", 2),
        )
    }
    facts = facts_of(result.made) | {
        "cluster": f"{terms.services:,} services, {terms.endpoints:,} endpoints",
        "placement": "kdns on a core, the API server and the load generator on another one",
    }
    missed = [
        f"{bound.name}: {bound.form.format(bound.figure)}; expected at most "
        f"{bound.form.format(bound.most)}"
        for bound in bounds(result)
        if not bound.kept
    ]
    lead = "Memory and CPU from start to ready, a relist, workers, and the snapshot."
    return page("What a large cluster takes", lead, facts, pictures, tables(result), missed)


def tables(result: Result) -> Iterator[Table]:
    """What came of it."""
    terms = result.terms
    made = Table(
        title=f"{terms.services:,} services, {terms.endpoints:,} endpoints, "
        f"{result.bare.octets / 1e6:.0f} MB of JSON over TLS",
        title_justify="left",
    )
    for head in ("", "ready s", "CPU s", "settled MB", "peak MB", "PSS MB", "alone MB"):
        made.add_column(head, justify="left" if not head else "right")
    for name, start in (
        ("one process", result.one),
        (f"with {terms.pods:,} pods", result.pods),
        ("two workers", result.workers),
    ):
        sizes = [f"{size / _MB:.1f}" for size in (start.rss, start.peak, start.pss, start.alone)]
        made.add_row(name, f"{start.ready:.2f}", f"{start.cpu:.2f}", *sizes)
    bare = result.bare.seconds
    made.caption = (
        f"CPU: {result.imports:.2f} s are imports; a bare decoding takes {bare:.3f} s. PSS counts "
        "in part what the harness has mapped too; alone counts it whole, and once"
    )
    yield made
    judged = Table("", "is", "at most", title="judged", title_justify="left")
    for bound in bounds(result):
        style = None if bound.kept else "red"
        shown = (bound.form.format(bound.figure), bound.form.format(bound.most))
        judged.add_row(bound.name, *shown, style=style)
    relisted, killed = result.relisted.load, result.killed.load
    judged.caption = (
        f"{relisted.sent:,} queries during the relist; {killed.sent:,} when a worker was killed, "
        f"of which {killed.lost:,} lost and {killed.wrong:,} wrong"
    )
    yield judged
    weighed = Table("octets for each", "in the state", "as workers and the disk are told")
    for name, weight in result.weights.items():
        weighed.add_row(name, f"{weight.state:.0f}", f"{weight.told:.0f}")
    yield weighed


@contextmanager
def compiled(folder: Path) -> Iterator[None]:
    """Have what is started compile its modules once, as an installed program has."""
    before = dict(os.environ)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Session:
    """One run of everything. `folder` is ours. What it raises, `main` tells."""

    def __init__(self, terms: Terms, folder: Path, console: Console) -> None:
        self._terms = terms
        self._folder = folder
        self._console = console
        self._cores = Cores.of(sorted(os.sched_getaffinity(0)))
        self._pem = make(folder, HOST)
        self._large = Large(terms.services, terms.endpoints)
        self._crowded = Large(terms.services, terms.endpoints, terms.pods)

    def run(self) -> Result:
        """All of it, one after the other."""
        self._say("making a cluster")
        plain = write_objects(self._large.objects(), self._folder, "plain")
        crowded = write_objects(self._crowded.objects(), self._folder, "crowded")
        run_bare("imports", core=self._cores.server)
        imports = msgspec.json.decode(run_bare("imports", core=self._cores.server), type=float)
        with ExitStack() as stack:
            api, url = self._api(plain, stack)
            self._say("bare decoding")
            kinds = ("services", "endpointslices", "namespaces")
            said = run_bare("decode", url, str(self._pem.cert), *kinds, core=self._cores.server)
            bare = msgspec.json.decode(said, type=Decoded)
            self._say("one process")
            with self._serve(url, "insecure") as kdns:
                one = kdns.started
                self._say("a relist")
                relisted = self._relist(api, kdns)
            self._say("two workers")
            with self._serve(url, "insecure", "--workers", "2") as kdns:
                workers = kdns.started
                killed = self._kill(kdns)
        with ExitStack() as stack:
            _, url = self._api(crowded, stack)
            self._say("with pods")
            with self._serve(url, "verified", cluster=self._crowded) as kdns:
                pods = kdns.started
        self._say("from the snapshot")
        recalled = self._recall(plain)
        weights = {
            kind: msgspec.json.decode(run_bare("weigh", kind, core=self._cores.server), type=Weight)
            for kind in ("endpoint", "service", "pod")
        }
        return Result(
            self._terms,
            machine(),
            imports,
            bare,
            one,
            relisted,
            pods,
            workers,
            killed,
            recalled,
            weights,
        )

    def _say(self, what: str) -> None:
        self._console.print(what, style="dim")

    def _api(self, manifests: Sequence[Path], stack: ExitStack) -> tuple[Server, str]:
        return start_api(manifests, self._pem, self._cores.generator, self._folder, stack)

    @contextmanager
    def _serve(
        self, url: str, pods: str, *more: str, cluster: Large | None = None
    ) -> Iterator[Serving]:
        cluster = cluster or self._large
        with serving(self._folder, self._cores.server, url, self._pem, pods, *more) as kdns:
            kdns.wait(next(ready_queries(cluster)))
            kdns.settle()
            yield kdns

    def _load(self, port: int) -> LoadResult:
        # The generator shares its core with the API server: latencies are nothing to go by.
        return load(self._large, port, self._terms.rate, _LOAD, self._terms.seed, self._cores)

    def _relist(self, api: Server, kdns: Serving) -> Relisted:
        before = kdns.lists()
        kdns.forget_peak()
        rss, _ = memory_of([kdns.server.pid])
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._load, kdns.port)
            time.sleep(_BEFORE)
            api.tell("relist")
            result = asked.result()
        if kdns.lists() <= before:
            raise NotServing("nothing was listed again")
        return Relisted(rss, memory_of([kdns.server.pid])[1], result)

    def _kill(self, kdns: Serving) -> Killed:
        workers = kdns.workers()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._load, kdns.port)
            time.sleep(_BEFORE)
            before = kdns.total()
            os.kill(workers[0], signal.SIGKILL)
            begun = time.monotonic()
            kdns.ask_all(next(ready_queries(self._large)))
            answered = time.monotonic() - begun
            after = kdns.total()
            result = asked.result()
        if set(kdns.workers()) == set(workers):
            raise NotServing("the worker that was killed is still there")
        return Killed(answered, result, (before, after, kdns.total()))

    def _recall(self, manifests: Sequence[Path]) -> float:
        """Seconds from the start to the first right answer, the second time, without the server."""
        more = ("--state-dir", str(self._folder / "state"))
        with ExitStack() as stack:
            _, url = self._api(manifests, stack)
            with self._serve(url, "insecure", *more) as kdns:
                kdns.server.stop()
        with serving(self._folder, self._cores.server, url, self._pem, "insecure", *more) as kdns:
            return kdns.wait(next(ready_queries(self._large)))


def start_api(
    manifests: Sequence[Path], pem: Pem, core: int, folder: Path, stack: ExitStack
) -> tuple[Server, str]:
    """An API server that takes orders, and its URL. Raises NotServing."""
    command = [sys.executable, "-m", "perf.apiserver", "--cert", str(pem.cert)]
    command += ["--key", str(pem.key), *map(str, manifests)]
    server = Server(command, {core}, folder / "api.log", folder=_ROOT, told=True)
    stack.enter_context(server)
    return server, server.wait_line("http")


def ready_queries(cluster: Large) -> Iterator[Query]:
    """What can be answered once everything is known: of each kind of name one."""
    asked = list(cluster.pod_questions())[-1:] or list(cluster.questions())[-2:-1]
    for question in asked:
        yield query(question, "udp")


def load(
    cluster: Large, port: int, rate: float, seconds: float, seed: int, cores: Cores
) -> LoadResult:
    """Ask for services and reverse names, each answer checked. Raises LoadFailed."""
    queries = tuple(query(question, "udp") for question in cluster.questions(7))
    spec = LoadSpec(
        workload=Workload("large", "udp", queries),
        host=HOST,
        port=port,
        mode="open",
        rate=rate,
        seconds=seconds,
        outstanding=1,
        connections=SOCKETS,
        seed=seed,
        cpu=None,
    )
    return generate_load(spec, cores.generator)


def run_bare(*words: str, core: int) -> bytes:
    """What `python -m perf.bare` says. Raises CalledProcessError."""
    command = [sys.executable, "-m", "perf.bare", *words]
    with pinned({core}):
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=True)
    return done.stdout


@contextmanager
def serving(
    folder: Path, core: int, url: str, pem: Pem, pods: str, *more: str
) -> Iterator[Serving]:
    """kdns, following an API server. Raises NotServing and OSError."""
    port, metrics = free_port(), free_port()
    corefile = folder / "Corefile"
    corefile.write_text(
        f""".:{port} {{
    bind {HOST}
    prometheus {HOST}:{metrics}
    kubernetes cluster.local in-addr.arpa {{
        endpoint {url}
        tls {pem.cert} {pem.key} {pem.cert}
        pods {pods}
        ttl 30
    }}
}}
"""
    )
    command = [sys.executable, "-m", "kdns", "serve", "-conf", str(corefile), "-quiet", *more]
    with Server(command, {core}, folder / "kdns.log", folder=_ROOT) as server:
        yield Serving(server, port, metrics)


class Serving:
    """A kdns that was just started."""

    def __init__(self, server: Server, port: int, metrics: int) -> None:
        self.server = server
        self.port = port
        self._metrics = metrics
        self._begun = time.monotonic()
        self.started = Started(0, 0, 0, 0, 0, 0)

    def wait(self, asked: Query) -> float:
        """Seconds until it answers. Asked seldom, so that asking costs it little."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PAUSE)
            sock.connect((HOST, self.port))
            while time.monotonic() < self._begun + _READY:
                with suppress(OSError):
                    sock.send(asked.wire)
                    if matches(asked, sock.recv(65535)):
                        seconds = time.monotonic() - self._begun
                        self.started = Started(seconds, cpu_of([self.server.pid]).ran, 0, 0, 0, 0)
                        return seconds
                time.sleep(_PAUSE)
        raise NotServing(f"no right answer within {_READY:.0f} s")

    def settle(self) -> None:
        """Wait a little, and see what memory it has."""
        time.sleep(_SETTLE)
        rss, peak = memory_of([self.server.pid])
        family = self.server.family()
        self.started = self.started._replace(
            rss=rss, peak=peak, pss=pss_of(family), alone=alone(family)
        )

    def forget_peak(self) -> None:
        """Let the peak be what it has now (proc(5), clear_refs)."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")

    def lists(self) -> int:
        """How many lists were begun."""
        return self._count("kdns_watch_lists_total")

    def total(self) -> int:
        """How many queries were counted."""
        return self._count("coredns_dns_requests_total")

    def workers(self) -> list[int]:
        """The processes that answer, of several."""
        return children(self.server.pid)

    def ask_all(self, asked: Query) -> None:
        """Ask from many sockets until each has its answer. Raises OSError after two minutes."""
        with ExitStack() as stack:
            socks = [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(_EACH)
            ]
            for sock in socks:
                sock.settimeout(_READY)
                sock.connect((HOST, self.port))
                sock.send(asked.wire)
            for sock in socks:
                if not matches(asked, sock.recv(65535)):
                    raise NotServing("a wrong answer while a worker is replaced")

    def _count(self, metric: str) -> int:
        with urlopen(f"http://{HOST}:{self._metrics}/metrics") as page:
            text = page.read().decode()
        return int(sum(map(float, re.findall(rf"^{metric}{{.*}} (.*)$", text, re.MULTILINE))))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pss_of(pids: Sequence[int], proc: Path = Path("/proc")) -> int:
    """KiB, what processes share counted once: their proportional set sizes, added up."""
    return sum(rollup.get("Pss", 0) for rollup in _rollups(pids, proc))


def alone(pids: Sequence[int], proc: Path = Path("/proc")) -> int:
    """KiB that processes have together, if nobody else has mapped the files that they have.

    That is their proportional set size in a container with files of its own. Memory that is no
    file's is shared by those who are forked from each other, so the kernel counts it right; of
    files, each page that any of them has is counted once.
    """
    pages = {page for pid in pids for page in _pages_of_files(proc / str(pid))}
    rest = sum(
        rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0) for rollup in _rollups(pids, proc)
    )
    return rest + len(pages) * mmap.PAGESIZE // 1024


def _rollups(pids: Sequence[int], proc: Path) -> list[dict[str, int]]:
    return [parse_status((proc / str(pid) / "smaps_rollup").read_text()) for pid in pids]


def _pages_of_files(process: Path) -> Iterator[tuple[str, str, int]]:
    """Device, inode and number of each page of a file that a process has in memory, and has not
    copied (proc(5), maps and pagemap)."""
    with (process / "pagemap").open("rb", buffering=0) as pagemap:
        for line in (process / "maps").read_text().splitlines():
            where, _, offset, device, inode, *path = line.split(maxsplit=5)
            if not path or not path[0].startswith("/"):
                continue
            begin, end = (int(address, 16) // mmap.PAGESIZE for address in where.split("-"))
            first = int(offset, 16) // mmap.PAGESIZE
            entries = os.pread(pagemap.fileno(), 8 * (end - begin), 8 * begin)
            for number, (entry,) in enumerate(_PAGE.iter_unpack(entries)):
                if entry & _OF_A_FILE == _OF_A_FILE:
                    yield device, inode, first + number
