"""The real program answers under the name that it was asked for, whatever it asks in its place."""

import asyncio
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.query
import pytest

from kdns.testing.upstream import ScriptedUpstream, ZoneServer
from tests.serving import Server, serving

ZONE = """$ORIGIN shop.example.
$TTL 300
@ SOA ns admin 1 2 3 4 5
ns A 192.0.2.53
www A 192.0.2.1
www A 192.0.2.2
old CNAME www
mail MX 10 www
many TXT "{long}"
""".format(long='" "'.join(["x" * 200] * 6))
FORWARDING = r"""test example {{
    bind 127.0.0.1
    errors
    loadbalance
    rewrite name exact www.test www.shop.example
    rewrite name suffix .auto.test .shop.example answer auto
    rewrite stop {{
        name regex (.*)\.named\.test {{1}}.shop.example
        answer name (.*)\.shop\.example {{1}}.named.test
    }}
    rewrite continue rcode suffix .soft.test NXDOMAIN NOERROR
    rewrite continue ttl suffix .soft.test 7
    rewrite name suffix .soft.test .shop.example
    rewrite name suffix .long.test .{long}.test
    rewrite continue name suffix .alias.test .shop.example answer auto
    rewrite cname www.shop.example ns.shop.example
    cache
    forward . 127.0.0.1:{port}
}}
"""
MANIFEST = """
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{clusterIP: {address}}}
"""
CLUSTER = """. {
    bind 127.0.0.1
    loadbalance
    rewrite name suffix .corp.example .svc.cluster.local answer auto
    kubernetes cluster.local
}
"""


async def ask(
    server: Server, qname: str, rtype: str = "A", *, tcp: bool = False, size: int = 1232
) -> dns.message.Message:
    query = dns.message.make_query(qname, rtype, use_edns=0, payload=size, want_dnssec=True)
    by = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await by(query, "127.0.0.1", port=server.port, timeout=20)


def texts(reply: dns.message.Message) -> list[str]:
    """The answer, a record a line, in alphabetical order."""
    return sorted(line for rrset in reply.answer for line in str(rrset).splitlines())


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_forwarded_comes_back_under_the_name_that_was_asked(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "Corefile"
    async with ZoneServer(ZONE) as upstream:
        long = ".".join(["b" * 60] * 4)
        path.write_text(FORWARDING.format(port=upstream.port, long=long))
        with serving(path, "--workers", str(workers)) as server:
            for tcp in (False, True, False):
                reply = await ask(server, "WwW.tESt", tcp=tcp)
                assert str(reply.question[0].name) == "WwW.tESt."
                assert [str(rrset.name) for rrset in reply.answer] == ["WwW.tESt."]
                assert sorted(str(a) for a in reply.answer[0]) == ["192.0.2.1", "192.0.2.2"]
                assert reply.ednsflags & dns.flags.DO
                owners = ("old.auto.test", "www.auto.test")
                reply = await ask(server, owners[0], tcp=tcp)
                assert tuple(str(rrset.name).rstrip(".") for rrset in reply.answer) == owners
                reply = await ask(server, "mail.named.test", "MX", tcp=tcp)
                assert str(reply.answer[0].name) == "mail.named.test."
                assert str(reply.answer[0][0].exchange) == "www.shop.example."
                soft = await ask(server, "none.soft.test", tcp=tcp)
                assert (soft.rcode(), soft.answer, soft.authority[0].ttl) == (0, [], 7)
                assert (await ask(server, f"{'a' * 60}.long.test", tcp=tcp)).rcode() == 2
                assert texts(await ask(server, "old.alias.test", tcp=tcp)) == [
                    "ns.alias.test. 300 IN A 192.0.2.53",
                    "old.alias.test. 300 IN CNAME ns.alias.test.",
                ]
            small = await ask(server, "many.auto.test", "TXT", size=512)
            assert small.flags & dns.flags.TC
            whole = await ask(server, "many.auto.test", "TXT", tcp=True)
            assert len(texts(whole)[0]) > 1200
            output = await asyncio.to_thread(server.stop)
    assert f"{'a' * 60}.long.test. A: invalid name after rewrite: " in output


def test_a_service_that_changes_is_answered_anew_under_its_other_name(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST.format(address="10.96.0.1"))
    path = tmp_path / "Corefile"
    path.write_text(CLUSTER)

    def found(port: int) -> list[str]:
        query = dns.message.make_query("web.shop.corp.example", "A")
        return texts(dns.query.udp(query, "127.0.0.1", port=port, timeout=10))

    with serving(path, "--manifests", str(manifest)) as server:
        for _ in range(3):
            assert found(server.port) == ["web.shop.corp.example. 5 IN A 10.96.0.1"]
        manifest.write_text(MANIFEST.format(address="10.96.0.2"))
        while found(server.port) == ["web.shop.corp.example. 5 IN A 10.96.0.1"]:
            pass  # each question is answered at once: this waits for the file, not for a clock
        assert found(server.port) == ["web.shop.corp.example. 5 IN A 10.96.0.2"]


NETWORKS = """. {{
    bind 127.0.0.1
    rewrite continue edns0 subnet set 24 56
    rewrite edns0 local set 0xffee {{protocol}}
    forward . 127.0.0.1:{port}
}}
"""


async def test_the_upstream_is_told_of_the_clients_network_and_the_client_of_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "Corefile"
    async with ScriptedUpstream() as upstream:
        path.write_text(NETWORKS.format(port=upstream.port))
        with serving(path) as server:
            query = dns.message.make_query("a.test", "A")
            reply = await dns.asyncquery.udp(query, "127.0.0.1", port=server.port, timeout=20)
            assert reply.edns == -1
            told = dns.message.from_wire((await upstream.asked()).wire)
            await asyncio.to_thread(server.stop)
    assert {
        int(option.otype): option.to_wire() for option in told.options if option.otype != 10
    } == {
        8: b"\0\1\x18\0\x7f\0\0",
        0xFFEE: b"udp",
    }
