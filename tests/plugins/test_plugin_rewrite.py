"""rewrite: what is asked in the place of a question, and what comes of the reply to it."""

from collections.abc import Callable

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.plugins import chaos, rewrite, template
from kdns.plugins.block import Block
from kdns.plugins.chain import MAX_ALIASES, Handler, Outcome, Request, Withheld
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Lease
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.plugins.rewrite import Rewriter
from kdns.wire import iana, name, rdata
from kdns.wire.iana import Rcode
from kdns.wire.message import Edns
from kdns.wire.passed import read_passed
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import (
    FakeParts,
    addresses,
    always,
    ask,
    later,
    question,
    reply_now,
    says,
    settings,
)
from tests.strategies import names, queries, replies

PEER = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")


def built(*rules: str, following: Handler, parts: FakeParts | None = None) -> Handler:
    """The handler of these directives, before `following`."""
    parts = parts or FakeParts()
    handler = following
    for rule in reversed(rules):
        handler = settings(rewrite.parse, f"rewrite {rule}").build(parts, handler)
    return handler


class Next:
    """The next directive: tells what it is asked, and answers from `made`."""

    def __init__(self, made: Callable[[Request], Reply] = lambda request: Reply()) -> None:
        self.asked: list[Request] = []
        self._made = made

    def __call__(self, request: Request) -> Outcome:
        self.asked.append(request)
        return self._made(request)

    @property
    def names(self) -> list[str]:
        return [name.to_text(request.query.qname) for request in self.asked]


def asked_as(qname: str, *rules: str, qtype: int = iana.A) -> str:
    """The name that is asked in the place of another."""
    following = Next()
    reply = reply_now(built(*rules, following=following)(ask(qname, qtype)))
    return following.names[0] if following.asked else iana.rcode_text(reply.rcode)


# What is asked. All of it as CoreDNS 1.13.2 has it, unless the test says otherwise.

SHOP = "x.shop.svc.cluster.local."


@pytest.mark.parametrize(
    ("rule", "qname", "asked"),
    [
        ("name old.test new.test", "old.test", "new.test."),
        ("name exact OLD.test NEW.test.", "Old.Test", "new.test."),
        ("name old.test new.test", "x.old.test", "x.old.test."),
        ("name prefix pre new", "pre.test", "new.test."),
        ("name prefix pre. new.er.", "pre.test", "new.er.test."),
        # As there, a part without a dot at its end gets one.
        ("name prefix pre new", "prefix.test", "prefix.test."),
        ("name suffix .old.test .new.test", "a.b.old.test", "a.b.new.test."),
        ("name suffix .old.test. .new.test.", "old.test", "old.test."),
        ("name suffix old.test new.test", "gold.test", "gnew.test."),
        ("name substring sub.one. two.", "sub.one.sub.one.test", "two.two.test."),
        ("name substring sub two", "subway.test", "subway.test."),
        (r"name regex (.*)\.corp\.example {1}.shop.svc.cluster.local", "X.corp.example", SHOP),
        (r"name regex (.*)\.corp {1}.shop.svc.cluster.local", "x.corp.example.more", SHOP),
        (r"name regex (.*)-(.*)\.a {2}.{1}.{0}b", "x-y.a", "y.x.x-y.ab."),
        ("name REGEX (a)|(b) {2}x.test", "a.test", "x.test."),
        ("STOP name regex ^a b", "a.test", "b."),
        ("type HINFO A", "old.test", "old.test."),
        ("ttl old.test 5", "old.test", "old.test."),
    ],
)
def test_which_name_is_asked_for(rule: str, qname: str, asked: str) -> None:
    assert asked_as(qname, rule) == asked


def test_a_name_that_no_rule_is_about_is_asked_for_as_it_was_sent() -> None:
    assert asked_as("WwW.Test", "name old.test new.test", "type MX A") == "WwW.Test."
    assert asked_as("WwW.Test", "type MX A", qtype=iana.MX) == "WwW.Test."


def test_the_first_rule_that_matches_is_the_last_unless_it_goes_on() -> None:
    first, second = "name suffix .a.test .b.test", "name suffix .b.test .c.test"
    assert asked_as("x.a.test", first, second) == "x.b.test."
    assert asked_as("x.a.test", f"continue {first}", second) == "x.c.test."
    assert asked_as("x.a.test", f"continue {second}", f"continue {first}") == "x.b.test."
    assert asked_as("x.a.test", "ttl x.a.test 5", first) == "x.a.test."


def test_the_rules_of_a_block_are_one_handler() -> None:
    handler = built("name a b", "name c d", "type MX A", following=Next())
    assert isinstance(handler, Rewriter)
    assert len(handler.rules) == 3


def test_types_and_classes_are_exchanged() -> None:
    following = Next()
    handler = built("continue type HINFO A", "class CH IN", following=following)
    reply_now(handler(ask("a.test", iana.HINFO, qclass=iana.CH)))
    (asked,) = following.asked
    assert (asked.query.qtype, asked.query.qclass) == (iana.A, iana.IN)


def test_all_else_of_the_query_stays() -> None:
    edns = Edns(1232, 0, True, ((10, b"8 octets"),))
    following = Next()
    request = ask("a.test", flags=iana.RD | iana.CD, edns=edns)._replace(aliases=3)
    reply_now(built("name a.test b.test", following=following)(request))
    (asked,) = following.asked
    assert (asked.peer, asked.aliases) == (request.peer, 3)
    query = asked.query
    assert (query.id, query.flags, query.edns, query.size) == (7, iana.RD | iana.CD, edns, 41)


@pytest.mark.parametrize("rule", ["class CH HS", "class CH ANY"])
def test_what_is_of_another_class_in_the_end_is_refused(rule: str) -> None:
    following = Next()
    reply = reply_now(built(rule, following=following)(ask("a.test", qclass=iana.CH)))
    assert (reply.rcode, reply.by, following.asked) == (Rcode.REFUSED, "rewrite", [])


LONG = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.old.test"


@pytest.mark.parametrize(
    ("rule", "qname", "why"),
    [
        (f"name suffix .old.test .{'d' * 60}.test", LONG, "octets; at most 255"),
        (f"name prefix a. {'a' * 64}.", "a.test", "label of 64 octets"),
        ("name substring a. .", "a.test", "an empty label"),
        (r"name regex (.*) {1}.", "a.test", "an empty label"),
    ],
)
def test_what_becomes_no_name_fails_and_says_so(rule: str, qname: str, why: str) -> None:
    following = Next()
    reply = reply_now(built(rule, following=following)(ask(qname)))
    assert (reply.rcode, reply.by, following.asked) == (Rcode.SERVFAIL, "rewrite", [])
    assert reply.error.startswith("invalid name after rewrite: ")
    assert why in reply.error


# What is answered.


def records(*texts: str) -> tuple[RRset, ...]:
    """Record sets: "owner type target"."""
    made = []
    for text in texts:
        owner, kind, target = text.split()
        data = name.from_text(target)
        before = {
            "MX": b"\0\x0a", "SRV": bytes(6), "NAPTR": b"\0\1\0\2\1u\3E2U\0", "TXT": b"\0",
        }.get(kind, b"")  # fmt: skip
        if kind == "SOA":
            data = rdata.soa(data, name.from_text("admin.new.test"), 1, 2, 3, 4, 5)
        number = next(n for n, t in iana.TYPE_NAMES.items() if t == kind)
        made.append(RRset(name.from_text(owner), number, 30, (before + data,)))
    return tuple(made)


def answered(qname: str, *rules: str, answer: tuple[RRset, ...]) -> list[tuple[str, str]]:
    """The owners of an answer, and the names in its data."""
    handler = built(*rules, following=always(Reply(answer=answer)))
    told = []
    for rrset in reply_now(handler(ask(qname))).answer:
        start = {iana.MX: 2, iana.SRV: 6, 35: 11, iana.TXT: 1}.get(rrset.rtype, 0)
        target, _ = name.read(rrset.rdatas[0], start)
        told.append((name.to_text(rrset.owner), name.to_text(target)))
    return told


EVERY = records(*[
    f"x.new.test {kind} y.new.test"
    for kind in ("CNAME", "NS", "PTR", "MX", "SRV", "NAPTR", "DNAME", "SOA")
])  # fmt: skip
TWO = records("new.test CNAME a.new.test", "A.New.Test CNAME other.test")


@pytest.mark.parametrize(
    ("rule", "qname", "answer", "told"),
    [
        # Exactly one name: it and what is below it come back, without being asked to.
        ("name old.test new.test", "old.test", TWO,
         [("old.test.", "a.old.test."), ("A.old.test.", "other.test.")]),
        # A part of a name: what is answered stays as it came.
        ("name suffix old.test new.test", "old.test", TWO,
         [("new.test.", "a.new.test."), ("A.New.Test.", "other.test.")]),
        # The other way round, for all that ends so.
        ("name suffix .old.test .new.test answer auto", "x.old.test", EVERY,
         [("x.old.test.", "y.old.test.")] * 8),
        # What was asked for, and what is below it.
        ("name prefix old new answer auto", "old.test", TWO,
         [("old.test.", "a.old.test."), ("A.old.test.", "other.test.")]),
        ("name substring old. new. answer auto", "x.old.test", EVERY,
         [("x.old.test.", "y.new.test.")] * 8),
        (r"name regex (.*)\.old {1}.new answer auto", "x.old.test", TWO,
         [("new.test.", "a.new.test."), ("A.New.Test.", "other.test.")]),
        # By patterns, owners apart from what records lead to.
        (r"name regex (.*)\.old {1}.new answer name (.*)\.new {1}.n", "x.old", TWO,
         [("new.test.", "a.new.test."), ("a.n.", "other.test.")]),
        (r"name regex (.*)\.old {1}.new answer value ^(a|other)\. {1}.v", "x.old", TWO,
         [("new.test.", "a.v."), ("A.New.Test.", "other.v.")]),
        (r"name regex (.*)\.old {1}.new answer value (.*)\.new\.test {1}.v", "x.old", EVERY,
         [("x.new.test.", "y.v.")] * 8),
        # The last one first.
        ("name exact old.test new.test answer value a.new.test new.test", "old.test", TWO,
         [("old.test.", "old.test."), ("A.old.test.", "other.test.")]),
        # Not what was meant, but no name either: it stays.
        ("name suffix .old.test .new.test answer value (.*) {1}.", "x.old.test", TWO,
         [("new.test.", "a.new.test."), ("A.New.Test.", "other.test.")]),
        ("name suffix .old.test .new.test answer value new.test new.test", "x.old.test", TWO[:1],
         [("new.test.", "new.test.")]),
        # Other types have no names in which anything is looked for.
        ("name exact new.test old.test answer value y z", "new.test",
         records("old.test TXT y.new.test"),
         [("new.test.", "y.new.test.")]),
    ],
)  # fmt: skip
def test_names_in_answers(
    rule: str, qname: str, answer: tuple[RRset, ...], told: list[tuple[str, str]]
) -> None:
    assert answered(qname, rule, answer=answer) == told


def test_several_rules_are_undone_in_the_opposite_order() -> None:
    rules = (
        "continue name suffix .a.test .b.test answer auto",
        "name suffix .b.test .c.test answer auto",
    )
    answer = records("x.c.test CNAME y.c.test", "y.c.test CNAME z.b.test")
    told = [("x.a.test.", "y.a.test."), ("y.a.test.", "z.a.test.")]
    assert answered("x.a.test", *rules, answer=answer) == told


def test_what_would_be_too_long_a_name_stays() -> None:
    deep = ".".join(["a" * 60] * 4)
    answer = records(f"{deep}.x CNAME {deep}.x")
    assert answered("longer.test", "name longer.test x", answer=answer) == [
        (f"{deep}.x.", f"{deep}.x.")
    ]


def test_all_sections_are_mended() -> None:
    reply = Reply(
        answer=records("new.test MX x.new.test"),
        authority=records("new.test NS ns.new.test"),
        additional=(addresses("ns.new.test", 1),),
    )
    reply = reply_now(built("name old.test new.test", following=always(reply))(ask("old.test")))
    assert reply.answer == records("old.test MX x.old.test")
    assert reply.authority == records("old.test NS ns.old.test")
    assert reply.additional == (addresses("ns.old.test", 1),)


def test_sets_that_come_to_be_one_are_one() -> None:
    """RFC 2181, section 5: no record twice, and one TTL, but for signatures."""
    signature = b"\0\1" + bytes(16)
    answer = (
        addresses("a.new.test", 1, 2, ttl=30),
        addresses("b.new.test", 2, 3, ttl=20),
        RRset(name.from_text("a.new.test"), 46, 30, (signature,)),
        RRset(name.from_text("b.new.test"), 46, 20, (signature,)),
    )
    rule = r"name regex (.*)\.old {1}.new answer name .*\.new\.test one.test"
    reply = reply_now(built(rule, following=always(Reply(answer=answer)))(ask("x.old")))
    one = name.from_text("one.test")
    assert reply.answer == (
        addresses("one.test", 1, 2, 3, ttl=20),
        RRset(one, 46, 30, (signature,)),
        RRset(one, 46, 20, (signature,)),
    )


def test_data_that_come_to_be_alike_are_there_once() -> None:
    hosts = tuple(name.from_text(text) for text in ("a.new.test", "b.new.test"))
    answer = (RRset(name.from_text("x.test"), iana.NS, 30, hosts),)
    rule = "name suffix .test .test answer value new one"
    reply = reply_now(built(rule, following=always(Reply(answer=answer)))(ask("x.test")))
    assert reply.answer[0].rdatas == (name.from_text("one"),)


@pytest.mark.parametrize(
    ("rule", "ttls"),
    [
        ("ttl a.test 5", [5, 5]),
        ("ttl exact A.test. 0", [0, 0]),
        ("ttl prefix a 60-100", [60, 100]),
        ("ttl suffix xt -100", [20, 200]),
        ("ttl suffix est -100", [20, 100]),
        ("ttl substring a.te 100-", [20, 200]),
        ("ttl substring a.test 100-", [100, 200]),
        ("ttl regex ^[ab] 30-30", [30, 30]),
        ("ttl b.test 5", [20, 200]),
    ],
)
def test_ttls(rule: str, ttls: list[int]) -> None:
    answer = (addresses("a.test", 1, ttl=20), addresses("b.other", 2, ttl=200))
    handler = built(rule, following=always(Reply(answer=answer, authority=answer)))
    reply = reply_now(handler(ask("a.test")))
    assert [r.ttl for r in reply.answer] == [r.ttl for r in reply.authority] == ttls


def test_ttls_that_count_down_are_made_anew_each_time() -> None:
    """A lease makes TTLs lower where they stand, below what the rule says."""
    lease = Lease()
    found = Reply(answer=(addresses("a.test", 1),), depends=(lease,))
    reply = reply_now(built("ttl a.test 5", following=always(found))(ask("a.test")))
    assert reply.depends is not None
    assert (reply.depends[0], len(reply.depends)) == (lease, 2)
    found = Reply(answer=(addresses("a.test", 1),), depends=("service",))
    reply = reply_now(built("ttl a.test 5", following=always(found))(ask("a.test")))
    assert reply.depends == ("service",)


@pytest.mark.parametrize(
    ("rule", "rcode"),
    [
        ("rcode a.test NXDOMAIN NOERROR", Rcode.NOERROR),
        ("rcode exact a.test 3 2", Rcode.SERVFAIL),
        ("rcode suffix test nxdomain badcookie", Rcode.BADCOOKIE),
        ("rcode regex . SERVFAIL NOERROR", Rcode.NXDOMAIN),
        ("rcode b.test NXDOMAIN NOERROR", Rcode.NXDOMAIN),
    ],
)
def test_rcodes(rule: str, rcode: Rcode) -> None:
    handler = built(rule, following=always(Reply(Rcode.NXDOMAIN)))
    assert reply_now(handler(ask("a.test"))).rcode == rcode


def test_rcodes_are_exchanged_once_by_each_rule() -> None:
    there, back = "rcode a.test NXDOMAIN NOERROR", "rcode a.test NOERROR NXDOMAIN"
    handler = built(f"continue {there}", back, following=always(Reply(Rcode.NXDOMAIN)))
    assert reply_now(handler(ask("a.test"))).rcode == Rcode.NOERROR


def test_what_is_answered_later_is_mended_then() -> None:
    pending: Pending[Reply] = Pending()
    outcome = built("name old.test new.test", following=later(pending))(ask("old.test"))
    pending.resolve(Reply(answer=(addresses("new.test", 1),)))
    assert reply_now(outcome).answer == (addresses("old.test", 1),)


def test_silence_stays_silence() -> None:
    handler = built("name old.test new.test", following=lambda request: Withheld())
    assert type(handler(ask("old.test"))) is Withheld


def test_an_error_says_what_was_asked_for() -> None:
    failed = Reply(Rcode.SERVFAIL, error="no upstream in time")
    handler = built("name old.test new.test", "type MX A", following=always(failed))
    reply = reply_now(handler(ask("old.test")))
    assert reply.error == "no upstream in time (asked as new.test.)"
    assert reply_now(handler(ask("x.test", iana.MX))).error == "no upstream in time"


# Aliases.


def aliased(
    rule: str,
    *answer: str,
    found: Reply | None = None,
    qtype: int = iana.A,
    others: tuple[str, ...] = (),
    aliases: int = 0,
    depends: tuple[object, ...] | None = None,
) -> tuple[Reply, list[str]]:
    """The reply about a.test, and the names that the whole server was asked for meanwhile.

    answer: see records; found: what it says of them.
    """
    told = found or Reply(answer=(addresses("new.test", 9),), by="forward")
    server = Next(lambda request: told)
    parts = FakeParts(resolver=server)
    reply = Reply(answer=(*records(*answer), addresses("old.test", 1)), by="cache", aa=True)
    reply.depends = depends
    handler = built(rule, *others, following=always(reply), parts=parts)
    got = reply_now(handler(ask("a.test", qtype)._replace(aliases=aliases)))
    return got, server.names


@pytest.mark.parametrize(
    ("rule", "target", "asked"),
    [
        ("cname old.test new.test", "Old.test", "new.test."),
        ("cname exact OLD.test. new.test.", "old.test", "new.test."),
        ("cname prefix ol fol", "old.test", "fold.test."),
        ("cname suffix .old.test .new.test", "x.old.test", "x.new.test."),
        ("cname substring ld. lder.", "old.test", "older.test."),
        (r"cname regex ^(.*)\.CDN\.(\D+)$ {1}.{2}new.test", "x.cdn.old", "x.old.new.test."),
    ],
)
def test_an_alias_leads_to_another_name_which_is_looked_up(
    rule: str, target: str, asked: str
) -> None:
    reply, names = aliased(rule, f"a.test CNAME {target}")
    assert names == [asked]
    (alias,) = records(f"a.test CNAME {asked}")
    assert reply.answer == (alias, addresses("new.test", 9))
    assert (reply.by, reply.aa) == ("cache", True)


def test_aliases_before_it_stay_and_those_behind_it_go() -> None:
    reply, names = aliased(
        "cname b.test new.test", "a.test CNAME x.test", "x.test CNAME b.test", "b.test CNAME c.test"
    )
    assert names == ["new.test."]
    assert reply.answer[:-1] == records("a.test CNAME x.test", "x.test CNAME new.test")


@pytest.mark.parametrize("rule", ["cname other.test new.test", "cname suffix old.test ..test"])
def test_other_aliases_stay(rule: str) -> None:
    reply, names = aliased(rule, "a.test CNAME old.test")
    assert (len(reply.answer), names) == (2, [])


def test_who_asks_for_the_alias_gets_it_alone() -> None:
    reply, names = aliased("cname old.test new.test", "a.test CNAME old.test", qtype=iana.CNAME)
    assert (reply.answer, names) == (records("a.test CNAME new.test"), [])


@pytest.mark.parametrize(
    ("found", "rcode", "error"),
    [
        (Reply(Rcode.NXDOMAIN, by="forward"), Rcode.NXDOMAIN, ""),
        (Reply(Rcode.SERVFAIL, by="forward", error="down"), Rcode.SERVFAIL, "down"),
        (Reply(Rcode.REFUSED), Rcode.NOERROR, ""),
        (Reply(Rcode.REFUSED, by="acl"), Rcode.REFUSED, ""),
    ],
)
def test_what_the_other_name_is_answered_is_what_the_alias_leads_to(
    found: Reply, rcode: Rcode, error: str
) -> None:
    reply, _ = aliased("cname old.test new.test", "a.test CNAME old.test", found=found)
    assert (reply.rcode, reply.error) == (rcode, error)
    assert reply.answer == records("a.test CNAME new.test")


def test_aliases_that_lead_on_and_on_end() -> None:
    reply, names = aliased("cname regex (.*) x{1}", "a.test CNAME old.test", aliases=MAX_ALIASES)
    assert (reply.rcode, names) == (Rcode.SERVFAIL, [])
    assert "more than 8 names" in reply.error


def test_it_rests_on_what_both_answers_rest_on() -> None:
    rule, alias = "cname old.test new.test", "a.test CNAME old.test"
    found = Reply(answer=(addresses("new.test", 9),), depends=("b", "c"))
    assert aliased(rule, alias, found=found, depends=("a", "b"))[0].depends == ("a", "b", "c")
    assert aliased(rule, alias, found=found)[0].depends is None
    assert aliased(rule, alias, depends=("a",))[0].depends is None


def test_rules_before_it_are_for_what_was_found_too() -> None:
    reply, names = aliased(
        "continue ttl a.test 7",
        "a.test CNAME old.test",
        others=("continue cname new.test newer.test", "cname old.test new.test"),
        found=Reply(answer=records("new.test CNAME x.test")),
    )
    assert names == ["new.test.", "newer.test."]
    assert {rrset.ttl for rrset in reply.answer} == {7}
    assert reply.answer[0].rdatas == (name.from_text("newer.test"),)


# On the wire, as dnspython reads it.


class Server:
    """A dispatcher before a block with these rules and an upstream's reply."""

    def __init__(self, *rules: str, reply: Reply) -> None:
        self.block = Block((".",))
        parts = FakeParts(block=self.block)
        self.block.handler = built(*rules, following=self._upstream, parts=parts)
        self._reply = reply
        self.dispatcher = Dispatcher(lambda: 5.0)
        self.dispatcher.serve(self.block)

    def _upstream(self, request: Request) -> Reply:
        query = request.query
        wire = question(name.to_text(query.qname), query.qtype)
        return read_passed(says(self._reply)(wire), "forward")

    def ask(self, wire: bytes, peer: Peer = PEER) -> dns.message.Message:
        got = self.dispatcher(wire, peer)
        assert isinstance(got, bytes)
        return dns.message.from_wire(got)


@pytest.mark.parametrize(
    ("rule", "owner"),
    [
        ("name old.test a-longer-new.test", "OLD.test."),
        ("name suffix old.test a-longer-new.test", "a-longer-new.test."),
        ("name suffix old.test a-longer-new.test answer auto", "OLD.test."),
    ],
)
def test_the_question_is_the_clients_and_pointers_lead_where_they_should(
    rule: str, owner: str
) -> None:
    """What an upstream's octets point at stands elsewhere behind another question."""
    reply = Reply(
        answer=(addresses("a-longer-new.test", 1, 2),),
        authority=records("test NS ns.a-longer-new.test"),
    )
    got = Server(rule, reply=reply).ask(question("OLD.test"))
    assert [str(q.name) for q in got.question] == ["OLD.test."]
    assert [str(rrset.name) for rrset in got.answer] == [owner]
    assert sorted(str(a) for a in got.answer[0]) == ["192.0.2.1", "192.0.2.2"]
    target = str(got.authority[0][0])
    assert target.lower() == f"ns.{owner.lower()}"


def test_octets_go_on_as_they_came_where_the_name_stays() -> None:
    reply = Reply(answer=(addresses("a.test", 1),))
    got = Server("continue type MX A", "rcode a.test 0 3", reply=reply).ask(
        question("a.test", iana.MX)
    )
    assert (got.question[0].rdtype, got.rcode()) == (iana.MX, dns.rcode.NXDOMAIN)
    assert str(got.answer[0]) == "a.test. 30 IN A 192.0.2.1"


def test_an_upstreams_ttls_are_those_of_the_rule() -> None:
    got = Server("ttl a.test 5", reply=Reply(answer=(addresses("a.test", 1),))).ask(
        question("a.test")
    )
    assert str(got.answer[0]) == "a.test. 5 IN A 192.0.2.1"


def test_what_does_not_fit_under_the_longer_name_is_cut() -> None:
    long = ".".join(["a" * 60] * 4)
    reply = Reply(answer=records(*[f"a.test NS n{n}.test" for n in range(24)]))
    rule = rf"name exact {long} a.test answer value ^(n\d+) {{1}}.{'b' * 50}.test"
    server = Server(rule, reply=reply)
    cut = server.ask(question(long))
    assert cut.flags & dns.flags.TC
    whole = server.ask(question(long), PEER._replace(proto="tcp"))
    assert (len(whole.answer[0]), whole.flags & dns.flags.TC) == (24, 0)


def test_other_classes_come_in_where_a_rule_is_about_them() -> None:
    reply = Reply(answer=(addresses("a.test", 1),))
    wire = question("a.test", qclass=iana.CH)
    assert Server("type MX A", reply=reply).ask(wire).rcode() == dns.rcode.REFUSED
    got = Server("class CH IN", reply=reply).ask(wire)
    assert (got.question[0].rdclass, len(got.answer)) == (iana.CH, 1)


def test_chaos_answers_its_own_names_and_leaves_the_others() -> None:
    parts = FakeParts()
    following = built("class CH IN", following=always(Reply(by="next")), parts=parts)
    handler = settings(chaos.parse, "chaos").build(parts, following)
    told = [
        reply_now(handler(ask(qname, qtype, qclass=iana.CH))).by
        for qname, qtype in (("version.bind", 16), ("a.test", 16), ("version.bind", 1))
    ]
    assert told == ["chaos", "next", "next"]


# By chance.

RULES = (
    "continue name suffix .old.test .new.test answer auto",
    "continue name prefix a. a.b.c answer auto",
    r"continue name regex (.*)\.(.*)l {2}.{1} answer name (.*)x(.*) {2}y{1} value [^.]*\.(.*) {1}",
    "continue name substring x. xx.",
    "continue type A AAAA",
    "continue class CH IN",
    "continue ttl regex . 5-50",
    "continue cname regex (.*) x.{1}",
    "continue rcode regex . SERVFAIL NOERROR",
    "name suffix . .",
)


@given(st.data(), st.sets(st.sampled_from(RULES)))
def test_any_name_through_any_rules_gives_a_message_that_can_be_read(
    data: st.DataObject, rules: set[str]
) -> None:
    query = data.draw(queries())
    reply = data.draw(replies(query))
    block = Block((".",))
    block.handler = built(
        *[rule for rule in RULES if rule in rules],
        following=always(reply),
        parts=FakeParts(block=block, resolver=always(reply)),
    )
    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(block)
    wire = question(".", query.qtype, qclass=query.qclass)
    wire = wire[:12] + query.qname + wire[13:]
    for proto in ("udp", "tcp"):
        got = dispatcher(wire, PEER._replace(proto=proto))
        assert isinstance(got, bytes)
        assert got[12 : 12 + len(query.qname)] == query.qname
        dns.message.from_wire(got)


@given(names(), st.sampled_from((".old.test.", "st.", ".")))
def test_a_suffix_there_and_back_is_the_same_name(qname: bytes, suffix: str) -> None:
    """Where the other one is no longer, so that all that may be asked for is."""
    below = name.to_text(qname.lower())
    text = below if below.endswith(suffix) else below.rstrip(".") + suffix
    try:
        request = ask(text)
    except ValueError:
        return
    following = Next(lambda asked: Reply(answer=(RRset(asked.query.key, 1, 5, (b"\1\2\3\4",)),)))
    other = suffix[:-2] + "z." if len(suffix) > 1 else "."
    rule = f"name suffix {suffix} {other} answer auto"
    reply = reply_now(built(rule, following=following)(request))
    assert following.names[0].endswith(other)
    assert reply.answer[0].owner == request.query.key


# The Corefile.


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("rewrite name a b", "a. is asked for as b., and answered under its own name"),
        ("rewrite stop name prefix a b", "a.* is asked for as b.*"),
        (
            "rewrite continue name suffix .a .b answer auto",
            "*.a. is asked for as *.b., and answered under its own name; then the next rule",
        ),
        ("rewrite name substring a b", "*a.* is asked for as *b.*"),
        (
            "rewrite {\nname regex (a) {1}.b\nanswer name b a value c d\n}",
            "/(a)/ is asked for as {1}.b.; owners in answers by /b/; targets in answers by /c/",
        ),
        ("rewrite stop {\nname a\nb\n}", "a. is asked for as b., and answered under its own name"),
        (
            "rewrite name suffix .arpa .arpa answer name auto answer value a b",
            (
                "*.arpa. is asked for as *.arpa., and answered under its own name; "
                "targets in answers by /a/"
            ),
        ),
        ("rewrite type any TYPE65", "ANY is asked for as HTTPS"),
        ("rewrite class ch in", "class CH is asked for as IN"),
        ("rewrite cname prefix a b", "aliases of a* lead to b*"),
        ("rewrite cname suffix a b", "aliases of *a. lead to *b."),
        ("rewrite cname regex (a) {1}b", "aliases of /(?i)(a)/ lead to {1}b"),
        ("rewrite ttl a -30", "a.: TTLs are 0 to 30 s"),
        ("rewrite ttl suffix .a 30-30", "*.a.: TTLs are 30 s"),
        ("rewrite ttl regex a 30-", "/a/: TTLs are 30 to 2147483647 s"),
        ("rewrite rcode a 2 NOTIMPL", "a.: SERVFAIL becomes NOTIMP"),
    ],
)
def test_what_a_rule_does_is_said(text: str, explained: str) -> None:
    assert settings(rewrite.parse, text).explain() == explained


KINDS = "expected exact, prefix, suffix, substring, regex"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "2: rewrite: expected one of name, type, class, cname, edns0, ttl, rcode"),
        (
            "stop",
            "2: rewrite: expected one of name, type, class, cname, edns0, ttl, rcode behind",
        ),
        ("cname a", "2: rewrite: expected TO behind what is there"),
        ("cname any a b", f"2: rewrite: cname: {KINDS} before so many words, got 'any'"),
        ("cname exact a b c", "2: rewrite: expected the rule's end, got 'c'"),
        ("answer auto", "2: rewrite: expected a name rule before answer"),
        (
            "bogus a b",
            "2: rewrite: expected one of name, type, class, cname, edns0, ttl, rcode, got 'bogus'",
        ),
        ("stop name a b {\n}", "2: rewrite: expected the rule in one line or in a block, got both"),
        ("{\nname a b {\n}\n}", "3: name: expected no block"),
        ("name a", "2: rewrite: expected TO behind what is there"),
        ("name a..b c", "2: expected a domain name, got 'a..b': an empty label"),
        ("name a b answer auto", f"2: rewrite: name: {KINDS} before so many words, got 'a'"),
        ("{\nname a b\nname c d\n}", f"3: rewrite: name: {KINDS} before so many words, got 'a'"),
        ("{\nname exact a b\nttl c 5\n}", "4: rewrite: expected the rule's end, got 'ttl': each"),
        ("name suffix a b c", "2: rewrite: expected the rule's end, got 'c'"),
        ("name suffix ü b", "2: rewrite: expected a part of a name, got 'ü'"),
        ('name suffix a ""', "2: rewrite: expected a part of a name, got ''"),
        ('name suffix "a b" c', "2: rewrite: expected a part of a name, got 'a b'"),
        ("name suffix a b answer", "2: rewrite: expected auto, name or value behind what is there"),
        ("name suffix a b answer all", "2: rewrite: answer: expected auto, name or value, got"),
        ("name suffix a b answer name x", "2: rewrite: expected TO behind what is there"),
        ("name suffix a b answer name", "2: rewrite: expected FROM behind what is there"),
        (
            "name suffix a b answer auto name x y",
            "2: rewrite: answer auto and answer name exclude each other",
        ),
        ("name regex (a {1}", "2: rewrite: expected a regular expression, got '(a': a parent"),
        ("name regex (a) {2}", "2: rewrite: {2}: (a) has 1 group"),
        ("name regex a {1}", "2: rewrite: {1}: a has 0 groups"),
        ("type A", "2: rewrite: expected TO behind what is there"),
        ("type A FOO", "2: rewrite: type: expected a type such as A or TYPE65, got 'FOO'"),
        ("type A TYPE65536", "2: rewrite: type: expected a type such as A or TYPE65"),
        ("type AXFR A", "2: rewrite: type: AXFR: no zones are transferred here"),
        ("type A MX TXT", "2: rewrite: expected the rule's end, got 'TXT'"),
        ("class IN FOO", "2: rewrite: class: expected CS, IN, CH, HS, NONE, ANY, got 'FOO'"),
        ("ttl a", "2: rewrite: expected SECONDS, MIN-MAX, -MAX or MIN- behind what is there"),
        ("ttl a -", "2: rewrite: ttl: expected SECONDS, MIN-MAX, -MAX or MIN-, of 0 to 2147483647"),
        ("ttl a 5-4", "2: rewrite: ttl: expected SECONDS"),
        ("ttl a 1-2-3", "2: rewrite: ttl: expected SECONDS"),
        ("ttl a 2147483648", "2: rewrite: ttl: expected SECONDS"),
        (f"ttl a {'9' * 5000}", "2: rewrite: ttl: expected SECONDS"),
        ("ttl any a 5", f"2: rewrite: ttl: {KINDS} before so many words, got 'any'"),
        ("ttl exact a 5 6", "2: rewrite: expected the rule's end, got '6'"),
        ("rcode a 3", "2: rewrite: expected TO behind what is there"),
        ("rcode a 24 0", "2: rewrite: rcode: expected a code such as NXDOMAIN or 3, got '24'"),
        (f"rcode a {'1' * 5000} 0", "2: rewrite: rcode: expected a code"),
        ("rcode a FOO 0", "2: rewrite: rcode: expected a code such as NXDOMAIN or 3, got 'FOO'"),
        ("rcode exact a 3 0 1", "2: rewrite: expected the rule's end, got '1'"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(text: str, error: str) -> None:
    with pytest.raises(CorefileError) as raised:
        settings(rewrite.parse, f"rewrite {text}")
    assert str(raised.value).startswith(f"Corefile:{error}")


def test_other_classes_go_on_to_who_answers_them() -> None:
    parts = FakeParts()
    handler = settings(template.parse, "template CH A {\nrcode NXDOMAIN\n}").build(
        parts, always(Reply())
    )
    handler = built("class HS CH", "class CS HS", following=handler, parts=parts)
    told = [
        iana.rcode_text(reply_now(handler(ask("a.test", qclass=qclass))).rcode)
        for qclass in (iana.CH, 4, 2)
    ]
    assert told == ["NXDOMAIN", "NXDOMAIN", "REFUSED"]
