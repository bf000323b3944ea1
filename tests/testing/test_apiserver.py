"""The API server for tests says what a real one was recorded to say, and fails as it is told."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import pytest

from kdns.testing.apihistory import Json
from kdns.testing.apiserver import ApiServer

RECORDED = Path(__file__).parents[1] / "data" / "apiserver"
SERVICES = "/api/v1/services"
PATHS = {
    "services": SERVICES,
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "namespaces": "/api/v1/namespaces",
    "pods": "/api/v1/pods",
}


class Asker:
    """A client of one server that knows nothing of lists and watches."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self._session = aiohttp.ClientSession()
        self._watches: list[aiohttp.ClientResponse] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for response in self._watches:
            response.close()
        await self._session.close()

    async def get(self, target: str, token: str = "") -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers by lower-case name."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._session.get(self.api.url + target, headers=headers) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return response.status, json.loads(await response.read()), lower

    async def watch(self, query: str, path: str = SERVICES) -> "Lines":
        response = await self._session.get(f"{self.api.url}{path}?watch=1&{query}")
        self._watches.append(response)
        return Lines(response)


class Lines:
    """The lines of an open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, str, str]:
        """Type, name and resourceVersion of the next line; the name of a bookmark is empty."""
        event = json.loads(await self.response.content.readline())
        metadata = event["object"]["metadata"]
        return event["type"], metadata.get("name", ""), metadata["resourceVersion"]

    async def rest(self) -> list[Json]:
        """Every line until the server ends the watch."""
        return [json.loads(text) async for text in self.response.content]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
async def asker(api: ApiServer) -> AsyncIterator[Asker]:
    async with Asker(api) as asker:
        yield asker


def service(name: str, namespace: str = "a", **labels: str) -> Json:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"kind": "Service", "metadata": metadata, "spec": {"type": "ClusterIP"}}


def recorded(name: str) -> tuple[str, int, dict[str, str], bytes]:
    """Target, status, headers and body of a recorded exchange."""
    target = (RECORDED / f"{name}.request").read_text().split()[1]
    status, *lines = (RECORDED / f"{name}.headers").read_text().strip().splitlines()
    headers = dict(text.split(": ", 1) for text in lines if ": " in text)
    return target, int(status.split()[1]), headers, (RECORDED / f"{name}.body").read_bytes()


def recorded_objects() -> list[Json]:
    """The state of the recorded cluster, as far as it was recorded."""
    lines = recorded("watchlist-initial-events")[3].splitlines()
    objects = [json.loads(text)["object"] for text in lines[:-1]]
    for name, kind in (("endpointslices-rv0", "EndpointSlice"), ("pods", "Pod")):
        items = json.loads(recorded(f"list-{name}")[3])["items"]
        objects += [{"kind": kind, **item} for item in items]
    items = json.loads(recorded("list-namespaces")[3])["items"]
    return objects + [{"kind": "Namespace", **item} for item in items]


def same_headers(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Whether the headers that clients look at agree, and the others are there."""
    told = {"content-type", "cache-control"}
    named = {name for name in theirs if name.startswith("x-kubernetes")}
    return all(
        ours[name].split(";")[0] == theirs[name].split(";")[0] for name in told
    ) and named == {name for name in ours if name.startswith("x-kubernetes")}


# As recorded


@pytest.mark.parametrize("name", ["endpointslices-rv0", "namespaces", "pods"])
async def test_whole_lists_are_as_recorded(asker: Asker, name: str) -> None:
    target, code, headers, body = recorded(f"list-{name}")
    asker.api.load(recorded_objects())
    status, ours, sent = await asker.get(target)
    theirs = json.loads(body)
    assert (status, list(ours), ours["kind"]) == (code, list(theirs), theirs["kind"])
    assert list(ours["metadata"]) == list(theirs["metadata"])
    names = [item["metadata"]["name"] for item in theirs["items"]]
    assert [item["metadata"]["name"] for item in ours["items"]] == names
    assert set(ours["items"][0]) == set(theirs["items"][0])
    assert same_headers(sent, headers)


async def test_pages_are_as_recorded(asker: Asker) -> None:
    asker.api.load(recorded_objects())
    target = recorded("list-services-page-1")[0]
    token = ""
    for number in (1, 2):
        theirs = json.loads(recorded(f"list-services-page-{number}")[3])
        _, ours, _ = await asker.get(target + token)
        assert [item["metadata"]["name"] for item in ours["items"]] == [
            item["metadata"]["name"] for item in theirs["items"]
        ]
        assert list(ours["metadata"]) == list(theirs["metadata"])
        assert ours["metadata"]["remainingItemCount"] == theirs["metadata"]["remainingItemCount"]
        decoded = [unpack(metadata["metadata"]["continue"]) for metadata in (ours, theirs)]
        assert decoded[0] | {"rv": 0} == decoded[1] | {"rv": 0}
        token = f"&continue={ours['metadata']['continue']}"


def unpack(token: str) -> Json:
    value: Json = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return value


async def test_an_expired_token_is_refused_as_recorded_and_its_successor_works(
    asker: Asker,
) -> None:
    _, code, headers, body = recorded("list-continue-expired")
    asker.api.load([service(name) for name in "xyz"])
    _, page, _ = await asker.get(f"{SERVICES}?limit=1")
    token = page["metadata"]["continue"]
    asker.api.compact()
    status, ours, sent = await asker.get(f"{SERVICES}?limit=1&continue={token}")
    theirs = json.loads(body)
    assert (status, list(ours), ours["reason"]) == (code, list(theirs), theirs["reason"])
    assert same_headers(sent, headers)
    fresh = ours["metadata"]["continue"]
    assert (
        list(unpack(fresh).items())[:2] == list(unpack(theirs["metadata"]["continue"]).items())[:2]
    )
    _, page, _ = await asker.get(f"{SERVICES}?continue={fresh}")
    assert [item["metadata"]["name"] for item in page["items"]] == ["y", "z"]


@pytest.mark.parametrize("name", ["bad-continue", "not-found", "unauthorized", "forbidden-secrets"])
async def test_refusals_are_as_recorded(asker: Asker, name: str) -> None:
    target, code, headers, body = recorded(name)
    asker.api.forbid("secrets")
    if name == "unauthorized":
        asker.api.tokens.add("secret")
    status, ours, sent = await asker.get(target, token="wrong")
    theirs = json.loads(body)
    assert status == code
    assert ours | {"message": ""} == theirs | {"message": ""}
    start = 40 if name == "bad-continue" else None
    assert ours["message"][:start] == theirs["message"][:start]
    assert same_headers(sent, headers)


async def test_the_version_is_as_recorded(asker: Asker) -> None:
    target, code, headers, body = recorded("version")
    status, ours, sent = await asker.get(target)
    assert (status, ours["gitVersion"]) == (code, json.loads(body)["gitVersion"])
    assert same_headers(sent, headers)


async def test_a_watch_of_what_is_gone_is_a_200_and_an_error_line_as_recorded(
    asker: Asker,
) -> None:
    target, code, headers, body = recorded("watch-gone")
    asker.api.compact()
    status, ours, sent = await asker.get(target)
    theirs = json.loads(body)
    assert (status, ours["type"]) == (code, "ERROR")
    for event in (ours, theirs):
        event["object"]["message"] = event["object"]["message"].partition(":")[0]
    assert ours == theirs
    assert same_headers(sent, headers)


@pytest.mark.parametrize("name", ["services", "endpointslices", "namespaces"])
async def test_a_recorded_story_is_told_again_line_by_line(asker: Asker, name: str) -> None:
    lines = [json.loads(text) for text in recorded(f"watch-{name}")[3].splitlines()]
    start = asker.api.version
    watch = await asker.watch(f"resourceVersion={start}&allowWatchBookmarks=true", PATHS[name])
    await asker.api.watching(name)
    tell(asker.api, lines)
    asker.api.bookmark()
    asker.api.close_watches()
    ours = await watch.rest()
    theirs = lines[: len(ours)]
    assert [shape(event) for event in ours] == [shape(event) for event in theirs]
    assert ours[-1]["type"] == "BOOKMARK"
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in ours]
    assert versions == [*range(start + 1, start + len(ours)), asker.api.version]


def tell(api: ApiServer, lines: list[Json]) -> None:
    """Make the changes of recorded watch lines."""
    for event in lines:
        obj = event["object"]
        metadata = obj["metadata"]
        match event["type"]:
            case "ADDED":
                api.create(obj)
            case "MODIFIED":
                api.replace(obj)
            case "DELETED":
                api.delete(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def shape(event: Json) -> Json:
    """A watch line without its versions. A deletion shows the state it was known in."""
    obj = event["object"]
    metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    if event["type"] == "DELETED":
        return {"type": "DELETED", "name": metadata["name"], "keys": list(obj)}
    return {"type": event["type"], "object": {**obj, "metadata": metadata}}


async def test_initial_events_end_with_a_marked_bookmark_as_recorded(asker: Asker) -> None:
    target, _, _, body = recorded("watchlist-initial-events")
    asker.api.load(recorded_objects())
    watch = await asker.watch(target.partition("watch=1&")[2])
    await asker.api.watching("services")
    asker.api.close_watches()
    ours = await watch.rest()
    theirs = [json.loads(text) for text in body.splitlines()]
    assert [shape(event) for event in ours] == [shape(event) for event in theirs]


async def test_a_watch_from_the_future_is_silent_until_its_timeout(api: ApiServer) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    target = recorded("watch-future-rv")[0]
    async with ApiServer(sleep=sleep) as server, aiohttp.ClientSession() as session:
        server.create(service("x"))
        async with session.get(server.url + target) as response:
            assert (response.status, await response.read()) == (200, b"")
    assert slept == [4]


# What a list is


async def test_pages_of_one_list_are_of_one_moment(asker: Asker) -> None:
    asker.api.load([service(name) for name in "uvwxyz"])
    _, first, _ = await asker.get(f"{SERVICES}?limit=2")
    asker.api.delete("Service", "a", "w")
    asker.api.create(service("wx"))
    asker.api.replace(service("y", tier="new"))
    _, rest, _ = await asker.get(f"{SERVICES}?continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == list("wxyz")
    assert rest["items"][2]["metadata"]["labels"] == {}
    assert rest["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("resourceVersion=0&limit=1", "xyz"),
        ("resourceVersion=2&resourceVersionMatch=Exact", "x"),
        ("resourceVersion=2&limit=9", "x"),
        ("resourceVersion=2", "xyz"),
        ("labelSelector=" + quote("tier in (a,b)"), "xy"),
        ("labelSelector=!tier", "z"),
        ("fieldSelector=" + quote("metadata.name!=x,metadata.namespace=a"), "yz"),
    ],
)
async def test_a_list_selects_by_version_label_and_field(
    asker: Asker, query: str, names: str
) -> None:
    asker.api.load([service("x", tier="a"), service("y", tier="b"), service("z")])
    _, page, _ = await asker.get(f"{SERVICES}?{query}")
    assert [item["metadata"]["name"] for item in page["items"]] == list(names)


async def test_pages_of_a_selection_are_full_and_not_counted(asker: Asker) -> None:
    asker.api.load([service(f"{n}", odd=str(n % 2)) for n in range(6)])
    _, page, _ = await asker.get(f"{SERVICES}?limit=2&labelSelector=odd=1")
    assert [item["metadata"]["name"] for item in page["items"]] == ["1", "3"]
    assert list(page["metadata"]) == ["resourceVersion", "continue"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("labelSelector=" + quote("a b"), 400),
        ("fieldSelector=status.nothing=1", 400),
        ("fieldSelector=nothing", 400),
        ("resourceVersion=abc", 400),
        ("limit=many", 400),
        ("resourceVersion=99999", 504),
        ("watch=1&sendInitialEvents=true", 422),
        ("continue=e30", 400),
        ("continue=eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6IiJ9", 400),
        ("continue=%C3%A9", 400),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_with_a_status(
    asker: Asker, query: str, code: int
) -> None:
    status, body, _ = await asker.get(f"{SERVICES}?{query}")
    assert (status, body["code"], body["kind"]) == (code, code, "Status")
    assert body["message"]


# What a watch is


async def test_a_watch_replays_what_happened_since_its_version(asker: Asker) -> None:
    asker.api.create(service("x"))
    version = asker.api.version
    asker.api.replace(service("x"))
    asker.api.delete("Service", "a", "x")
    watch = await asker.watch(f"resourceVersion={version}")
    assert await watch.next() == ("MODIFIED", "x", str(version + 1))
    assert await watch.next() == ("DELETED", "x", str(version + 2))


async def test_a_watch_from_zero_begins_with_what_is_there(asker: Asker) -> None:
    asker.api.create(service("x"))
    watch = await asker.watch("resourceVersion=0")
    assert await watch.next() == ("ADDED", "x", str(asker.api.version))


async def test_what_enters_a_selection_is_added_and_what_leaves_it_deleted(asker: Asker) -> None:
    asker.api.create(service("x", tier="b"))
    version = asker.api.version
    watch = await asker.watch(f"resourceVersion={version}&labelSelector=tier=a")
    for tier in "aab":
        asker.api.replace(service("x", tier=tier))
    asker.api.create(service("y", tier="b"))
    asker.api.close_watches()
    events = await watch.rest()
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    last = events[-1]["object"]["metadata"]
    assert last["labels"] == {"tier": "a"}, "its last state within the selection"
    assert last["resourceVersion"] == str(version + 3), "at the version at which it left"


async def test_a_timeout_ends_a_watch_with_a_bookmark() -> None:
    elapsed = asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == 300
        await elapsed.wait()

    async with ApiServer(sleep=sleep) as api, Asker(api) as asker:
        watch = await asker.watch("resourceVersion=1&timeoutSeconds=300&allowWatchBookmarks=1")
        await api.watching("services")
        elapsed.set()
        assert [event["type"] for event in await watch.rest()] == ["BOOKMARK"]


async def test_a_compaction_takes_nothing_from_a_watch_that_is_open(asker: Asker) -> None:
    watch = await asker.watch("resourceVersion=1")
    await asker.api.watching("services")
    asker.api.create(service("x"))
    asker.api.compact()
    asker.api.create(service("y"))
    assert (await watch.next())[1] == "x"
    assert (await watch.next())[1] == "y"


async def test_a_watch_too_slow_for_the_history_is_ended_with_410() -> None:
    async with ApiServer(history=1) as api, Asker(api) as asker:
        watch = await asker.watch("resourceVersion=1")
        await api.watching("services")
        api.load([service(f"{n}") for n in range(9)])
        assert [event["object"]["code"] for event in await watch.rest()] == [410]


# As it is told


async def test_a_forbidden_resource_of_a_group_is_named_with_its_group(asker: Asker) -> None:
    asker.api.forbid("endpointslices")
    status, body, _ = await asker.get(f"{PATHS['endpointslices']}?watch=1&resourceVersion=1")
    assert status == 403
    assert body["message"].startswith("endpointslices.discovery.k8s.io is forbidden")
    assert 'cannot watch resource "endpointslices" in API group "discovery' in body["message"]
    asker.api.allow("endpointslices")
    assert (await asker.get(PATHS["endpointslices"]))[0] == 200


async def test_refused_requests_get_the_status_and_retry_after(asker: Asker) -> None:
    asker.api.refuse(429, retry_after=7, times=2)
    answers = [await asker.get(SERVICES) for _ in range(3)]
    assert [(code, headers.get("retry-after")) for code, _, headers in answers] == [
        (429, "7"),
        (429, "7"),
        (200, None),
    ]


async def test_dropped_connections_are_reset(asker: Asker) -> None:
    watch = await asker.watch("resourceVersion=1")
    await asker.api.watching("services")
    asker.api.drop_connections()
    with pytest.raises(aiohttp.ClientError):
        await watch.next()
    assert (await asker.get(SERVICES))[0] == 200


async def test_requests_are_remembered_as_they_came(asker: Asker) -> None:
    await asker.get(f"{SERVICES}?labelSelector=a%3Db", token="t")
    assert [tuple(seen) for seen in asker.api.requests] == [
        ("GET", f"{SERVICES}?labelSelector=a%3Db", "Bearer t")
    ]


async def test_only_reading_is_served(api: ApiServer) -> None:
    async with aiohttp.ClientSession() as session, session.post(api.url + SERVICES) as response:
        assert response.status == 405


async def test_changes_that_cannot_be_are_errors_of_the_test(api: ApiServer) -> None:
    api.create(service("x"))
    with pytest.raises(ValueError, match="Service a/x: already there"):
        api.create(service("x"))
    with pytest.raises(ValueError, match="Service a/y: not there"):
        api.replace(service("y"))
    with pytest.raises(ValueError, match="Service a/y: not there"):
        api.delete("Service", "a", "y")
    with pytest.raises(ValueError, match="expected one of Service, EndpointSlice"):
        api.create({"kind": "Secret", "metadata": {"name": "x"}})
    with pytest.raises(ValueError, match=r"expected metadata\.name"):
        api.create({"kind": "Service", "metadata": {}})
