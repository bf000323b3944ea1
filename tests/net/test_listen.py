"""Sockets are bound where the Corefile says, or one line says why not and what to do."""

import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kdns.net import listen
from kdns.net.listen import ListenError, bind_pair, bind_tcp, bind_udp


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_an_address_is_bound_as_given(stack: ExitStack) -> None:
    udp = stack.enter_context(bind_udp("127.0.0.1", 0))
    tcp = stack.enter_context(bind_tcp("127.0.0.1", 0))
    assert udp.family == tcp.family == socket.AF_INET
    assert udp.getsockname()[0] == tcp.getsockname()[0] == "127.0.0.1"
    assert udp.getblocking() is tcp.getblocking() is False
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


@pytest.mark.usefixtures("ipv6")
def test_no_address_is_one_socket_for_both_families(stack: ExitStack) -> None:
    udp = stack.enter_context(bind_udp("", 0))
    assert udp.getsockname()[0] == "::"
    assert udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


@pytest.mark.usefixtures("ipv6")
def test_an_ipv6_address_is_bound_as_given(stack: ExitStack) -> None:
    tcp = stack.enter_context(bind_tcp("::1", 0))
    assert tcp.getsockname()[0] == "::1"
    assert tcp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_without_ipv6_no_address_is_ipv4_and_the_log_says_so_once(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = socket.socket

    def no_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    listen._say_ipv4_only.cache_clear()
    with caplog.at_level(logging.WARNING, "kdns.net"):
        udp = stack.enter_context(bind_udp("", 0))
        tcp = stack.enter_context(bind_tcp("", 0))
    assert udp.getsockname()[0] == tcp.getsockname()[0] == "0.0.0.0"
    assert len(caplog.records) == 1
    with pytest.raises(ListenError, match=r"^udp \[::1\]:0: this host has no IPv6"):
        bind_udp("::1", 0)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_a_port_in_use_is_one_line_with_what_to_do(stack: ExitStack, proto: str) -> None:
    udp, tcp = map(stack.enter_context, bind_pair("127.0.0.1"))
    port = udp.getsockname()[1]
    assert tcp.getsockname()[1] == port
    bind = bind_udp if proto == "udp" else bind_tcp
    with pytest.raises(ListenError) as error:
        bind("127.0.0.1", port)
    assert str(error.value) == (
        f"{proto} 127.0.0.1:{port}: address already in use; "
        "stop the server that has it, or choose another port"
    )
    assert error.value.errno == errno.EADDRINUSE


def test_a_forbidden_port_names_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidden)
    with pytest.raises(ListenError, match=r"^udp 127\.0\.0\.1:53: permission denied.*CAP_NET_BIND"):
        bind_udp("127.0.0.1", 53)


@pytest.mark.parametrize(
    ("host", "port"), [("localhost", 53), ("300.1.1.1", 53), ("::1", 70_000), ("::1", -1)]
)
def test_what_is_no_address_says_what_was_expected(host: str, port: int) -> None:
    with pytest.raises(ListenError, match="expected an IPv4 or IPv6 address"):
        bind_udp(host, port)


def test_an_address_of_another_host_says_so() -> None:
    with pytest.raises(ListenError, match=r"^tcp 192\.0\.2\.1:0: no such address on this host"):
        bind_tcp("192.0.2.1", 0)


def test_several_sockets_share_a_port_when_asked_to(stack: ExitStack) -> None:
    first = stack.enter_context(bind_udp("127.0.0.1", 0, reuse_port=True))
    port = first.getsockname()[1]
    assert stack.enter_context(bind_udp("127.0.0.1", port)).getsockname()[1] == port


def test_a_pair_on_a_given_port_fails_as_one(stack: ExitStack) -> None:
    taken = stack.enter_context(bind_udp("127.0.0.1", 0, reuse_port=False))
    port = taken.getsockname()[1]
    with pytest.raises(ListenError, match=rf"^udp 127\.0\.0\.1:{port}: "):
        bind_pair("127.0.0.1", port)
    stack.enter_context(bind_tcp("127.0.0.1", port, reuse_port=False))
