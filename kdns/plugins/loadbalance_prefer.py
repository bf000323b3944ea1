"""Networks whose addresses come first in an answer, those of the first one before all others."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from itertools import groupby

from kdns.wire import iana
from kdns.wire.reply import RRset

ADDRESSES = (iana.A, iana.AAAA)
Network = IPv4Network | IPv6Network


class Preference:
    """The order of networks."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._masks = [
            (
                network.max_prefixlen // 8,
                int(network.netmask),
                int(network.network_address),
            )
            for network in networks
        ]

    def rank(self, address: bytes) -> int:
        """Of 4 or 16 octets: the place of the first network that it is in, or behind them all."""
        size, number = len(address), int.from_bytes(address, "big")
        for place, (octets, mask, network) in enumerate(self._masks):
            if size == octets and number & mask == network:
                return place
        return len(self._masks)

    def parts(self, addresses: Sequence[bytes]) -> list[tuple[bytes, ...]]:
        """The addresses of one rank together, the best first, each part in the order it had."""
        ranked = sorted(addresses, key=self.rank)
        return [tuple(part) for _, part in groupby(ranked, self.rank)]

    def of_set(self, rrset: RRset) -> int:
        """The rank of the best address of a set."""
        return min(map(self.rank, rrset.rdatas))

    def sets(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        """A section with its address sets in the order of their best; the rest where it is."""
        addresses = [rrset for rrset in rrsets if rrset.rtype in ADDRESSES]
        if len(addresses) < 2:
            return rrsets
        following = iter(sorted(addresses, key=self.of_set))
        return tuple([next(following) if r.rtype in ADDRESSES else r for r in rrsets])
