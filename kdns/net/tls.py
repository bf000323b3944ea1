"""TLS between a TCP connection and who answers what comes over it: octets in, octets out.

    socket --> Encrypted --incoming--> OpenSSL --> Connection, as if it were plain
           <--           <--outgoing--         <--

For who answers it is the transport, from the moment that the connection is accepted: so what has
not shaken hands yet counts as any connection does, and goes when its place is needed. A handshake
that takes too long, or that is none, ends the connection, and nobody else hears of it.

The event loop's own TLS tells of a connection only after the handshake, and has a buffer of 256 KiB
for each.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal, cast

from kdns.net.clock import Clock, Timer
from kdns.net.files import FEWEST

HANDSHAKE: Final = 5.0
"""Seconds."""
MAX_CONNECTIONS: Final = 4096
ROOM: Final = 50 << 10
"""Octets that one takes while it shakes hands, as measured; afterwards 20 KiB."""
_PART: Final = 4
_READ: Final = 65_536
Outcome = Literal["done", "failed", "late"]
"""What a handshake came to: failed is one that was none, was refused, or was broken off."""


def for_memory(octets: int | None, listeners: int) -> int:
    """Connections that each listener may have, so that all take a quarter of the memory at most.

    octets: that there are; None for any number.
    """
    most = MAX_CONNECTIONS if octets is None else min(MAX_CONNECTIONS, octets // _PART // ROOM)
    return max(FEWEST, most // max(1, listeners))


class Turns:
    """Has things done one after the other, each in a turn of the event loop of its own.

    A handshake takes half a millisecond, or several where the key is RSA's, and questions wait for
    it: so many at once must not make them wait for all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], object]] = deque()

    def __call__(self, act: Callable[[], object]) -> None:
        """Call it when its turn has come."""
        self._waiting.append(act)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        try:
            self._waiting[0]()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._loop.call_soon(self._next)


class Refused(asyncio.Protocol):
    """A connection for which there is no certificate: in the clear nothing is answered either."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        cast("asyncio.Transport", transport).abort()


class Encrypted(asyncio.Transport, asyncio.Protocol):
    """One connection whose clients speak TLS. Make it in a running loop.

    inner: who answers. seconds: for the handshake, whose steps are done when `turn` calls; told:
    what it came to.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        clock: Clock,
        seconds: float,
        turn: Callable[[Callable[[], object]], object],
        told: Callable[[Outcome], object],
    ) -> None:
        super().__init__()
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._clock = clock
        self._seconds = seconds
        self._turn = turn
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._below: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._shaking = True
        self._waiting = False  # for its turn to shake hands
        self._wanted = True  # by who answers: what comes is not held back
        self._taking = False  # inside _take: what is in between is asked for already
        self._last = False  # the client sends no more
        self._ended = False  # who answers knows that
        self._closing = False

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._below = cast("asyncio.Transport", transport)
        self._timer = self._clock.call_later(self._seconds, self._late)
        self._inner.connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._incoming.write(data)
        if self._shaking:
            # What comes meanwhile stays with the client: nobody has asked anything yet.
            self._waiting = True
            self._hold_back()
            self._turn(self._shake)
        else:
            self._take()

    def eof_received(self) -> bool:
        """Part of asyncio.Protocol. Messages are framed: the end may come without close_notify."""
        self._last = True
        self._take()
        return not self._shaking

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._closing = True
        self._below = None
        if self._shaking:
            self._settle("failed")
        self._inner.connection_lost(exc)

    # What who answers wants.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Part of asyncio.Transport: what is known of the connection below."""
        return default if self._below is None else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Part of asyncio.Transport."""
        return self._closing or self._below is None or self._below.is_closing()

    def get_write_buffer_size(self) -> int:
        """Part of asyncio.Transport: octets that the client has not taken yet, encrypted."""
        return 0 if self._below is None else self._below.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Part of asyncio.Transport."""
        self._wanted = False
        self._hold_back()

    def resume_reading(self) -> None:
        """Part of asyncio.Transport."""
        self._wanted = True
        self._let_come()
        # What had come before is here already, and nothing else may come.
        self._loop.call_soon(self._take)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Part of asyncio.Transport."""
        left = memoryview(data)
        try:
            while left and not self.is_closing():
                left = left[self._tls.write(left) :]
        except ssl.SSLError:
            # The client has broken off (an alert), and takes nothing any more.
            self.abort()
            return
        self._flush()

    def close(self) -> None:
        """Part of asyncio.Transport: with a close_notify, at the end (RFC 8446, 6.1)."""
        if self._closing or self._below is None:
            return
        self._closing = True
        if not self._shaking:
            # It waits for the client's own, and we do not: there is nothing more to read.
            with suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """Part of asyncio.Transport."""
        self._closing = True
        if self._below is not None:
            self._below.abort()

    # What is in between.

    def _hold_back(self) -> None:
        # An event loop may refuse either of what is about to close.
        if self._below is not None and not self._below.is_closing():
            self._below.pause_reading()

    def _let_come(self) -> None:
        if self._below is not None and not (self._waiting or self.is_closing()) and self._wanted:
            self._below.resume_reading()

    def _shake(self) -> None:
        self._waiting = False
        self._take()
        self._let_come()

    def _take(self) -> None:
        """Take in what has come, as far as it is whole and wanted."""
        if self._taking or self._closing or self._waiting:
            return
        self._taking = True
        try:
            if self._shaking:
                self._tls.do_handshake()
                self._settle("done")
            while self._wanted and not self._closing:
                data = self._tls.read(_READ)
                if not data:
                    self._last = True
                    raise ssl.SSLWantReadError
                self._inner.data_received(data)
        except ssl.SSLWantReadError:
            self._end_if_last()
        except ssl.SSLError:
            self._fail()
        finally:
            self._taking = False
        self._flush()

    def _end_if_last(self) -> None:
        if self._last and not self._ended and not self._shaking:
            self._ended = True
            self._inner.eof_received()

    def _fail(self) -> None:
        """What came is no TLS, or not what we take: the alert says so, and that was it."""
        if self._shaking:
            self._settle("failed")
        self._closing = True
        self._flush()
        if self._below is not None:
            self._below.close()

    def _settle(self, outcome: Outcome) -> None:
        self._shaking = False
        if self._timer is not None:
            self._timer.cancel()
        self._told(outcome)

    def _late(self) -> None:
        self._settle("late")
        self.abort()

    def _flush(self) -> None:
        if self._below is not None and self._outgoing.pending and not self._below.is_closing():
            self._below.write(self._outgoing.read())
