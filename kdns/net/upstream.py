"""One upstream server: every question in flight is an entry in a bounded table, not a task.

ask --> UdpPool --reply--> TC? --no--> the Pending is resolved, under the asker's own ID
          |                 | yes
          |                 v
          |              TcpPool --reply--^        one timer covers the whole way
          +-- refused, timeout: an UpstreamError is the result
"""

import asyncio
import ssl
from random import Random
from typing import Final

from kdns.net.address import endpoint, socket_address
from kdns.net.clock import Clock
from kdns.net.exchange import HEADER, Exchange, is_truncated, question_of, scrambled
from kdns.net.upstream_cookies import Cookies, Verdict
from kdns.net.upstream_tcp import IDLE, TcpPool
from kdns.net.upstream_udp import UdpPool
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamFailure

_SOCKETS: Final = 16
_PENDING: Final = 4096
_CASE_LOST: Final = 3
"""Replies after which it is clear that an upstream does not keep the letter case."""


class Upstream:
    """Asks the server at `host` (numeric) and `port`; implements UpstreamExchange.

    context: makes all of it go over TLS (RFC 7858); for it and what follows it see TcpPool.
    randomize_case: over UDP, names go out in random letter case, which the reply must have (what is
    called 0x20): one bit more for each letter that a forger has to guess. Where it has not, the
    question is asked over TCP, which is not as easily forged.
    cookies: see upstream_cookies; over UDP too.
    `asked`, `answered` and `failed` count questions; `ignored` counts what came and answered none
    of them. `sockets` is the size of the UDP pool, `limit` bounds the questions pending.
    Raises ValueError when `host` is not an address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        clock: Clock | None = None,
        sockets: int = _SOCKETS,
        limit: int = _PENDING,
        context: ssl.SSLContext | None = None,
        servername: str = "",
        expire: float = IDLE,
        max_age: float = 0.0,
        idle: int = 0,
        source: str = "",
        randomize_case: bool = False,
        cookies: bool = False,
    ) -> None:
        self._rng = rng
        self._randomize = randomize_case
        self.case_lost = 0
        """Replies over UDP whose question had not the letter case that was asked."""
        self._case_kept = False
        family, address = socket_address(host, port)
        self._clock: Clock = clock or loop
        self._name = endpoint(host, port)
        self._cookies = Cookies(rng, self._clock) if cookies and context is None else None
        self._limit = limit
        self._pending: set[Exchange] = set()
        self._udp = UdpPool(
            family,
            address,
            self._udp_done,
            loop=loop,
            rng=rng,
            clock=self._clock,
            size=sockets,
            source=source,
        )
        self._tcp = TcpPool(
            host,
            port,
            self._done,
            loop=loop,
            rng=rng,
            clock=self._clock,
            context=context,
            servername=servername,
            expire=expire,
            max_age=max_age,
            idle=idle,
            source=source,
        )
        self._encrypted = context is not None
        self._closed = False
        self.asked = 0
        self.answered = 0
        self.failed = 0

    @property
    def ignored(self) -> int:
        """Messages from the server that answered no question of ours."""
        return self._udp.ignored + self._tcp.ignored

    def reuse(self) -> list[tuple[str, int, int]]:
        """By transport: questions over what was open already, and those that had it opened."""
        over = "tcp-tls" if self._encrypted else "tcp"
        made = [] if self._encrypted else [("udp", self._udp.reused, self._udp.opened)]
        return [*made, (over, self._tcp.reused, self._tcp.opened)]

    @property
    def unanswered(self) -> int:
        """How many questions are pending."""
        return len(self._pending)

    def ask(self, query: bytes, *, tcp: bool, timeout: float) -> Pending[bytes | UpstreamError]:
        """Part of UpstreamExchange."""
        self.asked += 1
        question = question_of(query)
        if self._randomize and question is not None:
            query = scrambled(query, len(question), self._rng)
        exchange = Exchange(query, question or b"")
        refusal = self._refusal(question)
        if refusal is not None:
            self.failed += 1
            exchange.pending.resolve(refusal)
            return exchange.pending
        self._pending.add(exchange)
        exchange.timer = self._clock.call_later(timeout, lambda: self._overdue(exchange, timeout))
        if tcp or self._encrypted:
            self._tcp.send(exchange)
        else:
            if self._cookies is not None:
                self._cookies.dress(exchange)
            self._udp.send(exchange)
        return exchange.pending

    async def close(self) -> None:
        """Fail what is pending and close every socket; from now on nothing can be asked."""
        self._closed = True
        for exchange in list(self._pending):
            self._finish(exchange, self._error("closed", "closing"))
        self._udp.close()
        await self._tcp.close()

    def _refusal(self, question: bytes | None) -> UpstreamError | None:
        if self._closed:
            return self._error("closed", "closed")
        if question is None:
            return self._error("malformed", "the query is not a message with one question")
        if len(self._pending) >= self._limit:
            return self._error("busy", f"{self._limit} questions are pending already")
        return None

    def _udp_done(self, exchange: Exchange, result: bytes | UpstreamError) -> None:
        if self._cookies is not None and isinstance(result, UpstreamError):
            self._cookies.unsent(exchange)
        elif exchange.cookie and self._cookies is not None and isinstance(result, bytes):
            verdict = self._cookies.judge(exchange, result)
            if verdict is not Verdict.TAKE:
                self._ask_again(exchange, verdict, self._cookies)
                return
        if self._randomize and isinstance(result, bytes) and not self._has_case(exchange, result):
            exchange.leave()
            self._tcp.send(exchange)
        elif isinstance(result, bytes) and is_truncated(result):
            exchange.truncated = result
            exchange.leave()
            self._tcp.send(exchange)
        else:
            self._done(exchange, result)

    def _ask_again(self, exchange: Exchange, verdict: Verdict, cookies: Cookies) -> None:
        exchange.leave()
        exchange.query = exchange.plain
        exchange.cookie = b""
        if verdict is Verdict.ELSEWHERE:
            self._tcp.send(exchange)
            return
        if verdict is Verdict.AGAIN:
            cookies.dress(exchange)
        self._udp.send(exchange)

    def _has_case(self, exchange: Exchange, reply: bytes) -> bool:
        """Whether a reply repeats the question to the letter; who never does is let be."""
        end = HEADER + len(exchange.question)
        if reply[HEADER:end] == exchange.query[HEADER:end] or len(reply) == HEADER:
            self._case_kept = True
            return True
        self.case_lost += 1
        if self.case_lost >= _CASE_LOST and not self._case_kept:
            self._randomize = False
        return False

    def _done(self, exchange: Exchange, result: bytes | UpstreamError) -> None:
        if isinstance(result, UpstreamError):
            result = self._error(result.failure, str(result))
        self._finish(exchange, result)

    def _overdue(self, exchange: Exchange, timeout: float) -> None:
        self._tcp.overdue(exchange)
        if self._cookies is not None:
            self._cookies.overdue(exchange)
        self._finish(exchange, self._error("timeout", f"no reply in {timeout:g} s: i/o timeout"))

    def _finish(self, exchange: Exchange, result: bytes | UpstreamError) -> None:
        if exchange not in self._pending:
            return
        self._pending.remove(exchange)
        exchange.leave()
        if exchange.timer is not None:
            exchange.timer.cancel()
        if isinstance(result, UpstreamError) and exchange.truncated is not None:
            # TCP fails, but half a reply is there, and its TC bit says that it is half of one.
            result = exchange.truncated
        if isinstance(result, UpstreamError):
            self.failed += 1
            exchange.pending.resolve(result)
        else:
            self.answered += 1
            exchange.pending.resolve(exchange.own(result))

    def _error(self, failure: UpstreamFailure, message: str) -> UpstreamError:
        return UpstreamError(failure, f"upstream {self._name}: {message}")
