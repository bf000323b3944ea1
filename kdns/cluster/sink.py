"""What a source of objects tells the cluster, whichever source it is."""

from collections.abc import Container
from typing import Protocol

from kdns.cluster import model
from kdns.cluster.objects import Object, Resource

Key = tuple[str, str]
"""(namespace, name); the namespace of a Namespace is empty."""
Place = str
"""A key as namespace/name: what is kept by it for long takes half as much."""


def place_of(key: Key) -> Place:
    """The place of a key."""
    return f"{key[0]}/{key[1]}"


def key_of(place: Place) -> Key:
    """The key of a place. No namespace has a slash (Kubernetes, IsValidPathSegmentName)."""
    namespace, _, name = place.partition("/")
    return namespace, name


class Sink(Protocol):
    """Takes the state of a cluster, object by object.

    A full list is told as `apply` for each object and then one `sweep` that knows the keys of the
    list: what the sink holds and the list did not name is gone. Nothing is emptied first, so a
    relist never shows a gap.
    """

    def apply(self, resource: Resource, obj: Object) -> None:
        """`obj` was added or modified."""

    def remove(self, resource: Resource, key: Key) -> None:
        """The object of that key was deleted; unknown keys are ignored."""

    def sweep(self, resource: Resource, keys: Container[Key]) -> None:
        """A full list ended, and these were its keys; from now on `resource` is in sync."""

    def assume(self, resource: Resource) -> None:
        """What was told of `resource` so far is what it once was: all there is until the sweep."""


class Reader(Protocol):
    """Takes the same from a sink that has read the objects, and seen what a list left out."""

    def put(
        self, resource: Resource, key: Key, obj: model.Object, triggered: float | None = None
    ) -> None:
        """`obj` was added or modified; `triggered` as `model.trigger_time` gives it, if asked."""

    def remove(self, resource: Resource, key: Key) -> None:
        """The object of that key is no more."""

    def know(self, resource: Resource) -> None:
        """What was told of `resource` is all there is."""

    def assume(self, resource: Resource) -> None:
        """See Sink."""
