"""SIGUSR2: a new process of this one's command line, which takes this one's place by `takeover`.

told --nothing stands in the way--> started --it answers--> we go, and the manager is told of it
  |                                    |
  one line that says what does         it ends before that: one line, and we go on
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

log = logging.getLogger("kdns")

LOOK: Final = 0.5
"""Seconds between two looks at whether the new process is still there."""
Start = Callable[[Sequence[str], Mapping[str, str]], int]
"""Starts a program with arguments and environment: its process ID. Raises OSError."""


class Scheduler(Protocol):
    """What it needs of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call `callback` in `delay` seconds."""


def hindrance(*, takeover: str, conf: str | None, pid: int) -> str:
    """Why a new process cannot take the place of this one; empty where it can."""
    if not takeover:
        return "only with --takeover PATH can a new process take this one's place"
    if conf == "stdin":
        return "the Corefile came by standard input, which cannot be read twice; expected a file"
    if pid == 1:
        return "this is process 1, with which its container ends; roll the Deployment instead"
    return ""


def _start(command: Sequence[str], environ: Mapping[str, str]) -> int:
    return os.posix_spawn(command[0], tuple(command), environ)


def _exited(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


class Upgrade:
    """Starts a successor when told to, one at a time.

    why_not: see hindrance. command: the program and its arguments. exited: the status of a process
    that has ended, None while it runs.
    """

    def __init__(
        self,
        why_not: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        scheduler: Scheduler,
        start: Start = _start,
        exited: Callable[[int], int | None] = _exited,
    ) -> None:
        self._why_not = why_not
        self._command = command
        # Signs of life are to come from it once it is the service's process.
        self._environ = {k: v for k, v in environ.items() if k != "WATCHDOG_PID"}
        self._scheduler = scheduler
        self._start = start
        self._exited = exited
        self.successor = 0
        """The process that was started, and has not ended; 0 for none."""

    def tell(self) -> None:
        """Start one, or say why not."""
        why_not = self._why_not
        if self.successor:
            why_not = f"process {self.successor} is about to take over already"
        if why_not:
            log.warning("SIGUSR2: %s", why_not)
            return
        try:
            self.successor = self._start(self._command, self._environ)
        except OSError as error:
            reason = error.strerror or error
            log.warning("SIGUSR2: %s cannot be started: %s", self._command[0], reason)
            return
        log.info("SIGUSR2: process %d is started, to take over", self.successor)
        self._scheduler.call_later(LOOK, self._look)

    def _look(self) -> None:
        status = self._exited(self.successor)
        if status is None:
            self._scheduler.call_later(LOOK, self._look)
            return
        log.error(
            "SIGUSR2: process %d has ended with %d before it took over; this one goes on",
            self.successor,
            status,
        )
        self.successor = 0
