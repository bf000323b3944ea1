"""Records of sessions that never were, for tests of what is made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from perf.measure import Machine
from perf.model import Cpu, Figures, LoadResult
from perf.plan import quick
from perf.record import Key, Record, Run, Skipped

FAST = Key("cluster", "udp", "max", None)
PACED = Key("cluster", "udp", "open", 10_000.0)
PACED_MORE = Key("cluster", "udp", "open", 20_000.0)


def figures(cpu: float, qps: float = 50_000.0, p99: float = 800.0, lost: int = 0) -> Figures:
    """Figures of one run; cpu and p99 in µs."""
    buckets = [(60, 900), (80, 90), (1_000, 10)]
    load = LoadResult(
        1_000 + lost, 1_000, lost, 0, 1.0, qps, 61.0, 71.0, p99, p99 + 1, p99 + 2, buckets
    )
    return Figures(load, Cpu(cpu / 4, cpu * 3 / 4, cpu), 51_200, 61_440)


def record(
    costs: Mapping[str, Sequence[float]],
    *,
    keys: Sequence[Key] = (FAST, PACED),
    skipped: Sequence[Skipped] = (),
) -> Record:
    """A record in which each subject's runs of each key cost so many µs of CPU per query."""
    runs = [
        Run(subject, key, number, figures(cost))
        for key in keys
        for number in range(max(map(len, costs.values())))
        for subject, each in costs.items()
        for cost in each[number : number + 1]
    ]
    return Record(
        made="2024-02-29",
        machine=Machine("Some CPU", 4, "Linux 6.1", "3.12.1"),
        placement="server on core 0, generator on core 3",
        versions={subject: f"{subject} 1.2" for subject in costs},
        settings=replace(quick(), subjects=tuple(costs)),
        runs=runs,
        skipped=list(skipped),
    )
