"""Small HTTP servers for probes and scrapers: a table of addresses, paths and what they say."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from kdns.plugins.parts import HttpReply, HttpRequest, Page, Route

CLOSING = 1.0
"""Seconds that requests half sent are waited for at the end; answers are made at once."""
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class AdminError(OSError):
    """An address that cannot be listened on: one line that says which, and why."""

    def __str__(self) -> str:
        return str(self.args[0])


class AdminServer:
    """Serves routes on as many addresses as they name. Start once, after all routes are known."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Route]] = {}
        self._runners: list[web.AppRunner] = []
        self.ports: dict[str, int] = {}
        """The port that each address got; differs from what it says where that is 0."""

    def route(self, address: str, path: str, route: Route) -> None:
        """Serve `path` on `address` ("host:port", ":port" for every address)."""
        self._routes.setdefault(address, {})[path] = route

    async def start(self) -> None:
        """Open the sockets. Raises AdminError."""
        for address, routes in self._routes.items():
            try:
                sockets = await _listen(address)
            except OSError as error:
                paths = " ".join(routes)
                raise AdminError(
                    f"http {address} ({paths}): {_reason(error)}; "
                    "give another address in the Corefile, or stop what listens there"
                ) from error
            self.ports[address] = int(sockets[0].getsockname()[1])
            await self._serve(routes, sockets)

    async def close(self) -> None:
        """Close the sockets. Twice is harmless."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _serve(self, routes: dict[str, Route], sockets: list[socket.socket]) -> None:
        app = web.Application()
        for path, route in routes.items():
            app.router.add_get(path, _handler(route))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING)
        await runner.setup()
        self._runners.append(runner)
        for sock in sockets:
            await web.SockSite(runner, sock).start()


def _reason(error: OSError) -> str:
    # A name that cannot be resolved has no errno of the system's.
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno or 0).lower()


async def _listen(address: str) -> list[socket.socket]:
    """A listening socket for each address that "host:port" stands for. Raises OSError.

    A family that this host has not is passed over as long as there is another: localhost is
    usually ::1 too, in pods without IPv6 as well.
    """
    host, _, port = address.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, "")
    for family, _kind, _proto, _name, place in found:
        try:
            sockets.append(_open(family, place))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                for sock in sockets:
                    sock.close()
                raise
            missing = error
    if not sockets:
        raise missing
    return sockets


def _open(family: int, place: tuple[str | int | bytes, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Connections of the server before us may still be in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        # Another may have bound the port too, and listens already: only this tells.
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def _handler(route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if isinstance(route, Page):
            said = route(HttpRequest(request.query, request.headers.get("Accept", "")))
        else:
            said = route()
        reply: HttpReply = said if isinstance(said, HttpReply) else await said
        return web.Response(
            status=reply.status,
            body=reply.body,
            headers={"Content-Type": reply.content_type},
        )

    return handle
