"""One UDP socket, one datagram at a time: a reply leaves from the address that was asked.

A socket on a wildcard address serves every address of the host, and the kernel would choose the
source of a reply by its route; a client that asked another address drops it. So the kernel is
told to say which address each datagram came to (IP_PKTINFO, IPV6_RECVPKTINFO; RFC 3542, 6), and
what it said goes back with the reply.
"""

import socket
import struct
import sys
from typing import Final, NamedTuple, TypeAlias

from kdns.net.address import SocketAddress, numeric_host
from kdns.plugins.peer import Peer
from kdns.wire.framing import MAX_MESSAGE

Control: TypeAlias = list[tuple[int, int, bytes]]
"""Control messages as sendmsg takes them: level, type, data."""

_LINUX: Final = sys.platform == "linux"
# The values of linux/in.h and linux/in6.h: the socket module does not name them in every Python.
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_OMIT: Final = 5

_PKTINFO4 = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")
_CONTROL_SPACE: Final = 128
_ROUTES_KEPT: Final = 256


class Back(NamedTuple):
    """The way a reply goes: to whom, and the control messages that set its source."""

    address: SocketAddress
    control: Control


class Datagram(NamedTuple):
    """One datagram: its payload, who sent it, and the way back."""

    wire: bytes
    peer: Peer
    back: Back


class DatagramSocket:
    """A bound, non-blocking UDP socket that knows where each datagram was sent to.

    It takes the socket over: sets its options, and closes it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        omit_path_mtu(sock)
        self._sock = sock
        host = str(sock.getsockname()[0])
        self._wildcard = host in {"::", "0.0.0.0"}  # noqa: S104 - compared, not bound
        self._fixed: tuple[str, Control] = ("" if self._wildcard else numeric_host(host), [])
        self._routes: dict[bytes, tuple[str, Control]] = {}
        self._buffer = bytearray(MAX_MESSAGE)
        self._view = memoryview(self._buffer)
        if self._wildcard:
            _want_destination(sock)

    def fileno(self) -> int:
        """The descriptor, for the event loop."""
        return self._sock.fileno()

    def receive(self) -> Datagram:
        """The next datagram. Raises BlockingIOError when there is none, OSError as recvmsg does."""
        space = _CONTROL_SPACE if self._wildcard else 0
        size, control, _flags, address = self._sock.recvmsg_into((self._buffer,), space)
        local, source = self._route(control) if self._wildcard else self._fixed
        peer = Peer(numeric_host(address[0]), address[1], "udp", local)
        return Datagram(bytes(self._view[:size]), peer, Back(address, source))

    def send(self, wire: bytes, back: Back) -> None:
        """Send one reply. Raises BlockingIOError when the socket is full, OSError as sendmsg."""
        self._sock.sendmsg((wire,), back.control, 0, back.address)

    def close(self) -> None:
        """Close the socket; twice is harmless."""
        self._sock.close()

    def _route(self, control: Control) -> tuple[str, Control]:
        for level, kind, data in control:
            if (level, kind) in _READERS:
                known = self._routes.get(data)
                if known is None:
                    if len(self._routes) >= _ROUTES_KEPT:
                        self._routes.clear()
                    known = self._routes[data] = _READERS[level, kind](data)
                return known
        return self._fixed


def omit_path_mtu(sock: socket.socket) -> None:
    """Have datagrams ignore what ICMP says about the path's MTU (RFC 9715, 3.1), where possible.

    A forged "fragmentation needed" could otherwise have replies cut small enough to be spoofed.
    A dual-stack socket has both settings.
    """
    if not _LINUX:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)


def _want_destination(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif _LINUX:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def source_of(data: bytes) -> tuple[str, Control]:
    """The address that a datagram came to, and the control messages that answer from it.

    `data` is an in_pktinfo or in6_pktinfo, told apart by their sizes, 12 and 20 octets.
    """
    return _read_pktinfo4(data) if len(data) == _PKTINFO4.size else _read_pktinfo6(data)


def _read_pktinfo4(data: bytes) -> tuple[str, Control]:
    # ipi_spec_dst is the host's own address even where the datagram's destination was broadcast.
    # The interface is left to the routes: a reply need not leave where the question came in.
    _interface, local, _destination = _PKTINFO4.unpack_from(data)
    control = _PKTINFO4.pack(0, local, bytes(4))
    return socket.inet_ntop(socket.AF_INET, local), [(socket.IPPROTO_IP, _IP_PKTINFO, control)]


def _read_pktinfo6(data: bytes) -> tuple[str, Control]:
    local, interface = _PKTINFO6.unpack_from(data)
    host = numeric_host(socket.inet_ntop(socket.AF_INET6, local))
    if local[0] == 0xFF:  # multicast is nobody's source
        return host, []
    # fe80::/10 means something on one interface only.
    link_local = local[0] == 0xFE and local[1] & 0xC0 == 0x80
    control = _PKTINFO6.pack(local, interface if link_local else 0)
    return host, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, control)]


_READERS = {
    (socket.IPPROTO_IP, _IP_PKTINFO): _read_pktinfo4,
    (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO): _read_pktinfo6,
}
