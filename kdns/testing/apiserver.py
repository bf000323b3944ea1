"""An API server for tests: the real list/watch protocol on a loopback socket, and no cluster.

It holds Services, EndpointSlices, Namespaces and Pods, given and changed as JSON objects from
Python, and it fails when told to:

    async with ApiServer() as api:
        api.create({"kind": "Service", "metadata": {"name": "web", "namespace": "shop"}})
        ...                              # point a client at api.url
        await api.watching("services")   # until it watches
        api.compact()                    # what it knows is now too old
        api.mute()                       # and it will hear no more of it

What it says to whom is `kdns.testing.apistore`; this is the HTTP around it.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Literal, NamedTuple, Self

import msgspec
from aiohttp import web
from msgspec import structs

from kdns.cluster.objects import Resource
from kdns.testing.apihistory import ApiError, Json
from kdns.testing.apistore import HISTORY, Query, Store, Watch

REQUESTS = 1_000
"""Requests remembered."""
USER = "system:serviceaccount:kube-system:kdns"
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_PATH = re.compile(r"/(?:api|apis/(?P<group>[^/]+))/v[^/]+/(?P<name>[^/]+)")
_BY_PATH = {resource.path: resource for resource in Resource}
_HEADERS = {"Cache-Control": "no-cache, private"}
_FLOW = {
    "X-Kubernetes-Pf-Flowschema-Uid": "0d526db1-0000-4000-8000-000000000001",
    "X-Kubernetes-Pf-Prioritylevel-Uid": "6d29bfd7-0000-4000-8000-000000000002",
}


class Seen(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    """Path and query."""
    authorization: str


class _Refusal(NamedTuple):
    code: int
    headers: dict[str, str]

    def reply(self) -> web.Response:
        """What is said."""
        body = ApiError(self.code, "", "refused, as the test asked").body
        return _json(body, self.code, _FLOW | self.headers)


class _Feed:
    """One watch on its way to one client."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._awake = asyncio.Event()
        self._awake.set()
        self._bookmark = False
        self._raw = b""
        self.ended = False
        self.muted = False

    async def take(self) -> bytes:
        """What to send next, once there is something; empty when the end came first."""
        await self._awake.wait()
        self._awake.clear()
        try:
            lines = self._watch.lines()
        except ApiError as error:
            self.ended = True
            return error.line
        if self.muted:
            return b""
        due, self._bookmark = self._bookmark, False
        raw, self._raw = self._raw, b""
        return lines + (self._watch.bookmark() if due else b"") + raw

    def skip(self) -> None:
        """Never tell of what is new."""
        self._watch.skip()

    def gather(self) -> None:
        """Take what is new before it is forgotten."""
        with suppress(ApiError):  # forgotten already: `take` will say so
            self._watch.gather()

    @property
    def pending(self) -> bool:
        """Whether there may be something to send."""
        return self._awake.is_set()

    def wake(self, *, bookmark: bool = False, raw: bytes = b"", end: bool = False) -> None:
        """Have it look for what is new; then tell a bookmark, then send `raw`, then end."""
        self._bookmark |= bookmark
        self._raw += raw
        self.ended |= end
        self._awake.set()


class ApiServer:
    """The server. Use it as an async context manager.

    `tokens` are the bearer tokens that are let in, all when empty; change the set at any time.
    `history` is how many changes of a resource can be watched. `sleep` waits for the seconds of a
    watch's timeoutSeconds. `port` is where it listens, anywhere when 0.

    `streams` is what it makes of `sendInitialEvents`: it knows it, refuses it as a server does
    whose feature gate is off, or ignores it as old ones do.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        tokens: Iterable[str] = (),
        history: int = HISTORY,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        streams: Literal["known", "refused", "ignored"] = "known",
        port: int = 0,
    ) -> None:
        self.url = ""
        """http(s)://127.0.0.1:PORT, once it is entered."""
        self.tokens = set(tokens)
        self.listening = False
        self.requests: deque[Seen] = deque(maxlen=REQUESTS)
        self._store = Store(history)
        self._tls = tls
        self._sleep = sleep
        self._forbidden: set[str] = set()
        self.streams = streams
        self._port = port
        self._refusals: deque[_Refusal] = deque()
        self._refusal: _Refusal | None = None
        self._feeds: dict[Resource, set[_Feed]] = {resource: set() for resource in Resource}
        self._muted: list[_Feed] = []
        self._opened = asyncio.Event()
        self._asked = asyncio.Event()
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(self._server)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close_watches()
        await self._close()

    async def start(self) -> None:
        """Listen; after `stop`, on the same port and with the same objects."""
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(self._server)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()
        self.listening = True
        self._port = int(self._runner.addresses[0][1])
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Be gone, as one that was killed: connections are reset, and nobody listens any more."""
        self.listening = False
        self.drop_connections()
        await self._close()

    async def _close(self) -> None:
        # asyncio loses a connection that it has accepted and not yet handed over when the listener
        # closes; it takes two turns of the loop to hand one over.
        for _ in range(3):
            await asyncio.sleep(0)
        await self._runner.cleanup()

    @property
    def version(self) -> int:
        """The resourceVersion of the last change."""
        return self._store.version

    def objects(self, resource: Resource) -> list[Json]:
        """What it holds of a resource, as a list has it."""
        bodies = self._store.collections[resource].objects.values()
        return [msgspec.json.decode(stored.body) for stored in bodies]

    def create(self, obj: Json) -> None:
        """Add an object. Raises ValueError when there is one of its name, or it has no name."""
        self._wake(self._store.create(obj))

    def replace(self, obj: Json) -> None:
        """Put an object in place of the one of its name. Raises ValueError when there is none."""
        self._wake(self._store.replace(obj))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Take an object away. Raises ValueError when it is not there."""
        self._wake(self._store.delete(kind, namespace, name))

    def load(self, objects: Iterable[Json]) -> None:
        """Create what is not there, and replace what is."""
        for resource in self._store.load(objects):
            self._wake(resource)

    def lose(self, obj: Json) -> None:
        """Create an object, or put it in the place of the one of its name, and tell no open watch.

        Their bookmarks go on as if they had been told.
        """
        for feed in self._open_feeds():
            feed.gather()
        self._store.load([obj])
        for feed in self._open_feeds():
            feed.skip()

    def lose_deletion(self, kind: str, namespace: str, name: str) -> None:
        """As `delete`, and tell no open watch. Raises ValueError when it is not there."""
        for feed in self._open_feeds():
            feed.gather()
        self._store.delete(kind, namespace, name)
        for feed in self._open_feeds():
            feed.skip()

    def mute(self) -> None:
        """Have every open watch stay open and say nothing any more; new ones are not concerned."""
        for feed in self._open_feeds():
            feed.muted = True
            self._muted.append(feed)
        self._forget_feeds()

    def send(self, raw: bytes, *, end: bool = False) -> None:
        """Send these octets on every watch, be they what they may; then end it, if asked to."""
        for feed in self._open_feeds():
            feed.wake(raw=raw, end=end)
        if end:
            self._forget_feeds()

    def compact(self) -> None:
        """Make every resourceVersion and continue token handed out so far too old: 410.

        Open watches go on, and tell what happened before.
        """
        for feed in self._open_feeds():
            feed.gather()
        self._store.compact()

    def bookmark(self) -> None:
        """Send a bookmark to every watch that allows them."""
        for feed in self._open_feeds():
            feed.wake(bookmark=True)

    def close_watches(self) -> None:
        """End every watch in good order, as after its timeoutSeconds."""
        for feed in (*self._open_feeds(), *self._muted):
            feed.wake(end=True)
        self._muted.clear()
        self._forget_feeds()

    def drop_connections(self) -> None:
        """Reset every connection."""
        self._forget_feeds()
        for connection in self._server.connections:
            transport = connection.transport
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    def forbid(self, name: str) -> None:
        """Answer 403 for a resource from now on, whether there is one of that name or not."""
        self._forbidden.add(name)

    def allow(self, name: str) -> None:
        """Undo `forbid`."""
        self._forbidden.discard(name)

    def refuse(
        self, code: int, *, times: int | None = 1, retry_after: int | str | None = None
    ) -> None:
        """Answer the next requests with a failure, such as 429 or 503 with Retry-After.

        All of them, until `relent`, when `times` is None.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        refusal = _Refusal(code, headers)
        if times is None:
            self._refusal = refusal
        else:
            self._refusals.extend([refusal] * times)

    def relent(self) -> None:
        """Undo `refuse`."""
        self._refusal = None
        self._refusals.clear()

    async def asked(self) -> None:
        """Wait until it is asked something more."""
        self._asked.clear()
        await self._asked.wait()

    async def watching(self, name: str, count: int = 1) -> None:
        """Wait until a resource has that many watches open."""
        feeds = self._feeds[Resource(name)]
        while len(feeds) < count:
            self._opened.clear()
            await self._opened.wait()

    def _open_feeds(self) -> list[_Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    def _forget_feeds(self) -> None:
        # At once, so that whoever then waits for a watch waits for the next one.
        for feeds in self._feeds.values():
            feeds.clear()

    def _wake(self, resource: Resource) -> None:
        for feed in self._feeds[resource]:
            feed.wake()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.path_qs, request.headers.get("Authorization", ""))
        self.requests.append(seen)
        self._asked.set()
        try:
            return await self._answer(request, seen)
        except ApiError as error:
            flow = {} if error.code == 401 else _FLOW
            return _json(error.body, error.code, flow)

    async def _answer(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        """Raises ApiError."""
        refusal = self._refusals.popleft() if self._refusals else self._refusal
        if refusal is not None:
            return refusal.reply()
        if self.tokens and seen.authorization.removeprefix("Bearer ") not in self.tokens:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        if request.path == "/version":
            return _json(msgspec.json.encode(VERSION), 200, _FLOW)
        query = Query.read(request.query)
        self._authorize(request.path, query)
        resource = _BY_PATH.get(request.path)
        if resource is None:
            words = "the server could not find the requested resource"
            raise ApiError(404, "NotFound", words, details={})
        if request.method != "GET":
            words = "the server does not allow this method on the requested resource"
            raise ApiError(405, "MethodNotAllowed", words)
        if query.watch:
            return await self._watch(request, resource, self._understood(query))
        partial = "as=PartialObjectMetadataList" in request.headers.get("Accept", "")
        return _json(self._store.page(resource, query, partial=partial), 200, _FLOW)

    def _understood(self, query: Query) -> Query:
        """What is made of a watch's query. Raises ApiError 422."""
        if self.streams == "known" or not query.send_initial_events:
            return query
        if self.streams == "ignored":
            return structs.replace(query, send_initial_events=False, resource_version_match="")
        words = (
            'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: '
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        )
        raise ApiError(422, "Invalid", words)

    def _authorize(self, path: str, query: Query) -> None:
        match = _PATH.fullmatch(path)
        if match is None or match["name"] not in self._forbidden:
            return
        name, group = match["name"], match["group"] or ""
        raise ApiError(
            403,
            "Forbidden",
            f'{name}{"." if group else ""}{group} is forbidden: User "{USER}" cannot '
            f'{"watch" if query.watch else "list"} resource "{name}" in API group "{group}" '
            "at the cluster scope",
            details={"group": group, "kind": name} if group else {"kind": name},
        )

    async def _watch(
        self, request: web.BaseRequest, resource: Resource, query: Query
    ) -> web.StreamResponse:
        try:
            feed = _Feed(self._store.watch(resource, query))
        except ApiError as error:
            if error.code != 410:
                raise
            return _json(error.line, 200, _FLOW)  # the failure of a watch that has begun
        response = web.StreamResponse(headers=_HEADERS | _FLOW)
        response.content_type = "application/json"
        await response.prepare(request)
        self._feeds[resource].add(feed)
        self._opened.set()
        try:
            await self._pump(feed, response, query.timeout_seconds)
        finally:
            self._feeds[resource].discard(feed)
        return response

    async def _pump(self, feed: _Feed, response: web.StreamResponse, seconds: int) -> None:
        timer = asyncio.create_task(self._expire(feed, seconds)) if seconds else None
        try:
            # The client may leave at any time; that is no error of ours.
            with suppress(ConnectionError):
                while not feed.ended or feed.pending:
                    await response.write(await feed.take())
        finally:
            if timer is not None:
                timer.cancel()

    async def _expire(self, feed: _Feed, seconds: int) -> None:
        await self._sleep(seconds)
        feed.wake(bookmark=True, end=True)


def _json(body: bytes, code: int, headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=body, status=code, headers=_HEADERS | headers, content_type="application/json"
    )
