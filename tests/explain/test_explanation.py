"""Each reason for which a name is not answered, told with what would help."""

import pytest

from kdns.explain.explanation import Ending, Explainer, Tried, address_of
from kdns.explain.search import candidates, search_list
from kdns.plan import make_plan
from kdns.plugins.rereading import BadFile
from tests.cluster.builders import (
    Tree,
    endpoint,
    external,
    full,
    made,
    namespace,
    pod,
    service,
    slice_,
)

COREFILE = """. {{
    errors
    kubernetes cluster.local in-addr.arpa {{
        {options}
    }}
    forward . 127.0.0.1 {{
        except refused.test
    }}
}}
alone.test {{
    kubernetes alone.test
    loadbalance {{
        prefer 10.1.0.0/16
    }}
}}
"""


def labelled(tree: Tree, **labels: str) -> Tree:
    return {**tree, "metadata": {**tree["metadata"], "labels": labels}}


def ended(place: str, address: str) -> Tree:
    made_of = pod(place, address)
    return {**made_of, "status": {**made_of["status"], "phase": "Succeeded"}}


TREES = (
    namespace("shop"),
    namespace("pay"),
    labelled(namespace("lab"), team="a"),
    service("web.shop", "10.96.0.7", selector={"app": "web"}),
    service("six.shop", "fd00::7"),
    service("bare.shop", "10.96.0.8", ports=({"port": 80},)),
    service("portless.shop", "10.96.0.9", ports=()),
    service("db.shop", "None"),
    slice_("db-1.shop", "db", endpoint("10.1.0.1", hostname="db-0", pod="db-0")),
    slice_("db-2.shop", "db", endpoint("10.1.0.2", ready=False), endpoint("10.1.0.3", pod="db-2")),
    service("dead.shop", "None"),
    slice_("dead-1.shop", "dead", endpoint("10.1.0.9", ready=False, pod="dead-0")),
    service("empty.shop", "None"),
    service("lost.shop", "None", selector={"app": "lost"}),
    service("late.shop", "None", selector={"app": "late"}),
    external("out.shop", "www.example.test"),
    external("in.shop", "web.shop.svc.cluster.local"),
    external("broken.shop", "nothing.shop.svc.cluster.local"),
    external("number.shop", "192.0.2.1"),
    external("ring.shop", "gnir.shop.svc.cluster.local"),
    external("gnir.shop", "ring.shop.svc.cluster.local"),
    external("refused.shop", "www.refused.test"),
    labelled(pod("late-0.shop", "10.2.0.1"), app="late"),
    ended("done.shop", "10.2.0.3"),
)


def read(path: str, most: int) -> bytes:
    """The only file that there is."""
    if path != "/hosts":
        raise BadFile(f"{path}: expected a file")
    return b"# of the shop\n192.0.2.1 www.hosts.test www\n192.0.2.2 www.hosts.test *.hosts.test\n"


def follow(text: str, rtype: str = "A", options: str = "pods insecure") -> Tried:
    plan = make_plan(COREFILE.format(options=options), "Corefile", environ={})
    return Explainer(plan, [made(tree)[1] for tree in TREES], read).follow(full(text), rtype)


def test_an_answer_has_its_records_its_directive_and_what_it_rests_on() -> None:
    tried = follow("web.shop.S")
    assert tried.ending is Ending.ANSWER
    assert tried.records == ["web.shop.svc.cluster.local. 5 IN A 10.96.0.7"]
    assert (tried.block, tried.directive) == (". (Corefile:1)", "kubernetes")
    assert tried.reasons.rests_on == ["namespace shop", "service shop/web: ClusterIP 10.96.0.7"]


@pytest.mark.parametrize(
    ("text", "rtype", "rest"),
    [
        ("db.shop.S", "A", "endpoint 10.1.0.1 (pod db-0)"),
        ("db-0.db.shop.S", "A", "endpoint 10.1.0.1 (pod db-0)"),
        ("_http._tcp.web.shop.S", "SRV", "port http, TCP"),
        ("in.shop.S", "A", "service shop/web: ClusterIP 10.96.0.7"),
        ("10-2-0-1.shop.pod.Z", "A", "pods insecure: any address of an existing namespace"),
        ("7.0.96.10.in-addr.arpa.", "PTR", "service shop/web: ClusterIP 10.96.0.7"),
        ("1.0.1.10.in-addr.arpa.", "PTR", "service shop/db, endpoint 10.1.0.1 (pod db-0)"),
    ],
)
def test_rests_on(text: str, rtype: str, rest: str) -> None:
    tried = follow(text, rtype)
    assert tried.ending is Ending.ANSWER
    assert any(one.startswith(rest) for one in tried.reasons.rests_on)


@pytest.mark.parametrize(
    ("text", "missing", "then"),
    [
        ("web.shpo.S", "there is no namespace 'shpo'", "did you mean shop?"),
        ("wbe.shop.S", "the namespace 'shop' has no service 'wbe'", "did you mean web.shop?"),
        ("web.pay.S", "no service 'web'", "in the namespace shop: web.shop.svc.cluster.local"),
        ("web.shop.Z", "nothing below cluster.local ends in 'shop'", "web.shop.svc.cluster.local"),
        ("web.shop.svk.Z", "ends in 'svk'", "ask for web.shop.svc.cluster.local"),
        ("shop.S", "this is a namespace's name", ""),
        ("dead.shop.S", "none is ready: 10.1.0.9 (pod dead-0)", "readiness probes"),
        ("empty.shop.S", "it has no selector", "get endpointslices"),
        ("lost.shop.S", "its selector app=lost matches no pod", "--show-labels"),
        ("late.shop.S", "matches late-0, and there is no EndpointSlice", "controller-manager"),
        ("10-1-0-2.db.shop.S", "is not ready: 10.1.0.2", ""),
        ("db-9.db.shop.S", "no endpoint is called 'db-9'", "it has db-"),
        ("db-2.db.shop.S", "no endpoint is called 'db-2'", "endpoint_pod_names"),
        ("_htp._tcp.web.shop.S", "no port _htp._tcp: it has _http._tcp", "did you mean _http._tcp"),
        ("http.tcp.web.shop.S", "no port http.tcp", "underscores"),
        ("_http._tcp.bare.shop.S", "none with a name", "a port without a name has no SRV name"),
        ("a.b.c.web.shop.S", "too many labels below a service", ""),
        ("x.out.shop.S", "nothing is below a service of type ExternalName", ""),
        ("number.shop.S", "externalName is the address 192.0.2.1", "headless service"),
        ("broken.shop.S", "the alias's target nothing.shop.svc.cluster.local.", "get services"),
        ("ring.shop.S", "the aliases lead in a circle", "that has addresses"),
        ("refused.shop.S", "refused: nobody here serves it", ""),
        ("x.shop.pod.Z", "'x' is no address with dashes", ""),
        ("a.b.shop.pod.Z", "a pod's name is its address with dashes", ""),
        ("6.6.6.10.in-addr.arpa.", "has the address 10.6.6.6", ""),
        (
            "9.0.1.10.in-addr.arpa.",
            "10.1.0.9 is an endpoint's address, of shop/dead: not ready",
            "",
        ),
    ],
)
def test_is_missing(text: str, missing: str, then: str) -> None:
    tried = follow(text, "PTR" if text.endswith("arpa.") else "A")
    assert tried.ending is not Ending.ANSWER
    assert missing in "\n".join(tried.reasons.missing)
    assert then in "\n".join(tried.reasons.next)


@pytest.mark.parametrize(
    ("options", "text", "missing"),
    [
        ("pods disabled", "10-2-0-1.shop.pod.Z", "pods are disabled"),
        ("pods verified", "10-2-0-9.shop.pod.Z", "no pod of the namespace 'shop' has that address"),
        ("namespaces pay", "web.shop.S", "the Corefile hides it: namespaces pay"),
        ("namespace_labels team=a", "web.shop.S", "hides it: namespace_labels team=a"),
        ("labels app=x", "web.shop.S", "the service shop/web is there, and the Corefile hides it"),
        ("noendpoints", "db.shop.S", "the Corefile says noendpoints"),
        ("ignore empty_service", "web.shop.S", "matches no pod of the namespace"),
        ("namespaces pay", "7.0.96.10.in-addr.arpa.", "hides service shop/web: namespaces pay"),
    ],
)
def test_an_option_of_the_corefile_is_the_reason(options: str, text: str, missing: str) -> None:
    tried = follow(text, "PTR" if text.endswith("arpa.") else "A", options)
    assert tried.ending is Ending.NXDOMAIN
    assert missing in "\n".join(tried.reasons.missing)


def test_a_verified_pod_is_named() -> None:
    tried = follow("10-2-0-1.shop.pod.Z", options="pods verified")
    assert "pod shop/late-0" in tried.reasons.rests_on


@pytest.mark.parametrize(
    ("text", "rtype", "missing"),
    [
        ("six.shop.S", "A", "it has no IPv4 address, only fd00::7"),
        ("web.shop.S", "AAAA", "it has no IPv6 address, only 10.96.0.7"),
        ("portless.shop.S", "SRV", "it has no ports"),
    ],
)
def test_a_name_without_this_type(text: str, rtype: str, missing: str) -> None:
    tried = follow(text, rtype)
    assert tried.ending is Ending.NODATA
    assert missing in "\n".join(tried.reasons.missing)


def test_a_pod_that_has_ended_has_no_name() -> None:
    tried = follow("10-2-0-3.shop.pod.Z", options="pods verified")
    assert tried.ending is Ending.NXDOMAIN
    assert tried.reasons.missing == ["the pod shop/done has ended: Succeeded"]


def test_a_cname_is_not_followed_when_it_is_what_was_asked_for() -> None:
    tried = follow("out.shop.S", "CNAME")
    assert tried.records == ["out.shop.svc.cluster.local. 5 IN CNAME www.example.test."]


def test_what_an_upstream_would_say_is_left_open() -> None:
    tried = follow("www.example.test.")
    assert (tried.ending, tried.directive) == (Ending.UPSTREAM, "forward")
    alias = follow("out.shop.S")
    assert alias.ending is Ending.ANSWER
    assert "is asked of an upstream" in alias.notes[0]


def test_fallthrough_passes_on_to_the_next_directive() -> None:
    tried = follow("web.pay.S", options="fallthrough")
    assert (tried.ending, tried.directive) == (Ending.UPSTREAM, "forward")
    assert tried.notes[0] == "fallthrough: kubernetes passes it on"


def test_nobody_serves_what_is_excepted() -> None:
    assert follow("www.refused.test.").ending is Ending.REFUSED


def test_the_block_of_the_longest_zone_answers() -> None:
    assert follow("web.shop.svc.alone.test.").block == "alone.test. (Corefile:10)"


def test_no_block_has_the_name() -> None:
    plan = make_plan("alone.test {\n whoami\n}", "Corefile", environ={})
    tried = Explainer(plan, [], read).follow("www.example.test.", "A")
    assert tried.notes == ["no server block has this name; they have alone.test."]


def test_a_directive_that_may_answer_otherwise_is_named() -> None:
    plan = make_plan(". {\n whoami\n}", "Corefile", environ={})
    assert Explainer(plan, [], read).follow("www.example.test.", "A").open[0].startswith("whoami: ")


TEMPLATES = """. {
    template IN A dev.test {
        match ^(?P<n>[0-9]+)[.]dev[.]test[.]$
        answer "{{ .Name }} 60 IN A 10.0.0.{{ .Group.n }}"
        fallthrough up.dev.test
    }
    template IN ANY shop.test {
        answer "{{ .Name }} 60 IN CNAME web.shop.svc.cluster.local."
    }
    template IN TXT me.test {
        answer "{{ .Name }} 60 IN TXT {{ .Remote }}"
    }
    template IN AAAA dev.test
    template ANY ANY gone.test {
        rcode NXDOMAIN
    }
    template ANY ANY no.test {
        rcode REFUSED
    }
    kubernetes cluster.local
    forward . 127.0.0.1
}
"""


def by_template(text: str, rtype: str = "A") -> Tried:
    plan = make_plan(TEMPLATES, "Corefile", environ={})
    return Explainer(plan, [made(tree)[1] for tree in TREES], read).follow(text, rtype)


@pytest.mark.parametrize(
    ("text", "rtype", "ending", "records"),
    [
        ("7.dev.test.", "A", Ending.ANSWER, ["7.dev.test. 60 IN A 10.0.0.7"]),
        ("7.dev.test.", "AAAA", Ending.NODATA, []),
        ("300.dev.test.", "A", Ending.FAILED, []),
        ("x.dev.test.", "A", Ending.FAILED, []),
        (
            "a.shop.test.",
            "A",
            Ending.ANSWER,
            [
                "a.shop.test. 60 IN CNAME web.shop.svc.cluster.local.",
                "web.shop.svc.cluster.local. 5 IN A 10.96.0.7",
            ],
        ),
        ("me.test.", "TXT", Ending.ANSWER, ["{{ .Name }} 60 IN TXT {{ .Remote }}"]),
        ("a.gone.test.", "A", Ending.NXDOMAIN, []),
        ("a.no.test.", "A", Ending.FAILED, []),
    ],
)
def test_what_a_template_answers(text: str, rtype: str, ending: Ending, records: list[str]) -> None:
    tried = by_template(text, rtype)
    assert (tried.ending, tried.records, tried.directive) == (ending, records, "template")


def test_which_template_it_is_and_why_is_told() -> None:
    fits = by_template("7.dev.test.").notes
    assert fits == ["template (Corefile:2): ^(?P<n>[0-9]+)[.]dev[.]test[.]$ fits"]
    assert "each query has an answer of its own" in by_template("me.test.", "TXT").notes
    for text, missing in (
        ("x.dev.test.", "no match of template (Corefile:2) fits"),
        ("300.dev.test.", "template (Corefile:2) makes no record of it: answer"),
        ("a.no.test.", "the template answers REFUSED"),
    ):
        assert by_template(text).reasons.missing[0].startswith(missing)
    passed = by_template("x.up.dev.test.")
    assert (passed.ending, passed.directive) == (Ending.UPSTREAM, "forward")
    assert passed.notes[0] == "template (Corefile:2): no match fits, and the name goes on"


def test_the_search_ends_with_the_first_answer() -> None:
    plan = make_plan(COREFILE.format(options="ttl 5"), "Corefile", environ={})
    explainer = Explainer(plan, [made(tree)[1] for tree in TREES], read)
    found = explainer.explain(candidates("web.shop", search_list("pay", "cluster.local")), "A")
    assert [tried.ending for tried in found.tried] == [Ending.NXDOMAIN, Ending.ANSWER]
    assert found.answer is found.tried[-1]
    assert [candidate.name for candidate in found.left] == ["web.shop.cluster.local.", "web.shop."]


def test_the_name_of_an_address_is_its_reverse_name() -> None:
    assert address_of("10.96.0.7") == "7.0.96.10.in-addr.arpa."
    assert address_of("web") == "web"


def test_that_some_addresses_come_first_is_told() -> None:
    expected = "addresses are handed out in turn; always first are addresses in 10.1.0.0/16"
    assert follow("db.shop.svc.alone.test.").notes == [f"loadbalance: {expected}"]
    assert follow("db.shop.S").notes == []


HOSTS = """hosts.test 192.0.2.0/24 {{
    hosts {path} {{
        192.0.2.3 WWW.hosts.test
        {fallthrough}
    }}
    forward . 127.0.0.1
}}
"""


def in_hosts(text: str, rtype: str = "A", fallthrough: str = "", path: str = "/hosts") -> Tried:
    plan = make_plan(HOSTS.format(path=path, fallthrough=fallthrough), "Corefile", environ={})
    return Explainer(plan, [], read).follow(text, rtype)


@pytest.mark.parametrize(
    ("text", "rtype", "ending", "records", "rests_on"),
    [
        (
            "www.hosts.test.",
            "A",
            Ending.ANSWER,
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            [
                "/hosts:2: 192.0.2.1 www.hosts.test www",
                "/hosts:3: 192.0.2.2 www.hosts.test *.hosts.test",
                "Corefile:3: 192.0.2.3 www.hosts.test",
            ],
        ),
        (
            "x.hosts.test.",
            "A",
            Ending.ANSWER,
            ["192.0.2.2"],
            ["/hosts:3: 192.0.2.2 www.hosts.test *.hosts.test"],
        ),
        (
            "x.hosts.test.",
            "AAAA",
            Ending.NODATA,
            [],
            ["/hosts:3: 192.0.2.2 www.hosts.test *.hosts.test"],
        ),
        (
            "1.2.0.192.in-addr.arpa.",
            "PTR",
            Ending.ANSWER,
            ["www.hosts.test."],
            ["/hosts:2: 192.0.2.1 www.hosts.test www"],
        ),
    ],
)
def test_an_answer_of_hosts_has_its_lines(
    text: str, rtype: str, ending: Ending, records: list[str], rests_on: list[str]
) -> None:
    tried = in_hosts(text, rtype)
    assert (tried.ending, tried.directive) == (ending, "hosts")
    assert [record.split()[-1] for record in tried.records] == records
    assert tried.reasons.rests_on == rests_on


def test_what_hosts_does_not_have_fails_or_goes_on() -> None:
    tried = in_hosts("a.b.hosts.test.")
    assert (tried.ending, tried.directive) == (Ending.FAILED, "hosts")
    assert tried.reasons.missing == ["hosts has no entry of this name, and does not pass it on"]
    assert in_hosts("a.b.hosts.test.", fallthrough="fallthrough").directive == "forward"
    assert in_hosts("a.b.hosts.test.", "PTR").directive == "forward"
    assert in_hosts("9.2.0.192.in-addr.arpa.", "PTR").directive == "forward"


def test_a_file_of_hosts_that_is_not_here_leaves_the_corefile_s_lines() -> None:
    tried = in_hosts("www.hosts.test.", path="/none")
    assert tried.records == ["www.hosts.test. 3600 IN A 192.0.2.3"]
    assert tried.open == ["hosts: /none: expected a file"]


REWRITING = r""". {
    rewrite continue name regex (.*)\.corp\.test {1}.shop.svc.cluster.local answer auto
    %s
    rewrite name other.test www.example.test
    kubernetes cluster.local
    forward . 127.0.0.1
}
"""


def rewritten(
    text: str, rtype: str = "A", rule: str = "rewrite rcode web.shop.svc.cluster.local 0 0"
) -> Tried:
    plan = make_plan(REWRITING % rule, "Corefile", environ={})
    return Explainer(plan, [made(tree)[1] for tree in TREES], read).follow(full(text), rtype)


def test_a_name_that_is_rewritten_is_followed_as_the_other_one_and_answered_as_itself() -> None:
    found = rewritten("web.corp.test")
    assert (found.ending, found.directive) == (Ending.ANSWER, "kubernetes")
    assert found.records == ["web.corp.test. 5 IN A 10.96.0.7"]
    assert found.asked == "web.shop.svc.cluster.local."
    assert found.notes[-1] == "it is asked for as web.shop.svc.cluster.local."
    assert found.notes[0].startswith(r"rewrite (Corefile:2): /(.*)\.corp\.test/ is asked for as")
    assert found.open == []


def test_why_the_other_name_is_not_there_is_told() -> None:
    found = rewritten("wab.corp.test")
    assert found.ending is Ending.NXDOMAIN
    assert found.reasons.missing == ["the namespace 'shop' has no service 'wab'"]


def test_an_alias_behind_another_name_is_followed() -> None:
    found = rewritten("in.corp.test")
    assert found.records == [
        "in.corp.test. 5 IN CNAME web.shop.svc.cluster.local.",
        "web.shop.svc.cluster.local. 5 IN A 10.96.0.7",
    ]


def test_what_is_forwarded_under_another_name_is_told() -> None:
    found = rewritten("other.test")
    assert (found.ending, found.asked) == (Ending.UPSTREAM, "www.example.test.")


def test_a_rule_that_makes_no_name_is_where_it_ends() -> None:
    found = rewritten(
        "x.corp.test", rule=f"rewrite name suffix x.shop.svc.cluster.local {'y' * 64}"
    )
    assert (found.ending, found.directive) == (Ending.FAILED, "rewrite")
    assert "label of 64 octets" in found.reasons.missing[0]


def test_another_type_is_looked_up_and_another_class_refused() -> None:
    found = rewritten("web.shop.svc.cluster.local", "MX", "rewrite type MX A")
    assert found.records == ["web.shop.svc.cluster.local. 5 IN A 10.96.0.7"]
    found = rewritten("web.shop.svc.cluster.local", "MX", "rewrite type MX TYPE65400")
    assert found.ending is Ending.NODATA
    found = rewritten("web.shop.svc.cluster.local", "A", "rewrite class IN CH")
    assert (found.ending, found.directive) == (Ending.REFUSED, "rewrite")


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("NOERROR", Ending.NODATA),
        ("SERVFAIL", Ending.FAILED),
        ("REFUSED", Ending.REFUSED),
        ("YXDOMAIN", Ending.FAILED),
        ("NXDOMAIN", Ending.NXDOMAIN),
    ],
)
def test_another_rcode_is_another_ending(code: str, ending: Ending) -> None:
    rule = f"rewrite rcode none.shop.svc.cluster.local NXDOMAIN {code}"
    assert rewritten("none.shop.svc.cluster.local", rule=rule).ending is ending


def test_a_name_of_a_file_is_answered_under_the_name_that_was_asked() -> None:
    text = HOSTS.replace(
        "    hosts {path}", "    rewrite name w.hosts.test www.hosts.test\n    hosts {path}"
    )
    plan = make_plan(text.format(path="/none", fallthrough=""), "Corefile", environ={})
    found = Explainer(plan, [], read).follow("w.hosts.test.", "A")
    assert found.records == ["w.hosts.test. 3600 IN A 192.0.2.3"]


def test_what_a_template_makes_of_the_other_name_is_answered_under_the_one_that_was_asked() -> None:
    text = r"""t.test {
    rewrite name exact a.t.test b.t.test
    template IN A {
        match ^b
        answer "{{ .Name }} 60 IN A 192.0.2.9"
    }
}
"""
    plan = make_plan(text, "Corefile", environ={})
    found = Explainer(plan, [], read).follow("a.t.test.", "A")
    assert (found.ending, found.records) == (Ending.ANSWER, ["a.t.test. 60 IN A 192.0.2.9"])


@pytest.mark.parametrize("text", ["in.shop.svc.cluster.local.", "in.t.test."])
def test_an_alias_that_is_made_to_lead_elsewhere_is_followed_there(text: str) -> None:
    corefile = """. {
    rewrite continue cname suffix web.shop.svc.cluster.local bare.shop.svc.cluster.local
    kubernetes cluster.local
    template IN A t.test {
        answer "{{ .Name }} 60 IN CNAME web.shop.svc.cluster.local."
    }
}
"""
    plan = make_plan(corefile, "Corefile", environ={})
    found = Explainer(plan, [made(tree)[1] for tree in TREES], read).follow(text, "A")
    ttl = 60 if "t.test" in text else 5
    assert (found.ending, found.records) == (
        Ending.ANSWER,
        [
            f"{text} {ttl} IN CNAME bare.shop.svc.cluster.local.",
            "bare.shop.svc.cluster.local. 5 IN A 10.96.0.8",
        ],
    )
