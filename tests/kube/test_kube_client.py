"""The client keeps sinks up to date against a server on a real socket, whatever befalls the two."""

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web

from kdns.cluster.objects import Object, Resource
from kdns.cluster.reflector import Reflector
from kdns.cluster.sink import Key
from kdns.kube.client import (
    AUDIT_PATIENCE,
    LIST_SILENCE_SECONDS,
    MAX_LINE,
    MAX_PAGE,
    PAGE_SECONDS,
    ApiClient,
)
from kdns.kube.credentials import Connection, endpoint, in_cluster
from kdns.kube.patience import WATCH_SILENCE_SECONDS
from kdns.telemetry.meters import Meters
from kdns.testing.apihistory import Json
from kdns.testing.apiserver import ApiServer
from kdns.testing.sink import Bound, Held

SERVICES = Resource.SERVICES


class Certificates(Protocol):
    @property
    def ca(self) -> Path: ...
    @property
    def cert(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def other_ca(self) -> Path: ...
    def server_context(self, *, ask_client: bool = False) -> ssl.SSLContext: ...


@dataclass
class Told(Held):
    """A sink on whose state a test can wait."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    lost: set[Key] = field(default_factory=set)
    """Every key that was ever taken away."""

    def apply(self, resource: Resource, obj: Object) -> None:
        super().apply(resource, obj)
        self.changed.set()

    def remove(self, resource: Resource, key: Key) -> None:
        super().remove(resource, key)
        self.lost.add(key)
        self.changed.set()

    def assume(self, resource: Resource) -> None:
        raise AssertionError("nothing is remembered here")

    @property
    def told(self) -> int:
        return len(self.objects)

    def sweep(self, resource: Resource, keys: Container[Key]) -> None:
        self.lost |= {key for key in self.objects if key not in keys}
        super().sweep(resource, keys)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await self.changed.wait()

    async def names(self, expected: str) -> None:
        """Wait until exactly the services of those one-letter names are held."""
        await self.until(lambda: {name for _, name in self.objects} == set(expected))


class Sleeper:
    """Waits for as long as the test likes, and remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._asked = asyncio.Event()
        self._go = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asked.set()
        self._go.clear()
        await self._go.wait()

    async def asked(self, times: int) -> None:
        """Wait until it was asked that often; every wait but the last one ends."""
        while len(self.slept) < times:
            self._asked.clear()
            self.wake()
            await self._asked.wait()

    def wake(self) -> None:
        """End the present wait."""
        self._go.set()


@dataclass
class Scene:
    """One reflector that runs against one server."""

    client: ApiClient
    reflector: Reflector
    sink: Told
    sleeper: Sleeper
    bad: list[str]


@asynccontextmanager
async def running(
    connection: Connection,
    *,
    selector: str = "",
    max_page: int = MAX_PAGE,
    max_line: int = MAX_LINE,
    silence: float = WATCH_SILENCE_SECONDS,
    list_silence: float = LIST_SILENCE_SECONDS,
    page_seconds: float = PAGE_SECONDS,
    patience: float = AUDIT_PATIENCE,
    stream: bool = False,
    meters: Meters | None = None,
) -> AsyncIterator[Scene]:
    sink, sleeper, bad = Told(), Sleeper(), list[str]()
    reflector = Reflector(
        SERVICES,
        sink,
        Bound(),
        label_selector=selector,
        stream=stream,
        on_bad_object=bad.append,
    )
    async with ApiClient(
        connection,
        sleep=sleeper,
        max_line=max_line,
        max_page=max_page,
        silence=silence,
        list_silence=list_silence,
        page_seconds=page_seconds,
        patience=patience,
        monotonic=lambda: float(sink.told),
        meters=meters,
    ) as client:
        task = asyncio.create_task(client.run(reflector))
        try:
            yield Scene(client, reflector, sink, sleeper, bad)
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


def service(name: str, **more: object) -> Json:
    return {"kind": "Service", "metadata": {"name": name, "namespace": "a"}, **more}


def lists(api: ApiServer) -> int:
    return sum("watch=" not in seen.target for seen in api.requests)


# List and watch


async def test_what_is_there_is_listed_and_what_changes_is_watched(api: ApiServer) -> None:
    api.load([service("x"), service("y")])
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        assert scene.reflector.synced
        await scene.sink.names("xy")
        api.create(service("z"))
        api.delete("Service", "a", "x")
        await scene.sink.names("yz")
    assert lists(api) == 1


async def test_a_long_list_comes_in_pages(api: ApiServer) -> None:
    api.load(service(f"s{number}") for number in range(1201))
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        assert len(scene.sink.objects) == 1201
    assert lists(api) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_while_much_is_told_at_once_others_have_their_turn(
    api: ApiServer, stream: bool
) -> None:
    api.load(service(f"s{number}") for number in range(200))
    seen: set[int] = set()

    async def look(sink: Told) -> None:
        while True:
            seen.add(sink.told)
            await asyncio.sleep(0)

    # By the clock of this test an object takes a second.
    async with running(endpoint(api.url), stream=stream) as scene:
        looking = asyncio.create_task(look(scene.sink))
        await api.watching("services")
        await scene.sink.until(lambda: scene.sink.told == 200)
        looking.cancel()
    assert seen >= set(range(200))


async def test_a_selector_narrows_list_and_watch(api: ApiServer) -> None:
    labelled = {"name": "x", "namespace": "a", "labels": {"dns": "yes"}}
    api.load([service("x") | {"metadata": labelled}, service("y")])
    async with running(endpoint(api.url), selector="dns=yes") as scene:
        await api.watching("services")
        await scene.sink.names("x")
        api.replace(service("x"))
        await scene.sink.names("")


async def test_all_resources_share_one_client(api: ApiServer) -> None:
    sinks = {resource: Told() for resource in Resource}
    async with ApiClient(endpoint(api.url)) as client, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(client.run(Reflector(resource, sink, random.Random())))
            for resource, sink in sinks.items()
        ]
        for resource in Resource:
            await api.watching(resource.value)
        api.create({"kind": "Pod", "metadata": {"name": "p", "namespace": "a"}})
        await sinks[Resource.PODS].names("p")
        for task in tasks:
            task.cancel()


async def test_a_malformed_object_costs_itself(api: ApiServer) -> None:
    api.load([service("x"), service("y", spec={"ports": "none"})])
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        api.replace(service("x", spec=3))
        api.create(service("z"))
        await scene.sink.names("z")
    assert [text.partition(":")[0] for text in scene.bad] == ["Service a/y", "Service a/x"]


# Ends and losses


async def test_a_watch_the_server_ends_goes_on_from_the_last_version(api: ApiServer) -> None:
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        api.create(service("x"))
        await scene.sink.names("x")
        api.close_watches()
        api.create(service("y"))
        await api.watching("services")
        await scene.sink.names("xy")
    assert lists(api) == 1
    assert scene.sleeper.slept == []


async def test_a_watch_that_says_nothing_is_left_for_a_new_one_and_then_for_a_list(
    api: ApiServer,
) -> None:
    """Half-dead connections look so, and so does a version from a future that is no more."""
    async with running(endpoint(api.url), silence=0.02) as scene:
        await api.watching("services")
        await scene.sleeper.asked(1)
        assert "two watches ended without a line" in scene.client.failures[SERVICES]
        api.create(service("x"))
        scene.sleeper.wake()
        await scene.sink.names("x")
    assert lists(api) >= 2
    assert sum("watch=" in seen.target for seen in api.requests) >= 2


async def test_it_is_known_when_the_server_was_last_heard_of(api: ApiServer) -> None:
    """`heard` is by a clock that, in these tests, is the number of things told."""
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        before = scene.client.heard[SERVICES]
        api.create(service("x"))
        await scene.sink.names("x")
        api.create(service("y"))
        await scene.sink.names("xy")
        assert scene.client.heard[SERVICES] > before


async def test_a_lost_connection_is_tried_again_after_a_pause_and_costs_no_list(
    api: ApiServer,
) -> None:
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        api.drop_connections()
        await scene.sleeper.asked(1)
        assert "watch services: " in scene.client.failures[SERVICES]
        api.create(service("x"))
        scene.sleeper.wake()
        await scene.sink.names("x")
        await api.watching("services")
        assert scene.client.failures == {}
    assert lists(api) == 1


async def test_a_server_that_is_not_there_is_tried_with_growing_pauses() -> None:
    async with ApiServer() as gone:
        connection = endpoint(gone.url)
    async with running(connection) as scene:
        await scene.sleeper.asked(7)
        assert scene.sleeper.slept == [1, 2, 4, 8, 16, 30, 30]
        assert connection.server in scene.client.failures[SERVICES]


async def test_retry_after_is_respected(api: ApiServer) -> None:
    api.refuse(429, retry_after=12)
    async with running(endpoint(api.url)) as scene:
        await scene.sleeper.asked(1)
        assert scene.sleeper.slept == [12]
        scene.sleeper.wake()
        await api.watching("services")


# 410 both ways


async def test_a_watch_that_is_gone_is_followed_by_a_list_that_shows_no_gap(
    api: ApiServer,
) -> None:
    api.load([service("x"), service("y")])
    async with running(endpoint(api.url)) as scene:
        await api.watching("services")
        api.drop_connections()
        await scene.sleeper.asked(1)
        api.delete("Service", "a", "x")
        api.create(service("z"))
        api.compact()
        scene.sleeper.wake()
        await scene.sink.names("yz")
        await api.watching("services")
    assert lists(api) == 2
    assert scene.sink.lost == {("a", "x")}


async def test_a_continue_token_that_is_gone_starts_the_list_again_without_a_pause(
    api: ApiServer,
) -> None:
    api.load(service(f"s{number}") for number in range(501))
    async with running(endpoint(api.url)) as scene:
        await scene.sink.until(lambda: len(scene.sink.objects) > 0)
        api.compact()  # the first page has been told, and the second not been asked for
        api.create(service("z"))
        await api.watching("services")
        assert len(scene.sink.objects) == 502
        assert scene.sink.lost == set()
        assert scene.sleeper.slept == []
    continued = ["continue=" in seen.target for seen in api.requests if "watch" not in seen.target]
    assert continued == [False, True, False, True]


# Who we are


async def test_a_rotated_token_is_read_again_after_401_without_a_pause(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "token").write_text("old")
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    async with ApiServer(tls=certificates.server_context(), tokens=["old"]) as api:
        host, port = api.url.removeprefix("https://").split(":")
        environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        async with running(in_cluster(environ, tmp_path, lambda: 0.0)) as scene:
            await api.watching("services")
            (tmp_path / "token").write_text("new")
            api.tokens = {"new"}
            api.close_watches()
            await api.watching("services")
            assert scene.sleeper.slept == []
            assert [seen.authorization for seen in api.requests] == [
                "Bearer old",
                "Bearer old",
                "Bearer old",
                "Bearer new",
            ]


async def test_a_token_that_is_refused_again_backs_off_and_recovers_when_it_is_rotated(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "token").write_text("old")
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    async with ApiServer(tls=certificates.server_context(), tokens=["new"]) as api:
        host, port = api.url.removeprefix("https://").split(":")
        environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        async with running(in_cluster(environ, tmp_path, lambda: 0.0)) as scene:
            await scene.sleeper.asked(1)
            assert len(api.requests) == 2
            assert "401" in scene.client.failures[SERVICES]
            (tmp_path / "token").unlink()
            await scene.sleeper.asked(2)
            (tmp_path / "token").write_text("new")
            scene.sleeper.wake()
            await api.watching("services")


async def test_a_client_certificate_is_shown(certificates: Certificates) -> None:
    files = (str(certificates.cert), str(certificates.key), str(certificates.ca))
    async with (
        ApiServer(tls=certificates.server_context(ask_client=True)) as api,
        running(endpoint(api.url, *files)),
    ):
        await api.watching("services")


async def test_a_server_whose_ca_is_not_ours_is_not_trusted(certificates: Certificates) -> None:
    async with (
        ApiServer(tls=certificates.server_context()) as api,
        running(endpoint(api.url)) as scene,
    ):
        await scene.sleeper.asked(1)
        assert "certificate" in scene.client.failures[SERVICES]
        assert list(api.requests) == []


async def test_the_name_in_the_certificate_may_be_another_than_the_urls(
    certificates: Certificates,
) -> None:
    async with ApiServer(tls=certificates.server_context()) as api:
        connection = endpoint(api.url, ca=str(certificates.ca))
        async with running(replace(connection, server_hostname="kubernetes")):
            await api.watching("services")
        async with running(replace(connection, server_hostname="elsewhere")) as scene:
            await scene.sleeper.asked(1)
            assert "elsewhere" in scene.client.failures[SERVICES]


# What is said of it


async def test_trouble_is_logged_once_when_it_begins_and_once_when_it_ends(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    api.forbid("services")
    with caplog.at_level(logging.INFO, "kdns.kube"):
        async with running(endpoint(api.url)) as scene:
            await scene.sleeper.asked(4)
            api.allow("services")
            scene.sleeper.wake()
            await api.watching("services")
    trouble, end = caplog.records
    assert (trouble.levelname, end.levelname) == ("WARNING", "INFO")
    assert 'resources: ["services"], verbs: ["list", "watch"]' in trouble.message
    assert "services" in end.message


async def test_an_answer_without_bounds_is_not_read_to_its_end(
    api: ApiServer,
) -> None:
    api.create(service("x"))
    async with running(endpoint(api.url), max_page=64) as scene:
        await scene.sleeper.asked(1)
        assert "longer than 64 bytes" in scene.client.failures[SERVICES]


async def test_a_watch_line_without_bounds_is_not_kept(
    api: ApiServer,
) -> None:
    async with running(endpoint(api.url), max_line=64) as scene:
        await api.watching("services")
        api.create(service("x"))
        await scene.sleeper.asked(1)
        assert "longer than 64 bytes" in scene.client.failures[SERVICES]


@asynccontextmanager
async def serving(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """The URL of a server that answers as it is told, and not as an API server would."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_watch_that_breaks_off_within_a_line_is_a_lost_one() -> None:
    body = b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}'

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b'{"type":"ADD' if "watch" in request.query else body)

    async with serving(answer) as url, running(endpoint(url)) as scene:
        await scene.sleeper.asked(1)
        assert "broke off within a line" in scene.client.failures[SERVICES]


async def test_fresh_credentials_that_are_a_certificate_are_shown_on_a_fresh_connection(
    certificates: Certificates,
) -> None:
    peers: list[object] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(status=401, body=b"{}")

    files = (str(certificates.cert), str(certificates.key), str(certificates.ca))
    async with serving(answer, certificates.server_context()) as url:
        connection = endpoint(url, *files)

        async def authorization(rejected: str | None) -> str:
            if rejected is not None:
                connection.ssl = endpoint(url, *files).ssl
            return ""

        connection.authorization = authorization
        async with running(connection) as scene:
            await scene.sleeper.asked(1)
    assert len(set(peers)) == 2


async def test_requests_are_counted_with_and_without_a_status(api: ApiServer) -> None:
    meters = Meters()
    api.refuse(503)
    async with running(endpoint(api.url), meters=meters) as scene:
        await scene.sleeper.asked(1)
        scene.sleeper.wake()
        await api.watching("services")
        api.drop_connections()
        await scene.sleeper.asked(2)
    codes = {
        labels[0]: count
        for sample in meters.sample()
        if sample.kind == "counter"
        for labels, count in sample.numbers
    }
    # The watch that broke off had a status.
    assert codes == {"503": 1, "200": 2}


async def test_a_request_to_a_server_that_is_not_there_is_an_error() -> None:
    async with ApiServer() as gone:
        connection = endpoint(gone.url)
    meters = Meters()
    async with running(connection, meters=meters) as scene:
        await scene.sleeper.asked(1)
    (requests,) = [sample for sample in meters.sample() if sample.kind == "counter"]
    assert [labels[0] for labels, _ in requests.numbers] == ["<error>"]
