"""Questions to one server over TCP or TLS: few connections, kept open, pipelined (RFC 7766, 6.2).

A server may close an idle connection just when it is asked again: what was pending on a connection
that is lost goes once more, over a fresh one.
"""

import asyncio
import ssl
from random import Random
from typing import Final, cast

from kdns.net.clock import Clock, Timer
from kdns.net.exchange import HEADER, Exchange, match, no_way, words_of
from kdns.net.upstream_udp import Done
from kdns.plugins.dice import Dice
from kdns.plugins.upstream import UpstreamError
from kdns.wire.framing import Splitter, frame

_CHANNELS: Final = 8
_CROWDED: Final = 64
"""Questions pending on a connection from which on another is opened."""
IDLE: Final = 10.0


class TcpPool:
    """The connections. `ignored` counts messages that answered no question of ours.

    context: speaks TLS, and believes a certificate for `servername` (RFC 7858, RFC 8310).
    expire, max_age: seconds that an idle connection, and any connection, is kept; 0 of max_age is
    for ever. idle: how many idle ones may be kept; 0 for all. source: the address to ask from.
    """

    def __init__(
        self,
        host: str,
        port: int,
        done: Done,
        *,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        clock: Clock,
        context: ssl.SSLContext | None = None,
        servername: str = "",
        expire: float = IDLE,
        max_age: float = 0.0,
        idle: int = 0,
        source: str = "",
    ) -> None:
        self.context = context
        self.servername = servername or host
        self.expire = expire
        self.max_age = max_age
        self.idle = idle
        self.source = source
        self.opened = self.reused = 0
        """Questions that had a connection made for them, and that went over one that was there."""
        self.host = host
        self.port = port
        self.done = done
        self.loop = loop
        self.dice = Dice(rng)
        self.clock = clock
        self.ignored = 0
        # Those that take questions, and all that are not gone yet.
        self._usable: list[_Channel] = []
        self._alive: set[_Channel] = set()
        self._closing = False
        self._gone = asyncio.Event()

    def send(self, exchange: Exchange) -> None:
        """Ask; `done` is told what came of it."""
        channel = min(self._usable, key=lambda c: len(c.table), default=None)
        full = len(self._usable) >= _CHANNELS
        if channel is None or (len(channel.table) >= _CROWDED and not full):
            channel = self._open()
            self.opened += 1
        else:
            self.reused += 1
        channel.send(exchange)

    def is_surplus(self) -> bool:
        """Whether more connections idle than may."""
        return 0 < self.idle < sum(not channel.table for channel in self._usable)

    def overdue(self, exchange: Exchange) -> None:
        """`exchange` got no reply in time: its connection, maybe dead, gets no more questions."""
        table = exchange.table
        exchange.leave()
        for channel in list(self._usable):
            if channel.table is table:
                channel.retire()

    async def close(self) -> None:
        """Close every connection; questions still pending are their owner's to fail."""
        self._closing = True
        for channel in list(self._alive):
            channel.abort()
        if self._alive:
            await self._gone.wait()

    def unusable(self, channel: "_Channel") -> None:
        """For _Channel: it takes no more questions."""
        if channel in self._usable:
            self._usable.remove(channel)

    def gone(self, channel: "_Channel") -> None:
        """For _Channel: nothing is left of it."""
        self.unusable(channel)
        self._alive.discard(channel)
        if self._closing and not self._alive:
            self._gone.set()

    def fail(self, exchanges: list[Exchange], error: UpstreamError, *, again: bool) -> None:
        """For _Channel: what was pending when it ended; `again` if it had been connected."""
        retries = [e for e in exchanges if again and not e.retried]
        fresh = self._open() if retries else None
        for exchange in exchanges:
            if exchange.table is None:  # who got another's result ended this one
                continue
            if exchange.retried or fresh is None:
                self.done(exchange, error)
            else:
                exchange.retried = True
                exchange.leave()
                fresh.send(exchange)

    def _open(self) -> "_Channel":
        channel = _Channel(self)
        self._usable.append(channel)
        self._alive.add(channel)
        channel.connect()
        return channel


class _Channel(asyncio.Protocol):
    """One connection: being made (questions wait in its table), made, or given up."""

    def __init__(self, pool: TcpPool) -> None:
        self._pool = pool
        self._splitter = Splitter()
        self._waiting: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._idle_since = 0.0
        self._born = 0.0
        self._retired = False
        self._aborted = False
        self._over = False
        self.table: dict[int, Exchange] = {}

    def connect(self) -> None:
        """Begin to connect: one task per connection, none per question."""
        self._task = self._pool.loop.create_task(
            self._connect(), name=f"connect to upstream {self._pool.host}"
        )
        self._task.add_done_callback(self._tried)

    def send(self, exchange: Exchange) -> None:
        query = frame(exchange.enter(self.table, self._pool.dice.ident(self.table)))
        if self._transport is None:
            self._waiting.append(query)
        else:
            self._transport.write(query)

    def retire(self) -> None:
        """Take no more questions; close when nothing is pending."""
        self._retired = True
        self._pool.unusable(self)
        self._close_if_left()

    def abort(self) -> None:
        """Close at once, without another try for what is pending."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()
        elif self._task is not None:
            self._task.cancel()

    async def _connect(self) -> None:
        pool = self._pool
        await pool.loop.create_connection(
            lambda: self,
            pool.host,
            pool.port,
            ssl=pool.context,
            server_hostname=pool.servername if pool.context is not None else None,
            local_addr=(pool.source, 0) if pool.source else None,
        )

    def _tried(self, task: "asyncio.Task[None]") -> None:
        # Not in the task itself: one that is cancelled before its first step runs nothing at all.
        if task.cancelled():
            self._ended(UpstreamError("closed", "closing"), again=False)
        elif (error := task.exception()) is not None:
            self._ended(no_way(error), again=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        if self._aborted:
            self._transport.abort()
            return
        self._transport.write(b"".join(self._waiting))
        self._waiting.clear()
        self._born = self._idle_since = self._pool.clock.time()
        self._watch(self._pool.expire)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        self._splitter.feed(data)
        while (reply := self._splitter.take()) is not None:
            if len(reply) < HEADER and self._transport is not None:
                self._transport.abort()  # out of step: nothing after this can be believed
                return
            self._take(reply)
        self._idle_since = self._pool.clock.time()
        if not self.table and self._pool.is_surplus():
            self._retired = True
            self._pool.unusable(self)
        self._close_if_left()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._ended(
            UpstreamError("lost", words_of(exc) if exc else "connection closed"), again=True
        )

    def _take(self, reply: bytes) -> None:
        exchange = match(self.table, reply)
        if exchange is None:
            self._pool.ignored += 1
        else:
            self._pool.done(exchange, reply)

    def _ended(self, error: UpstreamError, *, again: bool) -> None:
        if self._over:
            return
        self._over = True
        self._transport = None
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._pool.unusable(self)
        self._pool.fail(list(self.table.values()), error, again=again and not self._aborted)
        self._pool.gone(self)

    def _close_if_left(self) -> None:
        if not self._retired or self.table:
            return
        if self._transport is not None:
            self._transport.close()
        else:
            self.abort()

    def _watch(self, delay: float) -> None:
        pool = self._pool
        if pool.max_age:
            delay = min(delay, self._born + pool.max_age - pool.clock.time())
        self._timer = self._pool.clock.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        now, pool = self._pool.clock.time(), self._pool
        if pool.max_age and now >= self._born + pool.max_age:
            self.retire()
            return
        left = self._idle_since + pool.expire - now
        if self.table:
            self._watch(self._pool.expire)
        elif left > 0 and not self._retired:
            self._watch(left)
        elif self._transport is not None:
            pool.unusable(self)
            self._transport.close()
