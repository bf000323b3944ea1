"""A session of measurements, as far as it can be had without servers."""

from perf.run import get_around


def test_a_warm_up_ends_with_a_run_that_asked_everything_three_times() -> None:
    asked: list[float] = []

    def ask(seconds: float) -> int:
        asked.append(seconds)
        return int(100 * seconds)

    get_around(ask, queries=130, seconds=1.0)
    # 100 and 200 queries of runs that each begin at the first leave the last of 130 cold.
    assert asked == [1.0, 2.0, 4.0]


def test_a_short_list_is_warm_after_one_run() -> None:
    asked: list[float] = []

    def ask(seconds: float) -> int:
        asked.append(seconds)
        return 1_000

    get_around(ask, queries=300, seconds=0.5)
    assert asked == [0.5]


def test_a_server_that_never_gets_around_is_measured_all_the_same() -> None:
    asked: list[float] = []

    def ask(seconds: float) -> int:
        asked.append(seconds)
        return 0

    get_around(ask, queries=1, seconds=1.0)
    assert asked == [1.0, 2.0, 4.0, 8.0, 16.0]
