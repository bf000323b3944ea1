"""cache and reload: read as CoreDNS reads them, and warned of."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import unfinished
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    "text",
    [
        "cache",
        "cache 30",
        "cache example.org 10.0.0.0/8",
        "cache 30 example.org",
        "cache 30 {\ndisable success cluster.local\ndisable denial cluster.local\n}",
        "cache {\nsuccess 9984 30\ndenial 9984 5 1\nprefetch 10 1m 10%\nkeepttl\nservfail 1s\n}",
        "cache {\nserve_stale\nprefetch 10\n}",
        "cache {\nserve_stale 1h verify 100ms\nserve_stale_policy prefer_positive\n}",
        "cache {\nserve_stale immediate\n}",
        "cache {\nserve_stale 1h\n}",
    ],
)
def test_caches_are_read_and_warned_of(text: str) -> None:
    configured = settings(unfinished.parse_cache, text)
    assert configured.build(FakeParts(), refuse) is refuse
    expected = "cache is not in effect yet: every forwarded question goes upstream"
    assert configured.warnings() == (f"Corefile:2: {expected}",)
    assert configured.explain().startswith("not in effect yet: every forwarded")


@pytest.mark.parametrize("text", ["reload", "reload 30s", "reload 2s 1s"])
def test_reload_is_read_and_warned_of(text: str) -> None:
    configured = settings(unfinished.parse_reload, text)
    expected = ("Corefile:2: reload is not in effect yet: changes need a restart",)
    assert configured.warnings() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache 0", r"^Corefile:2: expected a number from 1"),
        ("cache -5", r"^Corefile:2: expected a number from 1"),
        ("cache 30 a..b", r"^Corefile:2: expected a domain name"),
        ("cache {\nsuccess\n}", r"^Corefile:3: success: expected 1 to 3 arguments"),
        ("cache {\nsuccess 10 0\n}", r"^Corefile:3: expected a number from 1"),
        ("cache {\ndenial many\n}", r"^Corefile:3: expected a number"),
        ("cache {\nprefetch 1 2\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nprefetch 1 2s 95%\n}", r"^Corefile:3: expected a percentage .* got '95%'"),
        ("cache {\nserve_stale soon\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nserve_stale 1h later\n}", r"^Corefile:3: expected immediate or verify"),
        ("cache {\nserve_stale 1h verify x\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nserve_stale 1 2 3 4\n}", r"^Corefile:3: serve_stale: expected at most 3"),
        ("cache {\nserve_stale_policy x\n}", r"^Corefile:3: expected prefer_positive, got 'x'"),
        ("cache {\nservfail 6m\n}", r"^Corefile:3: expected a duration from 0s to 300s"),
        ("cache {\ndisable\n}", r"^Corefile:3: disable: expected at least 1 argument"),
        ("cache {\ndisable all\n}", r"^Corefile:3: expected success or denial, got 'all'"),
        ("cache {\ndisable denial a..b\n}", r"^Corefile:3: expected a domain name"),
        ("cache {\nkeepttl x\n}", r"^Corefile:3: keepttl: expected 0 arguments"),
        ("cache {\nsize 5\n}", r"^Corefile:3: cache: unknown option 'size'; expected denial"),
    ],
)
def test_bad_caches_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(unfinished.parse_cache, text)


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
