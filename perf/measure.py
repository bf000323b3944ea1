"""What a server costs while it is asked, as /proc tells it (proc(5)), and on what machine."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from perf.model import Cpu

_PROC: Final = Path("/proc")


class Stat(NamedTuple):
    """What matters of /proc/PID/stat; ticks are those of sysconf(_SC_CLK_TCK).

    The ticks include all threads, and the children that ended and were waited for.
    """

    parent: int
    user_ticks: int
    system_ticks: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures are to be read with: nothing in it says whose machine it is."""

    cpu: str
    cores: int
    kernel: str
    python: str


class Spent(NamedTuple):
    """Seconds of CPU. user and system come in clock ticks; ran is exact, 0 where it is not told."""

    user: float
    system: float
    ran: float = 0.0


def cpu_of(pids: Sequence[int], proc: Path = _PROC) -> Spent:
    """The CPU that these processes and all under them have used.

    A clock tick is usually 10 ms, and an end nobody waited for yet is counted only until it is
    waited for. Raises ProcessLookupError when one of `pids` does not exist.
    """
    family = _family(pids, proc)
    tick = 1 / os.sysconf("SC_CLK_TCK")
    user = sum(stat.user_ticks for stat in family.values())
    system = sum(stat.system_ticks for stat in family.values())
    return Spent(user * tick, system * tick, sum(_ran(proc / str(pid)) for pid in family))


def memory_of(pids: Sequence[int], proc: Path = _PROC) -> tuple[int, int]:
    """KiB resident of these processes and all under them, now and, each at its highest, summed up.

    What processes share counts once for each. Raises ProcessLookupError as `cpu_of` does.
    """
    now = peak = 0
    for pid in _family(pids, proc):
        try:
            sizes = parse_status((proc / str(pid) / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        now += sizes.get("VmRSS", 0)
        peak += sizes.get("VmHWM", 0)
    return now, peak


def per_query(before: Spent, after: Spent, queries: int) -> Cpu:
    """The CPU time per query between two readings of `cpu_of`. Raises ValueError for no queries.

    The sum is the scheduler's, to the nanosecond; ticks only say how it is shared out. Where the
    scheduler says less than they do, a thread has ended and took what it knew along: then they
    count.
    """
    if queries < 1:
        raise ValueError(f"CPU time per query of {queries} queries; expected 1 at least")
    user, system = after.user - before.user, after.system - before.system
    ticked, ran = user + system, after.ran - before.ran
    # Each of the two may be a tick too large.
    total = ran if ran >= ticked - 2 / os.sysconf("SC_CLK_TCK") and ran > 0 else ticked
    each = total * 1e6 / queries
    share = user / ticked if ticked else 1.0
    return Cpu(each * share, each * (1 - share), each)


def machine(proc: Path = _PROC) -> Machine:
    """The machine this runs on; `cpu` falls back to the architecture where Linux names no model."""
    return Machine(
        cpu=parse_model((proc / "cpuinfo").read_text()) or platform.machine(),
        cores=os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def parse_stat(text: str) -> Stat:
    """The content of /proc/PID/stat. Raises ValueError when it is none."""
    # The second field, a name in brackets, may hold brackets and spaces itself.
    _, bracket, rest = text.rpartition(")")
    fields = rest.split()
    if not bracket or len(fields) < 15:
        raise ValueError(f"{text!r}: expected the fields of /proc/PID/stat")
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return Stat(int(fields[1]), user + children_user, system + children_system)


def parse_status(text: str) -> dict[str, int]:
    """The sizes, in KiB, that /proc/PID/status gives; a kernel thread has none."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = int(value.removesuffix(" kB"))
    return sizes


def parse_model(text: str) -> str | None:
    """The model of the first CPU in /proc/cpuinfo; ARM names none."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return None


def _ran(folder: Path) -> float:
    """Seconds that the living threads of a process have been on a CPU."""
    total = 0
    for thread in (folder / "task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(thread.read_text().split()[0])
    return total / 1e9


def _family(pids: Sequence[int], proc: Path) -> dict[int, Stat]:
    """The processes and all under them. Raises ProcessLookupError when one of `pids` is gone."""
    everything = dict(_all(proc))
    for pid in pids:
        if pid not in everything:
            raise ProcessLookupError(f"process {pid} has ended; expected it to run")
    children: dict[int, list[int]] = {}
    for pid, stat in everything.items():
        children.setdefault(stat.parent, []).append(pid)
    family: dict[int, Stat] = {}
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in family:
            family[pid] = everything[pid]
            waiting.extend(children.get(pid, ()))
    return family


def _all(proc: Path) -> Iterator[tuple[int, Stat]]:
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                yield int(folder.name), parse_stat((folder / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
