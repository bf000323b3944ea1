"""Nothing that a server does, or leaves undone, is waited for or asked again without a bound."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kdns.cluster import reflector as module
from kdns.kube.client import LASTING_SECONDS
from kdns.kube.credentials import Connection, endpoint
from kdns.testing.apiserver import ApiServer
from tests.kube.test_kube_client import SERVICES, running, service, serving

PAGE = b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}'
ADDED = b'{"type":"ADDED","object":{"metadata":{"name":"x","namespace":"a"}}}\n'
GONE = b'{"type":"ERROR","object":{"code":410}}\n'


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@asynccontextmanager
async def dripping(pieces: bytes, *, watches: bool) -> AsyncIterator[str]:
    """The URL of a server that lists or watches as long as one likes, a piece at a time."""
    over = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if ("watch" in request.query) is not watches:
            return web.Response(body=PAGE)
        response = web.StreamResponse()
        await response.prepare(request)
        while not over.is_set():
            await response.write(pieces)
            await asyncio.sleep(0)
        return response

    async with serving(answer) as url:
        try:
            yield url
        finally:
            over.set()


# What never ends


async def test_an_answer_that_does_not_begin_is_not_waited_for_as_long_as_a_watch() -> None:
    over = asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    async with serving(answer) as url:
        async with running(endpoint(url), stream=True, list_silence=0.02) as scene:
            await scene.sleeper.asked(1)
            assert scene.client.failures[SERVICES] == f"list services: {url} does not answer"
        over.set()


async def test_a_proxy_that_opens_no_tunnel_is_not_waited_for_for_ever() -> None:
    over = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.method == "CONNECT"
        await over.wait()
        return web.Response()

    async with serving(answer) as url:
        behind = Connection("https://127.0.0.1:6443", proxy=url)
        async with running(behind, list_silence=0.02) as scene:
            await scene.sleeper.asked(1)
            assert "does not answer" in scene.client.failures[SERVICES]
        over.set()


async def test_a_page_that_does_not_end_is_left() -> None:
    async with (
        dripping(b" ", watches=False) as url,
        running(endpoint(url), page_seconds=0.05) as scene,
    ):
        await scene.sleeper.asked(1)
        assert "does not answer" in scene.client.failures[SERVICES]


@pytest.mark.parametrize("pieces", [b" ", b"\n"])
async def test_a_watch_that_sends_no_lines_is_a_silent_one(pieces: bytes) -> None:
    async with (
        dripping(pieces, watches=True) as url,
        running(endpoint(url), silence=0.05) as scene,
    ):
        await scene.sleeper.asked(1)
        assert "two watches ended without a line" in scene.client.failures[SERVICES]


async def test_a_stream_that_goes_on_beyond_its_time_is_left_for_a_list_in_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", (0, 0))
    async with (
        dripping(ADDED, watches=True) as url,
        running(endpoint(url), stream=True, list_silence=0.05) as scene,
    ):
        await scene.sleeper.asked(1)
        assert "ended before all was told" in scene.client.failures[SERVICES]
        scene.sleeper.wake()
        await scene.sink.until(lambda: scene.reflector.synced)


async def test_an_audit_of_which_a_page_does_not_end_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    over = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if "watch" in request.query:
            await over.wait()
        elif "as=Partial" not in request.headers["Accept"]:
            await response.write(PAGE)
        else:
            while not over.is_set():
                await response.write(b" ")
                await asyncio.sleep(0)
        return response

    async with serving(answer) as url:
        async with running(endpoint(url), page_seconds=0.05) as scene:
            await scene.sink.until(lambda: scene.reflector.synced)
            assert await scene.client.audit(scene.reflector) is None
        over.set()
    assert f"audit of services: {url} does not answer" in caplog.messages


# What is over at once, again and again


@pytest.mark.parametrize("stream", [True, False])
async def test_when_every_address_breaks_off_its_answers_there_is_a_pause(stream: bool) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "99"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    async with (
        serving(answer) as one,
        serving(answer) as other,
        running(endpoint(one, others=(other,)), stream=stream) as scene,
    ):
        await scene.sleeper.asked(1)
        assert len(scene.sleeper.slept) == 1


async def test_only_a_watch_that_has_lasted_makes_up_for_those_before(api: ApiServer) -> None:
    """Time, in these tests, is the number of services that were told."""
    async with running(endpoint(api.url), stream=True) as scene:
        await api.watching("services")
        api.send(GONE, end=True)
        await api.watching("services")
        api.load([service(f"s{n}") for n in range(int(LASTING_SECONDS))])
        await scene.sink.until(lambda: scene.sink.told == LASTING_SECONDS)
        api.send(GONE, end=True)
        await api.watching("services")
        assert scene.sleeper.slept == []
        api.send(GONE, end=True)
        await scene.sleeper.asked(1)


# What is said besides


async def test_cookies_are_not_kept() -> None:
    """A proxy may give one with each answer, until its own requests are too long for it."""
    asked: list[str | None] = []
    again = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers.get("Cookie"))
        if len(asked) > 1:
            again.set()
        return web.Response(body=PAGE, headers={"Set-Cookie": f"visit{len(asked)}=1"})

    async with (
        serving(answer) as url,
        # Of addresses that are numbers none would be kept anyway.
        running(endpoint(url.replace("127.0.0.1", "localhost"))),
    ):
        await again.wait()
    assert asked[:2] == [None, None]


async def test_the_same_trouble_is_told_in_the_same_words() -> None:
    """And so in one line of the log: the query of a request is another each time."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"X-Long": "x" * 10_000})

    async with serving(answer) as url, running(endpoint(url), stream=True) as scene:
        await scene.sleeper.asked(1)
        failure = scene.client.failures[SERVICES]
        assert failure.startswith(f"list services: {url}: Got more than")
        assert "timeoutSeconds" not in failure
