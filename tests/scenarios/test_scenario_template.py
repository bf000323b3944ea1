"""The real program with templates: answers, aliases into the cluster, and what is counted."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.message
import dns.rcode
import pytest

from tests.serving import Server, free_port, serving

COREFILE = r"""dev.example ip.example test local {{
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    errors
    template ANY AAAA {{
    }}
    template IN A ip.example {{
        match ^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)[.]ip[.]example[.]$
        answer "{{{{ .Name }}}} 60 IN A 10.0.{{{{ .Group.a }}}}.{{{{ .Group.b }}}}"
    }}
    template IN A dev.example {{
        match ^[a-z0-9-]+[.]dev[.]example[.]$
        answer "{{{{ .Name }}}} 60 IN CNAME ingress.web.svc.cluster.local"
        fallthrough
    }}
    template IN ANY svc.cluster.local.test {{
        rcode NXDOMAIN
        authority "{{{{ .Zone }}}} 60 IN SOA ns.test. hostmaster.test. (1 60 60 60 60)"
        ederror 15 "a search list's"
    }}
    template IN TXT who.test {{
        answer "{{{{ .Name }}}} 0 IN TXT {{{{ .Remote }}}}"
    }}
    kubernetes cluster.local
}}
"""
INGRESS = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "ingress", "namespace": "web"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80"]},
        },
    ],
}


@asynccontextmanager
async def running(folder: Path, workers: int) -> AsyncIterator[tuple[Server, int]]:
    """The program, and its port of metrics."""
    metrics = free_port()
    path = folder / "Corefile"
    path.write_text(COREFILE.format(metrics=metrics))
    (folder / "cluster.json").write_text(json.dumps(INGRESS))
    args = ("--manifests", str(folder / "cluster.json"), "--workers", str(workers))
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, serving(path, *args)), metrics
        await asyncio.to_thread(stack.close)


async def ask(
    server: Server, text: str, rtype: str = "A", *, tcp: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(text, rtype, use_edns=0)
    by = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await by(query, "127.0.0.1", port=server.port, timeout=20)


def lines(reply: dns.message.Message) -> list[str]:
    return [line for rrset in reply.answer for line in rrset.to_text().split("\n")]


def matches(port: int) -> dict[str, float]:
    """Matches, by zone and type."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        text: str = page.read().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("coredns_template_matches_total{"):
            labels = dict(part.split("=") for part in line.split("{")[1].split("}")[0].split(","))
            kind = f"{labels['zone']} {labels['type']}".replace('"', "")
            found[kind] = float(line.rsplit(" ", 1)[1])
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_templates_answer_and_are_counted(tmp_path: Path, workers: int) -> None:
    async with running(tmp_path, workers) as (server, metrics):
        for tcp in (False, True):
            for _ in range(3):
                reply = await ask(server, "ip-7-9.ip.example", tcp=tcp)
                assert lines(reply) == ["ip-7-9.ip.example. 60 IN A 10.0.7.9"]
        denied = await ask(server, "ip-7-9.ip.example", "AAAA")
        assert (denied.rcode(), denied.answer, denied.authority) == (dns.rcode.NOERROR, [], [])
        assert lines(await ask(server, "shop.dev.example")) == [
            "shop.dev.example. 60 IN CNAME ingress.web.svc.cluster.local.",
            "ingress.web.svc.cluster.local. 5 IN A 10.96.0.80",
        ]
        assert (await ask(server, "a.b.dev.example")).rcode() == dns.rcode.REFUSED
        cut = await ask(server, "web.svc.cluster.local.test")
        assert cut.rcode() == dns.rcode.NXDOMAIN
        assert cut.authority[0][0].to_text() == "ns.test. hostmaster.test. 1 60 60 60 60"
        assert dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, "a search list's") in cut.options
        mine = await ask(server, "who.test", "TXT")
        assert lines(mine) == ['who.test. 0 IN TXT "127.0.0.1"']
        assert (await ask(server, "ip-300-9.ip.example")).rcode() == dns.rcode.SERVFAIL
        assert await asyncio.to_thread(matches, metrics) == {
            "ip.example. A": 7,
            "ip.example. AAAA": 1,
            "dev.example. A": 1,
            "svc.cluster.local.test. A": 1,
            "who.test. TXT": 1,
        }
