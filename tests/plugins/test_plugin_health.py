"""health: alive, and answering for a while after it is told to stop."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import health
from kdns.plugins.chain import refuse
from kdns.plugins.parts import HttpReply
from kdns.plugins.pending import Pending
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    ("text", "address", "lameduck"),
    [
        ("health", ":8080", 0.0),
        ("health localhost:8091", "localhost:8091", 0.0),
        ("health {\nlameduck 5s\n}", ":8080", 5.0),
        ("health [::1]:8080 {\nlameduck 1m\n}", "[::1]:8080", 60.0),
    ],
)
def test_it_says_ok_where_it_is_told_to(text: str, address: str, lameduck: float) -> None:
    parts = FakeParts()
    configured = settings(health.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert list(parts.routes) == [(address, "/health")]
    reply = parts.routes[address, "/health"]()
    assert isinstance(reply, HttpReply)
    assert (reply.status, reply.body) == (200, b"OK")
    assert parts.lameduck == lameduck
    assert configured.explain() == f"http://{address}/health; lameduck {lameduck:g} s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("health 8080", r"^Corefile:2: expected HOST:PORT, .* got '8080'; write \":8080\""),
        ("health :1 :2", r"^Corefile:2: health: expected at most 1 argument"),
        ("health {\nlameduck\n}", r"^Corefile:3: lameduck: expected 1 argument, got 0"),
        ("health {\nlameduck soon\n}", r"^Corefile:3: expected a duration"),
        ("health {\nlameduck -5s\n}", r"^Corefile:3: expected a duration from 0s"),
        ("health {\nlame 5s\n}", r"^Corefile:3: health: unknown option 'lame'; expected lameduck"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(health.parse, text)


# It asks itself.


class Probed:
    """A health directive that asks itself; the answers are the test's to give."""

    def __init__(self) -> None:
        self.parts = FakeParts()
        settings(health.parse, "health").build(self.parts, refuse)

    def asked(self) -> Pending[bool]:
        """The next question to itself."""
        pending: Pending[bool] = Pending()
        self.parts.fetches.append(pending)
        self.parts.clock.advance(1.0)
        assert not self.parts.fetches
        return pending

    def observed(self) -> tuple[list[int], float]:
        durations = self.parts.meters.histogram(
            "coredns_health_request_duration_seconds", "", health.BOUNDS
        )
        return durations[()].counts, self.parts.meters.counter(
            "coredns_health_request_failures", ""
        )[()]


def test_it_asks_itself_and_counts_how_long_that_took() -> None:
    probed = Probed()
    asked = probed.asked()
    probed.parts.clock.advance(0.01)
    asked.resolve(True)
    assert probed.observed() == ([0, 0, 1, 0, 0, 0], 0)
    assert probed.parts.fetched == [(":8080", "/health", 3.0)]


def test_no_ok_is_a_failure_and_it_asks_again(caplog: pytest.LogCaptureFixture) -> None:
    probed = Probed()
    probed.asked().resolve(True)
    for _ in range(2):
        probed.asked().resolve(False)
    assert probed.observed()[1] == 2
    assert caplog.messages == ["we asked ourselves at :8080/health, and got no OK"] * 2


def test_what_is_not_served_yet_is_no_failure() -> None:
    probed = Probed()
    for _ in range(2):
        probed.asked().resolve(False)
    assert probed.observed() == ([0] * 6, 0)


def test_a_slow_ok_is_told(caplog: pytest.LogCaptureFixture) -> None:
    probed = Probed()
    asked = probed.asked()
    probed.parts.clock.advance(1.5)
    asked.resolve(True)
    assert caplog.messages == ["our own request to :8080/health took 1.5 s"]


def test_a_process_that_serves_no_http_asks_nothing() -> None:
    parts = FakeParts()
    settings(health.parse, "health").build(parts, refuse)
    parts.clock.advance(10.0)
    assert len(parts.fetched) == 1


def test_once_stopped_it_asks_and_counts_no_more() -> None:
    probed = Probed()
    probed.asked().resolve(True)
    asked = probed.asked()
    (stop,) = probed.parts.stopped
    stop()
    asked.resolve(False)
    probed.parts.clock.advance(10.0)
    assert (probed.observed()[1], len(probed.parts.fetched)) == (0, 2)
