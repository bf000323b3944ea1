"""What the cluster holds after each event, and whom it tells what."""

from ipaddress import ip_address

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.state import Change, Cluster
from kdns.cluster.versions import Places, Versions
from kdns.wire import iana
from tests.cluster.builders import (
    NOW,
    Tree,
    ask,
    cluster_of,
    empty_cluster,
    endpoint,
    expected,
    external,
    forward,
    made,
    namespace,
    pod,
    rdatas,
    reverse,
    service,
    slice_,
)

WEB, DB, SHOP = b"\x03web\x04shop", b"\x02db\x04shop", b"\x04shop"


def packed(text: str) -> bytes:
    return ip_address(text).packed


def told(cluster: Cluster) -> list[Change]:
    """The changes from now on."""
    changes: list[Change] = []
    cluster.listen(changes.append)
    return changes


def as_sets(change: Change) -> list[set[object]]:
    return [set(field) for field in change]


# Whom a change concerns


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        pytest.param(
            [],
            service("web.shop", "10.0.0.1"),
            Change(services=(WEB,), addresses=(packed("10.0.0.1"),)),
            id="a new service: its names, and its addresses' reverse names",
        ),
        pytest.param(
            [service("web.shop", "10.0.0.1", "fd00::1")],
            service("web.shop", "10.0.0.1", "fd00::2"),
            Change(services=(WEB,), addresses=(packed("fd00::1"), packed("fd00::2"))),
            id="another address: the old one and the new one",
        ),
        pytest.param(
            [service("web.shop", "10.0.0.1")],
            service("web.shop", "10.0.0.1", ports=()),
            Change(services=(WEB,)),
            id="other ports: no reverse name tells a port",
        ),
        pytest.param(
            [slice_("s.shop", "web", "10.1.0.1", "10.1.0.2")],
            slice_("s.shop", "web", "10.1.0.1", "10.1.0.3"),
            Change(services=(WEB,), addresses=(packed("10.1.0.2"), packed("10.1.0.3"))),
            id="one endpoint of a slice: only the two addresses",
        ),
        pytest.param(
            [slice_("s.shop", "web", "10.1.0.1", "10.1.0.2")],
            slice_("s.shop", "web", "10.1.0.1", endpoint("10.1.0.2", hostname="h")),
            Change(services=(WEB,), addresses=(packed("10.1.0.2"),)),
            id="another hostname: the reverse name tells it",
        ),
        pytest.param(
            [slice_("s.shop", "web", "10.1.0.1", endpoint("10.1.0.2", pod="a"))],
            slice_("s.shop", "web", "10.1.0.1", endpoint("10.1.0.2", pod="b")),
            Change(services=(WEB,), addresses=(packed("10.1.0.2"),)),
            id="another pod: with endpoint_pod_names the reverse name tells it",
        ),
        pytest.param(
            [slice_("s.shop", "web", "10.1.0.1")],
            slice_("s.shop", "db", "10.1.0.1"),
            Change(services=(WEB, DB), addresses=(packed("10.1.0.1"),)),
            id="a slice that moves: both services, and every address",
        ),
        pytest.param(
            [],
            slice_("s.shop", "", "10.1.0.1"),
            Change(),
            id="a slice of no service: nothing",
        ),
        pytest.param(
            [],
            namespace("shop"),
            Change(namespaces=(SHOP,)),
            id="a namespace",
        ),
        pytest.param(
            [pod("web-0.shop", "10.1.0.1", "10.1.0.2")],
            pod("web-0.shop", "10.1.0.2", "10.1.0.3"),
            Change(pods=((SHOP, packed("10.1.0.1")), (SHOP, packed("10.1.0.3")))),
            id="a pod's addresses: those that came and those that went",
        ),
        pytest.param(
            [pod("web-0.shop", "10.1.0.1")],
            pod("db-0.shop", "10.1.0.1"),
            Change(),
            id="a second pod of one address (the host's): the name answered already",
        ),
    ],
)
def test_a_change_names_what_may_answer_differently(
    before: list[Tree], after: Tree, change: Change
) -> None:
    cluster = cluster_of(*before)
    changes = told(cluster)
    cluster.apply(*made(after))
    assert [as_sets(c) for c in changes] == [as_sets(change)] * any(change)


@pytest.mark.parametrize(
    "tree",
    [
        service("web.shop", "10.0.0.1"),
        slice_("s.shop", "web", "10.1.0.1"),
        namespace("shop"),
        pod("web-0.shop", "10.1.0.1"),
    ],
    ids=lambda tree: tree["kind"],
)
def test_an_object_told_again_is_no_change_and_its_end_is_one(tree: Tree) -> None:
    cluster = cluster_of(tree)
    changes = told(cluster)
    resource, obj = made(tree)
    cluster.apply(resource, obj)
    assert changes == []
    key = (obj.metadata.namespace, obj.metadata.name)
    cluster.remove(resource, key)
    assert len(changes) == 1
    cluster.remove(resource, key)
    assert len(changes) == 1


def test_an_object_that_was_never_there_can_be_removed() -> None:
    cluster = empty_cluster()
    for resource in Resource:
        cluster.remove(resource, ("shop", "web"))
        cluster.remove(resource, ("Not a name!", ""))


def test_who_stops_listening_is_told_no_more() -> None:
    cluster = empty_cluster()
    first, second = told(cluster), told(cluster)
    cluster.unlisten(cluster.listeners[:1])
    cluster.apply(*made(service("web.shop", "10.0.0.1")))
    assert (len(first), len(second)) == (0, 1)


def test_listeners_are_told_after_the_change_is_applied() -> None:
    cluster = cluster_of(namespace("shop"))
    zone = forward(cluster)
    answers: list[str] = []
    cluster.listen(lambda _: answers.append(ask(zone, "web.shop.S")))
    assert ask(zone, "web.shop.S") == "NX"
    cluster.apply(*made(service("web.shop", "10.0.0.1")))
    cluster.apply(*made(service("web.shop", "10.0.0.2")))
    cluster.remove(Resource.SERVICES, ("shop", "web"))
    assert answers == ["A 10.0.0.1", "A 10.0.0.2", "NX"]


# The serial


def test_the_serial_is_the_time_of_the_last_change() -> None:
    clock = iter((NOW, NOW + 5, NOW + 9))
    cluster = Cluster(lambda: next(clock), print)
    assert cluster.serial == 0
    cluster.apply(*made(namespace("shop")))
    cluster.apply(*made(namespace("shop")))
    assert cluster.serial == NOW
    cluster.apply(*made(namespace("pay")))
    assert cluster.serial == NOW + 5


def test_an_empty_cluster_has_a_serial_once_it_is_in_sync() -> None:
    cluster = empty_cluster()
    cluster.sweep(Resource.SERVICES, set())
    assert cluster.serial == NOW
    assert cluster.synced == {Resource.SERVICES}


# Lists


def test_what_a_list_did_not_name_is_gone() -> None:
    cluster = cluster_of(
        namespace("shop"), service("web.shop", "10.0.0.1"), service("db.shop", "10.0.0.2")
    )
    zone = forward(cluster)
    cluster.sweep(Resource.SERVICES, {("shop", "web"), ("shop", "unheard")})
    assert ask(zone, "web.shop.S") == "A 10.0.0.1"
    assert ask(zone, "db.shop.S") == "NX"
    assert ask(zone, "shop.S") == "ND"


def test_a_list_need_only_tell_whether_it_named_a_key() -> None:
    cluster = cluster_of(
        namespace("shop"),
        service("web.shop", "None"),
        slice_("web-1.shop", "web", "10.1.0.1"),
        pod("one.shop", "10.1.0.1"),
    )
    changes = told(cluster)
    named = {
        Resource.NAMESPACES: ("", "shop"),
        Resource.SERVICES: ("shop", "web"),
        Resource.ENDPOINTSLICES: ("shop", "web-1"),
        Resource.PODS: ("shop", "one"),
    }
    for resource, key in named.items():
        cluster.sweep(resource, Places([Versions.place(key)]))
    assert changes == []
    for resource in named:
        cluster.sweep(resource, Places([]))
    assert len(changes) == len(named)


# Orders that come about


@pytest.mark.parametrize("turned", [False, True])
def test_a_service_and_its_slices_have_one_key_in_memory(turned: bool) -> None:
    objects = [service("web.shop", "10.0.0.1"), slice_("s.shop", "web"), slice_("t.shop", "web")]
    cluster = cluster_of(*objects[:: -1 if turned else 1])
    cluster.apply(*made(service("web.shop", "10.0.0.2")))
    cluster.apply(*made(slice_("s.shop", "web", "10.1.0.1")))
    (held,) = cluster.services.values()
    assert all(each.service is held.key for each in cluster.slices_of(WEB))
    assert len(cluster.slices_of(WEB)) == 2


def test_a_slice_may_come_before_its_service() -> None:
    cluster = cluster_of(namespace("shop"), slice_("s.shop", "db", "10.1.0.1"))
    zone = forward(cluster)
    assert ask(zone, "db.shop.S") == "NX"
    cluster.apply(*made(service("db.shop", "None")))
    assert ask(zone, "db.shop.S") == "A 10.1.0.1"


def test_a_service_may_come_before_its_namespace() -> None:
    cluster = cluster_of(service("web.shop", "10.0.0.1"))
    zone = forward(cluster)
    assert ask(zone, "web.shop.S") == "NX"
    cluster.apply(*made(namespace("shop")))
    assert ask(zone, "web.shop.S") == "A 10.0.0.1"


def test_a_service_made_anew_is_another() -> None:
    cluster = cluster_of(namespace("shop"), service("web.shop", "10.0.0.1"))
    zone = forward(cluster)
    assert ask(zone, "web.shop.S") == "A 10.0.0.1"
    cluster.remove(Resource.SERVICES, ("shop", "web"))
    cluster.apply(*made(external("web.shop", "a.test")))
    assert ask(zone, "web.shop.S") == "CNAME a.test."


def test_a_slice_that_moves_takes_its_endpoints_along() -> None:
    trees = (namespace("shop"), service("a.shop", "None"), service("b.shop", "None"))
    cluster = cluster_of(*trees, slice_("s.shop", "a", "10.1.0.1"))
    zone, back = forward(cluster), reverse(cluster)
    cluster.apply(*made(slice_("s.shop", "b", "10.1.0.1")))
    assert ask(zone, "a.shop.S") == "NX"
    assert ask(zone, "b.shop.S") == "A 10.1.0.1"
    wanted = expected("PTR 10-1-0-1.b.shop.S")
    assert ask(back, "1.0.1.10.in-addr.arpa.", "PTR") == wanted
    cluster.apply(*made(slice_("s.shop", "", "10.1.0.1")))
    assert ask(zone, "b.shop.S") == "NX"
    assert ask(back, "1.0.1.10.in-addr.arpa.", "PTR") == "NX"


def test_an_address_in_two_slices_stays_until_it_has_left_both() -> None:
    cluster = cluster_of(
        namespace("shop"),
        service("db.shop", "None"),
        slice_("s1.shop", "db", "10.1.0.1"),
        slice_("s2.shop", "db", "10.1.0.1"),
    )
    zone, back = forward(cluster), reverse(cluster)
    answers = ["A 10.1.0.1", expected("PTR 10-1-0-1.db.shop.S")]
    for slice_name, wanted in (("s1", answers), ("s2", ["NX", "NX"])):
        cluster.remove(Resource.ENDPOINTSLICES, ("shop", slice_name))
        found = [ask(zone, "db.shop.S"), ask(back, "1.0.1.10.in-addr.arpa.", "PTR")]
        assert found == wanted


def test_two_pods_of_one_address_are_both_it_until_both_are_gone() -> None:
    """As pods in the host's network are."""
    cluster = cluster_of(pod("a.shop", "10.1.0.1"), pod("b.shop", "10.1.0.1"))
    for left, pod_name in ((True, "a"), (False, "b")):
        cluster.remove(Resource.PODS, ("shop", pod_name))
        assert cluster.has_pod(SHOP, packed("10.1.0.1")) is left


def test_the_namespaces_of_addresses_are_known_where_they_are_one() -> None:
    cluster = cluster_of(
        pod("a.shop", "10.1.0.1"),
        pod("b.shop", "10.1.0.2"),
        pod("c.other", "10.1.0.2"),
        pod("d.shop", "10.1.0.3"),
    )
    asked = {packed("10.1.0.1"), packed("10.1.0.2"), packed("10.1.0.9")}
    assert cluster.namespaces_of(asked) == {packed("10.1.0.1"): SHOP}


def test_the_pods_of_an_address_are_known_from_when_they_are_asked_for() -> None:
    cluster = cluster_of(
        pod("a.shop", "10.1.0.1"),
        pod("b.shop", "10.1.0.2", "fd00::2"),
        pod("c.other", "10.1.0.2"),
        pod("d.shop"),
    )
    assert cluster.pods_at(packed("10.1.0.2")) == ("other/c", "shop/b")
    cluster.apply(*made(pod("a.shop", "10.1.0.3")))
    cluster.remove(Resource.PODS, ("other", "c"))
    asked = ("10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00::2")
    held = [cluster.pods_at(packed(address)) for address in asked]
    assert held == [(), ("shop/b",), ("shop/a",), ("shop/b",)]


# Malformed objects


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (service("web.shop", "10.0.0.1"), service("web.shop", "10.0.0.300")),
        (slice_("s.shop", "web", "10.1.0.1"), slice_("s.shop", "web", "x")),
        (pod("web-0.shop", "10.1.0.1"), pod("web-0.shop", "x")),
    ],
    ids=("service", "slice", "pod"),
)
def test_a_malformed_object_owns_no_names_and_is_told_of(good: Tree, bad: Tree) -> None:
    """Also in the place of a good one: a list would not have had the good one either."""
    reasons: list[str] = []
    cluster = Cluster(lambda: NOW, reasons.append)
    cluster.apply(*made(good))
    changes = told(cluster)
    cluster.apply(*made(bad))
    assert len(changes) == len(reasons) == 1
    cluster.apply(*made(bad))
    assert (len(changes), len(reasons)) == (1, 2)
    assert cluster.services == {}
    assert cluster.slices_of(WEB) == ()
    assert not cluster.has_pod(SHOP, packed("10.1.0.1"))
    cluster.apply(*made(good))
    assert len(changes) == 2


@pytest.mark.parametrize("resource", [Resource.SERVICES, Resource.NAMESPACES])
def test_what_can_have_no_name_was_never_there(resource: Resource) -> None:
    cluster = cluster_of(namespace("shop"), service("web.shop", "10.0.0.1"))
    changes = told(cluster)
    cluster.remove(resource, ("Shop", "Web" if resource is Resource.SERVICES else "Shop"))
    assert changes == []
    cluster.sweep(resource, {("", "Shop")})
    assert len(changes) == 1


def test_a_malformed_namespace_is_told_of() -> None:
    reasons: list[str] = []
    Cluster(lambda: NOW, reasons.append).apply(*made(namespace("Shop")))
    assert reasons == ["Namespace: 'Shop': expected lower case"]


# Order of answers


def test_slices_come_in_the_order_of_their_names() -> None:
    trees = [slice_(f"{n}.shop", "web", f"10.1.0.{n}") for n in range(1, 5)]
    for order in (trees, trees[::-1]):
        held = cluster_of(*order).slices_of(WEB)
        assert [s.endpoints[0].address[3] for s in held] == [1, 2, 3, 4]
    assert empty_cluster().slices_of(WEB) == ()


def test_several_reverse_names_come_in_one_order_however_their_slices_came() -> None:
    trees = [slice_(f"{n}.shop", f"web-{n}", "10.1.0.1") for n in range(1, 5)]
    found = {
        rdatas(reverse(cluster_of(*order)), "1.0.1.10.in-addr.arpa.", iana.PTR)
        for order in (trees, trees[::-1])
    }
    assert [len(order) for order in found] == [4]


def test_what_is_only_remembered_is_known_and_said_to_be_so() -> None:
    cluster = empty_cluster()
    cluster.assume(Resource.SERVICES)
    assert (cluster.synced, cluster.assumed) == ({Resource.SERVICES}, {Resource.SERVICES})
    cluster.know(Resource.SERVICES)
    assert (cluster.synced, cluster.assumed, cluster.serial) == ({Resource.SERVICES}, set(), NOW)
