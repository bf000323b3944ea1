"""A made-up Kubernetes cluster, and the records that the DNS specification says it has.

The same seed and shape give the same objects and the same records, wherever and whenever. The
objects are for servers that understand Kubernetes; the records are for those that do not, and say
which answer is right. They are made beside each other here, and not by kdns, so that kdns can be
wrong.

    zone           holds
    cluster.local  services, headless services with their endpoints, SRV
    corp.test      the first services again, under a second domain: names to search for
    in-addr.arpa   PTR of cluster IPs and of headless endpoints
    ip6.arpa       PTR of the IPv6 cluster IPs
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

Json: TypeAlias = dict[str, object]
RRsets: TypeAlias = dict[tuple[str, str], tuple[str, ...]]
"""(owner, type) to RDATA in presentation format; names are absolute and lower-case."""

HOME = "cluster.local."
ABROAD = "corp.test."
REVERSE_4 = "in-addr.arpa."
REVERSE_6 = "ip6.arpa."
ZONES = (HOME, ABROAD, REVERSE_4, REVERSE_6)
TTL = 30
"""Seconds, of every record: what kubeadm's Corefile says."""

_SLICE_SIZE = 100
"""Endpoints of one slice: what the EndpointSlice controller makes of more."""
_CLUSTER_IPS = int(IPv4Address("10.96.0.10"))
_CLUSTER_IPS_6 = int(IPv6Address("fd00:10:96::a"))
_POD_IPS = int(IPv4Address("10.128.0.1"))
_FIRST = ("cart", "checkout", "search", "price", "stock", "user", "mail", "image", "order", "auth")
_SECOND = ("api", "worker", "cache", "db", "front", "proxy", "queue", "admin", "sync", "gateway")


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a cluster is.

    headless: (endpoints of each, how many such services). endpoints: of every service that has a
    cluster IP. abroad: how many services stand in the second domain too, for servers that must be
    given each name.
    """

    services: int
    namespaces: int = 50
    endpoints: int = 2
    headless: tuple[tuple[int, int], ...] = ((20, 50), (1_000, 2))
    abroad: int = 1_000


class Service(NamedTuple):
    """A service as its clients know it. `address6` is empty for one that is IPv4 only."""

    name: str
    namespace: str
    address: str
    address6: str

    def host(self, zone: str = HOME) -> str:
        """Its name in a zone."""
        return f"{self.name}.{self.namespace}.svc.{zone}"


class Headless(NamedTuple):
    """A headless service: its endpoints' host names and addresses."""

    name: str
    namespace: str
    endpoints: tuple[tuple[str, str], ...]

    @property
    def host(self) -> str:
        """Its name."""
        return f"{self.name}.{self.namespace}.svc.{HOME}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster: what there is, and which names exist."""

    shape: Shape
    namespaces: tuple[str, ...]
    services: tuple[Service, ...]
    headless: tuple[Headless, ...]
    rrsets: RRsets
    names: frozenset[str] = field(repr=False)

    @property
    def abroad(self) -> tuple[Service, ...]:
        """The services that every server knows under the second domain."""
        return self.services[: self.shape.abroad]

    @property
    def ported(self) -> tuple[Service, ...]:
        """The services whose SRV every server knows: IPv4 alone, since the weight of a dual-stack
        service's is the server's choice."""
        return tuple(s for s in self.services[:200] if not s.address6)

    def look(self, qname: str, qtype: str) -> tuple[int, tuple[str, ...]]:
        """The rcode and the RDATA of the right answer to a question about one of ZONES."""
        found = self.rrsets.get((qname, qtype))
        if found is not None:
            return 0, found
        return (0 if qname in self.names else 3), ()

    def objects(self) -> Iterator[Json]:
        """The Kubernetes objects, each as the API would give it."""
        for namespace in self.namespaces:
            yield {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": namespace},
            }
        pods = _POD_IPS + sum(len(h.endpoints) for h in self.headless)
        for index, service in enumerate(self.services):
            yield _service_object(service)
            first = pods + index * self.shape.endpoints
            addresses = [str(IPv4Address(first + n)) for n in range(self.shape.endpoints)]
            endpoints = [_endpoint(address) for address in addresses]
            yield from _slices(service.name, service.namespace, 8080, endpoints)
        for headless in self.headless:
            yield _headless_object(headless)
            endpoints = [_endpoint(a) | {"hostname": h} for h, a in headless.endpoints]
            yield from _slices(headless.name, headless.namespace, 80, endpoints)


def generate(shape: Shape, seed: int) -> Cluster:
    """The cluster of that shape and seed."""
    chance = random.Random(seed)
    namespaces = tuple(f"team-{n:02}" for n in range(shape.namespaces))
    services = tuple(_service(n, chance, namespaces) for n in range(shape.services))
    headless = tuple(_headless(shape, namespaces))
    rrsets = _rrsets(services, services[: shape.abroad], headless)
    return Cluster(shape, namespaces, services, headless, rrsets, _names(rrsets, namespaces))


def reverse(address: str) -> str:
    """The name that owns an address's PTR (RFC 1035, 3.5; RFC 3596, 2.5)."""
    made = IPv6Address(address) if ":" in address else IPv4Address(address)
    return made.reverse_pointer + "."


def _service(index: int, chance: random.Random, namespaces: tuple[str, ...]) -> Service:
    name = f"{chance.choice(_FIRST)}-{chance.choice(_SECOND)}-{index}"
    # Every other one is dual stack, so that half of the AAAA questions are answered "no data", as
    # they all are in a cluster without IPv6.
    address6 = str(IPv6Address(_CLUSTER_IPS_6 + index)) if index % 2 else ""
    address = str(IPv4Address(_CLUSTER_IPS + index))
    return Service(name, chance.choice(namespaces), address, address6)


def _headless(shape: Shape, namespaces: tuple[str, ...]) -> Iterator[Headless]:
    pods = _POD_IPS
    for size, count in shape.headless:
        for index in range(count):
            members = tuple((f"db-{n}", str(IPv4Address(pods + n))) for n in range(size))
            pods += size
            yield Headless(f"db-{size}-{index}", namespaces[index % len(namespaces)], members)


def _rrsets(
    services: Iterable[Service], abroad: Iterable[Service], headless: Iterable[Headless]
) -> RRsets:
    found: RRsets = {}
    for service in services:
        _add_addresses(found, service, HOME)
        host = service.host()
        srv = (f"0 100 80 {host}",)
        found[host, "SRV"] = found[f"_http._tcp.{host}", "SRV"] = srv
        for address in filter(None, (service.address, service.address6)):
            found[reverse(address), "PTR"] = (host,)
    for service in abroad:
        _add_addresses(found, service, ABROAD)
    for each in headless:
        _add_headless(found, each)
    return found


def _add_addresses(found: RRsets, service: Service, zone: str) -> None:
    host = service.host(zone)
    found[host, "A"] = (service.address,)
    if service.address6:
        found[host, "AAAA"] = (service.address6,)


def _add_headless(found: RRsets, headless: Headless) -> None:
    host = headless.host
    found[host, "A"] = tuple(address for _, address in headless.endpoints)
    # The weights of one priority add up to 100, as far as whole numbers from 1 upwards can.
    weight = max(1, 100 // len(headless.endpoints))
    srv = tuple(f"0 {weight} 80 {label}.{host}" for label, _ in headless.endpoints)
    found[host, "SRV"] = found[f"_http._tcp.{host}", "SRV"] = srv
    for label, address in headless.endpoints:
        found[f"{label}.{host}", "A"] = (address,)
        found[reverse(address), "PTR"] = (f"{label}.{host}",)


def _names(rrsets: RRsets, namespaces: Iterable[str]) -> frozenset[str]:
    """Every name that exists: owners, and what stands above them (RFC 8020)."""
    names = set(ZONES)
    todo = {owner for owner, _ in rrsets}
    todo |= {f"{n}.svc.{zone}" for n in namespaces for zone in (HOME, ABROAD)}
    while todo:
        names |= todo
        todo = {name.partition(".")[2] for name in todo} - names
        todo -= {"", "local.", "test.", "arpa."}
    return frozenset(names)


def _service_object(service: Service) -> Json:
    addresses = [a for a in (service.address, service.address6) if a]
    families = ["IPv4", "IPv6"][: len(addresses)]
    spec: Json = {
        "type": "ClusterIP",
        "clusterIP": service.address,
        "clusterIPs": addresses,
        "ipFamilies": families,
        "ipFamilyPolicy": "SingleStack" if len(addresses) == 1 else "RequireDualStack",
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
    }
    return _object("v1", "Service", service.name, service.namespace, {"spec": spec})


def _headless_object(headless: Headless) -> Json:
    spec: Json = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "clusterIPs": ["None"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}],
    }
    return _object("v1", "Service", headless.name, headless.namespace, {"spec": spec})


def _slices(name: str, namespace: str, port: int, endpoints: list[Json]) -> Iterator[Json]:
    for start in range(0, len(endpoints), _SLICE_SIZE):
        made = _object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            f"{name}-{start // _SLICE_SIZE}",
            namespace,
            {
                "addressType": "IPv4",
                "endpoints": endpoints[start : start + _SLICE_SIZE],
                "ports": [{"name": "http", "protocol": "TCP", "port": port}],
            },
        )
        metadata: Json = {"name": f"{name}-{start // _SLICE_SIZE}", "namespace": namespace}
        yield made | {"metadata": metadata | {"labels": {"kubernetes.io/service-name": name}}}


def _endpoint(address: str) -> Json:
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
    }


def _object(version: str, kind: str, name: str, namespace: str, rest: Json) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | rest
