"""A cluster's objects as octets: what it takes to tell somebody else all of it at once.

Encoded one by one, they take a fraction of what the state made of them takes; a process that hands
the state on, to workers or to a file, needs nothing more.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import msgspec

from kdns.cluster import objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Sink

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[Resource, msgspec.msgpack.Decoder[objects.Object]] = {
    resource: msgspec.msgpack.Decoder(resource.type) for resource in Resource
}


def encode(obj: objects.Object) -> bytes:
    """An object in MessagePack."""
    return _encode(obj)


def decode(resource: Resource, body: bytes) -> objects.Object:
    """The object that `encode` made this of. Raises ObjectError for anything else."""
    try:
        return _decoders[resource].decode(body)
    except msgspec.MsgspecError as error:
        raise ObjectError(f"expected a {resource.kind} in MessagePack: {error}") from error


class Held:
    """A Sink that remembers.

    `changes` counts what happened; `swept` is what was listed whole, `assumed` what is only
    remembered from an earlier time.
    """

    def __init__(self) -> None:
        self.assumed: set[Resource] = set()
        self.changes = 0
        self.swept: set[Resource] = set()
        self._objects: dict[Resource, dict[Key, bytes]] = {resource: {} for resource in Resource}

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def apply(self, resource: Resource, obj: objects.Object) -> None:
        """See Sink."""
        self.put(resource, (obj.metadata.namespace, obj.metadata.name), encode(obj))

    def put(self, resource: Resource, key: Key, body: bytes) -> None:
        """As `apply`, for an object that is encoded already."""
        self._objects[resource][key] = body
        self.changes += 1

    def remove(self, resource: Resource, key: Key) -> None:
        """See Sink."""
        self._objects[resource].pop(key, None)
        self.changes += 1

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        """See Sink."""
        held = self._objects[resource]
        for key in held.keys() - keys:
            del held[key]
        self.swept.add(resource)
        self.assumed.discard(resource)
        self.changes += 1

    def assume(self, resource: Resource) -> None:
        """See Sink."""
        self.assumed.add(resource)

    def body(self, resource: Resource, key: Key) -> bytes:
        """An object that is held, encoded. Raises KeyError."""
        return self._objects[resource][key]

    def objects(self, resource: Resource) -> Iterator[tuple[Key, bytes]]:
        """All of a resource, encoded."""
        return iter(self._objects[resource].items())

    def tell(self, sink: Sink) -> None:
        """Have another Sink know all of it, as it is known here: listed whole, assumed, or not."""
        for resource, held in self._objects.items():
            for body in held.values():
                sink.apply(resource, decode(resource, body))
            if resource in self.swept:
                sink.sweep(resource, held.keys())
            elif resource in self.assumed:
                sink.assume(resource)
