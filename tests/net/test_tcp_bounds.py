"""Nobody can hold much of a TCP listener: octets, connections, time; and who holds most pays."""

import asyncio
import resource
from collections.abc import Callable
from functools import partial

import pytest

from kdns.net import files
from kdns.net.tcp import FEW, HURRIED, LONG, MAX_HELD, MAX_STUCK, MAX_UNTAKEN, Connection
from kdns.testing.clock import ManualClock
from tests.net.test_tcp import Client, Holding, Service, framed, query, same, serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def connections(service: Service) -> list[Connection]:
    return list(service.listener._open)


async def connected(service: Service, count: int) -> list[Client]:
    """Clients, each accepted by now."""
    clients = [await service.connect() for _ in range(count)]
    for client in clients:
        await client.ask(query())
    return clients


async def heard(service: Service, octets: int) -> None:
    """Until the listener holds so many octets of questions."""
    arrived = asyncio.Event()

    def listen(hold: Callable[[int], None], count: int) -> None:
        hold(count)
        if service.listener.held >= octets:
            arrived.set()

    for connection in connections(service):
        setattr(connection, "_hold", partial(listen, connection._hold))  # noqa: B010 - a method
    if service.listener.held < octets:
        await arrived.wait()


async def test_octets_that_never_make_a_question_keep_nothing_open(clock: ManualClock) -> None:
    async with serving(same, clock=clock) as service:
        (client,) = await connected(service, 1)
        for octet in range(9):
            client.writer.write(framed(query())[octet : octet + 1])
            await heard(service, octet + 1)
            clock.advance(1.0)
        clock.advance(1.0)
        assert await client.ended()


async def test_a_question_must_be_whole_in_the_time_for_reading(clock: ManualClock) -> None:
    async with serving(same, clock=clock) as service:
        service.listener.read = 3.0
        client, other = await connected(service, 2)
        client.writer.write(b"\0")
        await heard(service, 1)
        clock.advance(9.0)
        assert await client.ended()
        assert await other.ask(query()) == query()


async def test_replies_must_be_taken_in_the_time_for_writing(clock: ManualClock) -> None:
    async with serving(same, clock=clock) as service:
        service.listener.write = 2.0
        clients = await connected(service, 2)
        clock.advance(5.0)  # its timer runs by the time for writing from now on
        for client in clients:
            await client.ask(query())
        connections(service)[0].pause_writing()
        clock.advance(5.0)
        assert service.listener.connections == 2
        clock.advance(5.0)
        assert await clients[0].ended()


async def test_a_connection_has_so_many_questions_and_then_ends() -> None:
    async with serving(same) as service:
        service.listener.questions = 2
        client = await service.connect()
        client.send(query(1), query(2), query(3))
        assert [await client.receive() for _ in range(2)] == [query(1), query(2)]
        assert await client.ended()
        assert service.listener.received == 2


async def test_its_last_answer_is_waited_for() -> None:
    holding = Holding()
    async with serving(holding) as service:
        service.listener.questions = 1
        client = await service.connect()
        client.send(query())
        (await holding.pending()).resolve(query())
        assert await client.receive() == query()
        assert await client.ended()


async def test_where_it_is_crowded_who_is_idle_goes_before_its_time(clock: ManualClock) -> None:
    async with serving(same, clock=clock, connections=8) as service:
        clients = await connected(service, 7)
        clock.advance(HURRIED)
        await connected(service, 1)
        assert [await client.ended() for client in clients[:2]] == [True, True]
        assert service.listener.connections == 6
        assert service.listener.evicted == 2


async def test_where_it_is_crowded_who_has_just_asked_stays(clock: ManualClock) -> None:
    async with serving(same, clock=clock, connections=8) as service:
        await connected(service, 8)
        assert service.listener.evicted == 0


async def test_long_questions_end_when_all_hold_too_much() -> None:
    async with serving(same) as service:
        short, long = await connected(service, 2)
        short.writer.write(framed(bytes(LONG))[:-1])
        await heard(service, LONG - 1)
        service.listener.held += MAX_HELD
        long.writer.write(framed(bytes(4 * LONG))[:-1])
        assert await long.ended()
        short.writer.write(b"\0")
        assert await short.receive() == bytes(LONG)
        assert service.listener.expelled == 1


async def test_what_a_connection_held_is_free_when_it_ends() -> None:
    async with serving(same) as service:
        (client,) = await connected(service, 1)
        client.writer.write(framed(bytes(100))[:-1])
        await heard(service, 101)
        connections(service)[0].abort()
        assert await client.ended()
        assert service.listener.held == 0


async def test_an_answer_that_comes_after_the_end_holds_nothing() -> None:
    """The octets behind its question are nobody's any more."""
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        client.writer.write(framed(query(), bytes(100))[:-1])
        pending = await holding.pending()
        await heard(service, 101)
        connections(service)[0].abort()
        assert await client.ended()
        pending.resolve(query())
        assert service.listener.held == 0


async def test_of_those_who_take_no_replies_the_one_stuck_longest_goes() -> None:
    async with serving(same, connections=2 * MAX_STUCK) as service:
        clients = await connected(service, MAX_STUCK + 2)
        opened = connections(service)
        opened[0].pause_writing()
        opened[0].resume_writing()
        for connection in opened[1:]:
            connection.pause_writing()
        assert await clients[1].ended()
        assert await clients[0].ask(query()) == query()
        assert service.listener.expelled == 1


async def test_who_takes_no_replies_at_all_is_not_given_any_number() -> None:
    holding = Holding()
    async with serving(holding) as service:
        client = await service.connect()
        count = 60 + MAX_UNTAKEN // 50_000 + 100
        client.send(*[query(number) for number in range(count)])
        for _ in range(count):
            (await holding.pending()).resolve(bytes(50_000))
            if service.listener.expelled:
                break
        assert service.listener.expelled == 1


@pytest.mark.parametrize(("busy", "asked"), [(False, 20), (True, FEW)])
async def test_a_connection_has_a_short_turn_while_others_wait_for_too_long(
    *, busy: bool, asked: int
) -> None:
    async with serving(same) as service:
        service.listener.busy = lambda: busy
        client = await service.connect()
        await client.ask(query())
        (connection,) = connections(service)
        before = service.listener.received
        connection.data_received(framed(*[query(number) for number in range(20)]))
        in_a_turn = service.listener.received - before
        assert [await client.receive() for _ in range(20)] == [query(n) for n in range(20)]
        assert in_a_turn == asked


def test_a_few_files_are_left_for_ourselves() -> None:
    assert files.for_clients(65_536, 4) == (65_536 - files.RESERVED) // 4


def test_where_files_are_few_half_are_for_clients() -> None:
    assert files.for_clients(100, 1) == 50


def test_every_listener_has_some_connections() -> None:
    assert files.for_clients(16, 100) == files.FEWEST


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ((1024, 20_000), (20_000, 20_000)),
        ((1024, 1 << 20), (files.ENOUGH, 1 << 20)),
        ((1024, resource.RLIM_INFINITY), (files.ENOUGH, resource.RLIM_INFINITY)),
        ((20_000, 20_000), None),
        ((1 << 20, 1 << 20), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_as_many_files_are_had_as_may_be(
    monkeypatch: pytest.MonkeyPatch, bounds: tuple[int, int], wanted: tuple[int, int] | None
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: bounds)
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: made.append(limits))
    files.raise_limit()
    assert made == ([wanted] if wanted else [])


def test_where_the_bound_cannot_be_raised_it_is_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert files.raise_limit() == 100
