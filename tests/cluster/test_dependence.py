"""A change touches exactly the answers that it changes, by the words that both are told in."""

from collections.abc import Iterator

import pytest
from hypothesis import given

from kdns.cluster.dependence import of_change, of_forward_name, of_reverse_name
from kdns.cluster.objects import Resource
from kdns.cluster.state import Change, Cluster
from kdns.cluster.zone import ForwardZone, PodsMode, ReverseZone
from kdns.wire import name
from kdns.zone.node import Node
from tests.cluster.builders import APEX, empty_cluster, forward, full, reverse
from tests.cluster.objects_strategies import Apply, Event, Remove, Sweep, histories, names

WORDS = {b"n": "namespace", b"s": "service", b"a": "address", b"p": "pod"}
NAMES = list(names(APEX))
IN_ADDR = "in-addr.arpa."
ADDRESSES = ((10, 1, 0, 1), (10, 1, 0, 2), (10, 1, 9, 1), (10, 0, 0, 1), (10, 9, 9, 9))
REVERSED = [
    name.from_text(text)
    for text in (
        IN_ADDR,
        f"ns.dns.{IN_ADDR}",
        f"dns.{IN_ADDR}",
        f"10.{IN_ADDR}",
        f"1.10.{IN_ADDR}",
        f"5.1.0.1.10.{IN_ADDR}",
        f"x.{IN_ADDR}",
    )
] + [name.reverse(bytes(address)) for address in ADDRESSES]


def below(text: str) -> bytes:
    """The labels of a name below the apex."""
    made = name.from_text(full(text))
    return made[: len(made) - len(APEX)]


def told(found: tuple[bytes, ...] | None) -> list[str] | None:
    """Dependencies in words."""
    return None if found is None else [f"{WORDS[d[:1]]} {d[1:]!r}" for d in found]


SHOP = "namespace b'\\x04shop'"
WEB = "service b'\\x03web\\x04shop'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Z", None),
        ("svc.Z", []),
        ("pod.Z", []),
        ("x.Z", []),
        ("ns.dns.Z", []),
        ("a.b.c.Z", []),
        ("shop.svc.Z", [SHOP]),
        ("web.shop.svc.Z", [SHOP, WEB]),
        ("_http._tcp.web.shop.svc.Z", [SHOP, WEB]),
        ("a.b.c.d.web.shop.svc.Z", [SHOP, WEB]),
        ("shop.pod.Z", [SHOP]),
        ("x.shop.pod.Z", [SHOP]),
        ("10-1-0-1.shop.pod.Z", [SHOP, "pod b'\\x04shop\\n\\x01\\x00\\x01'"]),
        ("x.10-1-0-1.shop.pod.Z", [SHOP]),
        # What looks like the tree's label is the end of another.
        ("x\\003svc.Z", []),
    ],
)
def test_a_forward_name_rests_on_its_service_its_namespace_or_its_pod(
    text: str, words: list[str] | None
) -> None:
    assert told(of_forward_name(below(text))) == words


def test_every_spelling_of_a_pod_s_address_is_one_pod() -> None:
    spellings = ("fd00-1--1", "fd00-1-0-0-0-0-0-1", "fd00-0001--0001")
    found = {of_forward_name(below(f"{text}.shop.pod.Z")) for text in spellings}
    assert len(found) == 1
    (one,) = found
    assert one is not None
    assert len(one) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("in-addr.arpa.", None),
        ("1.0.1.10.in-addr.arpa.", ["address b'\\n\\x01\\x00\\x01'"]),
        ("0.1.10.in-addr.arpa.", None),
        ("10.in-addr.arpa.", []),
        ("5.1.0.1.10.in-addr.arpa.", []),
        ("x.in-addr.arpa.", []),
        ("dns.in-addr.arpa.", None),
        ("ns.dns.in-addr.arpa.", None),
    ],
)
def test_a_reverse_name_rests_on_its_address(text: str, words: list[str] | None) -> None:
    apex = name.from_text("in-addr.arpa.")
    assert told(of_reverse_name(name.from_text(text), apex)) == words


def test_a_change_touches_what_answers_rest_on() -> None:
    shop, packed = b"\x04shop", bytes((10, 1, 0, 1))
    change = Change((b"\x03web" + shop,), (shop,), (packed,), ((shop, packed),))
    apex = name.from_text("in-addr.arpa.")
    rested = [
        *(of_forward_name(below("web.shop.svc.Z"), b"1 ") or ()),
        *(of_forward_name(below("10-1-0-1.shop.pod.Z"), b"1 ") or ()),
        *(of_reverse_name(name.reverse(packed), apex, b"1 ") or ()),
    ]
    assert sorted(of_change(change, b"1 ")) == sorted(set(rested))


def test_clusters_are_told_apart() -> None:
    change = Change((b"\x03web\x04shop",), (b"\x04shop",))
    touched = of_change(change, b"1 ")
    assert set(touched) == set(of_forward_name(below("web.shop.svc.Z"), b"1 ") or ())
    assert not set(touched) & set(of_forward_name(below("web.shop.svc.Z"), b"2 ") or ())


class Known:
    """What every name held when it was last looked at, forgotten as answers are."""

    def __init__(self, zone: ForwardZone | ReverseZone, listed: list[bytes]) -> None:
        self.zone = zone
        self.listed = listed
        self.held: dict[bytes, object] = {}

    def rests_on(self, key: bytes) -> tuple[bytes, ...] | None:
        if isinstance(self.zone, ReverseZone):
            return of_reverse_name(key, self.zone.apex)
        return of_forward_name(key[: len(key) - len(self.zone.apex)])

    def forget(self, change: Change) -> None:
        touched = set(of_change(change))
        for key in list(self.held):
            if touched & set(self.rests_on(key) or ()):
                del self.held[key]

    def look(self) -> None:
        for key in self.listed:
            if self.rests_on(key) is not None:
                now = everything(self.zone.node(key))
                assert self.held.setdefault(key, now) == now, name.to_text(key)


def everything(node: Node | None) -> object:
    return None if node is None else (dict(node.rrsets), node.additional)


def happen(cluster: Cluster, event: Event, held: dict[Resource, set[tuple[str, str]]]) -> None:
    match event:
        case Apply(resource, obj):
            held[resource].add(event.key)
            cluster.apply(resource, obj)
        case Remove(resource, key):
            held[resource].discard(key)
            cluster.remove(resource, key)
        case Sweep(resource, kept):
            known = sorted(held[resource])
            held[resource] = {key for n, key in enumerate(known) if kept >> n & 1}
            cluster.sweep(resource, held[resource])


def zones(cluster: Cluster) -> Iterator[tuple[ForwardZone | ReverseZone, list[bytes]]]:
    yield forward(cluster, pods=PodsMode.VERIFIED, local_addresses=(bytes((10, 1, 0, 1)),)), NAMES
    yield forward(cluster, ignore_empty_service=True, endpoint_pod_names=True), NAMES
    yield reverse(cluster), REVERSED
    yield reverse(cluster, endpoint_pod_names=True, namespaces=frozenset((b"\x04shop",))), REVERSED


@given(histories)
def test_whatever_happens_a_node_that_no_change_touched_is_what_it_was(
    events: list[Event],
) -> None:
    cluster = empty_cluster()
    cluster._on_bad_object = lambda reason: None
    known = [Known(zone, listed) for zone, listed in zones(cluster)]
    for one in known:
        cluster.listen(one.forget)
    held: dict[Resource, set[tuple[str, str]]] = {resource: set() for resource in Resource}
    for event in events:
        happen(cluster, event, held)
        for one in known:
            one.look()
