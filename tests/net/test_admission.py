"""Who is let in when a socket is asked for more than it can do; time and socket are the test's."""

from collections.abc import Mapping, Sequence

import pytest

from kdns.net.admission import (
    CALM,
    FIRST,
    LEAST,
    LEAST_KEPT,
    QUIET,
    STANDING,
    TICK,
    Admission,
)
from kdns.testing.clock import ManualClock

OURS = b"\7cluster\5local\0"
HEADER = bytes(10)
CLIENT = bytes([10, 0, 0, 1])


def key(name: bytes) -> bytes:
    """A query after its ID."""
    return HEADER + name + b"\0\1\0\1"


OUTSIDE = key(b"\3www\7example\0")


class Socket:
    """A gate that says what the test wants, and remembers what it was told."""

    def __init__(self) -> None:
        self.read = 0
        self.queued = 0
        self.most = 100_000
        self.lost = 0
        self.sifts = True
        self.zones: tuple[bytes, ...] = ()
        self.kept: list[float] = []
        self.asking: list[bytes] = []
        self.held_back: list[dict[bytes, float]] = []
        self.held: list[int | None] = []

    def passed(self) -> int:
        return self.read

    def waiting(self) -> int:
        return self.queued

    def room(self) -> int:
        return self.most

    def missed(self) -> int:
        return self.lost

    def clients(self) -> list[bytes]:
        return self.asking

    def thin(self, zones: Sequence[bytes], keep: float, clients: Mapping[bytes, float]) -> bool:
        self.zones = tuple(zones)
        self.kept.append(keep)
        self.held_back.append(dict(clients))
        return self.sifts

    def hold(self, datagrams: int | None) -> None:
        self.held.append(datagrams)


class World:
    """A socket that reads 100 datagrams in a tick when it is busy, with 10,000 in its queue."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.socket = Socket()
        self.admission = Admission(self.socket, self.clock)
        self.admission.ours([OURS])

    def busy(self, seconds: float, *, lost: int = 0) -> None:
        for _ in range(round(seconds / TICK)):
            self.socket.queued = 10_000
            self.admission.full()
            self.socket.read += 100
            self.socket.lost += lost
            self.clock.advance(TICK)
        self.admission.full()

    def idle(self, ticks: int, *, lost: int = 0, asking: int = 0) -> None:
        for _ in range(ticks):
            self.socket.queued = 0
            self.admission.emptied = True
            self.socket.lost += lost
            self.ask(asking)
            self.clock.advance(TICK)

    def ask(self, times: int, client: bytes = CLIENT) -> int:
        return sum(self.admission.admits(OUTSIDE, client) for _ in range(times))


@pytest.fixture
def world() -> World:
    world = World()
    world.busy(STANDING)
    world.clock.advance(TICK / 100)
    world.admission.full()
    assert world.admission.shedding
    return world


def test_a_burst_that_ends_turns_nobody_away() -> None:
    world = World()
    world.busy(STANDING - TICK)
    world.idle(1)
    world.busy(STANDING - TICK)
    assert not world.admission.shedding


def test_a_short_queue_that_never_empties_turns_nobody_away() -> None:
    world = World()
    for _ in range(10):
        world.admission.full()
        world.socket.read += 100
        world.socket.queued = 50
        world.clock.advance(TICK)
    assert not world.admission.shedding


@pytest.mark.parametrize(("queued", "begins"), [(30, False), (50, True)])
def test_a_queue_is_long_that_fills_the_room_there_is(queued: int, begins: bool) -> None:
    """It would be read in less than LONG, and with room for no more it would never take longer."""
    world = World()
    world.socket.most = 80
    for _ in range(10):
        world.admission.full()
        world.socket.read += 100
        world.socket.queued = queued
        world.clock.advance(TICK)
    assert world.admission.shedding is begins


def test_where_nobody_knows_the_room_time_alone_says_what_is_long() -> None:
    world = World()
    world.socket.most = 0
    world.busy(STANDING)
    world.clock.advance(TICK / 100)
    world.admission.full()
    assert world.admission.shedding


def test_while_the_queue_is_full_the_budget_shrinks_however_fast_it_is_read(world: World) -> None:
    world.socket.most = world.socket.queued = 512
    for _ in range(10):
        world.socket.read += 1000
        world.socket.lost += 500
        world.clock.advance(TICK)
    assert world.admission.budget == LEAST


def test_what_is_ours_is_let_in_whatever_happens(world: World) -> None:
    world.ask(1000)
    assert world.admission.admits(key(b"\3Www\7Cluster\5Local\0"), CLIENT)


def test_of_a_zone_whose_unknown_names_are_passed_on_only_the_known_are_ours(world: World) -> None:
    known = key(b"\3www\7Cluster\5local\0")
    world.admission.ours([OURS], [(OURS, lambda qname: qname == b"\3www" + OURS)])
    unknown = sum(
        world.admission.admits(key(b"\5%05d" % number + OURS), CLIENT) for number in range(1000)
    )
    assert (unknown, world.admission.admits(known, CLIENT)) == (FIRST, True)


def test_new_outside_names_have_a_budget(world: World) -> None:
    assert world.ask(1000) == FIRST


def test_everything_is_ours_until_it_is_said_what_is() -> None:
    admission = Admission(Socket(), ManualClock())
    assert admission.admits(OUTSIDE, CLIENT)


def test_what_is_turned_away_is_counted(world: World) -> None:
    world.ask(FIRST + 10)
    assert world.admission.outside == 10


def test_the_budget_shrinks_to_the_least_while_there_is_too_much(world: World) -> None:
    world.busy(10.0)
    assert world.admission.budget == LEAST


def test_far_too_much_takes_two_steps_only(world: World) -> None:
    world.busy(2 * TICK, lost=1000)
    assert world.admission.budget == LEAST


def test_the_kernel_sifts_once_the_budget_is_the_least(world: World) -> None:
    world.busy(10.0)
    assert world.socket.kept[-1] == world.admission.keep == LEAST_KEPT


def test_the_kernel_is_told_of_zones_that_come_while_it_sifts(world: World) -> None:
    world.busy(10.0)
    assert list(world.socket.zones) == [OURS]
    world.admission.ours([OURS, b"\3new\0"])
    assert list(world.socket.zones) == [OURS, b"\3new\0"]
    assert world.socket.kept[-1] == LEAST_KEPT


def test_where_the_kernel_cannot_sift_the_budget_is_all(world: World) -> None:
    world.socket.sifts = False
    world.busy(10.0)
    assert world.admission.keep == 1


def test_the_budget_grows_while_there_is_time_and_somebody_is_turned_away(world: World) -> None:
    world.idle(10, asking=1000)
    assert world.admission.budget > 2 * FIRST


def test_the_sieve_opens_by_steps_while_the_flood_goes_on(world: World) -> None:
    world.busy(10.0)
    world.idle(1, lost=1000)
    assert world.admission.keep == 1.5 * LEAST_KEPT


def test_the_sieve_opens_at_once_when_the_flood_is_over(world: World) -> None:
    world.busy(10.0)
    world.idle(1)
    assert world.admission.keep == 1


def test_it_ends_when_nobody_was_turned_away_for_long_enough(world: World) -> None:
    world.idle(CALM)
    assert not world.admission.shedding
    assert world.clock.waiting == 0


def test_the_queue_is_held_short_and_then_let_go(world: World) -> None:
    world.busy(1.0)
    world.idle(CALM + 1)
    assert world.socket.held[0] == 512
    assert world.socket.held[-1] is None


def test_the_queue_has_room_for_what_is_read_in_a_quarter_of_a_second() -> None:
    world = World()
    for _ in range(3):
        world.admission.full()
        world.socket.queued = 100_000
        world.socket.read += 5_000
        world.clock.advance(TICK)
    world.admission.full()
    assert world.socket.held[0] == pytest.approx(12_500, abs=2)


def test_the_queue_has_room_for_more_as_soon_as_more_is_read(world: World) -> None:
    """Also while it is short: it may be so for want of room."""
    world.socket.queued = 0
    for _ in range(40):
        world.ask(1000)
        world.socket.read += 5_000
        world.clock.advance(TICK)
        world.admission.full()
    assert world.socket.held[-1] == pytest.approx(12_500, rel=0.01)


def test_a_pause_in_a_flood_is_not_taken_for_slowness() -> None:
    world = World()
    for pause in (0, 5, 0):
        world.socket.queued = 0
        world.clock.advance(pause * TICK)
        for _ in range(1 if pause else 10):
            world.admission.full()
            world.socket.queued = 100_000
            world.socket.read += 5_000
            world.clock.advance(TICK)
        assert world.socket.held[-1] == pytest.approx(12_500, rel=0.02)


def test_a_greedy_client_leaves_the_others_their_share(world: World) -> None:
    others = [bytes([10, 0, 1, number]) for number in range(7)]
    for client in (CLIENT, *others):
        world.admission.admits(OUTSIDE, client)
    world.clock.advance(TICK)
    taken = world.ask(1000)
    assert taken < FIRST / 4
    assert all(world.ask(1, client) for client in others)
    assert world.admission.greedy == 1000 - taken


def test_a_client_alone_has_all_of_the_budget(world: World) -> None:
    world.ask(1)
    world.socket.queued = 0
    world.clock.advance(TICK)
    assert world.ask(1000) == world.admission.budget


def test_it_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for _ in range(3):
        world.busy(2 * STANDING)
        world.idle(CALM + 1)
    assert len(caplog.records) == 1
    world.clock.advance(QUIET)
    world.busy(2 * STANDING)
    assert len(caplog.records) == 2


def test_closed_it_turns_nobody_away(world: World) -> None:
    world.admission.close()
    assert not world.admission.shedding
    assert world.clock.waiting == 0


def test_closed_it_leaves_the_socket_as_it_was_for_another_process_may_have_it(
    world: World,
) -> None:
    world.busy(10.0)
    world.admission.close()
    socket = world.socket
    assert (socket.kept[-1], socket.held_back[-1], socket.held[-1]) == (1.0, {}, None)


GREEDY = bytes([10, 0, 9, 9])


def test_where_names_of_ours_are_too_much_the_greedy_client_is_held_back(world: World) -> None:
    world.socket.asking = [GREEDY] * 60 + [CLIENT] * 4
    world.busy(10.0)
    assert set(world.socket.held_back[-1]) == {GREEDY}
    assert world.socket.held_back[-1][GREEDY] < 0.1


def test_nobody_is_held_back_before_all_else_was_tried(world: World) -> None:
    world.socket.asking = [GREEDY] * 60 + [CLIENT] * 4
    world.busy(10.0)
    first = next(n for n, held in enumerate(world.socket.held_back) if held)
    assert world.socket.kept[first] == LEAST_KEPT


def test_it_is_let_in_again_first(world: World) -> None:
    world.socket.asking = [GREEDY] * 60 + [CLIENT] * 4
    world.busy(10.0)
    world.idle(1)
    assert (world.socket.held_back[-1], world.admission.keep) == ({}, LEAST_KEPT)


def test_while_the_queue_becomes_shorter_nobody_is_held_back_more(world: World) -> None:
    world.socket.asking = [GREEDY] * 60 + [CLIENT] * 4
    world.busy(3.0)
    held_back = dict(world.admission.clients.kept)
    assert held_back
    for queued in (9_000, 8_000, 7_000):
        world.socket.queued = queued
        world.socket.read += 100
        world.clock.advance(TICK)
    assert world.admission.clients.kept == held_back
