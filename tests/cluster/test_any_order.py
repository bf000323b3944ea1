"""Whatever happens in whatever order, the zones are those of a fresh list.

And no answer changes without being named, and nothing is left when everything is gone.
"""

from ipaddress import ip_address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import Object, Resource
from kdns.cluster.sink import Key
from kdns.cluster.state import Change, Cluster
from kdns.cluster.zone import ForwardZone, PodsMode, ReverseZone, ZoneOptions, pod_address
from kdns.wire import iana, name
from kdns.zone.node import Node
from tests.cluster import objects_strategies as some
from tests.cluster.builders import APEX, texts
from tests.cluster.objects_strategies import Apply, Event, Remove, Sweep

LOCAL = tuple(ip_address(text).packed for text in ("10.1.0.1", "fd00:1::1"))
OPTIONS = (
    ZoneOptions(pods=PodsMode.VERIFIED, local_addresses=LOCAL),
    ZoneOptions(
        pods=PodsMode.INSECURE,
        endpoint_pod_names=True,
        ignore_empty_service=True,
        namespaces=frozenset({b"\x04shop"}),
        local_addresses=LOCAL,
    ),
)
WHOLE = [name.reverse(ip_address(text).packed) for text in (*some.V4, *some.V6, "10.2.0.1")]
NAMES: dict[bytes, list[bytes]] = {
    APEX: list(some.names(APEX)),
    **{
        apex: list(
            dict.fromkeys(n for w in WHOLE for n in name.suffixes(w) if name.is_below(n, apex))
        )
        for apex in (name.IN_ADDR_ARPA, name.IP6_ARPA)
    },
}

Contents = tuple[frozenset[tuple[str, int]], frozenset[str]]
"""Records with their TTLs, and the additional ones; in no order."""


class Watched:
    """A cluster, all of its zones under all options, and the changes that it told."""

    def __init__(self) -> None:
        self.cluster = Cluster(lambda: 0, lambda _: None)
        self.zones: list[ForwardZone | ReverseZone] = []
        for options in OPTIONS:
            self.zones.append(ForwardZone(APEX, self.cluster, options))
            for apex in (name.IN_ADDR_ARPA, name.IP6_ARPA):
                self.zones.append(ReverseZone(apex, APEX, self.cluster, options))
        self.changes: list[Change] = []
        self.cluster.listen(self.changes.append)

    def happen(self, event: Event, held: dict[tuple[Resource, Key], Object]) -> None:
        """Tell the cluster, and keep in `held` what a list would now give."""
        match event:
            case Apply(resource, obj):
                self.cluster.apply(resource, obj)
                held[resource, event.key] = obj
            case Remove(resource, key):
                self.cluster.remove(resource, key)
                held.pop((resource, key), None)
            case Sweep(resource, kept):
                keys = sorted(key for r, key in held if r is resource)
                named = {key for i, key in enumerate(keys) if kept >> (i % 8) & 1}
                self.cluster.sweep(resource, named)
                for key in keys:
                    if key not in named:
                        del held[resource, key]

    def snapshot(self) -> dict[tuple[int, bytes], Contents | None]:
        """Every name of every zone, and what it holds."""
        return {
            (number, key): contents(zone.node(key))
            for number, zone in enumerate(self.zones)
            for key in NAMES[zone.apex]
        }


def contents(node: Node | None) -> Contents | None:
    if node is None:
        return None
    for rrset in node.rrsets.values():
        assert len(set(rrset.rdatas)) == len(rrset.rdatas) > 0, "no record is there twice"
    assert len(node.rrsets) == 1 or iana.CNAME not in node.rrsets, "an alias stands alone"
    records = ((line, r.ttl) for r in node.rrsets.values() for line in texts(r))
    return frozenset(records), frozenset(line for r in node.additional for line in texts(r))


def fresh(objects: list[tuple[Resource, Object]]) -> Watched:
    """A cluster that was told a list of these, in this order, and nothing before."""
    watched = Watched()
    for resource, obj in objects:
        watched.cluster.apply(resource, obj)
    for resource in Resource:
        listed = [obj.metadata for r, obj in objects if r is resource]
        watched.cluster.sweep(resource, {(meta.namespace, meta.name) for meta in listed})
    return watched


@settings(deadline=None)
@given(some.histories, st.randoms(use_true_random=False), st.booleans())
def test_any_events_end_in_the_zone_of_a_fresh_list_in_any_order(
    events: list[Event], rng: Random, asked: bool
) -> None:
    watched = Watched()
    held: dict[tuple[Resource, Key], Object] = {}
    for event in events:
        watched.happen(event, held)
        if asked:
            # What is remembered of an answer must not outlive it.
            watched.snapshot()
    listed = [(resource, obj) for (resource, _), obj in held.items()]
    rng.shuffle(listed)
    assert watched.snapshot() == fresh(listed).snapshot()


@settings(deadline=None)
@given(some.histories, some.events)
def test_whatever_answers_differently_after_an_event_was_named(
    events: list[Event], last: Event
) -> None:
    watched = Watched()
    held: dict[tuple[Resource, Key], Object] = {}
    for event in events:
        watched.happen(event, held)
    before = watched.snapshot()
    watched.changes.clear()
    watched.happen(last, held)
    after = watched.snapshot()
    for number, key in before:
        if before[number, key] != after[number, key]:
            apex = watched.zones[number].apex
            assert any(concerns(change, apex, key) for change in watched.changes), key


def concerns(change: Change, apex: bytes, key: bytes) -> bool:
    """Whether a change says that the answer at `key` may differ."""
    if key == apex:
        return True
    below = [service + b"\x03svc" + APEX for service in change.services]
    below += [
        space + tree + APEX for space in change.namespaces for tree in (b"\x03svc", b"\x03pod")
    ]
    return (
        any(name.is_below(key, place) for place in below)
        or any(name.is_below(name.reverse(address), key) for address in change.addresses)
        or any(is_pod(key, space, address) for space, address in change.pods)
    )


def is_pod(key: bytes, space: bytes, address: bytes) -> bool:
    label = name.split(key)[0]
    return name.parent(key) == space + b"\x03pod" + APEX and pod_address(label) == address


@settings(deadline=None)
@given(some.histories, st.booleans())
def test_nothing_is_left_when_everything_is_gone(events: list[Event], by_sweep: bool) -> None:
    watched = Watched()
    held: dict[tuple[Resource, Key], Object] = {}
    for event in events:
        watched.happen(event, held)
    watched.snapshot()
    for resource, key in held:
        if not by_sweep:
            watched.cluster.remove(resource, key)
    for resource in Resource:
        watched.cluster.sweep(resource, set())
    left = {attribute: value for attribute, value in vars(watched.cluster).items() if value}
    assert left.pop("synced") == set(Resource)
    assert left.keys() <= {"_listeners", "_now", "_on_bad_object", "_pod_names"}
    assert not any(getattr(zone, "_views", None) for zone in watched.zones)
    assert watched.snapshot() == Watched().snapshot()
