"""Histograms count every observation once, whatever is done with them."""

from hypothesis import given
from hypothesis import strategies as st

from kdns.telemetry.histogram import OCTETS, SECONDS, Histogram

values = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=20)


def filled(observations: list[tuple[float, int]]) -> Histogram:
    histogram = Histogram.of(SECONDS)
    for value, times in observations:
        histogram.observe(SECONDS, value, times)
    return histogram


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram.of(OCTETS)
    histogram.observe(OCTETS, 100)
    histogram.observe(OCTETS, 100.5)
    histogram.observe(OCTETS, 70_000)
    assert histogram.counts == [0, 1, 1, *[0] * 11, 1]


@given(values, values)
def test_adding_counts_both(one: list[tuple[float, int]], other: list[tuple[float, int]]) -> None:
    result = filled(one)
    result.add(filled(other))
    assert result.counts == filled(one + other).counts


@given(values, st.integers(0, 2000))
def test_taking_a_part_leaves_the_rest(observations: list[tuple[float, int]], wanted: int) -> None:
    whole = filled(observations)
    rest = filled(observations)
    part = rest.take(wanted)
    total = sum(whole.counts)
    assert sum(part.counts) == min(wanted, total)
    assert all(count >= 0 for count in part.counts + rest.counts)
    part.add(rest)
    assert part.counts == whole.counts
