"""Answers under another name are hot like any other, and end when what they rest on changes."""

from collections.abc import Iterable, Sequence
from itertools import product

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.plugins import cache, loadbalance, orders, rewrite
from kdns.plugins.block import Block
from kdns.plugins.chain import Request
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Lease, Table
from kdns.plugins.orders import MAX_ORDERS
from kdns.plugins.peer import Peer
from kdns.wire import iana, name
from kdns.wire.passed import read_passed
from kdns.wire.reply import Reply
from tests.cluster.builders import cluster_of, made, namespace, service, slice_
from tests.plugins.fakes import FakeParts, addresses, question, says, settings
from tests.plugins.test_hot_never_stale import (
    NOW,
    PLAIN,
    Client,
    Happening,
    Server,
    few_clients,
    happen,
    happenings,
    qtypes,
    told,
)

RULES = (
    "rewrite continue ttl suffix .pod.cluster.local 7",
    "rewrite name www.example.test web.shop.svc.cluster.local",
    "rewrite name suffix .auto.test .shop.svc.cluster.local answer auto",
    r"rewrite name regex (.*)\.plain\.test {1}.shop.svc.cluster.local",
    r"rewrite name regex (.*)\.named\.test {1}.svc.cluster.local answer name (.*)\.svc\. {1}.t",
    r"rewrite name suffix .value.test .svc.cluster.local answer value (.*)\.cluster {1}.v.test",
    "rewrite continue name suffix .twice.test .once.test answer auto",
    "rewrite name suffix .once.test .svc.cluster.local answer auto",
    "rewrite rcode none.shop.svc.cluster.local NXDOMAIN NOERROR",
    "rewrite type MX A",
)
QNAMES = [
    name.from_text(text)
    for text in (
        "www.example.test",
        *(f"{text}.{zone}.test" for zone in ("auto", "plain") for text in ("web", "db", "none")),
        *(
            f"{text}.{zone}.test"
            for zone in ("named", "value", "twice", "once")
            for text in ("web.shop", "db.shop", "db.pay")
        ),
        "_http._tcp.web.auto.test",
        "_http._tcp.db.plain.test",
        "10-1-0-1.shop.pod.cluster.local",
        "none.shop.svc.cluster.local",
        "web.shop.svc.cluster.local",
        "other.example.test",
    )
]


@given(
    asking=few_clients,
    questions=st.lists(
        st.tuples(st.sampled_from(QNAMES), qtypes | st.just(iana.MX)), min_size=1, max_size=3
    ),
    happened=happenings,
)
def test_hot_answers_are_those_that_would_be_made_now(
    asking: list[Client], questions: list[tuple[bytes, int]], happened: list[Happening]
) -> None:
    cluster = Cluster(lambda: NOW, lambda reason: None)
    cluster.apply(*made(namespace("shop")))
    cluster.synced.update(Resource)
    held: dict[Resource, set[tuple[str, str]]] = {resource: set() for resource in Resource}
    held[Resource.NAMESPACES].add(("", "shop"))
    server, plain = Server(cluster, rules=RULES), Server(cluster, rules=RULES, keeps=False)
    for number, event in enumerate(["scrape", *happened]):
        if isinstance(event, str):
            server.count()
        else:
            happen(cluster, event, held)
        for client, (qname, qtype) in [*product(asking, questions)] * 3:
            found = server.wire(client, qname, qtype, number)
            expected = plain.wire(client, qname, qtype, number)
            assert found == expected or told(found) == told(expected), (client, qname, qtype)


def clustered(*trees: dict[str, object]) -> Cluster:
    cluster = cluster_of(namespace("shop"), *trees)
    cluster.synced.update(Resource)
    return cluster


def test_they_are_answered_from_the_table_until_the_service_goes() -> None:
    cluster = clustered(service("web.shop", "10.96.0.1"))
    server = Server(cluster, rules=RULES)
    for _ in range(4):
        assert server.first("web.auto.test") == "10.96.0.1"
    assert (server.entries, server.hits) == (1, 2)
    cluster.remove(Resource.SERVICES, ("shop", "web"))
    assert server.ask("web.auto.test").rcode() == 3
    cluster.apply(*made(service("web.shop", "10.96.0.2")))
    assert server.first("web.auto.test") == "10.96.0.2"


ADDRESSES = tuple(f"10.1.0.{n}" for n in range(1, 6))


@pytest.mark.parametrize("qname", ["db.auto.test", "db.plain.test"])
@pytest.mark.parametrize("client", [PLAIN, Client(size=1232), Client(proto="tcp", nsid=True)])
def test_each_address_is_first_as_often_as_the_others_whoever_owns_them(
    qname: str, client: Client
) -> None:
    """Owners that are not the question are spelled once, and pointed at from then on."""
    cluster = clustered(service("db.shop", "None"), slice_("s.shop", "db", *ADDRESSES))
    server = Server(cluster, rules=RULES)
    firsts = [server.first(qname, client) for _ in range(22)]
    assert server.entries == 1
    for n in range(2, 17, 5):
        assert sorted(firsts[n : n + 5]) == list(ADDRESSES)
    whole = server.ask(qname, client=client).answer[-1]
    assert sorted(str(rdata) for rdata in whole) == list(ADDRESSES)


def test_those_that_are_cut_hand_out_all_of_them_too() -> None:
    many = tuple(f"10.1.0.{n}" for n in range(1, 61))
    cluster = clustered(service("db.shop", "None"), slice_("s.shop", "db", *many))
    server = Server(cluster, rules=RULES)
    seen = set()
    for _ in range(130):
        reply = server.ask("db.plain.test", client=Client(size=512))
        assert reply.flags & dns.flags.TC
        seen |= {str(rdata) for rdata in reply.answer[0]}
    assert server.entries == 1
    assert seen == set(many)


def test_preferred_ones_come_first_under_another_owner_too() -> None:
    cluster = clustered(service("db.shop", "None"), slice_("s.shop", "db", *ADDRESSES))
    server = Server(cluster, rules=RULES)
    block = server.block
    preferring = settings(loadbalance.parse, "loadbalance {\nprefer 10.1.0.4/31\n}")
    block.handler = preferring.build(FakeParts(block=block), server.unbalanced)
    firsts = [server.first("db.plain.test") for _ in range(20)]
    assert server.entries == 1
    assert set(firsts) == {"10.1.0.4", "10.1.0.5"}


def test_more_orders_than_are_kept_are_made_for_each_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orders, "MAX_ORDERS", 4)
    assert MAX_ORDERS > 4
    cluster = clustered(service("db.shop", "None"), slice_("s.shop", "db", *ADDRESSES))
    server = Server(cluster, rules=RULES)
    assert len({server.first("db.plain.test") for _ in range(20)}) == 5
    assert server.entries == 0


class Living(FakeParts):
    """A world in which hot answers grow old, and are forgotten."""

    dispatcher: Dispatcher

    def forget(self, changed: Iterable[object]) -> None:
        self.dispatcher.hot.forget(changed)

    def renew(self, leases: Sequence[Lease]) -> None:
        self.dispatcher.hot.renew(leases)


@pytest.mark.parametrize(
    ("rule", "ttls"),
    [
        ("name a.test b.test", [300, 299, 298]),
        # A TTL that a rule has set does not go below it, nor above.
        ("ttl a.test 300", [300, 300, 300]),
        ("ttl a.test 299-", [300, 299, 299]),
    ],
)
def test_what_the_cache_answers_shows_the_ttl_of_the_moment(rule: str, ttls: list[int]) -> None:
    block = Block((".",))
    parts = Living(block=block)
    parts.dispatcher = Dispatcher(parts.monotonic)

    def upstream(request: Request) -> Reply:
        qname = name.to_text(request.query.qname)
        reply = Reply(answer=(addresses(qname, 1, ttl=300),))
        return read_passed(says(reply)(question(qname)), "forward")

    cached = settings(cache.parse, "cache").build(parts, upstream)
    block.handler = settings(rewrite.parse, f"rewrite {rule}").build(parts, cached)
    parts.dispatcher.serve(block)
    front = parts.dispatcher.front(Table("udp", 1))

    def ttl() -> int:
        got = front(question("a.test"), Peer("10.0.0.1", 4242, "udp", "10.0.0.9"))
        assert isinstance(got, bytes)
        return dns.message.from_wire(got).answer[0].ttl

    seen = []
    for _ in range(3):
        seen.append([ttl() for _ in range(4)][-1])
        assert len(parts.dispatcher.hot) == 1
        parts.clock.advance(1.0)
    assert seen == ttls
