"""loadbalance: every address is first as often as the others, or by its weight or network."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import loadbalance
from kdns.plugins.chain import Handler
from kdns.plugins.loadbalance import Rotator
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, addresses, always, ask, later, reply_now, settings


def built(reply: Reply) -> Handler:
    return settings(loadbalance.parse, "loadbalance").build(FakeParts(), always(reply))


def firsts(handler: Handler, qname: str, count: int) -> list[int]:
    return [reply_now(handler(ask(qname))).answer[0].rdatas[0][3] for _ in range(count)]


def test_addresses_take_turns() -> None:
    handler = built(Reply(answer=(addresses("a.example", 1, 2, 3),)))
    turns = firsts(handler, "a.example", 6)
    assert sorted(turns[:3]) == [1, 2, 3]
    assert turns[:3] == turns[3:]


def test_the_set_itself_is_left_as_it_was() -> None:
    shared = addresses("a.example", 1, 2, 3)
    handler = built(Reply(answer=(shared,)))
    for _ in range(3):
        reply_now(handler(ask("a.example")))
    assert shared == addresses("a.example", 1, 2, 3)


def test_each_name_has_its_own_turn() -> None:
    """Else a client that asks for two names in pairs would get the same first address for ever."""
    first, second = addresses("a.example", 1, 2), addresses("b.example", 1, 2)
    rotator = Rotator(lambda n: 0, always(Reply(answer=(first, second))))
    seen = [tuple(r.rdatas[0][3] for r in reply_now(rotator(ask("a"))).answer) for _ in range(2)]
    assert seen == [(2, 2), (1, 1)]


def test_additional_addresses_take_turns_too() -> None:
    handler = built(Reply(additional=(addresses("a.example", 1, 2),)))
    turns = [reply_now(handler(ask("x"))).additional[0].rdatas[0][3] for _ in range(2)]
    assert sorted(turns) == [1, 2]


def test_aliases_stay_before_what_they_lead_to_and_other_types_in_their_order() -> None:
    alias = RRset(name.from_text("w.example"), iana.CNAME, 30, (name.from_text("a.example"),))
    texts = RRset(name.from_text("w.example"), iana.TXT, 30, (b"\1a", b"\1b"))
    many = addresses("a.example", 1, 2)
    reply = reply_now(built(Reply(answer=(alias, texts, many)))(ask("w.example")))
    assert reply.answer[:2] == (alias, texts)


def test_what_turns_before_other_records_is_kept_for_nobody() -> None:
    """With their signatures behind them, say: at hand they would stand in one order for ever."""
    signature = RRset(name.from_text("a.example"), 46, 30, (b"\0\1...",))
    addressed = addresses("a.example", 1, 2)
    reply = reply_now(built(Reply(answer=(addressed, signature), depends=()))(ask("a.example")))
    assert (reply.depends, reply.rotated) == (None, False)
    reply = reply_now(built(Reply(answer=(signature, addressed), depends=()))(ask("a.example")))
    assert (reply.depends, reply.rotated) == ((), True)


def test_single_addresses_and_empty_answers_pass() -> None:
    one = addresses("a.example", 1)
    assert reply_now(built(Reply(answer=(one,)))(ask("a.example"))).answer == (one,)


def test_a_reply_that_comes_later_is_rotated_when_it_comes() -> None:
    pending: Pending[Reply] = Pending()
    handler = Rotator(lambda n: 0, later(pending))
    outcome = handler(ask("a.example"))
    pending.resolve(Reply(answer=(addresses("a.example", 1, 2),)))
    assert reply_now(outcome).answer[0].rdatas[0][3] == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadbalance, "MAX_REMEMBERED", 2)
    rotator = Rotator(
        lambda n: 0, lambda r: Reply(answer=(RRset(r.query.key, 1, 5, (b"a", b"b")),))
    )
    for letter in "abcde":
        reply_now(rotator(ask(letter)))
    assert len(rotator._turns) <= 2


def test_it_explains_itself_and_round_robin_is_the_default() -> None:
    assert settings(loadbalance.parse, "loadbalance round_robin") == settings(
        loadbalance.parse, "loadbalance"
    )
    configured = settings(loadbalance.parse, "loadbalance {\n}")
    assert configured.explain() == "addresses are handed out in turn"
    assert configured.warnings() == ()


# prefer.


def preferring(*held: int, prefixes: str = "192.0.2.4/31 192.0.2.0/29") -> Handler:
    configured = settings(loadbalance.parse, f"loadbalance {{\nprefer {prefixes}\n}}")
    reply = Reply(answer=(addresses("a.example", *held),), depends=())
    return configured.build(FakeParts(), always(reply))


def test_preferred_addresses_come_first_and_those_of_one_network_take_turns() -> None:
    handler = preferring(9, 4, 1, 5, 2, 3, 8)
    replies = [reply_now(handler(ask("a.example"))) for _ in range(12)]
    assert {reply.runs for reply in replies} == {(2, 3, 2)}
    orders = [[rdata[3] for rdata in reply.answer[0].rdatas] for reply in replies]
    parts = list(zip(*[(order[:2], order[2:5], order[5:]) for order in orders], strict=True))
    for part, held in zip(parts, ({4, 5}, {1, 2, 3}, {8, 9}), strict=True):
        assert all(set(order) == held for order in part)
        assert Counter(order[0] for order in part) == dict.fromkeys(held, 12 // len(held))


def test_where_all_are_alike_they_turn_as_without() -> None:
    reply = reply_now(preferring(1, 2, 3)(ask("a.example")))
    assert (reply.rotated, reply.runs) == (True, ())


def test_of_several_sets_beside_an_answer_the_preferred_one_is_first() -> None:
    beside = (addresses("a.example", 1), addresses("b.example", 4))
    configured = settings(loadbalance.parse, "loadbalance {\nprefer 192.0.2.4/32\n}")
    handler = configured.build(FakeParts(), always(Reply(additional=beside)))
    assert reply_now(handler(ask("x"))).additional == beside[::-1]


def test_what_is_no_address_turns_whatever_is_preferred() -> None:
    exchangers = RRset(name.from_text("a.example"), iana.MX, 30, (b"\0\1\1a\0", b"\0\1\1b\0"))
    configured = settings(loadbalance.parse, "loadbalance {\nprefer 0.0.0.0/0\n}")
    handler = configured.build(FakeParts(), always(Reply(answer=(exchangers,))))
    replies = [reply_now(handler(ask("a.example", iana.MX))) for _ in range(2)]
    assert {reply.answer[0].rdatas[0] for reply in replies} == set(exchangers.rdatas)
    assert {reply.runs for reply in replies} == {()}


# weighted.

BAD = "192.0.2.1 0"
GOOD = "a.example\n192.0.2.2 255\n"


def weighted(path: Path, parts: FakeParts, options: str = "reload 5s") -> Handler:
    configured = settings(loadbalance.parse, f"loadbalance weighted {path} {{\n{options}\n}}")
    return configured.build(parts, always(Reply(answer=(addresses("a.example", 1, 2),))))


def chance(number: int) -> Random:
    """One that says this number whenever it is asked."""

    class Same(Random):
        def randbytes(self, n: int) -> bytes:
            return number.to_bytes(4, sys.byteorder) * (n // 4)

    return Same()


def test_weights_are_read_before_the_first_answer_and_again_later(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_text("a.example\n192.0.2.1 5\n")
    parts = FakeParts(rng=chance(5))
    handler = weighted(path, parts)
    assert firsts(handler, "a.example", 1) == [2]  # of 5 and 1
    for action in parts.started:
        action()
    path.write_text("a.example\n192.0.2.1 6\n")
    parts.clock.advance(5)
    assert firsts(handler, "a.example", 1) == [1]
    for action in parts.stopped:
        action()
    assert parts.clock.waiting == 0


def test_a_file_that_may_still_come_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w"
    parts = FakeParts(rng=chance(1))
    handler = weighted(path, parts)
    said = f"loadbalance: {path}: No such file or directory; expected a file; until it is good, all"
    assert [record.getMessage()[: len(said)] for record in caplog.records] == [said]
    assert firsts(handler, "a.example", 2) == [2, 2]
    for action in parts.started:
        action()
    parts.clock.advance(5)
    assert len(caplog.records) == 1
    path.write_text("a.example\n192.0.2.1 200\n")
    parts.clock.advance(5)
    assert firsts(handler, "a.example", 1) == [1]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (BAD, "reload 5s", "w:1: expected a name before its addresses, got 192.0.2.1"),
        ("", "reload 0", "none: No such file or directory; expected a file"),
    ],
)
def test_a_file_that_is_wrong_at_the_start_is_an_error_in_the_corefile(
    tmp_path: Path, text: str, options: str, message: str
) -> None:
    path = tmp_path / ("w" if text else "none")
    if text:
        path.write_text("192.0.2.1 3")
    with pytest.raises(CorefileError) as raised:
        weighted(path, FakeParts(), options)
    assert str(raised.value) == f"Corefile:2: loadbalance: {tmp_path}/{message}"


@pytest.mark.parametrize(("options", "said"), [("reload 5s", 0), ("reload 0", 1)])
def test_a_process_that_comes_later_answers_whatever_has_become_of_the_file(
    tmp_path: Path, options: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The others have said so, unless they do not look."""
    path = tmp_path / "w"
    path.write_text(BAD)
    handler = weighted(path, FakeParts(judged=True, rng=chance(1)), options)
    assert firsts(handler, "a.example", 1) == [2]
    assert len(caplog.records) == said


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("weighted w", "drawn by the weights in w, read every 30 s"),
        ("weighted w {\nreload 1m\n}", "drawn by the weights in w, read every 60 s"),
        ("weighted w {\nreload 1ms\n}", "drawn by the weights in w, read every 0.1 s"),
        (
            "weighted w {\nreload 0\nprefer 10.0.0.0/8\n}",
            "drawn by the weights in w, read once; always first are addresses in 10.0.0.0/8",
        ),
        (
            "{\nprefer 10.0.0.1/8 2001:db8::/32\nprefer 10.0.0.0/8\n}",
            "in turn; always first are addresses in 10.0.0.0/8, then 2001:db8::/32",
        ),
    ],
)
def test_it_explains_what_comes_first(text: str, explained: str) -> None:
    configured = settings(loadbalance.parse, f"loadbalance {text}")
    assert configured.explain().endswith(explained)
    assert configured.warnings() == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loadbalance fair", r"^Corefile:2: loadbalance: expected round_robin or weighted, got 'f"),
        ("loadbalance round_robin x", r"^Corefile:2: loadbalance: expected 1 argument, got 2"),
        ("loadbalance weighted", r"^Corefile:2: loadbalance: expected 2 arguments, got 1"),
        ("loadbalance {\nreload 3s\n}", r"^Corefile:3: loadbalance: unknown option 'reload'"),
        ("loadbalance weighted f {\nreload 3\n}", r"^Corefile:3: expected a duration"),
        ("loadbalance weighted f {\nreload -1s\n}", r"^Corefile:3: expected a duration"),
        ("loadbalance {\nprefer\n}", r"^Corefile:3: prefer: expected at least 1 argument"),
        ("loadbalance {\nprefer x\n}", r"^Corefile:3: prefer: expected a prefix .*, got 'x'"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(loadbalance.parse, text)
