"""kdns, asked for cluster names over UDP at a steady rate, and processes of ours beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from perf.cluster import generate
from perf.measure import Spent, cpu_of
from perf.model import LoadResult, LoadSpec
from perf.run import SOCKETS, Cores, LoadFailed, generate_load, write_manifests
from perf.server import Server, free_port, pinned
from perf.subjects import HOST, Kdns, Site
from perf.workloads import SHAPES, build, questions

_ROOT: Final = Path(__file__).resolve().parent.parent


class Asked(NamedTuple):
    """What came of one run, and the server's CPU before and after it."""

    load: LoadResult
    before: Spent
    after: Spent


class Steady:
    """The server, and one who asks it. `stack` ends what it starts.

    rate: queries a second. upstreams: ports on loopback. corefile: changes the Corefile's text.
    Raises NotServing and OSError.
    """

    def __init__(
        self,
        rate: float,
        seconds: float,
        seed: int,
        folder: Path,
        stack: ExitStack,
        *,
        upstreams: tuple[int, ...] = (),
        corefile: Callable[[str], str] = str,
    ) -> None:
        self.cores = Cores.of(sorted(os.sched_getaffinity(0)))
        cluster = generate(SHAPES["5k"], seed)
        self.workload = build("cluster-1k", questions("cluster-1k", cluster, seed, 0), "udp")
        manifests = write_manifests(cluster, folder, "5k")
        site = Site(folder, free_port(), upstreams or (free_port(),), cluster, manifests)
        command = Kdns().command(site)
        path = folder / "Corefile"
        path.write_text(corefile(path.read_text(encoding="utf-8")), encoding="utf-8")
        self.port = site.port
        self.server = Server(command, {self.cores.server}, folder / "log")
        stack.enter_context(self.server)
        self.server.wait_ready(site.port, self.workload.queries[0])
        self._spec = LoadSpec(
            workload=self.workload,
            host=HOST,
            port=self.port,
            mode="open",
            rate=rate,
            seconds=seconds,
            outstanding=1,
            connections=SOCKETS,
            seed=seed,
            cpu=self.cores.generator if self.cores.apart else None,
        )

    def ask(self) -> Asked:
        """One run. Raises LoadFailed and OSError."""
        before = cpu_of([self.server.pid])
        load = generate_load(self._spec, self.cores.generator)
        return Asked(load, before, cpu_of([self.server.pid]))


@contextmanager
def helper(module: str, spec: object, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module`, told `spec` as a line of JSON; it is gone after the block."""
    with pinned({core}):
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec) + b"\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        with process:  # closes what is left, and waits for it
            pass


def failed(words: bytes) -> LoadFailed:
    """A helper has given up, with these last words."""
    return LoadFailed(words.decode(errors="replace").strip()[-500:])
