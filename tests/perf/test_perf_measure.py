"""CPU and memory of a server are those of its processes, threads and children, read from /proc."""

import os
import sys
from pathlib import Path

import pytest

from perf.measure import (
    Spent,
    Stat,
    cpu_of,
    machine,
    memory_of,
    parse_model,
    parse_stat,
    parse_status,
    per_query,
)

TICK = 1 / os.sysconf("SC_CLK_TCK")


def stat_line(pid: int, parent: int, *ticks: int, name: str = "server") -> str:
    rest = " ".join(str(number) for number in range(5, 14))
    return f"{pid} ({name}) S {parent} {rest} {' '.join(map(str, ticks))} 20 0 4 0"


class FakeProc:
    """A /proc under `root`, with the processes it was given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir()

    def add(self, pid: int, parent: int, *ticks: int, rss: int = 0, peak: int = 0) -> None:
        folder = self.root / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(stat_line(pid, parent, *ticks))
        (folder / "status").write_text(f"Name:\tx\nVmHWM:\t{peak} kB\nVmRSS:\t{rss} kB\n")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_the_cpu_of_a_process_counts_the_children_it_waited_for(proc: FakeProc) -> None:
    proc.add(10, 1, 100, 50, 7, 3)
    assert cpu_of([10], proc.root) == Spent(107 * TICK, 53 * TICK)


def test_the_cpu_of_a_process_counts_all_processes_under_it(proc: FakeProc) -> None:
    proc.add(10, 1, 1, 0, 0, 0)
    proc.add(11, 10, 10, 0, 0, 0)
    proc.add(12, 11, 100, 0, 0, 0)
    proc.add(13, 1, 1000, 0, 0, 0)
    assert cpu_of([10], proc.root) == Spent(111 * TICK, 0)


def test_a_process_named_twice_counts_once(proc: FakeProc) -> None:
    proc.add(10, 1, 1, 0, 0, 0)
    proc.add(11, 10, 10, 0, 0, 0)
    assert cpu_of([11, 10, 11], proc.root) == Spent(11 * TICK, 0)


def test_a_process_that_has_ended_is_named(proc: FakeProc) -> None:
    with pytest.raises(ProcessLookupError, match="process 77 has ended"):
        cpu_of([77], proc.root)


def test_memory_is_summed_over_the_processes(proc: FakeProc) -> None:
    proc.add(10, 1, 0, 0, 0, 0, rss=1000, peak=1500)
    proc.add(11, 10, 0, 0, 0, 0, rss=200, peak=300)
    assert memory_of([10], proc.root) == (1200, 1800)


def test_a_child_that_ends_between_two_looks_is_passed_over(proc: FakeProc) -> None:
    proc.add(10, 1, 5, 0, 0, 0, rss=1000, peak=1500)
    proc.add(11, 10, 5, 0, 0, 0)
    (proc.root / "11" / "status").unlink()
    assert memory_of([10], proc.root) == (1000, 1500)
    (proc.root / "11" / "stat").unlink()
    assert cpu_of([10], proc.root) == Spent(5 * TICK, 0)


def test_a_process_may_be_named_like_anything() -> None:
    assert parse_stat(stat_line(1, 9, 1, 2, 3, 4, name="a) b (c")) == Stat(9, 4, 6)


def test_what_is_no_stat_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the fields of /proc/PID/stat"):
        parse_stat("10 (cut) S 1 2")


def test_a_kernel_thread_has_no_sizes() -> None:
    assert parse_status("Name:\tkthreadd\nThreads:\t1\n") == {}


def test_cpu_per_query_is_the_difference_shared_out() -> None:
    cpu = per_query(Spent(1.0, 2.0), Spent(1.5, 4.0), 100_000)
    assert (cpu.user_us, cpu.system_us, cpu.total_us) == (5.0, 20.0, 25.0)


def test_the_scheduler_tells_the_sum_and_ticks_how_it_is_shared_out() -> None:
    cpu = per_query(Spent(1.0, 2.0, 5.0), Spent(1.01, 2.03, 5.05), 10_000)
    assert cpu.total_us == pytest.approx(5.0)
    assert cpu.user_us == pytest.approx(1.25)


def test_a_thread_that_ended_takes_nothing_away() -> None:
    assert per_query(Spent(1, 1, 5), Spent(2, 2, 4), 1_000_000).total_us == pytest.approx(2.0)


def test_what_ran_for_less_than_a_tick_ran_in_user_mode() -> None:
    cpu = per_query(Spent(1, 1, 5), Spent(1, 1, 5.001), 1_000)
    assert cpu.user_us == pytest.approx(1.0)
    assert cpu.system_us == pytest.approx(0.0)


def test_all_threads_of_a_process_count(proc: FakeProc) -> None:
    proc.add(10, 1, 1, 0, 0, 0)
    for thread, ran in (("10", 2_000_000_000), ("12", 500_000_000)):
        folder = proc.root / "10" / "task" / thread
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(f"{ran} 77 9\n")
    assert cpu_of([10], proc.root).ran == 2.5


def test_no_queries_have_no_cpu_per_query() -> None:
    with pytest.raises(ValueError, match="expected 1 at least"):
        per_query(Spent(0, 0), Spent(1, 1), 0)


def test_the_model_of_the_cpu_is_the_first_named() -> None:
    assert parse_model("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\n") == "Some CPU: 3 GHz"
    assert parse_model("processor\t: 0\nCPU part\t: 0xd0c\n") is None


def test_a_machine_without_a_model_is_named_by_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    assert machine(tmp_path).cpu == os.uname().machine


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_process_has_used_cpu_and_memory() -> None:
    user, system, ran = cpu_of([os.getpid()])
    rss, peak = memory_of([os.getpid()])
    assert user + system > 0
    assert ran > 0
    assert 0 < rss <= peak
    assert machine().cores >= 1
