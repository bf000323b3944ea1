"""A run driven by hand: its clock goes on only when it sleeps, or as a lane says."""

from collections.abc import Callable, Sequence

import pytest

from perf.answers import Tally
from perf.drive import BATCH, Drive
from perf.histogram import Histogram
from perf.ledger import Ledger
from perf.model import Query
from perf.pace import ClosedPace, OpenPace, Pace

QUERY = Query(bytes(12), None)
TICK = 2**-14


class Time:
    """A clock that goes on when somebody sleeps for lanes that have nothing, and else by a tick."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []
        self.watched: dict[int, int] = {}
        self.lanes: list[FakeLane] = []

    def __call__(self) -> float:
        return self.now

    def watch(self, fd: int, lane: int) -> None:
        self.watched[lane] = fd

    def ready(self, nap: float) -> list[int]:
        self.naps.append(nap)
        self.now += TICK if any(lane.replies for lane in self.lanes) else max(nap, TICK)
        return list(self.watched)


class FakeLane:
    """A server that answers query number n at once when `answers(n)`; its socket takes `room`."""

    def __init__(self, answers: Callable[[int], bool], room: Callable[[], int]) -> None:
        self.owes = False
        self.sizes: list[int] = []
        self.waiting: list[int] = []
        self.asked = 0
        self.opened = 1
        self.broken = False
        self._answers = answers
        self._room = room
        self.replies: list[int] = []

    def fileno(self) -> int:
        return self.opened

    def push(self, first: int, last: int) -> int:
        taken = min(last - first, self._room())
        self.sizes.append(taken)
        for slot in range(first, first + taken):
            if self._answers(self.asked):
                self.replies.append(slot)
            self.asked += 1
        self.waiting.append(len(self.replies))
        return taken

    def pull(self) -> tuple[Sequence[int], Sequence[bytes]]:
        if self.broken:
            raise ConnectionResetError("gone")
        replies, self.replies = self.replies, []
        return replies, [b"answer"] * len(replies)

    def reopen(self) -> None:
        self.broken = False
        self.opened += 1


class Run:
    """One run over fake lanes, and what it counted."""

    def __init__(
        self,
        pace: Pace,
        *,
        answers: Callable[[int], bool] = lambda _: True,
        room: Callable[[], int] = lambda: 1000,
        lanes: int = 1,
        own_core: bool = False,
        reask: bool = False,
    ) -> None:
        self.time = Time()
        self.latencies = Histogram()
        tally = Tally([QUERY])
        self.lanes = [FakeLane(answers, room) for _ in range(lanes)]
        self.time.lanes = self.lanes
        self.ledgers = [Ledger([0] * 4096, tally, self.latencies) for _ in range(lanes)]
        pairs = list(zip(self.lanes, self.ledgers, strict=True))
        self.drive = Drive(pairs, pace, self.time, self.time, own_core=own_core, reask=reask)

    def __call__(self) -> float:
        return self.drive.run()

    @property
    def answered(self) -> int:
        return sum(ledger.answered for ledger in self.ledgers)

    @property
    def lost(self) -> int:
        return sum(ledger.lost for ledger in self.ledgers)


def test_every_tenth_answer_that_does_not_come_is_a_query_lost() -> None:
    run = Run(OpenPace(100, seconds=1), answers=lambda number: number % 10 != 9)
    run()
    assert (run.drive.sent, run.answered, run.lost) == (100, 90, 10)


def test_waiting_for_what_is_lost_is_no_part_of_the_run() -> None:
    run = Run(OpenPace(4, seconds=1), answers=lambda number: number < 2)
    assert run() == 0.75
    assert run.time.now > 101


@pytest.mark.parametrize("own_core", [False, True])
def test_queries_go_out_when_they_are_due(own_core: bool) -> None:
    run = Run(OpenPace(256, seconds=0.5), own_core=own_core)
    run()
    assert run.lanes[0].sizes == [1] * 128
    assert run.latencies.worst <= 4 * TICK * 1e6


def test_half_a_second_of_standstill_shows_in_every_query_due_meanwhile() -> None:
    run = Run(OpenPace(64, seconds=1), room=lambda: 1000 if run.time.now >= 100.5 else 0)
    run()
    assert run.answered == 64
    slow = sum(count for bound, count in run.latencies.buckets() if bound > 5000)
    assert slow == 32
    assert 500_000 <= run.latencies.worst < 510_000


def test_what_was_due_goes_out_at_once_but_answers_are_read_in_between() -> None:
    run = Run(OpenPace(1024, seconds=1), room=lambda: 1000 if run.time.now >= 100.5 else 0)
    run()
    assert max(run.lanes[0].sizes) == BATCH
    assert run.answered == 1024


def test_a_full_socket_is_not_spun_on_by_a_generator_without_its_own_core() -> None:
    run = Run(OpenPace(1, seconds=1), room=lambda: 1 if run.time.now >= 100.5 else 0)
    run()
    assert len(run.time.naps) < 1000


def test_a_socket_that_never_takes_anything_ends_the_run_after_its_patience() -> None:
    run = Run(OpenPace(10, seconds=1), room=lambda: 0)
    run()
    assert run.drive.sent == 0
    assert 102 <= run.time.now < 102.1


def test_a_closed_loop_keeps_so_many_outstanding() -> None:
    run = Run(ClosedPace(10, seconds=0.125))
    run()
    assert max(run.lanes[0].sizes) == 10
    assert max(run.lanes[0].waiting) == 10
    assert run.answered == run.drive.sent >= 1000


def test_a_closed_loop_goes_on_when_what_it_lost_has_expired() -> None:
    run = Run(ClosedPace(4, seconds=1.5), answers=lambda number: number >= 4)
    run()
    assert run.lost == 4
    assert run.answered > 0


def test_queries_are_spread_over_the_lanes() -> None:
    run = Run(OpenPace(100, seconds=1), lanes=4)
    run()
    assert [lane.asked for lane in run.lanes] == [25] * 4


def test_many_outstanding_are_spread_evenly_from_the_first() -> None:
    run = Run(ClosedPace(12, seconds=0.001), lanes=4)
    run()
    assert [lane.sizes[0] for lane in run.lanes] == [3] * 4


def test_a_lane_that_is_full_leaves_its_share_to_the_others() -> None:
    run = Run(OpenPace(100, seconds=1), lanes=2)
    run.lanes[0].push = lambda first, last: 0  # type: ignore[method-assign] # a full socket
    run()
    assert run.lanes[1].asked == run.answered == 100


def test_a_connection_that_breaks_loses_its_queries_and_is_opened_anew() -> None:
    run = Run(OpenPace(4, seconds=1), answers=lambda number: number > 0)
    run.lanes[0].broken = True
    run()
    assert (run.lost, run.answered) == (1, 3)
    assert run.time.watched == {0: 2}


def test_a_connection_that_breaks_has_its_queries_asked_over_the_next() -> None:
    run = Run(OpenPace(4, seconds=1), answers=lambda number: number > 0, reask=True)
    run.lanes[0].broken = True
    run()
    assert (run.lost, run.answered) == (0, 4)
    assert run.ledgers[0].reasked == 1


def test_a_generator_with_its_own_core_sleeps_only_when_nothing_can_come() -> None:
    spinning = Run(OpenPace(4, seconds=1), answers=lambda number: number != 1, own_core=True)
    spinning()
    assert spinning.time.naps.count(0.0) > 1000
    assert 0.2 < max(spinning.time.naps) < 0.25
