"""What a reflector asks, what it makes of each answer, and how long it waits after it."""

import json
import random
from urllib.parse import parse_qs, urlsplit

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import (
    BACKOFF_CAP,
    GO_ON,
    MAX_SAID,
    RETRY_AFTER_CAP,
    WATCH_SECONDS,
    ListRequest,
    Pause,
    Reflector,
    WatchRequest,
    full_jitter,
)
from kdns.testing.sink import Bound, Held

SERVICES, SLICES = Resource.SERVICES, Resource.ENDPOINTSLICES


def page(*names: str, version: int = 7, token: str = "") -> bytes:
    items = [{"metadata": {"name": name, "namespace": "a"}} for name in names]
    metadata = {"resourceVersion": str(version), "continue": token}
    return json.dumps({"kind": "ServiceList", "metadata": metadata, "items": items}).encode()


def line(kind: str, version: int, name: str = "x", **more: object) -> bytes:
    metadata = {"name": name, "namespace": "a", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": metadata, **more}}).encode()


def target(reflector: Reflector) -> tuple[str, dict[str, str]]:
    """Path and query of what the reflector asks next."""
    parts = urlsplit(reflector.next_request().target)
    query = parse_qs(parts.query, strict_parsing=True)
    return parts.path, {name: text for name, (text,) in query.items()}


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def reflector(held: Held) -> Reflector:
    return Reflector(SERVICES, held, Bound(), stream=False)


@pytest.fixture
def watching(reflector: Reflector) -> Reflector:
    """A reflector that has listed x and y at version 7, and watches."""
    reflector.on_page(page("x", "y"))
    reflector.on_watch_start()
    return reflector


# What is asked


def test_a_list_asks_for_a_consistent_first_page(reflector: Reflector) -> None:
    assert isinstance(reflector.next_request(), ListRequest)
    assert target(reflector) == ("/api/v1/services", {"limit": "500"})


def test_the_next_page_is_asked_with_the_token_of_the_last(reflector: Reflector) -> None:
    reflector.on_page(page("x", token="a+/="))
    assert target(reflector)[1] == {"limit": "500", "continue": "a+/="}


def test_after_the_last_page_a_watch_begins_at_the_lists_version(reflector: Reflector) -> None:
    reflector.on_page(page("x", version=41))
    request = reflector.next_request()
    assert isinstance(request, WatchRequest)
    assert request.timeout == WATCH_SECONDS[1]
    assert target(reflector)[1] == {
        "watch": "true",
        "resourceVersion": "41",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(WATCH_SECONDS[1]),
    }


def test_a_page_is_told_object_by_object(reflector: Reflector, held: Held) -> None:
    steps = reflector.take_page(page("x", "y"))
    assert [len(held.objects) for _ in steps] == [1, 2]
    assert reflector.version == "7"


def test_selectors_go_with_every_list_and_watch_percent_encoded(held: Held) -> None:
    labels, fields = "app in (a,b),!x&y", "metadata.name=a+b"
    reflector = Reflector(
        SERVICES, held, Bound(), stream=False, label_selector=labels, field_selector=fields
    )
    for _ in ("list", "watch"):
        query = target(reflector)[1]
        assert (query["labelSelector"], query["fieldSelector"]) == (labels, fields)
        assert " " not in reflector.next_request().target
        reflector.on_page(page())


# Lists


def test_synced_and_swept_only_after_the_last_page(reflector: Reflector, held: Held) -> None:
    reflector.on_page(page("x", token="more"))
    assert (reflector.synced, held.swept) == (False, [])
    reflector.on_page(page("y"))
    assert reflector.synced
    assert held.swept == [{("a", "x"), ("a", "y")}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html>sign in</html>",
        b'{"kind":"Status","metadata":{}}',
        b'{"kind":"PodList","metadata":{"resourceVersion":"1"}}',
        b'{"kind":"ServiceList","metadata":{}}',
    ],
)
def test_a_200_that_is_no_list_of_ours_is_a_failure_and_no_empty_cluster(
    watching: Reflector, held: Held, body: bytes
) -> None:
    watching.on_status(410, b"", {})
    assert watching.on_page(body).delay > 0
    assert watching.failure.startswith("list services: ")
    assert len(held.objects) == 2
    assert isinstance(watching.next_request(), ListRequest)


def test_a_malformed_object_of_a_list_is_reported_and_gone(
    held: Held,
) -> None:
    bad: list[str] = []
    reflector = Reflector(SERVICES, held, Bound(), stream=False, on_bad_object=bad.append)
    reflector.on_page(page("x", "y"))
    reflector.on_status(410, b"", {})
    body = json.loads(page("x", "y", "z"))
    body["items"][1]["spec"] = {"ports": "none"}
    body["items"].append({"spec": {}})
    reflector.on_page(json.dumps(body).encode())
    assert set(held.objects) == {("a", "x"), ("a", "z")}
    assert len(bad) == 2
    assert bad[0].startswith("Service a/y: ")
    assert reflector.synced


@pytest.mark.parametrize("code", [400, 410])
def test_a_refused_continue_token_starts_the_list_again_and_empties_nothing(
    watching: Reflector, held: Held, code: int
) -> None:
    watching.on_status(410, b"", {})
    watching.on_page(page("x", token="old"))
    watching.on_status(code, b"", {})
    assert target(watching)[1] == {"limit": "500"}
    assert set(held.objects) == {("a", "x"), ("a", "y")}
    watching.on_page(page("z"))
    assert held.swept[-1] == {("a", "z")}, "keys of the abandoned list do not count"
    assert set(held.objects) == {("a", "z")}


def test_a_400_that_blames_no_token_backs_off(reflector: Reflector) -> None:
    assert reflector.on_status(400, b'{"message":"bad selector"}', {}).delay > 0
    assert "bad selector" in reflector.failure


# Watches


def test_events_apply_and_remove_and_the_next_watch_goes_on_from_the_last(
    watching: Reflector, held: Held
) -> None:
    for text in (line("ADDED", 8, "z"), line("MODIFIED", 9), line("DELETED", 11, "y")):
        assert watching.on_watch_line(text) is None
    assert held.versions == {("a", "x"): "9", ("a", "z"): "8"}
    assert watching.on_watch_end() == GO_ON
    assert target(watching)[1]["resourceVersion"] == "11"


def test_a_bookmark_advances_the_version_and_nothing_else(watching: Reflector, held: Held) -> None:
    before = dict(held.objects)
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"99"}}}'
    assert watching.on_watch_line(bookmark) is None
    assert target(watching)[1]["resourceVersion"] == "99"
    assert held.objects == before


def test_a_malformed_object_of_an_event_is_reported_and_gone_and_not_asked_for_again(
    held: Held,
) -> None:
    bad: list[str] = []
    reflector = Reflector(SERVICES, held, Bound(), stream=False, on_bad_object=bad.append)
    reflector.on_page(page("x"))
    assert reflector.on_watch_line(line("MODIFIED", 8, spec={"type": 3})) is None
    assert len(bad) == 1
    assert not held.objects
    assert target(reflector)[1]["resourceVersion"] == "8"


def test_a_deletion_counts_however_malformed_the_last_state(
    watching: Reflector, held: Held
) -> None:
    assert watching.on_watch_line(line("DELETED", 8, spec=[])) is None
    assert set(held.objects) == {("a", "y")}


@pytest.mark.parametrize(
    "text",
    [
        b"hello",
        b"\xff",
        b"[" * 100_000,
        b'{"type":"CHANGED","object":{}}',
        b'{"type":"ADDED"}',
        b'{"type":"DELETED","object":{}}',
        b'{"type":"ADDED","object":{"spec":{}}}',
    ],
)
def test_a_line_that_tells_no_event_means_a_relist(watching: Reflector, text: bytes) -> None:
    assert watching.on_watch_line(text) == GO_ON
    assert isinstance(watching.next_request(), ListRequest)


def test_a_blank_line_tells_nothing_and_is_no_harm(watching: Reflector) -> None:
    for text in (b"", b" ", b"\t\r"):
        assert watching.on_watch_line(text) is None
    assert watching.version == "7"
    watching.on_watch_end()
    watching.on_watch_start()
    assert watching.on_watch_end().delay > 0, "two watches without a line"


def test_a_relist_keeps_what_is_held_until_its_last_page(watching: Reflector, held: Held) -> None:
    watching.on_status(410, b"", {})
    watching.on_page(page("x", token="more"))
    assert set(held.objects) == {("a", "x"), ("a", "y")}
    watching.on_page(page("z"))
    assert set(held.objects) == {("a", "x"), ("a", "z")}


def test_the_second_watch_in_a_row_without_a_line_is_followed_by_a_list(
    watching: Reflector,
) -> None:
    assert watching.on_watch_end() == GO_ON
    assert isinstance(watching.next_request(), WatchRequest)
    watching.on_watch_start()
    assert watching.on_watch_end().delay > 0
    assert isinstance(watching.next_request(), ListRequest)


def test_watches_that_have_gone_at_once_do_not_make_a_storm_of_lists(
    watching: Reflector,
) -> None:
    delays = []
    for _ in range(8):
        delays.append(watching.on_status(410, b"", {}).delay)
        watching.on_page(page("x"))
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30]
    watching.on_watch_line(line("ADDED", 8))
    watching.on_watch_lasting()
    assert watching.on_status(410, b"", {}).delay == 0


def test_watches_that_tell_something_and_have_gone_make_no_storm_of_lists_either(
    watching: Reflector,
) -> None:
    gone = b'{"type":"ERROR","object":{"code":410}}'
    delays = []
    for _ in range(4):
        watching.on_watch_line(line("ADDED", 8))
        pause = watching.on_watch_line(gone)
        assert pause is not None
        delays.append(pause.delay)
        watching.on_page(page("x"))
        watching.on_watch_start()
    assert delays == [0, 1, 2, 4]


def test_watches_that_tell_something_and_soon_end_make_no_storm_of_watches(
    watching: Reflector,
) -> None:
    delays = []
    for _ in range(6):
        watching.on_watch_line(line("ADDED", 8))
        delays.append(watching.on_watch_end().delay)
        watching.on_watch_start()
    assert delays == [0, 1, 2, 4, 4, 4]
    assert watching.failure == ""
    watching.on_watch_line(line("ADDED", 9))
    watching.on_watch_lasting()
    assert watching.on_watch_end() == GO_ON
    watching.on_watch_start()
    watching.on_watch_line(line("ADDED", 10))
    assert watching.on_watch_end() == GO_ON, "it is the first one again"


def test_a_watch_that_lasts_and_tells_nothing_is_no_good_sign(watching: Reflector) -> None:
    for delay in (0, 1, 2):
        assert watching.on_status(410, b"", {}).delay == delay
        watching.on_page(page("x"))
        watching.on_watch_start()
        watching.on_watch_lasting()


def test_a_page_that_is_followed_by_itself_is_no_list(reflector: Reflector) -> None:
    assert reflector.on_page(page("x", token="more")) == GO_ON
    assert reflector.on_page(page("y", token="more")) == GO_ON
    assert target(reflector)[1] == {"limit": "500"}
    reflector.on_page(page("x", token="more"))
    assert reflector.on_page(page("y", token="more")).delay > 0
    assert reflector.failure == "list services: a page is followed by itself"
    assert not reflector.synced


# To list is asked for by an audit, whatever goes on at that moment


def test_a_watch_that_was_asked_for_before_that_is_left(watching: Reflector) -> None:
    watching.on_watch_end()
    watching.next_request()
    watching.relist()
    assert watching.on_watch_start() == GO_ON


def test_what_the_present_watch_goes_on_to_say_is_no_part_of_the_list(
    watching: Reflector, held: Held
) -> None:
    watching.relist()
    assert watching.on_watch_line(line("ADDED", 8, "z")) == GO_ON
    watching.on_page(page("x"))
    assert set(held.objects) == {("a", "x")}


# Failures


def test_backoff_has_full_jitter_and_is_capped() -> None:
    bounds = [full_jitter(tries, Bound()) for tries in range(1, 9)]
    assert bounds == [1, 2, 4, 8, 16, 30, 30, 30]
    assert full_jitter(10**6, Bound()) == BACKOFF_CAP
    rng = random.Random(1)
    assert all(0 <= full_jitter(9, rng) < BACKOFF_CAP for _ in range(100))


def test_success_resets_the_backoff_and_the_failure(reflector: Reflector) -> None:
    delays = [reflector.on_connection_lost("refused").delay for _ in range(3)]
    assert delays == [1, 2, 4]
    assert reflector.failure == "list services: refused"
    reflector.on_page(page("x"))
    assert reflector.failure == ""
    assert reflector.on_connection_lost("reset").delay == 1
    assert reflector.failure == "watch services: reset"


def test_a_lost_watch_goes_on_from_the_last_version(watching: Reflector) -> None:
    watching.on_watch_line(line("ADDED", 8))
    watching.on_connection_lost("reset")
    assert target(watching)[1]["resourceVersion"] == "8"


def test_what_the_server_says_is_one_line_of_a_bounded_length(reflector: Reflector) -> None:
    said = json.dumps({"message": "so\nmuch\x1b[31m" + "x" * 100_000}).encode()
    reflector.on_status(500, said, {})
    assert reflector.failure.startswith("list services: HTTP 500: so much [31mxxx")
    assert reflector.failure.endswith("x...")
    assert len(reflector.failure) < 2 * MAX_SAID


def test_401_refreshes_the_credentials_once_at_once_and_then_backs_off(
    reflector: Reflector,
) -> None:
    assert reflector.on_status(401, b"", {}) == Pause(0, refresh=True)
    assert reflector.failure == ""
    second = reflector.on_status(401, b"", {})
    assert (second.delay > 0, second.refresh) == (True, True)
    assert "401" in reflector.failure
    reflector.on_page(page("x"))
    assert reflector.on_status(401, b"", {}) == Pause(0, refresh=True)


@pytest.mark.parametrize(("resource", "group"), [(SERVICES, ""), (SLICES, "discovery.k8s.io")])
def test_403_names_the_rbac_rule_that_is_missing(resource: Resource, group: str) -> None:
    reflector = Reflector(resource, Held(), Bound(), stream=False)
    assert reflector.on_status(403, b'{"message":"no"}', {}).delay > 0
    rule = f'apiGroups: ["{group}"], resources: ["{resource.value}"], verbs: ["list", "watch"]'
    assert rule in reflector.failure


def test_404_says_which_api_is_not_served() -> None:
    reflector = Reflector(SLICES, Held(), Bound(), stream=False)
    assert reflector.on_status(404, b"", {}).delay > 0
    assert "discovery.k8s.io/v1" in reflector.failure


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_respected_within_reason(reflector: Reflector, code: int) -> None:
    assert reflector.on_status(code, b"", {"Retry-After": "17"}).delay == 17
    assert reflector.on_status(code, b"", {"Retry-After": "9" * 400}).delay == RETRY_AFTER_CAP
    assert reflector.on_status(code, b"", {"Retry-After": "soon"}).delay == 4


def test_an_error_in_the_watch_that_is_no_410_is_asked_again_with_growing_pauses(
    watching: Reflector,
) -> None:
    """The server may be ill: the first list comes at once, later ones only after a pause."""
    ill = json.dumps({"kind": "Status", "code": 500, "message": "etcd"}).encode()
    error = b'{"type":"ERROR","object":' + ill + b"}"
    pauses = []
    for _ in range(3):
        pause = watching.on_watch_line(error)
        assert pause is not None
        pauses.append(pause.delay)
        assert watching.failure == "" or "etcd" in watching.failure
        watching.on_page(page("x"))
    assert pauses[-1] > 0
    assert pauses == sorted(pauses)
