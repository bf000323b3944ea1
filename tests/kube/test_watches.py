"""Audits take turns at random moments, and what comes of watches and audits is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import Reflector
from kdns.kube.client import ApiClient
from kdns.kube.credentials import endpoint
from kdns.kube.watches import Watches
from kdns.telemetry.meters import Labels, Meters
from kdns.testing.apiserver import ApiServer
from kdns.testing.sink import Bound
from tests.kube.test_kube_client import Sleeper, Told, service

LABELS = ("services",)


class Scene:
    def __init__(self, api: ApiServer, watches: Watches, sleeper: Sleeper) -> None:
        self.api = api
        self.watches = watches
        self.sleeper = sleeper
        self.sink = Told()
        self.reflector = Reflector(Resource.SERVICES, self.sink, Bound())
        self.meters = Meters()
        watches.count_in(self.meters)

    def metric(self, name: str, labels: Labels = LABELS) -> float | None:
        (sample,) = (sample for sample in self.meters.sample() if sample.name == name)
        return dict(sample.numbers).get(labels)


@asynccontextmanager
async def watched(audit_every: float) -> AsyncIterator[Scene]:
    async with ApiServer() as api:
        sleeper = Sleeper()
        watches = Watches(Bound(), audit_every, sleep=sleeper, monotonic=lambda: 7.0)
        scene = Scene(api, watches, sleeper)
        api.load([service("x"), service("y")])
        async with ApiClient(endpoint(api.url), sleep=sleeper, monotonic=lambda: 3.0) as client:
            task = asyncio.create_task(watches.run(client, [scene.reflector]))
            try:
                await scene.sink.until(lambda: scene.reflector.synced or task.done())
                yield scene
            finally:
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
    assert dict(watches.ages()) == {}


async def test_ages_are_from_when_the_server_was_last_heard() -> None:
    async with watched(0) as scene:
        assert dict(scene.watches.ages()) == {"services": 4.0}


async def test_who_was_never_heard_is_of_any_age() -> None:
    watches = Watches(Bound(), 0)
    sleeper = Sleeper()
    async with ApiServer() as api, ApiClient(endpoint(api.url), sleep=sleeper) as client:
        api.forbid("services")
        task = asyncio.create_task(
            watches.run(client, [Reflector(Resource.SERVICES, Told(), Bound())])
        )
        await sleeper.asked(1)
        assert dict(watches.ages()) == {"services": inf}
        task.cancel()
        await asyncio.wait([task])


async def test_audits_come_at_random_moments_around_their_time_and_are_counted() -> None:
    async with watched(100) as scene:
        await scene.sleeper.asked(2)
        assert scene.sleeper.slept == [150, 150]
        assert scene.metric("kdns_audits", (*LABELS, "clean")) == 1
        assert scene.metric("kdns_audit_faults") == 0


async def test_an_audit_that_finds_something_counts_it_and_the_list_that_heals_it() -> None:
    async with watched(100) as scene:
        await scene.sleeper.asked(1)
        scene.api.lose(service("z"))
        scene.api.lose_deletion("Service", "a", "x")
        scene.api.bookmark()
        await scene.sleeper.asked(2)
        assert scene.metric("kdns_audits", (*LABELS, "healed")) == 1
        assert scene.metric("kdns_audit_faults") == 2
        await scene.sink.names("yz")
        assert scene.metric("kdns_watch_lists") == 2


async def test_an_audit_without_an_answer_is_counted_as_such() -> None:
    async with watched(100) as scene:
        await scene.sleeper.asked(1)
        scene.api.refuse(500)
        await scene.sleeper.asked(2)
        assert scene.metric("kdns_audits", (*LABELS, "abandoned")) == 1


async def test_without_audits_nothing_is_asked() -> None:
    async with watched(0) as scene:
        assert (scene.sleeper.slept, len(scene.api.requests)) == ([], 1)


async def test_the_digest_of_two_replicas_is_the_same_when_their_states_are() -> None:
    async with watched(0) as one, watched(0) as other:
        assert one.metric("kdns_state_objects") == 2
        assert one.metric("kdns_state_digest") == other.metric("kdns_state_digest")
        other.api.create(service("z"))
        await other.sink.names("xyz")
        assert one.metric("kdns_state_digest") != other.metric("kdns_state_digest")


async def test_lists_stay_counted_when_their_watch_has_ended() -> None:
    async with watched(0) as scene:
        before = scene.metric("kdns_watch_lists")
    assert scene.metric("kdns_watch_lists") == before == 1


async def test_trouble_shows_in_a_gauge() -> None:
    async with watched(0) as scene:
        assert scene.metric("kdns_watch_failing") == 0
        scene.api.drop_connections()
        await scene.sleeper.asked(1)
        assert scene.metric("kdns_watch_failing") == 1


@pytest.mark.parametrize("name", ["kdns_watch_failing", "kdns_state_objects", "kdns_state_digest"])
async def test_what_is_followed_no_more_has_no_gauges(name: str) -> None:
    async with watched(0) as scene:
        pass
    assert scene.metric(name) is None
