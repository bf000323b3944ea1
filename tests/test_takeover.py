"""Handing all sockets to who takes one's place, and refusing who does not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kdns.sockets import Sockets, open_sockets
from kdns.takeover import Giver, Taken, TakeoverError, spread, take

HOST = "127.0.0.1"
PLACE = (HOST, 0)


@asynccontextmanager
async def giving(path: Path, processes: int = 1) -> AsyncIterator[tuple[Giver, list[Sockets]]]:
    sockets = open_sockets([PLACE], processes)
    http = Sockets()
    http.put((":8080", 0), [socket.create_server((HOST, 0))])
    giver = Giver(path, sockets, lambda: http)
    giver.open()
    try:
        yield giver, sockets
    finally:
        giver.close()
        for one in (*sockets, http):
            one.close()


async def taken_at(path: Path) -> Taken:
    taken = await asyncio.to_thread(take, path)
    assert taken is not None
    return taken


async def test_all_sockets_are_handed_over(tmp_path: Path) -> None:
    async with giving(tmp_path / "control", 2) as (_, sockets):
        taken = await taken_at(tmp_path / "control")
        assert [one.ports() for one in taken.processes] == [one.ports() for one in sockets]
        assert taken.http.places() == [(":8080", 0)]
        taken.close()


async def test_who_answers_has_the_other_go(tmp_path: Path) -> None:
    async with giving(tmp_path / "control") as (giver, _):
        taken = await taken_at(tmp_path / "control")
        assert not giver.left.is_set()
        taken.answering()
        await giver.left.wait()
        taken.close()


async def test_who_ends_before_it_answers_may_be_followed_by_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with giving(tmp_path / "control") as (giver, _):
        (await taken_at(tmp_path / "control")).close()
        taken = await taken_at(tmp_path / "control")
        assert not giver.left.is_set()
        assert "has ended before it answered" in caplog.text
        taken.close()


async def test_who_says_something_else_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with giving(tmp_path / "control"):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.setblocking(False)
            line.connect(str(tmp_path / "control"))
            line.send(b"GET / HTTP/1.0")
            assert await loop.sock_recv(line, 100) == b""
    assert "expected 'kdns takeover 1', got b'GET / HTTP/1.0'" in caplog.text


def test_where_nobody_is_there_is_nothing_to_take(tmp_path: Path) -> None:
    assert take(tmp_path / "control") is None


def test_a_socket_that_nobody_listens_at_any_more_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left_over:
        left_over.bind(str(tmp_path / "control"))
    assert take(tmp_path / "control") is None


def test_another_kind_of_socket_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "control"))
        other.listen()
        with pytest.raises(TakeoverError, match=r"control: Protocol wrong type for socket"):
            take(tmp_path / "control")


async def test_the_place_is_only_for_its_user(tmp_path: Path) -> None:
    async with giving(tmp_path / "control"):
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600


async def test_the_next_one_has_the_place_and_it_stays_when_the_first_goes(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with giving(path):
        async with giving(path):
            pass
        assert not path.exists()
        async with giving(path) as (later, _):
            first = Giver(path, [], Sockets)
            first.close()
            assert path.exists()
            taken = await taken_at(path)
            taken.answering()
            await later.left.wait()
            taken.close()


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TakeoverError, match=r"control: No such file or directory"):
        Giver(tmp_path / "none" / "control", [], Sockets).open()


# Another number of processes.


@pytest.mark.parametrize(("given", "wanted"), [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2)])
def test_every_socket_is_read_by_somebody_and_everybody_reads(given: int, wanted: int) -> None:
    handed = open_sockets([PLACE], given)
    all_of_them = {inode(sock) for one in handed for sock in one.at(PLACE)}
    made = spread(handed, wanted)
    read = [{inode(sock) for sock in one.at(PLACE)} for one in made]
    assert set().union(*read) == all_of_them
    assert all(read)
    for one in made:
        one.close()


def inode(sock: socket.socket) -> int:
    """What is the same for the same socket under another descriptor."""
    import os

    return os.fstat(sock.fileno()).st_ino


def test_what_was_not_taken_over_is_opened() -> None:
    assert [one.places() for one in spread([Sockets()], 2)] == [[], []]
