"""What is asked of an overloaded server, and when it counts as recovered."""

import math
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from kdns.wire.message import read_query
from perf.__main__ import _tidily
from perf.batch import Inbox
from perf.flood import DIGITS, OutsideLane, run
from perf.model import FloodResult, FloodSpec, KindResult, Query
from perf.overload import Outcome, Record, Terms, table
from perf.probe import EVERY, SPAN, Probe, recovery, served
from perf.ring import Ring
from perf.share import NoShare, inside, killed, memory_bound, peak
from perf.workloads import Question, query
from tests.perf.test_perf_load import responder

OUTSIDE = query(Question("0" * DIGITS + ".example.", "A", 0, ()), "udp").wire
KNOWN = query(Question("web.example.", "A", 0, ()), "udp").wire
KIND = KindResult(100, 90, 0, 45.0, 1000.0, 2000.0)


def probes(*answered: bool) -> list[Probe]:
    """One every so often from 100 s on."""
    times = [100 + number * EVERY for number in range(len(answered))]
    return [
        Probe(at, at + 0.01 if came else math.inf) for at, came in zip(times, answered, strict=True)
    ]


IN_A_SPAN = math.ceil(SPAN / EVERY) + 1


def test_who_answers_throughout_has_recovered_at_once() -> None:
    assert recovery(probes(*[True] * 50), 100.0) == 0


def test_recovery_begins_behind_the_last_question_without_an_answer() -> None:
    asked = probes(*[True] * 5, False, *[True] * (IN_A_SPAN + 1))
    assert recovery(asked, 100.0) == pytest.approx(6 * EVERY)


def test_a_late_answer_is_none() -> None:
    late = [Probe(100.0, 100.0 + 2 * SPAN)]
    assert recovery(late, 100.0) == math.inf


def test_what_was_asked_before_the_end_does_not_count() -> None:
    asked = [Probe(99.0), *probes(*[True] * IN_A_SPAN)]
    assert recovery(asked, 100.0) == 0


def test_of_each_kind_it_is_told_how_much_was_answered_in_time() -> None:
    asked = [Probe(1.0, 1.1), Probe(1.0), Probe(2.0, 2.9), Probe(2.0, 2.1), Probe(9.0), Probe(9.0)]
    assert [served(asked, 3.0, 2, kind) for kind in (0, 1)] == [0.5, 0.5]
    assert served([], 3.0, 2, 0) == 0


def test_nobody_asked_is_no_recovery() -> None:
    assert recovery([], 100.0) == math.inf


def test_every_outside_name_is_new() -> None:
    ring = Ring((Query(OUTSIDE, None),), [0] * 4)
    with responder(lambda asked: [asked]) as port:
        lane = OutsideLane("127.0.0.1", port, ring, Inbox(), 7)
        names = []
        for _ in range(2):
            lane.push(0, 4)
            frames = bytes(ring.frames)
            ends = zip(ring.offsets, ring.offsets[1:], strict=False)
            names += [read_query(frames[start + 2 : end]).qname for start, end in ends]
        lane.close()
    assert len(set(names)) == 8


@pytest.mark.parametrize("outside", [OUTSIDE, b""])
def test_half_of_a_flood_is_new_outside_names(outside: bytes) -> None:
    with responder(lambda asked: [asked]) as port:
        spec = FloodSpec(
            (Query(KNOWN, None),), outside, "127.0.0.1", port, "open", 20_000, 0.01, 10, 1, None
        )
        made = run(spec)
    sent = made.known.sent + made.outside.sent
    assert sent + made.unsent == 200
    assert made.outside.sent == pytest.approx(sent / 2 if outside else 0, abs=64)


def test_a_table_of_it() -> None:
    flood = FloodResult(KIND, KIND, 0, 1.0)
    console = Console(width=200, record=True)
    console.print(table(Terms(), [Outcome("all", "all", 50.0, 150.0, flood, 0.5, 0.99, 1024)]))
    assert "0.90" in console.export_text()


def outcome(good: float = 90.0, wrong: int = 0, recovered: float = 0.5) -> Outcome:
    known = KindResult(100, 90, wrong, good, 1000.0, 2000.0)
    return Outcome(
        "all", "all", 100.0, 300.0, FloodResult(known, KIND, 0, 1.0), recovered, 0.99, 1024
    )


def test_nine_tenths_of_the_capacity_within_a_second_are_well() -> None:
    assert not Record(Terms(), [outcome()], 0, 70.0).missed()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Record(Terms(), [outcome(good=89.0)], 0, 70.0), "0.89 of it answered"),
        (Record(Terms(), [outcome(wrong=2)], 0, 70.0), "2 wrong answers"),
        (Record(Terms(), [outcome(recovered=math.inf)], 0, 70.0), "recovered in inf s"),
        (Record(Terms(), [outcome()], 1, 70.0), "1 killed"),
    ],
)
def test_what_was_not_kept_is_said(record: Record, said: str) -> None:
    (missed,) = record.missed()
    assert said in missed


def test_memory_is_bound_in_the_group_that_bounds_the_core_where_both_are_in_one(
    tmp_path: Path,
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    share = tmp_path / "kdns"
    share.mkdir()
    with memory_bound(1 << 20, share, "kdns", mounts) as group:
        assert (group, (group / "memory.max").read_text()) == (share, "1048576")


def test_and_in_one_beside_it_where_they_are_apart(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup {tmp_path} cgroup rw,memory 0 0\n")
    with memory_bound(1 << 20, tmp_path / "elsewhere", "kdns", mounts) as group:
        assert group.parent == tmp_path
        assert (group / "memory.limit_in_bytes").read_text() == "1048576"


def test_without_control_groups_nothing_bounds_memory(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("")
    with pytest.raises(NoShare, match="memory"), memory_bound(1, tmp_path, "kdns", mounts):
        pass


def test_a_group_tells_who_was_killed_and_how_much_was_taken(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    assert (killed(tmp_path), peak(tmp_path)) == (1, 4096)


def test_where_a_group_tells_nothing_it_is_nothing(tmp_path: Path) -> None:
    assert (killed(tmp_path), peak(tmp_path)) == (0, 0)


def test_a_command_enters_its_groups_first(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "cgroup.procs").touch()
    done = subprocess.run(inside([tmp_path], ["echo", "a b"]), capture_output=True, check=True)
    assert done.stdout == b"a b\n"
    assert (tmp_path / "cgroup.procs").read_text().strip().isdecimal()


def test_who_is_told_to_end_cleans_up_first() -> None:
    cleaned: list[int] = []

    def run() -> int:
        with ExitStack() as stack:
            stack.callback(cleaned.append, 1)
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it was told to end")

    before = signal.getsignal(signal.SIGTERM)
    assert (_tidily(run), cleaned) == (130, [1])
    assert signal.getsignal(signal.SIGTERM) is before
