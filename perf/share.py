"""A bound on the CPU of a server: a control group, version 2 or 1, that has part of a core."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PERIOD: Final = 100_000
"""Microseconds, the kernel's default."""


class NoShare(Exception):
    """No control group can be made here. It says why."""


@contextmanager
def cpu_share(percent: int, name: str, mounts: Path = Path("/proc/mounts")) -> Iterator[Path]:
    """A control group that may use that much of one core.

    Raises NoShare. The group must be empty when the block ends, and is then taken away.
    """
    group = _made(percent, f"kdns-perf-{os.getpid()}-{name}", mounts)
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


def join(group: Path, pids: Iterable[int]) -> None:
    """Put processes, with all their threads, into a group. Raises NoShare."""
    for pid in pids:
        try:
            (group / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            continue  # it has ended meanwhile
        except OSError as error:
            raise NoShare(
                f"process cannot be put into a control group: {error.strerror}"
            ) from error


def _made(percent: int, name: str, mounts: Path) -> Path:
    reasons = []
    quota = percent * _PERIOD // 100
    for version, mount in controllers(mounts.read_text(encoding="utf-8")):
        group = mount / name
        try:
            if version == 2:
                (mount / "cgroup.subtree_control").write_text("+cpu")
            group.mkdir()
        except OSError as error:
            reasons.append(f"version {version}: {error.strerror}")
            continue
        try:
            _bound(group, version, quota)
        except OSError as error:
            group.rmdir()
            reasons.append(f"version {version}: {error.strerror}")
            continue
        return group
    raise NoShare("no control group for CPU: " + ("; ".join(reasons) or "none is mounted"))


def _bound(group: Path, version: int, quota: int) -> None:
    if version == 2:
        (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        return
    (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
    (group / "cpu.cfs_quota_us").write_text(str(quota))


def controllers(mounts: str) -> Iterator[tuple[int, Path]]:
    """Version and place of each hierarchy that may bound CPU, from the text of /proc/mounts."""
    for line in mounts.splitlines():
        _device, place, kind, options, *_rest = line.split()
        if kind == "cgroup2":
            yield 2, Path(place)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield 1, Path(place)
