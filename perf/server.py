"""A server under test as a process: started on its cores, asked until it answers, always killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from perf.answers import matches
from perf.model import Query
from perf.subjects import HOST, executable

READY: Final = 120.0
"""Seconds in which a server must have loaded its names."""
_PATIENCE: Final = 5.0
"""Seconds in which a server that was told to end may end by itself."""
_PAUSE: Final = 0.05
_TOLD: Final = 500


class NotServing(Exception):
    """A server ended, or did not answer in time. It says which, and its last words."""


class Server:
    """A process in a session of its own, so that Ctrl-C reaches us first; a context manager.

    cpus: the cores that it and its children may run on. log: where its output goes. folder: where
    it runs, here if it does not matter. told: whether it reads orders from us.
    """

    def __init__(
        self,
        command: Sequence[str],
        cpus: AbstractSet[int],
        log: Path,
        folder: Path | None = None,
        *,
        told: bool = False,
    ) -> None:
        """Start it. Raises OSError."""
        self._log = log
        with log.open("wb") as output, pinned(cpus):
            self._process = subprocess.Popen(
                [executable(command[0]), *command[1:]],
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started; measure its children with it."""
        return self._process.pid

    def tell(self, order: str) -> None:
        """Write a line to its standard input. Raises OSError."""
        assert self._process.stdin is not None, "it was started as one that reads orders"
        self._process.stdin.write(f"{order}\n".encode())
        self._process.stdin.flush()

    def wait_ready(self, port: int, query: Query, seconds: float = READY) -> None:
        """Ask over UDP until the right answer comes. Raises NotServing."""
        end = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PAUSE)
            sock.connect((HOST, port))
            while time.monotonic() < end:
                if self._ended():
                    raise NotServing(f"ended before it answered{self._words()}")
                if _answers(sock, query):
                    return
        raise NotServing(f"no right answer within {seconds:.0f} s{self._words()}")

    def wait_line(self, start: str, seconds: float = READY, *, count: int = 1) -> str:
        """The first line of its output that starts so, or a later one. Raises NotServing."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._ended():
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines(True)
            found = [line for line in lines if line.startswith(start) and line.endswith("\n")]
            if len(found) >= count:
                return found[count - 1].rstrip()
            time.sleep(_PAUSE)
        raise NotServing(f"did not say {start!r}{self._words()}")

    def wait_end(self, seconds: float) -> int:
        """Its exit status, once it has ended by itself. Raises NotServing."""
        end = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() >= end:
                raise NotServing(f"has not ended within {seconds:.0f} s{self._words()}")
            time.sleep(_PAUSE)
        return self._process.wait()

    def wait_lines(self, text: str, count: int, seconds: float) -> None:
        """Until so many lines of its output hold the text. Raises NotServing."""
        end = time.monotonic() + seconds
        while self._log.read_text(encoding="utf-8", errors="replace").count(text) < count:
            if time.monotonic() >= end or self._ended():
                raise NotServing(f"did not say {text!r} {count} times{self._words()}")
            time.sleep(_PAUSE)

    def family(self) -> list[int]:
        """It and the processes under it, as far as they are of its session."""
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(ValueError, OSError):
                if os.getsid(int(folder.name)) == self._process.pid:
                    found.append(int(folder.name))
        return found

    def stop(self) -> None:
        """End it and all that it started; twice is harmless."""
        if self._process.returncode is not None:
            return
        # Not by Popen.terminate, which may wait for it: then its number would be free for others,
        # and so would that of the group.
        os.kill(self._process.pid, signal.SIGTERM)
        end = time.monotonic() + _PATIENCE
        while not self._ended() and time.monotonic() < end:
            time.sleep(_PAUSE)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _ended(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _words(self) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return f": {said[-_TOLD:]}" if said else ""


@contextmanager
def pinned(cpus: AbstractSet[int]) -> Iterator[None]:
    """What this thread starts within the block runs on these cores, from its first instruction."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of HOST that nobody listens on, over UDP and TCP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind((HOST, 0))
            port: int = tcp.getsockname()[1]
            with suppress(OSError):
                udp.bind((HOST, port))
                return port


def _answers(sock: socket.socket, query: Query) -> bool:
    try:
        sock.send(query.wire)
        return matches(query, sock.recv(65535))
    except TimeoutError:
        return False
    except ConnectionError:  # nobody listens there yet
        time.sleep(_PAUSE)
        return False
