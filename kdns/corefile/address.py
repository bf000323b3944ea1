"""What a server block answers for: its keys as zones, ports and transports.

A key is [SCHEME://]ZONE[:PORT]. A zone in CIDR notation stands for reverse zones (RFC 1035,
section 3.5; RFC 3596, section 2.5). A prefix that does not end where a label does stands for as
many zones as it takes: 10.0.0.0/9 is 0.10.in-addr.arpa. to 127.10.in-addr.arpa.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, NamedTuple, get_args

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Token, as_token
from kdns.corefile.values import domain_name

Transport = Literal["dns", "tls", "quic", "grpc", "https", "https3"]

_PORTS: dict[Transport, int] = {
    "tls": 853,
    "quic": 853,
    "grpc": 443,
    "https": 443,
    "https3": 443,
}
"""The port of each transport when the key names none; that of dns is the server's default."""

# Only what begins as an address is one: 0/25.2.0.192.in-addr.arpa is a name (RFC 2317).
_CIDR = re.compile(r"(?P<address>[0-9.]+|[0-9A-Fa-f.:]*:[0-9A-Fa-f.:]*)/(?P<bits>[^./]*)")
_BITS = re.compile(r"[0-9]{1,3}")


class Place(NamedTuple):
    """Where is listened, and what is spoken there. `host` is numeric; "" is every address."""

    host: str
    port: int
    transport: Transport = "dns"


class ZoneAddress(NamedTuple):
    """One zone on one port. `zone` is absolute and in lower case."""

    zone: str
    port: int
    transport: Transport

    def __str__(self) -> str:
        return f"{self.transport}://{self.zone}:{self.port}"


def normalize(key: Token | str, default_port: int) -> list[ZoneAddress]:
    """What one key of a server block stands for: one zone, or all those of a CIDR prefix.

    `default_port` is that of plain DNS. Raises CorefileError.
    """
    token = as_token(key)
    transport, rest = _split_transport(token)
    zone, port = _split_port(rest, token)
    if not zone:
        message = f"expected a zone in {token.text!r}; the root zone is written '.'"
        raise CorefileError.at(token, message)
    if port is None:
        port = _PORTS.get(transport, default_port)
    return [ZoneAddress(name, port, transport) for name in _zones(zone, token)]


def expand_zone(text: Token | str) -> list[str]:
    """The zones that one argument of a directive names: a domain name, or a CIDR prefix.

    Raises CorefileError.
    """
    token = as_token(text)
    return _zones(token.text, token)


def _split_transport(token: Token) -> tuple[Transport, str]:
    scheme, separator, rest = token.text.partition("://")
    if not separator:
        return "dns", token.text
    for transport in get_args(Transport):
        if scheme.lower() == transport:
            return transport, rest
    known = ", ".join(get_args(Transport))
    raise CorefileError.at(token, f"expected a scheme of {known}, got {scheme!r}")


def _split_port(text: str, token: Token) -> tuple[str, int | None]:
    zone, colon, port = text.rpartition(":")
    # A prefix length after the last colon: an IPv6 prefix without a port.
    if not colon or "/" in port:
        return text, None
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        message = f"expected a port from 1 to 65535 after the last colon of {token.text!r}"
        raise CorefileError.at(token, message)
    return zone, int(port)


def _zones(text: str, token: Token) -> list[str]:
    if found := _CIDR.fullmatch(text):
        return _reverse_zones(_network(found, token))
    if ":" in text:
        message = f"expected a domain name or a prefix such as 2001:db8::/32, got {text!r}"
        raise CorefileError.at(token, message)
    return [domain_name(Token(text, token.file, token.line))]


def _network(found: re.Match[str], token: Token) -> IPv4Network | IPv6Network:
    try:
        if not _BITS.fullmatch(found["bits"]):
            raise ValueError(f"{found['bits']!r} is no prefix length")
        # Host bits are dropped, as CoreDNS drops them: 10.9.3.0/18 is 10.9.0.0/18.
        return ip_network(found[0], strict=False)
    except ValueError as error:
        message = (
            f"expected a prefix such as 10.0.0.0/8 or 2001:db8::/32, got {found[0]!r}: {error}"
        )
        raise CorefileError.at(token, message) from error


def _reverse_zones(network: IPv4Network | IPv6Network) -> list[str]:
    """The zones that together cover a prefix, lowest address first: at most 128."""
    bits = 8 if network.version == 4 else 4
    boundary = -(-network.prefixlen // bits) * bits
    return [_reverse_zone(subnet) for subnet in network.subnets(new_prefix=boundary)]


def _reverse_zone(network: IPv4Network | IPv6Network) -> str:
    packed = network.network_address.packed
    if network.version == 4:
        labels = [str(octet) for octet in packed[: network.prefixlen // 8]]
        suffix = "in-addr.arpa."
    else:
        labels = list(packed.hex()[: network.prefixlen // 4])
        suffix = "ip6.arpa."
    return ".".join([*reversed(labels), suffix])
