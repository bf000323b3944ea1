"""The names of one service, by the Kubernetes DNS specification 1.1.0 and CoreDNS's extensions.

    svc.ns.svc.zone                  A, AAAA, SRV of every port; or CNAME        (2.3, 2.4.1, 2.5)
    _port._proto.svc.ns.svc.zone     SRV                                          (2.3.2, 2.4.2)
    _proto.svc.ns.svc.zone           exists, holds nothing                        (RFC 8020)
    endpoint.svc.ns.svc.zone         A, AAAA, SRV of the endpoint's ports         (2.4.1)

A view is made of a service and its slices when the first question below it comes, and dropped when
either changes; each node is made when it is first asked for, and SRV only for those who ask for it.
So a change costs nothing for services that nobody asks about, and a question after the first costs
one look-up.

Endpoint names below services that have a cluster IP, SRV at the bare name, and aliases for slices
of type FQDN are CoreDNS's; the specification allows supersets. A name of more than 255 octets
cannot exist, so no record points at one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from kdns.cluster import model
from kdns.cluster.model import Kind
from kdns.wire import iana, name, rdata
from kdns.wire.reply import RRset
from kdns.zone.node import EMPTY, Node, Targets


@dataclass(slots=True, frozen=True)
class Naming:
    """How names are made. suffix: what follows `name.namespace`, in wire form; ttl: seconds."""

    suffix: bytes
    ttl: int
    endpoint_pod_names: bool = False

    def name_of(self, label: bytes, service: bytes) -> bytes | None:
        """The name of an endpoint, or of a service when `label` is empty; None if it is too long.

        RFC 1035, section 2.3.4: 255 octets.
        """
        made = label + service + self.suffix
        return made if len(made) <= name.MAX_NAME else None


def endpoint_label(endpoint: model.Endpoint, naming: Naming) -> bytes:
    """The label of an endpoint (spec 2.4.1: its hostname if it has one).

    CoreDNS: else the pod's name if that is wanted and is a label, else the address with dashes.
    """
    named = endpoint.hostname or (endpoint.pod if naming.endpoint_pod_names else b"")
    if named:
        return named
    return _dashed_name(endpoint.target) if endpoint.target else model.dashed(endpoint.address)


PortLabels = tuple[bytes, bytes]
"""`_name` and `_proto` of a port."""


class ServiceView:
    """The names at and below one service. `node` is the only thing to ask it."""

    __slots__ = ("_nodes", "_records")

    def __init__(
        self, service: model.Service, slices: Sequence[model.Slice], naming: Naming
    ) -> None:
        self._nodes: dict[bytes, Node] = {}
        # By itself, for nodes hold it: a view that is dropped is not to wait for the collector.
        self._records = _Records(service, slices, naming)

    @property
    def has_endpoints(self) -> bool:
        """Whether any endpoint is ready."""
        return self._records.has_endpoints

    def node(self, below: bytes) -> Node | None:
        """The node of these labels below the service; empty for the service itself."""
        try:
            return self._nodes[below]
        except KeyError:
            pass
        made = self._records.make(below)
        # What does not exist is not remembered: anybody can ask for any number of such names.
        if made is not None:
            self._nodes[below] = made
        return made


class _Records:
    """What stands at the names of one service."""

    __slots__ = ("_addresses", "_labels", "_name", "_naming", "_ports", "_service", "_slices")

    def __init__(
        self, service: model.Service, slices: Sequence[model.Slice], naming: Naming
    ) -> None:
        self._service = service
        self._slices = slices
        self._naming = naming
        self._name = service.key + naming.suffix
        self._labels: _Labels | None = None
        self._ports: frozenset[PortLabels] | None = None
        self._addresses = service.addresses
        if service.kind is Kind.HEADLESS:
            listed = chain.from_iterable([held.addresses for held in slices])
            self._addresses = tuple(dict.fromkeys(listed))

    @property
    def has_endpoints(self) -> bool:
        """Whether any endpoint is ready."""
        return any(not held.is_empty for held in self._slices)

    def make(self, below: bytes) -> Node | None:
        """The node of these labels below the service."""
        if not below:
            return self._service_node()
        if self._service.kind is Kind.EXTERNAL_NAME:
            return None
        after = below[0] + 1
        if after == len(below):
            return self._endpoint_node(below) or self._protocol_node(below)
        if after + below[after] + 1 == len(below):
            return self._port_node((below[:after], below[after:]))
        return None

    def _service_node(self) -> Node | None:
        service = self._service
        if service.kind is Kind.EXTERNAL_NAME:
            return self._alias(b"", service.target)
        if service.kind is Kind.HEADLESS and not self._addresses:
            # Spec 2.4.1: a headless service without ready endpoints has no records: NXDOMAIN.
            targets = self._endpoints.targets
            return self._alias(b"", targets[min(targets)] if targets else None)
        if not self._addresses and not self.has_endpoints:
            return None
        sets = self._address_sets(b"")
        return _node(sets, lambda: self._srv(b"", sets, self._srv_targets(None)))

    def _endpoint_node(self, label: bytes) -> Node | None:
        held = self._endpoints.addresses.get(label)
        if held is None:
            return self._alias(label, self._endpoints.targets.get(label))
        sets = self._address_sets(label)
        ports = [port.number for ports in held.values() for port in ports]
        return _node(sets, lambda: self._srv(label, sets, [(port, label) for port in ports]))

    def _port_node(self, labels: PortLabels) -> Node | None:
        # Anybody can ask for any number of ports that are not there.
        targets = self._srv_targets(labels) if labels in self._named_ports else None
        if not targets:
            return None
        return _node((), lambda: self._srv(b"".join(labels), (), targets))

    def _protocol_node(self, label: bytes) -> Node | None:
        """RFC 8020: `_tcp` above `_http._tcp` exists, and holds nothing."""
        named = [labels for labels in self._named_ports if labels[1] == label]
        return EMPTY if any(self._srv_targets(labels) for labels in named) else None

    @property
    def _named_ports(self) -> frozenset[PortLabels]:
        """The labels of every port that the service or one of its slices has."""
        if self._ports is None:
            if self._service.kind is Kind.CLUSTER_IP:
                listed = {self._service.ports}
            else:
                listed = {held.ports for held in self._slices}
            self._ports = frozenset(p.labels for ports in listed for p in ports if p.labels)
        return self._ports

    def _srv_targets(self, labels: PortLabels | None) -> list[tuple[int, bytes]]:
        """(port, endpoint's label or nothing) of the SRV at `_port._proto`; of all ports for None.

        Spec 2.3.2 and 2.4.2: to the service itself, or to each endpoint of a headless one.
        """
        if self._service.kind is Kind.CLUSTER_IP:
            ports = self._service.ports if self._addresses else ()
            return [(port.number, b"") for port in ports if labels is None or labels == port.labels]
        room = name.MAX_NAME - len(self._name)
        # Most endpoints of a service have the same ports.
        numbers: dict[tuple[model.Port, ...], list[int]] = {}
        for held in self._endpoints.addresses.values():
            for ports in held.values():
                if ports not in numbers:
                    wanted = [p for p in ports if labels is None or labels == p.labels]
                    numbers[ports] = [p.number for p in wanted]
        return [
            (number, label)
            for label, held in self._endpoints.addresses.items()
            if len(label) <= room
            for ports in held.values()
            for number in numbers[ports]
        ]

    def _srv(
        self, below: bytes, rrsets: Sequence[RRset], targets: Iterable[tuple[int, bytes]]
    ) -> tuple[RRset | None, tuple[RRset, ...]]:
        """SRV at a name that has these sets: priority 0, weights equal over the targets (RFC 2782).

        With the addresses of the targets.
        """
        unique = dict.fromkeys(targets)
        if not unique:
            return None, ()
        labels = dict.fromkeys(label for _, label in unique)
        weight = max(1, 100 // len(labels))
        datas = tuple(rdata.srv(0, weight, port, label + self._name) for port, label in unique)
        made = RRset(below + self._name, iana.SRV, self._naming.ttl, datas)
        if below in labels and len(labels) == 1:
            return made, tuple(rrsets)  # the target is the name itself
        return made, tuple([r for label in labels for r in self._address_sets(label)])

    def _address_sets(self, label: bytes) -> list[RRset]:
        """A and AAAA of an endpoint, or of the service itself."""
        addresses = self._endpoints.addresses[label] if label else self._addresses
        return address_sets(label + self._name, self._naming.ttl, addresses)

    def _alias(self, label: bytes, target: bytes | None) -> Node | None:
        if target is None:
            return None
        alias = RRset(label + self._name, iana.CNAME, self._naming.ttl, (target,))
        return Node({iana.CNAME: alias})

    @property
    def _endpoints(self) -> "_Labels":
        """Made when it is first needed: who asks for a cluster IP has no need of it."""
        if self._labels is None:
            self._labels = _Labels(self._slices, self._naming)
        return self._labels


def _node(rrsets: Iterable[RRset], srv: Targets) -> Node:
    return Node({rrset.rtype: rrset for rrset in rrsets}, srv=srv)


class _Labels:
    """The endpoints of several slices by their labels; what stands in two slices is there once.

    addresses: label -> address -> ports, in the order of the slices.
    targets: label -> name, for slices of type FQDN.
    """

    __slots__ = ("addresses", "targets")

    def __init__(self, slices: Sequence[model.Slice], naming: Naming) -> None:
        self.addresses: dict[bytes, dict[bytes, tuple[model.Port, ...]]] = {}
        self.targets: dict[bytes, bytes] = {}
        for held in slices:
            for endpoint in held.endpoints:
                label = endpoint_label(endpoint, naming)
                if endpoint.target:
                    self.targets.setdefault(label, endpoint.target)
                else:
                    self._put(label, endpoint.address, held.ports)

    def _put(self, label: bytes, address: bytes, ports: tuple[model.Port, ...]) -> None:
        known = self.addresses.setdefault(label, {})
        has = known.setdefault(address, ports)
        if has != ports:
            known[address] = tuple(dict.fromkeys((*has, *ports)))


def address_sets(owner: bytes, ttl: int, addresses: Iterable[bytes]) -> list[RRset]:
    """A and AAAA of these addresses, each once; none for a family without an address."""
    unique = dict.fromkeys(addresses)
    sets = []
    if four := [address for address in unique if len(address) == 4]:
        sets.append(RRset(owner, iana.A, ttl, tuple(four)))
    if len(four) < len(unique):
        sixteen = [address for address in unique if len(address) == 16]
        sets.append(RRset(owner, iana.AAAA, ttl, tuple(sixteen)))
    return sets


def _dashed_name(target: bytes) -> bytes:
    """The label of an FQDN endpoint without a hostname: its name, dots dashed, cut to a label."""
    joined = b"-".join(name.split(target))[: name.MAX_LABEL]
    return bytes((len(joined),)) + joined
