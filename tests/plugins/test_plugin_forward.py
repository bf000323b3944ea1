"""forward: the question goes to other servers, and what they say comes back."""

from pathlib import Path
from typing import cast

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import forward
from kdns.plugins.chain import refuse
from kdns.plugins.forward import Forward, ForwardHandler
from kdns.plugins.forwarding import DEADLINE, Rules
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamSettings
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Edns, read_query
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import (
    FakeParts,
    ScriptedExchange,
    addresses,
    always,
    ask,
    reply_now,
    says,
    settings,
)

FOUND = Reply(answer=(addresses("a.example", 1, 2),), aa=True)
REFUSED = UpstreamError("refused", "upstream 192.0.2.1:53: Connection refused")
TIMEOUT = UpstreamError("timeout", "upstream 192.0.2.1:53: no reply in 2 s")


def parsed(text: str) -> Forward:
    configured = settings(forward.parse, text)
    assert isinstance(configured, Forward)
    return configured


class Forwarding:
    """A forward directive to 192.0.2.1, .2, … as far as its text names them."""

    def __init__(self, text: str = "forward . 192.0.2.1", upstreams: int = 1) -> None:
        self.parts = FakeParts()
        self.upstreams = [self.parts.scripted(f"192.0.2.{n + 1}") for n in range(upstreams)]
        built = parsed(text).build(self.parts, always(Reply(by="next")))
        self.handler = cast("ForwardHandler", built)

    @property
    def upstream(self) -> ScriptedExchange:
        return self.upstreams[0]

    def order(self) -> list[int]:
        """Which upstreams one question goes to when all fail."""
        asked: list[int] = []
        for number, upstream in enumerate(self.upstreams):

            def fail(wire: bytes, number: int = number) -> UpstreamError:
                asked.append(number)
                return REFUSED

            upstream.script = [fail] * 4
        reply_now(self.handler(ask("a.example")))
        return asked


# What is asked.


def test_the_question_goes_out_as_it_came() -> None:
    forwarding = Forwarding()
    forwarding.handler(ask("A.Example", iana.MX, flags=iana.RD | iana.CD))
    (asked,) = forwarding.upstream.asked
    query = read_query(asked.query)
    # In lower case: others may wait for the same reply, and each gets its own letter case.
    assert (query.id, query.qname, query.qtype) == (7, name.from_text("a.example"), iana.MX)
    # AD says that we know the bit (RFC 6840, section 5.7), whoever waits for the reply.
    assert (query.flags, query.edns) == (iana.RD | iana.CD | iana.AD, None)


def test_edns_goes_out_with_our_size_and_without_the_clients_options() -> None:
    forwarding = Forwarding()
    forwarding.handler(ask("a.example", edns=Edns(4096, 0, do=True, options=((10, b"cookie"),))))
    edns = read_query(forwarding.upstream.asked[0].query).edns
    assert edns == Edns(1232, 0, do=True)


@pytest.mark.parametrize(
    ("option", "proto", "tcp"),
    [
        ("", "udp", False),
        ("", "tcp", True),
        ("force_tcp", "udp", True),
        ("prefer_udp", "tcp", False),
        ("force_tcp\nprefer_udp", "udp", True),
    ],
)
def test_it_asks_over_what_the_client_asked_over_unless_told(
    option: str, proto: str, tcp: bool
) -> None:
    forwarding = Forwarding(f"forward . 192.0.2.1 {{\n{option}\n}}")
    forwarding.handler(ask("a.example", proto="tcp" if proto == "tcp" else "udp"))
    assert forwarding.upstream.asked[0].tcp is tcp


@pytest.mark.parametrize(
    ("qname", "taken"),
    [
        ("example.org", True),
        ("a.EXAMPLE.org", True),
        ("example.com", False),
        ("local.example.org", False),
        ("x.local.example.org", False),
        ("xlocal.example.org", True),
    ],
)
def test_names_outside_the_zone_and_exceptions_go_on(qname: str, taken: bool) -> None:
    forwarding = Forwarding("forward example.org 192.0.2.1 {\nexcept local.example.org\n}")
    outcome = forwarding.handler(ask(qname))
    assert bool(forwarding.upstream.asked) is taken
    assert isinstance(outcome, Pending) or outcome.by == "next"
    (takes,) = forwarding.parts.block.forwarded
    assert takes(name.from_text(qname).lower()) is taken


def test_a_prefix_stands_for_all_its_reverse_zones() -> None:
    forwarding = Forwarding("forward 10.0.0.0/9 192.0.2.1")
    forwarding.handler(ask("1.0.127.10.in-addr.arpa", iana.PTR))
    forwarding.handler(ask("1.0.0.10.in-addr.arpa", iana.PTR))
    forwarding.handler(ask("1.0.128.10.in-addr.arpa", iana.PTR))
    assert len(forwarding.upstream.asked) == 2


def test_the_block_can_forward() -> None:
    assert Forwarding().parts.block.can_forward


# What comes back.


def test_the_reply_comes_back_as_it_is() -> None:
    forwarding = Forwarding()
    unknown = RRset(name.from_text("a.example"), 65280, 60, (b"\x01\x02",))
    authority = (RRset(name.from_text("example"), iana.NS, 60, (name.from_text("ns.example"),)),)
    sent = Reply(Rcode.NOERROR, (unknown,), authority, FOUND.answer, aa=True, ad=True, cd=True)
    forwarding.upstream.script = [says(sent)]
    reply = reply_now(forwarding.handler(ask("a.example")))
    assert (reply.answer, reply.authority) == ((unknown,), authority)
    assert reply.additional == FOUND.answer
    assert (reply.rcode, reply.aa, reply.ad, reply.cd) == (Rcode.NOERROR, True, True, True)
    assert reply.by == "forward"


@pytest.mark.parametrize(
    ("rcode", "authoritative"),
    [
        (Rcode.NOERROR, True),
        (Rcode.NXDOMAIN, True),
        (Rcode.SERVFAIL, False),
        (Rcode.REFUSED, False),
    ],
)
def test_who_has_no_answer_has_no_authority_over_it(rcode: Rcode, authoritative: bool) -> None:
    """RFC 1035, section 4.1.1: AA is about the name in the answer."""
    forwarding = Forwarding()
    forwarding.upstream.script = [says(Reply(rcode, aa=True))]
    assert reply_now(forwarding.handler(ask("a.example"))).aa is authoritative


def test_no_record_comes_back_twice() -> None:
    forwarding = Forwarding()
    one = addresses("a.example", 1)
    forwarding.upstream.script = [says(Reply(answer=(one, one, addresses("a.example", 2))))]
    reply = reply_now(forwarding.handler(ask("a.example")))
    assert reply.answer == (addresses("a.example", 1, 2),)


def test_truncation_that_the_upstream_could_not_help_is_passed_on() -> None:
    forwarding = Forwarding()
    forwarding.upstream.script = [says(Reply(tc=True))]
    assert reply_now(forwarding.handler(ask("a.example"))).tc


@pytest.mark.parametrize("rcode", [Rcode.SERVFAIL, Rcode.REFUSED, Rcode.NXDOMAIN])
def test_an_upstreams_no_is_an_answer(rcode: Rcode) -> None:
    forwarding = Forwarding("forward . 192.0.2.1 192.0.2.2 {\npolicy sequential\n}", 2)
    forwarding.upstream.script = [says(Reply(rcode))]
    assert reply_now(forwarding.handler(ask("a.example"))).rcode == rcode
    assert forwarding.upstreams[1].asked == []


# When an upstream does not answer.


@pytest.mark.parametrize("first", [TIMEOUT, b"\x00", b"\x00" * 12])
def test_the_next_upstream_is_asked(first: bytes | UpstreamError) -> None:
    forwarding = Forwarding("forward . 192.0.2.1 192.0.2.2 {\npolicy sequential\n}", 2)
    forwarding.upstream.script = [first]
    forwarding.upstreams[1].script = [says(FOUND)]
    assert reply_now(forwarding.handler(ask("a.example"))).answer == FOUND.answer


def test_an_only_upstream_gets_a_second_chance() -> None:
    forwarding = Forwarding()
    forwarding.upstream.script = [TIMEOUT, says(FOUND)]
    assert reply_now(forwarding.handler(ask("a.example"))).answer == FOUND.answer


def test_when_nobody_answers_the_client_gets_servfail_and_we_the_reason() -> None:
    forwarding = Forwarding()
    forwarding.upstream.script = [TIMEOUT, b""]
    reply = reply_now(forwarding.handler(ask("a.example")))
    assert (reply.rcode, reply.by) == (Rcode.SERVFAIL, "forward")
    assert reply.error == "unreadable reply of 192.0.2.1:53: shorter than a header"
    assert reply.options == ((iana.EDNS_EDE, (23).to_bytes(2, "big")),)


def test_all_tries_together_have_one_deadline() -> None:
    forwarding = Forwarding("forward . 192.0.2.1 {\nread_timeout 1m\n}")
    outcome = forwarding.handler(ask("a.example"))
    began = forwarding.parts.clock.time()
    forwarding.parts.clock.advance(1.0)
    forwarding.upstream.asked[0].pending.resolve(TIMEOUT)
    first, second = forwarding.upstream.asked
    assert first.timeout == pytest.approx(DEADLINE)
    assert 4.0 <= second.timeout < DEADLINE - 0.3
    forwarding.parts.clock.advance(3.9)
    reply = reply_now(outcome)
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, str(TIMEOUT))
    assert forwarding.parts.clock.time() < began + DEADLINE + 0.2


def test_read_timeout_bounds_one_try() -> None:
    forwarding = Forwarding("forward . 192.0.2.1 {\nread_timeout 300ms\n}")
    forwarding.handler(ask("a.example"))
    assert forwarding.upstream.asked[0].timeout == 0.3


# Policies and bounds.


def test_sequential_begins_with_the_first() -> None:
    forwarding = Forwarding(
        "forward . 192.0.2.1 192.0.2.2 192.0.2.3 {\npolicy sequential\nmax_fails 0\n}", 3
    )
    assert [forwarding.order() for _ in range(2)] == [[0, 1, 2] * 2] * 2


def test_round_robin_begins_with_the_next() -> None:
    forwarding = Forwarding(
        "forward . 192.0.2.1 192.0.2.2 192.0.2.3 {\npolicy round_robin\nmax_fails 0\n}", 3
    )
    assert [forwarding.order()[0] for _ in range(4)] == [0, 1, 2, 0]


def test_random_begins_with_any() -> None:
    forwarding = Forwarding("forward . 192.0.2.1 192.0.2.2 192.0.2.3", 3)
    assert {forwarding.order()[0] for _ in range(50)} == {0, 1, 2}


def test_more_than_max_concurrent_are_refused() -> None:
    forwarding = Forwarding("forward . 192.0.2.1 {\nmax_concurrent 1\n}")
    forwarding.handler(ask("a.example"))
    reply = reply_now(forwarding.handler(ask("b.example")))
    assert (reply.rcode, reply.error) == (Rcode.REFUSED, "max_concurrent 1 reached")
    forwarding.upstream.asked[0].pending.resolve(says(FOUND)(forwarding.upstream.asked[0].query))
    assert isinstance(forwarding.handler(ask("c.example")), Pending)


def test_a_question_that_fails_within_is_not_counted_for_ever() -> None:
    forwarding = Forwarding("forward . 192.0.2.1 {\nmax_concurrent 1\n}")
    outcome = forwarding.handler(ask("a.example"))
    assert isinstance(outcome, Pending)
    forwarding.upstream.script = [TIMEOUT]
    forwarding.upstream.asked[0].pending.fail(ValueError("odd"))
    assert reply_now(outcome).rcode == Rcode.SERVFAIL
    assert isinstance(forwarding.handler(ask("b.example")), Pending)


# The Corefile.


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("10.0.0.1", "10.0.0.1:53"),
        ("10.0.0.1:5353", "10.0.0.1:5353"),
        ("dns://10.0.0.1", "10.0.0.1:53"),
        ("dns://10.0.0.1:54", "10.0.0.1:54"),
        ("2001:db8::1", "[2001:db8::1]:53"),
        ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ("fe80::1%eth0", "[fe80::1%eth0]:53"),
        ("tls://9.9.9.9", "tls://9.9.9.9:853"),
        ("tls://9.9.9.9:8853%dns.example", "tls://9.9.9.9:8853"),
        ("tls://9.9.9.9%dns.example:8853", "tls://9.9.9.9:8853"),
        ("tls://2001:db8::1%dns.example", "tls://[2001:db8::1]:853"),
        ("tls://[2001:db8::1]%dns.example:8853", "tls://[2001:db8::1]:8853"),
        ("https://9.9.9.9/q", "https://9.9.9.9:443/q"),
        ("https://dns.example", "https://dns.example:443/dns-query"),
    ],
)
def test_an_upstream_is_an_address_with_or_without_a_port(to: str, place: str) -> None:
    assert [str(server) for server in parsed(f"forward . {to}").servers] == [place]


def test_a_resolv_conf_names_upstreams(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# comment\nsearch a.example\nnameserver 10.0.0.1\nnameserver\nnameserver odd\n"
        "nameserver 2001:db8::1\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n"
    )
    parts = FakeParts()
    parsed(f"forward . 10.9.9.9 {path}").build(parts, always(Reply()))
    hosts = ["10.9.9.9", "10.0.0.1", "2001:db8::1", "10.0.0.3"]
    assert list(parts.upstreams) == [(host, 53) for host in hosts]


def test_a_resolv_conf_that_cannot_be_used_is_told_with_its_place(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("search a.example\n")
    for path, reason in [
        (f"{tmp_path}/none", "No such file"),
        (str(tmp_path), "Is a directory"),
        ("a\0b", "null byte"),
        (str(empty), "names no nameserver"),
    ]:
        with pytest.raises(CorefileError, match=f"^Corefile:2: forward: .*{reason}"):
            parsed(f'forward . "{path}"').build(FakeParts(), always(Reply()))


def test_upstreams_of_files_count_too(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    many = " ".join(f"10.0.1.{n}" for n in range(15))
    with pytest.raises(CorefileError, match=r"^Corefile:2: forward: expected at most 15 .*got 16"):
        parsed(f"forward . {many} {path}").build(FakeParts(), always(Reply()))


def test_it_explains_itself() -> None:
    assert parsed("forward . 10.0.0.1 /etc/resolv.conf").explain() == (
        ". to 10.0.0.1:53 /etc/resolv.conf; policy random"
    )
    told = parsed("forward a 10.0.0.1 {\nexcept b.a c.a\nmax_concurrent 9\n}").explain()
    assert told == "a. to 10.0.0.1:53; policy random; not b.a. c.a.; at most 9 at a time"


def test_it_tells_of_options_that_change_what_is_answered() -> None:
    told = parsed(
        "forward . 10.0.0.1 {\nfailover SERVFAIL REFUSED\nnext NXDOMAIN\ndeny_private corp.test\n"
        "single_stack\n}"
    ).explain()
    assert told.split("; ")[2:] == [
        "the next upstream after SERVFAIL REFUSED",
        "the next directive after NXDOMAIN",
        "no private addresses for corp.test.",
        "no addresses of a family that the cluster has none of",
    ]


def upstream_of(text: str) -> UpstreamSettings:
    """How the only upstream of a directive is talked to."""
    parts = FakeParts()
    parsed(text).build(parts, always(Reply()))
    (upstream,) = parts.settings.values()
    return upstream


def test_what_is_said_of_connections_holds_for_every_upstream() -> None:
    options = "tls cert key ca\ntls_servername dns.example\nexpire 20s\nmax_age 1m\n"
    options += "max_idle_conns 5\nsource_address 10.0.0.2\ndoh_method GET\nrandomize_case\n"
    assert upstream_of(f"forward . tls://9.9.9.9 {{\n{options}}}") == UpstreamSettings(
        "9.9.9.9",
        853,
        "tls",
        servername="dns.example",
        ca="ca",
        cert="cert",
        key="key",
        expire=20,
        max_age=60,
        max_idle_conns=5,
        source_address="10.0.0.2",
        doh_method="GET",
        randomize_case=True,
    )
    assert upstream_of("forward . tls://9.9.9.9 {\ntls ca\n}").ca == "ca"
    for to in ("9.9.9.9%own.example", "9.9.9.9%own.example:8853", "9.9.9.9:8853%own.example"):
        own = upstream_of(f"forward . tls://{to} {{\ntls_servername dns.example\n}}")
        assert own.servername == "own.example"


def test_what_is_said_of_choosing_is_read() -> None:
    options = "max_fails 0\nmax_connect_attempts 3\nhealth_check 5s no_rec domain example.org\n"
    options += "failover refused\nfailfast_all_unhealthy_upstreams\npolicy fastest\n"
    assert parsed(f"forward . 10.0.0.1 {{\n{options}}}").rules == Rules(
        policy="fastest",
        max_fails=0,
        max_tries=3,
        failover=frozenset({Rcode.REFUSED}),
        failfast=True,
        probe_every=5,
        probe_name=name.from_text("example.org"),
        probe_recursive=False,
    )


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        ("next NXDOMAIN SERVFAIL", Reply(Rcode.NXDOMAIN)),
        ("next NXDOMAIN SERVFAIL", Reply(Rcode.SERVFAIL)),
        ("next_on_nodata", Reply()),
    ],
)
def test_some_replies_send_the_question_to_the_next_directive(option: str, sent: Reply) -> None:
    forwarding = Forwarding(f"forward . 192.0.2.1 {{\n{option}\n}}")
    forwarding.upstream.script = [says(sent), says(FOUND)]
    assert reply_now(forwarding.handler(ask("a.example"))).by == "next"
    assert reply_now(forwarding.handler(ask("a.example"))).answer == FOUND.answer


@pytest.mark.parametrize(
    ("qname", "address", "kept"),
    [
        ("a.corp.example", (10, 0, 0, 1), False),
        ("a.corp.example", (127, 0, 0, 1), False),
        ("a.corp.example", (192, 168, 1, 1), False),
        ("a.corp.example", (93, 184, 216, 34), True),
        ("a.other.example", (10, 0, 0, 1), True),
    ],
)
def test_private_addresses_are_kept_from_the_answers_of_named_zones(
    qname: str, address: tuple[int, ...], kept: bool
) -> None:
    forwarding = Forwarding("forward . 192.0.2.1 {\ndeny_private corp.example\n}")
    rrset = RRset(name.from_text(qname), iana.A, 60, (bytes(address),))
    forwarding.upstream.script = [says(Reply(answer=(rrset,)))]
    reply = reply_now(forwarding.handler(ask(qname)))
    assert bool(reply.answer) is kept
    assert bool(reply.options) is not kept


def test_what_is_counted_stands_under_coredns_names() -> None:
    forwarding = Forwarding()
    forwarding.upstream.script = [TIMEOUT, says(FOUND)]
    reply_now(forwarding.handler(ask("a.example")))
    samples = {sample.name: sample for sample in forwarding.parts.meters.sample()}
    assert samples["coredns_forward_requests"].numbers == [(("192.0.2.1:53",), 2)]
    assert samples["coredns_forward_responses"].numbers == [(("192.0.2.1:53", "NOERROR"), 1)]
    durations = samples["coredns_proxy_request_duration_seconds"]
    ((labels, histogram),) = durations.histograms
    assert labels == ("forward", "192.0.2.1:53", "NOERROR")
    assert sum(histogram.counts) == 1
    assert samples["coredns_forward_max_concurrent_rejects"].numbers == [((), 0)]
    assert samples["coredns_proxy_healthcheck_failures"].labels == ("proxy_name", "to")


def test_two_directives_that_ask_one_upstream_count_each_reply_once() -> None:
    parts = FakeParts()
    upstream = parts.scripted("192.0.2.1")
    upstream.script += [says(FOUND) for _ in range(3)]
    handlers = [
        settings(forward.parse, f"forward {zone} 192.0.2.1").build(parts, refuse)
        for zone in ("a", "b")
    ]
    for handler, text in zip((*handlers, handlers[0]), ("x.a", "x.b", "y.a"), strict=True):
        reply_now(handler(ask(text)))
    samples = {sample.name: sample for sample in parts.meters.sample()}
    assert samples["coredns_forward_responses"].numbers == [(("192.0.2.1:53", "NOERROR"), 3)]
    ((_, observed),) = samples["coredns_proxy_request_duration_seconds"].histograms
    assert sum(observed.counts) == 3


def test_rcodes_that_nobody_assigned_are_one_label() -> None:
    forwarding = Forwarding()
    for rcode in (12, 13, 14):
        forwarding.upstream.script.append(says(Reply(rcode)))
        reply_now(forwarding.handler(ask(f"{rcode}.example")))
    samples = {sample.name: sample for sample in forwarding.parts.meters.sample()}
    assert samples["coredns_forward_responses"].numbers == [(("192.0.2.1:53", "other"), 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forward .", r"^Corefile:2: forward: expected at least 2 arguments, got 1"),
        ("forward a..b 10.0.0.1", r"^Corefile:2: expected a domain name"),
        ("forward . quic://9.9.9.9", r"^Corefile:2: forward: expected one of dns://, tls://"),
        ("forward . 10.0.0.1:0", r"^Corefile:2: forward: expected a port from 1 to 65535"),
        ("forward . 10.0.0.1:99999", r"^Corefile:2: expected a port from 0 to 65535"),
        ("forward . [::1]", r"^Corefile:2: expected HOST:PORT"),
        ("forward . " + "10.0.0.1 " * 16, r"^Corefile:2: .*at most 15 upstreams, got 16"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        parsed(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("except", "except: expected at least 1 argument"),
        ("except a..b", "expected a domain name"),
        ("force_tcp yes", "force_tcp: expected 0 arguments"),
        ("prefer_udp yes", "prefer_udp: expected 0 arguments"),
        ("failover NOERROR", "failover: expected an rcode of a failure, got NOERROR"),
        ("policy best", "policy: expected one of random, .*, got 'best'"),
        ("policy", "policy: expected 1 argument"),
        ("read_timeout 0s", "expected a duration from 0.001s"),
        ("max_concurrent -1", "expected a number from 0"),
        ("max_concurrent", "max_concurrent: expected 1 argument"),
        ("tls a b c d", "tls: expected at most 3"),
        ("expire 10", "expected a duration"),
        ("max_fails x", "expected a number"),
        ("health_check", "health_check: expected at least 1"),
        ("health_check x", "expected a duration"),
        ("health_check 5s domain", "health_check: expected no_rec or domain NAME, got 'domain'"),
        ("health_check 5s domain a..b", "expected a domain name"),
        ("next ODD", "next: expected an rcode such as NXDOMAIN, got 'ODD'"),
        ("source_address x", "expected an IP address, got 'x'"),
        ("doh_method PUT", "doh_method: expected one of GET, POST, got 'PUT'"),
        ("resolver", "resolver: expected at least 1"),
        ("speed 9", "forward: unknown option 'speed'; expected cookies, deny_private"),
    ],
)
def test_bad_options_are_told_with_their_place(line: str, message: str) -> None:
    with pytest.raises(CorefileError, match=f"^Corefile:3: {message}"):
        parsed(f"forward . 10.0.0.1 {{\n{line}\n}}")
