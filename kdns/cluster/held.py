"""A cluster's objects as octets: what it takes to tell somebody else all of it at once.

What is kept of an object is what DNS needs of it (`cluster.model`), in MessagePack: a slice of
twenty endpoints takes less than one of its endpoints as the API writes it. A process that hands the
state on, to workers or to a file, needs nothing more.
"""

from collections.abc import Callable, Container, Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Place, Reader, key_of, place_of

_encode = msgspec.msgpack.Encoder().encode
_TYPES: dict[Resource, type[model.Object]] = {
    Resource.SERVICES: model.Service,
    Resource.ENDPOINTSLICES: model.Slice,
    Resource.NAMESPACES: model.Namespace,
    Resource.PODS: model.Pod,
}
_decoders = {
    resource: msgspec.msgpack.Decoder(tuple[str, str, kind])  # type: ignore[valid-type]
    for resource, kind in _TYPES.items()
}


class Item(NamedTuple):
    """An object of a resource, and its octets."""

    resource: Resource
    key: Key
    obj: model.Object
    body: bytes


def encode(key: Key, obj: model.Object) -> bytes:
    """An object and its key in MessagePack."""
    return _encode((*key, obj))


def decode(resource: Resource, body: bytes) -> Item:
    """The object that `encode` made this of. Raises ObjectError for anything else."""
    try:
        decoded: tuple[str, str, model.Object] = _decoders[resource].decode(body)
    except msgspec.MsgspecError as error:
        raise ObjectError(f"expected a {resource.kind} in MessagePack: {error}") from error
    namespace, name, obj = decoded
    if isinstance(obj, model.Service | model.Slice):
        # Nobody else has seen the object yet.
        msgspec.structs.force_setattr(obj, "packed_ports", _once(obj.packed_ports))
    return Item(resource, (namespace, name), obj, body)


# Most services of a cluster have the same few ports: as in `model`, they are there once.
@lru_cache(maxsize=1024)
def _once(packed: bytes) -> bytes:
    return packed


class Held:
    """A Sink that remembers, and tells a Reader what it is told.

    on_bad_object: told of every object that is left out, with the reason.
    pod_names: whether slices are held with the names of their pods, which take more than the rest.

    `changes` counts what happened; `swept` is what was listed whole, `assumed` what is only
    remembered from an earlier time.
    """

    def __init__(
        self,
        on_bad_object: Callable[[str], object],
        then: Reader | None = None,
        *,
        pod_names: bool = True,
    ) -> None:
        self.assumed: set[Resource] = set()
        self.changes = 0
        self.swept: set[Resource] = set()
        self.then = then
        """May be set later, before anything is told."""
        self._on_bad_object = on_bad_object
        self._pod_names = pod_names
        self._objects: dict[Resource, dict[Place, bytes]] = {resource: {} for resource in Resource}

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def apply(self, resource: Resource, obj: objects.Object) -> None:
        """See Sink. An object that is not what the API promises is told of, and not held."""
        key = (obj.metadata.namespace, obj.metadata.name)
        try:
            made = model.from_object(obj, pod_names=self._pod_names)
        except ObjectError as error:
            self._on_bad_object(str(error))
            self.remove(resource, key)
            return
        # What was there when we began was triggered before anybody could have told.
        triggered = model.trigger_time(obj) if resource in self.swept else None
        self.put(Item(resource, key, made, encode(key, made)), triggered)

    def put(self, item: Item, triggered: float | None = None) -> None:
        """As `apply`, for an object that is read and encoded already. See Reader."""
        held, place = self._objects[item.resource], place_of(item.key)
        if held.get(place) == item.body:
            return
        held[place] = item.body
        self.changes += 1
        if self.then is not None:
            self.then.put(item.resource, item.key, item.obj, triggered)

    def remove(self, resource: Resource, key: Key) -> None:
        """See Sink."""
        if self._objects[resource].pop(place_of(key), None) is None:
            return
        self.changes += 1
        if self.then is not None:
            self.then.remove(resource, key)

    def sweep(self, resource: Resource, keys: Container[Key]) -> None:
        """See Sink."""
        for key in [key for key in map(key_of, self._objects[resource]) if key not in keys]:
            self.remove(resource, key)
        if resource not in self.swept:
            self.changes += 1
        self.swept.add(resource)
        self.assumed.discard(resource)
        if self.then is not None:
            self.then.know(resource)

    def assume(self, resource: Resource) -> None:
        """See Sink."""
        self.assumed.add(resource)
        if self.then is not None:
            self.then.assume(resource)

    def body(self, resource: Resource, key: Key) -> bytes:
        """An object that is held, encoded. Raises KeyError."""
        return self._objects[resource][place_of(key)]

    def get(self, resource: Resource, key: Key) -> bytes | None:
        """An object, encoded, if it is held."""
        return self._objects[resource].get(place_of(key))

    def keys(self, resource: Resource) -> list[Key]:
        """Of all that is held of a resource now."""
        return list(map(key_of, self._objects[resource]))

    def objects(self, resource: Resource) -> Iterator[tuple[Key, bytes]]:
        """All of a resource, encoded."""
        return ((key_of(place), body) for place, body in self._objects[resource].items())
