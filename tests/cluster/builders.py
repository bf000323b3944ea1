"""Kubernetes objects in a line each, a cluster of them, and answers as a line of text.

Places are written `name.namespace`. In names and records, `Z` is cluster.local. and `S` is
svc.cluster.local., as the last label: `web.shop.S`.
"""

import re
from collections.abc import Iterable
from typing import Any

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from kdns.cluster import objects
from kdns.cluster.objects import Resource, convert_object
from kdns.cluster.state import Cluster
from kdns.cluster.zone import ForwardZone, ReverseZone, ZoneOptions
from kdns.wire import iana, name
from kdns.wire.reply import RRset
from kdns.zone.node import End, Lookup, look

Tree = dict[str, Any]
Zone = ForwardZone | ReverseZone

APEX = name.from_text("cluster.local.")
NOW = 1_700_000_000
HTTP = ({"name": "http", "port": 80, "protocol": "TCP"},)
RESOURCES = {resource.kind: resource for resource in Resource}


def namespace(text: str) -> Tree:
    """A Namespace."""
    return {"kind": "Namespace", "metadata": {"name": text}}


def service(place: str, *ips: str, ports: Iterable[Tree] = HTTP, **spec: Any) -> Tree:
    """A Service with these cluster IPs; "None" for a headless one."""
    given = {"clusterIP": ips[0], "clusterIPs": list(ips)} if ips else {}
    return {
        "kind": "Service",
        "metadata": meta(place),
        "spec": {"type": "ClusterIP", **given, "ports": list(ports), **spec},
    }


def external(place: str, target: str) -> Tree:
    """A Service of type ExternalName."""
    return service(place, ports=(), type="ExternalName", externalName=target)


def endpoint(*addresses: str, ready: bool | None = True, pod: str = "", **fields: Any) -> Tree:
    """An endpoint; `ready` None leaves the condition out."""
    conditions = {} if ready is None else {"ready": ready}
    reference = {"targetRef": {"kind": "Pod", "name": pod}} if pod else {}
    return {"addresses": list(addresses), "conditions": conditions, **reference, **fields}


def slice_(
    place: str, owner: str, *endpoints: Tree | str, ports: Iterable[Tree] = HTTP, **fields: Any
) -> Tree:
    """An EndpointSlice of the service `owner`; an endpoint may be just its address."""
    labels = {"kubernetes.io/service-name": owner} if owner else {}
    return {
        "kind": "EndpointSlice",
        "metadata": {**meta(place), "labels": labels},
        "addressType": "IPv4",
        "endpoints": [endpoint(e) if isinstance(e, str) else e for e in endpoints],
        "ports": list(ports),
        **fields,
    }


def pod(place: str, *ips: str) -> Tree:
    """A Pod with these addresses."""
    return {"kind": "Pod", "metadata": meta(place), "status": {"podIPs": [{"ip": i} for i in ips]}}


def meta(place: str) -> Tree:
    """`metadata` of `name.namespace`."""
    text, _, space = place.partition(".")
    return {"name": text, "namespace": space}


def made(tree: Tree) -> tuple[Resource, objects.Object]:
    """An object, and the resource that it is one of."""
    resource = RESOURCES[tree["kind"]]
    return resource, convert_object(resource, tree)


def empty_cluster() -> Cluster:
    """A cluster of nothing, in which a bad object fails the test."""

    def fail(reason: str) -> None:
        raise AssertionError(reason)

    return Cluster(lambda: NOW, fail)


def cluster_of(*trees: Tree) -> Cluster:
    """A cluster that holds these objects."""
    cluster = empty_cluster()
    for tree in trees:
        cluster.apply(*made(tree))
    return cluster


def forward(cluster: Cluster, apex: bytes = APEX, **options: Any) -> ForwardZone:
    """The zone cluster.local of `cluster`."""
    return ForwardZone(apex, cluster, ZoneOptions(**options))


def reverse(cluster: Cluster, apex: str = "in-addr.arpa.", **options: Any) -> ReverseZone:
    """A reverse zone of `cluster`, with cluster.local as its primary."""
    return ReverseZone(name.from_text(apex), APEX, cluster, ZoneOptions(**options))


def full(text: str) -> str:
    """A name written out: `web.shop.S` is `web.shop.svc.cluster.local.`."""
    text = re.sub(r"(^|\.)S$", r"\1svc.Z", text)
    return re.sub(r"(^|\.)Z$", r"\1cluster.local.", text)


def find(zone: Zone, qname: str, qtype: str) -> Lookup:
    """What a look-up gives; the name is folded, as the reader of queries does."""
    key = name.from_text(full(qname)).lower()
    return look(zone.node(key), dns.rdatatype.from_text(qtype))


def ask(zone: Zone, qname: str, qtype: str = "A") -> str:
    """The answer in a line: NX, ND, or sorted records, and after a bar the additional ones."""
    found = find(zone, qname, qtype)
    if found.rrset is None:
        return {End.NXDOMAIN: "NX", End.NODATA: "ND"}[found.end]
    assert found.rrset.owner == name.from_text(full(qname)).lower()
    records = [line.partition(" ")[2] for line in texts(found.rrset)]
    return _line(records, [line for rrset in found.additional for line in texts(rrset)])


def expected(line: str) -> str:
    """A line of a test's table, in the form that `ask` gives."""
    written = " ".join(full(word.strip(";")) + ";" * word.endswith(";") for word in line.split())
    records, _, additional = written.partition(" | ")
    return _line(records.split("; "), additional.split("; ") if additional else [])


def _line(records: list[str], additional: list[str]) -> str:
    joined = "; ".join(sorted(records))
    return f"{joined} | {'; '.join(sorted(additional))}" if additional else joined


def texts(rrset: RRset) -> list[str]:
    """`owner TYPE data` of each record, read by an implementation that is not ours."""
    owner = dns.name.from_wire(rrset.owner, 0)[0].to_text()
    rtype = dns.rdatatype.RdataType(rrset.rtype)
    return [
        f"{owner} {rtype.name} "
        + dns.rdata.from_wire(dns.rdataclass.IN, rtype, data, 0, len(data)).to_text()
        for data in rrset.rdatas
    ]


def ttl(zone: Zone, qname: str, qtype: str = "A") -> int:
    """The TTL of an answer, seconds."""
    found = find(zone, qname, qtype)
    assert found.rrset is not None
    return found.rrset.ttl


def rdatas(zone: Zone, qname: str, rtype: int = iana.SRV) -> tuple[bytes, ...]:
    """The data at a name; nothing where there is none."""
    found = look(zone.node(name.from_text(full(qname)).lower()), rtype)
    return found.rrset.rdatas if found.rrset else ()
