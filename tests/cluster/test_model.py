"""From the API's objects to what DNS keeps of them, and what is refused."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.model import Kind
from kdns.wire import name
from tests.cluster.builders import Tree, endpoint, external, made, pod, service, slice_

LONG = "x" * 63


def as_service(tree: Tree) -> model.Service:
    _, obj = made(tree)
    assert isinstance(obj, objects.Service)
    return model.from_service(obj)


def as_slice(tree: Tree) -> model.Slice:
    _, obj = made(tree)
    assert isinstance(obj, objects.EndpointSlice)
    return model.from_slice(obj)


def as_pod(tree: Tree) -> model.Pod:
    _, obj = made(tree)
    assert isinstance(obj, objects.Pod)
    return model.from_pod(obj)


# Labels


def test_a_label_is_a_length_and_lower_case_octets() -> None:
    assert model.label("Web", "hostname") == b"\x03web"


@pytest.mark.parametrize("text", ["", "x" * 64, "ü" * 32, "a.b", "\ud800"])
def test_what_fits_no_label_is_refused_and_named(text: str) -> None:
    with pytest.raises(ObjectError, match=r"hostname: .* is no DNS label"):
        model.label(text, "hostname")


def test_the_name_of_an_object_is_lower_case() -> None:
    """Were it folded, two objects could claim one name, and the last to come would win."""
    with pytest.raises(ObjectError, match="'Web': expected lower case"):
        model.service_key("shop", "Web")
    with pytest.raises(ObjectError, match="'Shop': expected lower case"):
        model.service_key("Shop", "web")


# Addresses


@given(st.ip_addresses())
def test_every_address_is_read_as_the_standard_library_reads_it(address: Any) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert model.address(str(address), "address") == (mapped or address).packed


@given(st.text("0123456789abcdef.:%/ -_+", max_size=20) | st.text(max_size=8))
def test_text_is_an_address_exactly_when_the_standard_library_says_so(text: str) -> None:
    try:
        parsed = ip_address(text)
    except ValueError:
        with pytest.raises(ObjectError, match="is no IP address"):
            model.address(text, "address")
        return
    if "%" not in text:
        assert ip_address(model.address(text, "address")) in (
            parsed,
            getattr(parsed, "ipv4_mapped", None),
        )


def test_an_address_mapped_into_ipv6_is_the_ipv4_address() -> None:
    assert model.address("::ffff:10.0.0.1", "address") == bytes((10, 0, 0, 1))


def test_an_address_with_a_zone_means_nothing_elsewhere() -> None:
    with pytest.raises(ObjectError, match="has a zone"):
        model.address("fe80::1%eth0", "address")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("172.0.0.2", b"172-0-0-2"),
        ("5678:abcd::1", b"5678-abcd--1"),
        ("fd00:1::", b"fd00-1--0"),
        ("::", b"--0"),
    ],
)
def test_an_address_is_a_label_with_dashes(text: str, label: bytes) -> None:
    """A label does not end in a dash (RFC 1123, section 2.1)."""
    assert model.dashed(ip_address(text).packed) == bytes((len(label),)) + label


# Services


@pytest.mark.parametrize("type_", ["ClusterIP", "NodePort", "LoadBalancer", None])
def test_a_service_with_addresses_answers_with_them(type_: str | None) -> None:
    read = as_service(service("web.shop", "10.0.0.1", "fd00::1", type=type_))
    assert read.kind is Kind.CLUSTER_IP
    assert read.key == b"\x03web\x04shop"
    assert read.addresses == (ip_address("10.0.0.1").packed, ip_address("fd00::1").packed)
    assert read.ports == (model.Port(b"\x04http", b"\x03tcp", 80),)


def test_services_older_than_dual_stack_have_one_address() -> None:
    tree = service("web.shop", "10.0.0.1")
    del tree["spec"]["clusterIPs"]
    assert as_service(tree).addresses == (bytes((10, 0, 0, 1)),)


def test_an_address_named_twice_is_one_address() -> None:
    read = as_service(service("web.shop", "10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1"))
    assert read.addresses == (bytes((10, 0, 0, 1)),)


def test_a_service_without_an_address_has_none() -> None:
    assert as_service(service("web.shop")).addresses == ()
    assert as_service(service("web.shop", "")).addresses == ()


def test_a_headless_service_has_no_address_of_its_own() -> None:
    read = as_service(service("web.shop", "None"))
    assert (read.kind, read.addresses) == (Kind.HEADLESS, ())


@pytest.mark.parametrize("target", ["Ext.Example.test", "ext.example.test."])
def test_an_external_name_is_absolute_and_lower_case(target: str) -> None:
    read = as_service(external("ext.shop", target))
    assert (read.kind, read.target) == (
        Kind.EXTERNAL_NAME,
        name.from_text("ext.example.test."),
    )


@pytest.mark.parametrize("target", ["1.2.3.4", "fd00::1", "1.2.3.4."])
def test_an_address_can_be_no_alias(target: str) -> None:
    assert as_service(external("ext.shop", target)).target is None


@pytest.mark.parametrize("target", ["", ".", "foo..", "a..b", f"{'x' * 64}.test", f"{LONG}." * 4])
def test_an_external_name_that_cannot_be_a_name_is_refused(target: str) -> None:
    """The API bounds the whole name at 253 octets, but not its labels at 63."""
    with pytest.raises(ObjectError, match=r"Service shop/ext: spec\.externalName"):
        as_service(external("ext.shop", target))


def test_a_service_whose_address_is_none_is_refused() -> None:
    with pytest.raises(ObjectError, match=r"Service shop/web: spec\.clusterIPs: '10\.0\.0\.300'"):
        as_service(service("web.shop", "10.0.0.300"))


# Ports


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_port_of_a_service_is_a_port_number(number: int) -> None:
    with pytest.raises(ObjectError, match=f"port {number}; expected 0 to 65535"):
        as_service(service("web.shop", "10.0.0.1", ports=[{"port": number}]))


def test_a_port_without_protocol_is_tcp() -> None:
    (port,) = as_service(service("web.shop", "10.0.0.1", ports=[{"name": "x", "port": 1}])).ports
    assert port.labels == (b"\x02_x", b"\x04_tcp")


def test_a_protocol_is_a_label_in_lower_case() -> None:
    ports = [{"name": "Diameter", "port": 3868, "protocol": "SCTP"}]
    (port,) = as_service(service("web.shop", "10.0.0.1", ports=ports)).ports
    assert port.labels == (b"\x09_diameter", b"\x05_sctp")


@pytest.mark.parametrize("port", [{"port": 1}, {"name": "", "port": 1}, {"name": LONG, "port": 1}])
def test_a_port_that_fits_no_srv_name_is_kept_without_one(port: Tree) -> None:
    """The API allows a name of 63 octets, and RFC 2782 puts an underscore before it."""
    (read,) = as_service(service("web.shop", "10.0.0.1", ports=[port])).ports
    assert (read.labels, read.number) == (None, 1)


def test_a_protocol_that_fits_no_srv_name_has_none() -> None:
    ports = [{"name": "x", "port": 1, "protocol": LONG}]
    (read,) = as_service(service("web.shop", "10.0.0.1", ports=ports)).ports
    assert read.labels is None


@pytest.mark.parametrize("number", [None, -1, 65536])
def test_a_slice_s_port_without_a_number_of_16_bits_is_left_out(number: int | None) -> None:
    """The API takes any number here; null is "all ports"."""
    assert as_slice(slice_("s.shop", "web", "10.1.0.1", ports=[{"port": number}])).ports == ()


def test_a_slice_s_port_zero_is_a_port() -> None:
    read = as_slice(slice_("s.shop", "web", "10.1.0.1", ports=[{"name": "x", "port": 0}]))
    assert [port.number for port in read.ports] == [0]


# Slices


def test_what_two_slices_have_alike_is_there_once() -> None:
    one, other = (as_slice(slice_(f"{n}.shop", "web", "10.1.0.1")) for n in ("a", "b"))
    assert one.ports is other.ports


def test_a_slice_belongs_to_the_service_that_its_label_names() -> None:
    assert as_slice(slice_("s.shop", "web")).service == b"\x03web\x04shop"


@pytest.mark.parametrize("owner", ["", "Web", "a.b", "x" * 64])
def test_a_slice_whose_label_can_name_no_service_belongs_to_none(owner: str) -> None:
    """The value of a label may be more than a service's name can be."""
    assert as_slice(slice_("s.shop", owner, "10.1.0.1")).service == b""


def test_a_slice_without_labels_belongs_to_no_service() -> None:
    tree = slice_("s.shop", "web")
    tree["metadata"]["labels"] = None
    assert as_slice(tree).service == b""


def test_a_slice_of_a_namespace_that_cannot_be_is_refused() -> None:
    with pytest.raises(ObjectError, match="namespace: 'Shop': expected lower case"):
        as_slice(slice_("s.Shop", ""))


def test_a_slice_may_have_neither_endpoints_nor_ports() -> None:
    read = as_slice(slice_("s.shop", "web") | {"endpoints": None, "ports": None})
    assert (read.endpoints, read.ports) == ((), ())


def test_endpoints_that_are_not_ready_are_left_out_and_unknown_counts_as_ready() -> None:
    """`serving` and `terminating` do not count."""
    terminating = {"ready": False, "serving": True, "terminating": True}
    read = as_slice(
        slice_(
            "s.shop",
            "web",
            endpoint("10.1.0.1"),
            endpoint("10.1.0.2", conditions=terminating),
            endpoint("10.1.0.3", ready=None),
            endpoint("not an address", ready=False),
        )
    )
    assert [e.address[3] for e in read.endpoints] == [1, 3]


def test_null_for_addresses_or_conditions_is_as_good_as_none() -> None:
    nulls = {"addresses": None, "conditions": None, "hostname": None, "targetRef": None}
    unknown = {"addresses": ["10.1.0.1"], "conditions": None}
    read = as_slice(slice_("s.shop", "web", nulls, unknown))
    assert [e.address[3] for e in read.endpoints] == [1]


def test_each_address_of_an_endpoint_counts() -> None:
    read = as_slice(slice_("s.shop", "web", endpoint("10.1.0.1", "10.1.0.2", hostname="db")))
    assert [(e.address[3], e.hostname) for e in read.endpoints] == [(1, b"\x02db"), (2, b"\x02db")]


@pytest.mark.parametrize(
    ("pod_name", "label"),
    [("web-0", b"\x05web-0"), ("", b""), ("x" * 64, b""), ("kube-proxy-ip-10.ec2.internal", b"")],
)
def test_a_pod_s_name_names_its_endpoint_where_it_is_a_label(pod_name: str, label: bytes) -> None:
    """A pod's name may have dots and 253 octets."""
    (read,) = as_slice(slice_("s.shop", "web", endpoint("10.1.0.1", pod=pod_name))).endpoints
    assert read.pod == label


def test_a_name_that_no_pod_can_have_leaves_the_others_where_they_are() -> None:
    names = ("web-0", "a/b", "web-2")
    listed = [endpoint(f"10.1.0.{n}", pod=text) for n, text in enumerate(names)]
    read = as_slice(slice_("s.shop", "web", *listed))
    assert [e.pod for e in read.endpoints] == [b"\x05web-0", b"", b"\x05web-2"]


def test_names_of_pods_are_read_only_where_they_are_wanted() -> None:
    _, obj = made(slice_("s.shop", "web", endpoint("10.1.0.1", pod="web-0", hostname="h")))
    for wanted, label in ((True, b"\x05web-0"), (False, b"")):
        read = model.from_object(obj, pod_names=wanted)
        assert isinstance(read, model.Slice)
        assert read.endpoints == (model.Endpoint(bytes((10, 1, 0, 1)), b"\x01h", label, b""),)


@pytest.mark.parametrize(
    "texts",
    [
        ("10.1.0", "1.10.1.0.2"),
        ("10.1.0.1.10", "1.0.2"),
        ("10.1.0.1./.10.1.0.2",),
        ("10.1.0.1.", "10.1.0.2"),
        ("10.1.0.1", ""),
        ("10.1.0.1", "10.1.0./"),
        ("10.1.0.1", "10.1.0.256"),
    ],
)
def test_addresses_of_a_slice_are_whole_each_by_itself(texts: tuple[str, ...]) -> None:
    with pytest.raises(ObjectError, match="is no IP address"):
        as_slice(slice_("s.shop", "web", *texts))


@given(st.lists(st.ip_addresses(), max_size=4), st.lists(st.ip_addresses(), max_size=4))
def test_what_moved_between_two_slices_is_what_one_of_them_alone_has(
    before: list[Any], after: list[Any]
) -> None:
    old, new = (as_slice(slice_("s.shop", "web", *map(str, each))) for each in (before, after))
    olds, news = set(old.addresses), set(new.addresses)
    assert old.moved(new) == (olds - news, news - olds)


def test_addresses_of_both_families_in_one_slice_stay_what_they_are() -> None:
    """The API allows one family in a slice; whoever writes both means both."""
    read = as_slice(slice_("s.shop", "web", "10.1.0.1", "fd00::1", "::ffff:10.1.0.2"))
    packed = [ip_address(text).packed for text in ("10.1.0.1", "fd00::1", "10.1.0.2")]
    assert list(read.addresses) == packed
    mapped = as_slice(slice_("s.shop", "web", "::ffff:10.1.0.2"))
    assert (mapped.addresses, mapped.width) == ((packed[2],), 4)


@pytest.mark.parametrize("hostname", ["a.b", "x" * 64])
def test_a_hostname_that_is_no_label_is_refused(hostname: str) -> None:
    with pytest.raises(ObjectError, match="EndpointSlice shop/s: hostname"):
        as_slice(slice_("s.shop", "web", endpoint("10.1.0.1", hostname=hostname)))


def test_a_slice_whose_address_is_none_is_refused() -> None:
    with pytest.raises(ObjectError, match="EndpointSlice shop/s: address: 'fe80::1%1' has a zone"):
        as_slice(slice_("s.shop", "web", "fe80::1%1"))


def test_a_slice_of_type_fqdn_holds_names() -> None:
    tree = slice_("s.shop", "web", endpoint("Ext.Example.test."), addressType="FQDN")
    (read,) = as_slice(tree).endpoints
    assert (read.address, read.target) == (b"", name.from_text("ext.example.test."))


@pytest.mark.parametrize("target", ["", ".", "a..b", "x" * 64])
def test_a_slice_of_type_fqdn_with_anything_else_is_refused(target: str) -> None:
    with pytest.raises(ObjectError, match=r"EndpointSlice shop/s: .*address of type FQDN"):
        as_slice(slice_("s.shop", "web", target, addressType="FQDN"))


TRIGGERED = 1_700_000_000.0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2023-11-14T22:13:20Z", TRIGGERED),
        ("2023-11-14T22:13:20.25Z", TRIGGERED + 0.25),
        ("2023-11-14T22:13:20.123456789Z", TRIGGERED + 0.123456),
        ("2023-11-14T23:13:20+01:00", TRIGGERED),
        ("", None),
        ("yesterday", None),
    ],
)
def test_times_are_written_as_in_rfc_3339(written: str, seconds: float | None) -> None:
    tree = slice_("s.shop", "web")
    tree["metadata"]["annotations"] = {model.TRIGGER_TIME: written}
    assert model.trigger_time(made(tree)[1]) == seconds


def test_only_a_slice_has_a_trigger() -> None:
    tree = service("web.shop", "10.0.0.1")
    tree["metadata"]["annotations"] = {model.TRIGGER_TIME: "2023-11-14T22:13:20Z"}
    assert model.trigger_time(made(tree)[1]) is None


# Pods


def test_a_pod_has_all_of_its_addresses_each_once() -> None:
    read = as_pod(pod("web-0.shop", "10.1.0.1", "fd00::1", "::ffff:10.1.0.1"))
    assert read == model.Pod(b"\x04shop", (bytes((10, 1, 0, 1)), ip_address("fd00::1").packed))


def test_pods_older_than_dual_stack_have_one_address() -> None:
    tree = pod("web-0.shop") | {"status": {"podIP": "10.1.0.1"}}
    assert as_pod(tree).addresses == (bytes((10, 1, 0, 1)),)


@pytest.mark.parametrize("status", [{}, {"podIPs": None}, {"podIPs": [{}]}])
def test_a_pod_may_have_no_address_yet(status: Tree) -> None:
    assert as_pod(pod("web-0.shop") | {"status": status}).addresses == ()


def test_a_pod_whose_address_is_none_is_refused() -> None:
    with pytest.raises(ObjectError, match="Pod shop/web-0: podIPs: 'x' is no IP address"):
        as_pod(pod("web-0.shop", "x"))
