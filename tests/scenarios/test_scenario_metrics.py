"""The real program, scraped after it has done something of everything that it counts."""

import asyncio
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from kdns.testing.apiserver import ApiServer
from kdns.testing.upstream import ScriptedUpstream
from tests.scenarios.test_scenario_apiserver import SHOP, service, until
from tests.scenarios.test_scenario_forward import found
from tests.serving import Server, free_port, serving

LIST = tomllib.loads((Path(__file__).parent.parent / "data" / "metrics.toml").read_text())
COREFILE = """. {{
    bind 127.0.0.1
    errors
    shed
    health 127.0.0.1:{health}
    prometheus 127.0.0.1:{metrics} {{
        exemplars
    }}
    hosts {hosts} {{
        fallthrough
    }}
    template IN A text.example {{
        answer "{{{{ .Name }}}} 60 IN A {{{{ .Name }}}}"
    }}
    template IN A number.example {{
        answer "{{{{ .Name }}}} 60 IN A 10.0.0.{{{{ parseInt .Name 10 8 }}}}"
    }}
    kubernetes cluster.local in-addr.arpa {{
        endpoint {endpoint}
    }}
    forward . 127.0.0.1:{upstream}
    cache 30
}}
"""
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "db-1",
        "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"},
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "db", "uid": "1"}],
    },
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.0.7"], "conditions": {"ready": True}}],
}
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(port: int, accept: str = "") -> tuple[str, str]:
    """The text, and its type."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def exercise(server: Server, metrics: int) -> tuple[str, str, str]:
    """Have everything counted once at least: both formats of what is scraped then, and a type."""
    for name in ("cart.shop.svc.cluster.local", "none.shop.svc.cluster.local", "a.example"):
        for want_dnssec in (False, True):
            query = dns.message.make_query(name, "A", want_dnssec=want_dnssec)
            for ask in (dns.query.udp, dns.query.tcp):
                for _ in range(3):
                    ask(query, "127.0.0.1", port=server.port, timeout=20)
    for name in ("text.example", "number.example"):
        query = dns.message.make_query(name, "A")
        dns.query.udp(query, "127.0.0.1", port=server.port, timeout=20)
    while "coredns_health_request_duration_seconds_count 0" in (text := scrape(metrics)[0]) or (
        "coredns_health_request_duration_seconds_count" not in text
    ):
        pass
    return text, *scrape(metrics, OPEN_METRICS)


@pytest.fixture(scope="module", params=[1, 2])
def scraped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str]:
    return asyncio.run(_scraped(tmp_path_factory.mktemp("metrics"), request.param))


async def _scraped(folder: Path, workers: int) -> tuple[str, str, str]:
    async with ApiServer() as api, ScriptedUpstream(otherwise=found) as upstream:
        api.load([SHOP, service("cart", "10.96.0.20"), service("db", "None")])
        metrics = free_port()
        (folder / "hosts").write_text("192.0.2.1 www.example.org\n")
        path = folder / "Corefile"
        path.write_text(
            COREFILE.format(
                health=free_port(),
                metrics=metrics,
                endpoint=api.url,
                upstream=upstream.port,
                hosts=folder / "hosts",
            )
        )
        with ExitStack() as stack:
            server = await asyncio.to_thread(
                stack.enter_context, serving(path, "--workers", str(workers))
            )
            await api.watching("services")
            await asyncio.to_thread(until, server.port, "cart.shop", ["10.96.0.20"])
            await api.watching("endpointslices")
            api.create(SLICE)
            await asyncio.to_thread(until, server.port, "db.shop", ["10.244.0.7"])
            text = await asyncio.to_thread(exercise, server, metrics)
            await asyncio.to_thread(stack.close)
    return text


def families(text: str) -> dict[str, Metric]:
    """By the name that CoreDNS's documentation has, `_total` included."""
    return {
        family.name + "_total" * (family.type == "counter"): family
        for family in text_string_to_metric_families(text)
    }


def problems(known: Mapping[str, Metric]) -> Iterator[str]:
    for name, wanted in LIST["metrics"].items():
        if name not in known or not known[name].samples:
            yield f"{name} is missing"
            continue
        yield from differences(name, wanted, known[name])


def differences(name: str, wanted: Mapping[str, Any], family: Metric) -> Iterator[str]:
    if family.type != wanted["type"]:
        yield f"{name} is a {family.type}"
    labels = {frozenset(sample.labels.keys() - {"le"}) for sample in family.samples}
    if labels != {frozenset(wanted.get("labels", []))}:
        yield f"{name} has labels {labels}"
    bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
    expected = {*map(float, LIST["bounds"].get(wanted.get("bounds"), [])), float("inf")}
    if family.type == "histogram" and {*map(float, bounds)} != expected:
        yield f"{name} has buckets {bounds}"


def test_every_metric_is_there_with_its_type_labels_and_buckets(
    scraped: tuple[str, str, str],
) -> None:
    assert list(problems(families(scraped[0]))) == []


def test_what_is_asked_of_a_zone_counts_there(scraped: tuple[str, str, str]) -> None:
    samples = families(scraped[0])["coredns_dns_responses_total"].samples
    plugins = {s.labels["plugin"] for s in samples if s.value and s.labels["zone"] == "."}
    assert plugins == {"kubernetes", "cache", "forward", "template"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(scraped: tuple[str, str, str]) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        check=False,
        input=scraped[0],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_is_documented(scraped: tuple[str, str, str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    named = {*LIST["metrics"], *families(scraped[0])}
    assert sorted(name for name in named if f"`{name}`" not in text) == []


def test_who_prefers_openmetrics_gets_it(scraped: tuple[str, str, str]) -> None:
    assert scraped[2].startswith("application/openmetrics-text; version=1.0.0")
    assert scraped[1].endswith("# EOF\n")


def test_openmetrics_has_exemplars_of_slow_queries(scraped: tuple[str, str, str]) -> None:
    names = {
        sample.exemplar.labels["qname"]
        for family in open_metrics_families(scraped[1])  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert names
    inside = {f"{name}.shop.svc.cluster.local." for name in ("cart", "db", "none")}
    assert names <= {*inside, "a.example.", "text.example.", "number.example."}
