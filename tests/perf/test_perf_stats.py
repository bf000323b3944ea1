"""A change is one that the noise of the runs does not explain, and large enough to matter."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.stats import change, coverage, paired_ratio, summary

figures = st.floats(0.1, 1e6)
runs = st.lists(st.tuples(figures, figures), min_size=1, max_size=30)


def split(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [old for old, _ in pairs], [new for _, new in pairs]


def test_a_summary_is_the_median_and_the_median_distance_from_it() -> None:
    found = summary([10.0, 12.0, 11.0, 90.0, 9.0])
    assert (found.median, found.spread, found.runs) == (11.0, 1.0, 5)


@given(st.lists(figures, min_size=1))
def test_half_of_the_runs_are_within_the_spread(values: list[float]) -> None:
    found = summary(values)
    near = [value for value in values if abs(value - found.median) <= found.spread]
    assert 2 * len(near) >= len(values)


@given(runs)
def test_the_ratio_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    ratio = paired_ratio(*split(pairs))
    assert ratio.low * (1 - 1e-9) <= ratio.median <= ratio.high * (1 + 1e-9)


@given(runs)
def test_old_over_new_is_one_over_new_over_old(pairs: list[tuple[float, float]]) -> None:
    old, new = split(pairs)
    there, back = paired_ratio(old, new), paired_ratio(new, old)
    assert math.isclose(there.median * back.median, 1)
    assert math.isclose(there.low * back.high, 1)


@given(runs, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    old, new = split(pairs)
    scaled = paired_ratio([unit * value for value in old], [unit * value for value in new])
    assert math.isclose(scaled.median, paired_ratio(old, new).median)


@given(st.lists(figures, min_size=1))
def test_nothing_differs_from_itself(values: list[float]) -> None:
    ratio = paired_ratio(values, values)
    assert (ratio.low, ratio.median, ratio.high) == (1, 1, 1)
    assert change(ratio) in ("noise", "too few runs")


@given(st.lists(figures, min_size=6), st.floats(1.04, 100))
def test_what_every_run_agrees_on_is_a_change(values: list[float], factor: float) -> None:
    more = [factor * value for value in values]
    assert change(paired_ratio(values, more)) == "rose"
    assert change(paired_ratio(more, values)) == "fell"


@given(st.lists(figures, min_size=6), st.floats(1.0, 1.02))
def test_a_change_too_small_to_matter_is_noise(values: list[float], factor: float) -> None:
    assert change(paired_ratio(values, [factor * value for value in values])) == "noise"


@given(st.lists(figures, min_size=1, max_size=5), st.floats(0.1, 10))
def test_five_runs_prove_nothing(values: list[float], factor: float) -> None:
    ratio = paired_ratio(values, [factor * value for value in values])
    assert change(ratio) == "too few runs"
    assert ratio.confidence < 0.95


def test_runs_that_disagree_are_noise() -> None:
    assert change(paired_ratio([10.0] * 8, [9.0, 15.0] * 4)) == "noise"


def test_one_run_out_of_ten_that_disagrees_does_not_hide_a_change() -> None:
    assert change(paired_ratio([10.0] * 10, [12.0] * 9 + [1.0])) == "rose"


def test_the_interval_is_the_sign_tests() -> None:
    """Of ten pairs the second lowest and second highest enclose 97.9 per cent; the third 89.1."""
    assert math.isclose(coverage(10, 2), 1 - 22 / 1024)
    assert math.isclose(coverage(10, 3), 1 - 112 / 1024)
    ratio = paired_ratio([1.0] * 10, [float(n) for n in range(1, 11)])
    assert (ratio.low, ratio.high, ratio.pairs) == (2, 9, 10)


@given(st.integers(1, 40))
def test_a_wider_interval_covers_more(pairs: int) -> None:
    found = [coverage(pairs, beyond) for beyond in range(1, pairs + 2)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0


@pytest.mark.parametrize(("old", "new"), [([], []), ([1.0], [1.0, 2.0])])
def test_runs_must_come_in_pairs(old: list[float], new: list[float]) -> None:
    with pytest.raises(ValueError, match="expected as many, 1 at least"):
        paired_ratio(old, new)


@pytest.mark.parametrize("figure", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_needs_figures_above_zero(figure: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 for a ratio"):
        paired_ratio([1.0], [figure])


def test_no_runs_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no runs; expected 1 at least"):
        summary([])
