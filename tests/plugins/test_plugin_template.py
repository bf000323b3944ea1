"""template: what queries are answered by patterns and records, mostly as by CoreDNS."""

from collections.abc import Iterable

import dns.edns
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import objects
from kdns.cluster.objects import Meta, Resource
from kdns.cluster.state import Cluster
from kdns.corefile.errors import CorefileError
from kdns.plugins import chaos, kubernetes, metadata, template
from kdns.plugins.block import Block
from kdns.plugins.chain import MAX_ALIASES, Handler, Outcome, Request, failure, refuse
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Lease, Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.telemetry.meters import Values
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Query
from kdns.wire.reply import Reply, RRset, opt_record
from tests.plugins.fakes import (
    FakeParts,
    addresses,
    always,
    ask,
    later,
    populate,
    question,
    reply_now,
    settings,
)
from tests.strategies import names

NEXT = Reply(by="next")
CLIENT = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")
IP = r"""template IN A example {
    match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
    answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
    fallthrough
}"""
HEX = r"""template IN A example {
    match "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$"
    answer "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}"
    fallthrough
}"""  # noqa: E501 - as CoreDNS's documentation has it
PTR = r"""template IN PTR in-addr.arpa {
    match ^(?P<d>[0-9]*)[.](?P<c>[0-9]*)[.](?P<b>[0-9]*)[.](?P<a>[0-9]*)[.]in-addr[.]arpa[.]$
    answer "{{ .Name }} 60 IN PTR ip-{{ .Group.a }}-{{ .Group.b }}-{{ .Group.c }}-{{ .Group.d }}.example."
}"""  # noqa: E501
MX = r"""template IN MX example {
    match ^ip-10-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
    answer "{{ .Name }} 60 IN MX 10 {{ .Name }}"
    additional "{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
    authority  "example. 60 IN NS ns0.example."
    authority  "example. 60 IN NS ns1.example."
    additional "ns0.example. 60 IN A 203.0.113.8"
    fallthrough
}"""
SEARCH = r"""template IN ANY example.com {
    match "example\.com\.(dc1\.example\.com\.)$"
    rcode NXDOMAIN
    authority "{{ index .Match 1 }} 60 IN SOA ns.{{ index .Match 1 }} hostmaster.{{ index .Match 1 }} (1 60 60 60 60)"
    fallthrough
}"""  # noqa: E501
INVALID = """template ANY ANY invalid {
    rcode NXDOMAIN
    authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"
    ederror 21 "Blocked according to RFC2606"
}"""
SAYS = r"""template IN TXT txt.test {
    match ^(?P<first>[a-z]+)-?(?P<last>[a-z]*)[.]txt[.]test[.]$
    answer "{{ .Name }} IN TXT \"{{ .Group.first }}|{{ .Group.last }}|{{ .Type }}|{{ .Class }}|{{ .Zone }}|{{ index .Group `0` }}\""
}"""  # noqa: E501
NUMBER = r"""template IN A num.test {
    match ^(.*)[.]num[.]test[.]$
    answer "{{ .Name }} 60 IN A 10.0.0.{{ parseInt (index .Match 1) 10 8 }}"
}"""
TWO = r"""template IN A two.test {
    match ^a(?P<x>[0-9])[.] ^b(?P<y>[0-9])[.]
    answer "{{ .Name }} 60 IN A 10.0.0.{{ index .Group `x` }}{{ index .Group `y` }}"
}"""
QUOTED = r"""template IN TXT esc.test {
    match ^(.*)[.]esc[.]test[.]$
    answer "{{ .Name }} 60 IN TXT \"{{ index .Match 1 }}\""
}"""
FOOGLE = r"""template IN ANY foogle.com {
    match "^foogle\.com\.$"
    answer "foogle.com 60 IN CNAME google.com"
}"""
TWICE = """template IN A {
    answer "a. 60 IN A 192.0.2.1" "a. 30 IN A 192.0.2.2"
    answer "A. 60 IN A 192.0.2.1"
}"""
LONG = """template IN A example {
    match ^a
    match ^b
    rcode NXDOMAIN
    authority "a. SOA a. b. 1 2 3 4 5"
    fallthrough a.b
}"""
LONG_TOLD = (
    "IN A of example.; names that fit ^a or ^b; answered with NXDOMAIN, 1 authority record; "
    "others of a.b. go on"
)
TIMES = "1 60 60 60 60"
EVERY = (IP, HEX, PTR, MX, SEARCH, INVALID, SAYS, NUMBER, TWO, QUOTED, FOOGLE)


def built(*texts: str, parts: FakeParts | None = None, following: Handler | None = None) -> Handler:
    """The templates, the first before the others, as a Corefile has them."""
    parts = parts or FakeParts()
    handler = following or always(NEXT)
    for text in reversed(texts):
        handler = settings(template.parse, text).build(parts, handler)
    return handler


def written(reply: Reply, request: Request) -> dns.message.Message:
    """The reply as dnspython reads it."""
    dispatcher = Dispatcher(lambda: 0.0)
    dispatcher.serve(Block((".",), handler=always(reply), classes={iana.CLASS_ANY}))
    query = request.query
    wire = question(
        name.to_text(query.qname), query.qtype, qclass=query.qclass, opt=opt_record(size=4096)
    )
    got = dispatcher(wire, CLIENT)
    assert isinstance(got, bytes)
    return dns.message.from_wire(got)


def texts(handler: Handler, request: Request) -> tuple[str, list[str]]:
    """The rcode, and the records of all sections, each in a line."""
    got = written(reply_now(handler(request)), request)
    sections = (got.answer, got.authority, got.additional)
    lines = [line for part in sections for rrset in part for line in rrset.to_text().split("\n")]
    return dns.rcode.to_text(got.rcode()), lines


# What is answered.


@pytest.mark.parametrize(
    ("text", "qname", "qtype", "rcode", "records"),
    [
        (IP, "ip-1-2-3-4.example", "A", "NOERROR", ["ip-1-2-3-4.example. 60 IN A 1.2.3.4"]),
        (IP, "x.ip-1-2-3-4.example", "A", "NOERROR", ["x.ip-1-2-3-4.example. 60 IN A 1.2.3.4"]),
        # A query for ANY is of every template's type.
        (IP, "ip-1-2-3-4.example", "ANY", "NOERROR", ["ip-1-2-3-4.example. 60 IN A 1.2.3.4"]),
        (HEX, "ip0a7b7b7b.example", "A", "NOERROR", ["ip0a7b7b7b.example. 60 IN A 10.123.123.123"]),
        (
            PTR,
            "4.3.2.1.in-addr.arpa",
            "PTR",
            "NOERROR",
            ["4.3.2.1.in-addr.arpa. 60 IN PTR ip-1-2-3-4.example."],
        ),
        (
            MX,
            "ip-10-1-2-3.example",
            "MX",
            "NOERROR",
            [
                "ip-10-1-2-3.example. 60 IN MX 10 ip-10-1-2-3.example.",
                "example. 60 IN NS ns0.example.",
                "example. 60 IN NS ns1.example.",
                "ip-10-1-2-3.example. 60 IN A 10.1.2.3",
                "ns0.example. 60 IN A 203.0.113.8",
            ],
        ),
        (
            SEARCH,
            "www.example.com.dc1.example.com",
            "A",
            "NXDOMAIN",
            ["dc1.example.com. 60 IN SOA ns.dc1.example.com. hostmaster.dc1.example.com. " + TIMES],
        ),
        (
            INVALID,
            "a.invalid",
            "TXT",
            "NXDOMAIN",
            ["invalid. 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60"],
        ),
        (
            SAYS,
            "foo-bar.txt.test",
            "TXT",
            "NOERROR",
            ['foo-bar.txt.test. 3600 IN TXT "foo|bar|TXT|IN|txt.test.|foo-bar.txt.test."'],
        ),
        (
            SAYS,
            "foo.txt.test",
            "TXT",
            "NOERROR",
            ['foo.txt.test. 3600 IN TXT "foo||TXT|IN|txt.test.|foo.txt.test."'],
        ),
        (NUMBER, "007.num.test", "A", "NOERROR", ["007.num.test. 60 IN A 10.0.0.7"]),
        (TWO, "a1.two.test", "A", "NOERROR", ["a1.two.test. 60 IN A 10.0.0.1"]),
        (TWO, "b2.two.test", "A", "NOERROR", ["b2.two.test. 60 IN A 10.0.0.2"]),
        (QUOTED, r"a\"b\;.esc.test", "TXT", "NOERROR", [r'a\"b\;.esc.test. 60 IN TXT "a\"b;"']),
        (QUOTED, r"a\000b.esc.test", "TXT", "NOERROR", [r'a\000b.esc.test. 60 IN TXT "a\000b"']),
        # What has no records says what its rcode says, without a SOA.
        ("template IN AAAA", "a.example", "AAAA", "NOERROR", []),
        ("template ANY ANY {\n rcode NXDOMAIN\n}", "a.example", "A", "NXDOMAIN", []),
        ("template ANY ANY {\n rcode REFUSED\n}", "a.example", "A", "REFUSED", []),
        ("template ANY ANY {\n rcode BADKEY\n}", "a.example", "A", "BADKEY", []),
        # No record twice in a set, and one TTL for it.
        (
            TWICE,
            "a",
            "A",
            "NOERROR",
            ["a. 30 IN A 192.0.2.1", "a. 30 IN A 192.0.2.2"],
        ),
        # Records that are no records, and templates that make none.
        (IP, "ip-1-2-3-444.example", "A", "SERVFAIL", []),
        (IP, "ip-1-2--4.example", "A", "SERVFAIL", []),
        (IP, "ip-01-2-3-4.example", "A", "SERVFAIL", []),
        (NUMBER, "300.num.test", "A", "SERVFAIL", []),
        (NUMBER, "x.num.test", "A", "SERVFAIL", []),
        (PTR, "3.2.1.in-addr.arpa", "PTR", "SERVFAIL", []),
        (
            'template ANY ANY {\n rcode SERVFAIL\n answer "a. A 192.0.2.1"\n}',
            "a",
            "A",
            "SERVFAIL",
            [],
        ),
    ],
)
def test_a_query_is_answered(
    text: str, qname: str, qtype: str, rcode: str, records: list[str]
) -> None:
    number = {text: number for number, text in iana.TYPE_NAMES.items()}[qtype]
    assert texts(built(text), ask(qname, number)) == (rcode, records)


@pytest.mark.parametrize(
    ("text", "qname", "qtype"),
    [
        (IP, "ip-1-2-3-4.example", iana.AAAA),
        (IP, "ip-1-2-3-4.other", iana.A),
        (IP, "none.example", iana.A),
        (IP, "notexample", iana.A),
        ("template CH TXT", "a.example", iana.TXT),
        (
            "template IN A {\n match ^x\n fallthrough a.example b.example\n}",
            "c.a.example",
            iana.A,
        ),
    ],
)
def test_what_is_none_of_its_business_goes_on(text: str, qname: str, qtype: int) -> None:
    assert reply_now(built(text)(ask(qname, qtype))).by == "next"


@pytest.mark.parametrize("option", ["", "fallthrough b.example"])
def test_a_name_that_nothing_fits_and_that_does_not_go_on_is_a_failure(option: str) -> None:
    handler = built(f"template IN A {{\n match ^x\n {option}\n}}")
    reply = reply_now(handler(ask("c.a.example")))
    assert (reply.rcode, reply.by, reply.aa) == (Rcode.SERVFAIL, "template", False)
    assert reply.error == "no match of the template fits, and no fallthrough"


def test_templates_are_tried_in_their_order() -> None:
    handler = built(IP, HEX, 'template IN A example {\n answer "{{ .Name }} A 192.0.2.9"\n}')
    found = [texts(handler, ask(q))[1] for q in ("ip0a000001.example", "x.example")]
    assert found == [["ip0a000001.example. 60 IN A 10.0.0.1"], ["x.example. 3600 IN A 192.0.2.9"]]


def test_the_zones_are_the_block_s_and_the_longest_that_fits_is_the_zone() -> None:
    handler = settings(template.parse, "template IN TXT", ("example.", "a.example."))
    assert isinstance(handler, template.Template)
    text = 'template IN TXT example a.example {\n answer "{{ .Zone }} TXT x"\n}'
    assert handler.zones == ("example.", "a.example.")
    assert texts(built(text), ask("x.a.example", iana.TXT))[1] == ['a.example. 3600 IN TXT "x"']


def test_what_is_answered_is_authoritative_and_says_which_template_it_was() -> None:
    reply = reply_now(built(IP)(ask("ip-1-2-3-4.example")))
    assert (reply.aa, reply.by) == (True, "template/example. IN A")


def test_the_extended_error_goes_along() -> None:
    for text in (INVALID, INVALID.replace("NXDOMAIN", "SERVFAIL")):
        reply = reply_now(built(text)(ask("a.invalid")))
        (option,) = written(reply, ask("a.invalid")).options
        assert isinstance(option, dns.edns.EDEOption)
        assert (option.code, option.text) == (21, "Blocked according to RFC2606")


def test_what_a_client_is_may_be_told() -> None:
    text = (
        'template IN TXT {\n answer "a. TXT {{ .Remote }} {{ .Message.Id }} {{ .Question.Name }}'
        ' {{ .Question.Qtype }} {{ .Question.Qclass }} {{ .Regex }} x{{ .Meta `me/host` }}"\n}'
    )
    parts = FakeParts()
    parts.block.labels.append(lambda request, _: {"me/host": request.peer.host})
    handler = built(text, parts=parts)
    expected = '"10.0.0.1" "7" "A.Example." "16" "1" ".*" "x'
    request = ask("A.Example", iana.TXT)
    assert texts(handler, request)[1] == [f'a. 3600 IN TXT {expected}"']
    settings(metadata.parse, "metadata").build(parts, refuse)
    assert texts(handler, request)[1] == [f'a. 3600 IN TXT {expected}10.0.0.1"']


# Classes.


def test_of_other_classes_only_templates_have_something() -> None:
    parts = FakeParts()
    handler = built(INVALID, IP, parts=parts)
    assert parts.block.classes == {iana.CLASS_ANY}
    assert texts(handler, ask("a.invalid", iana.A, qclass=iana.CH))[1] == [
        "invalid. 60 CH SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60"
    ]
    reply = reply_now(handler(ask("a.example", iana.A, qclass=iana.CH)))
    assert (reply.rcode, reply.by) == (Rcode.REFUSED, "")


def test_a_query_of_class_any_is_of_the_template_s_class() -> None:
    text = 'template CH TXT {\n answer "a. 0 {{ .Class }} TXT x"\n}'
    request = ask("a", iana.TXT, qclass=iana.CLASS_ANY)
    reply = reply_now(built(text)(request))
    assert [rrset.rclass for rrset in reply.answer] == [iana.CH]


def test_a_block_is_asked_of_the_classes_that_it_has() -> None:
    parts = FakeParts()
    parts.block.handler = built("template HS ANY", parts=parts)
    dispatcher = Dispatcher(lambda: 0.0)
    dispatcher.serve(parts.block)
    rcodes = []
    for qclass in (iana.IN, iana.CH, 4):
        got = dispatcher(question("a.example", qclass=qclass), CLIENT)
        assert isinstance(got, bytes)
        rcodes.append(got[3] & 15)
    assert rcodes == [Rcode.NOERROR, Rcode.REFUSED, Rcode.NOERROR]


def test_what_chaos_does_not_know_a_template_may_know() -> None:
    parts = FakeParts()
    handler = built(INVALID, parts=parts)
    handler = settings(chaos.parse, "chaos").build(parts, handler)
    for qtype in (iana.A, iana.TXT):
        reply = reply_now(handler(ask("a.invalid", qtype, qclass=iana.CH)))
        assert reply.rcode == Rcode.NXDOMAIN
    reply = reply_now(handler(ask("version.bind", iana.TXT, qclass=iana.CH)))
    assert reply.by == "chaos"


# Aliases.


def leading_to(resolver: Handler, text: str = FOOGLE) -> Handler:
    return built(text, parts=FakeParts(resolver=resolver))


@pytest.mark.parametrize(
    ("found", "rcode", "records"),
    [
        (Reply(answer=(addresses("google.com", 1),), by="forward"), Rcode.NOERROR, 2),
        (Reply(by="forward"), Rcode.NOERROR, 1),
        # RFC 6604: the rcode is that of the chain's end.
        (Reply(Rcode.NXDOMAIN, by="forward"), Rcode.NXDOMAIN, 1),
        (failure("timeout", "forward"), Rcode.SERVFAIL, 1),
        (Reply(Rcode.REFUSED, by="forward"), Rcode.SERVFAIL, 1),
        # Nobody here serves it: what we know is the whole of our answer.
        (Reply(Rcode.REFUSED), Rcode.NOERROR, 1),
    ],
)
def test_an_alias_is_followed_by_the_server(found: Reply, rcode: int, records: int) -> None:
    reply = reply_now(leading_to(always(found))(ask("foogle.com")))
    assert (reply.rcode, len(reply.answer), reply.aa) == (rcode, records, True)
    assert reply.by == "template/foogle.com. IN A"


def test_the_server_is_asked_for_the_target_and_the_type() -> None:
    asked: list[Request] = []

    def resolver(request: Request) -> Outcome:
        asked.append(request)
        return Reply(by="next")

    handler = leading_to(resolver)
    for qtype in (iana.A, iana.TXT, iana.CNAME, iana.ANY):
        handler(ask("foogle.com", qtype))
    assert [(name.to_text(r.query.key), r.query.qtype) for r in asked] == [
        ("google.com.", iana.A),
        ("google.com.", iana.TXT),
    ]


def test_an_alias_may_be_answered_later() -> None:
    pending: Pending[Reply] = Pending()
    outcome = leading_to(later(pending))(ask("foogle.com"))
    pending.resolve(Reply(answer=(addresses("google.com", 1),), by="forward"))
    assert len(reply_now(outcome).answer) == 2


@pytest.mark.parametrize(
    "answer",
    [
        '"{{ .Name }} CNAME b." "b. A 192.0.2.1"',
        '"{{ .Name }} CNAME b." "b. CNAME c." "c. A 192.0.2.1"',
        '"{{ .Name }} CNAME {{ .Name }}"',
        '"{{ .Name }} CNAME b." "b. CNAME {{ .Name }}"',
        '"{{ .Name }} CNAME b." "b. CNAME b."',
        '"other. CNAME b."',
        '"{{ .Name }} A 192.0.2.1"',
    ],
)
def test_nobody_is_asked_for_what_is_there_or_leads_nowhere(answer: str) -> None:
    def resolver(request: Request) -> Outcome:
        raise AssertionError(request)

    reply = reply_now(leading_to(resolver, f"template IN A {{\n answer {answer}\n}}")(ask("a")))
    assert reply.rcode == Rcode.NOERROR


def test_a_ring_of_templates_ends() -> None:
    asked: list[Request] = []
    text = (
        'template IN A {\n match ^(.*)[.]$\n answer "{{ .Name }} CNAME x{{ index .Match 1 }}."\n}'
    )

    def resolver(request: Request) -> Outcome:
        asked.append(request)
        return handler(request)

    handler = leading_to(resolver, text)
    reply = reply_now(handler(ask("a")))
    assert (len(asked), len(reply.answer)) == (MAX_ALIASES, MAX_ALIASES + 1)


# What is kept hot.


class Server(FakeParts):
    """A port that templates answer on."""

    def serve(self, *texts: str) -> "Server":
        self.dispatcher = Dispatcher(self.monotonic)
        self.block.handler = built(*texts, parts=self)
        self.block.counted = True
        self.dispatcher.serve(self.block)
        self.table = Table("udp", 1)
        self.front = self.dispatcher.front(self.table)
        return self

    def forget(self, changed: Iterable[object]) -> None:
        self.dispatcher.hot.forget(changed)

    def ask(self, qname: str, qtype: int = iana.A) -> dns.message.Message:
        got = self.front(question(qname, qtype), CLIENT)
        assert isinstance(got, bytes)
        return dns.message.from_wire(got)

    def counted(self, metric: str) -> Values:
        self.table.count()
        self.block.counters.settle()
        (sample,) = [one for one in self.meters.sample() if one.name == metric]
        return dict(sample.numbers)


def test_an_answer_that_is_the_question_s_alone_is_kept_hot() -> None:
    server = Server().serve(IP)
    for _ in range(4):
        assert server.ask("ip-1-2-3-4.example").answer[0][0].to_text() == "1.2.3.4"
    assert [entry.hits for entry in server.table.entries.values()] == [3]
    assert server.ask("IP-1-2-3-4.Example").question[0].name.to_text() == "IP-1-2-3-4.Example."


@pytest.mark.parametrize("field", [".Remote", ".Message.Id", ".Question.Name", ".Meta `a/b`"])
def test_an_answer_that_may_differ_for_the_next_is_not(field: str) -> None:
    server = Server().serve(f'template IN TXT {{\n answer "a. TXT x{{{{ {field} }}}}"\n}}')
    for _ in range(3):
        server.ask("a", iana.TXT)
    assert len(server.dispatcher.hot) == 0


def test_failures_are_not() -> None:
    server = Server().serve(NUMBER)
    for _ in range(3):
        assert server.ask("x.num.test").rcode() == dns.rcode.SERVFAIL
    assert len(server.dispatcher.hot) == 0


def test_random_names_do_not_fill_the_memory() -> None:
    server = Server().serve("template IN AAAA")
    server.dispatcher.hot = type(server.dispatcher.hot)(limit=100)
    for number in range(1000):
        server.ask(f"n{number}.example", iana.AAAA)
    assert len(server.dispatcher.hot) <= 100


@pytest.mark.parametrize(
    ("found", "depends"),
    [
        ((), ()),
        (("service",), ("service",)),
        (None, None),
        ((Lease(),), None),
    ],
)
def test_an_alias_rests_on_what_its_end_rests_on(
    found: tuple[object, ...] | None, depends: tuple[object, ...] | None
) -> None:
    end = Reply(
        answer=(addresses("google.com", 1, 2),), by="kubernetes", depends=found, rotated=True
    )
    reply = reply_now(leading_to(always(end))(ask("foogle.com")))
    assert (reply.depends, reply.rotated) == (depends, True)


def test_an_alias_into_the_cluster_is_hot_until_its_service_changes() -> None:
    text = 'template IN A {\n answer "{{ .Name }} CNAME web.shop.svc.cluster.local"\n}'
    server = Server().serve(text)
    cluster = kubernetes_of(server)
    for _ in range(3):
        assert server.ask("a.dev.test").answer[1][0].to_text() == "10.96.0.1"
    assert len(server.table.entries) == 1
    changed = objects.ServiceSpec(type="ClusterIP", cluster_ips=["10.96.0.2"])
    cluster.apply(Resource.SERVICES, objects.Service(Meta("web", "shop"), changed))
    assert server.ask("a.dev.test").answer[1][0].to_text() == "10.96.0.2"


def kubernetes_of(server: Server) -> Cluster:
    """A cluster whose names the server finds at the end of aliases."""
    server.resolver = settings(kubernetes.parse, "kubernetes cluster.local").build(server, refuse)
    (cluster,) = server.all_clusters()
    populate(cluster)
    return cluster


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("template ANY ANY a.test b.test", ["a.test.", "b.test."]),
        ("template IN ANY a.test", ["a.test."]),
        ("template IN A a.test", []),
        ("template IN ANY a.test {\n fallthrough\n}", []),
    ],
)
def test_zones_of_which_nobody_else_is_asked_are_our_own(text: str, own: list[str]) -> None:
    parts = FakeParts()
    built(text, parts=parts)
    assert [name.to_text(zone) for zone in parts.block.own_zones] == own


# What is counted.


def test_matches_are_counted_hot_ones_too() -> None:
    server = Server().serve(IP, HEX, MX)
    for _ in range(3):
        server.ask("ip-1-2-3-4.example")
    server.ask("ip0a000001.example")
    server.ask("ip-10-1-2-3.example", iana.MX)
    server.ask("unknown.example")
    assert server.counted("coredns_template_matches") == {
        ("dns://:53", "example.", "", "IN", "A"): 4,
        ("dns://:53", "example.", "", "IN", "MX"): 1,
    }


def test_failures_are_counted_by_their_template() -> None:
    server = Server().serve(NUMBER, 'template IN ANY {\n answer "a. IN {{ .Type }} 192.0.2.1"\n}')
    server.ask("x.num.test")
    server.ask("a", 65_400)
    server.ask("a", iana.AAAA)
    place = ("dns://:53", ".", "", "IN")
    text = "a. IN {{ .Type }} 192.0.2.1"
    assert server.counted("coredns_template_rr_failures") == {
        (*place, "", "answer", text): 1,
        (*place, "AAAA", "answer", text): 1,
    }
    assert server.counted("coredns_template_template_failures") == {
        (
            "dns://:53",
            "num.test.",
            "",
            "IN",
            "A",
            "answer",
            "{{ .Name }} 60 IN A 10.0.0.{{ parseInt (index .Match 1) 10 8 }}",
        ): 1
    }


# Any name.


@given(names(), st.sampled_from(sorted(iana.TYPE_NAMES)), st.sampled_from(EVERY))
def test_any_name_through_any_template_is_answered_and_can_be_read(
    key: bytes, qtype: int, text: str
) -> None:
    handler = built(text, parts=FakeParts(resolver=always(Reply(Rcode.REFUSED))))
    request = Request(Query(key, qtype), CLIENT)
    reply = reply_now(handler(request))
    assert reply.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.SERVFAIL)
    written(reply, request)


@given(names())
def test_a_name_in_a_record_stays_that_name(key: bytes) -> None:
    """Whatever octets it holds: it ends no word, no record and no quotes."""
    handler = built('template IN CNAME {\n answer "{{ .Name }} 60 IN CNAME {{ .Name }}"\n}')
    reply = reply_now(handler(Request(Query(key, iana.CNAME), CLIENT)))
    assert reply.answer == (RRset(key.lower(), iana.CNAME, 60, (key.lower(),)),)


# How it is read.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("template ANY AAAA", "ANY AAAA of .; answered with no data"),
        (
            LONG,
            LONG_TOLD,
        ),
        (
            'template IN A {\n answer "a. A 192.0.2.1" "a. A 192.0.2.2"\n fallthrough\n}',
            "IN A of .; answered with 2 answer records; others of . go on",
        ),
        ("template IN A {\n rcode DSOTYPENI\n}", "IN A of .; answered with DSOTYPENI"),
        ("template IN A 10.0.0.0/24", "IN A of 0.0.10.in-addr.arpa.; answered with no data"),
    ],
)
def test_it_is_explained(text: str, told: str) -> None:
    assert settings(template.parse, text).explain() == told


def test_upstream_is_read_and_has_no_effect() -> None:
    read = settings(template.parse, "template IN A {\n upstream 192.0.2.1\n}")
    (warning,) = read.warnings()
    assert warning.startswith("Corefile:3: upstream has no effect")
    assert settings(template.parse, "template IN A").warnings() == ()


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("template", 2, "template: expected at least 2 arguments, got 0"),
        ("template IN", 2, "template: expected at least 2 arguments, got 1"),
        ("template XX A", 2, "expected a class such as IN, CH, HS, got 'XX'"),
        ("template IN XX", 2, "expected a type such as A, NS, CNAME, got 'XX'"),
        ("template IN A a..b", 2, "expected a domain name"),
        ("template IN A {\n match\n}", 3, "match: expected at least 1 argument"),
        ("template IN A {\n match (a\n}", 3, "match: expected a regular expression of RE2"),
        ("template IN A {\n answer\n}", 3, "answer: expected at least 1 argument"),
        ("template IN A {\n answer a. 60 IN A 192.0.2.1\n}", 3, "a record stands in quotes"),
        ('template IN A {\n answer "a. A 192.0.2.256"\n}', 3, "expected an IPv4 address"),
        ('template IN A {\n answer "a.. A 192.0.2.1"\n}', 3, "expected a domain name"),
        ('template IN A {\n additional "{{ if .Name }}"\n}', 3, "is not supported; expected .Name"),
        ('template IN A {\n authority "{{ .Group.a }}"\n}', 3, "no match has a group 'a'"),
        ('template IN A {\n answer "{{ index .Match 1 }}"\n}', 3, "group's number from 0 to 0"),
        ("template IN A {\n rcode nxdomain\n}", 3, "expected an rcode such as NOERROR"),
        ("template IN A {\n rcode NXDOMAIN x\n}", 3, "rcode: expected 1 argument, got 2"),
        ("template IN A {\n ederror\n}", 3, "ederror: expected 1 to 2 arguments"),
        ("template IN A {\n ederror 65536\n}", 3, "expected a number from 0 to 65535"),
        ("template IN A {\n fallthrough a..b\n}", 3, "expected a domain name"),
        ("template IN A {\n\n nope\n}", 4, "template: unknown option 'nope'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(CorefileError) as raised:
        settings(template.parse, text)
    assert str(raised.value).startswith(f"Corefile:{line}: ")
    assert why in str(raised.value)


def test_records_may_stand_before_what_they_are_made_of() -> None:
    text = 'template IN A {\n answer "a. A 10.0.0.{{ .Group.x }}"\n match ^(?P<x>[0-9]+)[.]\n}'
    assert texts(built(text), ask("7.example"))[1] == ["a. 3600 IN A 10.0.0.7"]
