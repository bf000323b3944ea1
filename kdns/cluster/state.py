"""What the cluster holds now: objects joined by what DNS asks of them, and who must hear of change.

    apply / remove / sweep  (from a reflector or from manifests)
            |
            v
    services   by name.namespace        <- a query's tail is the key
    slices     by service, by own name
    addresses  -> services, slices      <- PTR
    pods       by namespace and address
            |
            v
    listeners: the names that may answer differently from now on

Every change is applied in place and told at once, so the next query sees it. The final state
depends on the objects alone, not on the order in which they came.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar, assert_never

from msgspec.structs import force_setattr

from kdns.cluster import model, objects
from kdns.cluster.addresses import Addresses
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Place, key_of, place_of


class Change(NamedTuple):
    """What may answer differently now.

    services: keys (`name.namespace` in wire form); everything at and below those names.
    namespaces: labels; everything below them, service and pod names alike.
    addresses: the reverse names of these, and the names above them, which exist for their sake.
    pods: (namespace label, address) whose pod name changed, in every spelling of the address.

    Beside these, any change moves the serial, and may move the name servers: so each says that the
    apex of every zone may answer differently, and every SOA in an answer of "no such".
    """

    services: tuple[bytes, ...] = ()
    namespaces: tuple[bytes, ...] = ()
    addresses: tuple[bytes, ...] = ()
    pods: tuple[tuple[bytes, bytes], ...] = ()


K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T", str, bytes)
Listener = Callable[[Change], object]
OnChanged = Callable[[model.Object, float], object]


class Cluster:
    """The state of one cluster, as a Sink and as a Reader.

    now: seconds since the epoch, for the zone's serial.
    on_bad_object: told of every object that is left out, with the reason.
    pod_names: whether any zone names endpoints by their pods; else those names are not kept.
    """

    def __init__(
        self,
        now: Callable[[], float],
        on_bad_object: Callable[[str], object],
        *,
        pod_names: bool = True,
    ) -> None:
        self._now = now
        self._pod_names = pod_names
        self._on_bad_object = on_bad_object
        self._listeners: list[Listener] = []
        self.on_changed: OnChanged | None = None
        """Told of each object that changes what was known whole already, after all listeners, and
        when what made it change had happened, where that is known."""
        self.serial = 0
        """Unix time of the last change: what CoreDNS puts into the SOA."""
        self.synced: set[Resource] = set()
        """What is known whole, be it only what it once was."""
        self.assumed: set[Resource] = set()
        """Of those, what is only remembered from an earlier time."""
        self.namespaces: dict[bytes, str] = {}
        self.services: dict[bytes, model.Service] = {}
        self._slices: dict[Place, model.Slice] = {}
        # Most services have one slice: a tuple only where there are several.
        self._slices_by_service: dict[bytes, Place | tuple[Place, ...]] = {}
        self._services_by_address = Addresses[bytes]()
        self._slices_by_address = Addresses[Place]()
        # Of a pod, its namespace and an address in one; a tuple of them for one that has several.
        self._pods: dict[Place, bytes | tuple[bytes, ...]] = {}
        self._pod_addresses: dict[bytes, int] = {}
        # None until somebody asks which pods have an address.
        self._pods_by_address: Addresses[Place] | None = None

    # What is told.

    def apply(self, resource: Resource, obj: objects.Object) -> None:
        """See Sink. An object that is not what the API promises is told of, and owns no names."""
        key = (obj.metadata.namespace, obj.metadata.name)
        try:
            made = model.from_object(obj, pod_names=self._pod_names)
        except ObjectError as error:
            self._on_bad_object(str(error))
            self.remove(resource, key)
            return
        asked = self.on_changed is not None and self._is_current(resource)
        self.put(resource, key, made, model.trigger_time(obj) if asked else None)

    def put(
        self, resource: Resource, key: Key, obj: model.Object, triggered: float | None = None
    ) -> None:
        """See Reader."""
        change = self._put(key, obj)
        self._tell(change)
        told = self.on_changed if change is not None and self._is_current(resource) else None
        if told is not None and triggered is not None:
            told(obj, triggered)

    def remove(self, resource: Resource, key: Key) -> None:
        """See Sink."""
        match resource:
            case Resource.ENDPOINTSLICES:
                self._tell(self._put_slice(place_of(key), None))
            case Resource.SERVICES:
                self._tell(self._put_service(_service_key(key), None))
            case Resource.NAMESPACES:
                self._tell(self._put_namespace(_namespace_label(key), None))
            case Resource.PODS:
                self._tell(self._put_pod(place_of(key), None))
            case _:
                assert_never(resource)

    def sweep(self, resource: Resource, keys: Container[Key]) -> None:
        """See Sink."""
        for change in self._sweep(resource, keys):
            self._tell(change)
        self.know(resource)

    def know(self, resource: Resource) -> None:
        """See Reader."""
        self.assumed.discard(resource)
        self._know(resource)

    def assume(self, resource: Resource) -> None:
        """See Sink."""
        self.assumed.add(resource)
        self._know(resource)

    def _is_current(self, resource: Resource) -> bool:
        return resource in self.synced and resource not in self.assumed

    def _know(self, resource: Resource) -> None:
        self.synced.add(resource)
        if not self.serial:
            self.serial = int(self._now())

    def listen(self, listener: Listener) -> None:
        """Have every change told to `listener`, after it was applied."""
        self._listeners.append(listener)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Who is told of changes, in the order in which they came."""
        return tuple(self._listeners)

    def unlisten(self, listeners: Iterable[Listener]) -> None:
        """Tell these no more."""
        gone = list(listeners)
        self._listeners = [listener for listener in self._listeners if listener not in gone]

    # What is asked.

    def slices_of(self, service: bytes) -> tuple[model.Slice, ...]:
        """The slices of a service, in the order of their names, so that answers are stable."""
        return tuple([self._slices[p] for p in _each(self._slices_by_service.get(service))])

    def services_at(self, address: bytes) -> list[model.Service]:
        """The services that have this cluster IP, in the order of their keys."""
        return [self.services[k] for k in self._services_by_address.at(address)]

    def slices_at(self, address: bytes) -> list[model.Slice]:
        """The slices of a service with a ready endpoint of this address, ordered by name."""
        return [self._slices[p] for p in self._slices_by_address.at(address)]

    def has_pod(self, namespace: bytes, address: bytes) -> bool:
        """Whether a pod of that namespace has this address, primary or not."""
        return namespace + address in self._pod_addresses

    def pods_at(self, address: bytes) -> tuple[Place, ...]:
        """namespace/name of the pods that have this address. Kept from when it is first asked."""
        if self._pods_by_address is None:
            self._pods_by_address = Addresses()
            for place, held in self._pods.items():
                self._pods_by_address.move(place, (), _addresses(_each(held)))
        return self._pods_by_address.at(address)

    def namespaces_of(self, addresses: AbstractSet[bytes]) -> dict[bytes, bytes]:
        """By address: the namespace, a label, of the pods that have it, where they are of one.

        Walks along the addresses of all pods: for people who ask, not for queries.
        """
        found: dict[bytes, bytes | None] = {}
        for where in self._pod_addresses:
            namespace, address = where[: where[0] + 1], where[where[0] + 1 :]
            if address in addresses:
                same = found.get(address, namespace) == namespace
                found[address] = namespace if same else None
        return {address: namespace for address, namespace in found.items() if namespace}

    def has_addresses(self, octets: int) -> bool:
        """Whether any service, or a ready endpoint of one, has an address of so many octets."""
        return self._services_by_address.has(octets) or self._slices_by_address.has(octets)

    def addresses_within(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The addresses of services and ready endpoints from `first` to `last`, inclusive.

        Both are of one length. For the empty non-terminals of the reverse tree.
        """
        yield from self._services_by_address.within(first, last)
        yield from self._slices_by_address.within(first, last)

    # How it is joined.

    def _put(self, key: Key, obj: model.Object) -> Change | None:
        match obj:
            case model.Slice():
                return self._put_slice(place_of(key), obj)
            case model.Service():
                return self._put_service(obj.key, obj)
            case model.Namespace():
                return self._put_namespace(obj.label, key[1])
            case model.Pod():
                return self._put_pod(place_of(key), obj)
            case _:
                assert_never(obj)

    def _sweep(self, resource: Resource, keys: Container[Key]) -> Iterator[Change | None]:
        """Take away what none of the keys names."""
        match resource:
            case Resource.ENDPOINTSLICES:
                for place in [p for p in self._slices if key_of(p) not in keys]:
                    yield self._put_slice(place, None)
            case Resource.SERVICES:
                for key in [k for k in self.services if model.service_of(k) not in keys]:
                    yield self._put_service(key, None)
            case Resource.NAMESPACES:
                gone = [label for label, text in self.namespaces.items() if ("", text) not in keys]
                for label in gone:
                    yield self._put_namespace(label, None)
            case Resource.PODS:
                for place in [p for p in self._pods if key_of(p) not in keys]:
                    yield self._put_pod(place, None)
            case _:
                assert_never(resource)

    def _put_service(self, key: bytes, new: model.Service | None) -> Change | None:
        old = self.services.get(key)
        if old == new:
            return None
        if new is not None:
            key = self._known(key)
            force_setattr(new, "key", key)
        _put(self.services, key, new)
        before = old.addresses if old else ()
        after = new.addresses if new else ()
        changed = self._services_by_address.move(key, before, after)
        return Change(services=(key,), addresses=tuple(changed))

    def _put_slice(self, place: Place, new: model.Slice | None) -> Change | None:
        old = self._slices.get(place)
        if old == new:
            return None
        # One without a service of its own owns no names.
        owner, owner_before = new.service if new else b"", old.service if old else b""
        is_moved = owner != owner_before
        if new is not None:
            force_setattr(new, "service", self._known(owner) if is_moved else owner_before)
        _put(self._slices, place, new)
        if is_moved:
            self._own(place, owner_before, owner)
        if old and new and owner_before and owner:
            changed = self._slices_by_address.move(place, *old.moved(new)) | _renamed(old, new)
        else:
            before = old.addresses if old and owner_before else ()
            after = new.addresses if new and owner else ()
            changed = self._slices_by_address.move(place, before, after)
        owners = (owner_before, owner) if is_moved else (owner,)
        return Change(services=tuple(filter(None, owners)), addresses=tuple(changed))

    def _put_namespace(self, label: bytes, text: str | None) -> Change | None:
        if (text is not None) == (label in self.namespaces):
            return None
        _put(self.namespaces, label, text)
        return Change(namespaces=(label,))

    def _put_pod(self, place: Place, new: model.Pod | None) -> Change | None:
        old = self._pods.get(place)
        after = tuple([new.namespace + address for address in new.addresses]) if new else ()
        kept = after[0] if len(after) == 1 else after
        if old == (None if new is None else kept):
            return None
        _put(self._pods, place, None if new is None else kept)
        before = _each(old)
        if self._pods_by_address is not None:
            self._pods_by_address.move(place, _addresses(before), _addresses(after))
        # Pods in the host's network share its address: only the first and the last one matter.
        told = []
        for where in set(before).symmetric_difference(after):
            count = self._pod_addresses.get(where, 0) + (1 if where in after else -1)
            _put(self._pod_addresses, where, count or None)
            if count == (1 if where in after else 0):
                told.append((where[: where[0] + 1], where[where[0] + 1 :]))
        return Change(pods=tuple(told))

    def _known(self, key: bytes) -> bytes:
        """A service's key as the service or a slice of it has it already: most have one of each.

        The same octets, so it is no change to put it in the place of the one that came.
        """
        service = self.services.get(key)
        if service is not None:
            return service.key
        there = _each(self._slices_by_service.get(key))
        return self._slices[there[0]].service if there else key

    def _own(self, place: Place, before: bytes, after: bytes) -> None:
        """A slice was of one service, and is now of another one; empty for none."""
        owned = self._slices_by_service
        if before:
            left = tuple([p for p in _each(owned[before]) if p != place])
            _put(owned, before, left[0] if len(left) == 1 else left or None)
        if after:
            there = _each(owned.get(after))
            owned[after] = tuple(sorted((*there, place))) if there else place

    def _tell(self, change: Change | None) -> None:
        if change is None or not any(change):
            return
        self.serial = int(self._now())
        for listener in self._listeners:
            listener(change)


def _each(held: T | tuple[T, ...] | None) -> tuple[T, ...]:
    return (held,) if isinstance(held, str | bytes) else held or ()


def _addresses(places: tuple[bytes, ...]) -> list[bytes]:
    """Of pods: what stands behind the label of the namespace."""
    return [where[where[0] + 1 :] for where in places]


def _service_key(key: Key) -> bytes:
    """Empty for what no service can be called, and so none is."""
    try:
        return model.service_key(*key)
    except ObjectError:
        return b""


def _namespace_label(key: Key) -> bytes:
    """Empty for what no namespace can be called, and so none is."""
    try:
        return model.namespace_label(key[1])
    except ObjectError:
        return b""


def _renamed(old: model.Slice, new: model.Slice) -> set[bytes]:
    """The addresses whose reverse name tells something else: that is the owner and the label."""
    if (old.hostnames, old.pods, old.service) == (new.hostnames, new.pods, new.service) and (
        not (old.hostnames or old.pods) or old.addresses == new.addresses
    ):
        return set()
    names_before, names_after = _names(old), _names(new)
    return {address for address, *_ in names_before ^ names_after}


def _names(held: model.Slice) -> set[tuple[bytes, bytes, bytes, bytes]]:
    return {(e.address, e.hostname, e.pod, held.service) for e in held.endpoints if e.address}


def _put(held: dict[K, V], key: K, value: V | None) -> None:
    """Set, or delete when there is no value."""
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
