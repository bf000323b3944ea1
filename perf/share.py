"""Bounds on what a server may use, part of a core and memory: control groups, version 2 or 1."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PERIOD: Final = 100_000
"""Microseconds, the kernel's default."""


class NoShare(Exception):
    """No control group can be made here. It says why."""


@contextmanager
def cpu_share(
    percent: int, name: str, mounts: Path = Path("/proc/mounts"), period: int = _PERIOD
) -> Iterator[Path]:
    """A control group that may use that much of one core, in each period of so many microseconds.

    Raises NoShare. The group must be empty when the block ends, and is then taken away.
    """
    group = _made(percent, f"kdns-perf-{os.getpid()}-{name}", mounts, period)
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


@contextmanager
def memory_bound(
    octets: int, share: Path, name: str, mounts: Path = Path("/proc/mounts")
) -> Iterator[Path]:
    """The control group that bounds the memory of who is in the group `share`.

    Where the versions of control groups are mixed it is another one, which must be joined too, and
    which is taken away when the block ends. Raises NoShare.
    """
    hierarchies = list(controllers(mounts.read_text(encoding="utf-8"), "memory"))
    found = [mount for version, mount in hierarchies if version == 1]
    try:
        if any(version == 2 and share.is_relative_to(mount) for version, mount in hierarchies):
            (share.parent / "cgroup.subtree_control").write_text("+memory")
            (share / "memory.max").write_text(str(octets))
            yield share
            return
        if not found:
            raise NoShare("no control group for memory: none is mounted")
        group = found[0] / f"kdns-perf-{os.getpid()}-{name}"
        group.mkdir()
    except OSError as error:
        raise NoShare(f"no control group for memory: {error.strerror}") from error
    try:
        (group / "memory.limit_in_bytes").write_text(str(octets))
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


def killed(group: Path) -> int:
    """How many processes of a group have been killed for want of memory."""
    for file in ("memory.events", "memory.oom_control"):
        with suppress(OSError):
            for line in (group / file).read_text(encoding="utf-8").splitlines():
                word, _, number = line.partition(" ")
                if word == "oom_kill":
                    return int(number)
    return 0


def peak(group: Path) -> int:
    """The most memory that a group had at any time, octets; 0 where that is not counted."""
    for file in ("memory.peak", "memory.max_usage_in_bytes"):
        with suppress(OSError):
            return int((group / file).read_text(encoding="utf-8"))
    return 0


def inside(groups: Iterable[Path], command: Sequence[str]) -> list[str]:
    """A command whose process is in these groups from its first instruction."""
    enter = "".join(f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))} && " for group in groups)
    return ["sh", "-c", f'{enter}exec "$@"', "sh", *command]


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


def _made(percent: int, name: str, mounts: Path, period: int) -> Path:
    reasons = []
    quota = percent * period // 100
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
            _bound(group, version, quota, period)
        except OSError as error:
            group.rmdir()
            reasons.append(f"version {version}: {error.strerror}")
            continue
        return group
    raise NoShare("no control group for CPU: " + ("; ".join(reasons) or "none is mounted"))


def _bound(group: Path, version: int, quota: int, period: int) -> None:
    if version == 2:
        (group / "cpu.max").write_text(f"{quota} {period}")
        return
    (group / "cpu.cfs_period_us").write_text(str(period))
    (group / "cpu.cfs_quota_us").write_text(str(quota))


def controllers(mounts: str, which: str = "cpu") -> Iterator[tuple[int, Path]]:
    """Version and place of each hierarchy that may bound `which`, from the text of /proc/mounts."""
    for line in mounts.splitlines():
        _device, place, kind, options, *_rest = line.split()
        if kind == "cgroup2":
            yield 2, Path(place)
        elif kind == "cgroup" and which in options.split(","):
            yield 1, Path(place)
