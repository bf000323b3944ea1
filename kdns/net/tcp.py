"""Questions over TCP: any number on one connection, each answered as soon as its answer is there.

The life of a connection (RFC 7766; over TLS, which is another's business, RFC 7858 too):

    bytes --> Splitter --> at most `pipeline` questions unanswered --> replies, in the order they
      ^                            |                                   come, one write per read
      +---- reading is paused -----+---- or while the client does not take its replies

A connection ends when the client has ended it, or has sent what cannot be DNS, and has its replies;
when for `idle` seconds no whole question came and no reply went; and, idle, when its place is
needed. So octets that never make a question keep nothing open.

What all connections hold together is bounded, and who holds more than most pays for it:

    connections            one more takes the place of the one idle longest; above CROWDED, each
                           new one has two go that were idle for HURRIED seconds (RFC 9210, 4.4)
    unfinished questions   MAX_HELD octets, beyond which a long one ends its connection
    replies not taken      MAX_STUCK connections, the one stuck longest goes, and MAX_UNTAKEN octets
"""

import asyncio
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, cast

from kdns.net.address import numeric_host
from kdns.net.asking import Asking
from kdns.net.clock import Clock, Timer
from kdns.net.tls import HANDSHAKE, Encrypted, Outcome, Refused, Turns
from kdns.plugins.encryption import Certificates
from kdns.plugins.peer import Answerer, Peer
from kdns.plugins.pending import Pending
from kdns.wire.framing import MAX_MESSAGE, Splitter, frame

IDLE: Final = 10.0
MAX_CONNECTIONS: Final = 13_334
"""So many that 10,000 are not crowded yet."""
_HEADER: Final = 12
_BACKLOG: Final = 1024
_TURN: Final = 128
"""Questions asked for one connection before the others have their turn."""
FEW: Final = 8
"""The same, while UDP has to turn questions away, for its turn comes when each had one."""
_WRITE: Final = 65_536
"""Octets of replies collected before they are written."""
_PATIENCE: Final = 30.0
"""Seconds without any progress after which even unanswered questions keep nothing open."""
CROWDED: Final = 0.75
"""Of the connections that there may be."""
HURRIED: Final = 1.0
MAX_HELD: Final = 16 << 20
LONG: Final = 4096
"""Octets of a question that nobody needs more of; see udp's inbox."""
MAX_STUCK: Final = 64
MAX_UNTAKEN: Final = 1 << 20
_LOOKED_AT: Final = 64
"""Connections that are looked at to find one that is idle."""


FAREWELL = 0.2
"""Seconds in which a new connection may still ask when all are to end."""
_TURNS: Final = 4
"""Of the event loop, after which all that had come in at their beginning is read."""


def _never() -> bool:
    return False


class TcpListener:
    """Answers what comes to one listening TCP socket, which it takes over.

    `idle` is in seconds since a connection's last message, either way (RFC 7766, 6.2.3).
    `connections` bounds how many are open: one more takes the place of the one idle longest.
    `pipeline` bounds the unanswered questions of one connection, and `questions` those of its whole
    life, 0 for any number. `read` and `write`, in seconds, are in place of `idle` for a question to
    be whole, and for replies to be taken. With `certificates` clients speak TLS, and have
    `handshake` seconds to begin.

    `received` and `sent` count messages; `dropped` counts replies that nobody was there for, or
    that were too long; `accepted` and `evicted` count connections; `evicted` are those that made
    room for others, and `expelled` those that held too much. `handshakes` are counted by what they
    came to.
    """

    def __init__(
        self,
        sock: socket.socket,
        answer: Answerer,
        *,
        idle: float = IDLE,
        connections: int = MAX_CONNECTIONS,
        pipeline: int = 128,
        clock: Clock | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock: Clock = clock or self._loop
        self.asking = Asking(answer)
        self.idle = idle
        self.pipeline = pipeline
        self.busy: Callable[[], bool] = _never
        """Whether others have to wait for too long."""
        self.read: float | None = None
        self.write: float | None = None
        self.questions = 0
        self.limit = connections
        self.certificates: Certificates | None = None
        self.handshake = HANDSHAKE
        self.handshakes: Counter[Outcome] = Counter()
        self._turns = Turns(self._loop)
        self.held = 0
        """Octets of questions that are not whole."""
        self._stuck: OrderedDict[Connection, None] = OrderedDict()
        self._sock = sock
        self._server: asyncio.Server | None = None
        # In the order of their last activity, the one idle longest first.
        self._open: OrderedDict[Connection, None] = OrderedDict()
        self._emptied = asyncio.Event()
        self._closing = False
        self.received = 0
        self.sent = 0
        self.dropped = 0
        self.accepted = 0
        self.evicted = 0
        self.expelled = 0

    @property
    def failures(self) -> int:
        """How many questions made the Answerer raise."""
        return self.asking.failures

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self) -> None:
        """Begin to accept."""
        self._server = await self._loop.create_server(
            self._connection, sock=self._sock, backlog=_BACKLOG
        )

    def _connection(self) -> asyncio.Protocol:
        if self.certificates is None:
            return Connection(self)
        context = self.certificates.context()
        if context is None:
            return Refused()
        return Encrypted(
            Connection(self, encrypted=True),
            context,
            self.clock,
            self.handshake,
            self._turns,
            self._shook_hands,
        )

    def _shook_hands(self, outcome: Outcome) -> None:
        self.handshakes[outcome] += 1

    async def close(self, grace: float = 5.0) -> None:
        """Accept no more, answer what was asked, for `grace` seconds at most, and close."""
        self._stop_accepting()
        timer = self.clock.call_later(grace, self.abort)
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            self.dismiss()
            if self._open:
                await self._emptied.wait()
        finally:
            timer.cancel()

    def dismiss(self) -> None:
        """Have clients go: each connection ends once what was asked there is answered.

        RFC 7766, section 6.2.1: who still has questions asks them over a new one.
        """
        for connection in list(self._open):
            self._dismiss_one(connection)

    def _dismiss_one(self, connection: "Connection") -> None:
        if connection.fresh:
            # Who has just come is about to ask, and would think that nobody is here.
            self.clock.call_later(FAREWELL, connection.finish)
        else:
            connection.finish()

    def abort(self) -> None:
        """Close everything at once; replies that come later are dropped. Twice is harmless."""
        self._stop_accepting()
        for connection in list(self._open):
            connection.abort()

    def opened(self, connection: "Connection") -> None:
        """For Connection: it was made."""
        self.accepted += 1
        if self._closing:
            self._dismiss_one(connection)
        elif len(self._open) >= self.limit:
            self.evicted += 1
            self._least_needed(connection).abort()
        elif len(self._open) > self.limit * CROWDED:
            self._hurry()
        self._open[connection] = None

    def active(self, connection: "Connection") -> None:
        """For Connection: a message came or went."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def lost(self, connection: "Connection") -> None:
        """For Connection: it is gone."""
        self._open.pop(connection, None)
        self._stuck.pop(connection, None)
        if self._closing and not self._open:
            self._emptied.set()

    def stuck(self, connection: "Connection", *, now: bool) -> None:
        """For Connection: its client does not take its replies, or takes them again."""
        if not now:
            self._stuck.pop(connection, None)
            return
        self._stuck[connection] = None
        if len(self._stuck) > MAX_STUCK:
            self.expel(next(iter(self._stuck)))

    def expel(self, connection: "Connection") -> None:
        """For Connection: end one that holds too much."""
        self.expelled += 1
        self._stuck.pop(connection, None)
        connection.abort()

    def _least_needed(self, newcomer: "Connection") -> "Connection":
        return next(self._idle(), newcomer)

    def _idle(self) -> Iterator["Connection"]:
        """Some that wait for nothing, the one idle longest first."""
        oldest = islice(self._open, _LOOKED_AT)
        return (c for c in oldest if not c.unanswered and not c.ending)

    def _hurry(self) -> None:
        """RFC 7766, section 6.2.3: who is short of resources may close idle ones sooner."""
        before = self.clock.time() - HURRIED
        for connection in [c for c in islice(self._idle(), 2) if c.last <= before]:
            self.evicted += 1
            connection.abort()

    def _stop_accepting(self) -> None:
        self._closing = True
        if self._server is not None:
            self._server.close()
        else:
            self._sock.close()


class Connection(asyncio.Protocol):
    """One client's connection. `unanswered` counts its questions whose reply is pending."""

    def __init__(self, listener: TcpListener, *, encrypted: bool = False) -> None:
        self._listener = listener
        self._encrypted = encrypted
        self._splitter = Splitter()
        self._outbox: list[bytes] = []
        self._outbox_size = 0
        self._asking = False  # inside _ask: replies are collected, not written one by one
        self._turn_over = False  # whole messages wait for the next turn of the loop
        self._full = False  # the client does not take its replies
        self._paused = False
        self._finished = False  # nothing more is read: the client or we have ended it
        self.last = listener.clock.time()
        self._timer: Timer | None = None
        self._loop = asyncio.get_running_loop()
        self._peer = Peer("", 0, "tcp", "")
        self._transport: asyncio.Transport | None = None
        self._held = 0
        self._asked = 0
        self.ending = False
        self.unanswered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        # None when the client is gone already.
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        local = (transport.get_extra_info("sockname") or ("",))[0]
        self._peer = Peer(numeric_host(host), port, "tcp", numeric_host(local), self._encrypted)
        listener = self._listener
        first = min(listener.idle, listener.read or listener.idle)
        self._timer = listener.clock.call_later(first, self._on_timer)
        listener.opened(self)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        if self._finished:
            return
        self._splitter.feed(data)
        self._ask()

    def eof_received(self) -> bool:
        """Part of asyncio.Protocol: the client has no more questions, but waits for its replies."""
        self._finished = True
        self._end_if_done()
        return True

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._full = True
        self._regulate()
        self._listener.stuck(self, now=True)

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._full = False
        self._listener.stuck(self, now=False)
        self._active()
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.ending = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        # What is not asked is asked no more, nor held for answers that come later.
        self._splitter = Splitter()
        self._hold(0)
        self._listener.lost(self)

    @property
    def fresh(self) -> bool:
        """Whether nothing was asked here yet."""
        return not self._asked

    def finish(self) -> None:
        """Read no more, and close once every question read has its reply."""
        self._finished = True
        self._regulate()
        self._end_if_done()

    def abort(self) -> None:
        """Close at once, whatever is pending or unsent."""
        self.ending = True
        if self._transport is not None:
            self._transport.abort()

    def _ask(self) -> None:
        """Ask what is whole and may be asked, and write the replies that are there in one go."""
        if self._asking:
            return
        self._asking = True
        left = FEW if self._listener.busy() else _TURN
        while left and self._may_ask and (message := self._splitter.take()) is not None:
            left -= 1
            self._ask_one(message)
        self._asking = False
        self._flush()
        if not left and self._may_ask and self._splitter.ready and not self._turn_over:
            self._turn_over = True
            self._loop.call_soon(self._next_turn)
        self._hold(len(self._splitter))
        self._regulate()
        self._end_if_done()

    def _hold(self, octets: int) -> None:
        """Account for what is not asked yet; who sends long questions goes when all is full."""
        listener = self._listener
        listener.held += octets - self._held
        self._held = octets
        if octets > LONG and listener.held > MAX_HELD and not self.ending:
            listener.expel(self)

    @property
    def _may_ask(self) -> bool:
        busy = self._full or self.unanswered >= self._listener.pipeline
        return not (self.ending or self._spent or busy)

    @property
    def _spent(self) -> bool:
        return 0 < self._listener.questions <= self._asked

    def _next_turn(self) -> None:
        self._turn_over = False
        self._ask()

    def _ask_one(self, message: bytes) -> None:
        if len(message) < _HEADER:
            # Not even an ID to reply to; and who frames wrongly once is out of step for good. What
            # was asked before that is answered.
            self._splitter = Splitter()
            self._finished = True
            return
        listener = self._listener
        listener.received += 1
        self._asked += 1
        if self._spent:
            self._finished = True
        self._active()
        reply = listener.asking(message, self._peer)
        if isinstance(reply, Pending):
            self.unanswered += 1
            reply.when_done(self._replied)
        elif reply is not None:
            self._put(reply)

    def _replied(self, reply: bytes | None) -> None:
        self.unanswered -= 1
        if reply is not None:
            self._put(reply)
        if not self._asking:
            self._flush()
            self._ask()

    def _put(self, reply: bytes) -> None:
        if self.ending or len(reply) > MAX_MESSAGE:
            self._listener.dropped += 1
            return
        self._listener.sent += 1
        framed = frame(reply)
        self._outbox.append(framed)
        self._outbox_size += len(framed)
        if self._outbox_size >= _WRITE:
            self._flush()

    def _flush(self) -> None:
        transport = self._transport
        if transport is not None and self._outbox and not (self.ending or transport.is_closing()):
            transport.write(b"".join(self._outbox))
            if not self._full:
                self._active()
            elif transport.get_write_buffer_size() > MAX_UNTAKEN:
                self._listener.expel(self)
        self._outbox.clear()
        self._outbox_size = 0

    def _regulate(self) -> None:
        """Read only what can be asked: what is not read, the client's own TCP holds back."""
        pause = self._finished or self._turn_over or not self._may_ask
        if pause == self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _end_if_done(self) -> None:
        more = self._splitter.ready and not self._spent
        if self._finished and not self.ending and not self.unanswered and not more:
            self._end()

    def _end(self) -> None:
        self.ending = True
        if self._transport is not None:
            self._transport.close()  # after what was written has gone

    def _active(self) -> None:
        self.last = self._listener.clock.time()
        self._listener.active(self)

    def _on_timer(self) -> None:
        clock, transport = self._listener.clock, self._transport
        if transport is None:
            return
        listener = self._listener
        left = self.last + self._allowed() - clock.time()
        if left > 0:
            often = min(listener.idle, listener.read or left, listener.write or left)
            self._timer = clock.call_later(min(left, often), self._on_timer)
        elif self.unanswered or transport.get_write_buffer_size():
            self.abort()
        else:
            self._end()

    def _allowed(self) -> float:
        """Seconds that this connection may go on without progress."""
        listener = self._listener
        if self._full:
            return listener.write or listener.idle
        if self.unanswered:
            return max(_PATIENCE, listener.idle)
        begun = self._held > 0 or not self._asked
        return listener.read or listener.idle if begun else listener.idle
