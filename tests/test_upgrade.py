"""SIGUSR2: a successor is started, one at a time, where it can take over."""

import os
import signal
import sys

import pytest

from kdns.testing.clock import ManualClock
from kdns.upgrade import LOOK, Upgrade, hindrance

COMMAND = ["/usr/bin/kdns", "serve"]


class World:
    """An Upgrade, and processes as the test wants them."""

    def __init__(self, why_not: str = "", error: OSError | None = None) -> None:
        self.clock = ManualClock()
        self.started: list[tuple[list[str], dict[str, str]]] = []
        self.error = error
        self.status: int | None = None
        environ = {"PATH": "/bin", "WATCHDOG_PID": "7"}
        self.upgrade = Upgrade(
            why_not, COMMAND, environ, self.clock, self._start, lambda pid: self.status
        )

    def _start(self, command: object, environ: object) -> int:
        if self.error:
            raise self.error
        assert isinstance(command, list)
        assert isinstance(environ, dict)
        self.started.append((command, environ))
        return 4000 + len(self.started)


def test_the_same_command_is_started_whose_signs_of_life_are_its_own() -> None:
    world = World()
    world.upgrade.tell()
    assert world.started == [(COMMAND, {"PATH": "/bin"})]
    assert world.upgrade.successor == 4001


def test_one_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.upgrade.tell()
    world.clock.advance(LOOK)
    world.upgrade.tell()
    assert len(world.started) == 1
    assert "process 4001 is about to take over already" in caplog.text


def test_when_one_has_failed_another_may_be_started(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.upgrade.tell()
    world.status = 1
    world.clock.advance(LOOK)
    assert "process 4001 has ended with 1 before it took over; this one goes on" in caplog.text
    world.upgrade.tell()
    assert world.upgrade.successor == 4002


def test_what_stands_in_the_way_is_said(caplog: pytest.LogCaptureFixture) -> None:
    world = World("there is no --takeover")
    world.upgrade.tell()
    assert (world.started, caplog.messages) == ([], ["SIGUSR2: there is no --takeover"])


def test_a_program_that_cannot_be_started_is_said(caplog: pytest.LogCaptureFixture) -> None:
    world = World(error=FileNotFoundError(2, "No such file or directory"))
    world.upgrade.tell()
    assert "/usr/bin/kdns cannot be started: No such file or directory" in caplog.text
    assert world.upgrade.successor == 0


@pytest.mark.parametrize(
    ("takeover", "conf", "pid", "reason"),
    [
        ("/run/kdns", None, 7, ""),
        ("/run/kdns", "Corefile", 7, ""),
        ("", None, 7, "only with --takeover"),
        ("/run/kdns", "stdin", 7, "standard input"),
        ("/run/kdns", None, 1, "process 1"),
    ],
)
def test_it_takes_a_place_to_take_over_at_a_file_to_read_and_a_life_after_us(
    takeover: str, conf: str | None, pid: int, reason: str
) -> None:
    found = hindrance(takeover=takeover, conf=conf, pid=pid)
    assert reason in found
    assert bool(reason) == bool(found)


def test_a_real_process_is_started_and_its_end_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    upgrade = Upgrade("", [sys.executable, "-c", "input()"], {}, clock)
    upgrade.tell()
    assert upgrade.successor
    os.kill(upgrade.successor, signal.SIGKILL)
    os.waitid(os.P_PID, upgrade.successor, os.WEXITED | os.WNOWAIT)
    clock.advance(LOOK)
    assert "has ended with -9 before it took over" in caplog.text
