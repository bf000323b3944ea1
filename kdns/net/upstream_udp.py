"""Questions to one server over UDP, spread over a pool of connected sockets.

Each socket has a source port the kernel chose at random, and each question an ID chosen at random:
what a forger has to guess (RFC 5452, 9.2). A socket is left for a new one after a while, so that
ports do not stay guessed; it closes when its last question is answered.
"""

import asyncio
import socket
from collections.abc import Callable
from random import Random
from typing import Final

from kdns.net.address import SocketAddress
from kdns.net.clock import Clock
from kdns.net.datagrams import omit_path_mtu
from kdns.net.exchange import Exchange, is_ours, match, no_way, words_of
from kdns.plugins.dice import Dice
from kdns.plugins.upstream import UpstreamError
from kdns.wire.framing import MAX_MESSAGE

_BATCH: Final = 64
_QUESTIONS_PER_PORT: Final = 1024
_SECONDS_PER_PORT: Final = 60.0

Done = Callable[[Exchange, bytes | UpstreamError], None]
"""Told the reply to an exchange, still under the ID it was asked with, or why there is none."""


class UdpPool:
    """The sockets. `ignored` counts datagrams that answered no question of ours."""

    def __init__(
        self,
        family: socket.AddressFamily,
        address: SocketAddress,
        done: Done,
        *,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        clock: Clock,
        size: int,
        source: str = "",
    ) -> None:
        self.source = source
        self.family = family
        self.address = address
        self.done = done
        self.loop = loop
        self.dice = Dice(rng)
        self.clock = clock
        self.ignored = 0
        self.opened = self.reused = 0
        """Questions that had a socket made for them, and that went over one that was there."""
        self._ports: list[_Port | None] = [None] * size
        self._left: set[_Port] = set()

    def send(self, exchange: Exchange) -> None:
        """Ask; `done` is told what came of it, maybe before this returns."""
        slot = self.dice.below(len(self._ports))
        port = self._ports[slot]
        if port is None or port.worn:
            try:
                port = self._renew(slot)
            except OSError as error:
                # A port that was in use for long is better than none.
                old = port or next(filter(None, self._ports), None)
                if old is None or not is_ours(error):
                    self.done(exchange, no_way(error))
                    return
                port = old
                self.reused += 1
            else:
                self.opened += 1
        else:
            self.reused += 1
        port.send(exchange)

    def close(self) -> None:
        """Close every socket; questions still pending are their owner's to fail."""
        for port in (*self._ports, *self._left):
            if port is not None:
                port.close()
        self._ports = [None] * len(self._ports)
        self._left.clear()

    def closed(self, port: "_Port") -> None:
        """For _Port: it is closed."""
        self._left.discard(port)

    def _renew(self, slot: int) -> "_Port":
        fresh = _Port(self)
        old, self._ports[slot] = self._ports[slot], fresh
        if old is not None:
            self._left.add(old)
            old.leave()
        return fresh


class _Port:
    """One connected socket, its questions pending."""

    def __init__(self, pool: UdpPool) -> None:
        self._pool = pool
        self._table: dict[int, Exchange] = {}
        self._asked = 0
        self._born = pool.clock.time()
        self._leaving = False
        self._sock = socket.socket(pool.family, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            omit_path_mtu(self._sock)
            if pool.source:
                self._sock.bind((pool.source, 0))
            self._sock.connect(pool.address)
        except OSError:
            self._sock.close()
            raise
        pool.loop.add_reader(self._sock, self._on_readable)

    @property
    def worn(self) -> bool:
        """Whether its port was in use long enough."""
        age = self._pool.clock.time() - self._born
        return self._asked >= _QUESTIONS_PER_PORT or age >= _SECONDS_PER_PORT

    def send(self, exchange: Exchange) -> None:
        self._asked += 1
        query = exchange.enter(self._table, self._pool.dice.ident(self._table))
        try:
            self._sock.send(query)
        except (BlockingIOError, InterruptedError):
            self._pool.done(exchange, UpstreamError("busy", "the socket takes no more datagrams"))
        except OSError as error:
            self._fail(error)

    def leave(self) -> None:
        """Ask nothing more; close when nothing is pending."""
        self._leaving = True
        self._close_if_left()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._pool.loop.remove_reader(self._sock)
            self._sock.close()
        self._pool.closed(self)

    def _close_if_left(self) -> None:
        if self._leaving and not self._table:
            self.close()

    def _on_readable(self) -> None:
        # All that is there, lest replies fall behind the questions that come in meanwhile; but no
        # look for more where nothing more is owed, which is mostly so.
        for _ in range(_BATCH):
            try:
                reply = self._sock.recv(MAX_MESSAGE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # an ICMP error; the next read is fine
                self._fail(error)
                break
            self._take(reply)
            if not self._table or self._sock.fileno() < 0:  # whoever got the reply closed us
                break
        self._close_if_left()

    def _take(self, reply: bytes) -> None:
        exchange = match(self._table, reply)
        if exchange is None:
            self._pool.ignored += 1
        else:
            self._pool.done(exchange, reply)

    def _fail(self, error: OSError) -> None:
        # ICMP does not say which datagram it is about; they all went to the same closed port.
        for exchange in list(self._table.values()):
            if exchange.table is self._table:
                self._pool.done(exchange, UpstreamError("refused", words_of(error)))
