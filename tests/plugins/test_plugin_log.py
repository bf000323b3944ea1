"""log: one line for every query, as CoreDNS writes it."""

import json
import logging
from dataclasses import replace

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import log
from kdns.plugins.chain import Request, refuse
from kdns.telemetry.lines import TextLines
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Edns
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, addresses, ask, settings

SOA = RRset(name.from_text("example"), iana.SOA, 30, (b"",))
FOUND = Reply(answer=(addresses("a.example", 1),))
DENIED = Reply(Rcode.NXDOMAIN, authority=(SOA,))
FAILED = Reply(Rcode.SERVFAIL)


class Log:
    """A block with log directives, and the lines that they write."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *texts: str) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self.parts = FakeParts()
        self.seconds = 0.037990251
        for text in reversed(texts):
            assert settings(log.parse, text).build(self.parts, refuse) is refuse
        (self._observe,) = self.parts.block.observers

    def line(self, request: Request, reply: Reply = FOUND) -> str:
        self._caplog.clear()
        self._observe(request, reply, 68, self.seconds)
        lines = [r.getMessage() for r in self._caplog.records if r.name == "kdns.log"]
        assert len(lines) < 2
        return lines[0] if lines else ""


def test_the_common_format_is_coredns_s(caplog: pytest.LogCaptureFixture) -> None:
    request = ask("Example.org", edns=Edns(4096, 0, do=True), host="2001:db8::1", flags=0x0130)
    writer = Log(caplog, "log")
    writer.parts.block.can_forward = True
    assert writer.line(request, replace(FOUND, aa=True, tc=True, ad=True)) == (
        '[2001:db8::1]:4242 - 7 "A IN example.org. udp 41 true 4096" '
        "NOERROR qr,aa,tc,rd,ra,ad,cd 68 0.037990251s"
    )


def test_what_a_client_without_edns_can_take(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, 'log . "{proto} {>do} {>bufsize}"')
    assert writer.line(ask("a")) == "udp false 512"
    assert writer.line(ask("a", proto="tcp")) == "tcp false 65535"


def test_the_combined_format_adds_the_opcode(caplog: pytest.LogCaptureFixture) -> None:
    line = Log(caplog, "log . {combined}").line(ask("a."))
    assert line == '10.0.0.1:4242 - 7 "A IN a. udp 41 false 512" NOERROR qr,rd 68 0.037990251s "0"'


def test_a_format_may_stand_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert Log(caplog, 'log "{name} {common}"').line(ask("a.")).startswith("a. 10.0.0.1:4242 - ")


def test_fields_that_nobody_knows_are_a_dash(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, 'log . "{local} {/forward/upstream} {what} x"')
    assert writer.line(ask("a", local="::1")) == "[::1] - - x"
    assert writer.line(ask("a", local="")) == "- - - x"


def test_the_cd_bit_may_be_an_upstreams(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, 'log . "{>rflags}"')
    assert writer.line(ask("a"), replace(FOUND, cd=True)) == "qr,rd,cd"
    assert writer.line(ask("a", flags=iana.CD), replace(FOUND, cd=False)) == "qr"


def test_durations_have_no_zeros_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, "log . {duration}")
    writer.seconds = 0.00025
    assert writer.line(ask("a")) == "0.00025s"
    writer.seconds = 2.0
    assert writer.line(ask("a")) == "2s"


def test_as_json_a_query_has_all_fields(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, "log . {\njson\n}")
    writer.line(ask("A.b", host="::1", edns=Edns(1232, 0, do=True)), replace(FAILED, error="why"))
    (record,) = caplog.records
    told = json.loads(TextLines().format(record))
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info",
        "logger": "kdns.log",
        "remote": "::1",
        "port": 4242,
        "local": "10.0.0.9",
        "id": 7,
        "type": "A",
        "qclass": "IN",
        "name": "a.b.",
        "proto": "udp",
        "size": 41,
        "do": True,
        "bufsize": 1232,
        "rcode": "SERVFAIL",
        "rflags": "qr,rd",
        "rsize": 68,
        "duration": 0.037990251,
        "class": "error",
        "plugin": "",
        "error": "why",
    }


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (FOUND, "success"),
        (DENIED, "denial"),
        (Reply(authority=(SOA,)), "denial"),
        (Reply(additional=(addresses("a", 1),)), "success"),
        (FAILED, "error"),
        (Reply(Rcode.REFUSED), "error"),
    ],
)
def test_replies_are_a_success_a_denial_or_an_error(reply: Reply, kind: str) -> None:
    assert log.classify(reply) == kind


def test_only_the_classes_asked_for_are_told(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, "log . {name} {\nclass denial\nclass error\n}")
    told = [writer.line(ask("a."), reply) for reply in (FOUND, DENIED, FAILED)]
    assert told == ["", "a.", "a."]


def test_only_the_names_asked_for_are_told(caplog: pytest.LogCaptureFixture) -> None:
    writer = Log(caplog, "log example.org 10.0.0.0/8 {name}")
    assert writer.line(ask("A.Example.Org")) == "a.example.org."
    assert writer.line(ask("example.com")) == ""
    assert writer.line(ask("1.2.3.10.in-addr.arpa")) == "1.2.3.10.in-addr.arpa."


def test_of_several_directives_the_first_that_matches_has_the_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Log(caplog, "log example.org first{name} {\nclass error\n}", "log . second{name}")
    assert writer.line(ask("example.org")) == ""
    assert writer.line(ask("example.org"), FAILED) == "firstexample.org."
    assert writer.line(ask("example.com")) == "secondexample.com."


def test_it_explains_itself() -> None:
    assert settings(log.parse, "log").explain() == "queries of ., class all"
    told = settings(log.parse, "log a b {\nclass error denial\n}").explain()
    assert told == "queries of a. b., class denial error"
    assert settings(log.parse, "log {\njson\n}").explain() == "queries of ., class all; as JSON"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log a..b", r"^Corefile:2: expected a domain name, got 'a..b'"),
        ("log {\nclass\n}", r"^Corefile:3: class: expected at least 1 argument"),
        ("log {\nclass odd\n}", r"^Corefile:3: class: expected one of all, success.* got 'odd'"),
        ("log {\nkind all\n}", r"^Corefile:3: log: unknown option 'kind'; expected class, json"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(log.parse, text)
