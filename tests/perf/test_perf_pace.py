"""When a query is due is fixed in advance; being late does not move it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.pace import SPIN, ClosedPace, OpenPace, nap

rates = st.floats(0.5, 1e6)
times = st.floats(0, 100)


def test_at_4_queries_a_second_one_is_due_every_quarter() -> None:
    pace = OpenPace(4, seconds=2)
    assert pace.total == 8
    assert list(pace.dues(0, 8, now=99)) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_a_late_sender_may_send_all_that_are_due() -> None:
    pace = OpenPace(4, seconds=2)
    assert pace.allowed(0, sent=0, unanswered=0) == 1
    assert pace.allowed(1.1, sent=1, unanswered=1) == 4
    assert pace.allowed(50, sent=5, unanswered=0) == 3


@given(rates, times, st.integers(0, 10**6))
def test_what_is_allowed_is_what_is_due(rate: float, now: float, sent: int) -> None:
    pace = OpenPace(rate, seconds=1000)
    due = sent + max(0, pace.allowed(now, sent, 0))
    tiny = 1e-9
    if due > sent:
        assert pace.dues(due - 1, 1, now)[0] <= now + tiny
    if due < pace.total:
        assert pace.dues(due, 1, now)[0] >= now - tiny
    assert due <= max(pace.total, sent)


def test_an_open_loop_does_not_mind_what_is_unanswered() -> None:
    pace = OpenPace(4, seconds=2)
    assert pace.allowed(1, sent=0, unanswered=10**6) == pace.allowed(1, sent=0, unanswered=0)


def test_an_open_loop_ends_with_its_last_query_or_with_its_patience() -> None:
    pace = OpenPace(4, seconds=2, grace=0.5)
    assert pace.next_due(7) == 1.75
    assert not pace.over(1.9, sent=7)
    assert pace.over(1.9, sent=8)
    assert pace.next_due(8) is None
    assert pace.over(2.5, sent=5)
    assert not pace.over(2.4, sent=5)
    assert pace.unsent(5) == 3


def test_however_low_the_rate_one_query_is_asked() -> None:
    assert OpenPace(0.1, seconds=1).total == 1


def test_a_closed_loop_asks_when_something_was_answered() -> None:
    pace = ClosedPace(10, seconds=2)
    assert pace.allowed(0, sent=0, unanswered=0) == 10
    assert pace.allowed(1, sent=500, unanswered=10) == 0
    assert pace.allowed(1, sent=500, unanswered=7) == 3
    assert pace.next_due(500) is None


def test_in_a_closed_loop_a_query_is_due_when_it_is_sent() -> None:
    assert list(ClosedPace(10, seconds=2).dues(5, 3, now=1.5)) == [1.5, 1.5, 1.5]


def test_a_closed_loop_ends_with_its_time() -> None:
    pace = ClosedPace(10, seconds=2)
    assert not pace.over(1.9, sent=0)
    assert pace.over(2, sent=0)
    assert pace.allowed(2, sent=0, unanswered=0) == 0
    assert pace.unsent(123) == 0


def test_a_generator_without_its_own_core_sleeps_until_there_is_something_to_do() -> None:
    assert nap(1.0, 1.25, 5, own_core=False) == 0.25
    assert nap(1.0, 0.5, 5, own_core=False) == 0


def test_one_with_its_own_core_spins_for_answers_and_just_before_a_query_is_due() -> None:
    assert nap(1.0, 2.0, 1, own_core=True) == 0
    assert nap(1.0, 1.0 + SPIN / 2, 0, own_core=True) == 0
    assert nap(1.0, 2.0, 0, own_core=True) == pytest.approx(1 - SPIN)
