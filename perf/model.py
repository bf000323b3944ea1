"""What goes into a load run and what comes out: values that cross between processes as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Transport = Literal["udp", "tcp"]
Mode = Literal["open", "max"]


@dataclass(frozen=True, slots=True)
class Query:
    """One question and, when it has one, the right answer.

    `wire` is a whole DNS message with ID 0. `expect` is None (any reply will do) or the
    `perf.answers.digest` of the right answer, by which `matches` there knows a wrong one.
    """

    wire: bytes
    expect: bytes | None


@dataclass(frozen=True, slots=True)
class Workload:
    """Queries asked in rotation, over one transport, in an order shuffled by the load's seed."""

    name: str
    transport: Transport
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run of the generator: what to ask, of whom, how fast and for how long.

    `mode` "open" sends `rate` queries a second whatever becomes of them; "max" keeps `outstanding`
    queries unanswered, so the server sets the pace. `connections` counts TCP connections; over UDP,
    the source ports, of which more are opened when those have too few IDs. `seconds` is the time
    during which queries are sent. `cpu` is the core the generator is pinned to and has for itself;
    it spins there where sleeping would cost precision. None pins it to none, and then it sleeps.
    `reask`: what a lost TCP connection has not answered is asked once more over the next one, as
    resolvers do (RFC 7766, 6.2.1); else it is lost.
    """

    workload: Workload
    host: str
    port: int
    mode: Mode
    rate: float | None
    seconds: float
    outstanding: int
    connections: int
    seed: int
    cpu: int | None
    reask: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of a run's queries.

    `sent` = `answered` + `lost`: a query is lost when no answer comes within 1 s, or when it was
    due and could not be sent until 1 s after the end. `wrong` counts those of the answered whose
    answer was not the right one. `seconds` are those asked for, and as many more as it took to the
    last answer; `qps` is `answered` over them. Latencies are in µs, counted from the time at which
    the query was due. `histogram` holds (upper bound in µs, count), bounds rising. `reasked` counts
    those that were asked twice.
    """

    sent: int
    answered: int
    lost: int
    wrong: int
    seconds: float
    qps: float
    p50: float
    p90: float
    p99: float
    p999: float
    worst: float
    histogram: list[tuple[int, int]]
    reasked: int = 0


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time per answered query, in µs: in user mode, in the kernel, and both."""

    user_us: float
    system_us: float
    total_us: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that one run measured: the load's view, and the server's CPU and memory (KiB).

    counted: the queries of the run by the server's own metrics; None where it has none.
    """

    load: LoadResult
    cpu: Cpu
    rss_kib: int
    peak_rss_kib: int
    counted: int | None = None


@dataclass(frozen=True, slots=True)
class FloodSpec:
    """One flood over UDP: `known` queries and, as many, names that nobody has asked for before.

    outside: a query whose first label has 16 octets, which are written anew for each; empty for
    known queries alone. The rest is as in LoadSpec; `seed` keeps the names of runs apart.
    """

    known: tuple[Query, ...]
    outside: bytes
    host: str
    port: int
    mode: Mode
    rate: float | None
    seconds: float
    outstanding: int
    seed: int
    cpu: int | None


@dataclass(frozen=True, slots=True)
class KindResult:
    """What became of the queries of one kind: as in LoadResult; `good` is right answers a second.

    Of outside names, an answer is wrong when its rcode is not NOERROR.
    """

    sent: int
    answered: int
    wrong: int
    good: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class FloodResult:
    """What became of a flood. ended: when the last query was due, on the monotonic clock."""

    known: KindResult
    outside: KindResult
    unsent: int
    ended: float
