"""Whatever an upstream does, no client gets a record that was not the answer to its question.

A real forward behind a real cache asks a scripted server over loopback, by UDP, TCP or TLS. What is
true of a name is one address that follows from the name; what a hostile reply says is LIE. Time is
the test's, so that nobody waits for a time-out.
"""

import asyncio
from collections.abc import Awaitable
from hashlib import sha256
from random import Random
from typing import cast

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdns.net.upstream import Upstream
from kdns.plugins import cache, forward
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamExchange
from kdns.testing.upstream import ScriptedUpstream, Step
from kdns.wire import iana, name
from kdns.wire.message import Query, read_query
from kdns.wire.reply import Reply, RRset, write_reply
from tests.certificates import Certificates
from tests.plugins.fakes import FakeParts
from tests.plugins.fakes import settings as configured

LIE = bytes((203, 0, 113, 66))
NAMES = ("a.example", "b.example", "www.a.example", "c.test")
CLIENT = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")


def truth(key: bytes) -> bytes:
    """The only address of a name, in lower case."""
    return bytes((192, 0, 2, sha256(key).digest()[0]))


def address(owner: bytes, rdata: bytes, rtype: int = iana.A) -> RRset:
    return RRset(owner, rtype, 300, (rdata,))


def right(wire: bytes, *, extra: Reply | None = None) -> bytes:
    """The true answer, and what else a reply may say."""
    query = read_query(wire)
    reply = extra or Reply()
    reply.answer = (address(query.qname, truth(query.key)), *reply.answer)
    return write_reply(query, reply, limit=65535)


def wrong(wire: bytes) -> bytes:
    """A whole answer that says LIE. To be sent under what makes it unbelievable."""
    query = read_query(wire)
    return write_reply(query, Reply(answer=(address(query.qname, LIE),)), limit=65535)


# Each takes the question as it came and gives what is sent back.


def another_id(wire: bytes) -> bytes:
    made = wrong(wire)
    return bytes((made[0] ^ 1,)) + made[1:]


def another_name(wire: bytes) -> bytes:
    query = read_query(wire)
    other = Query(name.from_text("d.example"), iana.A, id=query.id)
    return write_reply(other, Reply(answer=(address(other.qname, LIE),)), limit=512)


def another_type(wire: bytes) -> bytes:
    query = read_query(wire)
    other = Query(query.qname, iana.AAAA, id=query.id)
    return write_reply(other, Reply(answer=(address(query.qname, LIE),)), limit=512)


def another_class(wire: bytes) -> bytes:
    query = read_query(wire)
    other = Query(query.qname, iana.A, iana.CH, id=query.id)
    return write_reply(other, Reply(answer=(address(query.qname, LIE),)), limit=512)


def no_reply_at_all(wire: bytes) -> bytes:
    made = wrong(wire)
    return made[:2] + bytes((made[2] & 0x7F,)) + made[3:]


def two_questions(wire: bytes) -> bytes:
    made = wrong(wire)
    return made[:4] + b"\0\2" + made[6:]


def no_question(wire: bytes) -> bytes:
    made, query = wrong(wire), read_query(wire)
    return made[:4] + b"\0\0" + made[6:12] + made[16 + len(query.qname) :]


def more_records_than_there_are(wire: bytes) -> bytes:
    made = wrong(wire)
    return made[:6] + b"\0\7" + made[8:]


def cut_off(wire: bytes) -> bytes:
    return wrong(wire)[:-3]


def something_behind(wire: bytes) -> bytes:
    return wrong(wire) + b"\0"


def another_owner(wire: bytes) -> bytes:
    """A lie beside the truth, of a name that was not asked for (RFC 5452, section 6)."""
    extra = Reply(answer=(address(name.from_text("bank.example"), LIE),))
    return right(wire, extra=extra)


def authority_elsewhere(wire: bytes) -> bytes:
    target = name.from_text("evil.test")
    ns = RRset(name.from_text("bank.example"), iana.NS, 300, (target,))
    return right(wire, extra=Reply(authority=(ns,)))


def address_elsewhere(wire: bytes) -> bytes:
    """Of a name that nothing in the reply has to do with."""
    return right(wire, extra=Reply(additional=(address(name.from_text("bank.example"), LIE),)))


def truncated_lie(wire: bytes) -> bytes:
    made = another_id(wire)
    return made[:2] + bytes((made[2] | 0x02,)) + made[3:]


def truncated(wire: bytes) -> bytes:
    query = read_query(wire)
    return write_reply(query, Reply(tc=True), limit=512)


def lie_then_truth(wire: bytes) -> tuple[bytes, ...]:
    return another_id(wire), another_name(wire), right(wire)


def twice(wire: bytes) -> tuple[bytes, ...]:
    """The second comes when nobody waits for it any more."""
    return right(wire), wrong(wire)


def servfail(wire: bytes) -> bytes:
    return write_reply(read_query(wire), Reply(2), limit=512)


def formerr(wire: bytes) -> bytes:
    """A header alone, as of one who could not read the question."""
    return wire[:2] + b"\x81\x81" + bytes(8)


def silence(wire: bytes) -> None:
    return None


UNBELIEVABLE: tuple[Step, ...] = (
    another_id,
    another_name,
    another_type,
    another_class,
    no_reply_at_all,
    two_questions,
    no_question,
    more_records_than_there_are,
    cut_off,
    something_behind,
    truncated_lie,
)
HONEST: tuple[Step, ...] = (right, truncated, servfail, formerr, silence)
MIXED: tuple[Step, ...] = (
    another_owner,
    authority_elsewhere,
    address_elsewhere,
    lie_then_truth,
    twice,
)
ENDINGS: tuple[Step, ...] = ("close", "reset", "cut", "hold")


def garbage(raw: bytes) -> Step:
    """Any octets, under the right ID."""
    return lambda wire: wire[:2] + raw


steps = st.sampled_from((*UNBELIEVABLE, *HONEST, *MIXED, *ENDINGS)) | st.binary(max_size=60).map(
    garbage
)


class Behind:
    """What clients ask: a cache and a forward to the server, and a clock that the test moves."""

    def __init__(
        self, server: ScriptedUpstream, certificates: Certificates | None, *, tcp: bool = False
    ) -> None:
        self.parts = FakeParts()
        self.upstream = Upstream(
            server.host,
            server.port,
            loop=asyncio.get_running_loop(),
            rng=Random(1),
            clock=self.parts.clock,
            context=certificates.client_context() if certificates else None,
        )
        place = (server.host, server.port)
        self.parts.upstreams[place] = cast("UpstreamExchange", self.upstream)
        option = "force_tcp" if tcp else "max_fails 2"
        forwarding = f"forward . {server.host}:{server.port} {{\n{option}\n}}"
        asked = configured(forward.parse, forwarding).build(self.parts, lambda request: Reply())
        stale = configured(cache.parse, "cache {\nserve_stale 1h\nprefetch 1 1m 90%\n}")
        self.parts.block.handler = stale.build(self.parts, asked)
        self.dispatcher = Dispatcher(self.parts.monotonic)
        self.dispatcher.serve(self.parts.block)

    async def ask(self, text: str) -> bytes:
        """The reply, which there is within six seconds of the test's time."""
        wire = dns.message.make_query(text, "A", id=7).to_wire()
        got: list[bytes | None] = []
        outcome = self.dispatcher(wire, CLIENT)
        if isinstance(outcome, Pending):
            outcome.when_done(got.append)
        else:
            got.append(outcome)
        for _ in range(60):
            for _ in range(4):
                if got:
                    break
                await asyncio.sleep(0)
            if not got:
                self.parts.clock.advance(0.1)
        (reply,) = got
        assert reply is not None
        return reply


def check(text: str, wire: bytes) -> None:
    """The truth about the name, or nothing about any."""
    reply = dns.message.from_wire(wire)
    assert LIE not in wire
    assert b"bank" not in wire
    for rrset in reply.answer:
        assert rrset.name.to_text() == f"{text}."
        meant = ".".join(map(str, truth(name.from_text(text))))
        assert [rdata.to_text() for rdata in rrset] == [meant]
    assert reply.question[0].name.to_text() == f"{text}."


async def converse(
    script: list[Step], asked: list[str], certificates: Certificates | None, *, tcp: bool
) -> None:
    context = certificates.server_context() if certificates else None
    async with ScriptedUpstream(*script, otherwise=right, context=context) as server:
        behind = Behind(server, certificates, tcp=tcp)
        for text in asked:
            check(text, await behind.ask(text))
        # What is late comes now, under IDs that others may have; and time passes.
        while server.waits:
            held = await server.held()
            held.reply(wrong(held.question.wire))
            held.reply(right(held.question.wire))
        for seconds in (0.0, 290.0, 20.0):
            behind.parts.clock.advance(seconds)
            for text in NAMES:
                check(text, await behind.ask(text))
        await behind.upstream.close()


def run(made: Awaitable[None]) -> None:
    async def alone() -> None:
        await made

    asyncio.run(alone())


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@example([lie_then_truth] * 3, ["a.example"] * 2, False)
@example(["hold", "hold", right], ["a.example", "b.example"], False)
@example([truncated, "cut", truncated, "reset"], ["a.example"], False)
@given(st.lists(steps, max_size=10), st.lists(st.sampled_from(NAMES), max_size=4), st.booleans())
def test_nobody_gets_a_record_that_was_not_the_answer(
    script: list[Step],
    asked: list[str],
    tcp: bool,
) -> None:
    run(converse(script, asked, None, tcp=tcp))


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@example(["reset", "cut", "reset", right], ["a.example"])
@given(st.lists(steps, max_size=8), st.lists(st.sampled_from(NAMES), max_size=2))
def test_nor_over_tls(certificates: Certificates, script: list[Step], asked: list[str]) -> None:
    run(converse(script, asked, certificates, tcp=False))


@pytest.mark.parametrize("step", [another_owner, authority_elsewhere, address_elsewhere])
def test_what_stands_beside_the_truth_goes(step: Step) -> None:
    run(converse([step], ["a.example"], None, tcp=False))


@pytest.mark.parametrize("step", [*UNBELIEVABLE, "close", "reset", "cut", silence])
@pytest.mark.parametrize("tcp", [False, True])
def test_each_of_them_costs_a_second_try_and_no_answer(step: Step, tcp: bool) -> None:
    """The next question, or the second try for the same, is answered with the truth."""

    async def made() -> None:
        async with ScriptedUpstream(step, otherwise=right) as server:
            behind = Behind(server, None, tcp=tcp)
            reply = dns.message.from_wire(await behind.ask("a.example"))
            assert [rrset.to_text() for rrset in reply.answer] == [
                "a.example. 300 IN A " + ".".join(map(str, truth(name.from_text("a.example"))))
            ]
            await behind.upstream.close()

    run(made())
