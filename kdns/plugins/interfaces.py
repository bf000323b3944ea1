"""The addresses of this host, read from the kernel's tables (Linux; elsewhere, none)."""

import socket
import struct
from array import array
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

SIOCGIFCONF = 0x8912
IF_INET6 = Path("/proc/net/if_inet6")
MAX_ADDRESSES = 4096

_IFREQ = struct.Struct("16sLLHBBB0L")
"""`struct ifreq`, for its size: the name of 16 octets, then a union as large as `struct ifmap`."""
_ADDRESS_AT = 16 + 4
"""In it the name, then a sockaddr_in: family and port, then the address."""
_IFCONF = struct.Struct("iL")


def interface_addresses(interface: str) -> tuple[str, ...]:
    """The numeric addresses of one interface, link-local ones left out; none if it has none."""
    found = [text for name, text in (*_ipv4(), *_ipv6()) if name == interface]
    return tuple(text for text in dict.fromkeys(found) if not ip_address(text).is_link_local)


def host_addresses() -> tuple[bytes, ...]:
    """The addresses that others may reach this host at, 4 or 16 octets each.

    Neither loopback nor link-local addresses: a client elsewhere could do nothing with them. When
    there are no others, loopback after all, for then the clients are here.
    """
    found = [address for _, name in socket.if_nameindex() for address in interface_addresses(name)]
    packed = [ip_address(address) for address in dict.fromkeys(found)]
    reachable = [a for a in packed if not a.is_loopback]
    return tuple(a.packed for a in reachable or packed)


def _ipv4() -> list[tuple[str, str]]:
    """(interface, address) of every IPv4 address: SIOCGIFCONF of netdevice(7)."""
    try:
        from fcntl import ioctl
    except ImportError:
        return []
    buffer = array("B", bytes(_IFREQ.size * MAX_ADDRESSES))
    where, size = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = ioctl(sock.fileno(), SIOCGIFCONF, _IFCONF.pack(size, where))
        except OSError:
            return []
    filled, _ = _IFCONF.unpack(answer)
    table = buffer.tobytes()[:filled]
    entries = [table[i : i + _IFREQ.size] for i in range(0, filled, _IFREQ.size)]
    return [(_label(entry), str(IPv4Address(entry[_ADDRESS_AT:][:4]))) for entry in entries]


def _label(entry: bytes) -> str:
    """The interface; further addresses may be labelled "eth0:1"."""
    return entry[:16].partition(b"\0")[0].partition(b":")[0].decode(errors="replace")


def _ipv6() -> list[tuple[str, str]]:
    """(interface, address) of every IPv6 address: /proc/net/if_inet6 of proc(5)."""
    try:
        lines = IF_INET6.read_text().splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [(words[5], str(IPv6Address(bytes.fromhex(words[0])))) for words in fields]
