"""What was told last: digests that order does not change, and marks in place."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.objects import Resource
from kdns.cluster.sink import Key
from kdns.cluster.versions import DIGEST_BITS, Places, Versions

KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"))
TOLD = st.tuples(KEYS, st.integers(1, 3).map(str))


def told(*versions: tuple[Key, str], resource: Resource = Resource.SERVICES) -> Versions:
    made = Versions(resource)
    for key, version in versions:
        made.put(key, version)
    return made


@given(st.sets(KEYS), KEYS)
def test_places_tell_which_keys_they_are_of(keys: set[Key], key: Key) -> None:
    assert (key in Places(map(Versions.place, keys))) == (key in keys)


@given(st.lists(TOLD), st.randoms())
def test_the_digest_is_of_the_last_states_and_not_of_their_order(
    told_: list[tuple[Key, str]], chance: Random
) -> None:
    last = list(dict(told_).items())
    chance.shuffle(last)
    assert told(*told_).digest == told(*last).digest


@given(TOLD, TOLD)
def test_different_states_have_different_digests(
    one: tuple[Key, str], other: tuple[Key, str]
) -> None:
    assert (told(one).digest == told(other).digest) is (one == other)


def test_a_digest_tells_resources_apart() -> None:
    state = (("a", "x"), "1")
    assert told(state).digest != told(state, resource=Resource.PODS).digest


@given(st.lists(TOLD))
def test_a_digest_is_a_number_that_a_float_holds_exactly(told_: list[tuple[Key, str]]) -> None:
    digest = told(*told_).digest
    assert 0 <= digest < 2**DIGEST_BITS
    assert int(float(digest)) == digest


@given(st.lists(TOLD), KEYS)
def test_what_is_removed_leaves_nothing(told_: list[tuple[Key, str]], key: Key) -> None:
    versions = told(*told_)
    versions.remove(key)
    rest = told(*((k, v) for k, v in told_ if k != key))
    assert (versions.digest, len(versions)) == (rest.digest, len(rest))


def test_a_name_that_no_octets_can_spell_is_told_like_others() -> None:
    assert len(told((("a", "\ud800"), "1"))) == 1


def test_a_list_sweeps_what_it_did_not_name() -> None:
    versions = told((("a", "x"), "1"), (("a", "y"), "1"))
    versions.begin()
    versions.put(("a", "y"), "2")
    versions.put(("a", "z"), "3")
    versions.sweep()
    expected = told((("a", "y"), "2"), (("a", "z"), "3"))
    assert (versions.digest, len(versions)) == (expected.digest, 2)


def test_what_an_abandoned_list_named_does_not_count_for_the_next_one() -> None:
    versions = told((("a", "x"), "1"))
    versions.begin()
    versions.put(("a", "y"), "2")
    versions.begin()
    versions.put(("a", "x"), "1")
    versions.sweep()
    assert versions.digest == told((("a", "x"), "1")).digest


def test_what_is_named_in_its_last_state_is_named_once_and_for_all() -> None:
    versions = told((("a", "x"), "1"))
    versions.begin()
    assert versions.unnamed() == 1
    assert versions.name(("a", "x"), "1")
    assert versions.name(("a", "x"), "0"), "told of since: nothing to compare"
    assert versions.unnamed() == 0


def test_what_was_told_otherwise_or_not_at_all_is_not_named() -> None:
    versions = told((("a", "x"), "1"))
    versions.begin()
    assert not versions.name(("a", "x"), "2")
    assert not versions.name(("a", "y"), "1")
    assert not versions.is_named(versions.place(("a", "y")))


def test_what_is_told_or_taken_away_after_the_beginning_counts_as_named() -> None:
    versions = told((("a", "x"), "1"), (("a", "y"), "1"))
    versions.begin()
    versions.put(("a", "x"), "2")
    versions.remove(("a", "y"))
    assert versions.name(("a", "x"), "1")
    assert versions.name(("a", "y"), "1")
    assert versions.is_named(versions.place(("a", "y")))


def test_what_is_taken_away_and_told_again_is_not_gone() -> None:
    versions = told((("a", "x"), "1"))
    versions.begin()
    versions.remove(("a", "x"))
    versions.put(("a", "x"), "2")
    assert versions.gone == set()


def test_nothing_is_remembered_of_what_is_gone_once_it_is_settled() -> None:
    versions = told((("a", "x"), "1"), (("a", "y"), "1"))
    versions.begin()
    versions.remove(("a", "x"))
    versions.settle()
    versions.remove(("a", "y"))
    assert versions.gone == set()
