"""The client over a real socket: streamed lists, audits, several addresses, rotated files."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kdns.cluster.audit import Verdict
from kdns.kube.client import AUDIT_PAUSE
from kdns.kube.credentials import TlsFiles, endpoint
from kdns.testing.apiserver import ApiServer
from tests.kube.test_kube_client import SERVICES, Certificates, lists, running, service, serving


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


# Streamed lists


async def test_the_state_is_streamed_where_the_server_offers_it(api: ApiServer) -> None:
    api.load([service("x"), service("y")])
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.create(service("z"))
        await scene.sink.names("xyz")
        assert len(scene.sink.swept) == 1
    assert (lists(api), len(api.requests)) == (0, 1)


@pytest.mark.parametrize("streams", ["refused", "ignored"])
async def test_a_server_that_does_not_stream_is_listed_in_pages(
    api: ApiServer, streams: str
) -> None:
    api.streams = "refused" if streams == "refused" else "ignored"
    api.load(service(f"s{number}") for number in range(501))
    async with running(endpoint(api.url), stream=True) as scene:
        await api.watching("services")
        api.bookmark()
        await scene.sink.until(lambda: scene.reflector.synced)
        assert len(scene.sink.objects) == 501
        assert scene.sleeper.slept == []
    assert lists(api) == 2


async def test_a_watch_that_is_gone_is_followed_by_a_stream_that_shows_no_gap(
    api: ApiServer,
) -> None:
    api.load([service("x"), service("y")])
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.close_watches()
        api.delete("Service", "a", "x")
        api.create(service("z"))
        api.compact()
        await scene.sink.names("yz")
    assert lists(api) == 0
    assert scene.sink.lost == {("a", "x")}


async def test_a_line_that_is_cut_costs_a_relist_and_no_gap(api: ApiServer) -> None:
    api.load([service("x")])
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.send(b'{"type":"MODIFIED","object":{"metad\n')
        await scene.sink.until(lambda: len(scene.sink.swept) == 2)
        api.create(service("y"))
        await scene.sink.names("xy")
    assert scene.sink.lost == set()


async def test_a_stream_that_stops_before_its_end_is_left_for_a_list_in_pages() -> None:
    """As of something between that holds answers back until they are whole."""
    state = b'{"type":"ADDED","object":{"metadata":{"name":"x","namespace":"a"}}}\n'
    page = (
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"},'
        b'"items":[{"metadata":{"name":"x","namespace":"a"}}]}'
    )
    held = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.Response(body=page)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(state if "sendInitialEvents" in request.query else b"")
        await held.wait()
        return response

    async with serving(answer) as url:
        async with running(endpoint(url), stream=True, list_silence=0.02) as scene:
            await scene.sleeper.asked(1)
            assert "ended before all was told" in scene.client.failures[SERVICES]
            scene.sleeper.wake()
            await scene.sink.until(lambda: scene.reflector.synced)
        held.set()


# Audits


async def test_an_audit_of_what_was_told_finds_nothing_and_costs_metadata_alone(
    api: ApiServer,
) -> None:
    api.load([service("x"), service("y", spec={"type": "ClusterIP"})])
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        assert await scene.client.audit(scene.reflector) == Verdict((), 0)
    assert scene.reflector.lists == 1
    assert lists(api) == 1


async def test_an_audit_heals_events_that_were_never_told(api: ApiServer) -> None:
    api.load([service("x"), service("y"), service("z")])
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.lose(service("new"))
        api.lose(service("x", spec={"type": "ClusterIP"}))
        api.lose_deletion("Service", "a", "y")
        api.bookmark()  # the watch has told all that it will tell
        verdict = await scene.client.audit(scene.reflector)
        assert verdict == Verdict((("a", "new"), ("a", "x")), 1)
        await scene.sink.until(lambda: ("a", "y") not in scene.sink.objects)
        assert scene.sink.objects.keys() == {("a", "new"), ("a", "x"), ("a", "z")}
        assert await scene.client.audit(scene.reflector) == Verdict((), 0)
    assert scene.sink.lost == {("a", "y")}


async def test_a_watch_that_does_not_come_as_far_is_not_waited_for_for_ever(
    api: ApiServer,
) -> None:
    api.load([service("x")])
    async with running(endpoint(api.url), stream=True, patience=0.01) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.mute()
        api.create(service("y"))
        assert await scene.client.audit(scene.reflector) == Verdict((("a", "y"),), 0)
        await scene.sink.names("xy")


async def test_an_audit_is_paced_page_by_page(api: ApiServer) -> None:
    api.load(service(f"s{number}") for number in range(1001))
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        audit = asyncio.create_task(scene.client.audit(scene.reflector))
        await scene.sleeper.asked(2)
        scene.sleeper.wake()
        assert await audit == Verdict((), 0)
        assert scene.sleeper.slept == [AUDIT_PAUSE, AUDIT_PAUSE]
    assert lists(api) == 3


async def test_an_audit_that_the_server_does_not_answer_is_no_verdict(api: ApiServer) -> None:
    async with running(endpoint(api.url), stream=True) as scene:
        assert await scene.client.audit(scene.reflector) is None, "nothing was told yet"
        await scene.sink.until(lambda: scene.reflector.synced)
        api.refuse(500)
        assert await scene.client.audit(scene.reflector) is None
        api.lose(service("x"))
        await api.stop()
        assert await scene.client.audit(scene.reflector) is None
        await api.start()


async def test_an_audit_that_a_list_overtakes_is_no_verdict(api: ApiServer) -> None:
    api.load(service(f"s{number}") for number in range(501))
    async with running(endpoint(api.url), stream=True) as scene:
        await scene.sink.until(lambda: scene.reflector.synced)
        api.lose(service("x"))
        audit = asyncio.create_task(scene.client.audit(scene.reflector))
        await scene.sleeper.asked(1)  # between two pages
        api.send(b"no event\n")
        await scene.sink.until(lambda: ("a", "x") in scene.sink.objects)
        scene.sleeper.wake()
        assert await audit is None


# Several addresses


async def test_another_address_is_asked_at_once_when_the_first_one_fails(api: ApiServer) -> None:
    async with ApiServer() as gone:
        first = gone.url
    api.create(service("x"))
    async with running(endpoint(first, others=(api.url,)), stream=True) as scene:
        await scene.sink.names("x")
        assert scene.client.server == api.url
        assert scene.sleeper.slept == []


async def test_an_address_that_only_fails_is_left_too(api: ApiServer) -> None:
    async with ApiServer() as ill:
        ill.refuse(503, times=None)
        api.create(service("x"))
        async with running(endpoint(ill.url, others=(api.url,)), stream=True) as scene:
            await scene.sink.names("x")
            await api.watching("services")
            assert scene.client.failures == {}


async def test_an_address_whose_watch_goes_silent_is_left_too(api: ApiServer) -> None:
    async with ApiServer() as silent:
        silent.create(service("x"))
        api.load([service("x"), service("y")])
        connection = endpoint(silent.url, others=(api.url,))
        async with running(connection, stream=True, silence=0.05) as scene:
            await scene.sink.names("x")
            silent.mute()
            await scene.sink.until(lambda: scene.client.server == api.url or not scene.sink.objects)
            await scene.sink.names("xy")


async def test_when_every_address_has_failed_there_is_a_pause() -> None:
    async with ApiServer() as one, ApiServer() as other:
        connection = endpoint(one.url, others=(other.url,))
    async with running(connection) as scene:
        await scene.sleeper.asked(3)
        assert scene.sleeper.slept == [2, 4, 8]


# Files that are rotated


async def test_a_ca_that_is_rotated_on_disk_is_trusted_from_the_next_connection_on(
    tmp_path: Path, certificates: Certificates
) -> None:
    ca = tmp_path / "ca.crt"
    shutil.copy(certificates.other_ca, ca)
    async with ApiServer(tls=certificates.server_context()) as api:
        api.create(service("x"))
        async with running(endpoint(api.url, ca=str(ca)), stream=True) as scene:
            await scene.sleeper.asked(1)
            assert "certificate" in scene.client.failures[SERVICES]
            shutil.copy(certificates.ca, ca)
            scene.sleeper.wake()
            await scene.sink.names("x")


def test_a_file_caught_half_written_leaves_what_was_read_before(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    ca = tmp_path / "ca.crt"
    shutil.copy(certificates.ca, ca)
    files = TlsFiles(str(ca))
    before = files.context
    ca.write_text("-----BEGIN CERT")
    assert files.changed() is None
    assert files.context is before
    assert f"CA certificate {ca}: " in caplog.text
    ca.unlink()
    assert files.changed() is None
    shutil.copy(certificates.ca, ca)
    assert files.changed() is files.context
    assert files.changed() is None


# What a server may say besides


async def test_retry_after_may_be_a_date() -> None:
    """RFC 9110, section 10.2.3."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        headers = {
            "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
            "Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT",
        }
        return web.Response(status=429, headers=headers)

    async with serving(answer) as url, running(endpoint(url)) as scene:
        await scene.sleeper.asked(1)
        assert scene.sleeper.slept == [30]
