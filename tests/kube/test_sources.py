"""Clusters are followed for as long as they are wanted, whatever happens to who follows them."""

import asyncio
import logging
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from kdns.cluster.held import encode
from kdns.cluster.model import from_object
from kdns.cluster.objects import Resource, decode_object
from kdns.cluster.selectors import parse_field_selector, parse_label_selector
from kdns.cluster.state import Change
from kdns.kube import snapshot
from kdns.kube.sources import Sources
from kdns.plugins.parts import SourceSettings
from kdns.testing.apiserver import ApiServer
from tests.kube.test_kube_client import service, serving


async def test_a_fault_of_ours_is_told_and_does_not_end_the_watch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes: list[Change] = []
    both = asyncio.Event()

    def listener(change: Change) -> None:
        changes.append(change)
        if len(changes) == 1:
            raise ZeroDivisionError("ours")
        if len(cluster.services) == 2:
            both.set()

    async with ApiServer() as api:
        api.load([service("x", spec={"clusterIP": "10.0.0.1"})])
        selectors = ((Resource.SERVICES, parse_label_selector(""), parse_field_selector("")),)
        settings = SourceSettings(frozenset({Resource.SERVICES}), selectors, endpoint=api.url)
        sources = Sources(rng=Random(0), after_fault=0.0)
        cluster = sources.cluster(settings)
        cluster.listen(listener)
        await sources.start()
        await api.watching("services", 1)
        api.create(service("y", spec={"clusterIP": "10.0.0.2"}))
        await both.wait()
        await sources.close()
    (record,) = (each for each in caplog.records if each.levelno >= logging.ERROR)
    assert record.getMessage() == f"{api.url}: a fault; listing anew"
    assert record.exc_info is not None


class Said(logging.Handler):
    """Sets an event once a line has a text, and all before it have it; threads write lines too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._loop.call_soon_threadsafe(self.event.set)


@pytest.mark.parametrize("mended", [False, True])
async def test_that_the_state_cannot_be_written_is_said_once(
    mended: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state = tmp_path / "state"
    state.write_text("no folder")
    failed, written = Said("cannot be written"), Said("is written again")
    for handler in (failed, written):
        logging.getLogger().addHandler(handler)
    async with ApiServer() as api:
        api.load([service("x", spec={"clusterIP": "10.0.0.1"})])
        selectors = ((Resource.SERVICES, parse_label_selector(""), parse_field_selector("")),)
        settings = SourceSettings(frozenset({Resource.SERVICES}), selectors, endpoint=api.url)
        sources = Sources(rng=Random(0), state_dir=str(state), write_every=0.0)
        sources.cluster(settings)
        await sources.start()
        await failed.event.wait()
        if mended:
            state.unlink()
            await written.event.wait()
        # The end tries once more.
        await sources.close()
    for handler in (failed, written):
        logging.getLogger().removeHandler(handler)
    assert sum("cannot be written" in message for message in caplog.messages) == 1
    assert (state / "cluster-0.state").exists() == mended


async def test_what_is_remembered_does_not_end_with_a_stream_that_names_nothing(
    tmp_path: Path,
) -> None:
    asked: list[str] = []
    listed = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "watch" in request.query:
            asked.append("stream")
            mark = b'{"annotations":{"k8s.io/initial-events-end":"true"},"resourceVersion":"1"}'
            return web.Response(body=b'{"type":"BOOKMARK","object":{"metadata":%b}}\n' % mark)
        asked.append("pages")
        listed.set()
        return web.Response(body=b"", status=500)

    async with serving(answer) as url:
        selectors = ((Resource.SERVICES, parse_label_selector(""), parse_field_selector("")),)
        settings = SourceSettings(frozenset({Resource.SERVICES}), selectors, endpoint=url)
        obj = decode_object(Resource.SERVICES, b'{"metadata":{"name":"x","namespace":"a"}}')
        remembered = encode(("a", "x"), from_object(obj))
        identity = f"{url}, services; services [] []"
        path = tmp_path / "cluster-0.state"
        snapshot.write(path, identity, {Resource.SERVICES: [remembered]})
        sources = Sources(rng=Random(0), state_dir=str(tmp_path))
        cluster = sources.cluster(settings)
        await sources.start()
        await listed.wait()
        assert asked[:2] == ["stream", "pages"]
        assert len(cluster.services) == 1
        await sources.close()
