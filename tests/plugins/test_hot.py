"""Hot answers are bounded, die with what they rest on, turn their addresses, and count exactly."""

import weakref
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins import hot
from kdns.plugins import orders as made_orders
from kdns.plugins.block import Block
from kdns.plugins.hot import (
    Entry,
    HotAnswers,
    Prepared,
    Span,
    Table,
)
from kdns.plugins.orders import exchanged, in_runs, orders, windows
from kdns.telemetry.histogram import SECONDS


@pytest.fixture
def block() -> Block:
    return Block((".",), counted=True)


def prepared(
    block: Block,
    *bodies: bytes,
    depends: tuple[object, ...] = (),
    qtype: int = 1,
    turning: Span | None = None,
    do: bool = False,
    draw: Callable[[], int] | None = None,
) -> Prepared:
    made = bodies or (b"body",)
    return Prepared(made, depends, block, qtype, 0, "test", do=do, turning=turning, draw=draw)


def hit(table: Table, key: bytes, times: int = 1) -> None:
    """What a listener does."""
    for _ in range(times):
        entry = table.entries[key]
        entry.hits += 1
        table.seconds.observe(SECONDS, 0.001)


def asked(block: Block) -> int:
    return sum(block.counters.requests.values())


# Dependence.


def test_an_answer_is_there_until_something_it_rests_on_changes(block: Block) -> None:
    answers = HotAnswers()
    first, second = prepared(block, depends=("a", "b")), prepared(block, depends=("b", "c"))
    answers.put("one", first)
    answers.put("two", second)
    answers.put("three", prepared(block, depends=()))
    answers.forget(["x"])
    assert (answers.get("one"), answers.get("two")) == (first, second)
    answers.forget(["a", "a"])
    assert (answers.get("one"), answers.get("two")) == (None, second)
    answers.forget(["b", "c"])
    assert (answers.get("two"), len(answers)) == (None, 1)


def test_it_goes_from_every_table_at_once_and_others_stay(block: Block) -> None:
    answers = HotAnswers()
    udp, tcp = Table("udp", 1), Table("tcp", 2)
    gone, kept = prepared(block, depends=("a",)), prepared(block, depends=("b",))
    answers.put("gone", gone)
    answers.put("kept", kept)
    for table in (udp, tcp):
        table.put(b"gone", gone)
        table.put(b"gone, with another size", gone)
        table.put(b"kept", kept)
    answers.forget(["a"])
    assert list(udp.entries) == list(tcp.entries) == [b"kept"]


def in_use(block: Block, answers: HotAnswers, tables: list[Table], body: bytes = b"body") -> None:
    """An answer to "one" that rests on "a" and is asked for at a table's place of its own."""
    answers.put("one", prepared(block, body, depends=("a",)))
    for number, table in enumerate(tables):
        table.put(b"one at %d" % number, answers.get("one") or prepared(block))
        hit(table, b"one at %d" % number)


def test_what_takes_the_place_of_an_answer_in_use_stands_where_that_stood(block: Block) -> None:
    answers, tables = HotAnswers(), [Table("udp", 1), Table("tcp", 2)]
    in_use(block, answers, tables)
    answers.forget(["a"])
    after = prepared(block, b"ydob", depends=("a",))
    answers.put("one", after)
    found = {key: entry.prepared for table in tables for key, entry in table.entries.items()}
    assert found == {b"one at 0": after, b"one at 1": after}


def test_what_was_not_asked_for_again_stands_nowhere_at_once(block: Block) -> None:
    answers, table = HotAnswers(), Table("udp", 1)
    in_use(block, answers, [table])
    for _ in range(2):
        answers.forget(["a"])
        answers.put("one", prepared(block, depends=("a",)))
    assert not table.entries


def test_an_answer_that_has_grown_waits_until_it_is_known_who_can_take_it(block: Block) -> None:
    answers, table = HotAnswers(), Table("udp", 1)
    in_use(block, answers, [table])
    answers.forget(["a"])
    answers.put("one", prepared(block, b"longer than before", depends=("a",)))
    assert not table.entries


def test_places_of_answers_that_ended_are_bounded(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "MAX_MISSED", 2)
    answers, table = HotAnswers(), Table("udp", 1)
    for name in "abc":
        answers.put(name, prepared(block, depends=("x",)))
        table.put(name.encode(), answers.get(name) or prepared(block))
        hit(table, name.encode())
        answers.forget(["x"])
    for name in "abc":
        answers.put(name, prepared(block, depends=("x",)))
    assert list(table.entries) == [b"b", b"c"]


def test_after_all_is_cleared_nothing_stands_at_once(block: Block) -> None:
    answers, table = HotAnswers(), Table("udp", 1)
    in_use(block, answers, [table])
    answers.forget(["a"])
    answers.clear()
    answers.put("one", prepared(block, depends=("a",)))
    assert not table.entries


def test_what_rests_twice_on_the_same_is_dropped_once(block: Block) -> None:
    answers = HotAnswers()
    answers.put("one", prepared(block, depends=("a", "a", "b")))
    answers.forget(["b"])
    answers.forget(["a"])
    assert len(answers) == 0


def test_a_second_answer_to_a_question_takes_the_place_of_the_first(block: Block) -> None:
    answers, table = HotAnswers(), Table("udp", 1)
    old, new = prepared(block, depends=("a",)), prepared(block, depends=("a",))
    answers.put("one", old)
    table.put(b"one", old)
    answers.put("one", new)
    assert (answers.get("one"), len(answers), table.entries) == (new, 1, {})
    answers.forget(["a"])
    assert len(answers) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.sampled_from("abcd"), max_size=4).map(tuple))
        | st.sampled_from("abcd"),
        max_size=60,
    )
)
def test_it_is_what_a_plain_dictionary_would_be(
    steps: list[tuple[int, tuple[str, ...]] | str],
) -> None:
    """And nothing remains of what is gone."""
    answers, plain = HotAnswers(), dict[int, Prepared]()
    table, block = Table("udp", 1), Block((".",))
    for step in steps:
        if isinstance(step, str):
            answers.forget([step])
            plain = {k: p for k, p in plain.items() if step not in p.depends}
        else:
            question, depends = step
            plain[question] = prepared(block, depends=depends)
            answers.put(question, plain[question])
            table.put(b"%d" % question, plain[question])
        assert {q: p for q in range(6) if (p := answers.get(q))} == plain
        assert {int(k): e.prepared for k, e in table.entries.items()} == plain
    assert answers.octets == sum(p.octets for p in plain.values())
    answers.forget("abcd")
    assert answers._dependants == {}


# Bounds.


def test_the_oldest_answers_make_room(block: Block) -> None:
    answers, table = HotAnswers(limit=4), Table("udp", 1)
    for number in range(6):
        made = prepared(block, depends=(number,))
        answers.put(number, made)
        table.put(b"%d" % number, made)
    assert [q for q in range(6) if answers.get(q)] == [2, 3, 4, 5]
    assert list(table.entries) == [b"2", b"3", b"4", b"5"]


def test_an_answer_in_use_stays_however_many_are_asked_for_once(block: Block) -> None:
    """Random names, say."""
    answers, table = HotAnswers(limit=200), Table("udp", 1)
    for key in (b"hot", b"idle"):
        answers.put(key, prepared(block, depends=(key,)))
        table.put(key, answers.get(key) or prepared(block))
    for number in range(1000):
        answers.put(number, prepared(block))
        hit(table, b"hot", number % 10 == 0)
        assert len(answers) <= 200
    assert list(table.entries) == [b"hot"]
    answers.forget([b"hot"])
    assert not table.entries


def test_where_all_are_in_use_there_is_still_room_for_one_more(block: Block) -> None:
    answers, table = HotAnswers(limit=3), Table("udp", 1)
    for number in range(20):
        made = prepared(block)
        answers.put(number, made)
        table.put(b"%d" % number, made)
        for key in list(table.entries):
            hit(table, key)
        assert len(answers) == len(table.entries) == min(3, number + 1)
        assert answers.get(number) is made


def test_octets_are_bounded_too(block: Block) -> None:
    answers = HotAnswers(limit=64, octets=1000)
    for number in range(30):
        answers.put(number, prepared(block, bytes(100), bytes(100)))
        assert answers.octets <= 1000
    assert [q for q in range(30) if answers.get(q)] == [25, 26, 27, 28, 29]
    answers.put("large", prepared(block, bytes(900)))
    assert (answers.octets, len(answers)) == (900, 1)
    assert answers.get("large")


def test_a_table_keeps_what_was_used_since_it_was_last_full(block: Block) -> None:
    table = Table("udp", 1, limit=200)
    for number in range(200):
        table.put(b"%d" % number, prepared(block))
    used = [b"%d" % number for number in range(0, 200, 10)]
    for number in range(200, 2000):
        for key in used:
            hit(table, key)
        table.put(b"%d" % number, prepared(block))
        assert len(table.entries) <= 200
    assert set(used) <= set(table.entries)
    table.count()
    assert asked(block) == len(used) * 1800


def test_a_table_in_which_all_is_used_still_has_room_for_one_more(block: Block) -> None:
    table = Table("udp", 1, limit=100)
    made = [prepared(block) for _ in range(101)]
    for number in range(100):
        table.put(b"%d" % number, made[number])
        hit(table, b"%d" % number)
    table.put(b"100", made[100])
    assert len(table.entries) == 100
    assert b"100" in table.entries
    assert sum(len(p.places) for p in made) == 100
    table.count()
    assert asked(block) == 100, "what was dropped was counted first"


def test_one_answer_does_not_fill_a_table(block: Block) -> None:
    table, one = Table("udp", 1), prepared(block)
    for size in range(1000):
        table.put(b"size %d" % size, one)
    assert len(table.entries) == len(one.places) == hot.MAX_PLACES


def test_no_key_is_longer_than_a_question_can_be(block: Block) -> None:
    table = Table("udp", 1)
    table.put(bytes(hot.MAX_KEY + 1), prepared(block))
    assert not table.entries
    table.put(bytes(hot.MAX_KEY), prepared(block))
    assert len(table.entries) == 1


def test_what_is_there_stays(block: Block) -> None:
    table, first = Table("udp", 1), prepared(block)
    table.put(b"key", first)
    table.put(b"key", prepared(block))
    assert table.entries[b"key"].prepared is first
    assert first.places == (table.entries[b"key"],)


# Orders.


@pytest.mark.parametrize("count", [2, 3, 20, made_orders.MAX_ORDERS])
def test_each_order_begins_with_another_record(count: int) -> None:
    records = [b"%04d" % n for n in range(count)]
    body = b"head" + b"".join(records) + b"tail"
    made = orders(body, 4, 4 + 4 * count, count)
    assert [order[4:8] for order in made] == records
    assert {order[:4] + order[-4:] for order in made} == {b"headtail"}
    assert {frozenset(order[n : n + 4] for n in range(4, 4 + 4 * count, 4)) for order in made} == {
        frozenset(records)
    }


@pytest.mark.parametrize(("count", "size"), [(1, 4), (made_orders.MAX_ORDERS + 1, 4), (20, 400)])
def test_one_record_has_one_order_and_too_many_are_not_kept(count: int, size: int) -> None:
    body = b"head" + bytes(count * size)
    assert orders(body, 4, len(body), count) == (body,)


@pytest.mark.parametrize(("total", "held"), [(1, 1), (3, 2), (100, 28), (1000, 28), (2000, 250)])
def test_what_a_body_has_no_room_for_is_in_another_one(total: int, held: int) -> None:
    """From the first on, and around: as many records in each, and all of them in some."""
    rdatas = [b"%4d" % number for number in range(total)]
    records = [b"\xc0\x0c----------" + rdata for rdata in rdatas]
    start, end = 20, 20 + 16 * held
    body = bytes(start) + b"".join(records[:held]) + bytes(11)
    made = windows(body, start, end, rdatas)
    assert made[0] == body
    assert len(made) <= made_orders.MAX_ORDERS
    assert sum(map(len, made)) <= max(made_orders.MAX_ORDERS_SIZE, len(body))
    told = [[each[at : at + 16] for at in range(start, end, 16)] for each in made]
    assert {record for part in told for record in part} == set(records)
    assert {(each[:start], each[end:]) for each in made} == {(bytes(start), bytes(11))}
    assert len({part[0] for part in told}) == len(made)


def test_what_has_too_many_orders_is_turned_when_it_is_asked_for(block: Block) -> None:
    records = [b"%04d" % n for n in range(100)]
    body = b"head" + b"".join(records) + b"tail"
    one = prepared(block, body, turning=(4, 404, 100))
    given = [one.body() for _ in range(200)]
    assert [order[4:8] for order in given] == (records[1:] + records[:1]) * 2
    assert {len(order) for order in given} == {408}
    table = Table("udp", 1)
    table.put(b"key", one)
    assert not table.entries, "a table has finished answers alone"


START = 20


def body_of(rdatas: list[bytes]) -> bytes:
    """With these records from START to 11 octets before its end."""
    return bytes(START) + b"".join([b"\xc0\x0c----------" + each for each in rdatas]) + bytes(11)


def told(body: bytes) -> list[bytes]:
    return [body[at + 12 : at + 16] for at in range(START, len(body) - 11, 16)]


some_runs = st.lists(st.integers(1, 7), min_size=2, max_size=4) | st.lists(
    st.integers(1, 90), min_size=2, max_size=3
)


@given(some_runs, st.integers(1, 300), st.sampled_from((16, 64)))
def test_each_part_of_a_set_turns_for_itself(runs: list[int], room: int, most: int) -> None:
    """What there is no room for is left out; of the first part nobody goes before the others."""
    rdatas = [b"%4d" % number for number in range(sum(runs))]
    body = body_of(rdatas[:room])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_orders, "MAX_ORDERS", most)
        made = in_runs(body, START, len(body) - 11, rdatas, runs)
    assert made[0] == body
    assert len(made) <= most
    assert sum(map(len, made)) <= made_orders.MAX_ORDERS_SIZE
    firsts = Counter(told(each)[0] for each in made)
    assert set(firsts) <= set(rdatas[: runs[0]])
    assert len(set(firsts.values())) == 1
    assert len(firsts) == runs[0] or len(firsts) == len(made)
    for each in made:
        assert each[:START] + each[-11:] == bytes(START + 11)
        at, left = 0, told(each)
        for size in runs:
            part = rdatas[at : at + size]
            shown, left = left[:size], left[size:]
            turn = part.index(shown[0]) if shown else 0
            assert shown == (part[turn:] + part[:turn])[: len(shown)]
            at += size


@given(st.integers(2, 70), st.integers(1, 70), st.integers(1, 70))
def test_each_of_the_first_can_change_places_with_the_first(
    total: int, among: int, room: int
) -> None:
    among = min(among, total)
    rdatas = [b"%4d" % number for number in range(total)]
    body = body_of(rdatas[:room])
    made = exchanged(body, START, len(body) - 11, rdatas, among)
    if among > made_orders.MAX_ORDERS or among * len(body) > made_orders.MAX_ORDERS_SIZE:
        assert made == ()
        return
    for chosen, each in enumerate(made):
        expected = list(rdatas)
        expected[0], expected[chosen] = expected[chosen], expected[0]
        assert each == body_of(expected[:room])
    assert len(made) == among


def test_large_replies_are_not_kept_in_many_orders() -> None:
    rdatas = [b"%4d" % number for number in range(2500)]
    body = body_of(rdatas)
    assert exchanged(body, START, len(body) - 11, rdatas, 2) == ()
    assert in_runs(body, START, len(body) - 11, rdatas, (1250, 1250)) == (body,)


def test_what_is_drawn_is_drawn_anew_for_each(block: Block) -> None:
    """Whether it is handed out by a listener of its own or on the way."""
    chance = iter((2, 2, 0, 1, 2, 0))
    one = prepared(block, b"a", b"b", b"c", draw=lambda: next(chance))
    assert [one.body() for _ in range(3)] == [b"c", b"c", b"a"]
    places = {b"a": 1, b"b": 2, b"c": 3}
    table = Table("udp", 1, lambda body: (places[body], None))
    table.put(b"key", one)
    entry = table.entries[b"key"]
    sent = []
    for _ in range(3):
        entry.hits += 1
        entry.turn()
        sent.append(entry.address)
    assert sent == [2, 3, 1]


def test_each_order_is_handed_out_equally_often_and_none_twice_in_a_row(block: Block) -> None:
    """The first went to the client whose question made it; scrapes in between change nothing."""
    one = prepared(block, b"a", b"b", b"c")
    assert [one.body() for _ in range(4)] == [b"b", b"c", b"a", b"b"]
    addresses = {b"a": 1, b"b": 2, b"c": 3}
    table = Table("udp", 1, lambda body: (addresses[body], None))
    table.put(b"key", one)
    entry = table.entries[b"key"]
    sent = []
    for number in range(30):
        entry.hits += 1
        entry.turn()
        sent.append(entry.address)
        if number % 4 == 0:
            table.count()
    assert sent == [3, 1, 2] * 10
    assert asked(block) == 29


def test_what_keeps_an_address_good_lives_as_long_as_its_entry(block: Block) -> None:
    pins = {body: object() for body in (b"a", b"b")}
    table = Table("udp", 1)
    turning, alone = (
        Entry(prepared(block, *bodies), table, b"key", lambda body: (id(body), pins[body]))
        for bodies in ((b"a", b"b"), (b"a",))
    )
    assert turning.pins == [pins[b"a"], pins[b"b"]]
    assert alone.pins is pins[b"a"]
    assert (turning.orders, alone.orders) == (2, 0)


# Metrics.


def test_hits_are_counted_once_whenever_that_is(block: Block) -> None:
    answers = HotAnswers()
    table = Table("tcp", 2)
    one, other = prepared(block, depends=("a",)), prepared(block, b"longer body", do=True, qtype=28)
    answers.put("one", one)
    table.put(b"one", one)
    table.put(b"another", other)
    hit(table, b"one", 3)
    table.count()
    table.count()
    hit(table, b"one", 2)
    hit(table, b"another", 4)
    answers.forget(["a"])
    table.count()
    counters = block.counters
    assert counters.requests == {("tcp", 2, 1): 5, ("tcp", 2, 28): 4}
    assert counters.responses == {(0, "test"): 9}
    assert counters.do_requests == 4
    assert sum(counters.durations.counts) == 9
    assert sum(counters.request_sizes["tcp"].counts) == 9
    assert counters.request_sizes["tcp"].sum == 5 * len(b"IDone") + 4 * len(b"IDanother")
    assert counters.response_sizes["tcp"].sum == 5 * len(b"IDbody") + 4 * len(b"IDlonger body")
    assert sum(table.seconds.counts) == 0


def test_blocks_are_told_apart_and_those_that_count_nothing_do_not(block: Block) -> None:
    table, second, silent = Table("udp", 1), Block((".",), counted=True), Block((".",))
    for number, served in enumerate((block, second, silent)):
        table.put(b"%d" % number, prepared(served))
        hit(table, b"%d" % number, number + 1)
    table.count()
    assert (asked(block), asked(second), asked(silent)) == (1, 2, 0)
    assert sum(block.counters.durations.counts) == 1
    # Nor is what its answers took shared out to others later.
    assert sum(table.seconds.counts) == 0


def test_many_kinds_of_hits_are_counted_all_the_same(block: Block) -> None:
    table = Table("udp", 1)
    kinds = hot.MAX_TALLIES * 2 + 5
    for number in range(kinds):
        # Every one is of another size.
        table.put(b"%d" % number, prepared(block, bytes(number + 1)))
        hit(table, b"%d" % number)
    table.count()
    table.put(b"0 again", prepared(block, b"x"))
    for key in (b"0", b"0 again"):
        hit(table, key)
    table.count()
    assert asked(block) == kinds + 2
    assert sum(Counter(block.counters.responses).values()) == kinds + 2
    assert sum(block.counters.durations.counts) == kinds + 2
    assert len(table._tallies) <= hot.MAX_TALLIES
    assert not table._unsettled


def test_a_large_cluster_has_room_for_all_its_names(block: Block) -> None:
    answers, table = HotAnswers(limit=1), Table("udp", 1, limit=1)
    answers.widen(10)
    table.widen(10)
    for number in range(20):
        one = prepared(block, depends=(number,))
        answers.put(number, one)
        table.put(b"%d" % number, one)
    assert len(answers) == len(table.entries) == 20
    assert answers.get(0) is not None


# When memory is short.


def filled(block: Block, count: int, limit: int) -> tuple[HotAnswers, Table]:
    """So many answers, numbered, where so many may be."""
    answers, table = HotAnswers(limit=limit), Table("udp", 1, limit=limit)
    for number in range(count):
        one = prepared(block, bytes(100), depends=(number,))
        answers.put(number, one)
        table.put(b"%d" % number, one)
    return answers, table


def test_with_a_part_of_the_room_the_oldest_go(block: Block) -> None:
    answers, table = filled(block, 8, 8)
    answers.shrink(0.5)
    assert [q for q in range(8) if answers.get(q)] == [4, 5, 6, 7]
    assert list(table.entries) == [b"4", b"5", b"6", b"7"]


def test_a_table_alone_can_have_less_room(block: Block) -> None:
    answers, table = filled(block, 8, 8)
    table.shrink(0.25)
    assert list(table.entries) == [b"6", b"7"]
    assert len(answers) == 8


def test_with_a_part_of_the_octets_too(block: Block) -> None:
    answers = HotAnswers(octets=1000)
    for number in range(10):
        answers.put(number, prepared(block, bytes(100)))
    answers.shrink(0.5)
    assert answers.octets <= 500


def test_there_is_room_again_afterwards(block: Block) -> None:
    answers, table = filled(block, 0, 8)
    for part in (0.25, 1.0):
        answers.shrink(part)
        table.shrink(part)
    for number in range(8):
        one = prepared(block, depends=(number,))
        answers.put(number, one)
        table.put(b"%d" % number, one)
    assert len(answers) == len(table.entries) == 8


@pytest.mark.parametrize(("part", "room"), [(1.0, 28), (0.5, 24), (0.125, 21), (0.0625, 10)])
def test_names_of_the_cluster_suffer_last(block: Block, part: float, room: int) -> None:
    answers, table = filled(block, 0, 8)
    for each in (answers, table):
        each.widen(10)
        each.shrink(part)
    for number in range(40):
        table.put(b"%d" % number, prepared(block))
    assert len(table.entries) <= room
    for number in range(40):
        answers.put(number, prepared(block))
    assert len(answers) <= room


# All at once.


def test_a_table_that_is_cleared_has_counted_all_hits(block: Block) -> None:
    table = Table("udp", 1)
    table.put(b"key", prepared(block))
    hit(table, b"key", 3)
    table.clear()
    assert (asked(block), len(table.entries)) == (3, 0)


def test_a_table_that_is_cleared_keeps_nothing_of_its_blocks() -> None:
    """A block that nobody asks any more must go, and all that its directives hold with it."""
    table = Table("udp", 1)
    held = Watched((".",), counted=True)
    gone = weakref.ref(held)
    table.put(b"key", prepared(held))
    hit(table, b"key")
    table.clear()
    del held
    assert gone() is None


class Watched(Block):
    """A block that can be waited for to go."""


def test_answers_that_are_cleared_are_nowhere(block: Block) -> None:
    answers = HotAnswers()
    answers.put("one", prepared(block, depends=("a",)))
    answers.clear()
    answers.forget(["a"])
    assert (len(answers), answers.octets, answers.get("one")) == (0, 0, None)
