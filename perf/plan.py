"""What is measured, and in which order.

    stage    servers that are started together, and stopped together
      cell     one workload over one transport under one load
        round    one repetition: each subject once, one after the other      A B C
                                                                             A B C

So what drifts on the machine drifts for all subjects alike, and a ratio within a round means
something where a bare time would not. Workloads that ask each name once need servers that have not
heard of it: each of their rounds is a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from perf.model import Mode, Transport
from perf.workloads import SHAPES, SPECS, UpstreamKind


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is measured.

    seconds: of each run. rate: queries a second of runs with a given rate. sweep: further rates,
    for latency against load, of the workloads in SWEPT over UDP. repeat: rounds; it takes six to
    tell a difference from noise (perf.stats). warm_up: seconds of load before the first round of a
    cell, not counted. cpu_share: percent of a core that a server may use; None for no such bound.
    focused: what is not in HEADLINE is asked over UDP alone, of kdns and the peer that says most
    about it. second_opinion: dnsperf asks what is in HEADLINE too.
    """

    workloads: tuple[str, ...]
    subjects: tuple[str, ...]
    transports: tuple[Transport, ...] = ("udp", "tcp")
    seconds: float = 2.0
    rate: float = 10_000.0
    sweep: tuple[float, ...] = ()
    repeat: int = 6
    warm_up: float = 1.0
    seed: int = 1
    cpu_share: int | None = None
    focused: bool = False
    second_opinion: bool = False

    def measures(self, subject: str, workload: str) -> bool:
        """Whether this subject is asked this."""
        if not self.focused or workload in HEADLINE:
            return True
        return subject in (FORWARDERS if SPECS[workload].forwards else AUTHORITIES)


SUBJECTS = ("kdns", "kdns-workers", "coredns", "knot", "unbound", "dnsmasq", "echo")
HEADLINE = ("cluster", "search", "mixed")
AUTHORITIES = ("kdns", "knot")
FORWARDERS = ("kdns", "unbound", "coredns")
SWEPT = ("cluster", "search")
SWEEP = (1_000.0, 5_000.0, 20_000.0, 50_000.0)
QUICK = ("cluster", "mixed")


def full(subjects: Sequence[str] = SUBJECTS) -> Settings:
    """Everything, in about forty minutes."""
    return Settings(
        tuple(SPECS), tuple(subjects), seconds=1.25, sweep=SWEEP, focused=True, second_opinion=True
    )


def quick(subjects: Sequence[str] = SUBJECTS) -> Settings:
    """A look at the commonest questions over UDP, in less than three minutes."""
    return Settings(QUICK, tuple(subjects), transports=("udp",), seconds=0.5, warm_up=0.5)


class Cell(NamedTuple):
    """One workload over one transport under one load; rate is None for as fast as it goes."""

    workload: str
    transport: Transport
    mode: Mode
    rate: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers of one cluster, and what is asked of them. rounds: the numbers of the repetitions."""

    shape: str
    cells: tuple[Cell, ...]
    rounds: tuple[int, ...]

    @property
    def upstream(self) -> UpstreamKind:
        """Which upstreams the servers have; all cells of a stage that forward have the same."""
        kinds = {SPECS[cell.workload].upstream for cell in self.cells}
        return next(iter(kinds - {"near"}), "near")

    def order(self, subjects: Sequence[str]) -> Iterator[tuple[Cell, int, str]]:
        """Each run: of which cell, in which round, of which subject."""
        for cell in self.cells:
            for number in self.rounds:
                for subject in subjects:
                    yield cell, number, subject


def stages(settings: Settings) -> list[Stage]:
    """The whole session, stage by stage."""
    rounds = tuple(range(settings.repeat))
    made: list[Stage] = []
    for shape in SHAPES:
        names = [n for n in settings.workloads if SPECS[n].shape == shape]
        again = tuple(c for n in names if not SPECS[n].once for c in cells(settings, n))
        if again:
            made.append(Stage(shape, again, rounds))
        once = (c for n in names if SPECS[n].once for c in cells(settings, n))
        made.extend(Stage(shape, (cell,), (number,)) for cell in once for number in rounds)
    return made


def cells(settings: Settings, workload: str) -> Iterator[Cell]:
    """The cells of one workload. Who asks each name once cannot ask as fast as it goes."""
    for transport in settings.transports:
        if settings.focused and transport != "udp" and workload not in HEADLINE:
            continue
        if not SPECS[workload].once:
            yield Cell(workload, transport, "max", None)
        swept = workload in SWEPT and transport == "udp"
        rates = {settings.rate, *settings.sweep} if swept else {settings.rate}
        for rate in sorted(rates):
            yield Cell(workload, transport, "open", rate)


def seconds_of(settings: Settings, cell: Cell) -> float:
    """How long a run of a cell sends: less, where there are not names enough to ask each once."""
    if SPECS[cell.workload].once and cell.rate is not None:
        most = SHAPES[SPECS[cell.workload].shape].services
        if not SPECS[cell.workload].forwards:
            return min(settings.seconds, most / cell.rate)
    return settings.seconds


def count_of(settings: Settings, cell: Cell) -> int:
    """How many queries a run of a cell sends at most; 0 for one that goes as fast as it can."""
    return 0 if cell.rate is None else int(cell.rate * seconds_of(settings, cell)) + 1


def length(settings: Settings, subjects: Sequence[str]) -> int:
    """How many runs there are."""
    return sum(
        settings.measures(subject, cell.workload)
        for stage in stages(settings)
        for cell, _, subject in stage.order(subjects)
    )
