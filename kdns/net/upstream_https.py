"""Questions to one server over HTTPS (RFC 8484): each a request of its own, on shared connections.

HTTP is aiohttp's business, so a question here is a task. The number of them is bounded.
"""

import asyncio
import ssl
from base64 import urlsafe_b64encode
from typing import Final, Literal

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    TCPConnector,
    TraceConfig,
)

from kdns.net.exchange import question_of
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamFailure
from kdns.wire.framing import MAX_MESSAGE

_MEDIA_TYPE: Final = "application/dns-message"
_PENDING: Final = 1024
_CONNECTIONS: Final = 8
_ID: Final = 2


class HttpsUpstream:
    """Asks the server behind `url`; implements UpstreamExchange. Make it in a running loop.

    context: whose certificates to believe, for the name in the URL. The counters are Upstream's.
    """

    def __init__(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        context: ssl.SSLContext,
        expire: float = 10.0,
        source: str = "",
        limit: int = _PENDING,
    ) -> None:
        self._url = url
        self._method = method
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._reused = self._opened = 0
        trace = TraceConfig()
        trace.on_connection_reuseconn.append(self._on_reuse)
        trace.on_connection_create_end.append(self._on_open)
        self._session = ClientSession(
            trace_configs=[trace],
            connector=TCPConnector(
                limit=_CONNECTIONS,
                ssl=context,
                keepalive_timeout=expire,
                local_addr=(source, 0) if source else None,
            ),
            headers={"Accept": _MEDIA_TYPE, "User-Agent": "kdns"},
        )
        self.asked = 0
        self.answered = 0
        self.failed = 0
        self.ignored = 0

    def ask(self, query: bytes, *, tcp: bool, timeout: float) -> Pending[bytes | UpstreamError]:
        """Part of UpstreamExchange; `tcp` says nothing here."""
        self.asked += 1
        pending: Pending[bytes | UpstreamError] = Pending()
        question = question_of(query)
        if self._closed:
            self._fail(pending, "closed", "closed")
        elif question is None:
            self._fail(pending, "malformed", "the query is not a message with one question")
        elif len(self._tasks) >= self._limit:
            self._fail(pending, "busy", f"{self._limit} questions are pending already")
        else:
            task = asyncio.create_task(self._exchange(query, question, timeout, pending))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return pending

    def reuse(self) -> list[tuple[str, int, int]]:
        """See Upstream.reuse."""
        return [("https", self._reused, self._opened)]

    async def _on_reuse(self, *_: object) -> None:
        self._reused += 1

    async def _on_open(self, *_: object) -> None:
        self._opened += 1

    async def close(self) -> None:
        """Fail what is pending and close every connection."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _exchange(
        self,
        query: bytes,
        question: bytes,
        timeout: float,  # noqa: ASYNC109 - a time for the whole of it, headers and body
        pending: Pending[bytes | UpstreamError],
    ) -> None:
        # RFC 8484, section 4.1: an ID of 0, so that what stands between can keep replies.
        wire = bytes(_ID) + query[_ID:]
        try:
            reply = await self._request(wire, timeout)
        except asyncio.CancelledError:
            if not pending.done:
                self._fail(pending, "closed", "closing")
            raise
        except TimeoutError:
            self._fail(pending, "timeout", f"no reply in {timeout:g} s: i/o timeout")
            return
        except (ClientError, OSError, ValueError) as error:
            self._fail(pending, "lost", str(error) or type(error).__name__)
            return
        if len(reply) < _ID + 1 or not reply[_ID] & 0x80 or question_of(reply) != question:
            self.ignored += 1
            self._fail(pending, "lost", "the reply answers another question")
            return
        self.answered += 1
        pending.resolve(query[:_ID] + reply[_ID:])

    async def _request(self, wire: bytes, seconds: float) -> bytes:
        limit = ClientTimeout(total=seconds)
        if self._method == "GET":
            text = urlsafe_b64encode(wire).rstrip(b"=").decode()
            params = {"dns": text}
            async with self._session.get(
                self._url, params=params, timeout=limit, allow_redirects=False
            ) as response:
                return await _body(response)
        async with self._session.post(
            self._url,
            data=wire,
            headers={"Content-Type": _MEDIA_TYPE},
            timeout=limit,
            allow_redirects=False,
        ) as response:
            return await _body(response)

    def _fail(
        self, pending: Pending[bytes | UpstreamError], failure: UpstreamFailure, reason: str
    ) -> None:
        self.failed += 1
        pending.resolve(UpstreamError(failure, f"upstream {self._url}: {reason}"))


async def _body(response: ClientResponse) -> bytes:
    """The message in a response. Raises ValueError for a response that has none."""
    if response.status != 200:
        raise ValueError(f"HTTP status {response.status}; expected 200")
    if response.content_type != _MEDIA_TYPE:
        raise ValueError(f"content of type {response.content_type}; expected {_MEDIA_TYPE}")
    body = await response.content.read(MAX_MESSAGE + 1)
    while len(body) <= MAX_MESSAGE and (more := await response.content.read(MAX_MESSAGE)):
        body += more
    if len(body) > MAX_MESSAGE:
        raise ValueError(f"more than {MAX_MESSAGE} octets")
    return body
