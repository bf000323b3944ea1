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

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar, assert_never

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key


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
Listener = Callable[[Change], object]


class Cluster:
    """The state of one cluster, as a Sink.

    now: seconds since the epoch, for the zone's serial.
    on_bad_object: told of every object that is left out, with the reason.
    """

    def __init__(self, now: Callable[[], float], on_bad_object: Callable[[str], object]) -> None:
        self._now = now
        self._on_bad_object = on_bad_object
        self._listeners: list[Listener] = []
        self.on_changed: Callable[[objects.Object], object] | None = None
        """Told of each object that changes what was known whole already, after all listeners."""
        self.serial = 0
        """Unix time of the last change: what CoreDNS puts into the SOA."""
        self.synced: set[Resource] = set()
        """What is known whole, be it only what it once was."""
        self.assumed: set[Resource] = set()
        """Of those, what is only remembered from an earlier time."""
        self.namespaces: dict[bytes, str] = {}
        self.services: dict[bytes, model.Service] = {}
        self._slices: dict[Key, model.Slice] = {}
        self._by_service: dict[bytes, dict[str, model.Slice]] = {}
        # Nearly every address is in one place: a tuple of one, shared by the slice's addresses.
        self._services_by_address: dict[bytes, tuple[bytes, ...]] = {}
        self._slices_by_address: dict[bytes, tuple[Key, ...]] = {}
        self._pods: dict[Key, model.Pod] = {}
        self._pod_addresses: dict[tuple[bytes, bytes], int] = {}
        self._keys: dict[Resource, set[Key]] = {resource: set() for resource in Resource}
        # By length; None until somebody asks.
        self._sorted_addresses: dict[int, list[bytes]] | None = None

    # What is told.

    def apply(self, resource: Resource, obj: objects.Object) -> None:
        """See Sink. An object that is not what the API promises is told of, and owns no names."""
        key = (obj.metadata.namespace, obj.metadata.name)
        try:
            change = self._apply(key, obj)
        except ObjectError as error:
            self._on_bad_object(str(error))
            self.remove(resource, key)
            return
        self._keys[resource].add(key)
        self._tell(change)
        if change is not None and self.on_changed is not None and self._is_current(resource):
            self.on_changed(obj)

    def remove(self, resource: Resource, key: Key) -> None:
        """See Sink."""
        if key not in self._keys[resource]:
            return
        self._keys[resource].discard(key)
        self._tell(self._remove(resource, key))

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        """See Sink."""
        for key in self._keys[resource] - keys:
            self.remove(resource, key)
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

    # What is asked.

    def slices_of(self, service: bytes) -> tuple[model.Slice, ...]:
        """The slices of a service, in the order of their names, so that answers are stable."""
        found = self._by_service.get(service)
        return tuple(found[n] for n in sorted(found)) if found else ()

    def services_at(self, address: bytes) -> list[model.Service]:
        """The services that have this cluster IP, in the order of their keys."""
        return [self.services[k] for k in sorted(self._services_by_address.get(address, ()))]

    def slices_at(self, address: bytes) -> list[model.Slice]:
        """The slices of a service with a ready endpoint of this address, ordered by name."""
        return [self._slices[k] for k in sorted(self._slices_by_address.get(address, ()))]

    def has_pod(self, namespace: bytes, address: bytes) -> bool:
        """Whether a pod of that namespace has this address, primary or not."""
        return (namespace, address) in self._pod_addresses

    def addresses_within(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The addresses of services and ready endpoints from `first` to `last`, inclusive.

        Both are of one length. For the empty non-terminals of the reverse tree: asked rarely, so
        the order is made when it is first needed, and kept up to date from then on.
        """
        if self._sorted_addresses is None:
            self._sorted_addresses = {4: [], 16: []}
            for address in sorted(self._services_by_address.keys() | self._slices_by_address):
                self._sorted_addresses[len(address)].append(address)
        listed = self._sorted_addresses[len(first)]
        for index in range(bisect_left(listed, first), len(listed)):
            if listed[index] > last:
                return
            yield listed[index]

    # How it is joined.

    def _apply(self, key: Key, obj: objects.Object) -> Change | None:
        match obj:
            case objects.Service():
                service = model.from_service(obj)
                return self._put_service(service.key, service)
            case objects.EndpointSlice():
                return self._put_slice(key, model.from_slice(obj))
            case objects.Namespace():
                return self._put_namespace(obj.metadata.name, present=True)
            case objects.Pod():
                return self._put_pod(key, model.from_pod(obj))
            case _:
                assert_never(obj)

    def _remove(self, resource: Resource, key: Key) -> Change | None:
        match resource:
            case Resource.SERVICES:
                return self._put_service(model.service_key(*key), None)
            case Resource.ENDPOINTSLICES:
                return self._put_slice(key, None)
            case Resource.NAMESPACES:
                return self._put_namespace(key[1], present=False)
            case Resource.PODS:
                return self._put_pod(key, None)
            case _:
                assert_never(resource)

    def _put_service(self, key: bytes, new: model.Service | None) -> Change | None:
        old = self.services.get(key)
        if old == new:
            return None
        _put(self.services, key, new)
        before = set(old.addresses) if old else set()
        after = set(new.addresses) if new else set()
        self._move(self._services_by_address, key, before, after)
        return Change(services=(key,), addresses=tuple(before ^ after))

    def _put_slice(self, key: Key, new: model.Slice | None) -> Change | None:
        old = self._slices.get(key)
        if old == new:
            return None
        _put(self._slices, key, new)
        owners = [held.service for held in (old, new) if held is not None and held.service]
        for owner in owners:
            siblings = self._by_service.setdefault(owner, {})
            _put(siblings, key[1], new if new is not None and new.service == owner else None)
            if not siblings:
                del self._by_service[owner]
        before, after = _places(old), _places(new)
        here, there = {a for a, *_ in before}, {a for a, *_ in after}
        self._move(self._slices_by_address, key, here, there)
        # A reverse name tells the owner and the label: other addresses answer as they did.
        return Change(
            services=tuple(dict.fromkeys(owners)),
            addresses=tuple({a for a, *_ in before ^ after}),
        )

    def _put_namespace(self, text: str, *, present: bool) -> Change | None:
        wire_label = model.own_label(text, "Namespace")
        if present == (wire_label in self.namespaces):
            return None
        _put(self.namespaces, wire_label, text if present else None)
        return Change(namespaces=(wire_label,))

    def _put_pod(self, key: Key, new: model.Pod | None) -> Change | None:
        old = self._pods.get(key)
        if old == new:
            return None
        _put(self._pods, key, new)
        before = {(old.namespace, a) for a in old.addresses} if old else set()
        after = {(new.namespace, a) for a in new.addresses} if new else set()
        # Pods in the host's network share its address: only the first and the last one matter.
        changed = before ^ after
        for place in changed:
            count = self._pod_addresses.get(place, 0) + (1 if place in after else -1)
            _put(self._pod_addresses, place, count or None)
        told = (p for p in changed if self._pod_addresses.get(p, 0) == (1 if p in after else 0))
        return Change(pods=tuple(told))

    def _move(
        self, index: dict[bytes, tuple[K, ...]], key: K, before: set[bytes], after: set[bytes]
    ) -> None:
        """`key` was at the addresses `before`, and is now at those `after`."""
        for address in before - after:
            rest = tuple(k for k in index[address] if k != key)
            _put(index, address, rest or None)
            self._keep_sorted(address)
        alone = (key,)
        for address in after - before:
            held = index.get(address)
            index[address] = alone if held is None else held + alone
            self._keep_sorted(address)

    def _keep_sorted(self, address: bytes) -> None:
        if self._sorted_addresses is None:
            return
        held = address in self._services_by_address or address in self._slices_by_address
        listed = self._sorted_addresses[len(address)]
        index = bisect_left(listed, address)
        present = listed[index : index + 1] == [address]
        if held and not present:
            insort(listed, address)
        elif present and not held:
            del listed[index]

    def _tell(self, change: Change | None) -> None:
        if change is None or not any(change):
            return
        self.serial = int(self._now())
        for listener in self._listeners:
            listener(change)


def _places(held: model.Slice | None) -> set[tuple[bytes, bytes, bytes, bytes]]:
    """What a slice has to do with reverse names: address, hostname, pod and service of each."""
    if held is None or not held.service:
        return set()
    owner = held.service
    return {(e.address, e.hostname, e.pod, owner) for e in held.endpoints if e.address}


def _put(held: dict[K, V], key: K, value: V | None) -> None:
    """Set, or delete when there is no value."""
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
