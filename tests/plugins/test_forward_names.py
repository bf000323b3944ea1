"""Upstreams that are named: looked up at the start and again, by whom the Corefile says."""

from pathlib import Path
from typing import cast

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import forward
from kdns.plugins.forward import ForwardHandler
from kdns.plugins.upstream import UpstreamError, UpstreamSettings
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import read_query
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, always, ask, reply_now, says, settings

TIMEOUT = UpstreamError("timeout", "no reply in 2 s")
NONE = Reply()


def owns(owner: str, *addresses: bytes) -> Reply:
    qtype = iana.A if len(addresses[0]) == 4 else iana.AAAA
    return Reply(answer=(RRset(name.from_text(owner), qtype, 30, addresses),))


ONE, TWO, SIX = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)), bytes.fromhex("20010db8" + "00" * 12)


class Named:
    """`forward . ns.example` with a resolver at 10.0.0.1, as far as its text names no other."""

    def __init__(self, text: str = "", to: str = "ns.example") -> None:
        self.parts = FakeParts()
        self.resolver = self.parts.scripted("10.0.0.1")
        text = f"forward . {to} {{\n{text or 'resolver 10.0.0.1'}\n}}"
        built = settings(forward.parse, text).build(self.parts, always(Reply()))
        self.handler = cast("ForwardHandler", built)

    def start(self, *replies: Reply | UpstreamError) -> None:
        self.answers(*replies)
        (start,) = self.parts.started
        start()

    def answers(self, *replies: Reply | UpstreamError) -> None:
        self.resolver.script = [
            reply if isinstance(reply, UpstreamError) else says(reply) for reply in replies
        ]

    def targets(self) -> list[str]:
        return [target.label for target in self.handler.forwarding.targets]


def test_a_name_stands_for_its_addresses_of_both_families() -> None:
    named = Named()
    named.start(owns("ns.example", ONE, TWO), owns("ns.example", SIX))
    assert named.targets() == ["192.0.2.1:53", "192.0.2.2:53", "[2001:db8::]:53"]
    asked = [read_query(asked.query) for asked in named.resolver.asked]
    assert [(query.qname, query.qtype) for query in asked] == [
        (name.from_text("ns.example"), iana.A),
        (name.from_text("ns.example"), iana.AAAA),
    ]


def test_until_it_is_known_questions_fail_at_once() -> None:
    reply = reply_now(Named().handler(ask("a.example")))
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "no upstream is known yet")


def test_what_is_numbered_is_asked_meanwhile() -> None:
    named = Named(to="10.0.0.9 ns.example")
    named.start(owns("ns.example", ONE), NONE)
    assert named.targets() == ["10.0.0.9:53", "192.0.2.1:53"]


def test_it_is_looked_up_again_and_follows_what_changes() -> None:
    named = Named()
    named.start(owns("ns.example", ONE, TWO), NONE)
    kept = named.handler.forwarding.targets[1]
    named.answers(owns("ns.example", TWO), NONE)
    named.parts.clock.advance(30)
    assert named.handler.forwarding.targets == [kept]
    # Nobody asks the other one any more.
    assert ("192.0.2.1", 53) not in named.parts.upstreams


@pytest.mark.parametrize("failure", [TIMEOUT, Reply(Rcode.SERVFAIL), Reply(Rcode.NXDOMAIN), NONE])
def test_what_was_found_stays_while_nothing_else_is(failure: Reply | UpstreamError) -> None:
    named = Named()
    named.start(owns("ns.example", ONE), NONE)
    named.answers(failure, failure)
    named.parts.clock.advance(30)
    assert named.targets() == ["192.0.2.1:53"]


def test_while_nothing_is_known_it_asks_every_second() -> None:
    named = Named()
    named.start(TIMEOUT, TIMEOUT)
    named.answers(owns("ns.example", ONE), NONE)
    named.parts.clock.advance(1)
    assert named.targets() == ["192.0.2.1:53"]


@pytest.mark.parametrize("failure", [TIMEOUT, Reply(Rcode.REFUSED)])
def test_the_next_resolver_is_asked_where_one_fails(failure: Reply | UpstreamError) -> None:
    named = Named("resolver 10.0.0.1 10.0.0.2:5353")
    named.parts.scripted("10.0.0.2", 5353).script = [says(owns("ns.example", ONE)), says(NONE)]
    named.start(failure, failure)
    assert named.targets() == ["192.0.2.1:53"]


def test_a_reply_that_cannot_be_read_is_a_failure() -> None:
    named = Named()
    named.resolver.script = [b"\0", b"\0"]
    named.start()
    assert named.targets() == []


def test_looking_up_ends_with_the_server() -> None:
    named = Named()
    named.start(UpstreamError("closed", "closed"), UpstreamError("closed", "closed"))
    assert named.parts.clock.waiting == 0


def test_there_are_no_more_than_fifteen_of_them() -> None:
    named = Named(to="10.0.0.9 ns.example")
    named.start(owns("ns.example", *(bytes((192, 0, 2, n)) for n in range(1, 30))), NONE)
    assert len(named.targets()) == 15


def test_over_tls_the_name_is_the_certificates_too() -> None:
    named = Named(to="tls://ns.example:8853")
    named.start(owns("ns.example", ONE), NONE)
    upstream = named.parts.settings["192.0.2.1", 8853]
    assert upstream == UpstreamSettings("192.0.2.1", 8853, "tls", servername="ns.example")


@pytest.mark.parametrize(
    "text", ["tls_servername other.example\nresolver 10.0.0.1", "resolver 10.0.0.1"]
)
def test_unless_the_corefile_says_another(text: str) -> None:
    to = "tls://ns.example" if "other" in text else "tls://ns.example%other.example"
    named = Named(text, to=to)
    named.start(owns("ns.example", ONE), NONE)
    assert named.parts.settings["192.0.2.1", 853].servername == "other.example"


def test_without_a_resolver_the_system_says_whom_to_ask(tmp_path: Path) -> None:
    parts = FakeParts()
    configured = settings(forward.parse, "forward . ns.example")
    assert isinstance(configured, forward.Forward)
    configured.system = str(tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.7\n")
    configured.build(parts, always(Reply()))
    assert list(parts.upstreams) == [("10.0.0.7", 53)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forward . a..b:53", r"^Corefile:2: expected a domain name"),
        ("forward . tls://a..b", r"^Corefile:2: expected a domain name"),
        ('forward . ""', r"^Corefile:2: forward: expected an upstream, got nothing"),
        ("forward . https://", r"^Corefile:2: forward: expected a host after https://"),
        ("forward . ns.example {\nresolver ns.example\n}", r"^Corefile:3: resolver: expected IP"),
        ("forward . ns.example {\nresolver a.b:53\n}", r"^Corefile:3: resolver: expected IP"),
        ("forward . ns.example {\nresolver tls://9.9.9.9\n}", r"^Corefile:3: resolver: expected"),
        ("forward . ns.example {\nresolver\n}", r"^Corefile:3: resolver: expected at least 1"),
    ],
)
def test_bad_names_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(forward.parse, text)


def test_a_word_that_is_no_file_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "servers").write_text("nameserver 10.0.0.7\n")
    parts = FakeParts()
    settings(forward.parse, "forward . servers").build(parts, always(Reply()))
    assert list(parts.upstreams) == [("10.0.0.7", 53)]
    with pytest.raises(CorefileError, match=r"^Corefile:2: expected a domain name, got 'a\.\.b'"):
        settings(forward.parse, "forward . a..b").build(parts, always(Reply()))
