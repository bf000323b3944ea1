"""Small HTTP servers for probes and scrapers: a table of addresses, paths and what they say."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import web

from kdns.admin.webconfig import Secured
from kdns.plugins.parts import HttpReply, HttpRequest, Page, Routes

MAX_CONNECTIONS = 64
"""Of one address: probes, scrapers and people are few, and questions need files too."""
HANDSHAKE = 5.0
"""Seconds for TLS."""
CLOSING = 1.0
"""Seconds that requests half sent are waited for at the end; answers are made at once."""
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class AdminError(OSError):
    """An address that cannot be listened on: one line that says which, and why."""

    def __str__(self) -> str:
        return str(self.args[0])


_PLAIN: Mapping[str, Secured] = MappingProxyType({})


class AdminServer:
    """Serves routes on as many addresses as they name: `open`, and then `renew`, any time."""

    def __init__(self) -> None:
        self._routes: Routes = {}
        self._runners: dict[str, web.AppRunner] = {}
        self._sockets: dict[str, list[socket.socket]] = {}
        self._secured: dict[str, Secured] = {}

    @property
    def ports(self) -> dict[str, int]:
        """The port that each address got; differs from what it says where that is 0."""
        return {
            address: int(sockets[0].getsockname()[1]) for address, sockets in self._sockets.items()
        }

    @property
    def sockets(self) -> dict[str, list[socket.socket]]:
        """What each address listens on."""
        return self._sockets

    def hold(self, address: str, sockets: list[socket.socket]) -> None:
        """Listen on these, which are open already, when that address is opened."""
        self._sockets[address] = sockets

    async def open(self, routes: Routes) -> None:
        """Open the sockets of addresses that have none, and nothing more. Raises AdminError."""
        for address, paths in routes.items():
            if address in self._sockets:
                continue
            try:
                self._sockets[address] = await _listen(address, self._share(address))
            except OSError as error:
                await self.renew(self._routes, self._secured)
                raise AdminError(
                    f"http {address} ({' '.join(paths)}): {_reason(error)}; "
                    "give another address in the Corefile, or stop what listens there"
                ) from error

    async def renew(self, routes: Routes, secured: Mapping[str, Secured] = _PLAIN) -> None:
        """Serve these routes, and no others, on sockets that are open.

        secured: the addresses that speak TLS. One that did not, or did otherwise, begins anew: what
        connects meanwhile waits.
        """
        self._routes = routes
        for address in routes:
            if address in self._runners and secured.get(address) != self._secured.get(address):
                await self._runners.pop(address).cleanup()
            if address not in self._runners:
                await self._serve(address, secured.get(address))
        for address in self._sockets.keys() - routes.keys():
            sockets = self._sockets.pop(address)
            if address in self._runners:
                await self._runners.pop(address).cleanup()
            for sock in sockets:
                sock.close()
        self._secured = dict(secured)

    async def close(self) -> None:
        """Close the sockets. Twice is harmless."""
        await self.renew({})

    async def _serve(self, address: str, secured: Secured | None) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handler(address))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING)
        self._runners[address] = runner
        await runner.setup()
        context = None if secured is None else secured.context
        for sock in self._sockets[address]:
            # Who serves a socket closes it at its end; ours stays, for another one.
            await _BoundedSite(runner, sock.dup(), ssl_context=context).start()

    def _handler(self, address: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            # Looked up each time: what is served changes with the Corefile.
            routes = self._routes.get(address, {})
            route = routes.get(request.path)
            if route is None:
                raise web.HTTPNotFound(text=f"404: Not Found; expected {' or '.join(routes)}\n")
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

    def _share(self, address: str) -> bool:
        """Have sockets of ours on its port let others beside them; whether there are any.

        So an address can be written in another way, or become another one, with no time between.
        """
        port = int(address.rpartition(":")[2])
        beside = [
            sock
            for sockets in self._sockets.values()
            for sock in sockets
            if port and sock.getsockname()[1] == port
        ]
        for sock in beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return bool(beside)


class _BoundedSite(web.SockSite):
    """Has MAX_CONNECTIONS at most: one more takes the place of the one that is open longest."""

    async def start(self) -> None:
        """See web.SockSite."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._admit,
            sock=self._sock,
            ssl=self._ssl_context,
            ssl_handshake_timeout=None if self._ssl_context is None else HANDSHAKE,
        )

    def _admit(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "a site is started after its runner"
        open_now = [one.transport for one in server.connections if one.transport is not None]
        for transport in open_now[: max(0, 1 + len(open_now) - MAX_CONNECTIONS)]:
            transport.abort()
        return server()


def _reason(error: OSError) -> str:
    # A name that cannot be resolved has no errno of the system's.
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno or 0).lower()


async def _listen(address: str, reuse_port: bool) -> list[socket.socket]:
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
            sockets.append(_open(family, place, reuse_port))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                for sock in sockets:
                    sock.close()
                raise
            missing = error
    if not sockets:
        raise missing
    return sockets


def _open(family: int, place: tuple[str | int | bytes, ...], reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Connections of the server before us may still be in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
        # Another may have bound the port too, and listens already: only this tells.
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
