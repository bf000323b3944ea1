"""Addresses of no public network in what others answer: what a name is rebound with.

A browser that believes such an answer would let a page of anywhere talk to what only we can reach.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.reply import Reply, RRset

_SVCB: Final = (64, 65)
"""SVCB and HTTPS."""
_HINTS: Final = {4: 4, 6: 16}
"""Octets of the addresses in ipv4hint and ipv6hint (RFC 9460, section 7.3)."""
_NAT64: Final = ip_network("64:ff9b::/96")


def has_private(reply: Reply) -> bool:
    """Whether an address in the answer, or beside it, is of no public network."""
    return any(
        _is_private(address)
        for rrset in (*reply.answer, *reply.additional)
        for address in _addresses(rrset)
    )


def _is_private(octets: bytes) -> bool:
    address = ip_address(octets)
    inner = None if isinstance(address, IPv4Address) else _within(address)
    return not address.is_global or (inner is not None and not inner.is_global)


def _within(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a network would make of it: RFC 6052, section 2.1; RFC 3056."""
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.sixtofour


def _addresses(rrset: RRset) -> Iterator[bytes]:
    for rdata in rrset.rdatas:
        if rrset.rtype in (iana.A, iana.AAAA):
            if len(rdata) in (4, 16):
                yield rdata
        elif rrset.rtype in _SVCB:
            yield from _hinted(rdata)


def _hinted(rdata: bytes) -> Iterator[bytes]:
    """RFC 9460, section 2.2: a priority, a name, and parameters: key, length, value."""
    try:
        _, at = name.read(rdata, 2)
    except WireError:
        return
    while at + 4 <= len(rdata):
        key = int.from_bytes(rdata[at : at + 2], "big")
        end = at + 4 + int.from_bytes(rdata[at + 2 : at + 4], "big")
        size = _HINTS.get(key, 0)
        value = rdata[at + 4 : end]
        if size:
            for start in range(0, len(value) - size + 1, size):
                yield value[start : start + size]
        at = end
