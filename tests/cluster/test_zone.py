"""What stands where in a cluster's zones: CoreDNS's case table, and the rest of the tree."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.state import Cluster
from kdns.cluster.zone import (
    MOST_HIDDEN,
    ForwardZone,
    ReverseZone,
    ZoneOptions,
    pod_address,
    reverse_span,
)
from kdns.wire import iana, name
from kdns.wire.errors import BadName
from kdns.zone.node import Node
from tests.cluster.builders import (
    HTTP,
    Tree,
    Zone,
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
    reverse,
    service,
    slice_,
    texts,
    ttl,
)
from tests.cluster.case_table import CASES, INSECURE, OBJECTS, VERIFIED, Case, R, T, V


def zone_of(cluster: Cluster, qname: str, options: Mapping[str, Any]) -> Zone:
    for apex in ("in-addr.arpa.", "ip6.arpa."):
        if qname.endswith(apex):
            return reverse(cluster, apex, **options)
    return forward(cluster, **options)


@pytest.fixture(scope="module")
def clusters() -> dict[str, Cluster]:
    return {text: cluster_of(*trees) for text, trees in OBJECTS.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.title} {c.qname} {c.qtype}")
def test_case_table(case: Case, clusters: dict[str, Cluster]) -> None:
    zone = zone_of(clusters[case.objects], case.qname, case.options)
    wanted = case.answer if case.answer in ("NX", "ND") else expected(case.answer)
    assert ask(zone, case.qname, case.qtype) == wanted


# The apex


def local(*texts: str) -> dict[str, Any]:
    return {"local_addresses": tuple(ip_address(text).packed for text in texts)}


DNS_PORT = ({"name": "dns", "port": 53, "protocol": "UDP"},)
OWN = (
    namespace("kube-system"),
    service("kube-dns.kube-system", "10.96.0.10", ports=DNS_PORT),
    slice_("kube-dns.kube-system", "kube-dns", "10.244.0.20", ports=DNS_PORT),
)
HEADLESS_TOO = (
    service("hdls-dns.kube-system", "None", ports=DNS_PORT),
    slice_("hdls-dns.kube-system", "hdls-dns", "10.244.0.20", "10.244.0.21", ports=DNS_PORT),
    service("dns6.kube-system", "10::111", ports=DNS_PORT),
    slice_("dns6.kube-system", "dns6", "10.244.0.20", ports=DNS_PORT),
)


def test_73_the_name_server_is_the_service_that_has_this_server_as_endpoint() -> None:
    zone = forward(cluster_of(*OWN), **local("10.244.0.20"))
    wanted = expected("NS kube-dns.kube-system.S | kube-dns.kube-system.S A 10.96.0.10")
    assert ask(zone, "Z", "NS") == wanted


def test_36_every_such_service_counts_a_headless_one_by_its_endpoint() -> None:
    zone = forward(cluster_of(*OWN, *HEADLESS_TOO), **local("10.244.0.20"))
    assert ask(zone, "Z", "NS") == expected(
        "NS kube-dns.kube-system.S; NS 10-244-0-20.hdls-dns.kube-system.S; NS dns6.kube-system.S "
        "| kube-dns.kube-system.S A 10.96.0.10; 10-244-0-20.hdls-dns.kube-system.S A 10.244.0.20; "
        "dns6.kube-system.S AAAA 10::111"
    )


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param((), id="no service at all"),
        pytest.param((*OWN[:1], OWN[2]), id="a slice without its service"),
        pytest.param(OWN[1:], id="a namespace that does not exist"),
        pytest.param((OWN[0], external("kube-dns.kube-system", "a.test"), OWN[2]), id="an alias"),
        pytest.param((OWN[0], service("kube-dns.kube-system"), OWN[2]), id="no address"),
    ],
)
def test_a_name_server_that_does_not_resolve_gives_way_to_ns_dns(unfit: tuple[Tree, ...]) -> None:
    zone = forward(cluster_of(*unfit), **local("10.244.0.20", "fd00::20"))
    glue = "ns.dns.Z A 10.244.0.20; ns.dns.Z AAAA fd00::20"
    assert ask(zone, "Z", "NS") == expected(f"NS ns.dns.Z | {glue}")


def test_a_name_server_in_a_namespace_that_is_not_shown_gives_way_too() -> None:
    shown = frozenset({b"\x04shop"})
    zone = forward(cluster_of(*OWN), namespaces=shown, **local("10.244.0.20"))
    assert ask(zone, "Z", "NS") == expected("NS ns.dns.Z | ns.dns.Z A 10.244.0.20")


def test_ns_dns_has_the_addresses_of_this_server_each_once() -> None:
    zone = forward(empty_cluster(), **local("10.0.0.9", "fd00::9", "10.0.0.9"))
    assert ask(zone, "ns.dns.Z", "A") == "A 10.0.0.9"
    assert ask(zone, "ns.dns.Z", "AAAA") == "AAAA fd00::9"
    assert ask(zone, "x.ns.dns.Z", "A") == "NX"
    assert ask(zone, "x.dns.Z", "A") == "NX"
    assert ask(zone, "x.dns-version.Z", "TXT") == "NX"


@pytest.mark.parametrize("apex", ["in-addr.arpa.", "0.10.in-addr.arpa.", "ip6.arpa."])
def test_a_reverse_zone_has_an_apex_and_a_name_server_of_its_own(apex: str) -> None:
    zone = reverse(empty_cluster(), apex, **local("10.0.0.9"))
    assert ask(zone, apex, "NS") == f"NS ns.dns.{apex} | ns.dns.{apex} A 10.0.0.9"
    assert ask(zone, apex, "SOA") == f"SOA ns.dns.{apex} hostmaster.{apex} 0 7200 1800 86400 5"
    assert ask(zone, f"ns.dns.{apex}") == "A 10.0.0.9"
    assert ask(zone, f"dns.{apex}") == "ND"
    assert ask(zone, f"x.dns.{apex}") == "NX"


@pytest.mark.parametrize(("configured", "of_soa"), [(0, 0), (30, 30), (3600, 300)])
def test_the_ttl_is_the_configured_one_but_for_soa_which_is_capped(
    configured: int, of_soa: int
) -> None:
    zone = forward(cluster_of(*V), ttl=configured, **local("10.0.0.9"))
    for qname, qtype in (("cip.ns1.S", "A"), ("hl.ns1.S", "SRV"), ("ext.ns1.S", "A"), ("Z", "NS")):
        assert ttl(zone, qname, qtype) == configured
    assert ttl(zone, "Z", "SOA") == of_soa
    assert texts(zone.soa())[0].endswith(f" 86400 {configured}")


def test_the_zone_may_be_the_root() -> None:
    zone = forward(cluster_of(*V), apex=name.ROOT)
    node = zone.node(name.from_text("cip.ns1.svc."))
    assert node is not None
    assert set(node.rrsets) == {iana.A, iana.SRV}


# Namespaces that are shown


def test_only_the_listed_namespaces_exist() -> None:
    zone = forward(cluster_of(*T), namespaces=frozenset({b"\x05podns"}), pods=INSECURE)
    assert ask(zone, "svc1.testns.S") == "NX"
    assert ask(zone, "testns.S") == "NX"
    assert ask(zone, "1-2-3-4.testns.pod.Z") == "NX"
    assert ask(zone, "1-2-3-4.podns.pod.Z") == "A 1.2.3.4"


# Pods


def test_every_address_of_a_verified_pod_answers_in_every_spelling() -> None:
    """CoreDNS knows the first address only, and one spelling of it."""
    trees = (namespace("podns"), pod("foo.podns", "10.240.0.1", "fd00::2:1"))
    zone = forward(cluster_of(*trees), pods=VERIFIED)
    for label in ("fd00--2-1", "fd00-0-0-0-0-0-2-1"):
        assert ask(zone, f"{label}.podns.pod.Z", "AAAA") == "AAAA fd00::2:1"


@given(st.ip_addresses())
def test_a_pod_s_label_spells_its_address(address: Any) -> None:
    label = str(address).replace(".", "-").replace(":", "-").encode()
    mapped = getattr(address, "ipv4_mapped", None)
    assert pod_address(label) == (mapped or address).packed


@given(st.binary(max_size=45) | st.text("0123456789abcdef-", max_size=45).map(str.encode))
def test_any_label_is_a_pod_s_address_or_none(label: bytes) -> None:
    found = pod_address(label)
    assert found is None or len(found) in (4, 16)


# The reverse tree


@pytest.mark.parametrize(
    ("qname", "answer"),
    [
        ("100.168.192.in-addr.arpa.", "NX"),
        ("1.168.192.in-addr.arpa.", "ND"),
        ("168.192.in-addr.arpa.", "ND"),
        ("192.in-addr.arpa.", "NX"),
        ("300.168.192.in-addr.arpa.", "NX"),
        ("01.168.192.in-addr.arpa.", "NX"),
        ("x.168.192.in-addr.arpa.", "NX"),
        ("1.100.1.168.192.in-addr.arpa.", "NX"),
        ("a.4.3.2.1.ip6.arpa.", "ND"),
        ("b.4.3.2.1.ip6.arpa.", "NX"),
        ("2.1.ip6.arpa.", "ND"),
        ("1.ip6.arpa.", "NX"),
        ("12.1.ip6.arpa.", "NX"),
        ("g.1.ip6.arpa.", "NX"),
        ("0." + "1." * 32 + "ip6.arpa.", "NX"),
    ],
)
def test_names_above_addresses_exist_and_hold_nothing(qname: str, answer: str) -> None:
    """RFC 8020, for what is ours: one octet or nibble is shared with the rest of the world."""
    assert ask(zone_of(cluster_of(*R), qname, {}), qname, "PTR") == answer


def test_a_name_outside_of_the_reverse_trees_spans_no_addresses() -> None:
    assert reverse_span(name.from_text("1.0.0.10.example.test.")) is None


def test_names_above_addresses_that_are_not_shown_do_not_exist() -> None:
    zone = reverse(cluster_of(*R), namespaces=frozenset({b"\x06testns"}))
    assert ask(zone, "17.172.in-addr.arpa.", "PTR") == "NX"
    assert ask(zone, "0.10.in-addr.arpa.", "PTR") == "ND"


@pytest.mark.parametrize(("hidden", "answer"), [(MOST_HIDDEN, "NX"), (MOST_HIDDEN + 1, "ND")])
def test_names_above_very_many_hidden_addresses_exist_for_nobody_looks_at_them_all(
    hidden: int, answer: str
) -> None:
    """That it exists is the safe answer: RFC 8020 lets nobody stop at it."""
    listed = [f"10.0.{n >> 8}.{n & 255}" for n in range(hidden)]
    cluster = cluster_of(namespace("pay"), slice_("s.pay", "web", *listed))
    zone = reverse(cluster, namespaces=frozenset({b"\x04shop"}))
    assert ask(zone, "0.10.in-addr.arpa", "PTR") == answer


def test_names_above_addresses_follow_every_change() -> None:
    cluster = cluster_of(*R)
    zone = reverse(cluster)
    assert ask(zone, "0.11.in-addr.arpa.", "PTR") == "NX"
    cluster.apply(*made(slice_("new.testns", "svc1", "11.0.0.1")))
    cluster.apply(*made(service("new.testns", "11.0.0.1")))
    assert ask(zone, "0.11.in-addr.arpa.", "PTR") == "ND"
    cluster.apply(*made(slice_("new.testns", "svc1", "11.1.0.1")))
    assert ask(zone, "0.11.in-addr.arpa.", "PTR") == "ND"
    cluster.apply(*made(service("new.testns", "None")))
    assert ask(zone, "0.11.in-addr.arpa.", "PTR") == "NX"
    assert ask(zone, "1.11.in-addr.arpa.", "PTR") == "ND"


def test_the_first_of_several_services_with_one_address_is_pointed_at() -> None:
    trees = (service("b.shop", "10.0.0.1"), service("a.shop", "10.0.0.1"))
    for order in (trees, trees[::-1]):
        assert ask(reverse(cluster_of(*order)), "1.0.0.10.in-addr.arpa.", "PTR") == expected(
            "PTR a.shop.S"
        )


def test_two_endpoints_at_one_address_are_both_pointed_at() -> None:
    """Pods in the host's network have the address of the host."""
    held = slice_(
        "s.shop",
        "web",
        endpoint("10.1.0.1", hostname="a"),
        endpoint("10.1.0.1", hostname="b"),
    )
    wanted = expected("PTR a.web.shop.S; PTR b.web.shop.S")
    assert ask(reverse(cluster_of(held)), "1.0.1.10.in-addr.arpa.", "PTR") == wanted


# Names that are too long to exist


def test_a_zone_that_leaves_no_room_for_its_soa_is_refused() -> None:
    apex = name.from_text("x" * 60 + "." + ".".join(["y" * 60] * 3) + ".z.")
    assert len(apex) == 247
    with pytest.raises(BadName, match="zone of 247 octets: at most 244"):
        ForwardZone(apex, empty_cluster(), ZoneOptions())


def test_a_zone_may_be_so_long_that_only_short_names_exist() -> None:
    """`h.a.s.svc` fits in 255 octets, `10-1-0-2.a.s.svc` does not."""
    apex = name.from_text("x" * 55 + "." + ".".join(["y" * 60] * 3) + ".")
    cluster = cluster_of(
        namespace("s"),
        service("a.s", "None"),
        slice_("a.s", "a", endpoint("10.1.0.1", hostname="h"), "10.1.0.2"),
    )
    zone = forward(cluster, apex, **local("10.1.0.2"))
    node = zone.node(name.from_text("a.s.svc.")[:-1] + apex)
    assert node is not None
    assert [len(node.rrsets[rtype].rdatas) for rtype in (iana.A, iana.SRV)] == [2, 1]
    top = zone.node(apex)
    assert top is not None
    assert top.rrsets[iana.NS].rdatas == (b"\x02ns\x03dns" + apex,)
    back = ReverseZone(name.IN_ADDR_ARPA, apex, cluster, ZoneOptions())
    found = [back.node(name.reverse(bytes((10, 1, 0, n)))) for n in (1, 2)]
    assert [node is None for node in found] == [False, True]


long_labels = st.integers(1, 63).map(lambda n: "x" * n)


@given(long_labels, long_labels, long_labels, st.lists(long_labels, max_size=3), st.booleans())
def test_no_record_points_at_a_name_that_cannot_exist(
    host: str, web: str, space: str, zone_labels: list[str], headless: bool
) -> None:
    """RFC 1035, section 2.3.4: 255 octets; read by an implementation that is not ours."""
    apex = name.from_text(".".join([*zone_labels, "z"]) + ".")
    cluster = cluster_of(
        namespace(space),
        service(f"{web}.{space}", "None" if headless else "10.0.0.1", ports=HTTP),
        slice_(f"s.{space}", web, endpoint("10.1.0.1", hostname=host), "10.1.0.2"),
    )
    zone = forward(cluster, apex, **local("10.1.0.1"))
    back = ReverseZone(name.IN_ADDR_ARPA, apex, cluster, ZoneOptions())
    own = f"{web}.{space}.svc."
    nodes: list[Node | None] = [
        *(
            zone.node(key)
            for text in ("", own, f"_http._tcp.{own}", f"_tcp.{own}", f"{host}.{own}")
            if len(key := name.from_text(text or ".")[:-1] + apex) <= name.MAX_NAME
        ),
        *(back.node(name.reverse(bytes((10, n, 0, 1)))) for n in (0, 1)),
    ]
    for node in nodes:
        for rrset in (*(node.rrsets.values() if node else ()), *(node.additional if node else ())):
            assert texts(rrset)
