"""loop: what goes in a circle is not forwarded; everything else is answered as ever."""

import logging
from typing import cast

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import forward, loop
from kdns.plugins.chain import Handler, Outcome, Request, failure
from kdns.plugins.loop import RETRY, LoopGuard
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import read_query
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, ScriptedExchange, always, ask, reply_now, says, settings

NEXT = Reply(by="next")


class Guarded:
    """`loop`, and a `forward` of example.org. after it to a scripted upstream."""

    def __init__(self, following: Handler | None = None) -> None:
        self.parts = FakeParts()
        self.upstream: ScriptedExchange = self.parts.scripted("192.0.2.1")
        asks = settings(forward.parse, "forward . 192.0.2.1 {\nexcept local\nmax_fails 0\n}")
        self.forward = asks.build(self.parts, always(NEXT))
        built = settings(loop.parse, "loop", ("example.org.",)).build(
            self.parts, following or self.forward
        )
        self.guard = cast("LoopGuard", built)
        (self.start,) = self.parts.started

    def comes_back(self, wire: bytes) -> bytes:
        """The upstream asks us in its turn, and passes on what we say."""
        reply = reply_now(self.guard(Request(read_query(wire), ask("x").peer)))
        return says(reply)(wire)

    def looping(self) -> bool:
        return self.guard.looping

    def rcode(self, qname: str) -> int:
        return reply_now(self.guard(ask(qname))).rcode


def test_without_a_loop_nothing_is_held_back_and_no_further_probe_is_sent() -> None:
    guarded = Guarded()
    guarded.upstream.script = [says(Reply(Rcode.NXDOMAIN)), says(Reply())]
    guarded.start()
    (probe,) = guarded.upstream.asked
    query = read_query(probe.query)
    assert query.qtype == iana.HINFO
    assert name.is_below(query.key, name.from_text("example.org"))
    assert len(name.split(query.key)) == 4
    assert not guarded.looping()
    guarded.parts.clock.advance(0.1)
    assert guarded.parts.clock.waiting == 0
    assert guarded.rcode("a.example") == Rcode.NOERROR


def test_a_probe_that_comes_back_stops_forwarding_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guarded = Guarded()
    guarded.upstream.script = [guarded.comes_back]
    guarded.start()
    assert guarded.looping()
    assert "Loop (127.0.0.1 -> dns://:53) detected for zone 'example.org.'" in caplog.text
    reply = reply_now(guarded.guard(ask("a.example")))
    assert (reply.rcode, reply.by) == (Rcode.SERVFAIL, "loop")
    assert "leads back to this server" in reply.error
    # What forward leaves to others is theirs to answer.
    assert reply_now(guarded.guard(ask("printer.local"))).by == "next"


def test_forwarding_goes_on_once_the_loop_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guarded = Guarded()
    guarded.upstream.script = [guarded.comes_back, guarded.comes_back, says(Reply()), says(Reply())]
    guarded.start()
    guarded.parts.clock.advance(RETRY)
    assert guarded.looping()
    assert caplog.text.count("detected") == 1
    guarded.parts.clock.advance(RETRY)
    assert not guarded.looping()
    assert "No loop for zone 'example.org.' any more" in caplog.text
    guarded.parts.clock.advance(0.1)
    assert guarded.parts.clock.waiting == 0
    assert guarded.rcode("a.example") == Rcode.NOERROR


def test_a_probe_that_nobody_answers_is_sent_again() -> None:
    guarded = Guarded()
    timeout = UpstreamError("timeout", "no reply")
    guarded.upstream.script = [timeout, timeout, says(Reply())]
    guarded.start()
    assert not guarded.looping()
    guarded.parts.clock.advance(RETRY)
    assert len(guarded.upstream.asked) == 3
    guarded.parts.clock.advance(0.1)
    assert guarded.parts.clock.waiting == 0


def test_a_probe_that_nobody_answers_does_not_end_a_known_loop() -> None:
    guarded = Guarded()
    timeout = UpstreamError("timeout", "no reply")
    guarded.upstream.script = [guarded.comes_back, timeout, timeout]
    guarded.start()
    guarded.parts.clock.advance(RETRY)
    assert guarded.looping()


def test_probes_fail_without_stopping_the_server(caplog: pytest.LogCaptureFixture) -> None:
    pending: Pending[Reply] = Pending()
    outcomes: list[Outcome | Exception] = [ValueError("odd"), pending, NEXT]

    def following(request: Request) -> Outcome:
        made = outcomes.pop(0)
        if isinstance(made, Exception):
            raise made
        return made

    guarded = Guarded(following)
    guarded.start()
    assert "ValueError: odd" in caplog.text
    guarded.parts.clock.advance(RETRY)
    caplog.clear()
    pending.fail(ValueError("late"))
    assert "ValueError: late" in caplog.text
    guarded.parts.clock.advance(RETRY)
    guarded.parts.clock.advance(0.1)
    assert guarded.parts.clock.waiting == 0
    assert not guarded.looping()


def test_a_probe_may_be_answered_at_once() -> None:
    guarded = Guarded(always(failure("not now", "next")))
    guarded.start()
    assert guarded.parts.clock.waiting == 1


def test_the_probe_is_a_name_that_nobody_can_guess() -> None:
    guarded = Guarded()
    other = ask("1.2.example.org", iana.HINFO)
    guarded.upstream.script = [says(Reply())]
    assert reply_now(guarded.guard(other)).rcode == Rcode.NOERROR


def test_it_explains_itself() -> None:
    told = settings(loop.parse, "loop").explain()
    assert told == "forwarding loops of . are found, and not forwarded"


@pytest.mark.parametrize("text", ["loop x", "loop {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: loop: expected"):
        settings(loop.parse, text)
