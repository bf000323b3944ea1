"""/top: who asks what, for programs and for browsers."""

import json
from typing import Any

import pytest

from kdns.admin.top import top_page
from kdns.plugins.parts import HttpRequest
from kdns.telemetry.top import Window
from kdns.wire import name


def window() -> Window:
    made = Window(1000.0)
    made.sketches["names"].add(name.from_text("a.example"), 3)
    made.sketches["names"].add(name.from_text("b.example"), 5, 1)
    made.sketches["denied"].add(name.from_text("<b>.example"), 1)
    made.sketches["clients"].add(bytes((10, 0, 0, 1)), 8)
    made.namespaces = {"shop": 7, "default": 9}
    return made


def told(**query: str) -> dict[str, Any]:
    reply = top_page(window(), 1010.0, HttpRequest(query))
    assert (reply.status, reply.content_type) == (200, "application/json")
    parsed: dict[str, Any] = json.loads(reply.body)
    return parsed


def test_it_says_what_was_counted_most_first_and_how_wrong_that_may_be() -> None:
    assert told()["names"] == {
        "total": 8,
        "most": [
            {"key": "b.example.", "count": 5, "error": 1},
            {"key": "a.example.", "count": 3, "error": 0},
        ],
    }


def test_clients_are_addresses() -> None:
    assert told()["clients"]["most"] == [{"key": "10.0.0.1", "count": 8, "error": 0}]


def test_namespaces_are_told_with_their_sum() -> None:
    assert told()["namespaces"] == {
        "total": 16,
        "most": [
            {"key": "default", "count": 9, "error": 0},
            {"key": "shop", "count": 7, "error": 0},
        ],
    }


def test_it_says_of_how_many_seconds_it_is() -> None:
    assert told()["seconds"] == 10.0


def test_as_many_are_told_as_are_asked_for() -> None:
    most = told(n="1")["names"]["most"]
    assert most == [{"key": "b.example.", "count": 5, "error": 1}]


@pytest.mark.parametrize("n", ["0", "1001", "many", "-1"])
def test_another_number_is_an_error(n: str) -> None:
    reply = top_page(window(), 1010.0, HttpRequest({"n": n}))
    assert (reply.status, reply.body) == (400, b"n: expected a number from 1 to 1000\n")


def test_a_browser_gets_a_page_in_which_names_are_no_markup() -> None:
    reply = top_page(window(), 1010.0, HttpRequest({}, "text/html,*/*"))
    assert reply.content_type.startswith("text/html")
    assert b"&lt;b&gt;.example." in reply.body
    assert b"<b>" not in reply.body
