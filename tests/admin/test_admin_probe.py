"""Our own HTTP server, asked as a probe asks."""

import socket
from collections.abc import AsyncIterator

import pytest

from kdns.admin.http import AdminServer
from kdns.admin.probe import says_ok
from kdns.plugins.parts import HttpReply, Route


@pytest.fixture
async def server() -> AsyncIterator[AdminServer]:
    made = AdminServer()
    paths: dict[str, Route] = {
        "/health": lambda: HttpReply(200, b"OK"),
        "/ready": lambda: HttpReply(503, b"no"),
    }
    routes = {"127.0.0.1:0": paths, ":0": paths}
    await made.open(routes)
    await made.renew(routes)
    yield made
    await made.close()


@pytest.mark.parametrize("address", ["127.0.0.1:0", ":0"])
async def test_what_is_200_is_ok(server: AdminServer, address: str) -> None:
    assert await says_ok(address, server.ports[address], "/health", 10.0)


async def test_what_is_another_status_is_not(server: AdminServer) -> None:
    assert not await says_ok("127.0.0.1:0", server.ports["127.0.0.1:0"], "/ready", 10.0)


async def test_where_nobody_listens_it_is_not() -> None:
    assert not await says_ok("127.0.0.1:0", 0, "/health", 10.0)


async def test_what_says_nothing_in_time_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not await says_ok("127.0.0.1:0", port, "/health", 0.001)
