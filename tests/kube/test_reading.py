"""Objects are read once, page by page, and what cannot be read is told in the server's words."""

import argparse
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kdns.cluster.objects import Resource
from kdns.commands.clusters import read_cluster
from kdns.kube.credentials import endpoint
from kdns.kube.reading import PAGE, Reader, ReadingError
from kdns.testing.apiserver import ApiServer


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
async def reader(api: ApiServer) -> AsyncIterator[Reader]:
    async with Reader(endpoint(api.url)) as made:
        yield made


def service(name: str, **spec: object) -> dict[str, object]:
    return {"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


async def test_all_pages_are_read(api: ApiServer, reader: Reader) -> None:
    api.load(service(f"s{number}") for number in range(PAGE + 1))
    found, left_out = await reader.objects([Resource.SERVICES])
    assert (len(found), left_out) == (PAGE + 1, [])
    assert len(api.requests) == 2


async def test_an_object_that_cannot_be_read_costs_itself(api: ApiServer, reader: Reader) -> None:
    api.load([service("good"), service("bad", clusterIP=7)])
    found, left_out = await reader.objects([Resource.SERVICES])
    assert [item.metadata.name for item in found] == ["good"]
    assert "Service shop/bad" in left_out[0]


async def test_what_is_not_there_is_none(reader: Reader) -> None:
    assert await reader.get("/api/v1/namespaces/kube-system/configmaps/coredns") is None


async def test_one_object_is_json(reader: Reader) -> None:
    found = await reader.get("/version")
    assert found is not None
    assert found["major"] == "1"


async def test_a_refusal_has_the_server_s_words(api: ApiServer, reader: Reader) -> None:
    api.forbid("services")
    with pytest.raises(ReadingError, match="cannot list resource") as refused:
        await reader.objects([Resource.SERVICES])
    assert refused.value.code == 403


async def test_a_failure_of_one_object_is_told_too(api: ApiServer, reader: Reader) -> None:
    api.refuse(500)
    with pytest.raises(ReadingError, match="/version: "):
        await reader.get("/version")


async def test_items_are_json(api: ApiServer, reader: Reader) -> None:
    api.load([service("web")])
    found = await reader.items(Resource.SERVICES.path, labelSelector="")
    assert found[0]["metadata"]["name"] == "web"


async def test_a_server_that_is_not_there_is_told() -> None:
    async with Reader(endpoint("http://127.0.0.1:1")) as reader:
        with pytest.raises(ReadingError, match=r"127\.0\.0\.1:1: Connection refused; expected"):
            await reader.get("/version")


async def test_a_command_finds_its_cluster_by_a_kubeconfig(api: ApiServer, tmp_path: Path) -> None:
    api.load([service("web")])
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me"}}],
        "clusters": [{"name": "one", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    options = argparse.Namespace(manifests=[], kubeconfig=str(tmp_path / "config"), context="here")
    found = await read_cluster(options, [Resource.SERVICES])
    assert [item.metadata.name for item in found.objects] == ["web"]
    assert found.where == api.url
