"""What to ask two servers of one cluster: every name that its objects own, and names next to them.

Derived from the objects and not from either server: a name that one of them has forgotten is asked
too. After the names come the denials: what is written a little wrong, and what is not there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from kdns.cluster import model, objects
from kdns.compare.scene import cluster_ips, dashes, reverse_name
from kdns.wire import name
from kdns.wire.errors import BadName

ABSENT = "kdns-compare-absent"
"""A label that no object has."""
_APEX_TYPES = ("SOA", "NS", "A", "AAAA", "TXT")
_SERVICE_TYPES = ("A", "AAAA", "SRV", "CNAME", "TXT", "HTTPS")
_ADDRESS_TYPES = ("A", "AAAA", "SRV")


@dataclass(slots=True, frozen=True)
class Question:
    """name: absolute. about: the object that it is asked for, in words."""

    name: str
    type: str
    about: str = field(compare=False)


def questions(items: Iterable[objects.Object], zones: Sequence[str]) -> list[Question]:
    """The questions about these objects below `zones` (absolute), each once."""
    held = list(items)
    found = chain(
        *(_of_zone(zone) for zone in zones),
        *(_of_object(item, zone) for zone in zones for item in held),
        *(_of_addresses(item) for item in held),
    )
    return [question for question in dict.fromkeys(found) if _can_exist(question.name)]


def _ask(owner: str, types: Iterable[str], about: str) -> Iterator[Question]:
    for rtype in types:
        yield Question(owner, rtype, about)


def _of_zone(zone: str) -> Iterator[Question]:
    yield from _ask(zone, _APEX_TYPES, "the zone")
    yield from _ask(f"ns.dns.{zone}", ("A", "AAAA"), "the name server")
    yield from _ask(f"dns-version.{zone}", ("TXT", "A"), "the version")
    for label in ("svc", "pod", "dns"):
        yield from _ask(f"{label}.{zone}", ("A", "TXT"), f"the names of {label}")
    for absent in (ABSENT, f"{ABSENT}.svc", f"web.{ABSENT}.svc", f"10-0-0-1.{ABSENT}.pod"):
        yield from _ask(f"{absent}.{zone}", ("A", "SOA"), "a name that is not there")


def _of_object(item: objects.Object, zone: str) -> Iterator[Question]:
    meta = item.metadata
    match item:
        case objects.Namespace():
            about = f"namespace {meta.name}"
            yield from _ask(f"{meta.name}.svc.{zone}", ("A", "TXT"), about)
            yield from _ask(f"{meta.name}.pod.{zone}", ("A",), about)
            yield from _ask(f"{ABSENT}.{meta.name}.svc.{zone}", ("A", "AAAA", "SRV"), about)
        case objects.Service():
            yield from _of_service(item, f"{meta.name}.{meta.namespace}.svc.{zone}")
        case objects.EndpointSlice():
            yield from _of_slice(item, zone)
        case objects.Pod():
            listed = [p.ip for p in item.status.pod_ips or () if p.ip]
            for address in listed or [item.status.pod_ip or ""]:
                for label in dashes(address):
                    owner = f"{label}.{meta.namespace}.pod.{zone}"
                    yield from _ask(owner, ("A", "AAAA"), f"pod {meta.namespace}/{meta.name}")


def _of_service(item: objects.Service, owner: str) -> Iterator[Question]:
    about = f"service {item.metadata.namespace}/{item.metadata.name}"
    yield from _ask(owner, _SERVICE_TYPES, about)
    yield from _ask(f"{ABSENT}.{owner}", ("A", "SRV"), about)
    yield from _ask(f"_{ABSENT}._tcp.{owner}", ("SRV",), about)
    for port in item.spec.ports or ():
        yield from _of_port(port.name, port.protocol, owner, about)


def _of_port(port: str | None, protocol: str | None, owner: str, about: str) -> Iterator[Question]:
    below = f"_{(protocol or 'TCP').lower()}.{owner}"
    yield from _ask(below, ("A",), about)
    if port:
        yield from _ask(f"_{port}.{below}", ("SRV", "A"), f"{about}, port {port}")


def _of_slice(item: objects.EndpointSlice, zone: str) -> Iterator[Question]:
    meta = item.metadata
    service = (meta.labels or {}).get(model.SERVICE_NAME_LABEL, "")
    if not service:
        return
    owner = f"{service}.{meta.namespace}.svc.{zone}"
    about = f"endpoints {meta.namespace}/{meta.name}"
    for port in item.ports or ():
        yield from _of_port(port.name, port.protocol, owner, about)
    for endpoint in item.endpoints or ():
        # Endpoints that are not ready are asked for too: they must not be there.
        pod = endpoint.target_ref.name if endpoint.target_ref else None
        dashed = [label for address in endpoint.addresses or () for label in dashes(address)]
        for label in (endpoint.hostname, pod, *dashed):
            if label:
                yield from _ask(f"{label}.{owner}", _ADDRESS_TYPES, about)


def _of_addresses(item: objects.Object) -> Iterator[Question]:
    match item:
        case objects.Service():
            addresses, what = cluster_ips(item.spec), "service"
        case objects.EndpointSlice() if item.address_type != "FQDN":
            addresses = [a for e in item.endpoints or () for a in e.addresses or ()]
            what = "endpoints"
        case _:
            return
    about = f"{what} {item.metadata.namespace}/{item.metadata.name}"
    for address in addresses:
        for owner in reverse_name(address):
            yield from _ask(owner, ("PTR", "A"), about)


def _can_exist(owner: str) -> bool:
    """Whether these are 255 octets of labels at most; an object may have names that are not."""
    try:
        name.from_text(owner)
    except BadName:
        return False
    return True
