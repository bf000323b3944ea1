"""rewrite edns0: which options upstreams are sent, and who may share what they answer by them."""

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.plugins import cache, rewrite
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Request
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.forwarding import Forwarding, Rules, Target
from kdns.plugins.hot import Table
from kdns.plugins.peer import Peer
from kdns.wire.message import Edns
from kdns.wire.reply import Reply, opt_record
from tests.plugins.fakes import (
    FakeParts,
    ScriptedExchange,
    addresses,
    always,
    ask,
    question,
    reply_now,
    says,
    settings,
)

CODE = 0xFFEE
OWN = Edns(1232, 0, False, ((CODE, b"client"), (8, b"own")))


def built(*rules: str, following: Handler, parts: FakeParts | None = None) -> Handler:
    parts = parts or FakeParts()
    handler = following
    for rule in reversed(rules):
        handler = settings(rewrite.parse, f"rewrite {rule}").build(parts, handler)
    return handler


def sent(
    *rules: str, request: Request | None = None, parts: FakeParts | None = None
) -> dict[int, bytes]:
    """The options that upstreams would be sent."""
    asked: list[Request] = []

    def following(passed: Request) -> Reply:
        asked.append(passed)
        return Reply()

    built(*rules, following=following, parts=parts)(request or ask("a.test"))
    return dict(asked[0].query.sent)


@pytest.mark.parametrize(
    ("rule", "host", "options"),
    [
        ("edns0 local set 0xffee abcd", "10.0.0.1", {CODE: b"abcd"}),
        ("edns0 LOCAL SET 65518 0x61FFfe revert", "10.0.0.1", {CODE: b"a\xff\xfe"}),
        ("edns0 local set 0 0x", "10.0.0.1", {0: b""}),
        ("edns0 local append 0xffee abcd", "10.0.0.1", {CODE: b"abcd"}),
        ("edns0 local replace 0xffee abcd", "10.0.0.1", {}),
        ("edns0 local unset 0xffee", "10.0.0.1", {}),
        ("edns0 nsid set", "10.0.0.1", {3: b""}),
        ("edns0 nsid append revert", "10.0.0.1", {3: b""}),
        ("edns0 nsid unset", "10.0.0.1", {}),
        ("edns0 subnet set 20 57", "10.1.255.3", {8: b"\0\1\x14\0\x0a\1\xf0"}),
        ("edns0 subnet set 24 56", "10.1.2.3", {8: b"\0\1\x18\0\x0a\1\2"}),
        ("edns0 subnet set 0 56", "10.1.2.3", {8: b"\0\1\0\0"}),
        ("edns0 subnet set 24 9", "fdff::1", {8: b"\0\2\x09\0\xfd\x80"}),
        ("edns0 subnet set 24 9", "", {}),
        ("edns0 subnet unset", "10.1.2.3", {}),
        ("edns0 local set 1 {qname}", "10.0.0.1", {1: b"a.test."}),
        ("edns0 local set 1 {qtype}", "10.0.0.1", {1: b"\0\1"}),
        ("edns0 local set 1 {client_ip}", "10.0.0.1", {1: b"\x0a\0\0\1"}),
        ("edns0 local set 1 {client_ip}", "fe80::1%lo", {1: b"\xfe\x80" + bytes(13) + b"\1"}),
        ("edns0 local set 1 {client_ip}", "", {}),
        ("edns0 local set 1 {client_port}", "10.0.0.1", {1: b"\x10\x92"}),
        ("edns0 local set 1 {protocol}", "10.0.0.1", {1: b"udp"}),
        ("edns0 local set 1 {server_ip}", "10.0.0.1", {1: b"\x0a\0\0\x09"}),
        ("edns0 local set 1 {server_port}", "10.0.0.1", {1: b"\0\x35"}),
        ("edns0 local set 1 {a/label}", "10.0.0.1", {}),
    ],
)
def test_what_upstreams_are_sent(rule: str, host: str, options: dict[int, bytes]) -> None:
    assert sent(rule, request=ask("A.test", host=host)) == options


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("edns0 local set 0xffee abcd", {CODE: b"abcd"}),
        ("edns0 local replace 0xffee abcd", {CODE: b"abcd"}),
        # What is there stays, and so it goes where the rule would have sent its own.
        ("edns0 local append 0xffee abcd", {CODE: b"client"}),
        ("edns0 local unset 0xffee", {}),
        ("edns0 local set 1 abcd", {1: b"abcd"}),
    ],
)
def test_of_a_clients_own_options_only_what_a_rule_is_about_goes_on(
    rule: str, options: dict[int, bytes]
) -> None:
    assert sent(rule, request=ask("a.test", edns=OWN)) == options


def test_a_clients_option_without_a_bound_goes_nowhere() -> None:
    edns = Edns(1232, 0, False, ((CODE, bytes(257)),))
    assert sent("edns0 local append 0xffee abcd", request=ask("a.test", edns=edns)) == {}


def test_rules_see_what_those_before_them_have_put_there() -> None:
    first = "continue edns0 local set 0xffee a"
    assert sent(first, "continue edns0 local append 0xffee b") == {CODE: b"a"}
    assert sent(first, "edns0 local replace 0xffee b") == {CODE: b"b"}
    assert sent(first, "edns0 local unset 0xffee") == {}
    assert sent(first, "edns0 nsid set") == {CODE: b"a", 3: b""}


def test_a_rule_that_does_nothing_ends_nothing() -> None:
    behind = "edns0 local set 1 b"
    assert sent("edns0 local replace 0xffee a", behind) == {1: b"b"}
    assert sent("edns0 local set 2 {a/label}", behind) == {1: b"b"}
    assert sent("edns0 local unset 0xffee", behind) == {}
    assert sent("edns0 local append 0xffee a", behind) == {CODE: b"a"}


def test_what_metadata_knows_is_sent() -> None:
    parts = FakeParts()
    parts.block.metadata = (b"\0",)
    parts.block.labels.append(lambda request, reply: {"a/label": "x"})
    assert sent("edns0 local set 1 {a/label}", parts=parts) == {1: b"x"}


def test_what_was_added_for_a_name_is_kept_for_what_its_alias_leads_to() -> None:
    request = ask("a.test")
    request.query.sent = ((CODE, b"x"),)
    assert dict(request.instead(b"\1b\0").query.sent) == {CODE: b"x"}
    assert sent("edns0 nsid set", request=request) == {CODE: b"x", 3: b""}
    assert sent("name a.test b.test", request=request) == {CODE: b"x"}


# On the way to upstreams.


def asked_upstream(request: Request, *others: Request) -> list[dns.message.Message]:
    parts = FakeParts()
    exchange = ScriptedExchange()
    forwarding = Forwarding([Target("u", exchange)], Rules(), parts)
    for one in (request, *others):
        forwarding.ask(one.query, tcp=False)
    return [dns.message.from_wire(asked.query) for asked in exchange.asked]


def with_options(*options: tuple[int, bytes], edns: Edns | None = None) -> Request:
    request = ask("a.test", edns=edns)
    request.query.sent = options
    return request


@pytest.mark.parametrize(("edns", "flags"), [(None, 0), (OWN, 0), (Edns(512, 0, True), 0x8000)])
def test_options_go_out_in_our_opt_whether_the_client_has_one_or_not(
    edns: Edns | None, flags: int
) -> None:
    (got,) = asked_upstream(with_options((CODE, b"abcd"), edns=edns))
    assert (got.edns, got.ednsflags, got.payload) == (0, flags, 1232)
    assert [(int(o.otype), o.to_wire()) for o in got.options] == [(CODE, b"abcd")]


def test_questions_with_other_options_are_other_questions() -> None:
    one, other = with_options((CODE, b"a")), with_options((CODE, b"b"))
    assert len(asked_upstream(one, other, one, with_options())) == 3


# What is kept.


class Upstream:
    """A handler that answers by what it is sent, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: Request) -> Reply:
        from kdns.wire.passed import read_passed

        self.asked += 1
        number = sum(b"".join(data for _, data in request.query.sent)) % 256
        reply = Reply(answer=(addresses("a.test", number, ttl=300),))
        return read_passed(says(reply)(question("a.test")), "forward")


class Server:
    def __init__(self, *rules: str) -> None:
        self.block = Block((".",))
        parts = FakeParts(block=self.block)
        self.upstream = Upstream()
        cached = settings(cache.parse, "cache").build(parts, self.upstream)
        self.block.handler = built(*rules, following=cached, parts=parts)
        self.dispatcher = Dispatcher(parts.monotonic)
        self.dispatcher.serve(self.block)
        self.front = self.dispatcher.front(Table("udp", 1))

    def ask(self, host: str, *options: tuple[int, bytes]) -> str:
        wire = question("a.test", opt=opt_record(options=options))
        got = self.front(wire, Peer(host, 4242, "udp", "10.0.0.9"))
        assert isinstance(got, bytes)
        return str(dns.message.from_wire(got).answer[0][0])


def test_answers_by_networks_are_shared_within_each_and_no_further() -> None:
    server = Server("edns0 subnet set 24 56")
    for _ in range(4):
        assert server.ask("10.0.1.1") == server.ask("10.0.1.2") == "192.0.2.36"
        assert server.ask("10.0.2.1") == "192.0.2.37"
    assert server.upstream.asked == 2
    assert len(server.dispatcher.hot) == 0


def test_where_all_are_sent_the_same_answers_are_hot() -> None:
    server = Server("edns0 local set 0xffee abcd")
    assert {server.ask(f"10.0.0.{n}", (10, b"8 octets")) for n in range(4)} == {"192.0.2.138"}
    assert server.upstream.asked == 1
    assert len(server.dispatcher.hot) == 1


def test_what_a_clients_own_option_decides_is_hot_for_nobody() -> None:
    server = Server("edns0 local replace 0xffee ab")
    for _ in range(4):
        assert server.ask("10.0.0.1") == "192.0.2.0"
        assert server.ask("10.0.0.1", (CODE, b"x")) == "192.0.2.195"
    assert server.upstream.asked == 2


@pytest.mark.parametrize(
    ("rule", "depends"),
    [
        ("edns0 subnet set 24 56", ("service",)),
        ("continue edns0 local append 0xffee a", ("service",)),
        ("edns0 local append 0xffee a", None),
        ("edns0 local set 0xffee {a/label}", None),
    ],
)
def test_answers_of_the_cluster_are_hot_unless_another_rule_might_be_for_them(
    rule: str, depends: tuple[object, ...] | None
) -> None:
    found = Reply(answer=(addresses("a.test", 1),), by="kubernetes", depends=("service",))
    assert reply_now(built(rule, following=always(found))(ask("a.test"))).depends == depends


# The Corefile.


@pytest.mark.parametrize(
    ("rule", "explained"),
    [
        ("local set 0xffee abcd", "upstreams are sent EDNS option 65518: abcd"),
        (
            "local append 1 {client_ip}",
            "upstreams are sent EDNS option 1: {client_ip}, where there is none",
        ),
        ("nsid replace", "upstreams are sent EDNS option 3: NSID, empty, where there is one"),
        (
            "subnet set 24 56",
            "upstreams are sent EDNS option 8: the client's network, /24 or /56",
        ),
        ("local unset 0xffee", "upstreams are not sent EDNS option 65518"),
    ],
)
def test_what_a_rule_does_is_said(rule: str, explained: str) -> None:
    assert settings(rewrite.parse, f"rewrite edns0 {rule}").explain() == explained


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("", "2: rewrite: edns0: expected one of local, nsid, subnet"),
        ("cookie set", "2: rewrite: edns0: expected one of local, nsid, subnet, got 'cookie'"),
        ("local", "2: rewrite: edns0: expected one of set, append, replace, unset"),
        ("local put 1 a", "2: rewrite: edns0: expected one of set, append, replace, unset, got"),
        ("local set 1", "2: rewrite: expected edns0 local set CODE DATA, got 1 words behind"),
        ("local set 1 a b", "2: rewrite: expected edns0 local set CODE DATA, got 3 words behind"),
        ("local unset", "2: rewrite: expected edns0 local unset CODE, got 0 words behind"),
        ("nsid set a", "2: rewrite: expected edns0 nsid set, got 1 words behind"),
        ("subnet unset 1 2", "2: rewrite: expected edns0 subnet unset, got 2 words behind"),
        ("local set 65536 a", "2: rewrite: edns0: expected a code such as 0xffee or 65518, got"),
        ("local set x a", "2: rewrite: edns0: expected a code such as 0xffee or 65518, got 'x'"),
        ("local set 1 0x123", "2: rewrite: edns0: expected pairs of hexadecimal digits, got"),
        ("local set 1 {foo}", "2: rewrite: edns0: expected one of {qname} {qtype} {client_ip}"),
        (f"local set 1 {'a' * 257}", "2: rewrite: edns0: expected at most 256 octets of data"),
        ("subnet set 33 56", "2: expected a number from 0 to 32, got '33'"),
        ("subnet set 24 129", "2: expected a number from 0 to 128, got '129'"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(rule: str, error: str) -> None:
    with pytest.raises(CorefileError) as raised:
        settings(rewrite.parse, f"rewrite edns0 {rule}")
    assert str(raised.value).startswith(f"Corefile:{error}")


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=300)), max_size=4))
def test_whatever_a_client_sends_what_goes_out_is_bounded(
    options: list[tuple[int, bytes]],
) -> None:
    code = options[0][0] if options else CODE
    rules = [f"continue edns0 local {action} {code} ab" for action in ("append", "replace")]
    request = ask("a.test", edns=Edns(1232, 0, False, tuple(options)))
    made = sent(*rules, request=request)
    assert set(made) <= {code}
    assert all(len(data) <= 256 for data in made.values())
