"""Latencies are counted in buckets that are never off by more than 1 part in 128."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.histogram import Histogram, index_of, upper_bound

values = st.one_of(st.integers(0, 1000), st.integers(0, 2**31 - 1))
latencies = st.lists(values, max_size=300)
percents = st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0])


def made_of(latencies: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record_all(latencies)
    return histogram


def exact(latencies: list[int], percent: float) -> int:
    rank = math.ceil(round(percent * len(latencies) / 100, 6))
    return sorted(latencies)[max(rank, 1) - 1]


@given(values)
def test_a_value_is_in_a_bucket_that_ends_just_above_it(value: int) -> None:
    bound = upper_bound(index_of(value))
    assert value <= bound <= value + value / 128


@given(values)
def test_a_bucket_ends_where_the_next_begins(value: int) -> None:
    index = index_of(value)
    assert index_of(upper_bound(index)) == index
    assert index_of(upper_bound(index) + 1) == index + 1 or upper_bound(index) == 2**31 - 1


def test_what_takes_longer_than_any_bucket_is_counted_in_the_last() -> None:
    histogram = made_of([2**40])
    assert histogram.buckets() == [(2**31 - 1, 1)]
    assert histogram.worst == 2**40


@given(latencies.filter(bool), percents)
def test_a_percentile_is_the_exact_one_rounded_up_to_its_bucket(
    latencies: list[int], percent: float
) -> None:
    expected = exact(latencies, percent)
    assert expected <= made_of(latencies).percentile(percent) <= expected + expected / 128


@given(latencies)
def test_no_percentile_exceeds_the_worst_and_they_rise(latencies: list[int]) -> None:
    histogram = made_of(latencies)
    found = [histogram.percentile(percent) for percent in (0, 50, 90, 99, 99.9, 100)]
    assert found == sorted(found)
    assert found[-1] == histogram.worst == max(latencies, default=0)


def test_999_of_1000_are_99_point_9_per_cent() -> None:
    assert made_of([1] * 999 + [200]).percentile(99.9) == 1


@given(latencies, latencies)
def test_merging_is_counting_both(ours: list[int], theirs: list[int]) -> None:
    merged = made_of(ours)
    merged.merge(made_of(theirs))
    both = made_of(ours + theirs)
    assert merged.buckets() == both.buckets()
    assert (merged.count, merged.worst) == (both.count, both.worst)


@given(latencies)
def test_one_at_a_time_or_all_at_once_is_the_same(latencies: list[int]) -> None:
    histogram = Histogram()
    for value in latencies:
        histogram.record(value)
    together = made_of(latencies)
    assert histogram.buckets() == together.buckets()
    assert (histogram.count, histogram.worst) == (together.count, together.worst)


@given(latencies)
def test_it_survives_json(latencies: list[int]) -> None:
    histogram = made_of(latencies)
    text = msgspec.json.encode(histogram.buckets())
    buckets = msgspec.json.decode(text, type=list[tuple[int, int]])
    again = Histogram.from_buckets(buckets, histogram.worst)
    assert again.buckets() == histogram.buckets()
    assert (again.count, again.worst) == (histogram.count, histogram.worst)


def test_without_its_worst_a_histogram_takes_the_last_bound() -> None:
    assert Histogram.from_buckets([(10, 1), (303, 2)]).worst == 303


def test_there_are_no_latencies_below_zero() -> None:
    with pytest.raises(ValueError, match="-1 µs; expected 0 or more"):
        Histogram().record(-1)
    with pytest.raises(ValueError, match="-2 latencies up to 10 µs"):
        Histogram.from_buckets([(10, -2)])
