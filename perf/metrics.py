"""The figures that are shown and judged: what each is called, and which way is better.

Nothing is judged by a bare time, for that says as much about the machine as about the server: a
judgement is of a ratio to a peer that was asked the same questions in the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from perf.model import Figures
from perf.record import Key, Record
from perf.stats import Ratio, Summary, paired_ratio, summary

PEERS: Final = ("knot", "unbound", "dnsmasq", "coredns", "echo")
"""Who others are measured against: the first of these that was there."""
PALETTE: Final = {
    "kdns": "#b3261e",
    "kdns-workers": "#e07a5f",
    "coredns": "#0072b2",
    "knot": "#009e73",
    "unbound": "#cc79a7",
    "dnsmasq": "#d18f00",
    "echo": "#6b7280",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run. digits: after the point, when shown."""

    name: str
    unit: str
    get: Callable[[Figures], float]
    digits: int = 0
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        """The value as people read it, without the unit."""
        return f"{value:,.{self.digits}f}"


CPU: Final = Metric("CPU per query", "µs", lambda f: f.cpu.total_us, 2)
BUSY: Final = Metric("of a core", "%", lambda f: f.cpu.total_us * f.load.qps / 1e4)
"""Below 90 under a "max" load the generator set the pace, and not the server."""
QPS: Final = Metric("answers", "q/s", lambda f: f.load.qps, 0, higher_is_better=True)
P50: Final = Metric("p50", "µs", lambda f: f.load.p50)
P99: Final = Metric("p99", "µs", lambda f: f.load.p99)
RSS: Final = Metric("resident", "MiB", lambda f: f.rss_kib / 1024, 1)
METRICS: Final = (
    QPS,
    BUSY,
    CPU,
    Metric("in user mode", "µs", lambda f: f.cpu.user_us, 2),
    Metric("in the kernel", "µs", lambda f: f.cpu.system_us, 2),
    P50,
    Metric("p90", "µs", lambda f: f.load.p90),
    P99,
    Metric("p99.9", "µs", lambda f: f.load.p999),
    Metric("worst", "µs", lambda f: f.load.worst),
    RSS,
    Metric("at its peak", "MiB", lambda f: f.peak_rss_kib / 1024, 1),
)


def values(record: Record, key: Key, subject: str, metric: Metric) -> list[float]:
    """The metric in each round, in their order."""
    return [metric.get(run.figures) for run in record.of(key, subject)]


def median(record: Record, key: Key, subject: str, metric: Metric) -> Summary | None:
    """Median and spread; None where nothing was measured."""
    found = values(record, key, subject, metric)
    return summary(found) if found else None


def reference(record: Record, key: Key) -> str | None:
    """The peer that the others are measured against; None when there is none."""
    return next((peer for peer in PEERS if record.of(key, peer)), None)


def rounds(
    record: Record, key: Key, metric: Metric, subjects: tuple[str, str]
) -> tuple[list[float], list[float]]:
    """A metric of two subjects in the rounds that both have, where it is more than nothing."""
    first, second = (
        {r.repetition: metric.get(r.figures) for r in record.of(key, s)} for s in subjects
    )
    both = [n for n in first if second.get(n, 0) > 0 and first[n] > 0]
    return [first[n] for n in both], [second[n] for n in both]


def ratio(record: Record, key: Key, subject: str, peer: str, metric: Metric) -> Ratio | None:
    """Subject over peer, round by round; None where they share none."""
    old, new = rounds(record, key, metric, (peer, subject))
    return paired_ratio(old, new) if old else None


def quotients(old: Sequence[float], new: Sequence[float]) -> list[float]:
    """New over old, one by one."""
    return [after / before for before, after in zip(old, new, strict=True)]
