"""A clock that stands still until a test moves it, and then calls what is due, in order."""

from collections.abc import Callable


class ManualTimer:
    """One call to come."""

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class ManualClock:
    """Takes the place of the event loop's clock; see kdns.net.clock.Clock."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now
        self._timers: list[ManualTimer] = []

    @property
    def waiting(self) -> int:
        """How many calls are to come."""
        return sum(not timer.cancelled for timer in self._timers)

    def time(self) -> float:
        """Now, in seconds."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> ManualTimer:
        """Call `callback` when the clock was moved `delay` seconds on."""
        timer = ManualTimer(self._now + delay, callback)
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move on, calling what falls due on the way, each at its own time."""
        end = self._now + seconds
        while due := [t for t in self._timers if t.due <= end and not t.cancelled]:
            timer = min(due, key=lambda t: t.due)
            timer.cancel()
            self._now = max(self._now, timer.due)
            timer.callback()
        self._timers = [t for t in self._timers if not t.cancelled]
        self._now = end
