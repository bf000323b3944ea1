"""hosts answers from a file and from the Corefile; what it does not have goes on, or fails."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.plugins import cache, hosts, hosts_file, loadbalance
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, refuse
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hosts import Hosts
from kdns.plugins.hot import Lease, Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.passed import read_passed
from kdns.wire.reply import Reply, RRset, opt_record
from tests.plugins.fakes import FakeParts, ask, question, reply_now, says, settings

FILE = """192.0.2.1 www.example.org www2.example.org
192.0.2.2 www.example.org
2001:db8::1 www.example.org six.example.org
192.0.2.8 other.example.net
192.0.2.10 *.wild.example.org
10.0.0.7 deep.sub.example.org
"""


def parsed(text: str, zones: tuple[str, ...] = (".",)) -> Hosts:
    return cast("Hosts", settings(hosts.parse, text, zones))


# The directive.


def test_it_needs_nothing() -> None:
    found = parsed("hosts")
    assert (found.path, found.zones, found.ttl, found.seconds) == ("/etc/hosts", (".",), 3600, 5.0)
    assert found.explain() == (
        "/etc/hosts, read every 5 s; ttl 3600; other names of . get SERVFAIL"
    )
    assert found.warnings() == ()


def test_everything_can_be_said() -> None:
    text = """hosts /h Example.ORG 10.9.0.0/16 {
        192.0.2.1 www.example.org a.example.org # both
        ::1 six.example.org
        ttl 60
        reload 1m
        no_reverse
        fallthrough sub.example.org 10.9.1.0/24
    }"""
    assert parsed(text).explain() == (
        "/h, read every 60 s, and 3 names from here; ttl 60; no names of addresses; "
        "other names of example.org. 9.10.in-addr.arpa. "
        "go on below sub.example.org. 1.9.10.in-addr.arpa., and get SERVFAIL elsewhere"
    )


def test_a_fallthrough_without_zones_is_of_all() -> None:
    found = parsed("hosts /h {\n::1 a\nreload 0\nfallthrough\n}")
    assert found.explain() == (
        "/h, read once, and 1 name from here; ttl 3600; other names of . go on"
    )


def test_what_is_asked_for_too_often_is_looked_at_ten_times_a_second() -> None:
    assert parsed("hosts /h {\nreload 1ms\n}").seconds == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('hosts ""', "Corefile:2: hosts: expected a file, got an empty word"),
        ("hosts /h a..b", "Corefile:2: expected a domain name"),
        ("hosts {\nttl\n}", "Corefile:3: ttl: expected 1 argument, got 0"),
        ("hosts {\nttl 0\n}", "Corefile:3: expected a number from 1 to 65535, got '0'"),
        ("hosts {\nttl 65536\n}", "Corefile:3: expected a number from 1 to 65535, got '65536'"),
        ("hosts {\nreload 5\n}", "Corefile:3: expected a duration"),
        ("hosts {\nreload -1s\n}", "Corefile:3: expected a duration from 0s, got '-1s'"),
        ("hosts {\nno_reverse now\n}", "Corefile:3: no_reverse: expected 0 arguments"),
        ("hosts {\nfallthrough a:b\n}", "Corefile:3: expected a domain name or a prefix"),
        ("hosts {\n::1 a {\n}\n}", "Corefile:3: ::1: expected no block"),
        ("hosts {\nttl 5 {\n}\n}", "Corefile:3: ttl: expected no block"),
        (
            "hosts {\nfallthrough\n::1 a\n}",
            "Corefile:4: hosts: expected the entries before fallthrough, got ::1 behind it",
        ),
        (
            "hosts {\nfallthrough\nttll 5\n}",
            "Corefile:4: hosts: unknown option 'ttll'; expected fallthrough, no_reverse, ",
        ),
    ],
)
def test_what_is_wrong_is_an_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parsed(text)
    assert str(caught.value).startswith(message)


EMPTY_LABEL = "an empty label: two dots in a row, or a leading dot"


def test_entries_that_coredns_leaves_out_silently_are_told() -> None:
    text = 'hosts {\njunk\n192.0.2.1\n"::1 quoted.a # c" lost.a\n::1 a..b b.a c.b\n}'
    found = parsed(text, ("a.",))
    assert [name.to_text(key) for inline in found.inline for key in inline.entry.names] == [
        "quoted.a.",
        "b.a.",
        "c.b.",
    ]
    assert found.warnings() == (
        "Corefile:3: hosts: expected an IP address, got 'junk'; left out",
        "Corefile:4: hosts: expected a name behind the address 192.0.2.1; left out",
        f"Corefile:6: hosts: expected a domain name, got 'a..b': {EMPTY_LABEL}; left out",
        "Corefile:6: hosts: c.b. is in none of a.; left out",
    )


# What it answers.


class Parts(FakeParts):
    """A world in which hot answers grow older, and are forgotten."""

    dispatcher: Dispatcher

    def forget(self, changed: Iterable[object]) -> None:
        self.dispatcher.hot.forget(changed)

    def renew(self, leases: Sequence[Lease]) -> None:
        self.dispatcher.hot.renew(leases)


def known_to_others(request: Request) -> Outcome:
    """The next directive: it has an address for every name, for ever."""
    rrset = RRset(request.query.key, iana.A, 30, (bytes((198, 51, 100, 1)),))
    return Reply(answer=(rrset,), by="next", depends=())


@dataclass
class Server:
    """A block with hosts, from a file of this text; what stands before it, and behind."""

    path: Path
    text: str | None = FILE
    block: str = ""
    zones: str = ""
    following: Handler = known_to_others
    keeps: bool = True
    before: Sequence[str] = ()
    parts: Parts = field(default_factory=Parts)

    def __post_init__(self) -> None:
        if self.text is not None:
            self.write(self.text)
        self.dispatcher = Dispatcher(lambda: 5.0)
        self.parts.dispatcher = self.dispatcher
        self.parts.block = Block((".",), watches_queries=not self.keeps)
        corefile = f"hosts {self.path} {self.zones} {{\n{self.block}\n}}"
        handler = settings(hosts.parse, corefile).build(self.parts, self.following)
        for text in self.before:
            parse = {"cache": cache.parse, "loadbalance": loadbalance.parse}[text.split()[0]]
            handler = settings(parse, text).build(self.parts, handler)
        self.parts.block.handler = handler
        self.dispatcher.serve(self.parts.block)
        self.front = self.dispatcher.front(Table("udp", 1))
        for started in self.parts.started:
            started()

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def look(self, text: str) -> None:
        """The file says this from now on."""
        self.write(text)
        self.parts.clock.advance(5.0)

    def ask(self, qname: str, rtype: str = "A", *, edns: bool = False) -> dns.message.Message:
        number = next(n for n, text in iana.TYPE_NAMES.items() if text == rtype)
        wire = question(qname, number, opt=opt_record() if edns else b"")
        got = self.front(wire, Peer("10.0.0.1", 4242, "udp", "10.0.0.9"))
        assert not isinstance(got, Pending)
        assert got is not None
        return dns.message.from_wire(got)

    def data(self, qname: str, rtype: str = "A") -> list[str]:
        return [str(rdata) for rrset in self.ask(qname, rtype).answer for rdata in rrset]

    @property
    def hot(self) -> int:
        return len(self.front.table.entries)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    block = "192.0.2.3 www.example.org inline.example.org\nttl 60\nfallthrough sub.example.org"
    return Server(tmp_path / "hosts", block=block, zones="example.org")


REVERSE_6 = "1." + 19 * "0." + "0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
FAILS, GOES_ON, NODATA = "SERVFAIL", "goes on", "no data"


@pytest.mark.parametrize(
    ("qname", "rtype", "expected"),
    [
        ("www.example.org", "A", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("WWW.Example.ORG", "A", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("www.example.org", "AAAA", ["2001:db8::1"]),
        ("six.example.org", "A", NODATA),
        ("six.example.org", "MX", NODATA),
        ("six.example.org", "SOA", NODATA),
        ("six.example.org", "ANY", NODATA),
        ("six.example.org", "HTTPS", NODATA),
        ("inline.example.org", "A", ["192.0.2.3"]),
        ("nope.example.org", "A", FAILS),
        ("nope.example.org", "MX", FAILS),
        ("nope.example.org", "ANY", FAILS),
        ("example.org", "SOA", FAILS),
        ("wild.example.org", "A", FAILS),
        ("nope.example.org", "PTR", GOES_ON),
        ("nope.sub.example.org", "A", GOES_ON),
        ("sub.example.org", "A", GOES_ON),
        ("deep.sub.example.org", "A", ["10.0.0.7"]),
        ("deep.sub.example.org", "AAAA", NODATA),
        ("other.example.net", "A", GOES_ON),
        ("elsewhere.test", "A", GOES_ON),
        (
            "1.2.0.192.in-addr.arpa",
            "PTR",
            ["www.example.org.", "www2.example.org."],
        ),
        ("3.2.0.192.in-addr.arpa", "PTR", ["www.example.org.", "inline.example.org."]),
        ("8.2.0.192.in-addr.arpa", "PTR", GOES_ON),
        ("99.2.0.192.in-addr.arpa", "PTR", GOES_ON),
        ("2.0.192.in-addr.arpa", "PTR", GOES_ON),
        ("99.2.0.192.in-addr.arpa", "A", GOES_ON),
        (REVERSE_6, "PTR", ["www.example.org.", "six.example.org."]),
        # Where CoreDNS 1.13.2 says otherwise: the names exist.
        ("six.example.org", "PTR", NODATA),
        ("1.2.0.192.in-addr.arpa", "A", NODATA),
        ("1.2.0.192.in-addr.arpa", "TXT", NODATA),
        # As in CoreDNS since 1.14.5.
        ("x.wild.example.org", "A", ["192.0.2.10"]),
        ("x.wild.example.org", "AAAA", NODATA),
        ("x.y.wild.example.org", "A", FAILS),
        ("10.2.0.192.in-addr.arpa", "PTR", GOES_ON),
    ],
)
def test_answers(server: Server, qname: str, rtype: str, expected: list[str] | str) -> None:
    for _ in range(3):
        reply = server.ask(qname, rtype)
        ours = bool(reply.flags & dns.flags.AA)
        assert reply.authority == []
        if expected == GOES_ON:
            assert [str(rrset[0]) for rrset in reply.answer] == ["198.51.100.1"]
        elif expected == FAILS:
            assert (reply.rcode(), reply.answer, ours) == (dns.rcode.SERVFAIL, [], False)
        else:
            assert (reply.rcode(), ours) == (dns.rcode.NOERROR, True)
            data = [str(rdata) for rrset in reply.answer for rdata in rrset]
            assert data == ([] if expected == NODATA else expected)
            assert {rrset.ttl for rrset in reply.answer} <= {60}


def test_who_speaks_edns_is_told_why_it_failed(server: Server) -> None:
    (option,) = server.ask("nope.example.org", edns=True).options
    assert option.to_text() == "EDE 0 (Other): no entry in hosts, and no fallthrough"
    assert reply_now(server.parts.block.handler(ask("nope.example.org"))).error == ""


def test_with_no_reverse_addresses_are_for_others(tmp_path: Path) -> None:
    server = Server(tmp_path / "hosts", block="no_reverse\nfallthrough")
    assert server.ask("1.2.0.192.in-addr.arpa", "PTR").answer[0].rdtype == 1
    server = Server(tmp_path / "hosts", block="no_reverse", zones="example.org")
    assert server.ask("1.2.0.192.in-addr.arpa", "PTR").answer[0].rdtype == 1


def test_with_nothing_behind_it_unknown_names_are_refused(tmp_path: Path) -> None:
    server = Server(tmp_path / "hosts", block="fallthrough", following=refuse)
    assert server.ask("nope.test").rcode() == dns.rcode.REFUSED


def test_addresses_take_turns(tmp_path: Path) -> None:
    server = Server(tmp_path / "hosts", before=["loadbalance"])
    first = [server.data("www.example.org")[0] for _ in range(8)]
    assert sorted(first) == 4 * ["192.0.2.1"] + 4 * ["192.0.2.2"]
    assert server.hot == 1


# The file changes.


def test_what_changes_is_answered_at_once_and_the_rest_stays_hot(server: Server) -> None:
    names = ("www.example.org", "six.example.org", "nope.sub.example.org", "x.wild.example.org")
    for _ in range(3):
        for one in names:
            server.ask(one)
    assert server.hot == 4
    server.look(FILE.replace("192.0.2.2 www", "192.0.2.22 www") + "192.0.2.9 nope.sub.example.org")
    assert server.hot == 2
    assert server.data("www.example.org") == ["192.0.2.1", "192.0.2.22", "192.0.2.3"]
    assert server.data("nope.sub.example.org") == ["192.0.2.9"]
    server.look(FILE)
    assert server.data("nope.sub.example.org") == ["198.51.100.1"]


def test_a_wildcard_that_comes_or_goes_ends_what_was_said_below_it(server: Server) -> None:
    below, beside = "a.new.sub.example.org", "new.sub.example.org"
    for _ in range(2):
        assert server.data(below) == server.data(beside) == ["198.51.100.1"]
    server.look(FILE + "192.0.2.9 *.new.sub.example.org\n")
    assert server.hot == 1
    for _ in range(2):
        assert server.data(below) == ["192.0.2.9"]
    server.look(FILE)
    assert server.data(below) == ["198.51.100.1"]


def test_what_never_changes_rests_on_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "hosts", block="reload 0")
    reply = reply_now(server.parts.block.handler(ask("www.example.org")))
    assert reply.depends == ()
    assert server.parts.clock.waiting == 0


def test_the_root_is_a_name(tmp_path: Path) -> None:
    server = Server(tmp_path / "hosts", "192.0.2.1 .\n192.0.2.2 *\n", block="fallthrough")
    assert server.data(".") == ["192.0.2.1"]
    assert server.data("any") == ["192.0.2.2"]
    server.look("192.0.2.2 *\n")
    assert server.data(".") == ["198.51.100.1"]


def test_a_file_that_is_not_there_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(tmp_path / "hosts", text=None, block="192.0.2.3 inline.test\nfallthrough")
    expected = f"hosts: {server.path}: No such file or directory; expected a file; "
    assert caplog.messages == [expected + "until it is good, nothing of it is known"]
    for _ in range(2):
        assert server.data("inline.test") == ["192.0.2.3"]
        assert server.data("www.example.org") == ["198.51.100.1"]
    server.look(FILE)
    assert server.data("www.example.org") == ["192.0.2.1", "192.0.2.2"]
    assert server.hot == 1
    server.path.unlink()
    server.parts.clock.advance(5.0)
    assert server.data("www.example.org") == ["192.0.2.1", "192.0.2.2"]


def test_one_that_is_read_once_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path / "hosts", text=None, block="reload 0s\nfallthrough")
    assert caplog.messages[0].endswith("; expected a file; nothing of it is known")
    server.look(FILE)
    assert server.data("www.example.org") == ["198.51.100.1"]


def test_a_file_that_is_too_large_changes_nothing(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts_file, "MAX_ENTRIES", 8)
    server.look(FILE + "::1 a b c\n")
    assert server.data("www.example.org") == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    (told,) = caplog.messages
    assert told.endswith("hosts:7: expected at most 8 names in all; what it said before goes on")


def test_a_bad_line_is_told_once_with_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    server = Server(tmp_path / "hosts", "192.0.2.1 a\nbad b\n192.0.2.3\n")
    path = server.path
    assert caplog.messages == [
        f"hosts: {path}:2: expected an IP address, got 'bad'; left out",
        f"hosts: {path}:3: expected a name behind the address 192.0.2.3; left out",
    ]
    caplog.clear()
    server.look("# one more line\n192.0.2.1 a\nbad b\nworse c\n")
    assert caplog.messages == [f"hosts: {path}:4: expected an IP address, got 'worse'; left out"]
    caplog.clear()
    monkeypatch.setattr(hosts_file, "MAX_TOLD", 1)
    server.look("a a\nb b\nc c\n")
    assert caplog.messages == [
        f"hosts: {path}:1: expected an IP address, got 'a'; left out",
        f"hosts: {path}: 2 more of that kind",
    ]


def test_who_was_judged_repeats_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path / "hosts", "bad b\n", parts=Parts(judged=True))
    Server(tmp_path / "none", None, parts=Parts(judged=True))
    assert caplog.messages == []
    server.look("bad b\nworse b\n")
    assert [text for text in caplog.messages if "bad" in text] == []
    assert len([text for text in caplog.messages if "worse" in text]) == 1


def test_it_stops_when_told(server: Server) -> None:
    assert server.parts.clock.waiting == 1
    for stopped in server.parts.stopped:
        stopped()
    assert server.parts.clock.waiting == 0


# What is said of it elsewhere.


def test_it_is_counted_once_it_answers(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(FILE)
    parts = FakeParts()
    settings(hosts.parse, f"hosts {path} {{\n::1 a\n}}").build(parts, refuse)
    settings(hosts.parse, f"hosts {path}").build(parts, refuse)

    def numbers() -> dict[str, list[tuple[tuple[str, ...], float]]]:
        return {sample.name: sample.numbers for sample in parts.meters.sample()}

    assert numbers() == {"coredns_hosts_entries": [], "coredns_hosts_reload_timestamp_seconds": []}
    for started in parts.started:
        started()
    # 8 addresses of names and 7 names of addresses in the file, one of each here.
    assert numbers() == {
        "coredns_hosts_entries": [((str(path),), 17)],
        "coredns_hosts_reload_timestamp_seconds": [((), path.stat().st_mtime)],
    }


def test_zones_that_are_whole_are_ours_under_pressure(tmp_path: Path) -> None:
    whole = Server(tmp_path / "hosts", zones="example.org 10.0.0.0/8").parts.block
    assert whole.own_zones == [name.from_text("example.org"), name.from_text("10.in-addr.arpa")]
    for zone, knows in whole.passing:
        assert zone in whole.own_zones
        assert knows(name.from_text("www.example.org"))
        assert not knows(name.from_text("nope.example.org"))
    part = Server(tmp_path / "hosts", zones="example.org", block="fallthrough sub.example.org")
    assert part.parts.block.own_zones == []
    assert part.parts.block.passing == []


# Before it stands the cache.


UPSTREAM = RRset(name.from_text("new.test"), iana.A, 300, (bytes((198, 51, 100, 7)),))


def forwarded(request: Request) -> Outcome:
    """As `forward` gives it, which the cache keeps."""
    rrset = UPSTREAM._replace(owner=request.query.key)
    wire = question(name.to_text(request.query.key))
    reply = read_passed(says(Reply(answer=(rrset,)))(wire))
    reply.by = "forward"
    return reply


def test_what_is_in_the_file_by_now_is_not_hidden_by_what_an_upstream_said(tmp_path: Path) -> None:
    parts = Parts()
    parts.clock.advance(1000.0)
    server = Server(
        tmp_path / "hosts",
        block="fallthrough",
        following=forwarded,
        before=["cache 300"],
        parts=parts,
    )
    for _ in range(4):
        for one in ("new.test", "old.test", "a.wild.test"):
            assert server.data(one) == ["198.51.100.7"]
    assert server.hot == 3
    server.look(FILE + "192.0.2.9 new.test\n192.0.2.9 *.wild.test\n")
    assert server.hot == 1
    for _ in range(3):
        assert server.data("new.test") == server.data("a.wild.test") == ["192.0.2.9"]
        assert server.data("old.test") == ["198.51.100.7"]
    # What the cache has kept of it is good again when the file does not have it any more.
    server.look(FILE)
    assert server.data("new.test") == server.data("a.wild.test") == ["198.51.100.7"]


# Any history.

addresses = st.sampled_from(("192.0.2.1", "192.0.2.2", "::1", "bad"))
names = st.sampled_from(("a", "b.a", "*.a", "c.b.a", "*", "d.other"))
files = st.lists(st.builds("{} {}".format, addresses, names), max_size=4).map("\n".join)
questions = st.tuples(
    st.sampled_from(
        ("a", "b.a", "x.a", "c.b.a", "x.c.b.a", "x", "d.other", "1.2.0.192.in-addr.arpa")
    ),
    st.sampled_from(("A", "AAAA", "PTR", "TXT")),
)
blocks = st.sampled_from(("", "fallthrough", "fallthrough b.a", "no_reverse\nfallthrough"))


@given(st.lists(files | questions, max_size=30), blocks, st.sampled_from(("", "a other")))
def test_with_hot_answers_and_without_clients_are_told_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[str | tuple[str, str]],
    block: str,
    zones: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-hosts"
    both = [Server(path, "", block, zones, keeps=keeps) for keeps in (True, False)]
    for happening in history:
        if isinstance(happening, str):
            path.write_text(happening)
            for server in both:
                server.parts.clock.advance(5.0)
        else:
            hot, cold = [server.ask(*happening) for server in both]
            assert hot.to_wire() == cold.to_wire()
