"""Lists that are streamed by a watch, and what becomes of it where the server does not."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import (
    GO_ON,
    RETRY_AFTER_CAP,
    ListRequest,
    Reflector,
    WatchRequest,
    retry_after,
)
from kdns.testing.sink import Bound, Held

RECORDED = Path(__file__).parents[1] / "data" / "apiserver"
END = {"k8s.io/initial-events-end": "true"}
SERVICES = Resource.SERVICES


def line(kind: str, version: int, name: str = "x", **more: object) -> bytes:
    metadata = {"name": name, "namespace": "a", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": metadata, **more}}).encode()


def bookmark(version: str, annotations: dict[str, str] | None) -> bytes:
    metadata = {"resourceVersion": version, "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}).encode()


def page(*names: str) -> bytes:
    items = [{"metadata": {"name": name, "namespace": "a"}} for name in names]
    metadata = {"resourceVersion": "7"}
    return json.dumps({"kind": "ServiceList", "metadata": metadata, "items": items}).encode()


def asked(reflector: Reflector) -> dict[str, str]:
    query = parse_qs(urlsplit(reflector.next_request().target).query, strict_parsing=True)
    return {name: text for name, (text,) in query.items()}


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def streaming(held: Held) -> Reflector:
    """A reflector to which the state is being told."""
    reflector = Reflector(SERVICES, held, Bound())
    reflector.on_watch_start()
    return reflector


@pytest.fixture
def watching(streaming: Reflector) -> Reflector:
    """A reflector that was told x and y, and watches from 7."""
    streaming.on_watch_line(line("ADDED", 3, "x"))
    streaming.on_watch_line(line("ADDED", 5, "y"))
    streaming.on_watch_line(bookmark("7", END))
    return streaming


def test_a_streamed_list_asks_for_the_latest_state_and_a_mark_at_its_end() -> None:
    """ListOptions of meta/v1: sendInitialEvents needs both of the others."""
    query = asked(Reflector(SERVICES, Held(), Bound()))
    assert query.pop("timeoutSeconds")
    assert query == {
        "watch": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }


def test_it_is_in_sync_when_the_mark_has_come_and_not_before(
    streaming: Reflector, held: Held
) -> None:
    streaming.on_watch_line(line("ADDED", 3, "x"))
    assert (streaming.synced, streaming.version) == (False, "")
    assert streaming.on_watch_line(bookmark("7", END)) is None
    assert (streaming.synced, streaming.version) == (True, "7")
    assert held.swept == [{("a", "x")}]


def test_after_the_mark_it_goes_on_as_a_watch(watching: Reflector, held: Held) -> None:
    watching.on_watch_line(line("DELETED", 8, "x"))
    assert set(held.objects) == {("a", "y")}
    assert watching.on_watch_end() == GO_ON
    assert asked(watching)["resourceVersion"] == "8"


def test_changes_before_the_mark_are_part_of_the_state(streaming: Reflector, held: Held) -> None:
    for text in (line("ADDED", 3, "x"), line("ADDED", 4, "y"), line("MODIFIED", 6, "y")):
        streaming.on_watch_line(text)
    streaming.on_watch_line(line("DELETED", 7, "x"))
    streaming.on_watch_line(bookmark("7", END))
    assert held.versions == {("a", "y"): "6"}
    assert len(streaming.versions) == 1


def test_a_streamed_relist_sweeps_what_it_did_not_name(watching: Reflector, held: Held) -> None:
    assert watching.on_status(410, b"", {}) == GO_ON
    assert asked(watching)["sendInitialEvents"] == "true"
    watching.on_watch_start()
    watching.on_watch_line(line("ADDED", 9, "z"))
    assert len(held.objects) == 3, "nothing is missing in between"
    watching.on_watch_line(bookmark("9", END))
    assert set(held.objects) == {("a", "z")}
    assert (watching.lists, len(watching.versions)) == (2, 1)


def test_a_stream_that_names_nothing_ends_what_is_held_only_when_pages_say_so_too(
    watching: Reflector, held: Held
) -> None:
    watching.relist()
    watching.on_watch_start()
    assert watching.on_watch_line(bookmark("9", END)) == GO_ON
    assert set(held.objects) == {("a", "x"), ("a", "y")}
    assert isinstance(watching.next_request(), ListRequest)
    watching.on_page(page())
    assert not held.objects
    assert watching.streams, "the next list is streamed again"


@pytest.mark.parametrize("holds", [True, False])
def test_where_nothing_can_be_held_a_stream_that_names_nothing_is_believed(
    held: Held, holds: bool
) -> None:
    reflector = Reflector(SERVICES, held, Bound(), holds=holds)
    reflector.on_watch_start()
    reflector.on_watch_line(bookmark("7", END))
    assert reflector.synced is not holds


def test_a_malformed_object_is_known_to_be_there_and_owns_no_names(held: Held) -> None:
    bad: list[str] = []
    reflector = Reflector(SERVICES, held, Bound(), on_bad_object=bad.append)
    reflector.on_watch_start()
    reflector.on_watch_line(line("ADDED", 3, "x", spec=3))
    reflector.on_watch_line(b'{"type":"ADDED","object":{"spec":{}}}')
    reflector.on_watch_line(bookmark("7", END))
    assert (len(bad), held.objects, len(reflector.versions)) == (2, {}, 1)


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_that_refuses_to_stream_is_asked_for_pages_at_once_and_for_good(
    code: int,
) -> None:
    reflector = Reflector(SERVICES, Held(), Bound())
    assert reflector.on_status(code, b'{"message":"sendInitialEvents: Forbidden"}', {}) == GO_ON
    assert isinstance(reflector.next_request(), ListRequest)
    assert (reflector.failure, reflector.streams) == ("", False)
    reflector.on_page(page("x"))
    reflector.on_status(410, b"", {})
    assert isinstance(reflector.next_request(), ListRequest)


@pytest.mark.parametrize("annotations", [None, {"k8s.io/initial-events-end": "false"}])
def test_a_server_that_ignores_the_parameters_is_found_out_by_its_first_bookmark(
    streaming: Reflector, held: Held, annotations: dict[str, str] | None
) -> None:
    streaming.on_watch_line(line("ADDED", 3, "gone"))
    assert streaming.on_watch_line(bookmark("7", annotations)) == GO_ON
    assert isinstance(streaming.next_request(), ListRequest)
    streaming.on_page(page("x"))
    assert set(held.objects) == {("a", "x")}


def test_a_mark_without_a_version_is_none(streaming: Reflector) -> None:
    assert streaming.on_watch_line(bookmark("", END)) == GO_ON
    assert not streaming.synced


@pytest.mark.parametrize("text", [b'{"type":"BOOKMARK","object":{}}', b"{"])
def test_a_line_of_the_state_that_cannot_be_read_is_followed_by_a_list_in_pages(
    streaming: Reflector, text: bytes
) -> None:
    assert streaming.on_watch_line(text) == GO_ON
    assert isinstance(streaming.next_request(), ListRequest)
    assert streaming.streams


def test_a_stream_that_ends_too_early_is_followed_by_pages_and_then_by_a_stream(
    streaming: Reflector, held: Held
) -> None:
    streaming.on_watch_line(line("ADDED", 3, "x"))
    assert streaming.on_watch_end().delay > 0
    assert streaming.failure == "list services: the stream ended before all was told"
    assert isinstance(streaming.next_request(), ListRequest)
    streaming.on_connection_lost("reset")
    assert isinstance(streaming.next_request(), WatchRequest)
    streaming.on_watch_start()
    streaming.on_watch_line(bookmark("7", END))
    assert held.objects == {}, "of the stream that broke off nothing counts"


def test_an_overloaded_server_is_asked_for_the_cheaper_list_again(streaming: Reflector) -> None:
    streaming.on_status(429, b"", {})
    assert isinstance(streaming.next_request(), WatchRequest)


def test_the_trouble_stays_the_same_while_list_and_watch_are_forbidden_in_turn(
    streaming: Reflector,
) -> None:
    streaming.on_status(403, b'{"message":"cannot watch"}', {})
    first = streaming.failure
    streaming.on_status(403, b'{"message":"cannot list"}', {})
    assert streaming.failure == first
    assert "cannot watch" in first


def test_a_relist_that_somebody_asks_for_keeps_what_is_held(
    watching: Reflector, held: Held
) -> None:
    watching.relist()
    assert len(held.objects) == 2
    assert asked(watching)["sendInitialEvents"] == "true"


def test_the_recorded_stream_of_a_server_is_understood(streaming: Reflector, held: Held) -> None:
    lines = (RECORDED / "watchlist-initial-events.body").read_bytes().splitlines()
    assert [streaming.on_watch_line(text) for text in lines] == [None] * len(lines)
    last = json.loads(lines[-1])["object"]["metadata"]["resourceVersion"]
    assert (streaming.synced, streaming.version) == (True, last)
    assert len(held.objects) == sum(json.loads(text)["type"] == "ADDED" for text in lines)


# Retry-After, RFC 9110, section 10.2.3


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("17", "", 17),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT", 0),
        ("Wed, 21 Oct 2025 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT", RETRY_AFTER_CAP),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "", 0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 21 Oct 2015 07:28:30 +9999999999999999", "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("", "", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date_beside_the_servers_own(
    value: str, date: str, seconds: float
) -> None:
    assert retry_after({"Retry-After": value, "Date": date}) == seconds
