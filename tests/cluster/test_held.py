"""What is held as octets is the same cluster to whoever is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import model
from kdns.cluster.errors import ObjectError
from kdns.cluster.held import Held, Item, decode, encode
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key, Sink
from tests.cluster.builders import made, namespace, pod, service, slice_
from tests.cluster.objects_strategies import Apply, Event, Remove, Sweep, events

WEB = ("shop", "web")
TREES = (
    service("web.shop", "10.0.0.1"),
    namespace("shop"),
    slice_("web-1.shop", "web", "10.1.0.1"),
    pod("web-0.shop", "10.1.0.1", "fd00::1"),
)


class Recorder:
    """What a Reader was told, as it is."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[Key, model.Object]] = {r: {} for r in Resource}
        self.known: set[Resource] = set()
        self.assumed: set[Resource] = set()
        self.told = 0
        self.triggered: list[float | None] = []

    def put(
        self, resource: Resource, key: Key, obj: model.Object, triggered: float | None = None
    ) -> None:
        self.triggered.append(triggered)
        self.told += 1
        self.objects[resource][key] = obj

    def remove(self, resource: Resource, key: Key) -> None:
        self.told += 1
        del self.objects[resource][key]

    def know(self, resource: Resource) -> None:
        self.known.add(resource)

    def assume(self, resource: Resource) -> None:
        self.assumed.add(resource)


def ignore(_: str) -> None:
    """What is left out is no matter here."""


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
def test_whoever_reads_the_octets_knows_what_the_reader_was_told(happened: list[Event]) -> None:
    reader = Recorder()
    held = Held(ignore, reader)
    for event in happened:
        tell(held, event, reader)
    assert held.swept == reader.known
    for resource, known in reader.objects.items():
        items = [decode(resource, body) for _, body in held.objects(resource)]
        assert {item.key: item.obj for item in items} == known
    assert held.changes == reader.told + len(held.swept)
    assert len(held) == sum(map(len, reader.objects.values()))


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree["kind"])
def test_an_object_survives_its_octets(tree: dict[str, object]) -> None:
    resource, obj = made(tree)
    key, read = (obj.metadata.namespace, obj.metadata.name), model.from_object(obj)
    body = encode(key, read)
    assert decode(resource, body) == Item(resource, key, read, body)


def test_ports_that_are_alike_are_there_once() -> None:
    obj = model.from_object(made(service("cart.shop", "10.96.0.20"))[1])
    read = [decode(Resource.SERVICES, encode(("shop", name), obj)).obj for name in ("a", "b")]
    (first, second) = [each for each in read if isinstance(each, model.Service)]
    assert first.packed_ports
    assert first.packed_ports is second.packed_ports


def test_octets_of_something_else_are_told() -> None:
    with pytest.raises(ObjectError, match="expected a Service in MessagePack"):
        decode(Resource.SERVICES, b"\xc1")


def test_a_malformed_object_is_told_of_and_ends_what_it_was() -> None:
    reasons: list[str] = []
    reader = Recorder()
    held = Held(reasons.append, reader)
    held.apply(*made(service("web.shop", "10.0.0.1")))
    held.apply(*made(service("web.shop", "10.0.0.300")))
    assert reasons == ["Service shop/web: spec.clusterIPs: '10.0.0.300' is no IP address"]
    assert (len(held), reader.objects[Resource.SERVICES]) == (0, {})


def test_an_object_that_says_nothing_new_to_dns_is_no_change() -> None:
    reader = Recorder()
    held = Held(ignore, reader)
    for label in ("one", "two"):
        tree = service("web.shop", "10.0.0.1")
        tree["metadata"]["labels"] = {"version": label}
        held.apply(*made(tree))
    assert (held.changes, reader.told) == (1, 1)


def test_what_is_only_remembered_is_told_as_such_until_it_is_listed() -> None:
    reader = Recorder()
    held = Held(ignore, reader)
    resource, obj = made(service("web.shop", "10.0.0.1"))
    held.apply(resource, obj)
    held.assume(resource)
    assert (reader.assumed, reader.known, held.assumed) == ({resource}, set(), {resource})
    held.sweep(resource, {WEB})
    assert (reader.known, held.assumed) == ({resource}, set())
    assert decode(resource, held.body(resource, WEB)).obj == model.from_object(obj)


def test_a_second_list_of_the_same_is_no_change() -> None:
    held = Held(ignore)
    held.apply(*made(service("web.shop", "10.0.0.1")))
    for _ in range(2):
        held.sweep(Resource.SERVICES, {WEB})
    assert held.changes == 2


def test_without_a_reader_it_remembers_all_the_same() -> None:
    held = Held(ignore)
    resource, obj = made(service("web.shop", "10.0.0.1"))
    held.apply(resource, obj)
    held.assume(resource)
    held.remove(resource, WEB)
    held.remove(resource, WEB)
    assert (len(held), held.changes) == (0, 2)


def test_it_is_told_what_triggered_a_change_of_what_was_known_whole() -> None:
    reader = Recorder()
    held = Held(ignore, reader)
    for address in ("10.1.0.1", "10.1.0.2"):
        tree = slice_("web-1.shop", "web", address)
        tree["metadata"]["annotations"] = {model.TRIGGER_TIME: "1970-01-01T00:01:00Z"}
        held.apply(*made(tree))
        held.sweep(Resource.ENDPOINTSLICES, {("shop", "web-1")})
    assert reader.triggered == [None, 60.0]
