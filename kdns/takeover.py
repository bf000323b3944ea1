"""One server takes the place of another, and not one question is lost between them.

    new  --hello------------------------------------> old    over a unix socket
    new  <--all listening sockets, of DNS and HTTP--- old    goes on answering
    new  reads its Corefile, learns the cluster
    new  answers; for a moment both do
    new  --answering--------------------------------> old    stops reading, finishes, ends

The sockets are handed over themselves, so what waits in them unread, and connections that nobody
has accepted yet, wait for whoever reads next. Whatever happens to the new one before it answers,
the old one goes on.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from kdns.handing import HandingError, hand_all, take_all
from kdns.sockets import Sockets

log = logging.getLogger("kdns")

PATIENCE: Final = 10.0
"""Seconds in which the other side says what is its turn to say."""
_HELLO: Final = b"kdns takeover 1"
_ANSWERING: Final = b"answering"
_MAX: Final = 4096
_CREDENTIALS: Final = struct.Struct("3i")
_encode = msgspec.msgpack.Encoder().encode


class TakeoverError(Exception):
    """Why another server's place cannot be taken; one line."""


class _Offer(msgspec.Struct, frozen=True):
    """How many places follow: of each process that answers, and of HTTP."""

    processes: list[int]
    http: int


_offer = msgspec.msgpack.Decoder(_Offer)


class Taken:
    """What was handed over by the server before us. Close it, or say that we answer.

    processes: the sockets of each process that answers. http: by address of the Corefile, and 0.
    """

    def __init__(self, line: socket.socket, processes: list[Sockets], http: Sockets) -> None:
        self._line = line
        self.processes = processes
        self.http = http

    def answering(self) -> None:
        """We answer: the other one may go."""
        with suppress(OSError):  # it may have gone already
            self._line.send(_ANSWERING)
        self._line.close()

    def close(self) -> None:
        """Leave all to the other one."""
        self._line.close()
        for sockets in (*self.processes, self.http):
            sockets.close()


def take(path: Path) -> Taken | None:
    """Ask the server at `path` for its sockets; None where there is none. Waits.

    Raises TakeoverError.
    """
    _check(path)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(PATIENCE)
    try:
        line.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    except OSError as error:
        line.close()
        raise TakeoverError(f"{path}: {error.strerror or error}") from error
    taken: list[Sockets] = []
    try:
        line.send(_HELLO)
        offer = _offer.decode(line.recv(_MAX))
        # One by one: what has come is to be closed, whatever becomes of the rest.
        for count in (*offer.processes, offer.http):
            taken.append(take_all(line, count))  # noqa: PERF401 - see above
    except BaseException as error:
        line.close()
        for sockets in taken:
            sockets.close()
        if not isinstance(error, OSError | msgspec.MsgspecError):
            raise
        raise TakeoverError(
            f"{path}: the server there did not hand its sockets over: {error}"
        ) from error
    return Taken(line, taken[:-1], taken[-1])


def _check(path: Path) -> None:
    """Whether a socket is at the path, or may be: whatever else is there is not ours to replace.

    Raises TakeoverError.
    """
    try:
        if not path.parent.is_dir():
            raise TakeoverError(f"{path}: expected a path in a folder that is there")
        if path.exists() and not path.is_socket():
            raise TakeoverError(f"{path}: expected a unix socket there, or nothing")
    except OSError as error:
        raise TakeoverError(f"{path}: {error.strerror or error}") from error


def spread(given: list[Sockets], processes: int) -> list[Sockets]:
    """The same sockets for another number of processes, so that each is read by somebody.

    Fewer processes read several sockets each; of more, some read the same. Raises TakeoverError
    where there are no files for those; then all are closed.
    """
    made = [Sockets() for _ in range(processes)]
    try:
        for number in range(max(len(given), processes)):
            mine, theirs = made[number % processes], given[number % len(given)]
            for place in theirs.places():
                if place not in mine:
                    mine.put(place, [])
                for sock in theirs.at(place):
                    mine.at(place).append(sock.dup() if number >= len(given) else sock)
    except OSError as error:
        for sockets in (*made, *given):
            sockets.close()
        raise TakeoverError(f"sockets for {processes} processes: {error.strerror}") from error
    return made


class Giver:
    """Hands the sockets of this server to who comes to take its place. Make it in a running loop.

    processes: the sockets of each process that answers; http: those of HTTP now, by address and 0.
    `left` is set once somebody else answers.
    """

    def __init__(self, path: Path, processes: list[Sockets], http: Callable[[], Sockets]) -> None:
        self._path = path
        self._processes = processes
        self._http = http
        self._listening: socket.socket | None = None
        self._inode = 0
        self._task: asyncio.Task[None] | None = None
        self.left = asyncio.Event()

    def open(self) -> None:
        """Be there to be asked, in the place of who was there before. Raises TakeoverError."""
        _check(self._path)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.setblocking(False)
        try:
            with suppress(FileNotFoundError):
                beside.unlink()
            listening.bind(str(beside))
            # Who may have our sockets may answer in our place.
            beside.chmod(0o600)
            listening.listen(1)
            self._inode = beside.stat().st_ino
            beside.replace(self._path)
        except OSError as error:
            listening.close()
            with suppress(OSError):
                beside.unlink()
            raise TakeoverError(f"{self._path}: {error.strerror or error}") from error
        self._listening = listening
        self._task = asyncio.create_task(self._give(listening), name="takeover")

    def close(self) -> None:
        """Be there no more."""
        if self._task is not None:
            self._task.cancel()
        if self._listening is not None:
            self._listening.close()
        with suppress(OSError):
            # By now it may be the next one's.
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _give(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while not self.left.is_set():
            line, _ = await loop.sock_accept(listening)
            with line:
                try:
                    await self._give_one(line)
                except (OSError, TimeoutError, HandingError) as error:
                    log.warning("%s: nobody takes over: %s", self._path, error)

    async def _give_one(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        line.setblocking(False)
        pid, uid = _peer(line)
        if uid not in (0, os.geteuid()):
            raise HandingError(f"process {pid} is of another user, {uid}")
        hello = await asyncio.wait_for(loop.sock_recv(line, _MAX), PATIENCE)
        if hello != _HELLO:
            raise HandingError(f"expected {_HELLO.decode()!r}, got {hello[:40]!r}")
        counts = [len(sockets.places()) for sockets in self._processes]
        http = self._http()
        line.send(_encode(_Offer(counts, len(http.places()))))
        for sockets in (*self._processes, http):
            hand_all(line, sockets)
        log.info("process %d has all sockets and is about to take over", pid)
        # However long it takes to learn the cluster: we answer meanwhile.
        said = await loop.sock_recv(line, _MAX)
        if said != _ANSWERING:
            raise HandingError(f"process {pid} has ended before it answered")
        log.info("process %d has taken over", pid)
        self.left.set()


def _peer(line: socket.socket) -> tuple[int, int]:
    """The process at the other end, and its user."""
    data = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid
