"""kdns and a running CoreDNS, following one API server: clusters by chance, and then changed.

    KDNS_COREDNS=/usr/bin/coredns KDNS_SEEDS=1-50 pytest tests/conformance/test_against_coredns.py

Skipped when no CoreDNS is named. Nothing may differ but by a text of a standard.
"""

import asyncio
import os
import random
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kdns.cluster.objects import Object, Resource, convert_object
from kdns.commands.asking import Asker, Pace, Place, ask_both
from kdns.compare.comparison import compare, lines_of, row
from kdns.compare.questions import Question, questions
from kdns.net.listen import bind_pair
from kdns.testing.apiserver import ApiServer
from kdns.testing.upstream import ZoneServer
from tests.conformance.random_clusters import SPACES, RandomCluster, Tree, strange_questions
from tests.serving import LISTENING, command, environment

COREDNS = os.environ.get("KDNS_COREDNS", "")
SEEDS = os.environ.get("KDNS_SEEDS", "1-2").split("-")
ZONE = Path(__file__).parent.parent / "data" / "conformance" / "upstream.example.test.zone"
RESOURCES = {resource.kind: resource for resource in Resource}
ZONES = ("cluster.local.",)
OPTIONS = {
    "kubeadm": "pods insecure\nfallthrough in-addr.arpa ip6.arpa\nttl 30",
    "verified": "pods verified\nendpoint_pod_names",
    "ignoring": "pods disabled\nignore empty_service\nnamespaces ns0 ns1",
    "bare": "noendpoints\nfallthrough",
    "labelled": "labels app=x\npods insecure",
}
COREFILE = """.{port} {{
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {url}
        {options}
    }}
    forward . 127.0.0.1:{upstream}
}}
"""
STRANGE = 1_000
"""Questions beside those of the objects."""
TRIES = 20_000
"""Questions about the last change, until it has arrived; each waits for its reply."""

pytestmark = pytest.mark.skipif(
    not COREDNS, reason="no CoreDNS to compare with: name its binary in KDNS_COREDNS"
)


@asynccontextmanager
async def running(*args: str) -> AsyncIterator[Process]:
    """A program, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *args, stdout=PIPE, stderr=STDOUT, env=environment()
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


def free_port() -> int:
    """A port that nobody has at this moment."""
    udp, tcp = bind_pair("127.0.0.1")
    with udp, tcp:
        port: int = udp.getsockname()[1]
    return port


@asynccontextmanager
async def both(options: str, api: ApiServer, folder: Path) -> AsyncIterator[tuple[Place, Place]]:
    """CoreDNS and kdns, in sync with `api`."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ZoneServer(ZONE))
        port = free_port()
        files = []
        for name, number in (("coredns", f":{port}"), ("kdns", "")):
            text = COREFILE.format(
                port=number, url=api.url, options=options, upstream=upstream.port
            )
            files.append(folder / name)
            files[-1].write_text(text)
        await stack.enter_async_context(running(COREDNS, "-conf", str(files[0])))
        kdns = await stack.enter_async_context(
            running(sys.executable, *command("serve", "-conf", str(files[1]))[1:])
        )
        assert kdns.stdout is not None
        found = None
        while found is None:
            line = await kdns.stdout.readline()
            assert line, "kdns ended before it listened"
            found = LISTENING.search(line.decode())
        places = (Place("127.0.0.1", port), Place("127.0.0.1", int(found[1])))
        await arrived(api, places, "first", options)
        yield places


async def arrived(api: ApiServer, places: tuple[Place, Place], mark: str, options: str) -> None:
    """Wait until both servers know everything that happened until now.

    Each resource is watched in order, so a namespace, a service, a slice and a pod made now are
    known last of all.
    """
    space = f"{mark}-mark"
    labels = {"kubernetes.io/service-name": "m", "app": "x"}
    meta = {"name": "m", "namespace": space, "labels": labels}
    slice_ = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": []}
    headless = {"clusterIP": "10.200.0.1", "clusterIPs": ["10.200.0.1"], "ports": []}
    status = {"phase": "Running", "podIP": "10.9.9.9", "podIPs": [{"ip": "10.9.9.9"}]}
    api.load(
        [
            {"kind": "Namespace", "metadata": {"name": space}},
            {"kind": "EndpointSlice", "metadata": meta, **slice_},
            {"kind": "Pod", "metadata": meta, "status": status},
            {"kind": "Service", "metadata": meta, "spec": headless},
        ]
    )
    names = [f"{space}.svc.cluster.local."]
    if "noendpoints" not in options:
        names.append(f"10-9-9-9.m.{space}.svc.cluster.local.")
    if "verified" in options:
        names.append(f"10-9-9-9.{space}.pod.cluster.local.")
    # Where the mark's namespace is hidden, an answer at all shows that the first list is in.
    awaited = {"NOERROR", "NXDOMAIN"} if "namespaces" in options else {"NOERROR"}
    for server in places:
        asker = Asker(server, random.Random(1), timeout=10)
        for name in names:
            for _ in range(TRIES):
                reply = await asker.ask({"name": name, "type": "A"})
                if reply.get("rcode") in awaited:
                    break
            else:
                raise AssertionError(f"{server} never learnt of {name}")
        asker.close()


async def differences(places: tuple[Place, Place], objects: list[Object], seed: int) -> list[str]:
    """What no text allows, a few lines each; of names that exist, and of strange ones."""
    strange = [Question(name, rtype, "chance") for name, rtype in strange_questions(seed, STRANGE)]
    asked = [(q, False) for q in dict.fromkeys([*questions(objects, ZONES), *strange])]
    rows = [row(question, tcp=tcp) for question, tcp in asked]
    pace = Pace(5_000, time.monotonic)
    replies = await ask_both(places, rows, pace, random.Random(1), concurrency=8)
    assert len(replies) > 100
    return [
        f"{one.question.name} {one.question.type} ({one.question.about})\n"
        f"  CoreDNS: {lines_of(one.first)}\n  kdns: {lines_of(one.second)}"
        for one in compare(asked, replies, objects, ZONES)
        if one.kind == "unexpected"
    ]


def typed(trees: list[Tree]) -> list[Object]:
    return [convert_object(RESOURCES[tree["kind"]], tree) for tree in trees]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("seed", range(int(SEEDS[0]), int(SEEDS[-1]) + 1))
async def test_clusters_by_chance_are_answered_alike(name: str, seed: int, tmp_path: Path) -> None:
    trees = RandomCluster(seed).objects()
    async with ApiServer() as api:
        api.load(trees)
        async with both(OPTIONS[name], api, tmp_path) as places:
            assert not await differences(places, typed(trees), seed)


def changed(trees: list[Tree], api: ApiServer, seed: int, subnet: int) -> list[Tree]:
    """The cluster after half of its objects went or were replaced by others of their names."""
    chance = random.Random(seed)
    by_place = {place(tree): tree for tree in trees}
    others = {place(tree): tree for tree in RandomCluster(seed, subnet).objects()}
    for key in sorted(by_place):
        if key[0] == "Namespace" and key[2] not in ("empty", SPACES[-1]):
            continue
        fate = chance.choice(("stays", "goes", "changes", "changes"))
        if fate == "goes":
            api.delete(*key)
            del by_place[key]
        elif fate == "changes" and key in others:
            api.replace(others[key])
            by_place[key] = others[key]
    for key in sorted(others.keys() - by_place.keys()):
        if chance.random() < 0.5:
            api.create(others[key])
            by_place[key] = others[key]
    return list(by_place.values())


def place(tree: Tree) -> tuple[str, str, str]:
    return tree["kind"], tree["metadata"].get("namespace", ""), tree["metadata"]["name"]


@pytest.mark.parametrize("name", ["kubeadm", "verified"])
@pytest.mark.parametrize("seed", range(int(SEEDS[0]), int(SEEDS[-1]) + 1))
async def test_changes_are_followed_alike(name: str, seed: int, tmp_path: Path) -> None:
    trees = RandomCluster(seed).objects()
    async with ApiServer() as api:
        api.load(trees)
        async with both(OPTIONS[name], api, tmp_path) as places:
            for subnet, mark in ((1, "second"), (2, "third")):
                before = trees
                trees = changed(trees, api, 1_000 * subnet + seed, subnet)
                await arrived(api, places, mark, OPTIONS[name])
                assert not await differences(places, typed([*before, *trees]), seed), mark
