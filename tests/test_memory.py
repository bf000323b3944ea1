"""Where the bound of memory comes from, and what becomes smaller when it is near."""

import logging
from pathlib import Path

import pytest

from kdns.memory import (
    HIGH,
    LEVELS,
    LOW,
    PATIENCE,
    ROOMY,
    URGENT,
    Level,
    MemoryGuard,
    for_each,
    give_back,
    group_limit,
    resident,
)
from kdns.telemetry.meters import Meters
from kdns.testing.clock import ManualClock

LIMIT = ROOMY
FULL = Level(1, 1, 1)


class World:
    """A process that uses what the test says."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.used = 0.1
        self.limit = limit
        self.told: list[Level] = []
        self.freed = 0
        self.clock = ManualClock()
        self.guard = MemoryGuard(
            limit, lambda: int(self.used * limit), self.told.append, self.clock, self._free
        )
        self.guard.start()

    def _free(self) -> None:
        self.freed += 1

    def uses(self, part: float, seconds: float = 1.0) -> int:
        """The level that it is on after that."""
        self.used = part
        self.clock.advance(seconds)
        return self.guard.level


def test_with_room_every_table_has_its_full_size() -> None:
    assert World().told == [FULL]


def test_with_little_memory_tables_are_smaller_from_the_start() -> None:
    assert World(ROOMY // 4).told == [Level(0.25, 0.25, 0.25)]


def test_below_the_mark_nothing_happens() -> None:
    world = World()
    assert world.uses(HIGH, 10.0) == 0
    assert (world.told, world.freed) == ([FULL], 0)


def test_above_it_what_upstreams_have_said_goes_first() -> None:
    world = World()
    assert world.uses(HIGH + 0.02) == 1
    assert world.told[-1] == Level(0.5, 1, 1)
    assert world.freed == 1


def test_memory_that_does_not_grow_any_more_costs_no_more() -> None:
    world = World()
    assert world.uses(HIGH + 0.02, 10.0) == 1


def test_memory_that_grows_on_does() -> None:
    world = World()
    assert [world.uses(HIGH + 0.02 * step) for step in (1, 2, 3)] == [1, 2, 3]


def test_near_the_end_it_goes_to_the_last_level() -> None:
    world = World()
    assert world.uses(URGENT + 0.01, 10.0) == len(LEVELS) - 1
    assert world.told[-1] == LEVELS[-1]


def test_there_is_room_again_a_minute_later() -> None:
    world = World()
    world.uses(HIGH + 0.02)
    assert world.uses(LOW - 0.1, PATIENCE - 1) == 1
    assert world.uses(LOW - 0.1, 1.0) == 0
    assert world.told[-1] == FULL


def test_what_hovers_between_stays_as_it_is() -> None:
    world = World()
    world.uses(HIGH + 0.02)
    assert world.uses((HIGH + LOW) / 2, 2.0 * PATIENCE) == 1


def test_it_is_said_when_tables_change(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        World().uses(HIGH + 0.02)
    assert caplog.messages == ["419 of 512 MiB of memory are used: tables are made smaller"]


def test_it_is_among_the_metrics() -> None:
    world, meters = World(), Meters()
    world.guard.watch(meters)
    world.uses(HIGH + 0.02)
    numbers = {sample.name: sample.numbers for sample in meters.sample()}
    assert numbers == {"kdns_memory_limit_bytes": [((), LIMIT)], "kdns_memory_short": [((), 1)]}


def test_closed_it_looks_no_more() -> None:
    world = World()
    world.guard.close()
    world.guard.close()
    assert world.uses(1.0, 10.0) == 0


@pytest.mark.parametrize(
    ("limit", "processes", "each"), [(None, 3, None), (90, 1, 90), (90, 2, 30), (100, 4, 20)]
)
def test_processes_share_it_with_who_watches_for_them(
    limit: int | None, processes: int, each: int | None
) -> None:
    assert for_each(limit, processes) == each


def test_what_we_use_is_known() -> None:
    assert 1 << 20 < resident() < 1 << 40


def test_where_nobody_says_it_is_nothing(tmp_path: Path) -> None:
    assert resident(tmp_path / "statm") == 0


def test_what_is_free_can_be_given_back() -> None:
    give_back()
    assert resident() > 0


class Groups:
    """A proc, and the control groups that it names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)

    def mounted(self, *lines: str) -> None:
        (self.proc / "self/mounts").write_text("".join(f"{line}\n" for line in lines))

    def inside(self, *lines: str) -> None:
        (self.proc / "self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def bound(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def two(groups: Groups, inside: str = "/pods/dns") -> None:
    groups.mounted(f"cgroup2 {groups.root}/cg cgroup2 rw 0 0")
    groups.inside(f"0::{inside}")


def one(groups: Groups) -> None:
    groups.mounted(
        f"tmpfs {groups.root}/cg tmpfs rw 0 0",
        f"cgroup {groups.root}/cg/cpu cgroup rw,cpu 0 0",
        f"cgroup {groups.root}/cg/memory cgroup rw,memory 0 0",
    )
    groups.inside("9:name=systemd:/", "4:memory:/pods/dns", "1:cpu,cpuacct:/", "0::/")


def test_version_2_says_it_in_the_group(groups: Groups) -> None:
    two(groups)
    groups.bound("cg/pods/dns/memory.max", "178257920")
    assert group_limit(groups.proc) == 178257920


def test_the_least_of_the_groups_above_counts_too(groups: Groups) -> None:
    two(groups)
    groups.bound("cg/pods/dns/memory.max", "max")
    groups.bound("cg/pods/memory.max", "100000000")
    groups.bound("cg/memory.max", "200000000")
    assert group_limit(groups.proc) == 100000000


def test_a_container_sees_its_group_as_the_root(groups: Groups) -> None:
    two(groups, "/")
    groups.bound("cg/memory.max", "100000000")
    assert group_limit(groups.proc) == 100000000


def test_version_1_says_it_in_a_hierarchy_of_its_own(groups: Groups) -> None:
    one(groups)
    groups.bound("cg/memory/pods/dns/memory.limit_in_bytes", "100000000")
    assert group_limit(groups.proc) == 100000000


def test_version_1_sees_the_hosts_path_within_a_container(groups: Groups) -> None:
    one(groups)
    groups.bound("cg/memory/memory.limit_in_bytes", "100000000")
    assert group_limit(groups.proc) == 100000000


def test_no_bound_is_written_as_the_largest_number(groups: Groups) -> None:
    one(groups)
    groups.bound("cg/memory/pods/dns/memory.limit_in_bytes", "9223372036854771712")
    assert group_limit(groups.proc) is None


def test_without_groups_there_is_no_bound(groups: Groups) -> None:
    assert group_limit(groups.proc) is None
    groups.mounted("proc /proc proc rw 0 0")
    groups.inside("0::/")
    assert group_limit(groups.proc) is None
