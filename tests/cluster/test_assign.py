"""Which cluster IPs the services of manifests get, and which they never get."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.assign import CIDRError, assign_cluster_ips, parse_service_cidrs
from kdns.cluster.objects import Meta, Service, ServiceSpec

V4 = parse_service_cidrs("10.96.0.0/16")
DUAL = parse_service_cidrs("10.96.0.0/16,fd00:10:96::/112")
TINY = parse_service_cidrs("10.0.0.0/29")  # five addresses: .2 to .6


def service(name: str = "web", **spec: Any) -> Service:
    return Service(Meta(name=name, namespace="shop"), ServiceSpec(**spec))


def addresses(made: Service) -> list[str]:
    return made.spec.cluster_ips or []


def test_a_service_without_cluster_ip_gets_one_of_the_range() -> None:
    (made,) = assign_cluster_ips([service()], V4).services
    assert made.spec.cluster_ip == addresses(made)[0]
    assert ip_address(addresses(made)[0]) in ip_network("10.96.0.0/16")
    assert made.spec.ip_families == ["IPv4"]


@pytest.mark.parametrize("type_", [None, "", "ClusterIP", "NodePort", "LoadBalancer"])
@pytest.mark.parametrize("cluster_ip", [None, ""])
def test_every_type_with_a_virtual_ip_gets_one(type_: str | None, cluster_ip: str | None) -> None:
    (made,) = assign_cluster_ips([service(type=type_, cluster_ip=cluster_ip)], V4).services
    assert len(addresses(made)) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"cluster_ip": "None"},
        {"cluster_ips": ["None"]},
        {"type": "ExternalName", "external_name": "db.example.com"},
        {"cluster_ip": "10.96.0.10"},
        {"cluster_ips": ["10.96.0.10", "fd00:10:96::a"]},
        {"cluster_ip": "not an address"},
        {"type": "Unheard"},
    ],
)
def test_headless_external_and_addressed_services_stay_as_they_are(spec: dict[str, Any]) -> None:
    before = service(**spec)
    assigned = assign_cluster_ips([before], DUAL)
    assert assigned.services[0] is before
    assert not assigned.errors


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({}, ["IPv4"]),
        ({"ip_family_policy": "SingleStack"}, ["IPv4"]),
        ({"ip_families": ["IPv6"]}, ["IPv6"]),
        ({"ip_families": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"]),
        ({"ip_family_policy": "PreferDualStack"}, ["IPv4", "IPv6"]),
        ({"ip_family_policy": "PreferDualStack", "ip_families": ["IPv6"]}, ["IPv6", "IPv4"]),
        ({"ip_family_policy": "RequireDualStack"}, ["IPv4", "IPv6"]),
        ({"ip_family_policy": "RequireDualStack", "ip_families": ["IPv6"]}, ["IPv6", "IPv4"]),
        ({"ip_family_policy": "RequireDualStack", "cluster_ip": "fd00:10:96::a"}, ["IPv6", "IPv4"]),
    ],
)
def test_families_and_policy_are_respected(spec: dict[str, Any], families: list[str]) -> None:
    assigned = assign_cluster_ips([service(**spec)], DUAL)
    (made,) = assigned.services
    assert not assigned.errors
    assert [f"IPv{ip_address(a).version}" for a in addresses(made)] == families
    assert made.spec.ip_families == families


def test_an_address_stated_is_kept_when_the_other_family_is_added() -> None:
    before = service(ip_family_policy="RequireDualStack", cluster_ip="fd00:10:96::a")
    (made,) = assign_cluster_ips([before], DUAL).services
    assert addresses(made)[0] == "fd00:10:96::a"


def test_the_family_named_first_is_the_primary_one() -> None:
    (made,) = assign_cluster_ips(
        [service()], parse_service_cidrs("fd00::/112, 10.0.0.0/24")
    ).services
    assert made.spec.ip_families == ["IPv6"]


def test_dual_stack_is_only_preferred_where_one_family_has_a_range() -> None:
    (made,) = assign_cluster_ips([service(ip_family_policy="PreferDualStack")], V4).services
    assert made.spec.ip_families == ["IPv4"]


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"ip_family_policy": "RequireDualStack"}, "expected service CIDRs of two families"),
        ({"ip_families": ["IPv4", "IPv6"]}, "no service CIDR of IPv6"),
        ({"ip_families": ["IPv6"]}, "no service CIDR of IPv6"),
        ({"ip_families": ["IPv5"]}, "'IPv5', expected IPv4 or IPv6"),
        ({"ip_family_policy": "DualStack"}, "'DualStack', expected SingleStack"),
        (
            {"ip_family_policy": "SingleStack", "ip_families": ["IPv4", "IPv6"]},
            "expected one family, not two",
        ),
    ],
)
def test_what_cannot_be_had_costs_that_service_only(spec: dict[str, Any], what: str) -> None:
    wrong = service("wrong", **spec)
    assigned = assign_cluster_ips([wrong, service("right")], V4)
    assert assigned.services[0] is wrong
    assert len(addresses(assigned.services[1])) == 1
    assert list(assigned.errors) == [("shop", "wrong")]
    message = str(assigned.errors["shop", "wrong"])
    assert message.startswith("Service shop/wrong: ")
    assert what in message


def test_the_first_address_is_that_of_the_api_server_unless_stated_elsewhere() -> None:
    kubernetes = Service(Meta(name="kubernetes", namespace="default"))
    (made,) = assign_cluster_ips([kubernetes], DUAL).services
    assert addresses(made) == ["10.96.0.1"]
    made, _ = assign_cluster_ips([kubernetes, service(cluster_ip="10.96.0.1")], V4).services
    assert addresses(made)[0] not in {"10.96.0.0", "10.96.0.1"}


def test_without_a_range_a_service_without_address_is_an_error_and_others_are_not() -> None:
    assigned = assign_cluster_ips([service(), service("old", cluster_ip="10.0.0.9")], {})
    assert str(assigned.errors["shop", "web"]).endswith("no service CIDR to assign one from")
    assert len(assigned.errors) == 1


def test_an_exhausted_range_is_an_error_of_the_services_that_come_too_late() -> None:
    assigned = assign_cluster_ips([service(f"s{i}") for i in range(7)], TINY)
    given = {a for made in assigned.services for a in addresses(made)}
    assert given == {f"10.0.0.{i}" for i in range(2, 7)}
    assert set(assigned.errors) == {("shop", "s5"), ("shop", "s6")}
    assert "10.0.0.0/29 is exhausted" in str(assigned.errors["shop", "s5"])


def test_a_service_that_fails_in_one_family_uses_up_nothing_of_the_other() -> None:
    cidrs = parse_service_cidrs("10.0.0.0/30,fd00::/127")
    dual = service("a", ip_family_policy="RequireDualStack")
    assigned = assign_cluster_ips([dual, service("b")], cidrs)
    assert list(assigned.errors) == [("shop", "a")]
    assert addresses(assigned.services[1]) == ["10.0.0.2"]


@pytest.mark.parametrize("text", ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32", "fd00::/128"])
def test_a_range_may_be_too_small_for_anything(text: str) -> None:
    assigned = assign_cluster_ips([service("a"), service("b")], parse_service_cidrs(text))
    assert ("shop", "b") in assigned.errors


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("10.96.0.0/33", "expected one like 10.96.0.0/16"),
        ("10.96.0.1/16", "has host bits set"),
        ("nonsense", "expected one like"),
        ("10.0.0.0/8,10.96.0.0/16", "expected at most one of IPv4"),
    ],
)
def test_a_range_that_is_none_is_refused(text: str, what: str) -> None:
    with pytest.raises(CIDRError, match=what):
        parse_service_cidrs(text)


def test_no_range_is_a_choice() -> None:
    assert not parse_service_cidrs(" ")


names = st.from_regex(r"[a-z]{1,2}", fullmatch=True)
tiny_addresses = st.integers(0, 7).map(lambda i: f"10.0.0.{i}")
specs = st.one_of(
    st.builds(ServiceSpec),
    st.builds(ServiceSpec, cluster_ip=tiny_addresses),
    st.builds(ServiceSpec, ip_family_policy=st.just("PreferDualStack")),
    st.builds(ServiceSpec, ip_families=st.permutations(["IPv4", "IPv6"])),
    st.just(ServiceSpec(cluster_ip="None")),
)
services = st.lists(
    st.builds(Service, st.builds(Meta, name=names, namespace=names), specs),
    max_size=12,
    unique_by=lambda s: (s.metadata.namespace, s.metadata.name),
)
CRAMPED = parse_service_cidrs("10.0.0.0/29,fd00::/125")


@given(services, st.randoms(use_true_random=False))
def test_the_order_of_services_does_not_matter(wanted: list[Service], rng: Any) -> None:
    shuffled = wanted.copy()
    rng.shuffle(shuffled)
    one, other = assign_cluster_ips(wanted, CRAMPED), assign_cluster_ips(shuffled, CRAMPED)

    def by_name(made: Service) -> tuple[str, str]:
        return made.metadata.namespace, made.metadata.name

    assert sorted(one.services, key=by_name) == sorted(other.services, key=by_name)
    assert one.errors.keys() == other.errors.keys()


@given(services)
def test_no_address_is_given_twice_nor_one_that_is_stated_or_reserved(
    wanted: list[Service],
) -> None:
    assigned = assign_cluster_ips(wanted, CRAMPED)
    stated = {s.spec.cluster_ip for s in wanted}
    given = [
        a
        for before, after in zip(wanted, assigned.services, strict=True)
        if after is not before
        for a in addresses(after)
    ]
    assert len(given) == len(set(given))
    assert stated.isdisjoint(given)
    assert {"10.0.0.0", "10.0.0.1", "10.0.0.7", "fd00::", "fd00::1", "fd00::7"}.isdisjoint(given)


@given(services)
def test_assigned_services_are_left_alone_by_another_round(wanted: list[Service]) -> None:
    once = assign_cluster_ips(wanted, CRAMPED).services
    assert assign_cluster_ips(once, CRAMPED).services == once
