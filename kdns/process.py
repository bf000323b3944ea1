"""What each process of a server begins with: standard files, a log, a loop."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Final

from kdns.telemetry.lines import Format, LineHandler

_STDOUT: Final = 1
_STDERR: Final = 2


class StartError(Exception):
    """What the system has not for us: one line."""


def command() -> list[str]:
    """What we were started by."""
    return [sys.executable, *sys.orig_argv[1:]]


def have_standard_files() -> None:
    """Have something at descriptors 0 to 2, lest a socket of ours be there, and be logged to."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(opened, True)
    os.close(opened)


def log_to_stdout(form: Format) -> None:
    """Log there, and nowhere else."""
    handler = LineHandler(_STDOUT, form)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It counts changes of files; what comes of them is told by who reads those.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def run(main: Coroutine[object, object, int]) -> int:
    """In a loop of its own, uvloop's where that is installed."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def import_late() -> None:
    """Have what each process would import by itself before they part: then it is there once."""
    importlib.import_module("encodings.idna")  # of whatever looks an address up
    _loop_factory()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    factory: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return factory
