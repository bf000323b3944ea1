"""Heavy hitters: what is counted most is there, and the errors are what is promised."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kdns.telemetry.sketch import Sketch

SIZE = 8
keys = st.integers(0, 40).map(lambda number: b"%d" % number)
# A few keys come often, so that there is something to find.
skewed = st.one_of(keys, st.sampled_from([b"0", b"1", b"2"]))
streams = st.lists(st.tuples(skewed, st.integers(1, 20)), max_size=200)


def true_counts(stream: list[tuple[bytes, int]]) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    for key, times in stream:
        counts[key] += times
    return counts


def filled(stream: list[tuple[bytes, int]]) -> Sketch:
    sketch = Sketch(SIZE)
    for key, times in stream:
        sketch.add(key, times)
    return sketch


@given(streams)
def test_a_count_is_right_within_its_error_and_the_error_is_bounded(
    stream: list[tuple[bytes, int]],
) -> None:
    sketch, true = filled(stream), true_counts(stream)
    assert sketch.total == true.total()
    for key, (count, error) in sketch.counts.items():
        assert count - error <= true[key] <= count
        assert error * SIZE <= sketch.total


@given(streams)
def test_what_makes_more_than_its_share_is_there(stream: list[tuple[bytes, int]]) -> None:
    sketch, true = filled(stream), true_counts(stream)
    assert {key for key, count in true.items() if count * SIZE > sketch.total} <= set(sketch.counts)


@given(streams)
def test_it_never_holds_more_than_its_size(stream: list[tuple[bytes, int]]) -> None:
    assert len(filled(stream).counts) <= SIZE


@given(st.lists(streams, max_size=6))
def test_batches_miss_no_more_than_a_share_of_everything(
    batches: list[list[tuple[bytes, int]]],
) -> None:
    sketch, true = Sketch(SIZE), Counter[bytes]()
    for batch in batches:
        counted = true_counts(batch)
        true += counted
        sketch.add_all(counted)
    assert sketch.total == true.total()
    for key, (count, error) in sketch.counts.items():
        assert count - error <= true[key]
        assert (true[key] - count) * SIZE <= sketch.total


@given(streams, streams)
def test_two_that_are_merged_are_right_within_the_error(
    one: list[tuple[bytes, int]], other: list[tuple[bytes, int]]
) -> None:
    merged, true = filled(one), true_counts(one + other)
    merged.merge(filled(other))
    assert merged.total == true.total()
    for key, (count, error) in merged.counts.items():
        assert count - error <= true[key]
        assert (true[key] - count) * SIZE <= merged.total


def test_few_keys_are_counted_exactly() -> None:
    sketch = filled([(b"a", 3), (b"b", 5), (b"a", 4)])
    assert sketch.most(2) == [(b"a", 7, 0), (b"b", 5, 0)]


def test_a_new_key_takes_the_place_and_the_count_of_the_least() -> None:
    sketch = Sketch(2)
    for key, times in ((b"a", 3), (b"b", 5), (b"c", 1)):
        sketch.add(key, times)
    assert sketch.most(3) == [(b"b", 5, 0), (b"c", 4, 3)]


def test_a_flood_of_keys_that_come_once_drives_nothing_out() -> None:
    sketch = filled([(b"%d" % number, 10) for number in range(SIZE)])
    before = sketch.most(SIZE)
    sketch.add_all({b"random-%d" % number: 1 for number in range(4096)})
    assert sketch.most(SIZE) == before
    assert sketch.total == 10 * SIZE + 4096


def test_one_that_came_from_elsewhere_goes_on() -> None:
    sketch = Sketch(2, {b"a": [3, 0], b"b": [5, 1]}, 8)
    sketch.add(b"c", 1)
    assert sketch.most(2) == [(b"b", 5, 1), (b"c", 4, 3)]
