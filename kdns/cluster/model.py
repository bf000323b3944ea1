"""Kubernetes objects as DNS sees them: packed, checked, and nothing that no record needs.

Names are wire-form labels (a length octet, then lower-case octets), so that the tail of a query's
name is itself the key of the service it asks for. Addresses are 4 or 16 octets.

Each `from_*` takes a decoded object and raises ObjectError when a field that DNS reads is not what
the API promises; the object then costs its own names and nothing else.
"""

import enum
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv6Address
from struct import unpack
from typing import NamedTuple, TypeAlias, assert_never

import msgspec

from kdns.cluster import objects
from kdns.cluster.errors import ObjectError
from kdns.wire import name
from kdns.wire.errors import BadName

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_PORT = 65535

_AnyPort: TypeAlias = objects.ServicePort | objects.EndpointPort


class Kind(enum.Enum):
    """How a Service is answered."""

    CLUSTER_IP = enum.auto()
    """ClusterIP, NodePort and LoadBalancer: the addresses of the service itself."""
    HEADLESS = enum.auto()
    """clusterIP None: the addresses of its ready endpoints."""
    EXTERNAL_NAME = enum.auto()
    """An alias for a name elsewhere."""


class Port(NamedTuple):
    """A port of a service or slice; `name` is a wire label, empty for an unnamed port."""

    name: bytes
    protocol: bytes
    number: int

    @property
    def labels(self) -> tuple[bytes, bytes] | None:
        """`_name` and `_proto` (RFC 2782); None for a port without a name, or with one too long.

        The API allows 63 octets, and the underscore would be the 64th.
        """
        if not self.name or max(self.name[0], self.protocol[0]) >= name.MAX_LABEL:
            return None
        return _underscored(self.name), _underscored(self.protocol)


class Namespace(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A Namespace, as the label that everything in it stands below."""

    label: bytes


class Service(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A Service. `key` is the wire form of `name.namespace`, without the root."""

    key: bytes
    kind: Kind
    addresses: tuple[bytes, ...]
    packed_ports: bytes
    target: bytes | None
    """An ExternalName's target, absolute and lower-case; None where it can be no alias."""

    @property
    def ports(self) -> tuple[Port, ...]:
        """In the order of the service."""
        return _unpacked_ports(self.packed_ports)


class Endpoint(NamedTuple):
    """One address of one ready endpoint. `hostname` and `pod` are wire labels, or empty."""

    address: bytes
    hostname: bytes
    pod: bytes
    target: bytes
    """The name of an endpoint of address type FQDN, whose address is empty; else empty."""


class Slice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An EndpointSlice, its endpoints that are not ready left out.

    A large cluster has some hundred thousand endpoints, so there is no object here for each, but
    rows, and each row is one object; it is empty where no endpoint has any of it. `endpoints` puts
    them together again.
    """

    service: bytes
    """The key of the service that it belongs to; empty when the label is missing or is no name that
    a service can have, and then it owns no names."""
    packed_ports: bytes
    packed: bytes
    """Addresses of `width` octets each; none for address type FQDN, which has `targets` instead."""
    width: int = 4
    """4, or 16 where one is IPv6: then IPv4 addresses are mapped (RFC 4291, section 2.5.5.2)."""
    hostnames: bytes = b""
    """Wire labels, one after the other; of no octets where an endpoint has none."""
    pods: str = ""
    """Names of pods as the API has them, joined by `_BETWEEN`, if anybody answers with them."""
    targets: tuple[bytes, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """In the order of the slice."""
        return _unpacked_ports(self.packed_ports)

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """4 or 16 octets each."""
        packed = self.packed
        if self.width == 4:
            return unpack("4s" * (len(packed) // 4), packed)
        rows = unpack("16s" * (len(packed) // 16), packed)
        return tuple([row.removeprefix(_MAPPED) for row in rows])

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Each address of each endpoint, in the order of the slice."""
        addresses = self.addresses
        nothing = (b"",) * len(self.targets or addresses)
        pods = map(_pod_label, self.pods.split(_BETWEEN)) if self.pods else nothing
        hostnames = _labels(self.hostnames) if self.hostnames else nothing
        return tuple(map(Endpoint, addresses or nothing, hostnames, pods, self.targets or nothing))

    def moved(self, other: "Slice") -> tuple[set[bytes], set[bytes]]:
        """The addresses that are here and not in another one, and those that are only there."""
        if self.width == other.width == 4:
            # An update changes few of many: no octets are made but for those.
            here, there = _numbers(self.packed), _numbers(other.packed)
            return _octets(here - there), _octets(there - here)
        before, after = set(self.addresses), set(other.addresses)
        return before - after, after - before

    @property
    def is_empty(self) -> bool:
        """Whether no endpoint is ready."""
        return not self.packed and not self.targets


def _numbers(packed: bytes) -> set[int]:
    return set(memoryview(packed).cast("I"))


def _octets(numbers: set[int]) -> set[bytes]:
    return {number.to_bytes(4, sys.byteorder) for number in numbers}


_MAPPED = bytes(10) + b"\xff\xff"
_BETWEEN = "/"
"""No name of an object has one (Kubernetes, IsValidPathSegmentName)."""


class Pod(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A pod's addresses, all of them; empty before it has any."""

    namespace: bytes
    addresses: tuple[bytes, ...]


Object = Service | Slice | Namespace | Pod


def label(text: str, what: str) -> bytes:
    """A wire label from a name of the API, in lower case. Raises ObjectError."""
    try:
        raw = text.encode().lower()
    except UnicodeEncodeError:
        raw = b""
    if not 0 < len(raw) <= name.MAX_LABEL or b"." in raw:
        raise ObjectError(f"{what}: {text!r} is no DNS label: expected 1 to 63 octets, no dot")
    return bytes((len(raw),)) + raw


def _underscored(wire_label: bytes) -> bytes:
    return bytes((wire_label[0] + 1, 0x5F)) + wire_label[1:]


def address(text: str, what: str) -> bytes:
    """4 or 16 octets from the text of an address. Raises ObjectError.

    An IPv4 address mapped into IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 address, as everywhere
    in Kubernetes. An IPv6 address with a zone means something on one host only, and is refused.
    """
    try:
        if ":" not in text:
            a, b, c, d = text.split(".")
            return bytes((_OCTETS[a], _OCTETS[b], _OCTETS[c], _OCTETS[d]))
        parsed = IPv6Address(text)
    except (KeyError, ValueError) as error:
        raise ObjectError(f"{what}: {text!r} is no IP address") from error
    if parsed.scope_id is not None:
        raise ObjectError(f"{what}: {text!r} has a zone; expected an address without")
    return parsed.packed[12:] if parsed.ipv4_mapped else parsed.packed


# Four times as quick as IPv4Address, and start-up reads a hundred thousand of them.
_OCTETS = {str(octet): octet for octet in range(256)}


def _packed_addresses(texts: Sequence[str], what: str) -> tuple[bytes, int]:
    """`address` of each, one after the other, and the octets of each. Raises ObjectError.

    IPv4 addresses, as nearly all are, are read all at once.
    """
    parts = "./.".join(texts).split(".")
    # Where each has four parts, the next one begins behind every fifth.
    between = parts[4::5]
    if len(parts) == 5 * len(texts) - 1 and between.count("/") == len(between):
        del parts[4::5]
        with suppress(KeyError):
            return bytes(map(_OCTETS.__getitem__, parts)), 4
    listed = [address(text, what) for text in texts]
    if all(len(each) == 4 for each in listed):
        return b"".join(listed), 4
    return b"".join([_MAPPED + each if len(each) == 4 else each for each in listed]), 16


def own_label(text: str, what: str) -> bytes:
    """The wire label of an object's own name. Raises ObjectError.

    The API has lower case only. Were case folded here, two objects could claim one name.
    """
    if text != text.lower():
        raise ObjectError(f"{what}: {text!r}: expected lower case")
    return label(text, what)


@lru_cache(maxsize=4096)
def namespace_label(text: str) -> bytes:
    """The wire label of a namespace: one and the same for all that is in it. Raises ObjectError."""
    return own_label(text, "namespace")


def service_key(namespace: str, service: str) -> bytes:
    """The wire form of `service.namespace`, without the root. Raises ObjectError."""
    return own_label(service, "service name") + namespace_label(namespace)


def service_of(key: bytes) -> tuple[str, str]:
    """The namespace and the name that `service_key` made this of."""
    end = key[0] + 1
    return key[end + 1 :].decode(), key[1:end].decode()


def trigger_time(obj: objects.Object) -> float | None:
    """When what made a slice change happened, in seconds since the epoch; None if nobody says.

    The EndpointSlice controller does, in RFC 3339's form.
    """
    text = (obj.metadata.annotations or {}).get(TRIGGER_TIME, "")
    if not text or not isinstance(obj, objects.EndpointSlice):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def from_object(obj: objects.Object, *, pod_names: bool = True) -> Object:
    """Any of them from the API's; `pod_names` as for `from_slice`. Raises ObjectError."""
    match obj:
        case objects.EndpointSlice():
            return from_slice(obj, pod_names=pod_names)
        case objects.Service():
            return from_service(obj)
        case objects.Namespace():
            return Namespace(own_label(obj.metadata.name, "Namespace"))
        case objects.Pod():
            return from_pod(obj)
        case _:
            assert_never(obj)


def from_service(obj: objects.Service) -> Service:
    """A Service from the API's. Raises ObjectError."""
    meta, spec = obj.metadata, obj.spec
    what = f"Service {meta.namespace}/{meta.name}"
    key = service_key(meta.namespace, meta.name)
    if spec.type == "ExternalName":
        return Service(key, Kind.EXTERNAL_NAME, (), b"", _alias(spec.external_name or "", what))
    listed = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    ports = _ports(tuple(spec.ports or ()), what)
    if "None" in listed:
        return Service(key, Kind.HEADLESS, (), ports, None)
    addresses = dict.fromkeys(address(ip, f"{what}: spec.clusterIPs") for ip in listed if ip)
    return Service(key, Kind.CLUSTER_IP, tuple(addresses), ports, None)


def _alias(text: str, what: str) -> bytes | None:
    """The target of an ExternalName; None for an IP address, which can be no CNAME's target."""
    bare = text.removesuffix(".")
    if not bare:
        raise ObjectError(f"{what}: spec.externalName is empty; expected a domain name")
    try:
        address(bare, what)
    except ObjectError:
        return _name(text, f"{what}: spec.externalName")
    return None


def _name(text: str, what: str) -> bytes:
    try:
        return name.from_text(text).lower()
    except BadName as error:
        raise ObjectError(f"{what}: {error}") from error


def _ports(ports: tuple[_AnyPort, ...], what: str) -> bytes:
    """Ports packed: name, protocol, and two octets for the number of each. Raises ObjectError."""
    try:
        return _packed_ports(ports)
    except ObjectError as error:
        raise ObjectError(f"{what}: {error}") from error


# Most services of a cluster have the same few: they are there once, packed and unpacked.
@lru_cache(maxsize=1024)
def _packed_ports(ports: tuple[_AnyPort, ...]) -> bytes:
    return b"".join([_packed_port(p.name, p.protocol, p.port) for p in ports if p.port is not None])


def _packed_port(port_name: str | None, protocol: str | None, number: int) -> bytes:
    if not 0 <= number <= MAX_PORT:
        raise ObjectError(f"port {number}; expected 0 to {MAX_PORT}")
    named = label(port_name, "port name") if port_name else b"\0"
    return named + label(protocol or "TCP", "protocol") + number.to_bytes(2, "big")


@lru_cache(maxsize=1024)
def _unpacked_ports(packed: bytes) -> tuple[Port, ...]:
    ports: list[Port] = []
    position = 0
    while position < len(packed):
        protocol = position + packed[position] + 1
        number = protocol + packed[protocol] + 1
        # A name of no octets is none.
        port_name = packed[position:protocol].removeprefix(b"\0")
        value = int.from_bytes(packed[number : number + 2], "big")
        ports.append(Port(port_name, packed[protocol:number], value))
        position = number + 2
    return tuple(ports)


def _labels(packed: bytes) -> list[bytes]:
    """Wire labels that stand one after the other; one of no octets is empty."""
    labels: list[bytes] = []
    position = 0
    while position < len(packed):
        end = position + packed[position] + 1
        labels.append(packed[position:end].removeprefix(b"\0"))
        position = end
    return labels


def from_slice(obj: objects.EndpointSlice, *, pod_names: bool = True) -> Slice:
    """A Slice from the API's, with the names of its pods or without. Raises ObjectError."""
    meta = obj.metadata
    what = f"EndpointSlice {meta.namespace}/{meta.name}"
    # Not an error, as it would be in a service: the API checks no number here, and null is "all".
    listed = (p for p in obj.ports or () if p.port is not None and 0 <= p.port <= MAX_PORT)
    ports = _ports(tuple(listed), what)
    owner = _owner(meta)
    # EndpointSlice API: an unknown state counts as ready. `publishNotReadyAddresses` needs nothing
    # here: the controller sets `ready` for such services.
    ready = [
        e for e in obj.endpoints or () if e.conditions is None or e.conditions.ready is not False
    ]
    given = [e.addresses or () for e in ready]
    if not set(map(len, given)) <= {1}:
        # Of one endpoint each, which the API calls interchangeable.
        ready = [e for e, texts in zip(ready, given, strict=True) for _ in texts]
    hostnames = _hostnames(ready, what)
    pods = _pods(ready) if pod_names else ""
    texts = [text for texts in given for text in texts]
    if obj.address_type == "FQDN":
        return Slice(owner, ports, b"", 4, hostnames, pods, _targets(texts, what))
    packed, width = _packed_addresses(texts, f"{what}: address")
    return Slice(owner, ports, packed, width, hostnames, pods)


def _owner(meta: objects.Meta) -> bytes:
    """The key of the slice's service. The label's value may be more than a service's name can."""
    namespace = namespace_label(meta.namespace)
    owner = (meta.labels or {}).get(SERVICE_NAME_LABEL, "")
    try:
        return own_label(owner, SERVICE_NAME_LABEL) + namespace
    except ObjectError:
        return b""


def _hostnames(endpoints: Sequence[objects.Endpoint], what: str) -> bytes:
    given = [e.hostname or "" for e in endpoints]
    if not any(given):
        return b""
    return b"".join([label(text, f"{what}: hostname") if text else b"\0" for text in given])


def _pods(endpoints: Sequence[objects.Endpoint]) -> str:
    names = [e.target_ref.name or "" if e.target_ref else "" for e in endpoints]
    joined = _BETWEEN.join(names)
    if not any(names):
        return ""
    if joined.count(_BETWEEN) == len(names) - 1:
        return joined
    return _BETWEEN.join("" if _BETWEEN in text else text for text in names)


def _pod_label(text: str) -> bytes:
    """Most names of pods are labels; those that are not name no endpoint."""
    try:
        return label(text, "pod")
    except ObjectError:
        return b""


def _targets(texts: Sequence[str], what: str) -> tuple[bytes, ...]:
    """Addresses of type FQDN. The root is no place to send anybody to."""
    if not all(text.removesuffix(".") for text in texts):
        raise ObjectError(f"{what}: an empty address of type FQDN; expected a domain name")
    return tuple(_name(text, f"{what}: address of type FQDN") for text in texts)


def from_pod(obj: objects.Pod) -> Pod:
    """A Pod from the API's. Raises ObjectError."""
    meta, status = obj.metadata, obj.status
    what = f"Pod {meta.namespace}/{meta.name}"
    listed = [p.ip for p in status.pod_ips or () if p.ip] or (
        [status.pod_ip] if status.pod_ip else []
    )
    addresses = dict.fromkeys(address(ip, f"{what}: podIPs") for ip in listed)
    return Pod(namespace_label(meta.namespace), tuple(addresses))


def dashed(packed: bytes) -> bytes:
    """The label of an endpoint without a hostname: its address, dots and colons dashed.

    A label must not end in a dash (RFC 1123, section 2.1), so `fd00:1::` is written `fd00-1--0`.
    """
    if len(packed) == 4:
        text = b"%d-%d-%d-%d" % tuple(packed)
    else:
        text = name.address_text(packed).replace(":", "-").encode()
    if text.endswith(b"-"):
        text += b"0"
    return bytes((len(text),)) + text
