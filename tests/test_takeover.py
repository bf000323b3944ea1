"""Handing all sockets to who takes one's place, and refusing who does not."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from kdns.corefile.address import Place
from kdns.handing import hand_all
from kdns.sockets import Sockets, open_sockets
from kdns.takeover import Giver, Taken, TakeoverError, spread, take

HOST = "127.0.0.1"
PLACE = Place(HOST, 0)


@asynccontextmanager
async def giving(path: Path, processes: int = 1) -> AsyncIterator[tuple[Giver, list[Sockets]]]:
    sockets = open_sockets([PLACE], processes)
    http = Sockets()
    http.put(Place(":8080", 0), [socket.create_server((HOST, 0))])
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
        assert taken.http.places() == [Place(":8080", 0)]
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
    path = tmp_path / "none" / "control"
    with pytest.raises(TakeoverError, match=r"control: expected a path in a folder that is there"):
        take(path)
    with pytest.raises(TakeoverError, match=r"control: expected a path in a folder that is there"):
        Giver(path, [], Sockets).open()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text("mine")
    with pytest.raises(TakeoverError, match=r"Corefile: expected a unix socket there, or nothing"):
        take(path)
    with pytest.raises(TakeoverError, match=r"Corefile: expected a unix socket there, or nothing"):
        Giver(path, [], Sockets).open()
    assert path.read_text() == "mine"


# Half of a handing over.


def files_of_ours() -> int:
    return len(os.listdir("/proc/self/fd"))


async def half_handed(
    path: Path, send: Callable[[socket.socket], object]
) -> pytest.ExceptionInfo[TakeoverError]:
    """What comes of a server that offers two processes' sockets, and sends what it likes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen(1)
        taking = asyncio.create_task(asyncio.to_thread(take, path))
        line, _ = await asyncio.to_thread(listening.accept)
        with line:
            line.recv(100)
            line.send(msgspec.msgpack.encode({"processes": [1, 1], "http": 0}))
            send(line)
        with pytest.raises(TakeoverError) as caught:
            await taking
    return caught


def hand_one(line: socket.socket) -> None:
    (sockets,) = open_sockets([PLACE])
    hand_all(line, sockets)
    sockets.close()


def hand_no_socket(line: socket.socket) -> None:
    with open(os.devnull) as file, socket.socket() as sock:
        fds = [file.fileno(), sock.fileno()]
        socket.send_fds(line, [msgspec.msgpack.encode([(PLACE, 2)])], fds)


@pytest.mark.parametrize("send", [hand_one, hand_no_socket])
async def test_what_came_of_half_a_handing_over_is_closed(
    tmp_path: Path, send: Callable[[socket.socket], object]
) -> None:
    before = files_of_ours()
    # While the error lives, so does all that its frames hold.
    caught = await half_handed(tmp_path / "control", send)
    assert (files_of_ours(), "did not hand its sockets over" in str(caught.value)) == (before, True)


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
    return os.fstat(sock.fileno()).st_ino


def test_no_files_for_more_processes_are_an_error_and_all_is_closed() -> None:
    handed = open_sockets([PLACE])
    held = handed[0].at(PLACE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(TakeoverError, match="sockets for 3 processes: Too many open files"):
            spread(handed, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {sock.fileno() for sock in held} == {-1}


def test_what_was_not_taken_over_is_opened() -> None:
    assert [one.places() for one in spread([Sockets()], 2)] == [[], []]
