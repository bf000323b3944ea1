"""What is true of sockets here is true on both event loops."""

import asyncio
import socket
from collections.abc import Callable, Mapping

import pytest
import uvloop

from kdns.testing.clock import ManualClock


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ipv6() -> None:
    """The test needs ::1."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
