"""The overseer waits for no worker for ever, and tells a new one all there is, whatever happens."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from kdns import workers
from kdns.children import Ties
from kdns.cluster import model
from kdns.cluster.held import Held, Item, decode, encode
from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.generation import Generation
from kdns.handing import hand_all, pair
from kdns.messages import (
    Adopted,
    Alive,
    Applied,
    Asked,
    Begin,
    Counted,
    Known,
    Message,
    Probed,
    Ready,
    Removed,
    Staged,
    Stop,
    ToOverseer,
    ToWorker,
    frame,
    receive,
    to_overseer,
    to_worker,
)
from kdns.plan import make_plan
from kdns.plugins.block import Counters
from kdns.sockets import Sockets, open_sockets
from kdns.totals import BlockTotal, Totals
from kdns.worker import work
from kdns.workers import MISSES, Overseer

PLAN = make_plan(". {\n whoami\n}", "Corefile", environ={}, port=53)


class Far:
    """The worker's end, which does what the test does, and else nothing: as one that is stopped."""

    def __init__(self, ties: Ties, heard: asyncio.Event) -> None:
        self.heard = heard
        self.ties = ties
        ties.link.setblocking(False)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def read(self) -> ToWorker | None:
        """The next message; None at the end."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=self.ties.link)
        body = await receive(self._streams[0])
        return None if body is None else to_worker(body)

    async def until(self, kind: type[Message]) -> list[ToWorker]:
        """All messages up to one of that kind."""
        found: list[ToWorker] = []
        while (message := await self.read()) is not None:
            found.append(message)
            if isinstance(message, kind):
                return found
        raise AssertionError(f"the link ended before {kind.__name__}")

    async def say(self, message: Message) -> None:
        """Until the overseer has heard it."""
        assert self._streams is not None
        self.heard.clear()
        self._streams[1].write(frame(message))
        await self.heard.wait()

    def die(self) -> None:
        """As a process that is no more."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self.ties.close()


class World:
    """Workers as they are born, and the numbers of those that were ended."""

    def __init__(self) -> None:
        self.born: asyncio.Queue[Far] = asyncio.Queue()
        self.all: list[Far] = []
        self.ended: list[int] = []
        self.heard = asyncio.Event()

    def hear(self, body: bytes) -> ToOverseer:
        self.heard.set()
        message: ToOverseer = to_overseer(body)
        return message

    def spawn(self, _: int) -> Ties:
        link, far_link = socket.socketpair()
        hand, far_hand = pair()
        far = Far(Ties(far_link, far_hand), self.heard)
        self.all.append(far)
        self.born.put_nowait(far)
        return Ties(link, hand)

    def overseer(self, count: int = 1) -> Overseer:
        sockets = [Sockets() for _ in range(count)]
        return Overseer(self.spawn, self.ended.append, PLAN.written, sockets)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    for name in ("PATIENCE", "STOPPED_WITHIN", "FIRST_PAUSE"):
        monkeypatch.setattr(workers, name, 0.0)
    monkeypatch.setattr(workers, "to_overseer", made.hear)
    return made


@asynccontextmanager
async def started(
    world: World, count: int = 1, prepare: Callable[[Overseer], object] = lambda _: None
) -> AsyncIterator[tuple[Overseer, list[Far]]]:
    """An overseer, and its workers, which have been told to begin."""
    overseer = world.overseer(count)
    prepare(overseer)
    starting = asyncio.create_task(overseer.start([0]))
    fars = [await world.born.get() for _ in range(count)]
    for far in fars:
        await far.until(Begin)
    await starting
    try:
        yield overseer, fars
    finally:
        await overseer.stop()
        for far in world.all:
            far.die()


def counted(number: int) -> Counted:
    """Something that a worker has counted, so many times."""
    counters = Counters(panics=number)
    return Counted(Totals([BlockTotal("dns://.:53", ".", counted=True, counters=counters)]))


async def sum_of(overseer: Overseer) -> int:
    totals = await overseer.totals()
    return sum(block.counters.panics for block in totals.blocks)


async def say_count(overseer: Overseer, far: Far, number: int) -> None:
    """Have one worker, of one, be asked what it has counted, and say so."""
    asking = asyncio.create_task(overseer.answering())
    await far.until(Asked)
    await far.say(counted(number))
    await asking


async def look(overseer: Overseer, *lively: Far) -> None:
    """Look so often that who has shown no sign is ended; some show one at each look."""
    for _ in range(MISSES + 1):
        overseer.attend()
        for far in lively:
            await far.until(Probed)
            await far.say(Alive())


def namespace(text: str) -> Item:
    key = ("", text)
    obj = model.Namespace(model.own_label(text, "namespace"))
    return Item(Resource.NAMESPACES, key, obj, encode(key, obj))


def following(overseer: Overseer, texts: list[str]) -> Held:
    """A source of that overseer, with these namespaces."""
    held = Held(lambda _: None)
    held.then = overseer.relay(0, Cluster(lambda: 1.0, lambda _: None), held)
    for text in texts:
        held.put(namespace(text))
    held.sweep(Resource.NAMESPACES, {("", text) for text in texts})
    return held


def many(count: int = 40_000) -> list[str]:
    """So many names that no kernel takes all of them at once."""
    return [f"{number:050}" for number in range(count)]


def known(messages: list[ToWorker]) -> set[str]:
    """What a worker knows that was told this, in this order."""
    names: set[str] = set()
    for message in messages:
        if isinstance(message, Applied):
            names.add(decode(Resource(message.resource), message.body).key[1])
        elif isinstance(message, Removed):
            names.discard(message.key[1])
    return names


def generation() -> Generation:
    """Of a Corefile that asks for no cluster and listens nowhere."""
    return cast("Generation", SimpleNamespace(plan=PLAN, clusters=[], endpoints={}))


# Who is there, and shows no sign of it.


async def test_metrics_do_not_wait_for_a_worker_that_is_stopped(world: World) -> None:
    async with started(world) as (overseer, (far,)):
        await say_count(overseer, far, 7)
        assert await sum_of(overseer) == 7


async def test_who_is_asked_by_many_is_asked_once(world: World) -> None:
    async with started(world) as (overseer, (far,)):
        for _ in range(3):
            await overseer.totals()
        overseer.attend()
        asked = await far.until(Probed)
        assert [type(message) for message in asked] == [Asked, Probed]


async def test_a_worker_that_is_stopped_is_ended_and_replaced(world: World) -> None:
    async with started(world, 2) as (overseer, (lively, _)):
        await look(overseer, lively)
        assert world.ended == [1]
        await (await world.born.get()).until(Begin)


async def test_what_a_worker_counted_that_was_ended_stays_counted(world: World) -> None:
    async with started(world) as (overseer, (far,)):
        await say_count(overseer, far, 7)
        await look(overseer)
        await (await world.born.get()).until(Begin)
        assert await sum_of(overseer) == 7


async def test_a_worker_that_answers_is_kept(world: World) -> None:
    async with started(world) as (overseer, (far,)):
        for _ in range(3):
            await look(overseer, far)
        assert world.ended == []


async def test_a_worker_that_reads_what_waits_is_kept_though_it_is_too_busy_to_answer(
    world: World,
) -> None:
    async with started(world) as (overseer, (far,)):
        held = following(overseer, many())
        for _ in range(4 * MISSES):
            overseer.attend()
            for _ in range(2_000):
                await far.read()
        assert world.ended == []
        assert len(held) == 40_000


async def test_a_worker_that_leaves_unread_what_waits_is_ended(world: World) -> None:
    async with started(world) as (overseer, _):
        following(overseer, many())
        await look(overseer)
        assert world.ended == [0]


async def test_a_new_corefile_does_not_wait_for_a_worker_that_is_stopped(world: World) -> None:
    async with started(world, 2) as (overseer, (lively, _)):
        staging = asyncio.create_task(overseer.stage(generation(), [Sockets(), Sockets()]))
        await lively.until(Staged)
        await lively.say(Ready(""))
        await look(overseer, lively)
        await staging
        adopting = asyncio.create_task(overseer.adopt())
        await lively.until(Adopted)
        await lively.say(Ready(""))
        await adopting
        await (await world.born.get()).until(Begin)


async def test_a_stop_does_not_wait_for_a_worker_that_is_stopped(world: World) -> None:
    async with started(world, 2) as (overseer, _):
        await overseer.stop()
        assert world.ended == [0, 1]


# Who is born, and told all there is.


async def test_a_worker_is_told_a_state_of_any_size_no_faster_than_it_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_BACKLOG", 1 << 20)
    overseer = world.overseer()
    held = following(overseer, many())
    starting = asyncio.create_task(overseer.start([0]))
    far = await world.born.get()
    for _ in held.keys(Resource.NAMESPACES):
        await asyncio.sleep(0)  # It does not read, for as long as telling all of it takes.
    assert known(await far.until(Begin)) == set(many())
    await starting
    await overseer.stop()
    far.die()


async def test_what_happens_while_a_worker_is_told_the_state_is_told_too(world: World) -> None:
    overseer = world.overseer()
    names = many()
    held = following(overseer, names)
    starting = asyncio.create_task(overseer.start([0]))
    far = await world.born.get()
    told = [await far.read(), await far.read()]
    held.remove(Resource.NAMESPACES, ("", names[0]))
    held.remove(Resource.NAMESPACES, ("", names[-1]))
    held.put(namespace("new"))
    told += await far.until(Begin)
    await starting
    assert known([message for message in told if message]) == {*names[1:-1], "new"}
    await overseer.stop()
    far.die()


async def test_what_is_known_whole_is_said_so_once_all_of_it_is_told(world: World) -> None:
    overseer = world.overseer()
    following(overseer, ["shop"])
    starting = asyncio.create_task(overseer.start([0]))
    far = await world.born.get()
    told = await far.until(Begin)
    await starting
    assert [type(message) for message in told] == [Staged, Applied, Known, Begin]
    await overseer.stop()
    far.die()


async def test_a_worker_that_dies_while_it_is_told_the_state_is_replaced(world: World) -> None:
    overseer = world.overseer()
    following(overseer, many())
    starting = asyncio.create_task(overseer.start([0]))
    first = await world.born.get()
    await first.read()
    first.die()
    await starting
    second = await world.born.get()
    assert known(await second.until(Begin)) == set(many())
    await overseer.stop()
    second.die()


async def test_workers_that_die_at_once_are_all_replaced(world: World) -> None:
    async with started(world, 3) as (_, fars):
        for far in fars:
            far.die()
        for _ in fars:
            await (await world.born.get()).until(Begin)


async def test_a_worker_that_is_dead_before_it_is_handed_its_sockets_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    overseer = world.overseer()
    handed: list[int] = []

    def refused(*_: object) -> int:
        handed.append(1)
        if len(handed) == 1:
            raise BrokenPipeError
        return 0

    monkeypatch.setattr(workers, "hand_all", refused)
    starting = asyncio.create_task(overseer.start([]))
    (await world.born.get()).die()
    await starting
    second = await world.born.get()
    await second.until(Begin)
    assert not overseer.lost.is_set()
    await overseer.stop()
    second.die()


async def test_a_new_corefile_is_no_matter_for_a_worker_that_has_just_died(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(world) as (overseer, (far,)):

        def refused(*_: object) -> int:
            far.die()
            raise BrokenPipeError

        with monkeypatch.context() as patched:
            patched.setattr(workers, "hand_all", refused)
            await overseer.stage(generation(), [Sockets()])
        await overseer.adopt()
        await (await world.born.get()).until(Begin)


async def test_a_worker_that_is_asked_for_a_sign_of_life_gives_one() -> None:
    plan = make_plan(". {\n bind 127.0.0.1\n whoami\n}", "Corefile", environ={}, port=0)
    (sockets,) = open_sockets(plan.listeners())
    link, far_link = socket.socketpair()
    hand, far_hand = pair()
    working = asyncio.create_task(work(Ties(far_link, far_hand), Random(1)))
    reader, writer = await asyncio.open_connection(sock=link)
    for message in (Staged(plan.written, hand_all(hand, sockets), []), Probed(), Stop()):
        writer.write(frame(message))
    await working
    said = await receive(reader)
    assert said is not None
    assert isinstance(to_overseer(said), Alive)
    writer.close()
    sockets.close()
    for sock in (hand, far_hand):
        sock.close()
