"""The Kubernetes DNS specification 1.1.0, section by section, and what no section says.

The numbers of sections are those of "Kubernetes DNS-Based Service Discovery".
"""

from typing import Any

import pytest

from kdns.cluster import model
from kdns.cluster.zone import ForwardZone
from kdns.wire import iana, name
from tests.cluster.builders import (
    Tree,
    ask,
    cluster_of,
    endpoint,
    expected,
    external,
    forward,
    namespace,
    rdatas,
    reverse,
    service,
    slice_,
    ttl,
)

HTTPS_AND_DNS = (
    {"name": "https", "port": 443},
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"port": 9},
)
PAIR = (
    service("db.shop", "None", ports=HTTPS_AND_DNS),
    slice_(
        "db-1.shop",
        "db",
        endpoint("10.1.0.1", hostname="db-0"),
        endpoint("10.1.0.2"),
        ports=HTTPS_AND_DNS,
    ),
    slice_("db-2.shop", "db", endpoint("fd00:1::1", hostname="db-0"), addressType="IPv6"),
)


def zone(*trees: Tree, **options: Any) -> ForwardZone:
    return forward(cluster_of(namespace("shop"), *trees), **options)


# 2.2: the version of the schema


def test_2_2_the_schema_s_version_is_text_at_dns_version() -> None:
    assert ask(zone(), "dns-version.Z", "TXT") == expected('TXT "1.1.0"')
    assert ttl(zone(), "dns-version.Z", "TXT") == 28800


# 2.3: services with a cluster IP


@pytest.mark.parametrize(
    ("ips", "a", "aaaa"),
    [
        (["10.0.0.1"], "A 10.0.0.1", "ND"),
        (["fd00::1"], "ND", "AAAA fd00::1"),
        (["10.0.0.1", "fd00::1"], "A 10.0.0.1", "AAAA fd00::1"),
    ],
)
def test_2_3_1_a_service_has_its_cluster_ips(ips: list[str], a: str, aaaa: str) -> None:
    held = zone(service("web.shop", *ips))
    assert ask(held, "web.shop.S", "A") == a
    assert ask(held, "web.shop.S", "AAAA") == aaaa


def test_2_3_2_each_named_port_has_a_srv_record_to_the_service() -> None:
    held = zone(service("web.shop", "10.0.0.1", "fd00::1", ports=HTTPS_AND_DNS))
    addresses = "web.shop.S A 10.0.0.1; web.shop.S AAAA fd00::1"
    for asked, port in (("_https._tcp", 443), ("_dns._udp", 53)):
        wanted = expected(f"SRV 0 100 {port} web.shop.S | {addresses}")
        assert ask(held, f"{asked}.web.shop.S", "SRV") == wanted


@pytest.mark.parametrize("asked", ["_._tcp", "_https._udp", "https.tcp", "_https", "_._"])
def test_2_3_2_no_other_port_s_name_exists(asked: str) -> None:
    held = zone(service("web.shop", "10.0.0.1", ports=HTTPS_AND_DNS))
    assert ask(held, f"{asked}.web.shop.S", "SRV") == "NX"


def test_2_3_3_each_cluster_ip_points_back() -> None:
    held = cluster_of(service("web.shop", "10.0.0.1", "fd00::1"))
    assert ask(reverse(held), "1.0.0.10.in-addr.arpa.", "PTR") == expected("PTR web.shop.S")
    nibbles = "1." + "0." * 27 + "0.0.d.f.ip6.arpa."
    assert ask(reverse(held, "ip6.arpa."), nibbles, "PTR") == expected("PTR web.shop.S")


def test_a_service_without_an_address_does_not_exist() -> None:
    """It has no record and nothing below it; what it is given later makes it exist."""
    held = zone(service("web.shop"))
    assert ask(held, "web.shop.S") == "NX"
    assert ask(held, "_http._tcp.web.shop.S", "SRV") == "NX"
    assert ask(held, "_tcp.web.shop.S", "SRV") == "NX"


def test_a_service_without_an_address_exists_above_its_endpoints() -> None:
    held = zone(service("web.shop"), slice_("s.shop", "web", "10.1.0.1"))
    assert ask(held, "web.shop.S") == "ND"
    assert ask(held, "10-1-0-1.web.shop.S") == "A 10.1.0.1"


# 2.4: headless services


def test_2_4_1_a_headless_service_has_the_addresses_of_its_ready_endpoints() -> None:
    held = zone(*PAIR)
    assert ask(held, "db.shop.S", "A") == "A 10.1.0.1; A 10.1.0.2"
    assert ask(held, "db.shop.S", "AAAA") == "AAAA fd00:1::1"


@pytest.mark.parametrize("ready", [(), (endpoint("10.1.0.1", ready=False),)])
@pytest.mark.parametrize("qtype", ["A", "SRV", "TXT"])
def test_2_4_1_a_headless_service_without_ready_endpoints_does_not_exist(
    ready: tuple[Tree, ...], qtype: str
) -> None:
    held = zone(service("db.shop", "None"), slice_("s.shop", "db", *ready))
    assert ask(held, "db.shop.S", qtype) == "NX"
    assert ask(held, "_http._tcp.db.shop.S", qtype) == "NX"
    assert ask(held, "_tcp.db.shop.S", qtype) == "NX"


def test_2_4_1_endpoints_have_their_hostname_or_a_label_of_ours() -> None:
    """Several addresses may have one hostname."""
    held = zone(*PAIR)
    assert ask(held, "db-0.db.shop.S", "A") == "A 10.1.0.1"
    assert ask(held, "db-0.db.shop.S", "AAAA") == "AAAA fd00:1::1"
    assert ask(held, "10-1-0-2.db.shop.S") == "A 10.1.0.2"
    assert ask(held, "10-1-0-1.db.shop.S") == "NX"
    assert ask(held, "x.db-0.db.shop.S") == "NX"


def test_2_4_2_each_named_port_of_each_endpoint_has_a_srv_record() -> None:
    held = zone(*PAIR)
    additional = "db-0.db.shop.S A 10.1.0.1; db-0.db.shop.S AAAA fd00:1::1"
    targets = "SRV 0 50 443 db-0.db.shop.S; SRV 0 50 443 10-1-0-2.db.shop.S"
    wanted = expected(f"{targets} | {additional}; 10-1-0-2.db.shop.S A 10.1.0.2")
    assert ask(held, "_https._tcp.db.shop.S", "SRV") == wanted
    wanted = expected(f"SRV 0 100 80 db-0.db.shop.S | {additional}")
    assert ask(held, "_http._tcp.db.shop.S", "SRV") == wanted
    assert ask(held, "_._tcp.db.shop.S", "SRV") == "NX"


def test_2_4_3_each_ready_endpoint_points_back() -> None:
    held = reverse(cluster_of(*PAIR))
    assert ask(held, "1.0.1.10.in-addr.arpa.", "PTR") == expected("PTR db-0.db.shop.S")
    assert ask(held, "2.0.1.10.in-addr.arpa.", "PTR") == expected("PTR 10-1-0-2.db.shop.S")


# 2.5: external names


def test_2_5_an_external_name_is_an_alias_for_every_type() -> None:
    held = zone(external("ext.shop", "www.example.test"))
    for qtype in ("A", "AAAA", "CNAME", "SRV", "TXT"):
        assert ask(held, "ext.shop.S", qtype) == "CNAME www.example.test."
    for below in ("x", "_http._tcp", "_tcp"):
        assert ask(held, f"{below}.ext.shop.S", "CNAME") == "NX"


def test_an_external_name_that_is_an_address_does_not_exist() -> None:
    assert ask(zone(external("ext.shop", "1.2.3.4")), "ext.shop.S") == "NX"


def test_the_slices_of_an_external_name_own_no_names() -> None:
    held = zone(external("ext.shop", "www.example.test"), slice_("s.shop", "ext", "10.1.0.1"))
    assert ask(held, "10-1-0-1.ext.shop.S") == "NX"


# Beyond the specification


def test_the_bare_name_has_srv_for_every_port_as_in_coredns() -> None:
    held = zone(service("web.shop", "10.0.0.1", ports=HTTPS_AND_DNS))
    records = "; ".join(f"SRV 0 100 {port} web.shop.S" for port in (443, 53, 9))
    wanted = expected(f"{records} | web.shop.S A 10.0.0.1")
    assert ask(held, "web.shop.S", "SRV") == wanted


def test_an_endpoint_s_name_has_srv_for_its_ports() -> None:
    wanted = expected(
        "SRV 0 100 443 10-1-0-2.db.shop.S; SRV 0 100 53 10-1-0-2.db.shop.S; "
        "SRV 0 100 9 10-1-0-2.db.shop.S | 10-1-0-2.db.shop.S A 10.1.0.2"
    )
    assert ask(zone(*PAIR), "10-1-0-2.db.shop.S", "SRV") == wanted


def test_an_address_in_two_slices_is_there_once_with_the_ports_of_both() -> None:
    held = zone(
        service("db.shop", "None"),
        slice_("a.shop", "db", "10.1.0.1"),
        slice_("b.shop", "db", "10.1.0.1", ports=HTTPS_AND_DNS),
    )
    assert ask(held, "db.shop.S") == "A 10.1.0.1"
    ports = [int.from_bytes(data[4:6]) for data in rdatas(held, "10-1-0-1.db.shop.S")]
    assert sorted(ports) == [9, 53, 80, 443]
    assert len(rdatas(held, "_http._tcp.db.shop.S")) == 1


def test_endpoints_of_a_service_with_a_cluster_ip_have_names_too() -> None:
    held = zone(service("web.shop", "10.0.0.1"), slice_("s.shop", "web", "10.1.0.1"))
    assert ask(held, "10-1-0-1.web.shop.S") == "A 10.1.0.1"


def test_protocols_exist_above_their_ports() -> None:
    """RFC 8020: what stands below a name makes it exist."""
    held = zone(service("web.shop", "10.0.0.1", ports=HTTPS_AND_DNS), *PAIR)
    for place in ("web.shop.S", "db.shop.S"):
        assert [ask(held, f"{p}.{place}", "SRV") for p in ("_tcp", "_udp")] == ["ND", "ND"]
        assert ask(held, f"_sctp.{place}", "SRV") == "NX"


def test_a_label_that_only_ends_like_a_port_is_no_protocol() -> None:
    """Bytes may match across labels; only whole labels count."""
    held = zone(service("web.shop", "10.0.0.1", ports=({"name": "a-" + "b" * 40, "port": 1},)))
    label = b"-" + b"b" * 40 + b"\x04_tcp"
    assert label[0] == len(label) - 1
    assert held.node(label + name.from_text("web.shop.svc.cluster.local.")) is None


def test_endpoint_pod_names_come_after_hostnames_and_before_addresses() -> None:
    trees = (
        service("db.shop", "None"),
        slice_(
            "s.shop",
            "db",
            endpoint("10.1.0.1", pod="db-a"),
            endpoint("10.1.0.2", pod="db-b", hostname="host"),
            endpoint("10.1.0.3", pod="x" * 64),
            endpoint("10.1.0.4", pod="kube-proxy.node-1"),
        ),
    )
    named = zone(*trees, endpoint_pod_names=True)
    assert ask(named, "db-a.db.shop.S") == "A 10.1.0.1"
    assert ask(named, "host.db.shop.S") == "A 10.1.0.2"
    assert ask(named, "10-1-0-3.db.shop.S") == "A 10.1.0.3"
    assert ask(named, "10-1-0-4.db.shop.S") == "A 10.1.0.4"
    assert [ask(named, f"{n}.db.shop.S") for n in ("10-1-0-1", "db-b")] == ["NX", "NX"]
    assert ask(zone(*trees), "10-1-0-1.db.shop.S") == "A 10.1.0.1"


def test_ignore_empty_service_hides_cluster_ips_without_endpoints() -> None:
    trees = (
        service("web.shop", "10.0.0.1"),
        service("full.shop", "10.0.0.2"),
        slice_("f.shop", "full", "10.1.0.1"),
        external("ext.shop", "www.example.test"),
    )
    held = zone(*trees, ignore_empty_service=True)
    assert ask(held, "web.shop.S") == "NX"
    assert ask(held, "_http._tcp.web.shop.S", "SRV") == "NX"
    assert ask(held, "full.shop.S") == "A 10.0.0.2"
    assert ask(held, "ext.shop.S") == "CNAME www.example.test."
    assert ask(zone(*trees), "web.shop.S") == "A 10.0.0.1"


def test_slices_of_type_fqdn_make_aliases() -> None:
    fqdn = slice_(
        "s.shop",
        "db",
        endpoint("b.example.test"),
        endpoint("a.example.test", "c.example.test", hostname="ext"),
        endpoint("x." * 40 + "test"),
        addressType="FQDN",
    )
    held = zone(service("db.shop", "None"), fqdn)
    assert ask(held, "b-example-test.db.shop.S") == "CNAME b.example.test."
    assert ask(held, "ext.db.shop.S") == "CNAME a.example.test."
    assert ask(held, "x-" * 31 + "x.db.shop.S") == "CNAME " + "x." * 40 + "test."
    # One alias can stand at a name (RFC 1034, section 3.6.2): here that of the shortest label.
    assert ask(held, "db.shop.S") == "CNAME a.example.test."
    assert ask(held, "_http._tcp.db.shop.S", "SRV") == "NX"


def test_addresses_come_before_names_of_type_fqdn() -> None:
    fqdn = slice_("a.shop", "db", endpoint("b.example.test", hostname="x"), addressType="FQDN")
    held = zone(
        service("db.shop", "None"),
        fqdn,
        slice_("b.shop", "db", endpoint("10.1.0.1", hostname="x")),
    )
    assert ask(held, "db.shop.S") == "A 10.1.0.1"
    assert ask(held, "x.db.shop.S") == "A 10.1.0.1"


def test_a_name_below_a_port_does_not_exist() -> None:
    held = zone(service("web.shop", "10.0.0.1"))
    assert ask(held, "x._http._tcp.web.shop.S", "SRV") == "NX"


def test_weights_are_equal_and_never_zero() -> None:
    """RFC 2782: a weight of zero means to be chosen hardly ever."""
    many = [f"10.1.{n >> 8}.{n & 255}" for n in range(300)]
    held = zone(service("db.shop", "None"), slice_("s.shop", "db", *many))
    assert {int.from_bytes(data[2:4]) for data in rdatas(held, "db.shop.S")} == {1}
    assert len(rdatas(held, "db.shop.S", iana.A)) == 300


def test_names_of_ports_that_are_not_there_walk_along_no_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anybody can ask for any number of them."""
    looked_at: list[model.Port] = []
    plain = vars(model.Port)["labels"].fget

    def labels(port: model.Port) -> Any:
        looked_at.append(port)
        return plain(port)

    monkeypatch.setattr(model.Port, "labels", property(labels))
    listed = [f"10.1.0.{n}" for n in range(200)]
    trees = service("web.shop", "None"), slice_("s.shop", "web", *listed, ports=HTTPS_AND_DNS)
    asked = zone(*trees)
    for number in range(10):
        assert ask(asked, f"_p{number}._tcp.web.shop.S", "SRV") == "NX"
        assert ask(asked, f"_p{number}.web.shop.S", "SRV") == "NX"
    assert len(looked_at) <= 2 * len(HTTPS_AND_DNS)
    assert len(rdatas(asked, "_https._tcp.web.shop.S")) == 200
