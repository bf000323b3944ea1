"""A value or an error comes once, to the one who waits for it, and is never lost."""

from collections.abc import Callable

import pytest

from kdns.plugins.pending import Pending, after


class Broken(Exception):
    """What a step raises here."""


def broken(value: object) -> int:
    raise Broken(str(value))


def outcome(pending: Pending[int]) -> list[int | Exception]:
    got: list[int | Exception] = []
    pending.when_done(got.append, got.append)
    return got


def test_the_value_comes_whether_it_was_there_first_or_not() -> None:
    early: Pending[int] = Pending()
    early.resolve(1)
    assert early.done
    assert outcome(early) == [1]
    late: Pending[int] = Pending()
    assert not late.done
    got = outcome(late)
    late.resolve(2)
    assert got == [2]


def test_none_is_a_value() -> None:
    pending: Pending[None] = Pending()
    got: list[None] = []
    pending.resolve(None)
    pending.when_done(got.append)
    assert pending.done
    assert got == [None]


def test_it_is_resolved_once_and_waited_for_once() -> None:
    pending: Pending[int] = Pending()
    pending.resolve(1)
    with pytest.raises(AssertionError, match="resolved once"):
        pending.resolve(2)
    with pytest.raises(AssertionError, match="resolved once"):
        pending.fail(Broken())
    outcome(pending)
    with pytest.raises(AssertionError, match="one callback"):
        outcome(pending)


@pytest.mark.parametrize("early", [True, False])
def test_steps_follow_each_other(early: bool) -> None:
    first: Pending[int] = Pending()
    second: Pending[int] = Pending()
    if early:
        first.resolve(1)
    got = outcome(first.then(lambda n: n + 1).then(lambda n: second))
    if not early:
        first.resolve(1)
    assert got == []
    second.resolve(5)
    assert got == [5]


@pytest.mark.parametrize("early", [True, False])
def test_an_error_passes_the_steps_and_comes_to_who_waits(early: bool) -> None:
    pending: Pending[int] = Pending()
    if early:
        pending.resolve(1)
    got = outcome(pending.then(broken).then(lambda n: n + 1))
    if not early:
        pending.resolve(1)
    assert [repr(error) for error in got] == ["Broken('1')"]


def test_an_error_may_be_made_a_value_again() -> None:
    pending: Pending[int] = Pending()
    got = outcome(pending.then(broken).then(lambda n: n, lambda error: len(str(error))))
    pending.resolve(22)
    assert got == [2]


def test_without_an_error_the_other_way_is_not_gone() -> None:
    pending: Pending[int] = Pending()
    got = outcome(pending.then(lambda n: n + 1, lambda error: 0))
    pending.resolve(1)
    assert got == [2]


def test_a_failing_step_behind_a_pending_one_is_told_as_well() -> None:
    first: Pending[int] = Pending()
    second: Pending[int] = Pending()
    got = outcome(first.then(lambda n: second.then(broken)))
    first.resolve(1)
    second.resolve(2)
    assert [str(error) for error in got] == ["2"]


def test_the_way_out_may_fail_too() -> None:
    pending: Pending[int] = Pending()
    got = outcome(pending.then(lambda n: n, broken))
    pending.fail(Broken("first"))
    assert pending.done
    assert [str(error) for error in got] == ["first"]
    assert got[0].__class__ is Broken


def test_an_error_that_nobody_takes_is_raised_where_it_shows() -> None:
    """In the caller of `resolve`: so the event loop logs it, and goes on."""
    pending: Pending[int] = Pending()
    pending.then(broken).when_done(lambda n: None)
    with pytest.raises(Broken):
        pending.resolve(1)
    failed: Pending[int] = Pending()
    failed.fail(Broken())
    with pytest.raises(Broken):
        failed.when_done(lambda n: None)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_no_error_of_a_step(stop: type[BaseException]) -> None:
    def ends(value: int) -> int:
        raise stop

    pending: Pending[int] = Pending()
    outcome(pending.then(ends))
    with pytest.raises(stop):
        pending.resolve(1)


def test_after_stays_synchronous_when_it_can() -> None:
    step: Callable[[int], int] = lambda n: n + 1  # noqa: E731 - a typed name for one expression
    assert after(1, step) == 2
    pending: Pending[int] = Pending()
    later = after(pending, step)
    assert isinstance(later, Pending)
    pending.resolve(1)
    assert outcome(later) == [2]
