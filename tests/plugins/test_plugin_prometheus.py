"""prometheus: counts, and says where."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import prometheus
from kdns.plugins.chain import refuse
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, ask, settings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("prometheus", "localhost:9153"),
        ("prometheus :9153", ":9153"),
        ("prometheus 0.0.0.0:9153", "0.0.0.0:9153"),
        ("prometheus [::1]:9153 {\nruntime_metrics\n}", "[::1]:9153"),
    ],
)
def test_the_block_is_counted_and_its_counts_are_served(text: str, address: str) -> None:
    parts = FakeParts()
    configured = settings(prometheus.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert parts.block.counted
    assert parts.metrics == [address]
    assert configured.explain() == f"http://{address}/metrics"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus 9153", r"^Corefile:2: expected HOST:PORT"),
        ("prometheus :1 :2", r"^Corefile:2: prometheus: expected at most 1 argument"),
        ("prometheus {\nruntime_metrics x\n}", r"^Corefile:3: runtime_metrics: expected 0 arg"),
        ("prometheus {\ntls\n}", r"^Corefile:3: tls: expected 1 argument"),
        ("prometheus {\ntls a\ntls b\n}", r"^Corefile:4: tls stands twice; expected once"),
        (
            "prometheus {\nx\n}",
            r"^Corefile:3: prometheus: unknown option 'x'; expected exemplars, runtime_",
        ),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(prometheus.parse, text)


def test_a_web_configuration_file_says_how_its_address_is_secured() -> None:
    parts = FakeParts()
    configured = settings(prometheus.parse, "prometheus :9153 {\ntls web.yml\n}")
    configured.build(parts, refuse)
    assert parts.secured == {":9153": "web.yml"}
    assert configured.explain() == "https://:9153/metrics, by web.yml"


def test_what_is_wrong_with_that_file_is_told_with_its_place() -> None:
    parts = FakeParts(web_error="web.yml: expected YAML")
    with pytest.raises(CorefileError, match=r"^Corefile:3: tls: web\.yml: expected YAML"):
        settings(prometheus.parse, "prometheus {\ntls web.yml\n}").build(parts, refuse)


def test_exemplars_are_the_last_query_of_each_bucket() -> None:
    parts = FakeParts()
    settings(prometheus.parse, "prometheus {\nexemplars\n}").build(parts, refuse)
    (observe,) = parts.block.observers
    for text, seconds in (("a.", 0.0001), ("B.", 0.0001), ("c.", 1.5)):
        observe(ask(text), Reply(), 100, seconds)
    now = parts.now()
    assert parts.block.counters.exemplars == {
        0: ("b.", 7, 0.0001, now),
        13: ("c.", 7, 1.5, now),
    }


def test_without_being_asked_for_there_are_none() -> None:
    parts = FakeParts()
    settings(prometheus.parse, "prometheus").build(parts, refuse)
    assert parts.block.observers == []
