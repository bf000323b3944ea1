"""Clusters by chance, of everything that the API lets in: a seed gives the same one every time.

Dual stack and one family, headless and not, endpoints in every condition, addresses in several
slices and services, ports without names, aliases of every kind, pods with names that are no labels,
slices of no service, services of no slice, things in namespaces that are not there.
"""

from ipaddress import ip_address
from random import Random
from typing import Any

Tree = dict[str, Any]

SPACES = ("ns0", "ns1", "9ns")
LONG = "x" * 63
NAMES = ("web", "db", "a", "0num", LONG, "web-0", "10-1-0-1", "pod", "svc", "dns", "tcp", "a--b")
HOSTNAMES = ("web-0", "web-1", "h", "10-1-0-1", LONG, "tcp")
PODS = ("web-0", "db-abc-xyz", "x" * 64, LONG, "dotted.pod.name")
PORT_NAMES = ("http", "https", "dns", "dns-tcp", "a", "x" * 15, "")
V4 = tuple(f"10.1.{i}.{j}" for i in range(2) for j in (0, 1, 2, 3, 255))
V6 = ("fd00:1::", "fd00:1::1", "fd00:1::ffff", "fd00:1::1:0:0:2", "::1:2")
FAMILIES = (("IPv4",), ("IPv4",), ("IPv4", "IPv6"), ("IPv6",), ("IPv6", "IPv4"))
CONDITIONS: tuple[Tree, ...] = (
    {},
    {"ready": True},
    {"ready": True, "serving": True, "terminating": False},
    {"ready": False},
    {"ready": False, "serving": True, "terminating": True},
)
TARGETS = (
    "ext.example.test",
    "EXT.Example.Test",
    "web.ns0.svc.cluster.local",
    "db.ns1.svc.cluster.local.",
    "nope.ns0.svc.cluster.local",
    "_http._tcp.web.ns0.svc.cluster.local",
    "1.2.3.4",
    "kube.cluster.local",
)
PHASES = ("Running", "Running", "Pending", "Succeeded", "Failed", "Unknown")


LABELS = (
    "svc", "pod", "dns", "ns", "dns-version", "x", "*", "any", "_tcp", "_udp", "_http", "http",
    "tcp", "_", "_dns-tcp", "10-1-0-1", "10-1-0-300", "1-2-3", "fd00-1--1", "--1-2",
    "fd00-1-0-0-0-0-0-1", "10.1.0.1", "ghost", "empty", *SPACES, *NAMES[:6], *HOSTNAMES[:3],
)  # fmt: skip
TYPES = ("A", "AAAA", "SRV", "PTR", "TXT", "NS", "SOA", "CNAME", "MX", "ANY", "HTTPS", "DS", "CAA")


def strange_questions(seed: int, count: int) -> list[tuple[str, str]]:
    """(name, type): labels that mean something, put together by chance."""
    chance = Random(seed)
    found = []
    for _ in range(count):
        labels = chance.choices(LABELS, k=chance.randint(0, 5))
        tree = chance.choice(("svc", "svc", "svc", "pod", "", "in-addr.arpa"))
        if tree == "in-addr.arpa":
            labels = [*[str(chance.randint(0, 3)) for _ in labels][:3], "10"]
            name = ".".join([*labels, tree])
        else:
            space = [chance.choice((*SPACES, "ghost"))] if tree and chance.random() < 0.8 else []
            name = ".".join([*labels, *space, *([tree] if tree else []), "cluster.local"])
        found.append((f"{name}.", chance.choice(TYPES)))
    return list(dict.fromkeys(found))


class RandomCluster:
    """Makes the objects of one cluster.

    subnet: where its cluster IPs come from; an API server never gives one to two services.
    """

    def __init__(self, seed: int, subnet: int = 0) -> None:
        self._chance = Random(seed)
        self._subnet = subnet
        self._addresses = 0
        self._slices = 0

    def objects(self) -> list[Tree]:
        """A whole cluster."""
        chance = self._chance
        made = [_object("Namespace", "", space) for space in (*SPACES, "empty")]
        for space in (*SPACES, "ghost"):
            for name in chance.sample(NAMES, chance.randint(2, 6)):
                made += self.service(space, name)
        made += [self.slice_(chance.choice(SPACES), "", "IPv4") for _ in range(2)]
        made += [self.slice_(chance.choice(SPACES), "gone", "IPv4"), self.named_slice()]
        return made + [self.pod(number) for number in range(8)]

    def service(self, space: str, name: str) -> list[Tree]:
        """A Service and its slices, if it has any."""
        chance = self._chance
        families = chance.choice(FAMILIES)
        kind = chance.choice(["ClusterIP"] * 4 + ["None"] * 4 + ["LoadBalancer", "ExternalName"])
        spec: Tree = {"type": "ClusterIP" if kind == "None" else kind, "ports": self._ports()}
        if kind == "ExternalName":
            spec["externalName"] = chance.choice((*TARGETS, f"{name}.{space}.svc.cluster.local"))
        elif kind == "None":
            spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
        else:
            ips = [self._cluster_ip(family) for family in families]
            spec |= {"clusterIP": ips[0], "clusterIPs": ips}
        service = _object("Service", space, name, spec=spec)
        if chance.random() < 0.3:
            service["metadata"]["labels"] = {"app": "x"}
        made = [service]
        for family in families:
            count = chance.choice((0, 1, 1, 1, 2, 3))
            made += [self.slice_(space, name, family, spec["ports"]) for _ in range(count)]
        return made

    def slice_(self, space: str, owner: str, family: str, ports: list[Tree] | None = None) -> Tree:
        """An EndpointSlice, whose ports may be the service's."""
        self._slices += 1
        every: Tree = {"name": "", "protocol": "TCP"}
        made = _object("EndpointSlice", space, f"slice-{self._slices}")
        made["apiVersion"] = "discovery.k8s.io/v1"
        if owner:
            made["metadata"]["labels"] = {"kubernetes.io/service-name": owner}
        pool = V4 if family == "IPv4" else V6
        count = self._chance.randint(0, 4)
        return {
            **made,
            "addressType": family,
            "endpoints": [self._endpoint(pool) for _ in range(count)],
            "ports": self._chance.choice((ports or [], self._ports(), [every], None)),
        }

    def named_slice(self) -> Tree:
        """One of address type FQDN."""
        made = self.slice_("ns0", self._chance.choice(NAMES), "IPv4")
        endpoints = [{"addresses": ["a.example.test"], "conditions": {}}]
        return {**made, "addressType": "FQDN", "endpoints": endpoints}

    def pod(self, number: int) -> Tree:
        """A Pod, ended ones too."""
        chance = self._chance
        ips = [chance.choice(V4), *chance.choice(([], [], [chance.choice(V6)]))]
        status: Tree = {"phase": chance.choice(PHASES)}
        if chance.random() < 0.9:
            status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        return _object("Pod", chance.choice(SPACES), f"pod-{number}", spec={}, status=status)

    def _endpoint(self, pool: tuple[str, ...]) -> Tree:
        chance = self._chance
        made: Tree = {
            "addresses": chance.sample(pool, chance.choice((1, 1, 1, 2))),
            "conditions": chance.choice(CONDITIONS),
        }
        if chance.random() < 0.4:
            made["hostname"] = chance.choice(HOSTNAMES)
        if chance.random() < 0.7:
            made["targetRef"] = {"kind": "Pod", "name": chance.choice(PODS), "namespace": "ns0"}
        return made

    def _ports(self) -> list[Tree]:
        chance = self._chance
        return [
            {
                "name": name,
                "port": chance.choice((80, 443, 53, 8080)),
                "protocol": chance.choice(("TCP", "TCP", "UDP", "SCTP")),
            }
            for name in chance.sample(PORT_NAMES, chance.randint(0, 4))
        ]

    def _cluster_ip(self, family: str) -> str:
        self._addresses += 1
        if family == "IPv4":
            return f"10.96.{self._subnet}.{self._addresses}"
        return str(ip_address(f"fd00:10:96:{self._subnet:x}::{self._addresses:x}"))


def _object(kind: str, space: str, name: str, **fields: Any) -> Tree:
    metadata = {"name": name, "namespace": space} if space else {"name": name}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}
