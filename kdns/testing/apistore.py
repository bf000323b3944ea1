"""What an API server for tests says to a list or a watch: the protocol without a socket.

Shapes, words and status codes are those of kube-apiserver 1.36, as recorded in
`tests/data/apiserver`.
"""

import base64
import binascii
from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

from kdns.cluster.objects import EventType, Resource
from kdns.cluster.selectors import parse_field_selector, parse_label_selector
from kdns.testing.apihistory import (
    FIELDS,
    ApiError,
    Change,
    Collection,
    Json,
    Stored,
    metadata_alone,
    store,
)

HISTORY = 10_000
"""Changes kept per resource, at least; there may be twice as many."""
_BY_KIND = {resource.kind: resource for resource in Resource}
_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105 (a continue token is no secret)


class Query(msgspec.Struct, frozen=True, rename="camel"):
    """The query of a list or watch (meta/v1 ListOptions)."""

    watch: bool = False
    limit: int = 0
    continue_: str = msgspec.field(default="", name="continue")
    resource_version: str = ""
    resource_version_match: str = ""
    allow_watch_bookmarks: bool = False
    send_initial_events: bool = False
    timeout_seconds: int = 0
    label_selector: str = ""
    field_selector: str = ""

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> "Query":
        """From decoded parameters; unknown ones are ignored. Raises ApiError 400."""
        try:
            query = msgspec.convert(parameters, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ApiError(400, "BadRequest", f"{error}") from error
        if query.resource_version and not query.resource_version.isdecimal():
            raise ApiError(400, "BadRequest", f'invalid resourceVersion "{query.resource_version}"')
        return query

    @property
    def version(self) -> int | None:
        """The resourceVersion asked for, or None."""
        return int(self.resource_version) if self.resource_version else None


class Selection:
    """The objects that both selectors of a query admit. Raises ApiError 400."""

    def __init__(self, resource: Resource, query: Query) -> None:
        try:
            self._labels = parse_label_selector(query.label_selector)
            self._fields = parse_field_selector(query.field_selector)
        except ValueError as error:
            raise ApiError(400, "BadRequest", f"{error}") from error
        self.everything = not self._labels and not self._fields
        for term in self._fields.terms:
            if term.field not in FIELDS[resource]:
                raise ApiError(
                    400,
                    "BadRequest",
                    f'Unable to find "{resource.value}" that match label selector '
                    f'"{query.label_selector}", field selector "{query.field_selector}": '
                    f"field label not supported: {term.field}",
                )

    def admits(self, stored: Stored | None) -> bool:
        """Whether there is an object, and it is selected."""
        return stored is not None and (
            self.everything
            or (self._labels.matches(stored.labels) and self._fields.matches(stored.fields))
        )


class ContinueToken(msgspec.Struct, frozen=True):
    """Where the next page begins. `rv` is the list's version, or -1: as things are now."""

    v: str
    rv: int
    start: str

    @classmethod
    def read(cls, text: str) -> "ContinueToken":
        """From the opaque text. Raises ApiError 400."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            token = msgspec.json.decode(raw, type=cls)
        except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
            words = f"invalid continue token: continue key is not valid: {error}"
            raise ApiError(400, "BadRequest", words) from error
        if token.v != _TOKEN_VERSION:
            words = "invalid continue token: server does not recognize this encoded version"
            raise ApiError(400, "BadRequest", f"{words} {token.v!r}")
        return token

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()


class Store:
    """Every object of a cluster, and every answer about them."""

    def __init__(self, history: int = HISTORY) -> None:
        self.version = 1
        """The number of the last change."""
        self.collections = {resource: Collection(resource, history) for resource in Resource}

    def create(self, obj: Json) -> Resource:
        """Add an object. Raises ValueError when it is there, or is not one that can be stored."""
        return self._put(obj, exists=False)

    def replace(self, obj: Json) -> Resource:
        """Put an object in place of the one of its name. Raises ValueError when there is none."""
        return self._put(obj, exists=True)

    def load(self, objects: Iterable[Json]) -> set[Resource]:
        """Create what is not there, and replace what is."""
        return {self._put(obj, exists=None) for obj in objects}

    def delete(self, kind: str, namespace: str, name: str) -> Resource:
        """Take an object away. Raises ValueError when it is not there."""
        collection = self.collections[resource_of(kind)]
        key = f"{namespace}/{name}" if namespace else name
        before = collection.objects.get(key)
        if before is None:
            raise ValueError(f"{kind} {key}: not there")
        self.version += 1
        collection.record(Change(self.version, key, before, None))
        return collection.resource

    def compact(self) -> None:
        """Make every version handed out so far too old to watch or to continue from."""
        self.version += 1
        for collection in self.collections.values():
            collection.compact(self.version)

    def _put(self, obj: Json, *, exists: bool | None) -> Resource:
        resource = resource_of(str(obj.get("kind") or "none"))
        collection = self.collections[resource]
        stored = store(resource, obj, self.version + 1, None)
        before = collection.objects.get(stored.key)
        if exists is not None and exists is not (before is not None):
            raise ValueError(
                f"{resource.kind} {stored.key}: {'not' if exists else 'already'} there"
            )
        if before is not None:
            stored = store(resource, obj, self.version + 1, before)
        self.version += 1
        collection.record(Change(self.version, stored.key, before, stored))
        return resource

    def page(self, resource: Resource, query: Query, *, partial: bool = False) -> bytes:
        """The body of one page of a list, of the metadata alone if `partial`. Raises ApiError."""
        collection = self.collections[resource]
        selection = Selection(resource, query)
        version, start = self._begin(collection, query)
        view = View(collection, version)
        # A list from the watch cache is always whole.
        limit = 0 if query.version == 0 else query.limit
        items, end = view.select(selection, start, limit)
        metadata: Json = {"resourceVersion": str(version)}
        if end < len(view.keys):
            token = ContinueToken(_TOKEN_VERSION, version, f"/{view.keys[end - 1]}\0")
            metadata["continue"] = str(token)
            if selection.everything:  # else the server has not counted
                metadata["remainingItemCount"] = len(view.keys) - end
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        if partial:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            items = [metadata_alone(body) for body in items]
        envelope = msgspec.json.encode(head | {"metadata": metadata})
        return b'%b,"items":[%b]}' % (envelope[:-1], b",".join(items))

    def watch(self, resource: Resource, query: Query) -> "Watch":
        """A watch that has yet to tell its first line. Raises ApiError."""
        return Watch(self, self.collections[resource], query)

    def _begin(self, collection: Collection, query: Query) -> tuple[int, str]:
        """The version that a page shows, and the key it begins with. Raises ApiError."""
        if query.continue_:
            return self._continue(collection, query)
        wanted = query.version or 0
        if wanted > self.version:
            words = f"Too large resource version: {wanted}, current: {self.version}"
            raise ApiError(504, "Timeout", words)
        match = query.resource_version_match or ("Exact" if query.limit else "NotOlderThan")
        if not wanted or match != "Exact":
            return self.version, ""
        if wanted < collection.floor:
            raise ApiError(410, "Expired", "The resourceVersion for the provided list is too old.")
        return wanted, ""

    def _continue(self, collection: Collection, query: Query) -> tuple[int, str]:
        if query.version:
            words = "specifying resource version is not allowed when using continue"
            raise ApiError(400, "BadRequest", words)
        token = ContinueToken.read(query.continue_)
        start = token.start.lstrip("/")
        if token.rv == -1:
            return self.version, start
        if not collection.floor <= token.rv <= self.version:
            fresh = ContinueToken(_TOKEN_VERSION, -1, start)
            words = "The provided continue parameter is too old to display a consistent list."
            raise ApiError(410, "Expired", words, fresh=str(fresh))
        return token.rv, start


def resource_of(kind: str) -> Resource:
    """The resource of a kind. Raises ValueError."""
    try:
        return _BY_KIND[kind]
    except KeyError:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(_BY_KIND)}") from None


class View:
    """A collection as it was at one version."""

    def __init__(self, collection: Collection, version: int) -> None:
        self._now = collection.objects
        self._then = collection.undone(version)
        self.keys = collection.keys()
        if self._then:
            same = [key for key in self.keys if key not in self._then]
            self.keys = sorted(same + [key for key, stored in self._then.items() if stored])

    def select(self, selection: Selection, start: str, limit: int) -> tuple[list[bytes], int]:
        """The bodies of what is selected from a key on, and the index where the next page begins.

        At most `limit` bodies, unless that is 0.
        """
        items: list[bytes] = []
        for index in range(bisect_left(self.keys, start), len(self.keys)):
            key = self.keys[index]
            stored = self._then[key] if key in self._then else self._now[key]
            if stored is not None and selection.admits(stored):
                items.append(stored.body)
                if len(items) == limit:
                    return items, index + 1
        return items, len(self.keys)


class Watch:
    """One watch: each call of `lines` gives what happened since the one before."""

    def __init__(self, store_: Store, collection: Collection, query: Query) -> None:
        if query.send_initial_events and query.resource_version_match != "NotOlderThan":
            words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise ApiError(422, "Invalid", f"resourceVersionMatch: Forbidden: {words}")
        self.bookmarks = query.allow_watch_bookmarks
        self._store = store_
        self._collection = collection
        self._selection = Selection(collection.resource, query)
        self._after = query.version or 0
        self._told: list[bytes] = []
        if query.send_initial_events or not self._after:
            self._position = collection.end
            self._told = self._state(marked=query.send_initial_events)
        else:
            self._position = collection.position(self._after)

    def gather(self) -> None:
        """Take what is new, to be told by `lines`, before it is forgotten. Raises ApiError 410."""
        changes = self._collection.since(self._position)
        self._position = self._collection.end
        self._told += [self._tell(change) for change in changes if change.version > self._after]

    def skip(self) -> None:
        """Never tell of what is new."""
        self._position = self._collection.end

    def lines(self) -> bytes:
        """The lines of what is new. Raises ApiError 410 when the watch was too slow for that."""
        self.gather()
        told, self._told = self._told, []
        return b"".join(told)

    def bookmark(self) -> bytes:
        """The line of a bookmark, to be told after `lines`; empty when it would tell nothing."""
        if not self.bookmarks or self._store.version < self._after:
            return b""
        return self._collection.bookmark(self._store.version)

    def _state(self, *, marked: bool) -> list[bytes]:
        objects = map(self._collection.objects.__getitem__, self._collection.keys())
        told = [
            self._collection.event(EventType.ADDED, stored, stored.version)
            for stored in objects
            if self._selection.admits(stored)
        ]
        if marked and self.bookmarks:
            told.append(self._collection.bookmark(self._store.version, initial_end=True))
        return told

    def _tell(self, change: Change) -> bytes:
        """A change as those see it who see only the selection: one may enter it, and leave it."""
        before = change.before if self._selection.admits(change.before) else None
        after = change.after if self._selection.admits(change.after) else None
        if after is not None:
            kind = EventType.ADDED if before is None else EventType.MODIFIED
            return self._collection.event(kind, after, change.version)
        if before is not None:
            return self._collection.event(EventType.DELETED, before, change.version)
        return b""
