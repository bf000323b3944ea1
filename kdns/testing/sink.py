"""A sink for tests that holds what it is given, and a chance that leaves none."""

from collections.abc import Container
from dataclasses import dataclass, field

from kdns.cluster.objects import Object, Resource
from kdns.cluster.sink import Key


class Bound:
    """Chance that always gives the most: every wait is the longest that it may be."""

    def random(self) -> float:
        """One: just beyond what real chance gives."""
        return 1.0

    def randint(self, _a: int, b: int, /) -> int:
        """The upper end."""
        return b


@dataclass
class Held:
    """A sink for one resource that keeps its objects, and the keys that each sweep left."""

    objects: dict[Key, Object] = field(default_factory=dict)
    swept: list[set[Key]] = field(default_factory=list)

    def apply(self, _resource: Resource, obj: Object) -> None:
        """Keep it."""
        self.objects[obj.metadata.namespace, obj.metadata.name] = obj

    def remove(self, _resource: Resource, key: Key) -> None:
        """Lose it."""
        self.objects.pop(key, None)

    def sweep(self, _resource: Resource, keys: Container[Key]) -> None:
        """Lose what was not named."""
        self.objects = {key: obj for key, obj in self.objects.items() if key in keys}
        self.swept.append(set(self.objects))

    @property
    def versions(self) -> dict[Key, str]:
        """The resourceVersion of each object held."""
        return {key: obj.metadata.resource_version for key, obj in self.objects.items()}

    def assume(self, _resource: Resource) -> None:
        """Nothing: what is held is held."""
