"""The shell around reflectors asks the API server what they want asked, and tells them the answer.

It knows HTTP, TLS and time-outs, and decides nothing: what to ask next, what an answer means and
how long to wait is the reflector's business.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from kdns.cluster.errors import ObjectError
from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import Resource
from kdns.cluster.reflector import ListRequest, Pause, Reflector, WatchRequest
from kdns.kube.credentials import Connection, CredentialsError, reason

MAX_LINE = 16 << 20
"""Bytes. etcd takes objects of 1.5 MiB, and as JSON they can be a few times that."""
MAX_PAGE = 512 << 20
MAX_STATUS = 1 << 20
CONNECT_SECONDS = 10.0
LIST_SILENCE_SECONDS = 60.0
WATCH_SILENCE_SECONDS = 150.0
"""A healthy server sends a bookmark about every minute; a watch that is silent for longer than two
of them, though nothing has closed it, is left for a new one."""

log = logging.getLogger("kdns.kube")

_Answer = AbstractAsyncContextManager[ClientResponse]


class ApiClient:
    """Runs reflectors against one API server. Make it in a running loop, and use `async with`.

    `failures` has, for each resource that is in trouble now, what the trouble is in one line.
    `sleep` waits for a number of seconds; `max_line` and `max_page` bound, in bytes, what is read
    of one watch line and of one page of a list; `silence` is how long, in seconds, a watch may say
    nothing. `heard` has, by resource, when the server last proved that it tells us of it, by the
    clock `monotonic`: a page, an event or a bookmark.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_line: int = MAX_LINE,
        max_page: int = MAX_PAGE,
        silence: float = WATCH_SILENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.heard: dict[Resource, float] = {}
        self._silence = silence
        self._monotonic = monotonic
        self.failures: dict[Resource, str] = {}
        self._connection = connection
        self._sleep = sleep
        self._max_line = max_line
        self._max_page = max_page
        # The limit is the number of reflectors, which the caller bounds; a watch holds its own.
        self._session = ClientSession(
            connector=TCPConnector(limit=0),
            headers={"Accept": "application/json", "User-Agent": "kdns"},
            # Compressing costs the server more than a local network does.
            skip_auto_headers=("Accept-Encoding",),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._session.close()

    async def run(self, reflector: Reflector) -> NoReturn:
        """Keep the reflector's sink up to date until cancelled."""
        rejected: str | None = None
        while True:
            try:
                authorization = await self._connection.authorization(rejected)
            except CredentialsError as error:
                pause = reflector.on_connection_lost(str(error))
            else:
                pause = await self._exchange(reflector, authorization)
                rejected = authorization if pause.refresh else None
            self._note(reflector)
            if pause.delay:
                await self._sleep(pause.delay)

    async def _exchange(self, reflector: Reflector, authorization: str) -> Pause:
        request = reflector.next_request()
        try:
            async with self._get(request, authorization) as response:
                if response.status != 200:
                    return await self._refused(reflector, response)
                if isinstance(request, ListRequest):
                    pause = reflector.on_page(await _read(response, self._max_page))
                    self._hear(reflector)
                    return pause
                return await self._watch(reflector, response)
        except TimeoutError:
            return reflector.on_connection_lost(f"{self._connection.server} does not answer")
        except (ClientError, OSError, ObjectError) as error:
            return reflector.on_connection_lost(f"{self._connection.server}: {reason(error)}")

    def _get(self, request: ListRequest | WatchRequest, authorization: str) -> _Answer:
        silence = LIST_SILENCE_SECONDS
        if isinstance(request, WatchRequest):
            silence = self._silence
        return self._session.get(
            self._connection.server + request.target,
            headers={"Authorization": authorization} if authorization else {},
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
            allow_redirects=False,
            ssl=self._connection.ssl or True,
            server_hostname=self._connection.server_hostname or None,
            proxy=self._connection.proxy or None,
        )

    async def _refused(self, reflector: Reflector, response: ClientResponse) -> Pause:
        body = await _read(response, MAX_STATUS)
        return reflector.on_status(response.status, body, response.headers)

    async def _watch(self, reflector: Reflector, response: ClientResponse) -> Pause:
        _keep_alive(response)
        reflector.on_watch_start()
        self._note(reflector)
        lines = LineSplitter(self._max_line)
        try:
            async for chunk in response.content.iter_any():
                for line in lines.feed(chunk):
                    pause = reflector.on_watch_line(line)
                    if pause is not None:
                        return pause
                self._hear(reflector)
        except TimeoutError:
            log.info("%s: the watch was silent for too long", reflector.resource.value)
            return reflector.on_watch_end()
        if lines.unfinished:
            return reflector.on_connection_lost("the watch broke off within a line")
        return reflector.on_watch_end()

    def _hear(self, reflector: Reflector) -> None:
        if not reflector.failure:
            self.heard[reflector.resource] = self._monotonic()

    def _note(self, reflector: Reflector) -> None:
        """Log what changed: one line when something goes wrong, one when it is right again."""
        before = self.failures.get(reflector.resource, "")
        if reflector.failure == before:
            return
        if reflector.failure:
            self.failures[reflector.resource] = reflector.failure
            log.warning("%s; trying again", reflector.failure)
        else:
            del self.failures[reflector.resource]
            log.info("%s: the API server answers again", reflector.resource.value)


async def _read(response: ClientResponse, limit: int) -> bytes:
    """The whole body. Raises ObjectError when it is longer than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise ObjectError(f"an answer is longer than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _keep_alive(response: ClientResponse) -> None:
    """Have the kernel ask an idle peer whether it is there: about half a minute to find it dead.

    A load balancer that forgets a connection tells nobody; without this the watch would look
    quiet until its time-out.
    """
    transport = response.connection.transport if response.connection else None
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
