"""Time as an argument: what a timer needs from an event loop, and what a test can give instead."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Do not call; harmless when the call was made already."""


class Clock(Protocol):
    """Seconds from some start, and calls at a later one; an event loop is one."""

    def time(self) -> float:
        """Now, in seconds; it never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call `callback` in `delay` seconds."""
