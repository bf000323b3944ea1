"""What a source of objects tells the cluster, whichever source it is."""

from collections.abc import Set as AbstractSet
from typing import Protocol

from kdns.cluster.objects import Object, Resource

Key = tuple[str, str]
"""(namespace, name); the namespace of a Namespace is empty."""


class Sink(Protocol):
    """Takes the state of a cluster, object by object.

    A full list is told as `apply` for each object and then one `sweep` with every key of the list:
    what the sink holds and the list did not name is gone. Nothing is emptied first, so a relist
    never shows a gap.
    """

    def apply(self, resource: Resource, obj: Object) -> None:
        """`obj` was added or modified."""

    def remove(self, resource: Resource, key: Key) -> None:
        """The object of that key was deleted; unknown keys are ignored."""

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        """A full list ended, and these were its keys; from now on `resource` is in sync."""

    def assume(self, resource: Resource) -> None:
        """What was told of `resource` so far is what it once was: all there is until the sweep."""


class Both:
    """A Sink that tells two others, the first one first."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self._each = (first, second)

    def apply(self, resource: Resource, obj: Object) -> None:
        """See Sink."""
        for sink in self._each:
            sink.apply(resource, obj)

    def remove(self, resource: Resource, key: Key) -> None:
        """See Sink."""
        for sink in self._each:
            sink.remove(resource, key)

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        """See Sink."""
        for sink in self._each:
            sink.sweep(resource, keys)

    def assume(self, resource: Resource) -> None:
        """See Sink."""
        for sink in self._each:
            sink.assume(resource)
