"""An audit finds what a watch has not told, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import audit as module
from kdns.cluster.audit import Audit, Verdict
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.versions import Versions

STATE = st.dictionaries(st.sampled_from("stuvwxyz"), st.integers(1, 9))


def page(state: dict[str, int], version: int = 10, token: str = "", kind: str = "") -> bytes:
    items = [
        {"metadata": {"name": name, "namespace": "a", "resourceVersion": str(number)}}
        for name, number in state.items()
    ]
    metadata = {"resourceVersion": str(version), "continue": token}
    kind = kind or "PartialObjectMetadataList"
    return json.dumps({"kind": kind, "metadata": metadata, "items": items}).encode()


def told(state: dict[str, int]) -> Versions:
    versions = Versions(Resource.SERVICES)
    for name, number in state.items():
        versions.put(("a", name), str(number))
    return versions


def begun(state: dict[str, int]) -> tuple[Audit, Versions]:
    versions = told(state)
    return Audit(Resource.SERVICES, versions), versions


@given(STATE, STATE)
def test_the_verdict_is_the_difference_of_the_two_states(
    ours: dict[str, int], theirs: dict[str, int]
) -> None:
    audit, _ = begun(ours)
    assert not audit.on_page(page(theirs))
    assert audit.is_clean is (ours == theirs)
    verdict = audit.verdict()
    assert {name for _, name in verdict.wrong} == {
        name for name, number in theirs.items() if ours.get(name) != number
    }
    assert verdict.extra == len(ours.keys() - theirs.keys())
    assert verdict.faults == len(verdict.wrong) + verdict.extra


@given(STATE, STATE, STATE)
def test_an_audit_after_an_audit_sees_as_much(
    ours: dict[str, int], theirs: dict[str, int], others: dict[str, int]
) -> None:
    """Whether the one before came to its end or not."""
    first, versions = begun(ours)
    first.on_page(page(theirs, token="more"))
    first.abandon()
    second = Audit(Resource.SERVICES, versions)
    second.on_page(page(others))
    fresh, _ = begun(ours)
    fresh.on_page(page(others))
    assert second.verdict() == fresh.verdict()


def test_pages_follow_each_other_by_their_tokens() -> None:
    audit, _ = begun({"x": 1, "y": 2})
    assert audit.query == {"limit": "500", "continue": ""}
    assert audit.on_page(page({"x": 1}, token="more"))
    assert audit.query == {"limit": "500", "continue": "more"}
    assert not audit.on_page(page({"y": 2}))
    assert audit.is_clean


def test_what_the_watch_tells_meanwhile_is_no_fault() -> None:
    audit, versions = begun({"changed": 1, "deleted": 1, "late": 1, "ended": 1})
    versions.put(("a", "changed"), "11")
    versions.remove(("a", "deleted"))
    audit.on_page(page({"changed": 1, "deleted": 1, "late": 9, "new": 8}))
    assert not audit.is_clean
    versions.put(("a", "late"), "9")
    versions.put(("a", "new"), "8")
    versions.remove(("a", "ended"))
    assert audit.verdict() == Verdict((), 0)


@pytest.mark.parametrize(
    ("listed", "seen", "passed"),
    [(10, "9", False), (10, "10", True), (9, "10", True)],
)
def test_a_watch_has_told_all_that_a_list_knew_once_it_is_as_far(
    listed: int, seen: str, passed: bool
) -> None:
    audit, _ = begun({})
    audit.on_page(page({}, version=listed))
    assert audit.is_passed(seen) is passed


def test_versions_that_are_no_numbers_are_compared_as_they_are() -> None:
    audit, _ = begun({})
    audit.on_page(page({}).replace(b'"10"', b'"a"'))
    assert (audit.is_passed("a"), audit.is_passed("b")) == (True, False)


def test_a_whole_list_serves_as_well() -> None:
    audit, _ = begun({"x": 1})
    audit.on_page(page({"x": 1}, kind="ServiceList"))
    assert audit.is_clean


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", page({}, kind="PodList"), b'{"kind":"ServiceList"}']
)
def test_a_200_that_is_no_list_is_no_verdict(body: bytes) -> None:
    audit, _ = begun({"x": 1})
    with pytest.raises(ObjectError):
        audit.on_page(body)


def test_suspects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUSPECTS", 2)
    audit, _ = begun({})
    audit.on_page(page(dict.fromkeys("vwxyz", 1)))
    assert len(audit.verdict().wrong) == 2


def test_a_verdict_names_a_few_of_what_is_wrong() -> None:
    wrong = tuple(("a", name) for name in "wxyz")
    assert str(Verdict(wrong, 2)) == "4 not told (a/w, a/x, a/y, ...), 2 told and gone"
    assert str(Verdict((("", "ns"),), 0)) == "1 not told (ns), 0 told and gone"
    assert str(Verdict((), 1)) == "0 not told, 1 told and gone"


def test_versions_may_have_any_number_of_digits() -> None:
    audit, _ = begun({})
    audit.on_page(page({}).replace(b'"10"', b'"1%b"' % (b"0" * 5000)))
    assert not audit.is_passed("9" * 5000)
    assert audit.is_passed("9" * 5001)


def test_a_page_that_is_followed_by_itself_is_none() -> None:
    audit, _ = begun({})
    assert audit.on_page(page({}, token="more"))
    with pytest.raises(ObjectError, match="followed by itself"):
        audit.on_page(page({}, token="more"))


def test_an_audit_that_a_list_overtakes_calls_nothing_named_in_that() -> None:
    audit, versions = begun({"x": 1, "y": 2})
    assert audit.on_page(page({"x": 1}, token="more"))
    versions.begin()
    versions.put(("a", "x"), "1")
    with pytest.raises(ObjectError, match="overtaken"):
        audit.on_page(page({"y": 2}))
    versions.sweep()
    assert len(versions) == 1
