"""What CoreDNS answers, as data: objects, options, question, answer.

Rows whose titles begin with one number are one case. Those on the objects T are what CoreDNS's own
tests assert, those on V what was seen of a running one. Where CoreDNS contradicts a standard the
title says so, and the answer is the standard's. What a case asks of the plugin or of the server
(following aliases, falling through, transfers) is tested there.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kdns.cluster.zone import PodsMode
from tests.cluster.builders import NOW, Tree, endpoint, external, namespace, pod, service, slice_

INSECURE, VERIFIED = PodsMode.INSECURE, PodsMode.VERIFIED

# The objects behind the rows marked T in the reference.
T: tuple[Tree, ...] = (
    namespace("testns"),
    namespace("podns"),
    namespace("svcns"),
    service("svc1.testns", "10.0.0.1"),
    slice_("svc1.testns", "svc1", "172.0.0.1"),
    service("svcempty.testns", "10.0.0.1"),
    service("svc6.testns", "1234:abcd::1"),
    service("svc-dual-stack.testns", "10.0.0.3", "10::3"),
    service("hdls1.testns", "None"),
    slice_(
        "hdls1-v4.testns",
        "hdls1",
        "172.0.0.2",
        "172.0.0.3",
        endpoint("172.0.0.4", hostname="dup-name"),
        endpoint("172.0.0.5", hostname="dup-name"),
    ),
    slice_("hdls1-v6.testns", "hdls1", "5678:abcd::1", "5678:abcd::2", addressType="IPv6"),
    service("hdlsprtls.testns", "None", ports=()),
    slice_("hdlsprtls.testns", "hdlsprtls", "172.0.0.20", ports=()),
    external("external.testns", "ext.interwebs.test"),
    external("external-to-service.testns", "svc1.testns.svc.cluster.local."),
    pod("foo.podns", "10.240.0.1"),
)

# The objects behind the rows about reverse names.
R: tuple[Tree, ...] = (
    service("svc1.testns", "192.168.1.100"),
    slice_("a.testns", "svc1", endpoint("10.0.0.100", hostname="ep1a")),
    slice_("b.testns", "svc1", endpoint("10.0.0.100", hostname="ep1a")),
    slice_("c.testns", "svc1", endpoint("1234:abcd::1", hostname="ep1b"), addressType="IPv6"),
    slice_("d.testns", "svc1", endpoint("10.0.0.99", hostname="double-ep")),
    slice_("e.testns", "svc2", endpoint("10.0.0.99", hostname="double-ep")),
    service("hidden.secret", "10.96.0.120"),
    slice_("hidden.secret", "hidden", "172.17.0.252"),
)

MULTI = (
    {"name": "http", "port": 80},
    {"name": "https", "port": 443},
    {"name": "dns", "port": 53, "protocol": "UDP"},
)

# The objects behind the rows marked V, and those that tests of the CoreDNS project itself make.
V: tuple[Tree, ...] = (
    namespace("ns1"),
    namespace("empty"),
    service("cip.ns1", "10.0.0.1"),
    slice_("cip.ns1", "cip", endpoint("10.1.0.1", pod="cip-pod-0")),
    service("multi.ns1", "10.0.0.2", ports=MULTI),
    service("unnamed.ns1", "10.0.0.3", ports=({"port": 80},)),
    service("noport.ns1", "10.0.0.4", ports=()),
    service("dual.ns1", "10.0.0.5", "fd00::5"),
    service("hl.ns1", "None"),
    slice_(
        "hl-a.ns1",
        "hl",
        endpoint("10.1.0.10", hostname="web-0"),
        "10.1.0.11",
        endpoint("10.1.0.12", hostname="web-2", ready=False),
        endpoint("10.1.0.13", hostname="web-3", ready=None),
    ),
    slice_("hl-b.ns1", "hl", "10.1.0.11"),
    slice_(
        "hl-c.ns1",
        "hl",
        endpoint("fd00:1::10", hostname="web-0"),
        endpoint("fd00:1::"),
        addressType="IPv6",
    ),
    service("hlempty.ns1", "None"),
    service("hlnotready.ns1", "None"),
    slice_("hlnotready.ns1", "hlnotready", endpoint("10.1.0.20", ready=False)),
    service("hl4.ns1", "None", ports=()),
    slice_("hl4.ns1", "hl4", "10.1.0.30", ports=()),
    service("fqdn.ns1", "None"),
    slice_("fqdn.ns1", "fqdn", "ext.example.test", addressType="FQDN"),
    external("ext.ns1", "ext.example.test"),
    external("extip.ns1", "1.2.3.4"),
    slice_("orphan.ns1", "nosvc", "10.1.9.8"),
    slice_("unlabelled.ns1", "", "10.1.9.9"),
    service("svc-1-a.ns1", "10.0.0.7", ports=MULTI[:2]),
    service("headless-1.ns1", "None", ports=()),
    slice_("headless-1.ns1", "headless-1", endpoint("10.1.0.40", pod="test-name")),
    service("headless-2.ns1", "None", ports=()),
    slice_("headless-2.ns1", "headless-2", endpoint("10.1.0.41", pod="x" * 64)),
)

OBJECTS: Mapping[str, tuple[Tree, ...]] = {"T": T, "R": R, "V": V}


class Case(NamedTuple):
    """One row: its number and what is special, objects, options, question, answer."""

    title: str
    objects: str
    qname: str
    qtype: str
    answer: str
    options: Mapping[str, Any] = MappingProxyType({})


SVC1 = "SRV 0 100 80 svc1.testns.S | svc1.testns.S A 10.0.0.1"
HDLS1 = (
    "SRV 0 20 80 172-0-0-2.hdls1.testns.S; SRV 0 20 80 172-0-0-3.hdls1.testns.S; "
    "SRV 0 20 80 5678-abcd--1.hdls1.testns.S; SRV 0 20 80 5678-abcd--2.hdls1.testns.S; "
    "SRV 0 20 80 dup-name.hdls1.testns.S | 172-0-0-2.hdls1.testns.S A 172.0.0.2; "
    "172-0-0-3.hdls1.testns.S A 172.0.0.3; dup-name.hdls1.testns.S A 172.0.0.4; "
    "dup-name.hdls1.testns.S A 172.0.0.5; 5678-abcd--1.hdls1.testns.S AAAA 5678:abcd::1; "
    "5678-abcd--2.hdls1.testns.S AAAA 5678:abcd::2"
)
WEB_0 = "web-0.hl.ns1.S A 10.1.0.10; web-0.hl.ns1.S AAAA fd00:1::10"
HL = (
    "SRV 0 25 80 web-0.hl.ns1.S; SRV 0 25 80 10-1-0-11.hl.ns1.S; SRV 0 25 80 web-3.hl.ns1.S; "
    f"SRV 0 25 80 fd00-1--0.hl.ns1.S | {WEB_0}; 10-1-0-11.hl.ns1.S A 10.1.0.11; "
    "web-3.hl.ns1.S A 10.1.0.13; fd00-1--0.hl.ns1.S AAAA fd00:1::"
)
PODS: dict[str, Any] = {"pods": INSECURE}
CHECKED: dict[str, Any] = {"pods": VERIFIED}

CASES = [
    Case("1", "T", "svc1.testns.S", "A", "A 10.0.0.1"),
    Case("2: no endpoints", "T", "svcempty.testns.S", "A", "A 10.0.0.1"),
    Case("3", "T", "svcempty.testns.S", "A", "NX", {"ignore_empty_service": True}),
    Case("3: with endpoints", "T", "svc1.testns.S", "A", "A 10.0.0.1", {"ignore_empty_service": 1}),
    Case("4", "T", "svc1.testns.S", "AAAA", "ND"),
    Case("5", "T", "svc0.testns.S", "A", "NX"),
    Case("5", "T", "svc0.testns.S", "AAAA", "NX"),
    Case("6", "T", "svc0.svc-nons.S", "A", "NX"),
    Case("6", "T", "svc0.svc-nons.S", "TXT", "NX"),
    Case("7", "T", "svc1.testns.S", "TXT", "ND"),
    Case("7", "T", "svc1.testns.S", "SOA", "ND"),
    Case("7", "T", "svc1.testns.S", "PTR", "ND"),
    Case("8", "T", "svc1.testns.S", "SRV", SVC1),
    Case("9", "T", "_http._tcp.svc1.testns.S", "SRV", SVC1),
    Case("10", "T", "svc6.testns.S", "AAAA", "AAAA 1234:abcd::1"),
    Case(
        "11",
        "T",
        "_http._tcp.svc6.testns.S",
        "SRV",
        "SRV 0 100 80 svc6.testns.S | svc6.testns.S AAAA 1234:abcd::1",
    ),
    Case("12", "T", "svc-dual-stack.testns.S", "A", "A 10.0.0.3"),
    Case("12", "T", "svc-dual-stack.testns.S", "AAAA", "AAAA 10::3"),
    Case(
        "13: one target has all of the weight, CoreDNS counts families",
        "T",
        "svc-dual-stack.testns.S",
        "SRV",
        "SRV 0 100 80 svc-dual-stack.testns.S | svc-dual-stack.testns.S A 10.0.0.3; "
        "svc-dual-stack.testns.S AAAA 10::3",
    ),
    Case(
        "14",
        "T",
        "hdls1.testns.S",
        "A",
        "A 172.0.0.2; A 172.0.0.3; A 172.0.0.4; A 172.0.0.5",
    ),
    Case("15", "T", "hdls1.testns.S", "AAAA", "AAAA 5678:abcd::1; AAAA 5678:abcd::2"),
    Case(
        "16: weight over 5 targets, CoreDNS divides by 6",
        "T",
        "_http._tcp.hdls1.testns.S",
        "SRV",
        HDLS1,
    ),
    Case("17", "T", "172-0-0-2.hdls1.testns.S", "A", "A 172.0.0.2"),
    Case("18", "T", "5678-abcd--1.hdls1.testns.S", "AAAA", "AAAA 5678:abcd::1"),
    Case("19", "T", "dup-name.hdls1.testns.S", "A", "A 172.0.0.4; A 172.0.0.5"),
    Case("20", "T", "bogusendpoint.hdls1.testns.S", "A", "NX"),
    Case("21", "T", "bogusendpoint.svc0.testns.S", "A", "NX"),
    Case("22", "T", "hdlsprtls.testns.S", "A", "A 172.0.0.20"),
    Case("22", "T", "172-0-0-20.hdlsprtls.testns.S", "A", "A 172.0.0.20"),
    Case("23", "T", "external.testns.S", "CNAME", "CNAME ext.interwebs.test."),
    Case("25", "T", "external-to-service.testns.S", "A", "CNAME svc1.testns.S"),
    Case("26", "T", "endpoint.external.testns.S", "CNAME", "NX"),
    Case("26", "T", "a.b.external.testns.S", "CNAME", "NX"),
    Case("27", "T", "svc.Z", "A", "ND"),
    Case("27", "T", "svc.Z", "NS", "ND"),
    Case("27", "T", "pod.Z", "A", "ND"),
    Case("27", "T", "testns.S", "A", "ND"),
    Case("27", "T", "testns.S", "NS", "ND"),
    Case("28", "T", "foo.Z", "NS", "NX"),
    Case("28", "T", "foo.S", "NS", "NX"),
    Case("29", "T", "dns-version.Z", "TXT", 'TXT "1.1.0"'),
    Case("30", "T", "SvC1.TeStNs.SvC.cLuStEr.LoCaL.", "A", "A 10.0.0.1"),
    Case("31", "T", "_HtTp._TcP.sVc1.TeStNs.SvC.cLuStEr.LoCaL.", "SRV", SVC1),
    Case("32", "T", "not-a-service.testns.svc.ClUsTeR.lOcAl.", "A", "NX"),
    Case("33", "T", "Cluster.local.", "SOA", f"SOA ns.dns.Z hostmaster.Z {NOW} 7200 1800 86400 5"),
    Case(
        "34",
        "T",
        "Z",
        "NS",
        "NS ns.dns.Z | ns.dns.Z A 127.0.0.1",
        {"local_addresses": (bytes((127, 0, 0, 1)),)},
    ),
    *(Case("35", "T", "Z", qtype, "ND") for qtype in ("A", "AAAA", "SRV", "HINFO")),
    Case("38", "T", "svc1.nsnoexist.S", "A", "NX"),
    Case("39", "T", "10-240-0-1.podns.pod.Z", "A", "NX"),
    Case("39", "T", "podns.pod.Z", "A", "NX"),
    Case("40", "T", "172-0-0-2.podns.pod.Z", "A", "A 172.0.0.2", PODS),
    *(Case("41", "T", "blah.podns.pod.Z", qtype, "NX", PODS) for qtype in ("A", "AAAA", "HINFO")),
    Case("42", "T", "blah.pod-nons.pod.Z", "A", "NX", PODS),
    Case("42", "T", "172-0-0-2.pod-nons.pod.Z", "A", "NX", PODS),
    Case("43", "T", "podns.pod.Z", "A", "ND", PODS),
    Case("44", "T", "10-240-0-1.podns.pod.Z", "A", "A 10.240.0.1", CHECKED),
    Case("45", "T", "172-0-0-2.podns.pod.Z", "A", "NX", CHECKED),
    Case("45: another namespace", "T", "10-240-0-1.testns.pod.Z", "A", "NX", CHECKED),
    Case("46", "T", "svcns.S", "A", "ND", CHECKED),
    Case("46", "T", "podns.pod.Z", "A", "ND", CHECKED),
    Case("46", "T", "pod-nons.pod.Z", "A", "NX", CHECKED),
    Case("47", "R", "100.1.168.192.in-addr.arpa.", "PTR", "PTR svc1.testns.S"),
    Case("48", "R", "100.0.0.10.in-addr.arpa.", "PTR", "PTR ep1a.svc1.testns.S"),
    Case(
        "49",
        "R",
        "99.0.0.10.in-addr.arpa.",
        "PTR",
        "PTR double-ep.svc1.testns.S; PTR double-ep.svc2.testns.S",
    ),
    Case(
        "50", "R", "1." + "0." * 23 + "d.c.b.a.4.3.2.1.ip6.arpa.", "PTR", "PTR ep1b.svc1.testns.S"
    ),
    Case("51", "R", "101.0.0.10.in-addr.arpa.", "PTR", "NX"),
    Case("52", "T", "example.org.Z", "PTR", "NX"),
    Case("52", "T", "100.0.0.10.Z", "PTR", "NX"),
    Case("53", "T", "svc1.testns.S", "PTR", "ND"),
    Case("53", "R", "svc1.testns.svc.0.10.in-addr.arpa.", "A", "NX"),
    *(
        Case("54", "R", qname, "PTR", "NX", {"namespaces": frozenset({b"\x06testns"})})
        for qname in ("120.0.96.10.in-addr.arpa.", "252.0.17.172.in-addr.arpa.")
    ),
    Case(
        "71: one target has all of the weight, CoreDNS counts ports",
        "V",
        "svc-1-a.ns1.S",
        "SRV",
        "SRV 0 100 443 svc-1-a.ns1.S; SRV 0 100 80 svc-1-a.ns1.S | svc-1-a.ns1.S A 10.0.0.7",
    ),
    Case("72", "V", "hlnotready.ns1.S", "A", "NX"),
    Case("75", "V", "test-name.headless-1.ns1.S", "A", "A 10.1.0.40", {"endpoint_pod_names": True}),
    Case("75", "V", "10-1-0-41.headless-2.ns1.S", "A", "A 10.1.0.41", {"endpoint_pod_names": True}),
    *(
        Case("79", "V", "cip.ns1.S", qtype, "ND")
        for qtype in ("HTTPS", "SVCB", "MX", "CAA", "DS", "DNSKEY", "CNAME", "NS", "TYPE65400")
    ),
    *(Case("82", "V", qname, "A", "NX") for qname in ("*.ns1.S", "cip.*.S", "any.any.S")),
    *(
        Case(
            "83: a port is written with underscores (RFC 2782)", "V", f"{p}.cip.ns1.S", "SRV", "NX"
        )
        for p in ("http.tcp", "_._tcp", "_._")
    ),
    Case("84", "V", "_http._udp.cip.ns1.S", "SRV", "NX"),
    Case("84", "V", "_nope._tcp.cip.ns1.S", "SRV", "NX"),
    Case("84: an empty non-terminal exists (RFC 8020)", "V", "_tcp.cip.ns1.S", "SRV", "ND"),
    Case("85: a port's name owns SRV only", "V", "_http._tcp.cip.ns1.S", "A", "ND"),
    Case("85", "V", "_http._tcp.cip.ns1.S", "TXT", "ND"),
    Case(
        "86: one target has all of the weight, CoreDNS counts ports",
        "V",
        "multi.ns1.S",
        "SRV",
        "SRV 0 100 80 multi.ns1.S; SRV 0 100 443 multi.ns1.S; SRV 0 100 53 multi.ns1.S "
        "| multi.ns1.S A 10.0.0.2",
    ),
    Case(
        "87: a superset of the specification that clients expect",
        "V",
        "unnamed.ns1.S",
        "SRV",
        "SRV 0 100 80 unnamed.ns1.S | unnamed.ns1.S A 10.0.0.3",
    ),
    Case("87: an unnamed port has no name", "V", "_._tcp.unnamed.ns1.S", "SRV", "NX"),
    Case("88", "V", "noport.ns1.S", "A", "A 10.0.0.4"),
    Case("88", "V", "noport.ns1.S", "SRV", "ND"),
    Case("89", "V", "10-1-0-1.cip.ns1.S", "A", "A 10.1.0.1"),
    Case(
        "89",
        "V",
        "10-1-0-1.cip.ns1.S",
        "SRV",
        "SRV 0 100 80 10-1-0-1.cip.ns1.S | 10-1-0-1.cip.ns1.S A 10.1.0.1",
    ),
    Case("89", "V", "cip-pod-0.cip.ns1.S", "A", "NX"),
    Case("90", "V", "hl.ns1.S", "A", "A 10.1.0.10; A 10.1.0.11; A 10.1.0.13"),
    Case("91: weight over the targets, CoreDNS counts duplicates", "V", "hl.ns1.S", "SRV", HL),
    Case("92", "V", "web-0.hl.ns1.S", "A", "A 10.1.0.10"),
    Case("92", "V", "web-0.hl.ns1.S", "AAAA", "AAAA fd00:1::10"),
    Case(
        "92: one target has all of the weight, CoreDNS counts families",
        "V",
        "web-0.hl.ns1.S",
        "SRV",
        f"SRV 0 100 80 web-0.hl.ns1.S | {WEB_0}",
    ),
    Case("93", "V", "10-1-0-10.hl.ns1.S", "A", "NX"),
    Case("94", "V", "fd00-1--0.hl.ns1.S", "AAAA", "AAAA fd00:1::"),
    Case("94", "V", "fd00-1--.hl.ns1.S", "AAAA", "NX"),
    *(
        Case(number, "V", f"{text}.ns1.S", qtype, "NX")
        for text in ("hlempty", "hlnotready")
        for number, qtype in (
            ("95", "A"),
            ("95", "TXT"),
            ("95", "SRV"),
            ("95: a name that does not exist, CoreDNS says no data", "SOA"),
        )
    ),
    Case("96", "V", "hl4.ns1.S", "A", "A 10.1.0.30"),
    Case("96", "V", "hl4.ns1.S", "SRV", "ND"),
    Case("96", "V", "10-1-0-30.hl4.ns1.S", "A", "A 10.1.0.30"),
    Case("97", "V", "fqdn.ns1.S", "A", "CNAME ext.example.test."),
    Case("97: an alias answers every type", "V", "fqdn.ns1.S", "SRV", "CNAME ext.example.test."),
    Case("97", "V", "ext-example-test.fqdn.ns1.S", "A", "CNAME ext.example.test."),
    Case("98", "V", "nosvc.ns1.S", "A", "NX"),
    Case("98", "V", "8.9.1.10.in-addr.arpa.", "PTR", "PTR 10-1-9-8.nosvc.ns1.S"),
    Case(
        "99: every query is answered, CoreDNS is silent", "V", "9.9.1.10.in-addr.arpa.", "PTR", "NX"
    ),
    Case("103", "V", "extip.ns1.S", "A", "NX"),
    Case("103", "V", "extip.ns1.S", "CNAME", "NX"),
    *(
        Case("105: an alias answers every type (RFC 1034, 3.6.2)", "V", "ext.ns1.S", qtype, answer)
        for qtype in ("SRV", "TXT", "MX", "HTTPS")
        for answer in ("CNAME ext.example.test.",)
    ),
    *(
        Case("106: the name exists, CoreDNS says it does not", "V", qname, "TXT", "ND")
        for qname in ("Z", "svc.Z", "ns1.S", "pod.Z")
    ),
    Case("107: the name exists, CoreDNS says it does not", "V", "dns-version.Z", "A", "ND"),
    Case("107: the name exists, CoreDNS says it does not", "V", "dns.Z", "A", "ND"),
    Case("107: the name exists, CoreDNS says it does not", "V", "ns.dns.Z", "TXT", "ND"),
    Case("108: no such name, CoreDNS says no data", "V", "foo.Z", "SOA", "NX"),
    Case("108: no such name, CoreDNS says no data", "V", "x.ns1.S", "SOA", "NX"),
    Case(
        "109: case does not matter, CoreDNS says no data",
        "V",
        "Cluster.LOCAL.",
        "NS",
        "NS ns.dns.Z",
    ),
    Case(
        "109: case does not matter, CoreDNS says no such name",
        "V",
        "Ns.dNs.Cluster.local.",
        "A",
        "A 10.9.9.9",
        {"local_addresses": (bytes((10, 9, 9, 9)),)},
    ),
    Case("110", "V", "empty.S", "A", "ND"),
    Case("111: nothing is below a pod's name", "V", "x.10-1-0-1.ns1.pod.Z", "A", "NX", PODS),
    Case("111: nothing is below a pod's name", "V", "a.b.10-1-0-1.ns1.pod.Z", "A", "NX", PODS),
    Case("111: a pod's name owns addresses only", "V", "10-1-0-1.ns1.pod.Z", "SRV", "ND", PODS),
    *(
        Case("112", "V", f"{label}.ns1.pod.Z", "A", "NX", PODS)
        for label in ("256-1-1-1", "1-2-3", "01-2-3-4")
    ),
    Case("113", "V", "fd00--1.ns1.pod.Z", "AAAA", "AAAA fd00::1", PODS),
    Case("113", "V", "fd00--1.ns1.pod.Z", "A", "ND", PODS),
    Case("113", "V", "--1.ns1.pod.Z", "AAAA", "AAAA ::1", PODS),
    Case("113", "V", "fd00-0-0-0-0-0-0-1.ns1.pod.Z", "AAAA", "AAAA fd00::1", PODS),
    *(
        Case(
            "114: the name exists, CoreDNS passes it on", "V", "1.0.0.10.in-addr.arpa.", qtype, "ND"
        )
        for qtype in ("A", "TXT")
    ),
    Case("115", "V", "1.0.0.10.in-addr.arpa.", "SOA", "ND"),
    Case("115: an empty non-terminal exists (RFC 8020)", "V", "0.10.in-addr.arpa.", "PTR", "ND"),
    Case("116", "V", "12.0.1.10.in-addr.arpa.", "PTR", "NX"),
    Case("117", "V", "11.0.1.10.in-addr.arpa.", "PTR", "PTR 10-1-0-11.hl.ns1.S"),
    Case("117", "V", "5.0.0.10.in-addr.arpa.", "PTR", "PTR dual.ns1.S"),
    Case("117", "V", "5." + "0." * 27 + "0.0.d.f.ip6.arpa.", "PTR", "PTR dual.ns1.S"),
]
