"""Questions over UDP, one datagram per system call, on any platform and any event loop.

This module is about answers: whom to ask, what is still unanswered, what could not be sent. All
that knows sockets is in `datagrams`.
"""

import asyncio
import socket
from collections import deque
from typing import Final

from kdns.net.asking import Asking
from kdns.net.clock import Clock
from kdns.net.datagrams import Back, DatagramSocket
from kdns.plugins.peer import Answerer
from kdns.plugins.pending import Pending

_BATCH: Final = 64
_UNSENT: Final = 256
_LAST: Final = 64
"""How often it is read at the end; somebody who asks without end must not keep us."""


class UdpListener:
    """Answers what comes to one bound UDP socket, which it takes over.

    `received`, `sent` and `dropped` count datagrams: dropped is every reply the socket did not
    take and every datagram that could not be read. `unanswered` is how many replies are pending.
    """

    def __init__(self, sock: socket.socket, answer: Answerer, *, clock: Clock | None = None):
        self._loop = asyncio.get_running_loop()
        self._clock: Clock = clock or self._loop
        self._socket = DatagramSocket(sock)
        self._asking = Asking(answer)
        self._unsent: deque[tuple[bytes, Back]] = deque()
        self._drained = asyncio.Event()
        self._reading = False
        self._closed = False
        self.received = 0
        self.sent = 0
        self.dropped = 0
        self.unanswered = 0

    @property
    def failures(self) -> int:
        """How many questions made the Answerer raise."""
        return self._asking.failures

    def start(self) -> None:
        """Begin to answer."""
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        self._reading = True

    async def close(self, grace: float = 5.0) -> None:
        """Answer what has come in, wait at most `grace` seconds for pending replies, and close."""
        for _ in range(_LAST):
            before = self.received
            if self._reading:
                self._on_readable()
            if self.received == before:
                break
        self._stop_reading()
        if not self._closed and self._busy:
            timer = self._clock.call_later(grace, self.abort)
            try:
                await self._drained.wait()
            finally:
                timer.cancel()
        self.abort()

    def abort(self) -> None:
        """Close at once; replies that come later are dropped. Twice is harmless."""
        if self._closed:
            return
        self._stop_reading()
        self._closed = True
        if self._unsent:
            self._loop.remove_writer(self._socket.fileno())
            self.dropped += len(self._unsent)
            self._unsent.clear()
        self._socket.close()
        self._tell_drained()

    @property
    def _busy(self) -> bool:
        return self.unanswered > 0 or bool(self._unsent)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _on_readable(self) -> None:
        # An Answerer may close us: from then on there is no socket to read.
        for _ in range(_BATCH):
            if not self._reading:
                return
            try:
                wire, peer, back = self._socket.receive()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error about an earlier reply; the next read is fine
                self.dropped += 1
                return
            self.received += 1
            reply = self._asking(wire, peer)
            if isinstance(reply, Pending):
                self._wait(reply, back)
            elif reply is not None:
                self._send(reply, back)

    def _wait(self, pending: Pending[bytes | None], back: Back) -> None:
        def replied(reply: bytes | None) -> None:
            self.unanswered -= 1
            if reply is not None:
                self._send(reply, back)
            self._tell_drained()

        self.unanswered += 1
        pending.when_done(replied)

    def _send(self, wire: bytes, back: Back) -> None:
        if self._closed:
            self.dropped += 1
        elif self._unsent:
            self._queue(wire, back)
        elif not self._try_send(wire, back):
            self._queue(wire, back)
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _try_send(self, wire: bytes, back: Back) -> bool:
        """Whether the datagram is dealt with; False when the socket is full."""
        try:
            self._socket.send(wire, back)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            # Refused, unreachable, forbidden or too long: this client's loss and nobody else's.
            self.dropped += 1
        else:
            self.sent += 1
        return True

    def _queue(self, wire: bytes, back: Back) -> None:
        if len(self._unsent) >= _UNSENT:
            self.dropped += 1
        else:
            self._unsent.append((wire, back))

    def _on_writable(self) -> None:
        while self._unsent:
            if not self._try_send(*self._unsent[0]):
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._socket.fileno())
        self._tell_drained()

    def _tell_drained(self) -> None:
        if self._closed or not (self._reading or self._busy):
            self._drained.set()
