"""TCP: queries pipelined over a connection, many at once out of memory that is laid out once."""

import socket
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from kdns.wire.framing import Splitter
from perf.ring import Ring

_ID: Final = struct.Struct("=H")
_CHUNK: Final = 1 << 18
_SHORTEST: Final = 12
_TIMEOUT: Final = 5.0


class TcpLane:
    """One connection: sends runs of slots, and gives back IDs and bodies of what comes."""

    def __init__(self, host: str, port: int, ring: Ring) -> None:
        self._address = (host, port)
        self._frames = memoryview(ring.frames)
        self._offsets = ring.offsets
        self._owed = memoryview(b"")
        self._splitter = Splitter()
        self._socket = self._connect()

    @property
    def owes(self) -> bool:
        """Whether the rest of a query that was sent in part waits for room."""
        return len(self._owed) > 0

    def fileno(self) -> int:
        """The socket's file descriptor; another one after `reopen`."""
        return self._socket.fileno()

    def push(self, first: int, last: int) -> int:
        """Send slots `first` to `last`; how many of them went, the last of them maybe in part."""
        if self._owed:
            return 0
        start, end = self._offsets[first], self._offsets[last]
        gone = start + self._send(self._frames[start:end])
        if gone == start:
            return 0
        reached = bisect_left(self._offsets, gone, first, last + 1)
        self._owed = self._frames[gone : self._offsets[reached]]
        return reached - first

    def pull(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """IDs and bodies of what has come. Raises ConnectionError when the connection is lost."""
        if self._owed:
            self._owed = self._owed[self._send(self._owed) :]
        try:
            chunk = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return (), ()
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._splitter.feed(chunk)
        return self._split()

    def reopen(self) -> None:
        """Connect anew. Raises OSError."""
        self.close()
        self._owed = memoryview(b"")
        self._splitter = Splitter()
        self._socket = self._connect()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        sock.setblocking(False)
        return sock

    def _send(self, octets: memoryview) -> int:
        try:
            return self._socket.send(octets)
        except (BlockingIOError, InterruptedError, ConnectionError):
            # A lost connection is noticed, and replaced, where it is read.
            return 0

    def _split(self) -> tuple[Sequence[int], Sequence[bytes]]:
        ids: list[int] = []
        bodies: list[bytes] = []
        take = self._splitter.take
        while (message := take()) is not None:
            if len(message) >= _SHORTEST:
                ids.append(_ID.unpack_from(message)[0])
                bodies.append(message[2:])
        return ids, bodies
