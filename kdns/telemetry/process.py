"""What this process takes of the machine, under the names that every Prometheus client gives it.

Where several processes answer, what they take is added up: resident memory that they share counts
in each. The limit of descriptors and the start are those of the process that is asked.
"""

from functools import partial
from typing import Literal

from prometheus_client import ProcessCollector

from kdns.telemetry.meters import Labels, Meters

_TAKEN: tuple[tuple[Literal["counter", "gauge"], str, str], ...] = (
    ("counter", "process_cpu_seconds", "Seconds of CPU, user and system, of all processes."),
    ("gauge", "process_resident_memory_bytes", "Resident memory of all processes."),
    ("gauge", "process_virtual_memory_bytes", "Virtual memory of all processes."),
    ("gauge", "process_open_fds", "Open file descriptors of all processes."),
)
_OWN: tuple[tuple[Literal["counter", "gauge"], str, str], ...] = (
    ("gauge", "process_max_fds", "File descriptors that one process may open."),
    ("gauge", "process_start_time_seconds", "When the process started, since 1970."),
)


def watch_process(meters: Meters, *, whole: bool) -> None:
    """Have them among the metrics. whole: with what must not be added up."""
    collector = ProcessCollector(registry=None)
    for kind, name, text in (*_TAKEN, *(_OWN if whole else ())):
        meters.watch(kind, name, text, (), partial(_read, collector, name))


def _read(collector: ProcessCollector, name: str) -> list[tuple[Labels, float]]:
    """Nothing where the system does not say: outside Linux."""
    return [((), s.value) for f in collector.collect() if f.name == name for s in f.samples]
