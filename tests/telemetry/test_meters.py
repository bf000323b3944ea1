"""What is counted by name and labels, in one process and in several."""

import pytest

from kdns.telemetry.histogram import Histogram
from kdns.telemetry.meters import Meters, Sample, merge


def one(samples: list[Sample]) -> Sample:
    """The only sample."""
    (sample,) = samples
    return sample


def test_the_same_name_gives_the_same_numbers() -> None:
    meters = Meters()
    meters.counter("asked", "Questions.", ("to",))["a",] += 1
    meters.counter("asked", "Questions.", ("to",))["a",] += 1
    assert one(meters.sample()).numbers == [(("a",), 2)]


def test_a_name_cannot_be_two_metrics() -> None:
    meters = Meters()
    meters.counter("asked", "Questions.", ("to",))
    with pytest.raises(ValueError, match="asked is a counter with labels"):
        meters.gauge("asked", "Questions.", ("to",))
    with pytest.raises(ValueError, match="asked is a counter"):
        meters.counter("asked", "Questions.")


def test_what_is_watched_is_read_at_the_time() -> None:
    meters = Meters()
    entries = [1, 2]
    meters.watch("gauge", "entries", "Entries.", ("of",), lambda: [(("a",), len(entries))])
    meters.watch("gauge", "entries", "Entries.", ("of",), lambda: [(("a",), 10), (("b",), 1)])
    entries.append(3)
    assert one(meters.sample()).numbers == [(("a",), 13), (("b",), 1)]


def test_what_is_watched_adds_to_what_is_counted() -> None:
    meters = Meters()
    meters.counter("hits", "Hits.")[()] += 2
    meters.watch("counter", "hits", "Hits.", (), lambda: [((), 5)])
    assert one(meters.sample()).numbers == [((), 7)]


def test_of_what_several_have_alike_the_largest_counts() -> None:
    first, second = Meters(), Meters()
    for meters, number in ((first, 3), (first, 2), (second, 4)):
        meters.watch("peak", "entries", "Entries.", ("of",), lambda n=number: [(("a",), n)])  # type: ignore[misc]
    second.watch("peak", "entries", "Entries.", ("of",), lambda: [(("b",), 1)])
    assert one(first.sample()).numbers == [(("a",), 3)]
    assert one(merge((first.sample(), second.sample()))).numbers == [(("a",), 4), (("b",), 1)]


def test_several_processes_are_added_up() -> None:
    first, second = Meters(), Meters()
    bounds = (1.0, 2.0)
    for meters, value in ((first, 0.5), (second, 1.5)):
        meters.counter("asked", "Questions.", ("to",))["a",] += 1
        took = meters.histogram("took", "Seconds.", bounds)
        took[()] = Histogram.of(bounds)
        took[()].observe(bounds, value)
    second.counter("asked", "Questions.", ("to",))["b",] += 3
    asked, took_sample = merge((first.sample(), second.sample()))
    assert asked.numbers == [(("a",), 2), (("b",), 3)]
    assert took_sample.histograms == [((), Histogram([1, 1, 0], 2.0))]
    assert first.histogram("took", "Seconds.", bounds)[()].counts == [1, 0, 0]
