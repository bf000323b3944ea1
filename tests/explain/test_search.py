"""The names that a pod's resolver asks for: resolv.conf(5), and what the kubelet writes into it."""

import pytest

from kdns.explain.search import candidates, search_list

SEARCH = search_list("shop", "cluster.local")


def asked(text: str, search: tuple[str, ...] = SEARCH, ndots: int = 5) -> list[str]:
    return [candidate.name for candidate in candidates(text, search, ndots)]


def test_a_short_name_is_searched_for_and_then_asked_as_it_is() -> None:
    assert asked("web") == [
        "web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web.",
    ]  # fmt: skip


def test_a_name_of_enough_dots_is_asked_as_it_is_first() -> None:
    assert asked("a.b", ndots=1)[0] == "a.b."


@pytest.mark.parametrize(("text", "search"), [("web.", SEARCH), ("web", ())])
def test_an_absolute_name_or_none_to_search_is_asked_alone(
    text: str, search: tuple[str, ...]
) -> None:
    assert asked(text, search) == ["web."]


def test_what_is_too_long_for_a_name_is_left_out() -> None:
    assert asked(".".join(["x" * 60] * 4)) == [".".join(["x" * 60] * 4) + "."]


def test_each_candidate_says_why() -> None:
    assert candidates("web", SEARCH)[0].why == "search shop.svc.cluster.local"
    assert candidates("web", SEARCH)[-1].why == "as it is: 0 dots, ndots is 5"
    assert candidates("a.b", SEARCH)[-1].why == "as it is: 1 dot, ndots is 5"
