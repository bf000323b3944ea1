"""The overseer and workers that fall silent, die, or cannot be brought to life."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from kdns import workers
from kdns.children import Ties
from kdns.generation import Generation
from kdns.handing import pair
from kdns.messages import Look, frame
from kdns.plan import Written
from kdns.roles import FollowError
from kdns.sockets import Sockets
from kdns.workers import Overseer

WRITTEN = Written(". {\n whoami\n}\n", "Corefile", 53, False, ())
STAGED = cast("Generation", SimpleNamespace(plan=SimpleNamespace(written=WRITTEN), clusters=[]))


class Births:
    """Brings workers to life that never say anything, or fails to."""

    def __init__(self, *failures: OSError) -> None:
        self.failures = list(failures)
        self.far: list[Ties] = []
        self.ended: list[int] = []
        self.born: asyncio.Queue[int] = asyncio.Queue()

    def __call__(self, number: int) -> Ties:
        if self.far and self.failures:
            raise self.failures.pop(0)
        (link, far_link), (hand, far_hand) = socket.socketpair(), pair()
        self.far.append(Ties(far_link, far_hand))
        self.born.put_nowait(number)
        return Ties(link, hand)


@asynccontextmanager
async def overseeing(births: Births) -> AsyncIterator[Overseer]:
    overseer = Overseer(births, births.ended.append, WRITTEN, [Sockets()])
    await overseer.start([])
    assert await births.born.get() == 0
    try:
        yield overseer
    finally:
        overseer.stopping = True
        for ties in births.far:
            ties.close()
        await overseer.stop()


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE", "STAGED_WITHIN", "STOPPED_WITHIN", "FIRST_PAUSE"):
        monkeypatch.setattr(workers, name, 0.0)


async def test_a_worker_that_says_nothing_holds_up_no_metrics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with overseeing(Births()) as overseer:
        assert (await overseer.totals()).blocks == []
    assert "worker 0 has not said what it has counted" in caplog.text


async def test_nor_who_asks_what_and_it_is_asked_again_the_next_time() -> None:
    births = Births()
    async with overseeing(births) as overseer:
        assert [await overseer.asked(), await overseer.asked()] == [[], []]
        loop = asyncio.get_running_loop()
        births.far[0].link.setblocking(False)
        said = await loop.sock_recv(births.far[0].link, 1 << 16)
        assert said.count(frame(Look(0.0))) == 2


async def test_one_that_builds_no_corefile_holds_up_no_other_change_and_is_replaced() -> None:
    births = Births()
    async with overseeing(births) as overseer:
        with pytest.raises(FollowError, match=r"^worker 0 has not built it in 0 s"):
            await overseer.stage(STAGED, [Sockets()])
        overseer.discard()
        assert await births.born.get() == 0
        assert not overseer.lost.is_set()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN])
async def test_where_there_is_no_room_for_another_it_is_tried_again(number: int) -> None:
    births = Births(OSError(number, ""), OSError(number, ""))
    async with overseeing(births) as overseer:
        births.far[0].close()
        assert await births.born.get() == 0
        assert (births.failures, overseer.lost.is_set()) == ([], False)


async def test_where_nobody_brings_them_to_life_any_more_the_server_is_lost() -> None:
    births = Births(BrokenPipeError(errno.EPIPE, ""))
    async with overseeing(births) as overseer:
        births.far[0].close()
        await overseer.lost.wait()


async def test_one_that_does_not_end_when_told_to_does_not_hold_up_the_end() -> None:
    births = Births()
    async with overseeing(births) as overseer:
        await overseer.stop()
        assert births.far[0].link.recv(1 << 16)
        while births.far[0].link.recv(1 << 16):
            continue
