"""What kdns asks an API server for is what deploy/ lets it do: no less, and no more.

The requests are those that the server saw, under every option of `kubernetes`, watched and audited.
"""

import asyncio
import re
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
import yaml

from kdns.cluster.objects import Resource
from kdns.cluster.reflector import Reflector
from kdns.cluster.state import Cluster
from kdns.kube.client import ApiClient
from kdns.kube.credentials import endpoint
from kdns.kube.sources import Sources
from kdns.plan import make_plan
from kdns.plugins.kubernetes import Kubernetes
from kdns.plugins.parts import SourceSettings
from kdns.testing.apiserver import ApiServer
from tests.deploy.rendered import chart, needs_helm, needs_kubectl, only, overlay

DEPLOY = Path(__file__).parents[2] / "deploy"
PATH = re.compile(r"/(?:api|apis/(?P<group>[^/?]+))/v1/(?P<resource>[^/?]+)")
OBJECTS = (
    {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}},
    {"kind": "Service", "metadata": {"name": "web", "namespace": "shop"}},
    {"kind": "EndpointSlice", "metadata": {"name": "web-1", "namespace": "shop"}},
    {"kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop"}},
)

Rights = set[tuple[str, str, str]]
"""(API group, resource, verb)."""


def settings(option: str, url: str) -> SourceSettings:
    """What a Corefile with that option has followed."""
    text = f". {{\n kubernetes cluster.local {{\n endpoint {url}\n {option}\n }}\n}}"
    plan = make_plan(text, "Corefile", environ={})
    (known,) = plan.blocks[0].directives
    assert isinstance(known.settings, Kubernetes)
    return known.settings.source()


async def asked(option: str, streams: Literal["known", "refused"] = "refused") -> Rights:
    """What is asked for under an option: lists or their streams, watches, and audits."""
    async with ApiServer() as api:
        api.streams = streams
        api.load(OBJECTS)
        source = settings(option, api.url)
        sources = Sources(rng=Random(1), audit_every=0.0)
        sources.cluster(source)
        await sources.start()
        for resource in source.resources:
            await api.watching(resource.value)
        await sources.close()
        await audit(source, api)
        return {read(seen.method, seen.target) for seen in api.requests}


async def audit(source: SourceSettings, api: ApiServer) -> None:
    """What the audits of these resources ask, which by themselves come every half an hour."""
    api.streams = "refused"
    async with ApiClient(endpoint(api.url)) as client:
        for resource, labels, fields in source.selectors:
            reflector = Reflector(
                resource,
                Cluster(lambda: 0, print),
                Random(1),
                label_selector=str(labels),
                field_selector=str(fields),
            )
            running = asyncio.create_task(client.run(reflector))
            await api.watching(resource.value)
            assert await client.audit(reflector) is not None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            api.close_watches()


def read(method: str, target: str) -> tuple[str, str, str]:
    """A request as RBAC sees it: of the methods, GET alone lists or watches."""
    found = PATH.match(target)
    assert found is not None, f"not a collection of one resource: {target}"
    assert method == "GET"
    watches = "watch=1" in target or "watch=true" in target
    return found["group"] or "", found["resource"], "watch" if watches else "list"


def granted(role: dict[str, Any]) -> Rights:
    """What a ClusterRole lets do."""
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def every(*resources: Resource) -> Rights:
    return {(r.group, r.value, verb) for r in resources for verb in ("list", "watch")}


ALWAYS = (Resource.NAMESPACES, Resource.SERVICES)
USUAL = (*ALWAYS, Resource.ENDPOINTSLICES)
OPTIONS = (
    "ttl 30",
    "pods disabled",
    "pods insecure",
    "namespaces shop",
    "namespace_labels team=a",
    "labels app=x",
    "endpoint_pod_names",
    "ignore empty_service",
    "fallthrough",
    "apiserver_qps 10",
    "startup_timeout 1s",
)


def base() -> dict[str, Any]:
    """The ClusterRole of deploy/kustomize/base."""
    text = (DEPLOY / "kustomize" / "base" / "rbac.yaml").read_text()
    return only([found for found in yaml.safe_load_all(text) if found], "ClusterRole")


@pytest.mark.parametrize("option", OPTIONS)
async def test_what_is_asked_for_is_what_the_base_grants(option: str) -> None:
    assert await asked(option) == granted(base()) == every(*USUAL)


async def test_a_server_that_streams_lists_is_asked_for_no_more() -> None:
    assert await asked("ttl 30", streams="known") == granted(base())


async def test_no_endpoints_asks_for_less() -> None:
    assert await asked("noendpoints") == every(*ALWAYS)


async def test_verified_pods_are_what_the_component_adds() -> None:
    component = DEPLOY / "kustomize" / "components" / "pods-verified" / "kustomization.yaml"
    (patch,) = yaml.safe_load(component.read_text())["patches"]
    role = base()
    for change in yaml.safe_load(patch["patch"]):
        assert (change["op"], change["path"]) == ("replace", "/rules/0/resources")
        role["rules"][0]["resources"] = change["value"]
    assert await asked("pods verified") == granted(role) == every(*USUAL, Resource.PODS)


@needs_kubectl
@pytest.mark.parametrize("name", ["replace", "beside", "nodelocal"])
async def test_every_overlay_grants_what_is_asked_for(name: str) -> None:
    assert granted(only(overlay(name), "ClusterRole")) == await asked("pods insecure")


@needs_helm
@pytest.mark.parametrize("option", [*OPTIONS, "pods verified", "noendpoints"])
async def test_the_chart_grants_what_is_asked_for_under_each_option(option: str) -> None:
    plugins = [{"name": "kubernetes", "parameters": "cluster.local", "configBlock": option}]
    servers = [{"zones": [{"zone": "."}], "port": 53, "plugins": plugins}]
    role = only(chart(values={"servers": servers}), "ClusterRole")
    assert granted(role) == await asked(option)
