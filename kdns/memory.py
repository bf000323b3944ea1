"""How much memory this process may have, and what becomes smaller when it is short.

    limit     said on the command line, or of the control group (version 2 or 1), or none
    LEVELS    what of its bounds each kind of table may use, the further down the less:
              first what upstreams have said, then answers at hand and questions in flight

What the state of the cluster takes is not in it: it is needed, and answers come from it whatever
happens. Every EVERY seconds the memory is looked at. Above HIGH it goes one level down, and further
down only while memory grows all the same: what Python frees it seldom gives back, but uses again.
Below LOW it goes up again, a level a minute.
"""

import ctypes
import logging
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from kdns.net.clock import Clock, Timer
from kdns.telemetry.meters import Labels, Meters

log = logging.getLogger("kdns")

EVERY: Final = 1.0
HIGH: Final = 0.80
URGENT: Final = 0.92
LOW: Final = 0.60
PATIENCE: Final = 60
"""Looks at memory that is not short before there is more room again."""
ROOMY: Final = 512 << 20
"""Octets from which on every table has its full size; those who have less begin with a part."""
_GROWN: Final = 0.01
_PAGES_RESIDENT: Final = 1
_SOME: Final = 1 << 60
"""Octets beyond which a bound is none: version 1 says so by the largest number of pages."""


class Level(NamedTuple):
    """Parts of the bounds: of what is kept from upstreams, answers at hand, questions in flight."""

    kept: float
    hot: float
    pending: float

    def times(self, part: float) -> "Level":
        """A part of each."""
        return Level(self.kept * part, self.hot * part, self.pending * part)


LEVELS: Final = (
    Level(1, 1, 1),
    Level(1 / 2, 1, 1),
    Level(1 / 4, 1 / 2, 1 / 2),
    Level(1 / 8, 1 / 4, 1 / 4),
    Level(1 / 16, 1 / 8, 1 / 8),
    Level(1 / 64, 1 / 16, 1 / 16),
)


class MemoryGuard:
    """Calls `shrink` with what tables may use, whenever that changes.

    limit, used: octets. freed: called after tables became smaller.
    """

    def __init__(
        self,
        limit: int,
        used: Callable[[], int],
        shrink: Callable[[Level], object],
        clock: Clock,
        freed: Callable[[], object] = lambda: None,
    ) -> None:
        self.limit = limit
        self.level = 0
        self._used = used
        self._shrink = shrink
        self._clock = clock
        self._freed = freed
        self._mark = 0
        """What was used when it last went down."""
        self._calm = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Tell what there is room for, and look from now on."""
        self.tell()
        self._timer = self._clock.call_later(EVERY, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tell(self) -> None:
        """Tell again: there may be tables that do not know."""
        self._shrink(LEVELS[self.level].times(min(1.0, self.limit / ROOMY)))

    def watch(self, meters: Meters) -> None:
        """Have it among the metrics."""
        for name, text, read in (
            ("kdns_memory_limit_bytes", "Memory that all processes may have.", lambda: self.limit),
            (
                "kdns_memory_short",
                "Processes whose tables are smaller, since memory is short.",
                lambda: int(self.level > 0),
            ),
        ):
            meters.watch("gauge", name, text, (), partial(_alone, read))

    def _look(self) -> None:
        used = self._used()
        grows = used > self._mark + _GROWN * self.limit or used > URGENT * self.limit
        if used > HIGH * self.limit:
            self._calm = 0
            if grows and self.level < len(LEVELS) - 1:
                self._mark = used
                self._move(self.level + 1, used)
        elif used < LOW * self.limit and self.level:
            self._calm += 1
            if self._calm >= PATIENCE:
                self._calm = 0
                self._mark = 0
                self._move(self.level - 1, used)
        self._timer = self._clock.call_later(EVERY, self._look)

    def _move(self, level: int, used: int) -> None:
        down = level > self.level
        self.level = level
        log.log(
            logging.WARNING if down else logging.INFO,
            "%d of %d MiB of memory are used: tables are made %s",
            used >> 20,
            self.limit >> 20,
            "smaller" if down else "larger again",
        )
        self.tell()
        if down:
            self._freed()


def _alone(read: Callable[[], int]) -> list[tuple[Labels, float]]:
    return [((), read())]


def resident(file: Path = Path("/proc/self/statm")) -> int:
    """Octets of memory that this process has, shared ones included (proc(5)); 0 if nobody knows."""
    try:
        return (
            int(file.read_text(encoding="ascii").split()[_PAGES_RESIDENT]) * resource.getpagesize()
        )
    except OSError:
        return 0


def give_back() -> None:
    """Give the system what is free, where the C library knows how (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def for_each(limit: int | None, processes: int) -> int | None:
    """The part of one of so many processes that answer; more than one have an overseer beside."""
    return limit if limit is None or processes == 1 else limit // (processes + 1)


def group_limit(proc: Path = Path("/proc")) -> int | None:
    """The least memory that a control group of this process or one above it may have, octets.

    None where there is no such bound.
    """
    try:
        mounts = (proc / "self/mounts").read_text(encoding="utf-8")
        groups = (proc / "self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    bounds = [bound for file in _files(mounts, groups) if (bound := _read(file)) is not None]
    return min(bounds, default=None)


def _files(mounts: str, groups: str) -> Iterator[Path]:
    """Every file that may hold a bound: of the group, and of those above it, as far as we see."""
    places: dict[str, tuple[Path, str]] = {}
    for line in mounts.splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2":
            places[""] = Path(mount), "memory.max"
        elif kind == "cgroup" and "memory" in options.split(","):
            places["memory"] = Path(mount), "memory.limit_in_bytes"
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for place in [places[each] for each in controllers.split(",") if each in places]:
            top, name = place
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield folder / name
                if folder == top:
                    break


def _read(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        # Within a container the path of its group may be one that only the host sees.
        return None
    return int(text) if text.isdecimal() and int(text) < _SOME else None
