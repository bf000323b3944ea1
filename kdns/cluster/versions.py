"""Which state of each object of a resource was told last, in a hundred octets an object.

    hash of the key -> 48 bits of BLAKE2b over (resource, namespace, name, resourceVersion)
                       and one bit: named since the last `begin`

The sum of these numbers is a digest that does not depend on the order in which things came: two
who were told the same have the same one. The bit makes a list, or an audit, a mark and sweep in
place: nothing is ever held twice.
"""

from collections.abc import Container, Iterable
from hashlib import blake2b

from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key

DIGEST_BITS = 48
"""As many as a float, which is what metrics are made of, holds exactly, and some to spare."""
_VALUE = (1 << DIGEST_BITS) - 1
_NAMED = 1 << DIGEST_BITS
_PLACE = (1 << 60) - 1
"""Of a hash: with the bits above, a number takes sixteen octets more."""


class Places(Container[Key]):
    """Keys by their places (see `Versions.place`), for who asks whether one is among them."""

    def __init__(self, places: Iterable[int]) -> None:
        self._places = frozenset(places)

    def __contains__(self, key: object) -> bool:
        return (hash(key) & _PLACE) in self._places


class Versions:
    """What was told of one resource.

    digest: the sum, modulo 2**48. begun: how often `begin` was called. gone: the places (see
    `place`) of what was taken away since `begin`; empty from `settle` on.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource = resource.value
        self._told: dict[int, int] = {}
        self._mark = 0
        self._unnamed = 0
        self._open = False
        self.digest = 0
        self.begun = 0
        self.gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._told)

    @staticmethod
    def place(key: Key) -> int:
        """What stands for a key here. Two keys share one with a chance of 1 to 2**60."""
        return hash(key) & _PLACE

    def begin(self) -> None:
        """Call nothing named; what is told from now on is."""
        if self._open:
            self.settle()
        self._open = True
        self.begun += 1
        self._mark ^= _NAMED
        self._unnamed = len(self._told)

    def settle(self) -> None:
        """Call everything named: what `begin` began is over, whether it came to its end or not."""
        if self._unnamed:
            mark = self._mark
            for place, value in self._told.items():
                if value & _NAMED != mark:
                    self._told[place] = value ^ _NAMED  # of a key that is there: no resize
        self._close()

    def put(self, key: Key, version: str) -> None:
        """The object of that key was told, in that state."""
        place = hash(key) & _PLACE
        value = self._value(key, version)
        held = self._told.get(place)
        if held is not None:
            self.digest -= held & _VALUE
            self._unnamed -= held & _NAMED != self._mark
        self.digest = (self.digest + value) & _VALUE
        self._told[place] = value | self._mark
        self.gone.discard(place)

    def remove(self, key: Key) -> None:
        """The object of that key is no more."""
        place = hash(key) & _PLACE
        held = self._told.pop(place, None)
        if held is not None:
            self.digest = (self.digest - (held & _VALUE)) & _VALUE
            self._unnamed -= held & _NAMED != self._mark
        if self._open:
            self.gone.add(place)

    def name(self, key: Key, version: str) -> bool:
        """Whether the object was told in that state, or has been told of since `begin`.

        It is named from then on.
        """
        place = hash(key) & _PLACE
        held = self._told.get(place)
        if held is None:
            return place in self.gone
        if held & _NAMED == self._mark:
            return True
        if held & _VALUE != self._value(key, version):
            return False
        self._told[place] = held ^ _NAMED
        self._unnamed -= 1
        return True

    def is_told(self, place: int) -> bool:
        """Whether there is an object at that place."""
        return place in self._told

    def is_named(self, place: int) -> bool:
        """Whether what is at that place, or was there, has been told of since `begin`."""
        held = self._told.get(place)
        return place in self.gone if held is None else held & _NAMED == self._mark

    def unnamed(self) -> int:
        """How many objects have not been named since `begin`."""
        return self._unnamed

    def sweep(self) -> None:
        """Forget what has not been named, and settle."""
        if self._unnamed:
            mark = self._mark
            for place in [p for p, value in self._told.items() if value & _NAMED != mark]:
                self.digest = (self.digest - (self._told.pop(place) & _VALUE)) & _VALUE
        self._close()

    def _close(self) -> None:
        self._unnamed = 0
        self._open = False
        self.gone = set()

    def _value(self, key: Key, version: str) -> int:
        text = f"{self._resource}\0{key[0]}\0{key[1]}\0{version}"
        return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=6).digest(), "big")
