"""What is held as octets is the same cluster to whoever is told."""

from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.errors import ObjectError
from kdns.cluster.held import Held, decode, encode
from kdns.cluster.objects import Object, Resource
from kdns.cluster.sink import Both, Key, Sink
from kdns.testing import sink
from tests.cluster.builders import made, namespace, service
from tests.cluster.objects_strategies import Apply, Event, Remove, Sweep, events


class Recorder:
    """What a Sink was told, as it is: each resource apart."""

    def __init__(self) -> None:
        self.each = {resource: sink.Held() for resource in Resource}
        self.assumed: set[Resource] = set()

    def apply(self, resource: Resource, obj: Object) -> None:
        self.each[resource].apply(resource, obj)

    def remove(self, resource: Resource, key: Key) -> None:
        self.each[resource].remove(resource, key)

    def sweep(self, resource: Resource, keys: AbstractSet[Key]) -> None:
        self.each[resource].sweep(resource, keys)

    def assume(self, resource: Resource) -> None:
        self.assumed.add(resource)

    @property
    def objects(self) -> dict[Resource, dict[Key, Object]]:
        return {resource: held.objects for resource, held in self.each.items()}

    @property
    def swept(self) -> set[Resource]:
        return {resource for resource, held in self.each.items() if held.swept}


def tell(told: Sink, event: Event, known: Recorder) -> None:
    match event:
        case Apply(resource, obj):
            told.apply(resource, obj)
        case Remove(resource, key):
            told.remove(resource, key)
        case Sweep(resource, kept):
            keys = sorted(known.objects[resource])
            told.sweep(resource, {key for n, key in enumerate(keys) if kept >> n % 8 & 1})


@given(st.lists(events))
def test_whoever_is_told_later_knows_what_others_know(happened: list[Event]) -> None:
    held, other = Held(), Recorder()
    for event in happened:
        tell(held, event, other)
        tell(other, event, other)
    late = Recorder()
    held.tell(late)
    assert late.objects == other.objects
    assert late.swept == other.swept == held.swept
    for resource, known in other.objects.items():
        assert {key: decode(resource, body) for key, body in held.objects(resource)} == known
    assert held.changes == len(happened)
    assert len(held) == sum(map(len, other.objects.values()))


def test_an_object_survives_its_octets() -> None:
    for tree in (service("web.shop", "10.0.0.1"), namespace("shop")):
        resource, obj = made(tree)
        assert decode(resource, encode(obj)) == obj


def test_octets_of_something_else_are_told() -> None:
    with pytest.raises(ObjectError, match="expected a Service in MessagePack"):
        decode(Resource.SERVICES, b"\xc1")


def test_what_is_only_remembered_is_told_as_such_until_it_is_listed() -> None:
    held = Held()
    resource, obj = made(service("web.shop", "10.0.0.1"))
    held.apply(resource, obj)
    held.assume(resource)
    late = Recorder()
    held.tell(late)
    assert (late.assumed, late.swept) == ({resource}, set())
    held.sweep(resource, {("shop", "web")})
    later = Recorder()
    held.tell(later)
    assert (later.assumed, later.swept) == (set(), {resource})
    assert decode(resource, held.body(resource, ("shop", "web"))) == obj


def test_two_sinks_are_told_the_same() -> None:
    one, other = Recorder(), Held()
    both = Both(one, other)
    resource, obj = made(service("web.shop", "10.0.0.1"))
    both.apply(resource, obj)
    both.assume(resource)
    assert one.assumed == other.assumed == {resource}
    both.remove(resource, ("shop", "web"))
    both.apply(resource, obj)
    both.sweep(resource, set())
    assert len(other) == 0
    assert one.objects[resource] == {}
    assert one.swept == other.swept == {resource}
