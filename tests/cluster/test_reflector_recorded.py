"""A reflector does the right thing with everything that a real API server was heard to say."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import GO_ON, ListRequest, Reflector
from kdns.cluster.sink import Key
from kdns.testing.sink import Bound, Held

RECORDED = Path(__file__).parents[1] / "data" / "apiserver"
SERVICES, SLICES = Resource.SERVICES, Resource.ENDPOINTSLICES


def recorded(name: str) -> tuple[int, bytes]:
    """Status code and body of a recorded exchange."""
    status = (RECORDED / f"{name}.headers").read_text().split()[1]
    return int(status), (RECORDED / f"{name}.body").read_bytes()


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
    """A reflector that has listed the recorded first page, as if there were no second."""
    body = json.loads(recorded("list-services-page-1")[1])
    del body["metadata"]["continue"]
    reflector.on_page(json.dumps(body).encode())
    reflector.on_watch_start()
    return reflector


def test_recorded_pages_give_services_and_ask_for_the_rest(reflector: Reflector) -> None:
    first, second = (recorded(f"list-services-page-{n}")[1] for n in (1, 2))
    reflector.on_page(first)
    asked = (RECORDED / "list-services-page-2.request").read_text().strip()
    token = parse_qs(urlsplit(asked.split()[1]).query)["continue"][0]
    assert target(reflector)[1]["continue"] == token
    reflector.on_page(second)
    assert isinstance(reflector.next_request(), ListRequest)


@pytest.mark.parametrize(
    ("name", "resource", "count", "version"),
    [
        ("list-endpointslices-rv0", SLICES, None, "470"),
        ("list-namespaces", Resource.NAMESPACES, None, "479"),
        ("list-pods", Resource.PODS, None, "479"),
    ],
)
def test_recorded_whole_lists_are_held_whole(
    name: str, resource: Resource, count: None, version: str
) -> None:
    held, bad = Held(), list[str]()
    reflector = Reflector(resource, held, Bound(), stream=False, on_bad_object=bad.append)
    body = recorded(name)[1]
    reflector.on_page(body)
    assert bad == []
    assert len(held.objects) == len(json.loads(body)["items"]) > 0
    assert target(reflector)[1]["resourceVersion"] == version


@pytest.mark.parametrize(
    ("name", "resource", "version"),
    [
        ("watch-services", SERVICES, "536"),
        ("watch-endpointslices", SLICES, "539"),
        ("watch-namespaces", Resource.NAMESPACES, "533"),
        ("watch-from-rv1", SERVICES, "479"),
        ("watchlist-initial-events", SERVICES, "482"),
    ],
)
def test_recorded_watches_end_in_the_state_their_lines_tell(
    name: str, resource: Resource, version: str
) -> None:
    held, bad = Held(), list[str]()
    reflector = Reflector(resource, held, Bound(), stream=False, on_bad_object=bad.append)
    empty = {"kind": f"{resource.kind}List", "metadata": {"resourceVersion": "1"}}
    reflector.on_page(json.dumps(empty).encode())
    expected: dict[Key, str] = {}
    for text in recorded(name)[1].splitlines():
        assert reflector.on_watch_line(text) is None
        event = json.loads(text)
        metadata = event["object"]["metadata"]
        if event["type"] == "BOOKMARK":
            continue
        key = metadata.get("namespace", ""), metadata["name"]
        expected[key] = metadata["resourceVersion"]
        if event["type"] == "DELETED":
            del expected[key]
    assert bad == []
    assert held.versions == expected
    assert target(reflector)[1]["resourceVersion"] == version


def test_recorded_watch_gone_means_a_relist(watching: Reflector, held: Held) -> None:
    assert watching.on_watch_line(recorded("watch-gone")[1].strip()) == GO_ON
    assert isinstance(watching.next_request(), ListRequest)
    assert len(held.objects) == 20


def test_recorded_watch_of_the_future_is_silent_and_is_not_waited_for_for_ever(
    watching: Reflector,
) -> None:
    for _ in range(2):
        assert recorded("watch-future-rv")[1] == b""
        watching.on_watch_start()
        watching.on_watch_end()
    assert isinstance(watching.next_request(), ListRequest)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("forbidden-secrets", "kube-system:kdns"),
        ("not-found", "could not find the requested resource"),
        ("unauthorized", ""),
        ("bad-continue", "invalid continue token"),
    ],
)
def test_recorded_refusals_are_explained_in_the_servers_words(
    reflector: Reflector, name: str, words: str
) -> None:
    code, body = recorded(name)
    reflector.on_status(code, body, {})
    assert words in reflector.failure


@pytest.mark.parametrize("name", ["list-continue-expired", "bad-continue"])
def test_recorded_refusals_of_a_token_start_the_list_again(reflector: Reflector, name: str) -> None:
    reflector.on_page(recorded("list-services-page-1")[1])
    assert reflector.on_status(*recorded(name), {}) == GO_ON
    assert target(reflector)[1] == {"limit": "500"}


def test_the_recorded_version_is_no_list(reflector: Reflector) -> None:
    assert reflector.on_page(recorded("version")[1]).delay > 0
