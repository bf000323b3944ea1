"""The few fields of Kubernetes objects that DNS needs, decoded straight from the API's JSON.

This is the only module that knows the JSON. A list is decoded in two steps, so that one object of
the wrong shape costs itself and not its neighbours: first the envelope, with every item left as
bytes, then each item into its struct.
"""

import enum
from typing import Any

import msgspec

from kdns.cluster.errors import ObjectError

Octets = bytes | bytearray
"""JSON as it was read."""


class _Struct(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Unknown fields are ignored; JSON null is refused where a value is required."""


class Meta(_Struct, frozen=True):
    """`metadata`: name, namespace (empty for a Namespace), labels and annotations."""

    name: str
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class ServicePort(_Struct, frozen=True):
    """One entry of `spec.ports` of a Service."""

    port: int
    name: str | None = None
    protocol: str | None = None


class ServiceSpec(_Struct, frozen=True):
    """`spec` of a Service. `cluster_ips` is absent from objects older than dual stack."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: list[str] | None = None
    ip_family_policy: str | None = None
    external_name: str | None = None
    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None
    publish_not_ready_addresses: bool | None = None


class Service(_Struct, frozen=True):
    """core/v1 Service."""

    metadata: Meta
    spec: ServiceSpec = ServiceSpec()


class Conditions(_Struct, frozen=True):
    """`conditions` of an endpoint; absent means unknown."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(_Struct, frozen=True):
    """What an endpoint stands for: usually a Pod."""

    name: str | None = None
    kind: str | None = None


class Endpoint(_Struct, frozen=True):
    """One endpoint of a slice: its addresses are interchangeable. Null is as good as absent."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    hostname: str | None = None
    target_ref: TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None


class EndpointPort(_Struct, frozen=True):
    """One port of a slice. A null port means "all ports" and has no SRV record."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(_Struct, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: Meta
    address_type: str = "IPv4"
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class Namespace(_Struct, frozen=True):
    """core/v1 Namespace."""

    metadata: Meta


class PodIP(_Struct, frozen=True):
    """One of a pod's addresses."""

    ip: str | None = None


class PodStatus(_Struct, frozen=True):
    """`status` of a Pod: its phase and its addresses."""

    phase: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: list[PodIP] | None = msgspec.field(default=None, name="podIPs")


class Pod(_Struct, frozen=True):
    """core/v1 Pod."""

    metadata: Meta
    status: PodStatus = PodStatus()


Object = Service | EndpointSlice | Namespace | Pod


class Resource(enum.Enum):
    """What kdns lists and watches; the value is the plural name that RBAC uses."""

    SERVICES = "services"
    ENDPOINTSLICES = "endpointslices"
    NAMESPACES = "namespaces"
    PODS = "pods"

    # Each is there once, and is looked up several times for each object.
    __hash__ = object.__hash__

    @property
    def path(self) -> str:
        """The collection's path in the API, all namespaces."""
        return _PATHS[self]

    @property
    def kind(self) -> str:
        """The `kind` of one object."""
        return _TYPES[self].__name__

    @property
    def type(self) -> "type[Object]":
        """The struct of one object."""
        return _TYPES[self]

    @property
    def api_version(self) -> str:
        """The `apiVersion` of one object."""
        return "discovery.k8s.io/v1" if self is Resource.ENDPOINTSLICES else "v1"

    @property
    def group(self) -> str:
        """The API group as RBAC writes it; empty for the core group."""
        return self.api_version.rpartition("/")[0]


_PATHS = {
    Resource.SERVICES: "/api/v1/services",
    Resource.ENDPOINTSLICES: "/apis/discovery.k8s.io/v1/endpointslices",
    Resource.NAMESPACES: "/api/v1/namespaces",
    Resource.PODS: "/api/v1/pods",
}
_TYPES: dict[Resource, type[Object]] = {
    Resource.SERVICES: Service,
    Resource.ENDPOINTSLICES: EndpointSlice,
    Resource.NAMESPACES: Namespace,
    Resource.PODS: Pod,
}
_DECODERS = {r: msgspec.json.Decoder(t) for r, t in _TYPES.items()}


class ListMeta(_Struct, frozen=True):
    """`metadata` of a list: where to continue, and from where to watch."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class ObjectList(_Struct, frozen=True):
    """One page of a list, its items still bytes."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None
    kind: str = ""


class EventType(enum.Enum):
    """The `type` of a watch line."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class WatchEvent(_Struct, frozen=True):
    """One line of a watch, its object still bytes."""

    type: EventType
    object: msgspec.Raw


class Status(_Struct, frozen=True):
    """The API's own words for a failure (`kind: Status`)."""

    code: int = 0
    reason: str = ""
    message: str = ""
    metadata: ListMeta = ListMeta()


class Identity(_Struct, frozen=True):
    """The part of `metadata` that says which object, and which state of it."""

    name: str
    namespace: str = ""
    resource_version: str = ""


class Bookmark(_Struct, frozen=True):
    """The part of a bookmark's `metadata` that says how far it has all been told."""

    resource_version: str = ""
    annotations: dict[str, str] | None = None

    @property
    def ends_initial_events(self) -> bool:
        """Whether it stands where the state ends and the changes begin (`sendInitialEvents`)."""
        return (self.annotations or {}).get("k8s.io/initial-events-end") == "true"


class _Identified(_Struct, frozen=True):
    metadata: Identity


class _Bookmarked(_Struct, frozen=True):
    metadata: Bookmark


class IdentityList(_Struct, frozen=True):
    """One page of a list of which nothing but the identities is read."""

    metadata: ListMeta = ListMeta()
    items: list[_Identified] | None = None
    kind: str = ""


class _Versioned(_Struct, frozen=True):
    metadata: ListMeta


# Bytes that are no UTF-8, and nesting without end, are not msgspec's own errors.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_list = msgspec.json.Decoder(ObjectList)
_event = msgspec.json.Decoder(WatchEvent)
_status = msgspec.json.Decoder(Status)
_identity = msgspec.json.Decoder(_Identified)
_versioned = msgspec.json.Decoder(_Versioned)
_bookmarked = msgspec.json.Decoder(_Bookmarked)
_identities = msgspec.json.Decoder(IdentityList)


def decode_list(body: Octets) -> ObjectList:
    """One page of a list. Raises ObjectError when it is not one."""
    try:
        return _list.decode(body)
    except _UNREADABLE as error:
        raise ObjectError(f"not a list of objects: {error}") from error


def decode_identities(body: Octets) -> IdentityList:
    """One page of a list, for the identities alone. Raises ObjectError when it is not one."""
    try:
        return _identities.decode(body)
    except _UNREADABLE as error:
        raise ObjectError(f"not a list of objects: {error}") from error


def decode_bookmark(raw: bytes | msgspec.Raw) -> Bookmark:
    """The object of a BOOKMARK. Raises ObjectError when it has no metadata."""
    try:
        return _bookmarked.decode(raw).metadata
    except _UNREADABLE as error:
        raise ObjectError(f"bookmark without metadata: {error}") from error


def decode_event(line: bytes) -> WatchEvent:
    """One line of a watch. Raises ObjectError when it is not one."""
    try:
        return _event.decode(line)
    except _UNREADABLE as error:
        raise ObjectError(f"not a watch event: {error}") from error


def decode_status(body: Octets) -> Status:
    """A Status; an empty one when the bytes are anything else, for errors must not raise errors."""
    try:
        return _status.decode(body)
    except _UNREADABLE:
        return Status()


def decode_object(resource: Resource, raw: bytes | msgspec.Raw) -> Object:
    """One object from its JSON. Raises ObjectError, which names the object where it can."""
    try:
        return _DECODERS[resource].decode(raw)
    except _UNREADABLE as error:
        raise ObjectError(f"{resource.kind} {_name(raw)}: {error}") from error


def decode_identity(raw: bytes | msgspec.Raw) -> Identity:
    """Only the metadata of an object of any kind, for one whose other fields are of no interest.

    Raises ObjectError when there is none, or no name in it.
    """
    try:
        return _identity.decode(raw).metadata
    except _UNREADABLE as error:
        raise ObjectError(f"object without metadata: {error}") from error


def decode_resource_version(raw: bytes | msgspec.Raw) -> str:
    """The resourceVersion of an object that may have no name, as a bookmark has none.

    Raises ObjectError when there is no metadata; gives an empty string when it has no version.
    """
    try:
        return _versioned.decode(raw).metadata.resource_version
    except _UNREADABLE as error:
        raise ObjectError(f"object without metadata: {error}") from error


def convert_object(resource: Resource, value: Any) -> Object:
    """One object from already parsed JSON or YAML. Raises ObjectError as `decode_object` does."""
    try:
        result: Object = msgspec.convert(value, _TYPES[resource])
    except _UNREADABLE as error:
        raise ObjectError(f"{resource.kind} {_name_in(value)}: {error}") from error
    return result


def _name(raw: bytes | msgspec.Raw) -> str:
    try:
        return _written(_identity.decode(raw).metadata)
    except _UNREADABLE:
        return "without a name"


def _name_in(value: Any) -> str:
    try:
        return _written(msgspec.convert(value, _Identified).metadata)
    except _UNREADABLE:
        return "without a name"


def _written(meta: Identity) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
