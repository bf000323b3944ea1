"""Questions in flight: merged, tried again, given up; and which upstream gets the next one."""

import pytest

from kdns.plugins import forwarding
from kdns.plugins.forwarding import DEADLINE, Forwarding, Rules, Target
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Query, read_query
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, ScriptedExchange, addresses, says

FOUND = Reply(answer=(addresses("a.example", 1, 2),))
TIMEOUT = UpstreamError("timeout", "no reply")
REFUSED = UpstreamError("refused", "nobody listens")


class Upstreams:
    """Some upstreams, and what asks them."""

    def __init__(self, count: int = 1, rules: Rules | None = None) -> None:
        self.parts = FakeParts()
        self.exchanges = [ScriptedExchange() for _ in range(count)]
        self.targets = [Target(f"u{n}", exchange) for n, exchange in enumerate(self.exchanges)]
        self.forwarding = Forwarding(self.targets, rules or Rules("sequential"), self.parts)
        self.replies: list[Reply] = []

    def ask(self, text: str = "a.example", qtype: int = iana.A) -> Pending[Reply]:
        pending = self.forwarding.ask(Query(name.from_text(text), qtype), tcp=False)
        pending.when_done(self.replies.append)
        return pending

    def asked(self) -> list[int]:
        """How many questions each upstream has got."""
        return [len(exchange.asked) for exchange in self.exchanges]

    def answer(self, upstream: int, question: int = -1, reply: Reply = FOUND) -> None:
        asked = self.exchanges[upstream].asked[question]
        asked.pending.resolve(says(reply)(asked.query))

    def fail(self, upstream: int, question: int = -1) -> None:
        self.exchanges[upstream].asked[question].pending.resolve(TIMEOUT)

    def wait(self, seconds: float) -> None:
        self.parts.clock.advance(seconds)


# One question in flight.


def test_a_thousand_clients_that_ask_the_same_are_one_question() -> None:
    upstreams = Upstreams()
    for number in range(1000):
        upstreams.ask("a.example" if number % 2 else "A.EXAMPLE")
    assert upstreams.asked() == [1]
    upstreams.answer(0)
    assert [reply.answer for reply in upstreams.replies] == [FOUND.answer] * 1000
    assert upstreams.forwarding.merged == 999
    assert upstreams.forwarding.waiting == 0


def test_everybody_gets_a_reply_of_their_own() -> None:
    upstreams = Upstreams()
    upstreams.ask()
    upstreams.ask()
    upstreams.answer(0)
    upstreams.replies[0].answer = ()
    assert upstreams.replies[1].answer == FOUND.answer


def test_different_questions_are_not_merged() -> None:
    upstreams = Upstreams()
    upstreams.ask("a.example")
    upstreams.ask("b.example")
    upstreams.ask("a.example", iana.AAAA)
    assert upstreams.asked() == [3]


def test_the_question_is_asked_anew_once_it_was_answered() -> None:
    upstreams = Upstreams()
    upstreams.ask()
    upstreams.answer(0)
    upstreams.ask()
    assert upstreams.asked() == [2]


def test_questions_and_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MAX_FLIGHTS", 2)
    monkeypatch.setattr(forwarding, "MAX_WAITING", 3)
    upstreams = Upstreams()
    for text in ("a.example", "b.example", "c.example", "a.example", "a.example"):
        upstreams.ask(text)
    assert [reply.error for reply in upstreams.replies] == [
        "2 questions are in flight already",
        "3 clients wait already",
    ]


def test_both_have_a_part_of_their_bounds_when_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarding, "FEWEST", 1)
    upstreams = Upstreams()
    upstreams.forwarding.shrink(2 / forwarding.MAX_FLIGHTS)
    for text in ("a.example", "b.example", "c.example"):
        upstreams.ask(text)
    assert [reply.error for reply in upstreams.replies] == ["2 questions are in flight already"]
    upstreams.forwarding.shrink(2 / forwarding.MAX_WAITING)
    upstreams.ask("a.example")
    assert upstreams.replies[-1].error == "2 clients wait already"


def test_a_few_questions_are_always_asked() -> None:
    upstreams = Upstreams()
    upstreams.forwarding.shrink(0.0)
    assert upstreams.forwarding.most_flights == forwarding.FEWEST


# A second try.


def test_an_upstream_that_takes_too_long_is_not_the_last_word() -> None:
    upstreams = Upstreams(2)
    upstreams.ask()
    upstreams.wait(0.4)
    assert upstreams.asked() == [1, 1]
    upstreams.answer(1)
    assert upstreams.replies[0].answer == FOUND.answer
    upstreams.answer(0)
    assert len(upstreams.replies) == 1


def test_too_long_is_longer_than_most_of_its_replies_took() -> None:
    upstreams = Upstreams(2)
    for number in range(200):
        upstreams.ask(f"n{number}.example")
        upstreams.wait(0.1 if number % 50 == 0 else 0.03)
        upstreams.answer(0)
    assert 0.02 < upstreams.targets[0].slow < 0.12
    before = upstreams.asked()[1]
    upstreams.ask("late.example")
    upstreams.wait(0.2)
    assert upstreams.asked()[1] == before + 1


def test_an_only_upstream_is_asked_again() -> None:
    upstreams = Upstreams(1)
    upstreams.ask()
    upstreams.wait(0.4)
    assert upstreams.asked() == [2]


def test_second_tries_are_rationed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MAX_HEDGES", 3.0)
    upstreams = Upstreams(2)
    for number in range(20):
        upstreams.ask(f"n{number}.example")
    upstreams.wait(0.4)
    assert upstreams.asked() == [20, 3]
    assert upstreams.forwarding.hedged == 3


def test_nobody_waits_longer_than_the_deadline() -> None:
    upstreams = Upstreams(1)
    upstreams.ask()
    upstreams.wait(DEADLINE + 0.1)
    (reply,) = upstreams.replies
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "no upstream in time")
    assert upstreams.parts.clock.waiting == 0


# Upstreams that are down.


def down(upstreams: Upstreams, upstream: int) -> None:
    """Have it fail twice."""
    for number in range(2):
        upstreams.ask(f"down{number}.example")
        upstreams.fail(upstream)


def test_an_upstream_that_fails_twice_in_a_row_is_left_out() -> None:
    upstreams = Upstreams(2)
    down(upstreams, 0)
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before


def test_one_that_answers_in_between_is_not() -> None:
    upstreams = Upstreams(2)
    for number in range(6):
        upstreams.ask(f"n{number}.example")
        if number % 2:
            upstreams.answer(0)
        else:
            upstreams.fail(0)
    assert upstreams.asked()[0] == 6


def silenced(upstreams: Upstreams, questions: int = 8) -> None:
    """The first says nothing to so many questions, while the second answers what it gets."""
    for number in range(questions):
        upstreams.ask(f"n{number}.example")
    upstreams.wait(0.62)


def test_an_upstream_that_says_nothing_is_left_out_before_its_first_time_out() -> None:
    upstreams = Upstreams(2)
    silenced(upstreams)
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before


def test_what_it_owes_is_asked_elsewhere_whatever_second_tries_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarding, "MAX_HEDGES", 0.0)
    upstreams = Upstreams(2)
    silenced(upstreams)
    assert upstreams.asked() == [8, 8]
    assert upstreams.forwarding.hedged == 0


def test_a_few_questions_without_a_reply_say_little() -> None:
    upstreams = Upstreams(2)
    silenced(upstreams, 7)
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == 8


def test_an_only_upstream_is_asked_whatever_it_says() -> None:
    upstreams = Upstreams(1)
    silenced(upstreams)
    upstreams.ask("after.example")
    assert not upstreams.targets[0].silent


def test_a_silent_upstream_that_answers_a_probe_is_back() -> None:
    upstreams = Upstreams(2)
    silenced(upstreams)
    upstreams.wait(0.5)
    upstreams.answer(0)
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before + 1


def test_silence_is_no_failure_where_failing_fast_is_wanted() -> None:
    upstreams = Upstreams(2, Rules("sequential", failfast=True))
    for number in range(16):
        upstreams.ask(f"n{number}.example")
    upstreams.wait(1.4)
    assert [target.silent for target in upstreams.targets] == [True, True]
    before = sum(upstreams.asked())
    upstreams.ask("after.example")
    assert sum(upstreams.asked()) == before + 1


def test_max_fails_of_zero_means_never() -> None:
    upstreams = Upstreams(2, Rules("sequential", max_fails=0))
    down(upstreams, 0)
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before + 1
    assert not upstreams.targets[0].probing


def test_a_probe_that_is_answered_brings_it_back() -> None:
    upstreams = Upstreams(2)
    down(upstreams, 0)
    upstreams.wait(0.5)
    probe = read_query(upstreams.exchanges[0].asked[-1].query)
    assert (probe.qname, probe.qtype, probe.rd) == (name.ROOT, iana.NS, True)
    upstreams.fail(0)
    assert upstreams.targets[0].probe_failures == 1
    upstreams.wait(0.5)
    upstreams.answer(0, reply=Reply(Rcode.REFUSED))
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before + 1


def test_a_probe_asks_what_the_corefile_says() -> None:
    rules = Rules(probe_every=2, probe_name=name.from_text("p.example"), probe_recursive=False)
    upstreams = Upstreams(2, rules)
    upstreams.ask()
    first = upstreams.asked().index(1)
    upstreams.fail(first)
    upstreams.answer(1 - first)
    upstreams.wait(2)
    probe = read_query(upstreams.exchanges[first].asked[-1].query)
    assert (probe.qname, probe.rd) == (name.from_text("p.example"), False)


def test_probes_end_when_the_upstream_is_closed() -> None:
    upstreams = Upstreams(2)
    down(upstreams, 0)
    upstreams.wait(0.5)
    closed = UpstreamError("closed", "closed")
    upstreams.exchanges[0].asked[-1].pending.resolve(closed)
    before = upstreams.asked()[0]
    upstreams.wait(60)
    assert upstreams.asked()[0] == before


def test_when_all_are_down_somebody_is_asked_all_the_same() -> None:
    upstreams = Upstreams(1)
    upstreams.exchanges[0].script = [TIMEOUT] * 4
    upstreams.ask("a.example")
    upstreams.ask("b.example")
    before = upstreams.asked()[0]
    upstreams.ask("after.example")
    assert upstreams.asked()[0] == before + 1


def test_unless_the_corefile_wants_to_fail_fast() -> None:
    upstreams = Upstreams(1, Rules(failfast=True))
    upstreams.exchanges[0].script = [TIMEOUT] * 4
    upstreams.ask("a.example")
    upstreams.ask("b.example")
    assert [reply.rcode for reply in upstreams.replies] == [Rcode.SERVFAIL] * 2
    assert upstreams.replies[1].error == "every upstream is down"
    assert upstreams.forwarding.broken == 1


# While all are down, and when one is back.


def all_down(upstreams: Upstreams) -> None:
    """Have every upstream fail twice, and a question that all of that was about be over."""
    for exchange in upstreams.exchanges:
        exchange.script = [REFUSED] * 2
    while any(exchange.script for exchange in upstreams.exchanges):
        upstreams.ask("down.example")
    upstreams.replies.clear()


def test_what_had_no_reply_in_time_is_not_asked_again_and_again() -> None:
    upstreams = Upstreams(1)
    all_down(upstreams)
    before = upstreams.asked()[0]
    upstreams.ask()
    upstreams.fail(0)
    upstreams.wait(0.49)
    assert upstreams.asked()[0] == before + 1
    assert upstreams.replies == []


def test_nor_is_it_tried_a_second_time_before() -> None:
    upstreams = Upstreams(2)
    all_down(upstreams)
    before = sum(upstreams.asked())
    upstreams.ask()
    upstreams.wait(0.49)
    assert sum(upstreams.asked()) == before + 1


def test_what_was_refused_is_for_then_somebody_is_there() -> None:
    upstreams = Upstreams(1)
    all_down(upstreams)
    upstreams.exchanges[0].script = [REFUSED, says(FOUND)]
    upstreams.ask()
    assert upstreams.replies[0].answer == FOUND.answer


def test_once_a_probe_is_answered_it_is_asked_again() -> None:
    upstreams = Upstreams(1)
    all_down(upstreams)
    upstreams.ask()
    upstreams.fail(0)
    upstreams.wait(0.5)
    upstreams.answer(0)
    upstreams.exchanges[0].script = [says(FOUND)]
    upstreams.wait(0.02)
    assert upstreams.replies[0].answer == FOUND.answer


def test_so_it_is_once_another_question_is_answered() -> None:
    upstreams = Upstreams(1)
    all_down(upstreams)
    upstreams.ask()
    upstreams.fail(0)
    upstreams.ask("b.example")
    upstreams.answer(0)
    upstreams.exchanges[0].script = [says(FOUND)]
    upstreams.wait(0.02)
    assert upstreams.replies[1].answer == FOUND.answer


def test_so_it_is_once_there_is_another_upstream() -> None:
    upstreams = Upstreams(1)
    all_down(upstreams)
    upstreams.ask()
    upstreams.fail(0)
    other = ScriptedExchange([says(FOUND)])
    upstreams.forwarding.replace([*upstreams.targets, Target("other", other)])
    upstreams.wait(0.02)
    assert upstreams.replies[0].answer == FOUND.answer


def test_but_not_once_there_is_one_less() -> None:
    upstreams = Upstreams(2)
    all_down(upstreams)
    before = sum(upstreams.asked())
    upstreams.ask()
    for exchange in upstreams.exchanges:
        if not exchange.asked[-1].pending.done:
            exchange.asked[-1].pending.resolve(TIMEOUT)
    upstreams.forwarding.replace(upstreams.targets[:1])
    upstreams.wait(0.02)
    assert sum(upstreams.asked()) == before + 1


def test_many_that_are_due_at_once_are_seen_to_a_few_at_a_time() -> None:
    upstreams = Upstreams(2)
    for number in range(3 * forwarding.PACE):
        upstreams.ask(f"n{number}.example")
    upstreams.wait(upstreams.targets[0].slow)
    asked = [0]
    while asked[-1] < 3 * forwarding.PACE:
        upstreams.wait(forwarding.PAUSE / 2)
        if upstreams.asked()[1] != asked[-1]:
            asked.append(upstreams.asked()[1])
    assert asked == [forwarding.PACE * n for n in range(4)]


def test_as_many_as_there_may_be_have_their_answer_within_five_seconds() -> None:
    upstreams = Upstreams(1)
    began = upstreams.parts.clock.time()
    latest = 0.0

    def landed(reply: Reply) -> None:
        nonlocal latest
        latest = upstreams.parts.clock.time() - began

    for number in range(2000):
        query = Query(name.from_text(f"n{number}.example"), iana.A)
        upstreams.forwarding.ask(query, tcp=False).when_done(landed)
    upstreams.wait(6)
    assert 4.5 < latest < 5


# Which upstream, and which reply.


def test_fastest_asks_the_one_with_the_shortest_round_trips() -> None:
    upstreams = Upstreams(2, Rules("fastest"))
    for number in range(400):
        upstreams.ask(f"n{number}.example")
        for upstream, seconds in ((1, 0.005), (0, 0.045)):
            upstreams.wait(seconds)
            for asked in upstreams.exchanges[upstream].asked:
                if not asked.pending.done:
                    asked.pending.resolve(says(FOUND)(asked.query))
    slow, fast = upstreams.asked()
    assert fast > 300
    assert slow > 1


def test_failover_asks_another_upstream_after_some_rcodes() -> None:
    rules = Rules("sequential", failover=frozenset({Rcode.SERVFAIL}))
    upstreams = Upstreams(2, rules)
    upstreams.ask()
    upstreams.answer(0, reply=Reply(Rcode.SERVFAIL))
    upstreams.answer(1)
    assert upstreams.replies[0].answer == FOUND.answer


def test_failover_that_finds_nothing_better_gives_what_there_was() -> None:
    rules = Rules("sequential", failover=frozenset({Rcode.SERVFAIL}))
    upstreams = Upstreams(2, rules)
    upstreams.exchanges[1].script = [TIMEOUT] * 8
    upstreams.exchanges[0].script = [says(Reply(Rcode.SERVFAIL))] * 8
    upstreams.ask()
    (reply,) = upstreams.replies
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "")


def test_a_fault_of_our_own_costs_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(wire: bytes, by: str) -> Reply:
        raise RuntimeError("odd")

    monkeypatch.setattr(forwarding, "read_passed", broken)
    upstreams = Upstreams()
    upstreams.ask()
    upstreams.answer(0)
    upstreams.answer(0)
    (reply,) = upstreams.replies
    assert reply.rcode == Rcode.SERVFAIL
    assert "could not be read" in caplog.text
