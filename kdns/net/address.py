"""Numeric addresses as people write them: IPv4 as IPv4 on any socket, and no interface names."""

import socket
from typing import Final, TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""What the socket module calls an address: IPv4's, or IPv6's with flow and scope."""

_MAPPED: Final = "::ffff:"
_PORTS: Final = range(65_536)


def numeric_host(host: str) -> str:
    """`host` of a socket address, v4-mapped as IPv4 (RFC 4291, 2.5.5.2), without a scope."""
    if host.startswith(_MAPPED) and "." in host:
        return host[len(_MAPPED) :]
    return host.partition("%")[0]


def endpoint(host: str, port: int) -> str:
    """`host:port` for people, an IPv6 address in brackets (RFC 5952, 6)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_address(host: str, port: int) -> tuple[socket.AddressFamily, SocketAddress]:
    """Family and socket address of a numeric `host`, maybe with a scope ("fe80::1%eth0").

    Raises ValueError, which says what was expected; no name is ever looked up.
    """
    expected = "expected an IPv4 or IPv6 address and a port of 0 to 65535"
    if port not in _PORTS:
        raise ValueError(f"{endpoint(host, port)}: {expected}")
    try:
        found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{endpoint(host, port)}: {expected}") from error
    family, _kind, _proto, _name, address = found[0]
    if len(address) == 4:
        return family, (str(address[0]), int(address[1]), int(address[2]), int(address[3]))
    return family, (str(address[0]), int(address[1]))
