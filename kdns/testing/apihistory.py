"""The objects of one resource as an API server for tests keeps them, with their last changes.

Every object is kept as finished JSON, so a page of a list is a join of bytes and a watch a walk
along the changes. One counter numbers the changes of all resources, as etcd does.

```text
  changes:  (forgotten) | 41 ADDED | 44 MODIFIED | 45 DELETED | ...
               floor ---^   the state at 42 = the objects of now, with 45 and 44 undone
                            a watch from 44 = 45 and what follows
```
"""

from bisect import bisect_right
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from kdns.cluster.objects import EventType, Resource

Json = dict[str, Any]
"""A JSON object. Objects of any shape are taken, good and bad, so what is in it may be anything."""


class ApiError(Exception):
    """A failure in the API's own words. `fresh` is a continue token to go on with."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        fresh: str = "",
        details: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": fresh} if fresh else {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({} if details is None else {"details": details}),
            "code": code,
        }

    @property
    def body(self) -> bytes:
        """The Status as JSON."""
        return msgspec.json.encode(self.status)

    @property
    def line(self) -> bytes:
        """The Status as the ERROR line of a watch."""
        return b'{"type":"ERROR","object":%b}\n' % self.body


class Stored(NamedTuple):
    """One state of one object. `body` is its JSON as an item of a list: no kind, no apiVersion."""

    key: str
    """As in etcd: namespace/name, or only the name of what has no namespace."""
    version: int
    body: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]


class Change(NamedTuple):
    """What happened at `version`; no `before` is a creation, no `after` a deletion."""

    version: int
    key: str
    before: Stored | None
    after: Stored | None


_META = ("metadata.name", "metadata.namespace")
FIELDS: dict[Resource, tuple[str, ...]] = {
    Resource.SERVICES: (*_META, "spec.clusterIP", "spec.type"),
    Resource.ENDPOINTSLICES: _META,
    Resource.NAMESPACES: (*_META, "status.phase"),
    Resource.PODS: (
        *_META,
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
}
"""The field labels that the API server supports for each resource."""

# A bookmark is an object of the watched kind with nothing in it but what Go does not leave out.
_EMPTY: dict[Resource, Json] = {
    Resource.SERVICES: {"spec": {}, "status": {"loadBalancer": {}}},
    Resource.ENDPOINTSLICES: {"addressType": "", "endpoints": None, "ports": None},
    Resource.NAMESPACES: {"spec": {}, "status": {}},
    Resource.PODS: {"spec": {"containers": None}, "status": {}},
}


class Collection:
    """The objects of one resource, and their last changes in order."""

    def __init__(self, resource: Resource, history: int) -> None:
        self.resource = resource
        self.objects: dict[str, Stored] = {}
        self.floor = 0
        """Changes up to this version are forgotten."""
        self._history = history
        self._changes: list[Change] = []
        self._forgotten = 0
        self._sorted: list[str] | None = []
        head = {"kind": resource.kind, "apiVersion": resource.api_version}
        self._head = msgspec.json.encode(head)[:-1] + b","

    @property
    def end(self) -> int:
        """The number of changes there ever were: the position of the next one."""
        return self._forgotten + len(self._changes)

    def record(self, change: Change) -> None:
        """Apply one change and remember it."""
        if change.before is None or change.after is None:
            self._sorted = None
        if change.after is not None:
            self.objects[change.key] = change.after
        else:
            del self.objects[change.key]
        self._changes.append(change)
        if len(self._changes) >= 2 * self._history:  # in lumps: each forgetting moves the rest
            self._forget(len(self._changes) - self._history)

    def compact(self, version: int) -> None:
        """Forget every change so far."""
        self._forget(len(self._changes))
        self.floor = version

    def _forget(self, count: int) -> None:
        if count:
            self.floor = self._changes[count - 1].version
            del self._changes[:count]
            self._forgotten += count

    def position(self, version: int) -> int:
        """Where the changes after `version` begin. Raises ApiError 410 when they are forgotten."""
        if version < self.floor:
            words = f"too old resource version: {version} ({self.floor})"
            raise ApiError(410, "Expired", words)
        return self._forgotten + bisect_right(self._changes, version, key=attrgetter("version"))

    def since(self, position: int) -> list[Change]:
        """The changes from a position on. Raises ApiError 410 when some are forgotten."""
        if position < self._forgotten:
            raise ApiError(410, "Expired", "the watch fell behind")
        return self._changes[position - self._forgotten :]

    def keys(self) -> list[str]:
        """All keys in etcd's order."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted

    def undone(self, version: int) -> dict[str, Stored | None]:
        """The objects that differ from now at `version`, as they were. Raises ApiError 410."""
        changes = self.since(self.position(version))
        return {change.key: change.before for change in reversed(changes)}

    def event(self, kind: EventType, stored: Stored, version: int) -> bytes:
        """One line of a watch."""
        body = stored.body if version == stored.version else _renumbered(stored.body, version)
        return self._line(kind, body)

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        """The BOOKMARK line of a version; `initial_end` marks the end of the initial events."""
        metadata: Json = {"resourceVersion": str(version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        empty = {"metadata": metadata, **_EMPTY[self.resource]}
        return self._line(EventType.BOOKMARK, msgspec.json.encode(empty))

    def _line(self, kind: EventType, body: bytes) -> bytes:
        return b'{"type":"%b","object":%b%b}\n' % (kind.value.encode(), self._head, body[1:])


def store(resource: Resource, obj: Json, version: int, before: Stored | None) -> Stored:
    """The stored state of an object given as JSON, with the metadata that the server adds.

    Raises ValueError when it has no name.
    """
    metadata = dict(obj.get("metadata") or {})
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not name or not isinstance(name, str):
        raise ValueError(f"{resource.kind}: expected metadata.name")
    metadata.setdefault("uid", _uid(before.body) if before else str(UUID(int=version)))
    metadata.setdefault("creationTimestamp", "2024-01-01T00:00:00Z")
    metadata["resourceVersion"] = str(version)
    rest = {k: v for k, v in obj.items() if k not in {"kind", "apiVersion", "metadata"}}
    body = msgspec.json.encode({"metadata": metadata, **rest})
    key = f"{namespace}/{name}" if namespace else name
    return Stored(key, version, body, metadata.get("labels") or {}, _fields(resource, obj))


def metadata_alone(body: bytes) -> bytes:
    """An item of a PartialObjectMetadataList."""
    kind: Json = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return msgspec.json.encode(kind | {"metadata": msgspec.json.decode(body)["metadata"]})


def _fields(resource: Resource, obj: Json) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in FIELDS[resource]:
        value: object = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[path] = value if isinstance(value, str) else ""
    return found


def _uid(body: bytes) -> str:
    return str(msgspec.json.decode(body)["metadata"]["uid"])


def _renumbered(body: bytes, version: int) -> bytes:
    obj = msgspec.json.decode(body)
    obj["metadata"]["resourceVersion"] = str(version)
    return msgspec.json.encode(obj)
