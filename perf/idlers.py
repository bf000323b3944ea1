"""`python -m perf.idlers`: holds connections open and does nothing with them, but for one.

It reads an IdleSpec as JSON. Once all are open it says so, in a line; when its standard input ends
it says how many still are, and ends. One more connection sends a question, an octet at a time, and
is opened anew whenever the server has closed it.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

EVERY: Final = 0.01
"""Seconds between two octets."""
_NO_WAIT: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class IdleSpec:
    """So many connections to that place. trickle: a framed question that is sent in octets."""

    host: str
    port: int
    connections: int
    trickle: bytes


class Trickle:
    """A connection on which `octets` are sent one by one, again and again."""

    def __init__(self, host: str, port: int, octets: bytes) -> None:
        self._address = (host, port)
        self._octets = octets
        self._at = 0
        self._socket: socket.socket | None = None

    def send(self) -> None:
        """One octet more. A connection that is gone is opened anew next time."""
        try:
            if self._socket is None:
                self._socket = open_one(*self._address)
                self._at = 0
            self._socket.send(self._octets[self._at : self._at + 1])
            self._at = (self._at + 1) % len(self._octets)
        except OSError:
            self.close()

    def close(self) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_one(host: str, port: int) -> socket.socket:
    """A connection that leaves nothing behind when it is closed, as many of them would."""
    sock = socket.create_connection((host, port), timeout=10)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_WAIT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def still_open(socks: Sequence[socket.socket]) -> int:
    """How many the server has not closed."""
    return sum(_is_open(sock) for sock in socks)


def run(spec: IdleSpec, told: int) -> Iterator[int]:
    """How many connections are open: at first, and again when `told`, a descriptor, has an end.

    Raises OSError.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trickle = Trickle(spec.host, spec.port, spec.trickle)
    socks: list[socket.socket] = []
    try:
        while len(socks) < spec.connections:
            socks.append(open_one(spec.host, spec.port))
        yield still_open(socks)
        while not select.select([told], [], [], EVERY)[0]:
            trickle.send()
        yield still_open(socks)
    finally:
        trickle.close()
        for sock in socks:
            sock.close()


def _is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def main() -> int:
    """The process: 2 when connections cannot be had, with the reason on stderr."""
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=IdleSpec)
    try:
        for number in run(spec, sys.stdin.fileno()):
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"perf.idlers: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
