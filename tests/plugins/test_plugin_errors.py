"""errors: why queries could not be answered, in the log."""

import logging

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import errors
from kdns.plugins.chain import refuse
from kdns.wire import iana
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, ask, settings


class Log:
    """A block with an errors directive, and a way to have it told of failures."""

    def __init__(self, text: str) -> None:
        self.parts = FakeParts()
        assert settings(errors.parse, text).build(self.parts, refuse) is refuse
        (self._observe,) = self.parts.block.observers

    def fail(self, error: str) -> None:
        self._observe(ask("A.example", iana.AAAA), Reply(Rcode.SERVFAIL, error=error), 100, 0.1)


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "kdns.errors"]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize("text", ["errors", "errors {\nstacktrace\n}"])
def test_stacktrace_is_for_faults_of_the_block(text: str) -> None:
    parts = FakeParts()
    configured = settings(errors.parse, text)
    configured.build(parts, refuse)
    wanted = "stacktrace" in text
    assert (parts.block.stacktrace, "tracebacks" in configured.explain()) == (wanted, wanted)


@pytest.mark.parametrize("text", ["errors", "errors stdout", "errors {\nstacktrace\n}"])
def test_an_error_is_told_as_coredns_tells_it(text: str, caplog: pytest.LogCaptureFixture) -> None:
    Log(text).fail("no reply")
    assert messages(caplog) == [("ERROR", "plugin/errors: 2 a.example. AAAA: no reply")]


def test_what_was_answered_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    Log("errors").fail("")
    assert messages(caplog) == []


def test_consolidated_errors_are_told_once_when_the_time_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log('errors {\nconsolidate 30s "^no reply" warning\n}')
    log.fail("no reply")
    log.fail("no reply in 2 s")
    log.fail("still no reply")
    assert messages(caplog) == [("ERROR", "plugin/errors: 2 a.example. AAAA: still no reply")]
    log.parts.clock.advance(30.0)
    told = ("WARNING", "plugin/errors: 2 errors like '^no reply' occurred in last 30s")
    assert messages(caplog) == [told]
    log.parts.clock.advance(60.0)
    assert messages(caplog) == []
    log.fail("no reply")
    log.parts.clock.advance(30.0)
    assert len(messages(caplog)) == 1


def test_what_waits_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("errors {\nconsolidate 5m timeout\n}")
    log.fail("timeout")
    (stop,) = log.parts.stopped
    stop()
    assert messages(caplog) == [
        ("ERROR", "plugin/errors: 1 errors like 'timeout' occurred in last 5m0s")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.02, "20ms"), (1.5, "1.5s"), (59, "59s"), (300, "5m0s"), (3661, "1h1m1s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert errors.go_duration(seconds) == text


def test_show_first_tells_the_first_at_once_and_the_others_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log("errors {\nconsolidate 5m timeout info show_first\n}")
    log.fail("timeout")
    assert messages(caplog) == [("INFO", "plugin/errors: 2 a.example. AAAA: timeout")]
    log.parts.clock.advance(300.0)
    assert messages(caplog) == []
    log.fail("timeout")
    log.fail("timeout")
    log.parts.clock.advance(300.0)
    assert [level for level, _ in messages(caplog)] == ["INFO", "INFO"]


def test_the_first_pattern_that_matches_has_the_error(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("errors {\nconsolidate 5s timeout debug\nconsolidate 1s . \n}")
    log.fail("timeout")
    log.parts.clock.advance(1.0)
    assert messages(caplog) == []
    log.parts.clock.advance(4.0)
    assert [level for level, _ in messages(caplog)] == ["DEBUG"]


def test_it_explains_itself() -> None:
    assert settings(errors.parse, "errors").explain() == "errors are logged"
    told = settings(errors.parse, "errors {\nconsolidate 5s x\n}").explain()
    assert told == "errors are logged; 'x' once in 5 s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("errors stderr", r"^Corefile:2: errors: expected stdout, got 'stderr'"),
        ("errors a b", r"^Corefile:2: errors: expected at most 1 argument"),
        ("errors {\nfilter\n}", r"^Corefile:3: errors: unknown option 'filter'; expected conso"),
        ("errors {\nstacktrace on\n}", r"^Corefile:3: stacktrace: expected 0 arguments"),
        ("errors {\nconsolidate 5s\n}", r"^Corefile:3: consolidate: expected 2 to 4 arguments"),
        ("errors {\nconsolidate 5 x\n}", r"^Corefile:3: expected a duration"),
        ("errors {\nconsolidate 0s x\n}", r"^Corefile:3: expected a duration from 0.001s"),
        ('errors {\nconsolidate 5s "("\n}', r"^Corefile:3: .*a regular expression, got '\('"),
        ('errors {\nconsolidate 5s "a{99999999999}"\n}', r"^Corefile:3: .*regular expression"),
        (f"errors {{\nconsolidate 5s {'x' * 10_001}\n}}", r"^Corefile:3: .*at most 10000 char"),
        ("errors {\nconsolidate 5s x loud\n}", r"^Corefile:3: .*expected warning, .* got 'loud'"),
        ("errors {\nconsolidate 5s x info debug\n}", r"^Corefile:3: .*got 'info debug'"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(errors.parse, text)
