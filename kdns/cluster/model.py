"""Kubernetes objects as DNS sees them: packed, checked, and nothing that no record needs.

Names are wire-form labels (a length octet, then lower-case octets), so that the tail of a query's
name is itself the key of the service it asks for. Addresses are 4 or 16 octets.

Each `from_*` takes a decoded object and raises ObjectError when a field that DNS reads is not what
the API promises; the object then costs its own names and nothing else.
"""

import enum
from ipaddress import IPv6Address
from typing import NamedTuple

import msgspec

from kdns.cluster import objects
from kdns.cluster.errors import ObjectError
from kdns.wire import name
from kdns.wire.errors import BadName

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MAX_PORT = 65535


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


class Service(NamedTuple):
    """A Service. `key` is the wire form of `name.namespace`, without the root."""

    key: bytes
    kind: Kind
    addresses: tuple[bytes, ...]
    ports: tuple[Port, ...]
    target: bytes | None
    """An ExternalName's target, absolute and lower-case; None where it can be no alias."""


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address of one ready endpoint. `hostname` and `pod` are wire labels, or empty.

    A struct without the collector's attention: a large cluster has some hundred thousand of them.
    """

    address: bytes
    hostname: bytes
    pod: bytes
    target: bytes
    """The name of an endpoint of address type FQDN, whose address is empty; else empty."""


class Slice(NamedTuple):
    """An EndpointSlice, its endpoints that are not ready left out.

    `service` is the key of the service that it belongs to; empty when the label is missing or is
    no name that a service can have, and then it owns no names.
    """

    service: bytes
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]


class Pod(NamedTuple):
    """A pod's addresses, all of them; empty before it has any."""

    namespace: bytes
    addresses: tuple[bytes, ...]


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


def own_label(text: str, what: str) -> bytes:
    """The wire label of an object's own name. Raises ObjectError.

    The API has lower case only. Were case folded here, two objects could claim one name.
    """
    if text != text.lower():
        raise ObjectError(f"{what}: {text!r}: expected lower case")
    return label(text, what)


def service_key(namespace: str, service: str) -> bytes:
    """The wire form of `service.namespace`, without the root. Raises ObjectError."""
    return own_label(service, "service name") + own_label(namespace, "namespace")


def from_service(obj: objects.Service) -> Service:
    """A Service from the API's. Raises ObjectError."""
    meta, spec = obj.metadata, obj.spec
    what = f"Service {meta.namespace}/{meta.name}"
    key = service_key(meta.namespace, meta.name)
    if spec.type == "ExternalName":
        return Service(key, Kind.EXTERNAL_NAME, (), (), _alias(spec.external_name or "", what))
    listed = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    ports = tuple(_port(p.name, p.protocol, p.port, what) for p in spec.ports or ())
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


def _port(port_name: str | None, protocol: str | None, number: int, what: str) -> Port:
    if not 0 <= number <= MAX_PORT:
        raise ObjectError(f"{what}: port {number}; expected 0 to {MAX_PORT}")
    named = label(port_name, f"{what}: port name") if port_name else b""
    return Port(named, label(protocol or "TCP", f"{what}: protocol"), number)


def from_slice(obj: objects.EndpointSlice) -> Slice:
    """A Slice from the API's. Raises ObjectError."""
    meta = obj.metadata
    what = f"EndpointSlice {meta.namespace}/{meta.name}"
    # Not an error, as it would be in a service: the API checks no number here, and null is "all".
    ports = tuple(
        _port(p.name, p.protocol, p.port, what)
        for p in obj.ports or ()
        if p.port is not None and 0 <= p.port <= MAX_PORT
    )
    make = _named_endpoints if obj.address_type == "FQDN" else _endpoints
    ready = [e for e in obj.endpoints or () if _is_ready(e)]
    endpoints = tuple(made for endpoint in ready for made in make(endpoint, what))
    return Slice(_owner(meta), ports, endpoints)


def _owner(meta: objects.Meta) -> bytes:
    """The key of the slice's service. The label's value may be more than a service's name can."""
    namespace = own_label(meta.namespace, "namespace")
    owner = (meta.labels or {}).get(SERVICE_NAME_LABEL, "")
    try:
        return own_label(owner, SERVICE_NAME_LABEL) + namespace
    except ObjectError:
        return b""


def _is_ready(endpoint: objects.Endpoint) -> bool:
    """EndpointSlice API: an unknown state counts as ready.

    `publishNotReadyAddresses` needs nothing here: the controller sets `ready` for such services.
    """
    return endpoint.conditions.ready is not False


def _endpoints(endpoint: objects.Endpoint, what: str) -> list[Endpoint]:
    hostname, pod = _labels_of(endpoint, what)
    listed = [address(a, f"{what}: address") for a in endpoint.addresses]
    return [Endpoint(packed, hostname, pod, b"") for packed in listed]


def _named_endpoints(endpoint: objects.Endpoint, what: str) -> list[Endpoint]:
    """Of address type FQDN. The root is no place to send anybody to."""
    hostname, pod = _labels_of(endpoint, what)
    if not all(a.removesuffix(".") for a in endpoint.addresses):
        raise ObjectError(f"{what}: an empty address of type FQDN; expected a domain name")
    targets = [_name(a, f"{what}: address of type FQDN") for a in endpoint.addresses]
    return [Endpoint(b"", hostname, pod, target) for target in targets]


def _labels_of(endpoint: objects.Endpoint, what: str) -> tuple[bytes, bytes]:
    """Hostname and pod. Most names of pods are labels; those that are not name no endpoint."""
    hostname = label(endpoint.hostname, f"{what}: hostname") if endpoint.hostname else b""
    ref = endpoint.target_ref
    if ref is None or not ref.name:
        return hostname, b""
    try:
        return hostname, label(ref.name, what)
    except ObjectError:
        return hostname, b""


def from_pod(obj: objects.Pod) -> Pod:
    """A Pod from the API's. Raises ObjectError."""
    meta, status = obj.metadata, obj.status
    what = f"Pod {meta.namespace}/{meta.name}"
    listed = [p.ip for p in status.pod_ips or () if p.ip] or (
        [status.pod_ip] if status.pod_ip else []
    )
    addresses = tuple(dict.fromkeys(address(ip, f"{what}: podIPs") for ip in listed))
    return Pod(own_label(meta.namespace, "namespace"), addresses)


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
