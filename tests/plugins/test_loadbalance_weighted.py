"""loadbalance weighted: of all numbers that chance may give, each address has its share exactly."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.chain import Handler
from kdns.plugins.loadbalance_prefer import Preference
from kdns.plugins.loadbalance_weighted import Weighing
from kdns.plugins.loadbalance_weights import Weights, read_weights
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import addresses, always, ask, later, networks, reply_now

WWW = "www.example"


class Chosen:
    """Chance, but the numbers are the test's; `bound` is what was asked for last."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.bound = 0

    def __call__(self, bound: int) -> int:
        self.bound = bound
        return self.number % bound


def weights(text: str) -> Weights:
    held = Weights()
    held.by_name = read_weights(text.encode(), "w")
    return held


def weighing(
    text: str, reply: Reply, below: Callable[[int], int], *prefixes: str
) -> Callable[[], Reply]:
    preference = Preference(networks(*prefixes)) if prefixes else None
    handler: Handler = Weighing(weights(text), below, always(reply), preference)
    return lambda: reply_now(handler(ask(WWW)))


def shares(give: Callable[[], tuple[RRset, ...]], chance: Chosen) -> Counter[bytes]:
    """How often each address is the first one, over every number that chance may give."""
    give()
    counted: Counter[bytes] = Counter()
    for number in range(chance.bound):
        chance.number = number
        counted[next(r for r in give() if r.rtype in (iana.A, iana.AAAA)).rdatas[0]] += 1
    return counted


given_weights = st.dictionaries(
    st.integers(1, 9), st.integers(1, 12) | st.sampled_from((1, 255)), max_size=6
)


def written(given: dict[int, int]) -> str:
    lines = [f"192.0.2.{last} {weight}" for last, weight in given.items()]
    return "\n".join([WWW, *lines, "other.example", "192.0.2.1 200"])


@given(given_weights, st.lists(st.integers(1, 9), min_size=2, max_size=6, unique=True))
def test_each_address_is_first_by_its_weight_over_all_numbers(
    given: dict[int, int], held: list[int]
) -> None:
    """Both in a reply that is made now, and in what is drawn from one that is at hand."""
    rrset = addresses(WWW, *held)
    chance = Chosen()
    reply = weighing(written(given), Reply(answer=(rrset,), depends=()), chance)
    expected = Counter({bytes((192, 0, 2, last)): given.get(last, 1) for last in held})
    assert shares(lambda: reply().answer, chance) == expected
    chance.number = chance.bound // 2
    made = reply()
    rdatas, drawn = made.answer[0].rdatas, made.drawn
    assert drawn is not None
    assert made.rotated
    assert drawn.among == len(held)
    hot: Counter[bytes] = Counter()
    for number in range(sum(expected.values())):
        chance.number = number
        hot[rdatas[drawn()]] += 1
    assert hot == expected


@given(given_weights, st.lists(st.integers(1, 9), max_size=6, unique=True), st.integers(0, 999))
def test_the_one_that_is_drawn_changes_places_with_the_first(
    given: dict[int, int], held: list[int], number: int
) -> None:
    before = addresses(WWW, *held)
    after = weighing(written(given), Reply(answer=(before,)), Chosen(number))().answer[0]
    moved = [place for place, rdata in enumerate(after.rdatas) if rdata != before.rdatas[place]]
    assert sorted(after.rdatas) == sorted(before.rdatas)
    assert len(moved) in (0, 2)
    assert not moved or moved[0] == 0


def test_weights_are_of_the_name_that_owns_the_addresses() -> None:
    alias = RRset(name.from_text("a.example"), iana.CNAME, 30, (name.from_text(WWW),))
    chance = Chosen()
    reply = weighing(written({1: 1, 2: 3}), Reply(answer=(alias, addresses(WWW, 1, 2))), chance)
    assert shares(lambda: reply().answer, chance) == {b"\xc0\0\2\1": 1, b"\xc0\0\2\2": 3}
    assert reply().answer[0] == alias


def test_new_weights_count_at_once_for_what_is_at_hand_too() -> None:
    held, chance = weights(written({1: 1})), Chosen(3)
    handler = Weighing(held, chance, always(Reply(answer=(addresses(WWW, 1, 2),), depends=())))
    drawn = reply_now(handler(ask(WWW))).drawn
    assert drawn is not None
    assert (drawn(), chance.bound) == (1, 2)
    held.by_name = read_weights(written({1: 9, 2: 9}).encode(), "w")
    assert (drawn(), chance.bound) == (0, 18)


SIX = RRset(name.from_text(WWW), iana.AAAA, 30, (bytes(15) + b"\1", bytes(15) + b"\2"))


def test_the_addresses_beside_an_answer_are_drawn_from_together() -> None:
    """Of SRV: whatever target they are of. Such an answer is at hand for nobody."""
    srv = RRset(name.from_text("_s._tcp"), iana.SRV, 30, (b"\0\0\0\0\0\1\1a\0",))
    beside = (addresses(WWW, 1, 2), SIX, addresses("other.example", 1))
    chance = Chosen()
    reply = weighing(
        written({2: 5}) + f"\n{WWW}\n::2 4",
        Reply(answer=(srv,), additional=beside, depends=()),
        chance,
    )
    assert shares(lambda: reply().additional, chance) == {
        bytes((192, 0, 2, 1)): 1 + 200,
        bytes((192, 0, 2, 2)): 5,
        SIX.rdatas[0]: 1,
        SIX.rdatas[1]: 4,
    }
    chance.number = 9  # of weights 1 5 1 4 200: the second one of the third pair
    made = reply()
    assert made.additional == (
        RRset(SIX.owner, SIX.rtype, 30, SIX.rdatas[::-1]),
        beside[0],
        beside[2],
    )
    assert (made.answer, made.depends, made.rotated) == ((srv,), None, False)


def test_what_is_drawn_before_other_records_is_kept_for_nobody() -> None:
    signature = RRset(name.from_text(WWW), 46, 30, (b"\0\1...",))
    signed = Reply(answer=(addresses(WWW, 1, 2), signature), depends=())
    made = weighing(WWW, signed, Chosen(1))()
    assert made.answer == (addresses(WWW, 2, 1), signature)
    assert (made.depends, made.rotated) == (None, False)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(answer=(addresses(WWW, 1),), additional=(addresses("b", 1),), depends=()),
        Reply(answer=(RRset(b"\0", iana.MX, 30, (b"\0\1\0", b"\0\2\0")),), depends=()),
        Reply(iana.Rcode.NXDOMAIN, depends=()),
    ],
)
def test_where_there_is_nothing_to_draw_from_nothing_is_drawn(reply: Reply) -> None:
    chance = Chosen()
    made = weighing(WWW, reply, chance)()
    assert (made, chance.bound) == (reply, 0)


def test_a_reply_that_comes_later_is_weighed_when_it_comes() -> None:
    pending: Pending[Reply] = Pending()
    outcome = Weighing(Weights(), Chosen(1), later(pending))(ask(WWW))
    pending.resolve(Reply(answer=(addresses(WWW, 1, 2),)))
    assert reply_now(outcome).answer == (addresses(WWW, 2, 1),)


# Together with prefer: its networks come first, and one of the best is drawn.


def test_one_of_those_that_are_preferred_is_drawn() -> None:
    chance = Chosen()
    reply = weighing(
        written({1: 50, 4: 2, 5: 3}),
        Reply(answer=(addresses(WWW, 1, 4, 2, 5),), depends=()),
        chance,
        "192.0.2.4/31",
    )
    assert shares(lambda: reply().answer, chance) == {b"\xc0\0\2\4": 2, b"\xc0\0\2\5": 3}
    chance.number = 4
    made = reply()
    assert made.answer == (addresses(WWW, 5, 4, 1, 2),)
    assert made.drawn is not None
    assert made.drawn.among == 2


def test_where_one_is_preferred_the_order_stands() -> None:
    chance = Chosen()
    reply = Reply(answer=(addresses(WWW, 1, 4, 2),), depends=())
    made = weighing(WWW, reply, chance, "192.0.2.4/32")()
    assert made.answer == (addresses(WWW, 4, 1, 2),)
    assert (made.depends, made.rotated, chance.bound) == ((), False, 0)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("192.0.2.8/32", [("b.example", 8, 2), (WWW, 1, 3)]),
        ("192.0.2.2/31", [(WWW, 3, 1), ("b.example", 2, 8)]),
    ],
)
def test_of_several_sets_the_one_with_the_best_address_is_first(
    prefix: str, expected: list[tuple[str, int, int]]
) -> None:
    beside = (addresses(WWW, 1, 3), addresses("b.example", 2, 8))
    made = weighing(WWW, Reply(additional=beside), Chosen(0), prefix)()
    assert made.additional == tuple(addresses(*one) for one in expected)
