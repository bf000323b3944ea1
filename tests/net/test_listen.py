"""Sockets are bound where the Corefile says, or one line says why not and what to do."""

import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kdns.net import listen
from kdns.net.listen import ListenError, bind_all, bind_pair, bind_tcp, bind_udp


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


def take_ipv6_away(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    listen._say_ipv4_only.cache_clear()


def test_without_ipv6_no_address_is_ipv4_and_the_log_says_so_once(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    take_ipv6_away(monkeypatch)
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


# Everything that one address of the Corefile takes.


def bound(stack: ExitStack, sockets: list[socket.socket]) -> list[tuple[str, str, int]]:
    """Kind, host and port of each; they are closed at the end."""
    kinds = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}
    return [
        (kinds[socket.SocketKind(s.type)], *stack.enter_context(s).getsockname()[:2])
        for s in sockets
    ]


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["", "::", "0::0"])
def test_every_address_takes_a_udp_socket_for_each_family(stack: ExitStack, host: str) -> None:
    sockets = bind_all(host)
    port = sockets[-1].getsockname()[1]
    assert bound(stack, sockets) == [
        ("udp", "0.0.0.0", port),
        ("udp", "::", port),
        ("tcp", "::", port),
    ]
    flags = [s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for s in sockets[1:]]
    assert flags == [1, 0]


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_one_address_takes_one_udp_socket(stack: ExitStack, host: str) -> None:
    sockets = bind_all(host)
    port = sockets[-1].getsockname()[1]
    assert bound(stack, sockets) == [("udp", host, port), ("tcp", host, port)]


def test_without_ipv6_every_address_is_every_ipv4_address(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_ipv6_away(monkeypatch)
    sockets = bind_all("")
    port = sockets[-1].getsockname()[1]
    assert bound(stack, sockets) == [("udp", "0.0.0.0", port), ("tcp", "0.0.0.0", port)]


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize(
    ("family", "host", "place"),
    [(socket.AF_INET, "0.0.0.0", "0.0.0.0"), (socket.AF_INET6, "::", "[::]")],
)
def test_one_family_s_port_in_use_fails_all_in_one_line_and_leaves_nothing_open(
    stack: ExitStack, family: socket.AddressFamily, host: str, place: str
) -> None:
    # A port that nobody has over TCP either.
    free = bind_all("")
    port = free[-1].getsockname()[1]
    for sock in free:
        sock.close()
    taken = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    if family == socket.AF_INET6:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    taken.bind((host, port))
    with pytest.raises(ListenError) as error:
        bind_all("", port)
    assert str(error.value).startswith(f"udp {place}:{port}: address already in use; ")
    taken.close()
    bound(stack, bind_all("", port))


@pytest.mark.usefixtures("ipv6")
def test_a_free_port_is_looked_for_until_all_have_it(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = listen._open

    def taken_twice(
        family: socket.AddressFamily,
        kind: socket.SocketKind,
        address: tuple[str, int],
        reuse_port: bool,
        *,
        v6only: bool = False,
    ) -> socket.socket:
        if v6only and family == socket.AF_INET6:
            tried.append(address[1])
            if len(tried) < 3:
                raise OSError(errno.EADDRINUSE, "Address already in use")
        return real(family, kind, address, reuse_port, v6only=v6only)

    monkeypatch.setattr(listen, "_open", taken_twice)
    *_, tcp = bound(stack, bind_all(""))
    assert (len(tried), tried[-1]) == (3, tcp[2])
    monkeypatch.setattr(listen, "_PAIR_TRIES", 2)
    tried.clear()
    with pytest.raises(ListenError, match=r"^udp \[::\]:\d+: address already in use"):
        bind_all("")


@pytest.mark.usefixtures("ipv6")
def test_processes_share_all_sockets_of_a_port_when_asked_to(stack: ExitStack) -> None:
    first = bound(stack, bind_all("", reuse_port=True))
    assert bound(stack, bind_all("", first[0][2], reuse_port=True)) == first


@pytest.mark.parametrize("host", ["localhost", "300.1.1.1"])
def test_what_is_no_address_is_not_bound_at_all(host: str) -> None:
    with pytest.raises(ListenError, match="expected an IPv4 or IPv6 address"):
        bind_all(host)
