"""What directives and shells count, under the names of metrics, as plain numbers.

Whoever counts gets a dict from label values to numbers and adds to it: `held[labels] += 1`, nothing
more on the way of a query. Names, help texts and label names are looked at when somebody scrapes;
`sample` is what one process has counted, and `merge` adds up what several have.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from kdns.telemetry.histogram import Histogram

Labels = tuple[str, ...]
Kind = Literal["counter", "gauge", "peak", "histogram"]
"""A peak is a gauge of something that several have alike: the largest number counts, and no sum."""
Values = dict[Labels, float]
Read = Callable[[], Iterable[tuple[Labels, float]]]


@dataclass(slots=True)
class Sample:
    """One metric at one time. `histograms` where it is of that kind, `numbers` for all others.

    name: without the `_total` that counters get when they are written down.
    """

    name: str
    help: str
    kind: Kind
    labels: Labels
    numbers: list[tuple[Labels, float]]
    bounds: tuple[float, ...] = ()
    histograms: list[tuple[Labels, Histogram]] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Family:
    help: str
    kind: Kind
    labels: Labels
    read: tuple[Read, ...] = ()
    bounds: tuple[float, ...] = ()


class Meters:
    """The metrics of one process. Asking twice for one name gives the same numbers.

    Raises ValueError for a name that is known with another kind or other labels.
    """

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._numbers: dict[str, Values] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}

    def counter(self, name: str, text: str, labels: Labels = ()) -> Values:
        """Numbers that only grow. A key that was never there counts from 0."""
        self._enter(name, _Family(text, "counter", labels))
        return self._numbers.setdefault(name, defaultdict(int))

    def gauge(self, name: str, text: str, labels: Labels = ()) -> Values:
        """Numbers that are set. Those of several processes are added up."""
        self._enter(name, _Family(text, "gauge", labels))
        return self._numbers.setdefault(name, defaultdict(int))

    def watch(self, kind: Kind, name: str, text: str, labels: Labels, read: Read) -> None:
        """Numbers that are read when somebody asks, beside those of earlier calls for the name."""
        before = self._families.get(name)
        readers = (*before.read, read) if before is not None else (read,)
        self._enter(name, _Family(text, kind, labels))
        self._families[name] = _Family(text, kind, labels, readers)

    def histogram(
        self, name: str, text: str, bounds: tuple[float, ...], labels: Labels = ()
    ) -> dict[Labels, Histogram]:
        """Observations by size. Whoever observes puts a `Histogram.of(bounds)` there first."""
        self._enter(name, _Family(text, "histogram", labels, bounds=bounds))
        return self._histograms.setdefault(name, {})

    def sample(self) -> list[Sample]:
        """Everything as it is now."""
        return [self._sample(name, family) for name, family in self._families.items()]

    def _sample(self, name: str, family: _Family) -> Sample:
        if family.kind == "histogram":
            held = list(self._histograms[name].items())
            return Sample(name, family.help, family.kind, family.labels, [], family.bounds, held)
        numbers: Values = dict(self._numbers.get(name, ()))
        for read in family.read:
            for labels, number in read():
                _join(family.kind, numbers, labels, number)
        return Sample(name, family.help, family.kind, family.labels, list(numbers.items()))

    def _enter(self, name: str, family: _Family) -> None:
        known = self._families.setdefault(name, family)
        if (known.kind, known.labels, known.bounds) != (family.kind, family.labels, family.bounds):
            raise ValueError(f"{name} is a {known.kind} with labels {known.labels} already")


def merge(processes: Iterable[Iterable[Sample]]) -> list[Sample]:
    """What several processes have counted, added up; of peaks, the largest."""
    merged: dict[str, Sample] = {}
    for samples in processes:
        for sample in samples:
            held = merged.get(sample.name)
            merged[sample.name] = sample if held is None else _sum(held, sample)
    return list(merged.values())


def _sum(one: Sample, other: Sample) -> Sample:
    numbers: Values = dict(one.numbers)
    for labels, number in other.numbers:
        _join(one.kind, numbers, labels, number)
    histograms: dict[Labels, Histogram] = {}
    for labels, histogram in (*one.histograms, *other.histograms):
        total = histograms.setdefault(labels, Histogram.of(one.bounds))
        total.add(histogram)
    return Sample(
        one.name,
        one.help,
        one.kind,
        one.labels,
        list(numbers.items()),
        one.bounds,
        list(histograms.items()),
    )


def _join(kind: Kind, numbers: Values, labels: Labels, number: float) -> None:
    held = numbers.get(labels, 0)
    numbers[labels] = max(held, number) if kind == "peak" else held + number
