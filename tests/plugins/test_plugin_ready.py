"""ready: whether everything that must know something first does know it."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import ready
from kdns.plugins.chain import refuse
from kdns.plugins.parts import HttpReply
from tests.plugins.fakes import FakeParts, settings


class Ready:
    """A ready directive, and one other that is ready when the test says so."""

    def __init__(self, text: str) -> None:
        self.parts = FakeParts()
        self.synced = False
        self.parts.when_ready("kubernetes", lambda: self.synced)
        assert settings(ready.parse, text).build(self.parts, refuse) is refuse
        (self._route,) = self.parts.routes.values()

    def says(self) -> tuple[int, bytes]:
        reply = self._route()
        assert isinstance(reply, HttpReply)
        return reply.status, reply.body


@pytest.mark.parametrize(
    ("text", "address"), [("ready", ":8181"), ("ready localhost:8091", "localhost:8091")]
)
def test_it_names_what_is_not_ready(text: str, address: str) -> None:
    waiting = Ready(text)
    assert list(waiting.parts.routes) == [(address, "/ready")]
    assert waiting.says() == (503, b"kubernetes")
    waiting.synced = True
    assert waiting.says() == (200, b"OK")


def test_ready_once_is_ready_for_good() -> None:
    waiting = Ready("ready {\nmonitor until-ready\n}")
    waiting.synced = True
    waiting.says()
    waiting.synced = False
    assert waiting.says() == (200, b"OK")


def test_monitored_continuously_it_may_be_unready_again() -> None:
    waiting = Ready("ready {\nmonitor continuously\n}")
    waiting.synced = True
    waiting.says()
    waiting.synced = False
    assert waiting.says() == (503, b"kubernetes")


@pytest.mark.parametrize(
    ("mode", "says"),
    [("until-ready", (200, b"OK")), ("continuously", (503, b"services is outdated"))],
)
def test_what_was_not_heard_of_for_long_is_not_ready_where_it_is_watched(
    mode: str, says: tuple[int, bytes]
) -> None:
    waiting = Ready(f"ready {{\nmonitor {mode}\n}}")
    waiting.synced = True
    waiting.parts.old = ["services"]
    assert waiting.says() == says


@pytest.mark.parametrize("mode", ["until-ready", "continuously"])
def test_a_server_that_stops_is_not_ready_whatever_it_was(mode: str) -> None:
    waiting = Ready(f"ready {{\nmonitor {mode}\n}}")
    waiting.synced = True
    waiting.says()
    waiting.parts.stopping = True
    assert waiting.says() == (503, b"stopping")


def test_it_explains_itself() -> None:
    assert settings(ready.parse, "ready").explain() == "http://:8181/ready; until-ready"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ready 8181", r"^Corefile:2: expected HOST:PORT"),
        ("ready :1 :2", r"^Corefile:2: ready: expected at most 1 argument"),
        ("ready {\nmonitor\n}", r"^Corefile:3: monitor: expected 1 argument"),
        ("ready {\nmonitor x\n}", r"^Corefile:3: monitor: expected until-ready or .*, got 'x'"),
        ("ready {\nlatch\n}", r"^Corefile:3: ready: unknown option 'latch'; expected monitor"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(ready.parse, text)
