"""The cluster's zones: which node stands at a name, forward and reverse.

A forward zone's grammar, right to left (CoreDNS's shapes, the specification's names):

    ""  svc  pod  dns            exist
    dns-version                  TXT (specification 2.2)
    ns.dns                       A, AAAA: this server
    ns.svc, ns.pod               exist when the namespace does
    svc.ns.svc and below         see service.py
    address.ns.pod               A or AAAA, by the pods mode

A reverse zone holds PTR records (specification 2.3.3, 2.4.3) for cluster IPs and ready endpoints.

Nodes are made from the state on demand; what is remembered of a service is dropped the moment that
it changes, so a look-up never sees an older state than the one applied.
"""

import enum
import re
from dataclasses import dataclass

from kdns.cluster import model
from kdns.cluster.errors import ObjectError
from kdns.cluster.model import Kind
from kdns.cluster.service import Naming, ServiceView, address_sets, endpoint_label
from kdns.cluster.state import Change, Cluster
from kdns.wire import iana, name, rdata
from kdns.wire.errors import BadName
from kdns.wire.reply import RRset
from kdns.zone.node import EMPTY, Node

SVC = b"\x03svc"
DNS = b"\x03dns"
NS_DNS = b"\x02ns" + DNS
DNS_VERSION = b"\x0bdns-version"
HOSTMASTER = b"\x0ahostmaster"

SCHEMA_VERSION = b"1.1.0"
SCHEMA_TTL = 28800
"""Seconds; the specification's own example, and CoreDNS's constant."""
MAX_SOA_TTL = 300
"""Seconds: CoreDNS caps the TTL of the SOA record, and so of negative answers (RFC 2308, 5)."""
MOST_HIDDEN = 512
"""Addresses without a name to show, as in a namespace that is not served, that are looked at below
one name: nobody is to have us look at a hundred thousand for each question."""
REFRESH, RETRY, EXPIRE = 7200, 1800, 86400


class PodsMode(enum.Enum):
    """The `pods` option of the kubernetes directive."""

    DISABLED = "disabled"
    INSECURE = "insecure"
    VERIFIED = "verified"


@dataclass(slots=True, frozen=True)
class ZoneOptions:
    """What the kubernetes directive says about answers.

    namespaces: the only ones that exist, as labels; None for all.
    local_addresses: of this server, for `ns.dns`.
    """

    ttl: int = 5
    pods: PodsMode = PodsMode.DISABLED
    endpoint_pod_names: bool = False
    ignore_empty_service: bool = False
    namespaces: frozenset[bytes] | None = None
    local_addresses: tuple[bytes, ...] = ()


class _Zone:
    """What forward and reverse zones share: an apex, and a name server at ns.dns."""

    def __init__(self, apex: bytes, cluster: Cluster, options: ZoneOptions) -> None:
        """Raises BadName for an apex so long that the zone's own names could not exist."""
        if len(HOSTMASTER + apex) > name.MAX_NAME:
            most = name.MAX_NAME - len(HOSTMASTER)
            raise BadName(f"zone of {len(apex)} octets: at most {most} leave room for its SOA")
        self.apex = apex
        self._cluster = cluster
        self._options = options
        self._ns_name = NS_DNS + apex
        self._soa: tuple[int, RRset] | None = None

    def soa(self) -> RRset:
        """The SOA record, with the present serial (RFC 1035, 3.3.13; RFC 2308, 4)."""
        serial = self._cluster.serial
        if self._soa is not None and self._soa[0] == serial:
            return self._soa[1]
        ttl = self._options.ttl
        data = rdata.soa(
            self._ns_name,
            HOSTMASTER + self.apex,
            serial,
            REFRESH,
            RETRY,
            EXPIRE,
            ttl,
        )
        made = RRset(self.apex, iana.SOA, min(ttl, MAX_SOA_TTL), (data,))
        self._soa = (serial, made)
        return made

    def _in_dns(self, key: bytes) -> Node | None:
        """`dns` and below: it exists for the sake of `ns.dns` (RFC 8020)."""
        if key == self._ns_name:
            return Node({rrset.rtype: rrset for rrset in self._own_addresses()})
        return EMPTY if key == DNS + self.apex else None

    def _own_addresses(self) -> tuple[RRset, ...]:
        options = self._options
        return tuple(address_sets(self._ns_name, options.ttl, options.local_addresses))

    def _apex_node(self, ns: tuple[bytes, ...], glue: tuple[RRset, ...]) -> Node:
        ns_set = RRset(self.apex, iana.NS, self._options.ttl, ns)
        return Node({iana.SOA: self.soa(), iana.NS: ns_set}, glue)

    def _shown(self, namespace: bytes) -> bool:
        allowed = self._options.namespaces
        return allowed is None or namespace in allowed


class ForwardZone(_Zone):
    """One zone of services and pods, cluster.local say."""

    def __init__(self, apex: bytes, cluster: Cluster, options: ZoneOptions) -> None:
        super().__init__(apex, cluster, options)
        self._naming = Naming(SVC + apex, options.ttl, options.endpoint_pod_names)
        self._views: dict[bytes, ServiceView] = {}
        version = RRset(DNS_VERSION + apex, iana.TXT, SCHEMA_TTL, (rdata.txt(SCHEMA_VERSION),))
        self._version = Node({iana.TXT: version})
        cluster.listen(self._on_change)

    def node(self, key: bytes) -> Node | None:
        """The node at `key`, an absolute lower-case name at or below the apex; None for no name."""
        below = key[: len(key) - len(self.apex)]
        if not below:
            return self._apex()
        starts = _label_starts(below)
        match below[starts[-1] :]:
            case b"\x03svc":
                return self._in_services(below, starts)
            case b"\x03pod":
                return self._in_pods(below, starts)
            case b"\x03dns":
                return self._in_dns(key)
        return self._version if below == DNS_VERSION else None

    def _in_services(self, below: bytes, starts: list[int]) -> Node | None:
        depth = len(starts)
        if depth == 1:
            return EMPTY
        if not self._has_namespace(below[starts[-2] : starts[-1]]):
            return None
        if depth == 2:
            return EMPTY
        view = self._view(below[starts[-3] : starts[-1]])
        return None if view is None else view.node(below[: starts[-3]])

    def _has_namespace(self, label: bytes) -> bool:
        return label in self._cluster.namespaces and self._shown(label)

    def _view(self, key: bytes) -> ServiceView | None:
        view = self._views.get(key)
        if view is None:
            service = self._cluster.services.get(key)
            if service is None:
                return None
            view = ServiceView(service, self._cluster.slices_of(key), self._naming)
            self._views[key] = view
        if self._options.ignore_empty_service and not view.has_endpoints:
            service = self._cluster.services[key]
            if service.kind is Kind.CLUSTER_IP:
                return None
        return view

    def _on_change(self, change: Change) -> None:
        for key in change.services:
            self._views.pop(key, None)

    def _apex(self) -> Node:
        """The apex, its NS being the service that this server stands behind, if it can be found."""
        glue: dict[bytes, list[RRset]] = {}
        for own_name in self._names_of_this_server():
            held = self.node(own_name) or EMPTY
            found = list(filter(None, map(held.find, (iana.A, iana.AAAA))))
            # A name server without an address, or in a namespace that is not shown, helps nobody.
            if found:
                glue[own_name] = found
        if not glue:
            return self._apex_node((self._ns_name,), self._own_addresses())
        return self._apex_node(tuple(glue), tuple(r for rrsets in glue.values() for r in rrsets))

    def _names_of_this_server(self) -> list[bytes]:
        """Of services with an endpoint here: a headless one by the endpoint's name, for PTR too."""
        names: dict[bytes | None, None] = {}
        for address in self._options.local_addresses:
            for held in self._cluster.slices_at(address):
                service = self._cluster.services.get(held.service)
                if service is None or service.kind is Kind.EXTERNAL_NAME:
                    continue
                headless = service.kind is Kind.HEADLESS
                labels = labels_at(address, held, self._naming) if headless else [b""]
                names.update(dict.fromkeys(self._naming.name_of(n, held.service) for n in labels))
        return [made for made in names if made is not None]

    def _in_pods(self, below: bytes, starts: list[int]) -> Node | None:
        depth = len(starts)
        if depth == 1:
            return EMPTY
        namespace = below[starts[-2] : starts[-1]]
        mode = self._options.pods
        if depth > 3 or mode is PodsMode.DISABLED or not self._has_namespace(namespace):
            return None
        if depth == 2:
            return EMPTY
        packed = pod_address(below[1 : starts[1]])
        if packed is None:
            return None
        if mode is PodsMode.VERIFIED and not self._cluster.has_pod(namespace, packed):
            return None
        rtype = iana.A if len(packed) == 4 else iana.AAAA
        return Node({rtype: RRset(below + self.apex, rtype, self._options.ttl, (packed,))})


class ReverseZone(_Zone):
    """One zone of PTR records. `primary` is the forward zone that their targets are in."""

    def __init__(self, apex: bytes, primary: bytes, cluster: Cluster, options: ZoneOptions) -> None:
        super().__init__(apex, cluster, options)
        self._naming = Naming(SVC + primary, options.ttl, options.endpoint_pod_names)

    def node(self, key: bytes) -> Node | None:
        """The node at `key`, an absolute lower-case name at or below the apex; None for no name."""
        if key == self.apex:
            return self._apex_node((self._ns_name,), self._own_addresses())
        span = reverse_span(key)
        if span is None:
            return self._in_dns(key)
        first, last = span
        if first != last:
            within = self._cluster.addresses_within(first, last)
            for number, address in enumerate(within):
                if number == MOST_HIDDEN or self._targets(address):
                    return EMPTY
            return None
        targets = self._targets(first)
        if not targets:
            return None
        return Node({iana.PTR: RRset(key, iana.PTR, self._options.ttl, targets)})

    def _targets(self, packed: bytes) -> tuple[bytes, ...]:
        """Spec 2.3.3 and 2.4.3; an address that is a service's is not an endpoint's too."""
        naming = self._naming
        for service in self._cluster.services_at(packed):
            target = naming.name_of(b"", service.key)
            if target is not None and self._shown(_namespace_of(service.key)):
                return (target,)
        found = dict.fromkeys(
            naming.name_of(label, held.service)
            for held in self._cluster.slices_at(packed)
            if self._shown(_namespace_of(held.service))
            for label in labels_at(packed, held, naming)
        )
        return tuple(target for target in found if target is not None)


def labels_at(address: bytes, held: model.Slice, naming: Naming) -> list[bytes]:
    """The labels of a slice's endpoints that have this address."""
    return [endpoint_label(e, naming) for e in held.endpoints if e.address == address]


def _label_starts(below: bytes) -> list[int]:
    starts: list[int] = []
    position = 0
    while position < len(below):
        starts.append(position)
        position += below[position] + 1
    return starts


def _namespace_of(key: bytes) -> bytes:
    return key[key[0] + 1 :]


_V4_LABEL = re.compile(rb"[0-9]{1,3}(?:-[0-9]{1,3}){3}")
_V6_LABEL = re.compile(rb"[0-9a-f-]{2,39}")


def pod_address(label: bytes) -> bytes | None:
    """The address that a pod's label spells with dashes, or None when it spells none.

    `10-1-0-7` is IPv4, with exactly three dashes; all else must be IPv6, in any of its spellings.
    """
    if _V4_LABEL.fullmatch(label):
        text = label.decode().replace("-", ".")
    elif _V6_LABEL.fullmatch(label):
        text = label.decode().replace("-", ":")
    else:
        return None
    try:
        return model.address(text, "pod")
    except ObjectError:
        return None


def reverse_span(key: bytes) -> tuple[bytes, bytes] | None:
    """The first and the last address that stand at or below a name of the reverse trees.

    RFC 1035, section 3.5; RFC 3596, section 2.5. The same address twice for a whole one. None for
    what is no part of an address, and for names of a single octet or nibble: those are shared with
    the rest of the world, see docs/decisions.
    """
    if name.is_below(key, name.IN_ADDR_ARPA):
        return _span_v4(name.split(key)[-3::-1])
    if name.is_below(key, name.IP6_ARPA):
        return _span_v6(name.split(key)[-3::-1])
    return None


def _span_v4(labels: list[bytes]) -> tuple[bytes, bytes] | None:
    if not 1 < len(labels) <= 4 or not all(_OCTET.fullmatch(label) for label in labels):
        return None
    octets = [int(label) for label in labels]
    if max(octets) > 255:
        return None
    missing = 4 - len(labels)
    known = bytes(octets)
    return known + bytes(missing), known + b"\xff" * missing


def _span_v6(labels: list[bytes]) -> tuple[bytes, bytes] | None:
    digits = b"".join(labels)
    whole = len(digits) == len(labels) and _NIBBLES.fullmatch(digits)
    if not 1 < len(labels) <= 32 or not whole:
        return None
    text = digits.decode()
    return bytes.fromhex(text.ljust(32, "0")), bytes.fromhex(text.ljust(32, "f"))


_OCTET = re.compile(rb"0|[1-9][0-9]{0,2}")
_NIBBLES = re.compile(rb"[0-9a-f]*")
