"""What a session of measurements leaves behind: a JSON file that says all that a figure needs.

It names the machine by what it is, never by name or address, and holds no path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from perf.dnsperf import Second
from perf.measure import Machine
from perf.model import Figures, Mode, Transport
from perf.plan import Settings


class Key(NamedTuple):
    """What a figure is of, but for the subject: figures of one key can be compared."""

    workload: str
    transport: Transport
    mode: Mode
    rate: float | None

    def __str__(self) -> str:
        load = "max" if self.rate is None else f"{self.rate:,.0f}/s"
        return f"{self.workload}/{self.transport} {load}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: who was asked what, the how-many-eth time, and what came out."""

    subject: str
    key: Key
    repetition: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not measured, and why. An empty workload stands for all of them."""

    subject: str
    workload: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """A whole session.

    made: the day, as YYYY-MM-DD. placement: which core had what. versions: of each subject, in its
    own words. second: what dnsperf saw.
    """

    made: str
    machine: Machine
    placement: str
    versions: dict[str, str]
    settings: Settings
    runs: list[Run]
    skipped: list[Skipped]
    second: list[Second] = field(default_factory=list)

    def of(self, key: Key, subject: str) -> list[Run]:
        """The repetitions of one key by one subject, in their order."""
        found = (r for r in self.runs if r.key == key and r.subject == subject)
        return sorted(found, key=lambda run: run.repetition)

    @property
    def keys(self) -> list[Key]:
        """What was measured, in the order in which it began."""
        return list(dict.fromkeys(run.key for run in self.runs))

    @property
    def subjects(self) -> list[str]:
        """Who was measured, in the order in which they began."""
        return list(dict.fromkeys(run.subject for run in self.runs))


class RecordError(Exception):
    """A file is no record: which, and why."""


def save(record: Record, path: Path) -> None:
    """Write a record, a line for each run, histograms in quarters of octaves. Raises OSError."""
    runs = [msgspec.json.encode(_thinner(run)) for run in record.runs]
    rest = msgspec.json.encode(replace(record, runs=[]))
    marker = b'"runs":[]'
    path.write_bytes(rest.replace(marker, b'"runs":[\n' + b",\n".join(runs) + b"\n]", 1) + b"\n")


def load(path: Path) -> Record:
    """Read a record. Raises RecordError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: expected a record of python -m perf: {error}") from error


def thinned(histogram: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same counts under fewer of the same bounds: four to an octave."""
    groups = groupby(histogram, key=lambda bucket: math.ceil(4 * math.log2(max(bucket[0], 1))))
    found = (list(group) for _, group in groups)
    return [(group[-1][0], sum(count for _, count in group)) for group in found]


def _thinner(run: Run) -> Run:
    load = run.figures.load
    thin = replace(load, histogram=thinned(load.histogram))
    return replace(run, figures=replace(run.figures, load=thin))
