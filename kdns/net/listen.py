"""Binding the sockets people ask at; what cannot be bound is said in one line, with what to do."""

import errno
import logging
import os
import socket
from functools import cache
from typing import Final

from kdns.net.address import SocketAddress, endpoint, socket_address
from kdns.net.privilege import take_low_ports
from kdns.plugins.peer import Proto

_log = logging.getLogger("kdns.net")

_BACKLOG: Final = 1024
_PAIR_TRIES: Final = 64
_SO_RCVBUFFORCE: Final = 33
_QUEUE: Final = 4 << 20
"""Octets that a UDP socket may hold unread; twice that for the kernel, so some 10,000 queries."""
DATAGRAM: Final = 832
"""Octets that a query takes of them, about."""
_ANY4: Final = "0.0.0.0"  # noqa: S104 - a DNS server is for everybody who reaches the host
_ANY6: Final = "::"
_NO_IPV6: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
_KINDS: Final[dict[Proto, socket.SocketKind]] = {
    "udp": socket.SOCK_DGRAM,
    "tcp": socket.SOCK_STREAM,
}
_REASONS: Final = {
    errno.EADDRINUSE: "address already in use; stop the server that has it, or choose another port",
    errno.EACCES: "permission denied; ports below 1024 need root, the capability "
    "CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start",
    errno.EADDRNOTAVAIL: "no such address on this host; bind one that it has, or none for all",
    errno.EAFNOSUPPORT: "this host has no IPv6; bind an IPv4 address",
}


class ListenError(OSError):
    """A socket could not be bound; the message is one line: what, where, why, what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def bind_udp(host: str, port: int, *, reuse_port: bool = True) -> socket.socket:
    """A non-blocking UDP socket on `host` (numeric; "" is every address of the host) and `port`.

    "" gives one dual-stack IPv6 socket, or an IPv4 one where the host has no IPv6. With
    `reuse_port` several processes share the port, and the kernel spreads clients over them; a
    port of 0 is any free one. Raises ListenError.
    """
    return _bind("udp", host, port, reuse_port)


def bind_tcp(host: str, port: int, *, reuse_port: bool = True) -> socket.socket:
    """A non-blocking, listening TCP socket; otherwise as `bind_udp`."""
    return _bind("tcp", host, port, reuse_port)


def bind_pair(
    host: str, port: int = 0, *, reuse_port: bool = False
) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port: a free one when `port` is 0. Raises ListenError.

    Without `reuse_port`, the default here, a free port is one that nobody else has.
    """
    udp, tcp = _bind_beside_tcp(host, port, (host,), reuse_port)
    return udp, tcp


def bind_all(host: str, port: int = 0, *, reuse_port: bool = False) -> list[socket.socket]:
    """The UDP sockets of `host`, and then its TCP socket, all on one port. Raises ListenError.

    Every address of the host ("" or "::") takes a UDP socket for each address family, so that
    what comes in on one is of one family; a host without IPv6 has the IPv4 socket alone.
    """
    if host and _resolve("udp", host, port)[1][0] != _ANY6:
        return _bind_beside_tcp(host, port, (host,), reuse_port)
    return _bind_beside_tcp("", port, (_ANY4, _ANY6), reuse_port)


def _bind_beside_tcp(
    host: str, port: int, udp_hosts: tuple[str, ...], reuse_port: bool
) -> list[socket.socket]:
    """UDP sockets and a TCP socket on one port; several UDP hosts are one for each family."""
    for last in (False,) * (_PAIR_TRIES - 1) + (True,):
        tcp = bind_tcp(host, port, reuse_port=reuse_port)
        bound = tcp.getsockname()[1]
        # Without IPv6 the TCP socket has just turned out as one of IPv4.
        wanted = udp_hosts if tcp.family == socket.AF_INET6 else udp_hosts[:1]
        opened: list[socket.socket] = []
        try:
            for udp_host in wanted:
                alone = len(wanted) > 1
                opened.append(_bind("udp", udp_host, bound, reuse_port, v6only=alone))
        except ListenError as error:
            for sock in (*opened, tcp):
                sock.close()
            if port or last or error.errno != errno.EADDRINUSE:
                raise
        else:
            return [*opened, tcp]
    raise AssertionError("the last try returns or raises")


def _bind(
    proto: Proto, host: str, port: int, reuse_port: bool, *, v6only: bool = False
) -> socket.socket:
    try:
        return _bind_any(proto, host, port, reuse_port, v6only)
    except ListenError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)
        raise ListenError(error.errno, f"{proto} {endpoint(host, port)}: {reason}") from error


def _bind_any(proto: Proto, host: str, port: int, reuse_port: bool, v6only: bool) -> socket.socket:
    kind = _KINDS[proto]
    family, address = _resolve(proto, host or _ANY6, port)
    if host:
        return _open(family, kind, address, reuse_port, v6only=v6only)
    try:
        return _open(family, kind, address, reuse_port)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        _say_ipv4_only()
        return _open(socket.AF_INET, kind, (_ANY4, port), reuse_port)


@cache
def _say_ipv4_only() -> None:
    _log.warning("this host has no IPv6: listening on IPv4 only")


def _resolve(proto: Proto, host: str, port: int) -> tuple[socket.AddressFamily, SocketAddress]:
    try:
        return socket_address(host, port)
    except ValueError as error:
        raise ListenError(errno.EINVAL, f"{proto} {error}") from error


def deepen(sock: socket.socket, octets: int | None = None) -> None:
    """Have room for so many octets unread; None: at least for those of a burst, or of a moment in
    which this process waits its turn.

    Beyond the system's bound where we may (CAP_NET_ADMIN), else as far as it goes.
    """
    wanted = _QUEUE if octets is None else min(octets, _QUEUE)
    # Linux tells twice of what it was told, for its own needs (socket(7)).
    if octets is None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * wanted:
        return
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, wanted)
        except OSError:
            continue
        return


def _open(
    family: socket.AddressFamily,
    kind: socket.SocketKind,
    address: SocketAddress,
    reuse_port: bool,
    *,
    v6only: bool = False,
) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            # Connections of the server before us may still be in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            deepen(sock)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only or address[0] != _ANY6)
            )
        try:
            sock.bind(address)
        except PermissionError:
            if not take_low_ports():
                raise
            sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
