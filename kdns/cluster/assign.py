"""Cluster IPs for Services of manifests that state none, as an API server would have given them.

The address is a function of the set of services alone. A service's namespace and name hash to a
place in the range; where that is taken, the next free one follows, and services take their turns in
the order of their names. So the order of files does not matter, another run gives the same
addresses, and a new service can move only those that collide with it. Addresses that any service
states are taken before the first turn. The network address, the broadcast address and the first
address are never given out; but the first is `default/kubernetes`'s own.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import chain
from typing import Literal

from msgspec import structs

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Service
from kdns.cluster.sink import Key

Family = Literal["IPv4", "IPv6"]
Address = IPv4Address | IPv6Address
ServiceCIDRs = Mapping[Family, IPv4Network | IPv6Network]
"""The range of each family there is one for, the primary family first; empty: assign nothing."""

_ASSIGNED_TYPES = frozenset({None, "", "ClusterIP", "NodePort", "LoadBalancer"})
_FAMILIES: Mapping[str, Family] = {"IPv4": "IPv4", "IPv6": "IPv6"}
_IPV4 = 4
# The network address, and the first one, which an API server keeps for the Service of itself.
_RESERVED = 2
_API_SERVER: Key = ("default", "kubernetes")


class CIDRError(ValueError):
    """A service CIDR that is none; the message says what was expected."""


def parse_service_cidrs(text: str) -> ServiceCIDRs:
    """The ranges of a text like `10.96.0.0/16,fd00:10:96::/112`: at most one of each family.

    The family named first is the one that single-stack services get. Raises CIDRError.
    """
    cidrs: dict[Family, IPv4Network | IPv6Network] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            network = ip_network(part)
        except ValueError as error:
            expected = "expected one like 10.96.0.0/16 or fd00:10:96::/112"
            raise CIDRError(f"service CIDR {part!r}: {error}; {expected}") from error
        family = _family(network)
        if family in cidrs:
            raise CIDRError(f"service CIDR {part!r}: expected at most one of {family}")
        cidrs[family] = network
    return cidrs


@dataclass(frozen=True, slots=True)
class Assigned:
    """The services in the order they came, with their addresses; `errors` by (namespace, name)."""

    services: list[Service]
    errors: dict[Key, ObjectError] = field(default_factory=dict)


def assign_cluster_ips(services: Sequence[Service], cidrs: ServiceCIDRs) -> Assigned:
    """Give each service that needs cluster IPs the ones it lacks.

    One that cannot have them (range exhausted, family without a range, contradicting spec) stays as
    it is and has an ObjectError. Two services of one name are the caller's to sort out.
    """
    pools = {family: _Pool(network) for family, network in cidrs.items()}
    for address in chain.from_iterable(map(_stated, services)):
        pool = pools.get(_family(address))
        if pool is not None:
            pool.take(int(address))
    given: dict[Key, Service] = {}
    errors: dict[Key, ObjectError] = {}
    for service in sorted(filter(_is_assigned, services), key=_key):
        try:
            given[_key(service)] = _completed(service, pools)
        except ObjectError as error:
            errors[_key(service)] = error
    return Assigned([given.get(_key(service), service) for service in services], errors)


class _Pool:
    """The addresses of one range, and which are taken, as offsets from the network address."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self.network = network
        self._first = int(network.network_address) + _RESERVED
        # The network address, the first, and the broadcast address are not given out.
        self._size = max(0, network.num_addresses - _RESERVED - 1)
        self._taken: set[int] = set()
        self._first_is_free = self._size > 0

    @property
    def is_full(self) -> bool:
        return len(self._taken) == self._size

    def take(self, address: int) -> None:
        """Keep an address that a service states; those outside the range were never to be given."""
        if address == self._first - 1:
            self._first_is_free = False
        if 0 <= address - self._first < self._size:
            self._taken.add(address - self._first)

    def give(self, key: Key) -> Address:
        """An address for a service. The pool must not be full."""
        if key == _API_SERVER and self._first_is_free:
            return self.network.network_address + 1
        digest = hashlib.blake2b("/".join(key).encode(), digest_size=16).digest()
        place = int.from_bytes(digest, "big") % self._size
        while place in self._taken:
            place = (place + 1) % self._size
        self._taken.add(place)
        return self.network.network_address + (_RESERVED + place)


def _completed(service: Service, pools: Mapping[Family, _Pool]) -> Service:
    """The service with an address of every family it is to have; itself if it has them."""
    addresses = {_family(address): address for address in _stated(service)}
    missing = [f for f in _families(service, list(addresses), list(pools)) if f not in addresses]
    if not missing:
        return service
    # Judged before the first is given: a service that gets none must not use any up.
    for family in missing:
        _check_pool(service, family, pools)
    for family in missing:
        addresses[family] = pools[family].give(_key(service))
    texts = [str(address) for address in addresses.values()]
    spec = structs.replace(
        service.spec, cluster_ip=texts[0], cluster_ips=texts, ip_families=list(addresses)
    )
    return structs.replace(service, spec=spec)


def _check_pool(service: Service, family: Family, pools: Mapping[Family, _Pool]) -> None:
    if family not in pools:
        raise _error(service, f"no service CIDR of {family} to assign a cluster IP from")
    if pools[family].is_full:
        raise _error(service, f"service CIDR {pools[family].network} is exhausted")


def _families(service: Service, stated: list[Family], pooled: list[Family]) -> list[Family]:
    """The families a service is to have, the primary first (KEP-563, defaulting of Services)."""
    listed = [_known_family(service, name) for name in service.spec.ip_families or ()]
    wanted = list(dict.fromkeys(stated + listed + pooled))
    dual = max(len(stated), len(listed)) > 1
    match service.spec.ip_family_policy or ("RequireDualStack" if dual else "SingleStack"):
        case "SingleStack":
            if dual:
                raise _error(service, "ipFamilyPolicy is SingleStack, expected one family, not two")
            wanted = wanted[:1]
        case "PreferDualStack":
            wanted = [family for family in wanted if family in (*stated, *pooled)]
        case "RequireDualStack":
            if len(wanted) == 1:
                what = "ipFamilyPolicy is RequireDualStack, expected service CIDRs of two families"
                raise _error(service, what)
        case policy:
            what = f"ipFamilyPolicy {policy!r}, expected SingleStack, PreferDualStack or "
            raise _error(service, f"{what}RequireDualStack")
    if not wanted:
        raise _error(service, "no clusterIP, and no service CIDR to assign one from")
    return wanted


def _known_family(service: Service, name: str) -> Family:
    family = _FAMILIES.get(name)
    if family is None:
        raise _error(service, f"ipFamilies has {name!r}, expected IPv4 or IPv6")
    return family


def _is_assigned(service: Service) -> bool:
    """Whether a cluster IP is to be assigned to it, but for those it states.

    Headless services state "None"; what is no address at all is for the reader of addresses to say.
    """
    return service.spec.type in _ASSIGNED_TYPES and len(_texts(service)) == len(_stated(service))


def _texts(service: Service) -> list[str]:
    stated = service.spec.cluster_ips or [service.spec.cluster_ip or ""]
    return [text for text in stated if text]


def _stated(service: Service) -> list[Address]:
    addresses = []
    for text in _texts(service):
        with contextlib.suppress(ValueError):
            addresses.append(ip_address(text))
    return addresses


def _family(of: Address | IPv4Network | IPv6Network) -> Family:
    return "IPv4" if of.version == _IPV4 else "IPv6"


def _key(service: Service) -> Key:
    return service.metadata.namespace, service.metadata.name


def _error(service: Service, what: str) -> ObjectError:
    return ObjectError(f"Service {'/'.join(_key(service))}: {what}")
