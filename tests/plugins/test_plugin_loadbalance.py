"""loadbalance: every address is first as often as the others."""

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


def test_what_is_not_in_effect_is_read_and_warned_of() -> None:
    weighted = settings(loadbalance.parse, "loadbalance weighted file {\nreload 30s\n}")
    assert "Corefile:2: loadbalance: weighted is not in effect yet" in weighted.warnings()[0]
    prefer = settings(loadbalance.parse, "loadbalance {\nprefer 10.0.0.0/8 2001:db8::/32\n}")
    assert prefer.warnings() == ("Corefile:3: loadbalance: prefer is not in effect yet",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loadbalance fair", r"^Corefile:2: loadbalance: expected round_robin or weighted, got 'f"),
        ("loadbalance round_robin x", r"^Corefile:2: loadbalance: expected 1 argument, got 2"),
        ("loadbalance weighted", r"^Corefile:2: loadbalance: expected 2 arguments, got 1"),
        ("loadbalance {\nreload 3s\n}", r"^Corefile:3: loadbalance: unknown option 'reload'"),
        ("loadbalance weighted f {\nreload 3\n}", r"^Corefile:3: expected a duration"),
        ("loadbalance {\nprefer\n}", r"^Corefile:3: prefer: expected at least 1 argument"),
        ("loadbalance {\nprefer x\n}", r"^Corefile:3: prefer: expected a prefix .*, got 'x'"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(loadbalance.parse, text)
