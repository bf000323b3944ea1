"""reload: how often the Corefile is looked at."""

from random import Random

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import reload
from kdns.plugins.reload import Reload
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, always, settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reload", Reload(30, 15)),
        ("reload 10s", Reload(10, 5)),
        ("reload 1m", Reload(60, 15)),
        ("reload 30s 1s", Reload(30, 1)),
        ("reload 2s 10s", Reload(2, 1)),
    ],
)
def test_jitter_is_at_most_half_of_the_interval(text: str, expected: Reload) -> None:
    assert settings(reload.parse, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reload 1s", r"^Corefile:2: expected a duration from 2s"),
        ("reload 2s 0s", r"^Corefile:2: expected a duration from 1s"),
        ("reload 30", r"^Corefile:2: expected a duration"),
        ("reload 2s 1s 1s", r"^Corefile:2: reload: expected at most 2 arguments"),
        ("reload {\n}", r"^Corefile:2: reload: expected no block"),
    ],
)
def test_bad_reloads_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(reload.parse, text)


def test_pauses_are_spread_over_the_jitter_both_ways() -> None:
    pauses = [Reload(30, 15).pause(Random(seed)) for seed in range(200)]
    assert 15 <= min(pauses) < 18 < 42 < max(pauses) <= 45


def test_it_explains_itself() -> None:
    assert Reload().explain() == "the Corefile is read again every 15 to 45 s"


def test_queries_do_not_pass_it() -> None:
    following = always(Reply())
    assert Reload().build(FakeParts(), following) is following
