"""kubernetes: the cluster's names, and what becomes of those that it has not."""

from typing import cast

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.cluster.zone import PodsMode
from kdns.corefile.errors import CorefileError
from kdns.plugins import kubernetes
from kdns.plugins.chain import MAX_ALIASES, Outcome, Request, failure
from kdns.plugins.kubernetes import Kubernetes, KubernetesHandler
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, addresses, always, ask, populate, reply_now, settings

KUBEADM = """kubernetes cluster.local in-addr.arpa ip6.arpa {
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 30
}"""
WEB = "web.shop.svc.cluster.local"
ADDRESS = bytes((10, 96, 0, 1))


def parsed(text: str, zones: tuple[str, ...] = ("cluster.local.",)) -> Kubernetes:
    configured = settings(kubernetes.parse, text, zones)
    assert isinstance(configured, Kubernetes)
    return configured


class Served:
    """A kubernetes directive, its cluster filled or not."""

    def __init__(self, text: str = KUBEADM, *, filled: bool = True) -> None:
        self.parts = FakeParts()
        built = parsed(text).build(self.parts, always(Reply(by="next")))
        self.handler = cast("KubernetesHandler", built)
        (self.cluster,) = self.parts.clusters.values()
        if filled:
            populate(self.cluster)

    def reply(self, qname: str, qtype: int = iana.A) -> Reply:
        return reply_now(self.handler(ask(qname, qtype)))

    def end(self, qname: str, qtype: int = iana.A) -> tuple[int, str]:
        reply = self.reply(qname, qtype)
        return reply.rcode, reply.by


# Answers.


def test_a_service_has_its_address() -> None:
    reply = Served().reply("WEB.shop.svc.Cluster.Local")
    (rrset,) = reply.answer
    assert (rrset.ttl, rrset.rdatas, reply.aa, reply.by) == (30, (ADDRESS,), True, "kubernetes")


def test_its_address_has_its_name() -> None:
    (rrset,) = Served().reply("1.0.96.10.in-addr.arpa", iana.PTR).answer
    assert rrset.rdatas == (name.from_text(WEB),)


def test_a_port_comes_with_the_address_of_its_target() -> None:
    reply = Served().reply(f"_http._tcp.{WEB}", iana.SRV)
    assert [rrset.rdatas for rrset in reply.additional] == [(ADDRESS,)]


def test_insecure_pods_are_what_their_names_say() -> None:
    (rrset,) = Served().reply("10-1-2-3.shop.pod.cluster.local").answer
    assert rrset.rdatas == (bytes((10, 1, 2, 3)),)


@pytest.mark.parametrize("qtype", [iana.AAAA, iana.MX, iana.ANY])
def test_what_a_name_has_not_is_no_data_with_authority(qtype: int) -> None:
    reply = Served().reply(WEB, qtype)
    assert (reply.rcode, reply.answer, reply.aa) == (Rcode.NOERROR, (), True)
    assert [rrset.rtype for rrset in reply.authority] == [iana.SOA]


def test_a_name_that_is_not_there_is_nxdomain_with_authority() -> None:
    reply = Served().reply("none.shop.svc.cluster.local")
    assert (reply.rcode, reply.aa) == (Rcode.NXDOMAIN, True)
    assert [rrset.owner for rrset in reply.authority] == [name.from_text("cluster.local")]


@pytest.mark.parametrize("qname", ["example.org", "xcluster.local", "local"])
def test_names_of_no_zone_go_on(qname: str) -> None:
    assert Served().end(qname) == (Rcode.NOERROR, "next")


def test_unknown_names_fall_through_where_they_may() -> None:
    served = Served()
    assert served.end("9.9.9.10.in-addr.arpa", iana.PTR) == (Rcode.NOERROR, "next")
    assert served.end("none.cluster.local") == (Rcode.NXDOMAIN, "kubernetes")
    everywhere = Served("kubernetes cluster.local {\nfallthrough\n}")
    assert everywhere.end("none.cluster.local") == (Rcode.NOERROR, "next")
    assert everywhere.end(WEB, iana.MX) == (Rcode.NOERROR, "kubernetes")


def test_under_pressure_names_that_would_fall_through_are_not_its_own() -> None:
    served = Served("kubernetes cluster.local in-addr.arpa {\nfallthrough in-addr.arpa\n}")
    ((apex, stays),) = served.parts.block.passing
    asked = (
        name.reverse(bytes((10, 96, 0, 1))),
        name.reverse(bytes((10, 9, 9, 9))),
        apex,
        b"\4" + apex,
    )
    assert [stays(key) for key in asked] == [True, False, True, False]


def test_what_is_not_known_yet_is_answered_here_and_asks_nobody() -> None:
    served = Served(filled=False)
    assert all(stays(b"\x019" + apex) for apex, stays in served.parts.block.passing)


def test_a_zone_without_fallthrough_passes_nothing_on() -> None:
    served = Served("kubernetes cluster.local {\nfallthrough elsewhere.test\n}")
    assert served.parts.block.passing == []


def test_reverse_names_without_fallthrough_end_here() -> None:
    served = Served("kubernetes cluster.local 10.0.0.0/8")
    assert served.end("9.9.9.10.in-addr.arpa", iana.PTR) == (Rcode.NXDOMAIN, "kubernetes")
    assert served.end("9.9.9.10.in-addr.arpa", iana.SOA) == (Rcode.NOERROR, "kubernetes")
    assert served.end("9.9.9.10.in-addr.arpa", iana.TXT) == (Rcode.NXDOMAIN, "kubernetes")
    assert served.end("9.9.9.10.in-addr.arpa", iana.ANY) == (Rcode.NXDOMAIN, "kubernetes")
    assert served.end("10.in-addr.arpa", iana.ANY) == (Rcode.NOERROR, "kubernetes")
    assert served.end("1.0.96.10.in-addr.arpa", iana.TXT) == (Rcode.NOERROR, "kubernetes")
    assert served.end("0.96.10.in-addr.arpa", iana.TXT) == (Rcode.NOERROR, "kubernetes")


def test_the_longest_zone_answers() -> None:
    served = Served("kubernetes local cluster.local")
    assert served.end(WEB) == (Rcode.NOERROR, "kubernetes")
    assert served.reply("none.cluster.local").authority[0].owner == name.from_text("cluster.local")


# Before the cluster is known.


def test_nothing_is_denied_before_the_cluster_is_known() -> None:
    served = Served(filled=False)
    (ready,) = (ready for _, ready in served.parts.readiness)
    for qname in (WEB, "9.9.9.10.in-addr.arpa"):
        reply = served.reply(qname)
        assert (reply.rcode, reply.by) == (Rcode.SERVFAIL, "kubernetes")
        assert reply.error == "not in sync with the cluster yet"
        ((code, data),) = reply.options
        assert (code, data[:2]) == (iana.EDNS_EDE, (14).to_bytes(2, "big"))
    assert not ready()
    assert served.parts.unready() == ["kubernetes"]
    populate(served.cluster)
    assert ready()
    assert served.end(WEB) == (Rcode.NOERROR, "kubernetes")


# Aliases.


def test_what_is_only_remembered_is_answered_and_said_to_be() -> None:
    """RFC 8914, section 4.4: Stale Answer."""
    served = Served()
    served.cluster.assume(Resource.SERVICES)
    for qname in ("web.shop.svc.cluster.local", "none.shop.svc.cluster.local"):
        reply = reply_now(served.handler(ask(qname)))
        assert reply.depends is None
        assert [(code, data[:2]) for code, data in reply.options] == [(15, b"\0\x03")]
        ttls = {rrset.ttl for rrset in (*reply.answer, *reply.authority)}
        assert ttls == {5}
    served.cluster.sweep(Resource.SERVICES, {("shop", "web")})
    reply = reply_now(served.handler(ask("web.shop.svc.cluster.local")))
    assert (reply.options, reply.depends is None) == ((), False)


def test_an_alias_within_the_zones_is_followed() -> None:
    reply = Served().reply("in.shop.svc.cluster.local")
    assert [rrset.rtype for rrset in reply.answer] == [iana.CNAME, iana.A]
    assert reply.answer[1].rdatas == (ADDRESS,)


def test_an_alias_of_an_alias_is_followed_too() -> None:
    reply = Served().reply("twice.shop.svc.cluster.local")
    assert [rrset.rtype for rrset in reply.answer] == [iana.CNAME, iana.CNAME, iana.A]


def test_an_alias_whose_target_has_no_such_type_is_no_data() -> None:
    reply = Served().reply("in.shop.svc.cluster.local", iana.AAAA)
    assert (reply.rcode, len(reply.answer), len(reply.authority)) == (Rcode.NOERROR, 1, 1)


def test_an_alias_whose_target_is_not_there_has_its_rcode() -> None:
    reply = Served().reply("gone.shop.svc.cluster.local")
    assert (reply.rcode, len(reply.answer), len(reply.authority)) == (Rcode.NXDOMAIN, 1, 1)


def test_an_alias_itself_may_be_asked_for() -> None:
    reply = Served().reply("ext.shop.svc.cluster.local", iana.CNAME)
    assert reply.answer[0].rdatas == (name.from_text("www.example.com"),)


def test_a_ring_of_aliases_ends() -> None:
    reply = Served().reply("ring.shop.svc.cluster.local")
    assert (reply.rcode, len(reply.answer)) == (Rcode.NOERROR, 1)


def outside(reply: Reply) -> tuple[Reply, list[Request]]:
    """What an alias to elsewhere gives when the server itself says `reply` of its target."""
    served = Served()
    asked: list[Request] = []

    def resolve(request: Request) -> Outcome:
        asked.append(request)
        return reply

    served.parts.resolver = resolve
    # The handler took the resolver's method when it was built: it must still lead to this one.
    return served.reply("ext.shop.svc.cluster.local"), asked


def test_an_alias_to_elsewhere_is_asked_of_the_whole_server() -> None:
    there = Reply(answer=(addresses("www.example.com", 1),), ad=True, by="forward")
    reply, (asked,) = outside(there)
    assert (asked.query.qname, asked.query.qtype) == (name.from_text("www.example.com"), iana.A)
    assert (asked.query.id, asked.aliases) == (7, 1)
    assert [rrset.rtype for rrset in reply.answer] == [iana.CNAME, iana.A]
    assert (reply.aa, reply.ad, reply.by) == (True, False, "kubernetes")


@pytest.mark.parametrize(
    ("there", "rcode", "error"),
    [
        (Reply(Rcode.NXDOMAIN, by="forward"), Rcode.NXDOMAIN, ""),
        (Reply(Rcode.REFUSED), Rcode.NOERROR, ""),
        (Reply(Rcode.REFUSED, by="forward"), Rcode.SERVFAIL, "the alias's target: REFUSED"),
        (failure("no reply", "forward"), Rcode.SERVFAIL, "no reply"),
    ],
)
def test_what_is_said_of_the_target_is_said_of_the_alias(
    there: Reply, rcode: Rcode, error: str
) -> None:
    reply, _ = outside(there)
    assert (reply.rcode, reply.error, len(reply.answer)) == (rcode, error, 1)


def test_a_target_may_be_known_later() -> None:
    served = Served()
    pending: Pending[Reply] = Pending()
    served.parts.resolver = lambda request: pending
    outcome = served.handler(ask("ext.shop.svc.cluster.local"))
    pending.resolve(Reply(answer=(addresses("www.example.com", 1),), by="forward"))
    assert len(reply_now(outcome).answer) == 2


def test_aliases_from_server_to_server_end() -> None:
    served = Served()
    request = ask("ext.shop.svc.cluster.local")
    for _ in range(MAX_ALIASES):
        request = Request(request.query, request.peer, request.aliases + 1)
    assert len(reply_now(served.handler(request)).answer) == 1


# What answers rest on.


@pytest.mark.parametrize(
    ("qname", "qtype"), [(WEB, iana.A), (WEB, iana.MX), ("1.0.96.10.in-addr.arpa", iana.PTR)]
)
def test_a_change_touches_what_answers_about_it_rest_on(qname: str, qtype: int) -> None:
    served = Served()
    depends = served.reply(qname, qtype).depends
    assert depends
    served.parts.forgotten.clear()
    served.cluster.remove(Resource.SERVICES, ("shop", "web"))
    assert set(depends) & set(served.parts.forgotten)


# What is watched.


def resources(text: str) -> set[Resource]:
    return set(parsed(text).source().resources)


def test_only_what_is_needed_is_watched() -> None:
    services = {Resource.SERVICES, Resource.NAMESPACES}
    assert resources("kubernetes") == services | {Resource.ENDPOINTSLICES}
    assert resources("kubernetes {\nnoendpoints\n}") == services
    assert resources("kubernetes {\npods verified\n}") == set(Resource)


def test_selectors_go_to_what_they_select() -> None:
    source = parsed(
        "kubernetes {\npods verified\nlabels env in (a, b),x\nnamespace_labels team=c\n}"
    ).source()
    found = {resource: (str(labels), str(fields)) for resource, labels, fields in source.selectors}
    assert found[Resource.SERVICES] == ("env in (a,b),x", "")
    assert found[Resource.ENDPOINTSLICES] == ("env in (a,b),x", "")
    assert found[Resource.NAMESPACES] == ("team=c", "")
    assert found[Resource.PODS][0] == "env in (a,b),x"
    assert "status.phase!=Succeeded" in found[Resource.PODS][1]


def test_the_way_to_the_api_server_is_the_corefiles() -> None:
    plain = parsed("kubernetes").source()
    assert (plain.endpoint, plain.tls, plain.kubeconfig) == (None, None, None)
    direct = parsed("kubernetes {\nendpoint https://a:6443\ntls cert key ca\n}").source()
    assert (direct.endpoint, direct.tls) == ("https://a:6443", ("cert", "key", "ca"))
    assert parsed("kubernetes {\nkubeconfig f\n}").source().kubeconfig == ("f", "")
    assert parsed("kubernetes {\nkubeconfig f ctx\n}").source().kubeconfig == ("f", "ctx")


# The Corefile.


def test_zones_are_the_blocks_unless_named() -> None:
    assert parsed("kubernetes").zones == ("cluster.local.",)
    assert parsed("kubernetes a.b 10.0.0.0/8 A.B").zones == ("a.b.", "10.in-addr.arpa.")
    assert parsed("kubernetes 10.0.0.0/8 a.b").primary == "a.b."


def test_options_are_read() -> None:
    found = parsed(
        "kubernetes {\nttl 0\npods verified\nendpoint_pod_names\nnoendpoints\n"
        "ignore empty_service\nnamespaces A b\nnamespaces c\nfallthrough\n}"
    )
    assert (found.ttl, found.pods) == (0, PodsMode.VERIFIED)
    assert found.endpoint_pod_names
    assert found.no_endpoints
    assert found.ignore_empty_service
    assert found.namespaces == ("A", "b", "c")
    assert found.fallthrough == (".",)
    assert found.warnings() == ()


def test_only_the_namespaces_named_are_there() -> None:
    hidden = Served("kubernetes cluster.local {\nnamespaces other\n}")
    assert hidden.end(WEB) == (Rcode.NXDOMAIN, "kubernetes")
    shown = Served("kubernetes cluster.local {\nnamespaces shop\n}")
    assert shown.end(WEB) == (Rcode.NOERROR, "kubernetes")


def test_it_explains_itself() -> None:
    assert parsed("kubernetes").explain() == "cluster.local.; ttl 5; pods disabled"
    assert parsed("kubernetes {\nfallthrough a\nnamespaces b\nlabels c=d\n}").explain() == (
        "cluster.local.; ttl 5; pods disabled; unknown names of a. go on; "
        "only namespaces b; only objects with c=d"
    )
    assert "only namespaces with x=y" in parsed("kubernetes {\nnamespace_labels x=y\n}").explain()


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("startup_timeout 5s", "startup_timeout has no effect: kdns answers SERVFAIL until in"),
        ("apiserver_qps 1.5", "apiserver_qps has no effect"),
        ("apiserver_burst 10", "apiserver_burst has no effect"),
        ("apiserver_max_inflight 10", "apiserver_max_inflight has no effect"),
    ],
)
def test_what_has_no_effect_is_warned_of(line: str, warning: str) -> None:
    (found,) = parsed(f"kubernetes {{\n{line}\n}}").warnings()
    assert found.startswith(f"Corefile:3: {warning}")


def test_several_endpoints_are_addresses_of_one_api() -> None:
    source = parsed(
        "kubernetes {\nendpoint https://a:6443 https://b:6443 https://a:6443\n}"
    ).source()
    assert (source.endpoint, source.other_endpoints) == ("https://a:6443", ("https://b:6443",))


def test_certificates_without_an_endpoint_are_warned_of() -> None:
    (found,) = parsed("kubernetes {\ntls cert key ca\n}").warnings()
    assert found == "Corefile:2: tls has no effect without an endpoint"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("multicluster x", "multicluster is an option of CoreDNS that kdns does not have yet"),
        ("zonal", "zonal is an option of CoreDNS that kdns does not have yet"),
        ("resyncperiod 5m", "kubernetes: unknown option 'resyncperiod'; expected apiserver_burst"),
        ("endpoint", "endpoint: expected at least 1 argument"),
        ("endpoint a:6443", r"endpoint: expected http://HOST\[:PORT\] or .*, got 'a:6443'"),
        ("tls a b", "tls: expected 3 arguments, got 2"),
        ("kubeconfig", "kubeconfig: expected 1 to 2 arguments"),
        ("namespaces", "namespaces: expected at least 1"),
        ("namespaces " + "x" * 64, "namespaces: .* is no DNS label"),
        ("namespace_labels", "namespace_labels: expected at least 1"),
        ("namespace_labels a in b", "namespace_labels: selector"),
        ("labels a=b=c", "labels: selector"),
        ("pods", "pods: expected 1 argument"),
        ("pods some", "pods: expected disabled, insecure or verified, got 'some'"),
        ("endpoint_pod_names x", "endpoint_pod_names: expected 0 arguments"),
        ("ttl 3601", "expected a number from 0 to 3600, got '3601'"),
        ("ttl", "ttl: expected 1 argument"),
        ("noendpoints x", "noendpoints: expected 0 arguments"),
        ("fallthrough a..b", "expected a domain name"),
        ("ignore", "ignore: expected 1 argument"),
        ("ignore all", "ignore: expected empty_service, got 'all'"),
        ("startup_timeout 5", "expected a duration"),
        ("apiserver_qps fast", "apiserver_qps: expected a number, got 'fast'"),
        ("apiserver_burst 1.5", "expected a number"),
    ],
)
def test_bad_options_are_told_with_their_place(line: str, message: str) -> None:
    with pytest.raises(CorefileError, match=f"^Corefile:3: .*{message}"):
        parsed(f"kubernetes {{\n{line}\n}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kubernetes in-addr.arpa", "expected at least one zone that is no reverse zone"),
        ("kubernetes 10.0.0.0/8 ip6.arpa", "expected at least one zone that is no reverse zone"),
        ("kubernetes {\nnamespaces a\nnamespace_labels b\n}", "exclude each other"),
        ("kubernetes a..b", "expected a domain name"),
    ],
)
def test_bad_directives_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=f"^Corefile:2: .*{message}"):
        parsed(text)


def test_one_state_is_kept_for_settings_that_are_alike() -> None:
    parts = FakeParts()
    for zone in ("a.example", "b.example"):
        parsed(f"kubernetes {zone}").build(parts, always(Reply()))
    (cluster,) = parts.clusters.values()
    assert isinstance(cluster, Cluster)
