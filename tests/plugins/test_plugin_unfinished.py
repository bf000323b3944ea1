"""reload: read as CoreDNS reads it, and warned of."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import unfinished
from tests.plugins.fakes import settings


@pytest.mark.parametrize("text", ["reload", "reload 30s", "reload 2s 1s"])
def test_reload_is_read_and_warned_of(text: str) -> None:
    configured = settings(unfinished.parse_reload, text)
    expected = ("Corefile:2: reload is not in effect yet: changes need a restart",)
    assert configured.warnings() == expected


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
        settings(unfinished.parse_reload, text)
