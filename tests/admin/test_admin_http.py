"""HTTP for probes: each address has its paths, and what cannot be listened on is said in a line."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from kdns.admin import http
from kdns.admin.http import AdminError, AdminServer
from kdns.plugins.parts import HttpReply, HttpRequest, Page, Route, Routes


class Told(AdminServer):
    """An AdminServer whose routes are named one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.routes: Routes = {}

    def route(self, address: str, path: str, route: Route) -> None:
        self.routes.setdefault(address, {})[path] = route

    async def start(self) -> None:
        await self.open(self.routes)
        await self.renew(self.routes)


@pytest.fixture
async def server() -> AsyncIterator[Told]:
    made = Told()
    yield made
    await made.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def ok() -> HttpReply:
    return HttpReply(200, b"OK")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("127.0.0.1:0", ["127.0.0.1"]),
        ("localhost:0", ["localhost"]),
        (":0", ["127.0.0.1"]),
        ("0.0.0.0:0", ["127.0.0.1"]),
        ("[::1]:0", ["[::1]"]),
        ("[::]:0", ["[::1]"]),
    ],
)
async def test_addresses_are_written_as_in_the_corefile(
    server: Told, client: aiohttp.ClientSession, address: str, hosts: list[str]
) -> None:
    if "[" in address and not has_ipv6():
        pytest.skip("this host has no IPv6")
    server.route(address, "/health", ok)
    await server.start()
    for host in hosts:
        async with client.get(f"http://{host}:{server.ports[address]}/health") as reply:
            assert (reply.status, await reply.read()) == (200, b"OK")


async def test_each_path_says_what_its_route_says_now(
    server: Told, client: aiohttp.ClientSession
) -> None:
    now = [HttpReply(503, b"kubernetes")]
    server.route("127.0.0.1:0", "/ready", lambda: now[0])
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    base = f"http://127.0.0.1:{server.ports['127.0.0.1:0']}"
    async with client.get(f"{base}/ready") as reply:
        assert (reply.status, await reply.read()) == (503, b"kubernetes")
    now[0] = HttpReply(200, b"OK", "text/x; version=1")
    async with client.get(f"{base}/ready") as reply:
        assert (reply.status, reply.headers["Content-Type"]) == (200, "text/x; version=1")
    async with client.get(f"{base}/health") as reply:
        assert reply.status == 200


async def test_head_is_get_without_the_body_and_all_else_is_not_there(
    server: Told, client: aiohttp.ClientSession
) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    base = f"http://127.0.0.1:{server.ports['127.0.0.1:0']}"
    async with client.head(f"{base}/health") as reply:
        assert (reply.status, reply.headers["Content-Length"]) == (200, "2")
        assert await reply.read() == b""
    for path in ("/", "/ready", "/health/x"):
        async with client.get(f"{base}{path}") as reply:
            assert reply.status == 404
            assert await reply.text() == "404: Not Found; expected /health\n"
    async with client.post(f"{base}/health") as reply:
        assert reply.status == 405


async def test_addresses_are_servers_of_their_own(
    server: Told, client: aiohttp.ClientSession
) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    server.route("127.0.0.2:0", "/ready", ok)
    await server.start()
    async with client.get(f"http://127.0.0.2:{server.ports['127.0.0.2:0']}/health") as reply:
        assert reply.status == 404


async def test_a_route_that_fails_is_an_error_of_that_request_alone(
    server: Told, client: aiohttp.ClientSession
) -> None:
    def broken() -> HttpReply:
        raise ValueError("odd")

    server.route("127.0.0.1:0", "/metrics", broken)
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    base = f"http://127.0.0.1:{server.ports['127.0.0.1:0']}"
    for path, status in (("/metrics", 500), ("/health", 200)):
        async with client.get(base + path) as reply:
            assert reply.status == status


async def test_an_address_in_use_is_said_in_one_line(server: Told) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server.route("127.0.0.1:0", "/health", ok)
        server.route(address, "/ready", ok)
        server.route(address, "/metrics", ok)
        with pytest.raises(AdminError) as caught:
            await server.start()
    assert str(caught.value) == (
        f"http {address} (/ready /metrics): address already in use; "
        "give another address in the Corefile, or stop what listens there"
    )


async def test_one_family_in_use_is_enough_to_say_so(server: Told) -> None:
    """A second server must not get half of an address."""
    if not has_ipv6():
        pytest.skip("this host has no IPv6")
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.socket(family) as taken:
            taken.bind((host, 0))
            taken.listen()
            other = Told()
            other.route(f":{taken.getsockname()[1]}", "/health", ok)
            with pytest.raises(AdminError, match="address already in use"):
                await other.start()
            await other.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.77:0", "cannot assign requested address"),
        ("no-such-host.invalid:0", "(name|temporary|no address)"),
    ],
)
async def test_an_address_that_is_not_here_is_said_in_one_line(
    server: Told, address: str, reason: str
) -> None:
    server.route(address, "/health", ok)
    with pytest.raises(AdminError, match=rf"^http {address} \(/health\): {reason}"):
        await server.start()


async def test_a_family_that_this_host_has_not_is_passed_over(
    server: Told, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = http._open

    def without_ipv6(
        family: int, place: tuple[str | int | bytes, ...], reuse_port: bool
    ) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "")
        return opened(family, place, reuse_port)

    monkeypatch.setattr(http, "_open", without_ipv6)
    server.route("localhost:0", "/health", ok)
    await server.start()
    async with client.get(f"http://127.0.0.1:{server.ports['localhost:0']}/health") as reply:
        assert reply.status == 200


async def test_a_closed_server_lets_go_of_its_address_even_from_idle_clients() -> None:
    server = Told()
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    port = server.ports["127.0.0.1:0"]
    with socket.create_connection(("127.0.0.1", port)):
        await server.close()
        await server.close()
    again = Told()
    again.route(f"127.0.0.1:{port}", "/health", ok)
    await again.start()
    await again.close()


def port_of(server: AdminServer) -> int:
    (port,) = set(server.ports.values())
    return port


async def test_routes_are_renewed_on_the_socket_that_is_open(
    server: Told, client: aiohttp.ClientSession
) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    port = port_of(server)
    routes: Routes = {"127.0.0.1:0": {"/ready": ok}}
    await server.open(routes)
    await server.renew(routes)
    statuses = []
    for path in ("/ready", "/health"):
        async with client.get(f"http://127.0.0.1:{port}{path}") as reply:
            statuses.append(reply.status)
    assert statuses == [200, 404]


async def test_an_address_that_is_no_longer_named_is_closed(server: Told) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    port = port_of(server)
    await server.renew({})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_an_address_that_cannot_be_had_leaves_all_as_it_was(
    server: Told, client: aiohttp.ClientSession
) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AdminError, match="address already in use"):
            await server.open({"127.0.0.2:0": {"/x": ok}, address: {"/x": ok}})
    async with client.get(f"http://127.0.0.1:{port_of(server)}/health") as reply:
        assert reply.status == 200


async def test_an_address_of_ours_can_be_written_in_another_way(
    server: Told, client: aiohttp.ClientSession
) -> None:
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    port = port_of(server)
    routes: Routes = {f"localhost:{port}": {"/health": ok}}
    await server.open(routes)
    await server.renew(routes)
    async with client.get(f"http://127.0.0.1:{port}/health") as reply:
        assert reply.status == 200


async def test_a_page_is_told_what_was_asked(server: Told, client: aiohttp.ClientSession) -> None:
    def echo(request: HttpRequest) -> HttpReply:
        return HttpReply(200, f"{request.query['seconds']} {request.accept}".encode())

    server.route("127.0.0.1:0", "/page", Page(echo))
    await server.start()
    url = f"http://127.0.0.1:{server.ports['127.0.0.1:0']}/page?seconds=5"
    async with client.get(url, headers={"Accept": "text/html"}) as reply:
        assert await reply.text() == "5 text/html"


async def test_connections_are_bounded_and_the_oldest_makes_room(
    server: Told, client: aiohttp.ClientSession
) -> None:
    """Who opens connections without end must not take the files that questions need."""
    server.route("127.0.0.1:0", "/health", ok)
    await server.start()
    port = server.ports["127.0.0.1:0"]
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.MAX_CONNECTIONS)]
    async with client.get(f"http://127.0.0.1:{port}/health") as reply:
        assert reply.status == 200
    reader, _ = idle[0]
    with suppress(ConnectionError):
        assert await reader.read() == b""
    assert not any(reader.at_eof() for reader, _ in idle[1:])
    for _, writer in idle:
        writer.close()
