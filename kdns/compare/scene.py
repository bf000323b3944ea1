"""What the replies of CoreDNS and the objects of a cluster say together: the ground of verdicts.

A question is {name, type} and, where it matters, tcp, edns, do, cd, rd, class, case, opcode, nsid.
A reply is {rcode, flags, question, answer, authority, additional, edns, size}, its records lines of
text, `name ttl class type data`; or {error} where there was none.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.model import SERVICE_NAME_LABEL

Json = dict[str, Any]
"""A question, a reply, or both as `q` and `r`."""
SOA = re.compile(r"(SOA \S+ \S+) \d+ ")
SRV = re.compile(r"(SRV \d+) \d+ ")


def canonical(records: list[str]) -> set[str]:
    """Records without letter case, SOA serial and SRV weight."""
    found = set()
    for record in records:
        text = record.lower().replace(" srv ", " SRV ").replace(" soa ", " SOA ")
        found.add(SRV.sub(r"\1 W ", SOA.sub(r"\1 N ", text)))
    return found


def below_zone(name: str, zones: Iterable[str]) -> list[str] | None:
    """The labels below the first of the cluster's zones that fits, lower-case; None for outside."""
    text = name.lower() if name.endswith(".") else name.lower() + "."
    for zone in zones:
        if text == zone:
            return []
        if text.endswith("." + zone):
            return text[: -len(zone) - 1].split(".")
    return None


def above(names: set[str]) -> set[str]:
    """All names above these."""
    return {name[k + 1 :] for name in names for k, char in enumerate(name) if char == "."}


def cluster_ips(spec: objects.ServiceSpec) -> list[str]:
    """The addresses of a service itself; none for a headless one."""
    listed = spec.cluster_ips or [spec.cluster_ip or ""]
    return [address for address in listed if address not in ("", "None")]


def ready_addresses(item: objects.EndpointSlice) -> list[str]:
    """The addresses of the endpoints that are ready, or may be."""
    ready = (e for e in item.endpoints or () if not e.conditions or e.conditions.ready is not False)
    return [address for endpoint in ready for address in endpoint.addresses or ()]


def reverse_name(text: str) -> list[str]:
    """The reverse name of an address, absolute; none for what is no address."""
    try:
        return [f"{ip_address(text.partition('%')[0]).reverse_pointer}."]
    except ValueError:
        return []


def dashes(text: str) -> list[str]:
    """The label of an endpoint of this address that has no other; none for what is no address."""
    try:
        return [model.dashed(model.address(text, "address"))[1:].decode()]
    except ObjectError:
        return []


class Scene:
    """What exists in the cluster, and what this Corefile shows of it (learnt from the rows).

    zones: the forward zones of the cluster, absolute and lower-case.
    """

    def __init__(
        self, items: Iterable[objects.Object], rows: Sequence[Json], zones: tuple[str, ...]
    ) -> None:
        self.zones = zones
        self.services: dict[tuple[str, str], objects.ServiceSpec] = {}
        self.pods: set[tuple[str, object]] = set()
        addresses: set[str] = set()
        unowned: set[str] = set()
        self.aliases: dict[tuple[str, str], set[str]] = {}
        """By service: what its slices of address type FQDN lead to, absolute and lower-case."""
        self.nameless: dict[tuple[str, str], set[str]] = {}
        """By service: labels of endpoints whose pods have names that are no labels."""
        for item in items:
            match item:
                case objects.Service():
                    self.services[item.metadata.namespace, item.metadata.name] = item.spec
                    addresses.update(cluster_ips(item.spec))
                case objects.EndpointSlice() if item.address_type != "FQDN":
                    addresses.update(ready_addresses(item))
                    self._note_nameless(item)
                    if not (item.metadata.labels or {}).get(SERVICE_NAME_LABEL):
                        unowned.update(ready_addresses(item))
                case objects.EndpointSlice():
                    owner = (item.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")
                    led = self.aliases.setdefault((item.metadata.namespace, owner), set())
                    led.update(f"{a.rstrip('.')}.".lower() for a in ready_addresses(item))
                case objects.Pod() if item.status.phase not in ("Succeeded", "Failed"):
                    listed = (p.ip for p in item.status.pod_ips or () if p.ip)
                    place = item.metadata.namespace
                    self.pods.update((place, ip_address(address)) for address in listed)
                case _:
                    pass
        self.reverse = {pointer for a in addresses for pointer in reverse_name(a)}
        self.unowned = {pointer for a in unowned for pointer in reverse_name(a)}
        """Reverse names of addresses in slices that say no service."""
        self.shown: set[str] = set()
        self.soa: set[str] = set()
        self.verified_pods = False
        for row in rows:
            self._learn(row["q"], row["r"])
        self.shown_above = above(self.shown)
        # Of a name to which CoreDNS makes no reply it cannot show that it owns a PTR.
        silent = {str(r["q"]["name"]).lower() for r in rows if "error" in r["r"]}
        self.owners_of_ptr = self.reverse & (self.shown | (silent & self.unowned))
        self.above_ptr = above(self.owners_of_ptr)

    def _note_nameless(self, item: objects.EndpointSlice) -> None:
        owner = (item.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")
        for endpoint in item.endpoints or ():
            pod = endpoint.target_ref.name if endpoint.target_ref else None
            if not endpoint.hostname and "." in (pod or ""):
                labels = self.nameless.setdefault((item.metadata.namespace, owner), set())
                labels.update(label for a in endpoint.addresses or () for label in dashes(a))

    def _learn(self, q: Json, r: Json) -> None:
        if "opcode" in q or "error" in r or q.get("class", "IN") != "IN":
            return
        # Addresses alone show that pods have names: `any` answers HINFO at every name there is.
        pod = (below_zone(q["name"], self.zones) or [""])[-1] == "pod"
        self.verified_pods |= pod and q["type"] in ("A", "AAAA") and bool(r["answer"])
        if "AA" not in r["flags"]:
            return
        if r["rcode"] in ("NOERROR", "NXDOMAIN"):
            self.soa |= {a for a in canonical(r["authority"]) if " SOA " in a}
        if r["rcode"] == "NOERROR" and q["type"] != "SOA":
            self.shown.add(q["name"].lower())
        self.shown |= {a.split()[0].lower() for a in r["answer"] if " SRV " in a or " PTR " in a}

    def exists(self, name: str) -> bool:
        """Whether CoreDNS showed this name, or one below it."""
        return name in self.shown or name in self.shown_above


@dataclass(slots=True)
class Row:
    """One recorded query, taken apart."""

    q: Json
    want: Json
    scene: Scene

    @property
    def name(self) -> str:
        name: str = self.q["name"].lower()
        return name if name.endswith(".") else name + "."

    @property
    def type(self) -> str:
        return str(self.q["type"])

    @property
    def labels(self) -> list[str] | None:
        return below_zone(self.q["name"], self.scene.zones)

    @property
    def plain(self) -> bool:
        """A query of class IN that could be read, and was answered."""
        return (
            "opcode" not in self.q
            and "error" not in self.want
            and self.q.get("class", "IN") == "IN"
            and self.want["rcode"] != "BADVERS"
        )

    @property
    def in_cluster(self) -> bool:
        return self.plain and self.labels is not None

    @property
    def in_reverse(self) -> bool:
        return self.plain and self.labels is None

    @property
    def service(self) -> objects.ServiceSpec | None:
        labels = self.labels
        if not labels or labels[-1] != "svc" or len(labels) < 3:
            return None
        return self.scene.services.get((labels[-2], labels[-3]))

    @property
    def is_external(self) -> bool:
        service = self.service
        return service is not None and service.type == "ExternalName" and self.depth == 3

    @property
    def targets(self) -> set[str]:
        """What this name may be an alias of, absolute and lower-case."""
        if self.is_external:
            text = (self.service and self.service.external_name) or ""
            return {text.lower().rstrip(".") + "."}
        labels = self.labels or []
        owner = (labels[-2], labels[-3]) if len(labels) > 2 else ("", "")
        return self.scene.aliases.get(owner, set())

    @property
    def depth(self) -> int:
        return len(self.labels or ())

    @property
    def is_port(self) -> bool:
        return self.service is not None and self.depth == 5 and not self.is_external

    @property
    def is_pod(self) -> bool:
        return self.in_cluster and self.depth >= 1 and (self.labels or [""])[-1] == "pod"

    @property
    def aliased(self) -> dict[str, set[str]]:
        """Owners of records of the answer that slices make aliases, and what they lead to."""
        found = {}
        for record in self.want["answer"]:
            owner = record.split()[0].lower()
            labels = below_zone(owner, self.scene.zones) or []
            if len(labels) in (3, 4) and (labels[-2], labels[-3]) in self.scene.aliases:
                found[owner] = self.scene.aliases[labels[-2], labels[-3]]
        return found

    @property
    def is_nameless(self) -> bool:
        """Whether CoreDNS may give an endpoint of this name another one, not answered by itself."""
        labels = self.labels
        if labels is None or self.depth != 4 or labels[-1] != "svc":
            return False
        nameless = self.scene.nameless.get((labels[2], labels[1]), set())
        return labels[0] in nameless

    @property
    def leads_too_deep(self) -> bool:
        """Whether records lead to names of more than one label below a service."""
        return self.type in ("SRV", "PTR") and any(
            len(below_zone(record.split()[-1], self.scene.zones) or ()) > 4
            for record in self.want["answer"]
        )

    @property
    def underscored(self) -> bool:
        return all(x.startswith("_") and len(x) > 1 for x in (self.labels or [])[:2])

    @property
    def limit(self) -> int:
        return 65535 if self.q.get("tcp") else max(512, self.q.get("edns", 512))

    @property
    def pod(self) -> str | None:
        """The address of the pod whose name this is."""
        labels = self.labels
        if not self.is_pod or labels is None or len(labels) != 3:
            return None
        for text in (labels[0].replace("-", "."), labels[0].replace("-", ":")):
            try:
                address = ip_address(text)
            except ValueError:
                continue
            return str(address) if (labels[1], address) in self.scene.pods else None
        return None
