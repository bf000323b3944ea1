"""From bytes to bytes: a ladder of cheap refusals, then the block of the longest zone."""

import re

import dns.flags
import dns.message
import dns.rcode
import pytest

from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, Withheld
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.telemetry.top import Top
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset, opt_record
from tests.plugins.fakes import (
    addresses,
    always,
    ask,
    later,
    question,
    reply_now,
)

PEER = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")
NSID = ((iana.EDNS_NSID, b""),)
FOUND = Reply(answer=(addresses("a.example", 1),), by="test")


class Server:
    """A dispatcher with blocks, and a clock that stands still."""

    def __init__(self, *blocks: Block) -> None:
        self.dispatcher = Dispatcher(lambda: 5.0)
        for block in blocks:
            self.dispatcher.serve(block)

    def raw(self, wire: bytes, peer: Peer = PEER) -> bytes | None:
        got = self.dispatcher(wire, peer)
        assert not isinstance(got, Pending)
        return got

    def ask(self, wire: bytes, peer: Peer = PEER) -> dns.message.Message:
        got = self.raw(wire, peer)
        assert got is not None
        return dns.message.from_wire(got)


def block(*zones: str, handler: Handler | None = None, by: str = "test") -> Block:
    answer = handler or always(Reply(by=by))
    return Block(zones, handler=answer, counted=True)


@pytest.fixture
def root() -> Server:
    return Server(block(".", handler=always(FOUND)))


# The ladder.


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x00",
        bytes(11),
        question("a.example", flags=iana.QR),
        question("a.example", flags=iana.QR | iana.OPCODE_MASK),
    ],
)
def test_what_is_no_query_gets_silence(root: Server, wire: bytes) -> None:
    assert root.raw(wire) is None
    assert root.dispatcher.unserved == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"\x12\x34\x01\x00" + bytes(8),
        b"\x12\x34\x01\x00\x00\x02" + bytes(6) + question("a.example")[12:] * 2,
        b"\x12\x34\x01\x00\x00\x01" + bytes(6),
        b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x03abc",
        b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\xc0\x0c\x00\x01\x00\x01",
        question("a.example", id=0x1234) + b"x",
    ],
)
def test_what_cannot_be_read_is_formerr(root: Server, wire: bytes) -> None:
    reply = root.raw(wire)
    assert reply is not None
    assert (reply[:2], len(reply), reply[3] & 15) == (b"\x12\x34", 12, Rcode.FORMERR)
    assert root.dispatcher.unserved == 1


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_other_opcodes_are_not_implemented(root: Server, opcode: int) -> None:
    reply = root.ask(question("a.example", flags=opcode << 11))
    assert (reply.rcode(), int(reply.opcode())) == (dns.rcode.NOTIMP, opcode)


def test_edns_of_another_version_is_badvers_with_our_own(root: Server) -> None:
    opt = bytearray(opt_record())
    opt[6] = 1
    for served in (root, Server()):
        reply = served.ask(question("a.example", opt=bytes(opt)))
        assert (reply.rcode(), reply.edns, reply.answer) == (dns.rcode.BADVERS, 0, [])


@pytest.mark.parametrize("qclass", [iana.CH, 4, iana.CLASS_ANY, 0])
def test_other_classes_are_refused(root: Server, qclass: int) -> None:
    assert root.ask(question("a.example", qclass=qclass)).rcode() == dns.rcode.REFUSED


def test_class_ch_is_for_blocks_that_serve_it() -> None:
    served = block(".")
    served.classes.add(iana.CH)
    wire = question("version.bind", iana.TXT, qclass=iana.CH)
    assert Server(served).ask(wire).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("qtype", [iana.AXFR, iana.IXFR])
def test_transfers_are_refused(root: Server, qtype: int) -> None:
    assert root.ask(question("a.example", qtype)).rcode() == dns.rcode.REFUSED


def test_names_of_no_zone_are_refused() -> None:
    server = Server(block("example.org."))
    assert server.ask(question("example.com")).rcode() == dns.rcode.REFUSED
    assert server.dispatcher.unserved == 1


# The block.


def by(server: Server, qname: str, qtype: int = iana.A) -> str:
    found = server.dispatcher.find(ask(qname, qtype).query)
    return "" if found is None else found.label


@pytest.fixture
def three() -> Server:
    """The root, example.org and a.example.org, each in a block labelled by its zone."""
    zones = (".", "Example.org.", "a.example.org.")
    return Server(*(Block((zone,), label=zone.lower()) for zone in zones))


@pytest.mark.parametrize(
    ("qname", "zone"),
    [
        (".", "."),
        ("org", "."),
        ("xexample.org", "."),
        ("EXAMPLE.org", "example.org."),
        ("b.example.org", "example.org."),
        ("ba.example.org", "example.org."),
        ("a.example.org", "a.example.org."),
        ("x.y.a.example.org", "a.example.org."),
    ],
)
def test_the_longest_zone_answers(three: Server, qname: str, zone: str) -> None:
    assert by(three, qname) == zone


@pytest.mark.parametrize(
    ("qname", "zone"),
    [
        ("a.example.org", "example.org."),
        ("b.a.example.org", "a.example.org."),
        ("example.org", "example.org."),
        (".", "."),
    ],
)
def test_ds_at_an_apex_is_the_parents_unless_that_is_the_root(
    three: Server, qname: str, zone: str
) -> None:
    assert by(three, qname, iana.DS) == zone


def test_ds_at_an_apex_without_a_parent_is_its_own_block_s() -> None:
    server = Server(Block(("example.org.",), label="only"))
    assert by(server, "example.org", iana.DS) == "only"
    assert by(server, "org", iana.DS) == ""


def test_an_alias_may_be_asked_of_the_whole_server() -> None:
    server = Server(block("a.", by="a"), block("b.", by="b"))
    resolve = server.dispatcher.resolve
    assert reply_now(resolve(ask("x.b"))).by == "b"
    assert reply_now(resolve(ask("x.c"))) == Reply(Rcode.REFUSED)


# The reply.


def test_the_reply_echoes_id_question_and_its_letter_case(root: Server) -> None:
    reply = root.ask(question("A.exAmple", id=0xBEEF))
    assert reply.id == 0xBEEF
    assert reply.question[0].name.to_text() == "A.exAmple."
    assert [rrset.to_text() for rrset in reply.answer] == ["A.exAmple. 30 IN A 192.0.2.1"]


def test_recursion_is_available_where_the_block_forwards() -> None:
    served = block(".")
    server = Server(served)
    assert not server.ask(question("a")).flags & dns.flags.RA
    served.can_forward = True
    assert server.ask(question("a")).flags & dns.flags.RA


@pytest.mark.parametrize(
    ("edns", "cap", "limit"),
    [(None, 4096, 512), (1232, 4096, 1232), (65535, 4096, 4096), (4096, 600, 600), (1, 4096, 512)],
)
def test_a_datagram_is_no_larger_than_both_can_take(edns: int | None, cap: int, limit: int) -> None:
    many = RRset(name.from_text("a"), iana.TXT, 5, tuple(b"\x0a%010d" % n for n in range(500)))
    served = block(".", handler=always(Reply(answer=(many,))))
    served.udp_limit = cap
    wire = question("a", iana.TXT, opt=b"" if edns is None else opt_record(size=edns))
    reply = Server(served).raw(wire)
    assert reply is not None
    assert limit - 30 < len(reply) <= limit
    assert dns.message.from_wire(reply).flags & dns.flags.TC
    whole = Server(served).ask(wire, PEER._replace(proto="tcp"))
    assert len(whole.answer[0]) == 500


def test_our_opt_offers_the_blocks_size() -> None:
    served = block(".")
    served.udp_size = 700
    assert Server(served).ask(question("a", opt=opt_record())).payload == 700


@pytest.mark.parametrize(("nsid", "asked"), [(b"node-1", True), (b"", True), (b"node-1", False)])
def test_nsid_is_for_who_asks(nsid: bytes, asked: bool) -> None:
    served = block(".")
    served.nsid = nsid
    reply = Server(served).ask(question("a", opt=opt_record(options=NSID if asked else ())))
    assert [option.to_wire() for option in reply.options] == ([nsid] if asked else [])


def test_dnssec_ok_is_the_clients(root: Server) -> None:
    for do in (True, False):
        reply = root.ask(question("a", opt=opt_record(do=do)))
        assert bool(reply.ednsflags & dns.flags.DO) is do


# Failures.


def broken(request: Request) -> Outcome:
    raise ValueError("odd")


def pending_of(server: Server, wire: bytes) -> list[bytes | None]:
    got: list[bytes | None] = []
    outcome = server.dispatcher(wire, PEER)
    assert isinstance(outcome, Pending)
    outcome.when_done(got.append)
    return got


def failed(wire: bytes | None) -> bool:
    assert wire is not None
    return dns.message.from_wire(wire).rcode() == dns.rcode.SERVFAIL


def test_a_handler_that_raises_is_a_servfail_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = block(".", handler=broken)
    assert failed(Server(served).raw(question("a")))
    served.counters.settle()
    assert served.counters.panics == 1
    (line,) = caplog.messages
    assert re.fullmatch(
        r'Recovered from panic in server: "dns://:53" ValueError: odd in test_dispatch\.py:\d+, '
        r"asked a\. A",
        line,
    )


@pytest.mark.parametrize("wants", ["", "stacktrace", "debug"])
def test_its_traceback_is_for_who_asks_for_it(wants: str, caplog: pytest.LogCaptureFixture) -> None:
    served = block(".", handler=broken)
    if wants:
        setattr(served, wants, True)
    Server(served).raw(question("a"))
    assert ("Traceback" in caplog.text) == bool(wants)


def test_a_step_that_raises_later_is_a_servfail_too(caplog: pytest.LogCaptureFixture) -> None:
    pending: Pending[Reply] = Pending()

    def stumbles(reply: Reply) -> Reply:
        raise ValueError("late")

    served = block(".", handler=lambda request: pending.then(stumbles))
    told: list[str] = []
    served.observers.append(lambda request, reply, size, seconds: told.append(reply.error))
    got = pending_of(Server(served), question("a"))
    pending.resolve(FOUND)
    assert failed(got[0])
    served.counters.settle()
    assert (served.counters.panics, told) == (1, ["internal error: late"])
    served.counters.settle()
    assert served.counters.responses == {(Rcode.SERVFAIL, ""): 1}
    assert "ValueError: late" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
def test_a_reply_that_cannot_be_written_is_a_servfail(at_once: bool) -> None:
    unwritable = Reply(answer=(RRset(name.from_text("a"), iana.TXT, 5, (bytes(70000),)),))
    pending: Pending[Reply] = Pending()
    served = block(".", handler=always(unwritable) if at_once else later(pending))
    if at_once:
        assert failed(Server(served).raw(question("a")))
    else:
        got = pending_of(Server(served), question("a"))
        pending.resolve(unwritable)
        assert failed(got[0])
    served.counters.settle()
    assert served.counters.responses == {(Rcode.SERVFAIL, ""): 1}
    served.counters.settle()
    assert sum(served.counters.requests.values()) == 1


def test_an_observer_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    served = block(".")
    told: list[int] = []

    def stumbles(request: Request, reply: Reply, size: int, seconds: float) -> None:
        raise ValueError("observer")

    served.observers += [stumbles, lambda request, reply, size, seconds: told.append(size)]
    reply = Server(served).raw(question("a"))
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.NOERROR
    assert told == [len(reply)]
    assert "ValueError: observer" in caplog.text


# Counts, and who is told.


def test_every_question_and_every_reply_is_counted_once() -> None:
    served = block("example.")
    server = Server(served)
    v6 = PEER._replace(host="2001:db8::1", proto="tcp")
    for _ in range(2):
        server.ask(question("a.example"))
    server.ask(question("a.example", iana.AAAA), v6)
    server.ask(question("a.example", iana.AXFR))
    server.ask(question("elsewhere"))
    server.raw(b"")
    served.counters.settle()
    assert served.counters.requests == {
        ("udp", 1, iana.A): 2,
        ("tcp", 2, iana.AAAA): 1,
        ("udp", 1, iana.AXFR): 1,
    }
    served.counters.settle()
    assert served.counters.responses == {(Rcode.NOERROR, "test"): 3, (Rcode.REFUSED, ""): 1}
    served.counters.settle()
    assert served.counters.panics == 0
    assert server.dispatcher.unserved == 2


def test_blocks_without_prometheus_count_nothing() -> None:
    served = Block((".",), handler=always(Reply()))
    Server(served).ask(question("a"))
    served.counters.settle()
    assert (served.counters.requests, served.counters.responses) == ({}, {})


@pytest.mark.parametrize("at_once", [True, False])
def test_observers_are_told_of_the_reply_its_octets_and_the_time_it_took(at_once: bool) -> None:
    now = [10.0]
    dispatcher = Dispatcher(lambda: now[0])
    pending: Pending[Reply] = Pending()
    served = block(".", handler=always(FOUND) if at_once else later(pending))
    told: list[tuple[str, str, int, float]] = []
    served.observers.append(
        lambda request, reply, size, seconds: told.append(
            (name.to_text(request.query.qname), reply.by, size, seconds)
        )
    )
    dispatcher.serve(served)
    outcome = dispatcher(question("a.example"), PEER)
    got: list[bytes | None] = []
    if isinstance(outcome, Pending):
        outcome.when_done(got.append)
        now[0] = 12.5
        pending.resolve(FOUND)
    else:
        got.append(outcome)
    (wire,) = got
    assert wire is not None
    assert told == [("a.example.", "test", len(wire), 0.0 if at_once else 2.5)]


def test_a_block_of_several_zones_counts_each_for_itself() -> None:
    served = block("example.", "sub.example.", "other.")
    server = Server(served)
    table = Table("tcp", 1)
    front = server.dispatcher.front(table)
    peer = PEER._replace(proto="tcp")
    for text, times in (("a.example", 1), ("b.sub.example", 4), ("other", 3)):
        for _ in range(times):
            front(question(text), peer)
    table.count()
    for counters in served.by_zone:
        counters.settle()
    assert [sum(c.requests.values()) for c in served.by_zone] == [1, 4, 3]
    assert [sum(c.durations.counts) for c in served.by_zone] == [1, 4, 3]


def test_queries_for_no_zone_are_counted_as_dropped() -> None:
    server = Server(block("example."))
    nobody = server.dispatcher.nobody
    nobody.counted = True
    server.ask(question("elsewhere"))
    nobody.counters.settle()
    assert nobody.zones == ("dropped",)
    assert nobody.counters.responses == {(Rcode.REFUSED, ""): 1}


def test_what_cannot_be_read_is_told_to_who_looks_for_a_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "kdns.query")
    Server().raw(b"\x00\x07odd")
    assert caplog.messages == ["from 10.0.0.1: shorter than a header: 00076f6464"]


# Other blocks in the place of these.


def test_from_one_step_on_the_new_blocks_are_asked(root: Server) -> None:
    root.dispatcher.replace([block("example.", handler=always(Reply(Rcode.NXDOMAIN)))])
    rcodes = [root.ask(question(qname)).rcode() for qname in ("a.example", "a.org")]
    assert rcodes == [dns.rcode.NXDOMAIN, dns.rcode.REFUSED]


def test_what_was_hot_is_of_the_blocks_before() -> None:
    hot_reply = Reply(answer=(addresses("a.example", 1),), depends=(), by="test")
    server = Server(block(".", handler=always(hot_reply)))
    table = Table("udp", 1)
    front = server.dispatcher.front(table)
    wire = question("a.example")
    for _ in range(3):
        front(wire, PEER)
    assert table.entries
    server.dispatcher.replace([block(".", handler=always(Reply(Rcode.NXDOMAIN)))])
    got = front(wire, PEER)
    assert isinstance(got, bytes)
    assert dns.message.from_wire(got).rcode() == dns.rcode.NXDOMAIN


def test_what_is_pending_is_answered_by_the_block_that_was_asked() -> None:
    pending: Pending[Reply] = Pending()
    before = block(".", handler=later(pending))
    server = Server(before)
    outcome = server.dispatcher(question("a.example"), PEER)
    server.dispatcher.replace([block(".", handler=always(Reply(Rcode.NXDOMAIN)))])
    assert isinstance(outcome, Pending)
    got: list[bytes | None] = []
    outcome.when_done(got.append)
    pending.resolve(FOUND)
    assert got[0] is not None
    assert dns.message.from_wire(got[0]).rcode() == dns.rcode.NOERROR
    before.counters.settle()
    assert sum(before.counters.requests.values()) == 1


# Silence.


def test_a_reply_that_is_withheld_is_not_sent_counted_or_told_of() -> None:
    told: list[Request] = []
    silent = block(".", handler=always(Withheld(depends=())))
    silent.observers.append(lambda request, reply, size, seconds: told.append(request))
    assert Server(silent).raw(question("a.example")) is None
    assert (sum(silent.counters.responses.values()), told) == (0, [])
    assert silent.counters.response_sizes == {}


def test_the_question_of_a_reply_that_is_withheld_is_counted() -> None:
    silent = block(".", handler=always(Withheld()))
    silent.asked = Top(lambda: 0.0)
    wire = question("a.example", iana.AAAA, opt=opt_record(do=True))
    Server(silent).raw(wire)
    counters = silent.counters
    assert counters.requests == {("udp", 1, iana.AAAA): 1}
    assert (counters.do_requests, counters.request_sizes["udp"].sum) == (1, len(wire))
    assert sum(counters.durations.counts) == 1
    assert silent.asked.read().sketches["names"].total == 1


def test_without_the_prometheus_directive_nothing_of_it_is_counted() -> None:
    silent = block(".", handler=always(Withheld()))
    silent.counted = False
    Server(silent).raw(question("a.example"))
    assert silent.counters.requests == {}


def test_names_that_are_answered_from_here_are_those_of_blocks_that_ask_nobody() -> None:
    asking, own = block(".", "corp.test."), block("own.test.")
    asking.can_forward = True
    asking.own_zones.append(name.from_text("cluster.local"))
    zones = Server(asking, own).dispatcher.own_zones()
    assert set(zones) == {name.from_text("own.test"), name.from_text("cluster.local")}


def test_names_are_passed_on_to_upstreams_by_blocks_that_ask_some() -> None:
    asking, own = block("."), block("own.test.")
    asking.can_forward = True
    for each in (asking, own):
        each.passing.append((b"\4%b\0" % each.label[-4:].encode(), bool))
    assert Server(asking, own).dispatcher.passing() == asking.passing


def test_where_nobody_is_asked_all_names_are() -> None:
    assert Server(block("a.test."), block("b.test.")).dispatcher.own_zones() == [name.ROOT]


# Who is told of messages.


class BrokenTap:
    """A tap that does what none may."""

    def asked(self, *_: object, **__: object) -> None:
        raise ValueError("asked")

    answered = forwarded = returned = asked


def test_a_tap_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    served = block(".", handler=always(FOUND))
    served.taps.append(BrokenTap())
    assert Server(served).ask(question("a.example")).answer
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
