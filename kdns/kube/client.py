"""The shell around reflectors asks the API server what they want asked, and tells them the answer.

It knows HTTP, TLS, addresses and time-outs, and decides nothing: what to ask next, what an answer
means and how long to wait is the reflector's business, and what is wrong is the audit's.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import NoReturn, Self

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from kdns.cluster.audit import ACCEPT, Audit, Verdict
from kdns.cluster.errors import ObjectError
from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import Resource
from kdns.cluster.reflector import GO_ON, Pause, Reflector, WatchRequest
from kdns.kube.credentials import Connection, CredentialsError, reason
from kdns.kube.patience import WATCH_SILENCE_SECONDS
from kdns.kube.requests import RequestMeter
from kdns.telemetry.meters import Meters

MAX_LINE = 16 << 20
"""Bytes. etcd takes objects of 1.5 MiB, and as JSON they can be a few times that."""
MAX_PAGE = 512 << 20
MAX_STATUS = 1 << 20
CONNECT_SECONDS = 10.0
LIST_SILENCE_SECONDS = 60.0
PAGE_SECONDS = 300.0
"""From the question to the last octet of a page; a server gives up on one after 60."""
LASTING_SECONDS = 10.0
"""A watch that has told something and been open for so long is one that goes well."""

TURN_SECONDS = 0.001
"""What comes at once may be much: after so long of applying it, those who ask have their turn."""

AUDIT_PAUSE = 0.5
"""Seconds between two pages of an audit: it is to cost little, and has time."""
AUDIT_PATIENCE = 90.0
"""Seconds in which a watch must have come as far as the list of an audit: a bookmark is due every
minute."""

JSON = "application/json"

log = logging.getLogger("kdns.kube")


class _Follower:
    """One reflector, and what is going on about it."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        """Set whenever the server has told something."""
        self.leave: asyncio.Timeout | None = None
        """The present watch, to be left by rescheduling."""
        self.healing = False
        """It is left because an audit wants a list."""
        self.end = inf
        """When the server should have ended it, by the loop's clock."""
        self.lasting = inf
        """When it will have lasted; never again, once it has."""


class ApiClient:
    """Runs reflectors against one API server. Make it in a running loop, and use `async with`.

    `failures` has, for each resource that is in trouble now, what the trouble is in one line.
    `sleep` waits for a number of seconds; `max_line` and `max_page` bound, in bytes, what is read
    of one watch line and of one page of a list; `silence` is how long, in seconds, a watch may say
    nothing, and `list_silence` how long a list may, streamed or not, and whatever has yet to begin;
    `page_seconds` is how long a page may take in all. `heard` has, by resource, when
    the server last proved that it tells us of it, by the clock `monotonic`: a page, an event or a
    bookmark. `patience` is how long, in seconds, an audit waits for a watch to come as far as its
    list. `meters` is where requests are counted.

    Of several addresses one is asked until it fails, and then the next one; as long as there is one
    that has not failed yet, at once.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_line: int = MAX_LINE,
        max_page: int = MAX_PAGE,
        silence: float = WATCH_SILENCE_SECONDS,
        list_silence: float = LIST_SILENCE_SECONDS,
        page_seconds: float = PAGE_SECONDS,
        patience: float = AUDIT_PATIENCE,
        monotonic: Callable[[], float] = time.monotonic,
        meters: Meters | None = None,
    ) -> None:
        self._meter = RequestMeter(meters or Meters())
        self.heard: dict[Resource, float] = {}
        self._silence = silence
        self._list_silence = list_silence
        self._page_seconds = page_seconds
        self._patience = patience
        self._followers: dict[Resource, _Follower] = {}
        self._auditing = asyncio.Lock()
        self._turn = 0
        self._failed = 0  # addresses that failed since one last answered
        self._monotonic = monotonic
        self.failures: dict[Resource, str] = {}
        self._connection = connection
        self._sleep = sleep
        self._max_line = max_line
        self._max_page = max_page
        # The limit is the number of reflectors, which the caller bounds; a watch holds its own.
        self._session = ClientSession(
            connector=TCPConnector(limit=0),
            # What a proxy gives to browsers would go back with each request, and be ever more.
            cookie_jar=DummyCookieJar(),
            headers={"User-Agent": "kdns"},
            # Compressing costs the server more than a local network does.
            skip_auto_headers=("Accept-Encoding",),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._session.close()

    @property
    def server(self) -> str:
        """The address that is asked now."""
        return self._connection.servers[self._turn]

    async def run(self, reflector: Reflector) -> NoReturn:
        """Keep the reflector's sink up to date until cancelled."""
        self._followers[reflector.resource] = _Follower()
        rejected: str | None = None
        delay = 0.0
        while True:
            try:
                authorization = await self._connection.authorization(rejected)
            except CredentialsError as error:
                pause = reflector.on_connection_lost(str(error))
            else:
                self._meter.put_off(self.server, delay)
                pause = await self._exchange(reflector, authorization)
                rejected = authorization if pause.refresh else None
            self._note(reflector)
            delay = pause.delay
            if delay:
                await self._sleep(delay)

    async def audit(self, reflector: Reflector) -> Verdict | None:
        """Compare what was told with what the server has, and have a fault healed by a list.

        None when there is no telling: while listing, or when the server fails meanwhile.
        """
        async with self._auditing:  # one resource at a time, so that the cost is bounded
            if not reflector.version:
                return None
            lists, audit = reflector.lists, Audit(reflector.resource, reflector.versions)
            try:
                listed = await self._compare(reflector, audit)
                if listed and not audit.is_clean:
                    await self._wait_for(reflector, audit)
            except (ClientError, OSError, ObjectError, CredentialsError) as error:
                late = isinstance(error, TimeoutError)
                why = f"{self.server} does not answer" if late else reason(error)
                log.info("audit of %s: %s", reflector.resource.value, why)
                listed = False
            if not reflector.version or reflector.lists != lists:
                return None  # everything is being compared anyway
            if not listed:
                audit.abandon()
                return None
            verdict = audit.verdict()
            if verdict.faults:
                self._heal(reflector, verdict)
            return verdict

    async def _compare(self, reflector: Reflector, audit: Audit) -> bool:
        """Whether the audit saw all pages."""
        while True:
            authorization = await self._connection.authorization(None)
            target = self.server + reflector.target(audit.query)
            async with self._get(target, authorization, accept=ACCEPT) as response:
                self._meter.answered(self.server, response.status)
                if response.status != 200:
                    log.info("audit of %s: HTTP %d", reflector.resource.value, response.status)
                    return False
                if not audit.on_page(await _read(response, self._max_page)):
                    return True
            await self._sleep(AUDIT_PAUSE)

    async def _wait_for(self, reflector: Reflector, audit: Audit) -> None:
        """Until the watch is as far as the audit's list, or has had its time."""
        follower = self._followers[reflector.resource]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while reflector.version and not audit.is_passed(reflector.version):
                    follower.told.clear()
                    await follower.told.wait()

    def _heal(self, reflector: Reflector, verdict: Verdict) -> None:
        log.error("audit of %s: %s; listing again", reflector.resource.value, verdict)
        reflector.relist()
        follower = self._followers[reflector.resource]
        if follower.leave is not None:
            follower.healing = True
            follower.leave.reschedule(0)

    async def _exchange(self, reflector: Reflector, authorization: str) -> Pause:
        request, server = reflector.next_request(), self.server
        watches = isinstance(request, WatchRequest)
        began, status = self._monotonic(), None
        try:
            target = server + request.target
            async with self._get(target, authorization, watches=watches) as response:
                status = response.status
                self._meter.answered(server, status)
                if response.status >= 500:
                    return self._turn_from(server, await self._refused(reflector, response))
                if response.status != 200:
                    self._failed = 0
                    return await self._refused(reflector, response)
                if isinstance(request, WatchRequest):
                    self._meter.took(server, self._monotonic() - began)
                    return await self._watch(reflector, server, response, request.timeout)
                page = await _read(response, self._max_page)
                self._meter.took(server, self._monotonic() - began)
                pause = await self._take_page(reflector, page)
                self._failed = 0
                self._hear(reflector)
                return pause
        except TimeoutError:
            why = f"{server} does not answer"
        except ClientResponseError as error:
            # Without the URL, of which a part is chance: the same trouble is told once.
            why = f"{server}: {' '.join(error.message.split())}"
        except (ClientError, OSError, ObjectError) as error:
            why = f"{server}: {reason(error)}"
        if status is None:
            self._meter.answered(server, None)
        return self._turn_from(server, reflector.on_connection_lost(why))

    def _turn_from(self, server: str, pause: Pause) -> Pause:
        """Ask another address from now on, if there is one; at once, if it has not failed too."""
        servers = self._connection.servers
        if server == self.server:  # else another reflector has turned already
            self._turn = (self._turn + 1) % len(servers)
            self._failed += 1
        return GO_ON if self._failed < len(servers) else pause

    @asynccontextmanager
    async def _get(
        self, url: str, authorization: str, *, watches: bool = False, accept: str = JSON
    ) -> AsyncIterator[ClientResponse]:
        """GET. Raises TimeoutError when nothing comes for too long, or what comes never ends."""
        self._connection.renew()
        headers = {"Accept": accept}
        if authorization:
            headers["Authorization"] = authorization
        silence = self._silence if watches else self._list_silence
        asked = self._session.get(
            url,
            headers=headers,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
            allow_redirects=False,
            ssl=self._connection.ssl or True,
            server_hostname=self._connection.server_hostname or None,
            proxy=self._connection.proxy or None,
        )
        # What comes before the answer, a proxy's tunnel or interim answers, has no other limit.
        async with asyncio.timeout(self._list_silence) as limit, asked as response:
            if response.status == 200:
                whole = asyncio.get_running_loop().time() + self._page_seconds
                limit.reschedule(None if watches else whole)
            yield response

    async def _refused(self, reflector: Reflector, response: ClientResponse) -> Pause:
        body = await _read(response, MAX_STATUS)
        return reflector.on_status(response.status, body, response.headers)

    async def _watch(
        self, reflector: Reflector, server: str, response: ClientResponse, seconds: int
    ) -> Pause:
        _keep_alive(response)
        pause = reflector.on_watch_start()
        self._note(reflector)
        if pause is not None:
            return pause
        follower = self._followers[reflector.resource]
        follower.end = asyncio.get_running_loop().time() + seconds
        follower.lasting = self._monotonic() + LASTING_SECONDS
        try:
            async with asyncio.timeout(None) as follower.leave:
                return await self._read_watch(reflector, response, follower)
        except TimeoutError:
            if follower.healing:
                return GO_ON  # the reflector knows what to ask
            log.info("%s: the watch was silent for too long", reflector.resource.value)
            return self._turn_from(server, reflector.on_watch_end())
        finally:
            follower.leave, follower.healing = None, False

    async def _read_watch(
        self, reflector: Reflector, response: ClientResponse, follower: _Follower
    ) -> Pause:
        lines = LineSplitter(self._max_line)
        self._bound(reflector, follower)
        async for chunk in response.content.iter_any():
            due = self._monotonic() + TURN_SECONDS
            told = False
            complete = lines.feed(chunk)
            del chunk  # it can be half a megabyte, and so can its lines
            for line in complete:
                pause = reflector.on_watch_line(line)
                if pause is not None:
                    return pause
                told = told or bool(line.strip())
                due = await self._share(due)
            del complete  # the next ones may be long in coming
            if told:  # anything else is no sign that more will be
                self._judge(reflector, follower)
                self._bound(reflector, follower)
                self._hear(reflector)
                follower.told.set()
        if lines.unfinished:
            return reflector.on_connection_lost("the watch broke off within a line")
        self._judge(reflector, follower)
        return reflector.on_watch_end()

    async def _take_page(self, reflector: Reflector, page: bytearray) -> Pause:
        steps = reflector.take_page(page)
        due = self._monotonic() + TURN_SECONDS
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                told: Pause = ended.value
                return told
            due = await self._share(due)

    async def _share(self, due: float) -> float:
        """Let others have their turn if it is due, and say when it is due next."""
        if self._monotonic() < due:
            return due
        await asyncio.sleep(0)
        return self._monotonic() + TURN_SECONDS

    def _judge(self, reflector: Reflector, follower: _Follower) -> None:
        """Whether the watch, from the end of its list on, has lasted."""
        now = self._monotonic()
        if not reflector.version:
            follower.lasting = now + LASTING_SECONDS
        elif now >= follower.lasting:
            follower.lasting = inf
            self._failed = 0
            reflector.on_watch_lasting()

    def _bound(self, reflector: Reflector, follower: _Follower) -> None:
        """How long to wait for the next line; and while the state is told, for all of it."""
        if follower.leave is not None and not follower.healing:
            now = asyncio.get_running_loop().time()
            until = now + self._silence
            if not reflector.version:
                until = min(now, follower.end) + self._list_silence
            follower.leave.reschedule(until)

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


async def _read(response: ClientResponse, limit: int) -> bytearray:
    """The whole body. Raises ObjectError when it is longer than `limit` bytes."""
    body = bytearray()  # no chunks to be joined: a page is not held twice
    async for chunk in response.content.iter_any():
        if len(body) + len(chunk) > limit:
            raise ObjectError(f"an answer is longer than {limit} bytes")
        body += chunk
    return body


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
