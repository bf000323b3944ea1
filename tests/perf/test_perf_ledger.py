"""Every query sent ends up answered or lost, once, whatever replies come in what order."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.answers import Tally
from perf.histogram import Histogram
from perf.ledger import Ledger
from perf.model import Query
from perf.ring import lay_out

QUERY = Query(bytes(12), None)


def ledger(slots: int, *, first: int = 0) -> tuple[Ledger, Histogram]:
    latencies = Histogram()
    return Ledger([0] * slots, Tally([QUERY]), latencies, first=first, timeout=1.0), latencies


def send(books: Ledger, wanted: int, now: float) -> list[int]:
    first, last = books.free(wanted)
    if last > first:
        books.sent(first, array("d", [now]) * (last - first), now)
    return list(range(first, last))


def answer(books: Ledger, ids: list[int], now: float) -> None:
    books.take(ids, [b"answer"] * len(ids), now)


def test_latency_counts_from_the_time_a_query_was_due_not_from_when_it_was_sent() -> None:
    books, latencies = ledger(8)
    books.sent(0, array("d", [0.25, 0.5]), 2.0)
    answer(books, [1, 0], 2.125)
    assert sorted(latencies.buckets()) == sorted(
        Histogram.from_buckets([(1_625_000, 1), (1_875_000, 1)]).buckets()
    )
    assert latencies.worst == 1_875_000


def test_slots_are_used_in_turn_and_pending_ones_are_passed_over() -> None:
    books, _ = ledger(4)
    assert send(books, 3, 0.0) == [0, 1, 2]
    answer(books, [0, 2], 0.1)
    assert send(books, 3, 0.2) == [3]
    assert send(books, 3, 0.3) == [0]
    assert send(books, 3, 0.4) == [2]
    assert send(books, 3, 0.5) == []
    assert books.unanswered == 4


def test_a_ring_can_begin_anywhere() -> None:
    books, _ = ledger(4, first=2)
    assert send(books, 4, 0.0) == [2, 3]
    assert send(books, 4, 0.0) == [0, 1]


def test_what_is_not_answered_in_time_is_lost_and_its_answer_ignored() -> None:
    books, latencies = ledger(8)
    send(books, 2, 0.0)
    send(books, 1, 0.5)
    books.expire(1.0)
    assert books.lost == 0
    books.expire(1.25)
    assert (books.lost, books.unanswered) == (2, 1)
    answer(books, [0, 1, 2], 1.25)
    assert (books.answered, books.ignored, latencies.count) == (1, 2, 1)


def test_a_second_answer_and_one_to_no_query_are_ignored() -> None:
    books, latencies = ledger(8)
    send(books, 1, 0.0)
    answer(books, [0, 0, 5, 65_535], 0.1)
    assert (books.answered, books.ignored, latencies.count) == (1, 3, 1)


def test_a_slot_used_again_does_not_expire_with_what_used_it_before() -> None:
    books, _ = ledger(2)
    send(books, 2, 0.0)
    answer(books, [0], 0.1)
    assert send(books, 1, 0.9) == [0]
    books.expire(1.5)
    assert (books.lost, books.unanswered) == (1, 1)


def test_with_its_connection_everything_unanswered_is_lost() -> None:
    books, _ = ledger(8)
    send(books, 5, 0.0)
    answer(books, [3], 0.1)
    books.abandon()
    assert (books.lost, books.unanswered, books.answered) == (4, 0, 1)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 9)),
        st.tuples(st.just("answer"), st.integers(0, 12)),
        st.tuples(st.just("wait"), st.integers(0, 8)),
    ),
    max_size=60,
)


@given(st.integers(1, 10), steps)
def test_the_accounts_agree_with_a_plain_table(slots: int, steps: list[tuple[str, int]]) -> None:
    books, latencies = ledger(slots)
    now, table = 0.0, dict[int, float]()
    sent = lost = answered = 0
    for step, number in steps:
        if step == "send":
            fresh = send(books, number, now)
            assert not table.keys() & set(fresh)
            assert fresh or len(table) == slots
            table.update(dict.fromkeys(fresh, now))
            sent += len(fresh)
        elif step == "answer":
            answered += table.pop(number, None) is not None
            answer(books, [number], now)
        else:
            now += number / 4
            books.expire(now)
            late = [slot for slot, when in table.items() if when + 1.0 < now]
            lost += len(late)
            for slot in late:
                del table[slot]
    assert (books.answered, books.lost, books.unanswered) == (answered, lost, len(table))
    assert books.answered + books.lost + books.unanswered == sent
    assert latencies.count == answered


def queries(count: int) -> list[Query]:
    return [Query(bytes(12) + bytes([number]), None) for number in range(count)]


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 3))
def test_a_ring_asks_every_query_equally_often(count: int, wanted: int, seed: int) -> None:
    (ring,) = lay_out(queries(count), seed, wanted)
    laps = len(ring.queries) // count
    assert [list(ring.queries).count(query) for query in range(count)] == [laps] * count
    assert wanted <= len(ring.queries) < wanted + count


def test_a_slot_is_a_frame_under_its_own_id() -> None:
    (ring,) = lay_out(queries(3), seed=1, wanted=300)
    for slot, query in enumerate(ring.queries):
        frame = ring.frames[ring.offsets[slot] : ring.offsets[slot + 1]]
        assert frame[:2] == (13).to_bytes(2, "big")
        assert memoryview(frame[2:4]).cast("H")[0] == slot
        assert frame[4:] == bytes(10) + bytes([query])


def test_the_order_is_the_seeds() -> None:
    one, same, other = (lay_out(queries(40), seed, 40)[0].queries for seed in (1, 1, 2))
    assert one == same != other


def test_more_queries_than_ids_take_more_rings() -> None:
    many = [QUERY] * 70_000
    rings = lay_out(many, seed=1, wanted=1)
    assert [len(ring.queries) for ring in rings] == [35_000, 35_000]
    assert {query for ring in rings for query in ring.queries} == set(range(70_000))


def test_no_queries_and_no_messages_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one at least"):
        lay_out([], 1, 1)
    with pytest.raises(ValueError, match="query 1 has 11 octets; expected 12 to 65535"):
        lay_out([QUERY, Query(bytes(11), None)], 1, 1)


# A lost connection.


def test_what_a_lost_connection_did_not_answer_is_asked_once_more() -> None:
    books, _ = ledger(8)
    send(books, 4, 0.0)
    answer(books, [1], 0.1)
    assert books.again(0.2) == [(0, 1), (2, 4)]
    answer(books, [0, 2, 3], 0.3)
    assert (books.answered, books.lost, books.unanswered, books.reasked) == (4, 0, 0, 3)


def test_what_is_lost_twice_is_lost() -> None:
    books, _ = ledger(8)
    send(books, 2, 0.0)
    books.again(0.1)
    send(books, 1, 0.2)
    assert books.again(0.3) == [(2, 3)]
    assert (books.lost, books.unanswered) == (2, 1)


def test_what_was_asked_again_has_a_second_of_its_own() -> None:
    books, _ = ledger(8)
    send(books, 1, 0.0)
    books.again(0.9)
    books.expire(1.5)
    assert books.unanswered == 1
    books.expire(2.0)
    assert (books.lost, books.unanswered) == (1, 0)


def test_a_slot_that_is_used_anew_may_be_asked_twice_again() -> None:
    books, _ = ledger(1)
    send(books, 1, 0.0)
    books.again(0.1)
    answer(books, [0], 0.2)
    send(books, 1, 0.3)
    assert books.again(0.4) == [(0, 1)]
    assert books.lost == 0
