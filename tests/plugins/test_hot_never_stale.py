"""With hot answers and without, every client is told the same, whatever happens to the cluster."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, product
from typing import NamedTuple, cast

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.plugins import kubernetes, loadbalance, orders, rewrite, whoami
from kdns.plugins.block import Block
from kdns.plugins.chain import Request
from kdns.plugins.dispatch import Dispatcher, Front
from kdns.plugins.hot import HotAnswers, Table
from kdns.plugins.kubernetes import Kubernetes
from kdns.plugins.peer import Peer, Proto
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.reply import Reply, opt_record
from tests.cluster.builders import APEX, cluster_of, external, made, namespace, service, slice_
from tests.cluster.objects_strategies import Apply, Event, Remove, Sweep, events, names
from tests.plugins.fakes import FakeParts, addresses, always, question, settings

COREFILE = """kubernetes cluster.local in-addr.arpa {
    pods verified
    fallthrough in-addr.arpa
}"""
NOW = 1_700_000_000
WEB = "web.shop.svc.cluster.local"


class Parts(FakeParts):
    """A world in which hot answers are forgotten."""

    dispatcher: Dispatcher

    def forget(self, changed: Iterable[object]) -> None:
        self.dispatcher.hot.forget(changed)


class Client(NamedTuple):
    """What differs between those who ask the same. case: a bit for each octet of the name."""

    proto: Proto = "udp"
    family: int = 4
    size: int | None = None
    do: bool = False
    cookie: bytes = b""
    nsid: bool = False
    case: int = 0
    flags: int = iana.RD

    def ask(self, qname: bytes, qtype: int, number: int = 7) -> bytes:
        """The bytes of a question."""
        recased = bytes(
            ord(chr(octet).upper()) if self.case >> n & 1 and 97 <= octet <= 122 else octet
            for n, octet in enumerate(qname)
        )
        options = [(iana.EDNS_NSID, b"")] * self.nsid + [(10, self.cookie)] * bool(self.cookie)
        opt = b"" if self.size is None else opt_record(do=self.do, size=self.size, options=options)
        wire = question(".", qtype, id=number, flags=self.flags, opt=opt)
        return wire[:12] + recased + wire[13:]

    @property
    def limit(self) -> int:
        """Octets that it can take."""
        return 65_535 if self.proto == "tcp" else max(512, self.size or 0)


PLAIN = Client()


class Server:
    """A block with kubernetes and loadbalance, answered with hot answers or without.

    rules: of rewrite, a line each.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        keeps: bool = True,
        prepared: int = 1000,
        entries: int = 1000,
        rules: tuple[str, ...] = (),
    ) -> None:
        self.block = Block((".",), counted=True, nsid=b"node-1")
        self.dispatcher = Dispatcher(lambda: 5.0)
        self.dispatcher.hot = HotAnswers(limit=prepared)
        parts = Parts(block=self.block, resolver=self.dispatcher.resolve)
        parts.dispatcher = self.dispatcher
        parsed = cast("Kubernetes", settings(kubernetes.parse, COREFILE))
        parts.clusters[parsed.source()] = cluster
        handler = parsed.build(parts, always(Reply(by="next")))
        for rule in reversed(rules):
            handler = settings(rewrite.parse, rule).build(parts, handler)
        self.unbalanced = handler
        self.block.handler = settings(loadbalance.parse, "loadbalance").build(parts, handler)
        self.block.watches_queries = not keeps
        self.dispatcher.serve(self.block)
        protos: tuple[Proto, ...] = ("udp", "tcp")
        self.fronts: dict[tuple[Proto, int], Front] = {
            (proto, family): self.dispatcher.front(Table(proto, family // 2 - 1, limit=entries))
            for proto in protos
            for family in (4, 6)
        }

    def wire(self, client: Client, qname: bytes, qtype: int, number: int = 7) -> bytes:
        host = "10.0.0.1" if client.family == 4 else "fd00::1"
        front = self.fronts[client.proto, client.family]
        got = front(client.ask(qname, qtype, number), Peer(host, 4242, client.proto, "10.0.0.9"))
        assert not isinstance(got, Pending)
        assert got is not None
        assert len(got) <= client.limit
        return got

    def ask(self, text: str, qtype: int = iana.A, client: Client = PLAIN) -> dns.message.Message:
        return dns.message.from_wire(self.wire(client, name.from_text(text), qtype))

    def first(self, text: str = WEB, client: Client = PLAIN) -> str:
        """The first address."""
        return str(self.ask(text, client=client).answer[-1][0])

    @property
    def entries(self) -> int:
        return sum(len(front.table.entries) for front in self.fronts.values())

    @property
    def hits(self) -> int:
        """Answers out of tables."""
        tables = (front.table for front in self.fronts.values())
        return sum(e.hits - e.counted for table in tables for e in table.entries.values())

    def count(self) -> None:
        for table in self.dispatcher.tables:
            table.count()


def synced(*trees: dict[str, object]) -> Cluster:
    cluster = cluster_of(namespace("shop"), *trees)
    cluster.synced.update(Resource)
    return cluster


# Any interleaving.

Happening = Event | str

protos: st.SearchStrategy[Proto] = st.sampled_from(("udp", "udp", "tcp"))
clients = st.just(PLAIN) | st.builds(
    Client,
    protos,
    st.sampled_from((4, 6)),
    st.sampled_from((None, None, 512, 600, 1232, 4096)),
    st.booleans(),
    st.sampled_from((b"", b"", b"8 octets")),
    st.booleans(),
    st.sampled_from((0, 0, 0, 0b1010, (1 << 200) - 1)),
    st.sampled_from((iana.RD, iana.RD, 0, iana.RD | iana.CD, iana.RD | iana.AD)),
)
LIKELY = [
    name.from_text(text)
    for text in (
        *(f"{text}.svc.cluster.local" for text in ("shop", "web.shop", "db.shop", "web.pay")),
        *(f"{text}.{WEB}" for text in ("_http._tcp", "h1", "x", "10-1-0-1")),
        "10-1-0-1.shop.pod.cluster.local",
        "fd00-1--1.shop.pod.cluster.local",
        "1.0.1.10.in-addr.arpa",
        "1.0.0.10.in-addr.arpa",
        "0.1.10.in-addr.arpa",
        "cluster.local",
        "www.example.test",
    )
]
qnames = st.sampled_from(LIKELY * 20 + [*names(APEX)])
qtypes = st.sampled_from((iana.A, iana.A, iana.AAAA, iana.SRV, iana.PTR, iana.SOA, iana.ANY))
TARGETS = (WEB, "db.shop.svc.cluster.local", "x.shop.svc.cluster.local", "www.example.test")
aliases = st.builds(
    lambda text, target: Apply(*made(external(f"{text}.shop", target))),
    st.sampled_from(("web", "db")),
    st.sampled_from(TARGETS),
)
few_clients = st.lists(clients, min_size=1, max_size=4)
few_questions = st.lists(st.tuples(qnames, qtypes), min_size=1, max_size=3)
happenings: st.SearchStrategy[list[Happening]] = st.lists(
    st.one_of(events, events, aliases, st.just("scrape")), min_size=5, max_size=30
)


def told(wire: bytes) -> tuple[object, ...]:
    """A reply as dnspython reads it, the order of records aside; of a cut one, its size."""
    message = dns.message.from_wire(wire)
    head = (wire[:12], message.question[0].to_text(), wire[12 : 12 + 40])
    if message.flags & dns.flags.TC:
        return (*head, len(wire))
    sections = [
        Counter(
            f"{rrset.name} {rrset.ttl} {rrset.rdtype} {rdata}"
            for rrset in section
            for rdata in rrset
        )
        for section in (message.answer, message.authority, message.additional)
    ]
    edns = (
        message.edns,
        message.ednsflags,
        message.payload,
        [o.to_wire() for o in message.options],
    )
    return (*head, *sections, *edns)


def happen(cluster: Cluster, event: Event, held: dict[Resource, set[tuple[str, str]]]) -> None:
    match event:
        case Apply(resource, obj):
            held[resource].add(event.key)
            cluster.apply(resource, obj)
        case Remove(resource, key):
            held[resource].discard(key)
            cluster.remove(resource, key)
        case Sweep(resource, kept):
            known = sorted(held[resource])
            held[resource] = {key for n, key in enumerate(known) if kept >> n & 1}
            cluster.sweep(resource, held[resource])


@pytest.mark.parametrize(("prepared", "entries"), [(1000, 1000), (3, 1000), (1000, 2), (4, 3)])
@given(asking=few_clients, questions=few_questions, happened=happenings)
def test_hot_answers_are_those_that_would_be_made_now_and_are_counted_alike(
    prepared: int,
    entries: int,
    asking: list[Client],
    questions: list[tuple[bytes, int]],
    happened: list[Happening],
) -> None:
    cluster = Cluster(lambda: NOW, lambda reason: None)
    cluster.apply(*made(namespace("shop")))
    cluster.synced.update(Resource)
    held: dict[Resource, set[tuple[str, str]]] = {resource: set() for resource in Resource}
    held[Resource.NAMESPACES].add(("", "shop"))
    server = Server(cluster, prepared=prepared, entries=entries)
    plain = Server(cluster, keeps=False)
    for number, event in enumerate(["scrape", *happened]):
        if isinstance(event, str):
            server.count()
        else:
            happen(cluster, event, held)
        # Again, for the later ones may find what the first one left.
        for client, (qname, qtype) in [*product(asking, questions)] * 3:
            found = server.wire(client, qname, qtype, number)
            expected = plain.wire(client, qname, qtype, number)
            assert found == expected or told(found) == told(expected), (client, qname, qtype)
            assert len(server.dispatcher.hot) <= prepared
            assert server.entries <= 4 * entries
    server.count()
    assert plain.entries == len(plain.dispatcher.hot) == 0
    counted, right = server.block.counters, plain.block.counters
    counted.settle()
    right.settle()
    assert counted.requests == right.requests
    assert counted.responses == right.responses
    assert counted.do_requests == right.do_requests
    assert sum(counted.durations.counts) == sum(right.durations.counts)
    assert counted.request_sizes == right.request_sizes
    assert {p: h.counts for p, h in counted.response_sizes.items()} == {
        p: h.counts for p, h in right.response_sizes.items()
    }


# What is shared, and what is not.


def test_who_asks_alike_is_answered_from_the_table_and_who_does_not_from_what_is_prepared() -> None:
    """Into a table comes what is asked for again: names that are asked for once stay out."""
    server = Server(synced(service("web.shop", "10.96.0.1")))
    server.ask(WEB)
    assert (len(server.dispatcher.hot), server.entries, server.hits) == (1, 0, 0)
    server.ask(WEB)
    assert (server.entries, server.hits) == (1, 0)
    server.ask(WEB)
    assert server.hits == 1
    for client in (Client(case=1 << 3), Client(proto="tcp"), Client(family=6)):
        server.ask(WEB, client=client)
        assert len(server.dispatcher.hot) == 1
    assert (server.entries, server.hits) == (3, 1)
    for client in (Client(size=1232), Client(size=1232), Client(size=4096)):
        server.ask(WEB, client=client)
        assert len(server.dispatcher.hot) == 2
    assert server.entries == 5
    for _ in range(2):
        server.ask(WEB, client=Client(size=1232, cookie=b"8 octets"))
    assert (len(server.dispatcher.hot), server.entries, server.hits) == (2, 5, 1)


def test_letters_come_back_as_they_were_asked() -> None:
    server = Server(synced(service("web.shop", "10.96.0.1")))
    for case in (0, 0b10, 0, 0b100, 0b10):
        reply = server.wire(Client(case=case), name.from_text(WEB), iana.A)
        asked = Client(case=case).ask(name.from_text(WEB), iana.A)
        assert reply[12 : 12 + len(name.from_text(WEB))] == asked[12:-4]


MANY = tuple(f"10.1.0.{n}" for n in range(1, 41))


def test_what_is_too_large_for_a_client_is_cut_for_it_and_for_nobody_else() -> None:
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *MANY)))
    assert len(server.ask(WEB, client=Client(size=4096)).answer[0]) == 40
    for _ in range(2):
        for client in (Client(size=512), PLAIN):
            reply = server.ask(WEB, client=client)
            assert reply.flags & dns.flags.TC
            assert len(reply.answer[0]) < 40
        for client in (Client(size=4096), Client(size=1232), Client(proto="tcp", size=512)):
            reply = server.ask(WEB, client=client)
            assert not reply.flags & dns.flags.TC
            assert len(reply.answer[0]) == 40


def test_additional_records_that_one_client_had_no_room_for_are_there_for_the_next() -> None:
    """They are left out without TC (RFC 2181, section 9)."""
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *MANY[:7])))
    ports = f"_http._tcp.{WEB}"
    small = server.ask(ports, iana.SRV)
    assert (len(small.answer[0]), small.flags & dns.flags.TC) == (7, 0)
    assert len(small.additional) < 7
    for _ in range(2):
        large = server.ask(ports, iana.SRV, Client(proto="tcp"))
        assert (len(large.answer[0]), len(large.additional)) == (7, 7)
    assert len(server.ask(ports, iana.SRV).additional) < 7


def test_what_lacks_additional_records_is_at_hand_for_who_has_as_little_room() -> None:
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *MANY[:7])))
    ports = f"_http._tcp.{WEB}"
    replies = [server.wire(PLAIN, name.from_text(ports), iana.SRV) for _ in range(4)]
    assert len(set(replies)) == 1
    assert server.hits == 2


def test_what_is_too_large_for_tcp_is_kept_for_nobody() -> None:
    server = Server(synced())
    server.block.handler = always(Reply(answer=(addresses(WEB, *[1] * 5000),), depends=()))
    for _ in range(2):
        assert server.ask(WEB, client=Client(proto="tcp")).flags & dns.flags.TC
    assert len(server.dispatcher.hot) == 0


def test_records_that_turn_and_have_no_room_at_all_do_not_turn() -> None:
    server = Server(synced())
    sets = addresses(WEB, *range(40)), addresses("www.example", *range(40))
    server.block.handler = always(Reply(answer=sets, rotated=True, depends=()))
    replies = [server.wire(PLAIN, name.from_text(WEB), iana.A) for _ in range(4)]
    assert len(set(replies)) == 1
    assert server.hits == 2


class Drawn:
    """Says what it is told to."""

    def __init__(self, among: int, *numbers: int) -> None:
        self.among = among
        self.numbers = list(numbers)

    def __call__(self) -> int:
        return self.numbers.pop(0)


TCP = Client(proto="tcp")
CASED = Client(case=0b1010)


@pytest.mark.parametrize("client", [PLAIN, TCP, CASED])
def test_a_set_that_is_drawn_from_is_drawn_from_for_each(client: Client) -> None:
    server = Server(synced())
    drawn = Drawn(3, 2, 0, 1, 1, 2)
    reply = Reply(answer=(addresses(WEB, 1, 2, 3),), rotated=True, drawn=drawn, depends=())
    server.block.handler = always(reply)
    told = [server.first(client=client)[-1] for _ in range(6)]
    assert told == list("131223")
    assert server.hits == (0 if client is CASED else 4)


def test_of_a_set_without_room_for_all_each_can_be_the_first() -> None:
    server = Server(synced())
    drawn = Drawn(60, 59, 0, 58)
    held = addresses(WEB, *range(1, 61))
    reply = Reply(answer=(held,), rotated=True, drawn=drawn, depends=())
    server.block.handler = always(reply)
    told = [server.first().rpartition(".")[2] for _ in range(4)]
    assert told == ["1", "60", "1", "59"]


def test_a_set_that_is_drawn_from_and_has_no_room_at_all_stands() -> None:
    server = Server(synced())
    sets = addresses(WEB, *range(40)), addresses("www.example", *range(40))
    reply = Reply(answer=sets, rotated=True, drawn=Drawn(40), depends=())
    server.block.handler = always(reply)
    assert len({server.wire(PLAIN, name.from_text(WEB), iana.A) for _ in range(4)}) == 1


def test_a_set_with_too_many_to_draw_from_is_kept_for_nobody() -> None:
    server = Server(synced())
    held = addresses(WEB, *range(65))
    reply = Reply(answer=(held,), rotated=True, drawn=Drawn(65), depends=())
    server.block.handler = always(reply)
    server.ask(WEB, client=TCP)
    assert len(server.dispatcher.hot) == 0


@pytest.mark.parametrize("client", [PLAIN, TCP, CASED])
def test_preferred_addresses_stay_first_in_what_is_at_hand(client: Client) -> None:
    """Forty addresses of which two are preferred: whole over TCP, and as far as there is room."""
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *MANY)))
    parts = Parts(block=server.block)
    configured = settings(loadbalance.parse, "loadbalance {\nprefer 10.1.0.4/31\n}")
    server.block.handler = configured.build(parts, server.unbalanced)
    replies = [server.ask(WEB, client=client).answer[-1] for _ in range(40)]
    orders = [[str(rdata) for rdata in reply] for reply in replies]
    assert Counter(order[0] for order in orders) == {"10.1.0.4": 20, "10.1.0.5": 20}
    assert {frozenset(order[:2]) for order in orders} == {frozenset(("10.1.0.4", "10.1.0.5"))}
    assert len({order[2] for order in orders}) >= 20
    assert len(server.dispatcher.hot) == 1


def test_what_has_options_without_a_sure_room_is_kept_for_nobody() -> None:
    server = Server(synced(service("web.shop", "10.96.0.1")))
    server.block.nsid = bytes(240)
    for _ in range(2):
        server.ask(WEB, client=Client(size=4096, nsid=True))
    assert len(server.dispatcher.hot) == 0
    server.block.nsid = bytes(200)
    server.ask(WEB, client=Client(size=4096, nsid=True))
    assert len(server.dispatcher.hot) == 1


def test_blocks_that_look_at_every_query_or_client_have_no_hot_answers() -> None:
    watched = Server(synced(service("web.shop", "10.96.0.1")), keeps=False)
    told_of: list[str] = []
    watched.block.observers.append(
        lambda request, reply, size, seconds: told_of.append(request.peer.host)
    )
    for client in (PLAIN, PLAIN, Client(family=6)):
        watched.ask(WEB, client=client)
    assert told_of == ["10.0.0.1", "10.0.0.1", "fd00::1"]
    own = Server(synced())
    own.block.handler = whoami.answer
    for _ in range(2):
        own.ask(WEB)
    assert watched.entries == own.entries == len(own.dispatcher.hot) == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(iana.Rcode.SERVFAIL, depends=()),
        Reply(answer=(addresses(WEB, 1),), tc=True, depends=()),
        Reply(answer=(addresses(WEB, 1),)),
        # Records that turn, but cannot be turned in place: something stands behind them.
        Reply(
            answer=(addresses(WEB, 1, 2),),
            rotated=True,
            depends=(),
            additional=(addresses("a", 1),),
        ),
        Reply(answer=(addresses(".", 1, 2),), rotated=True, depends=()),
    ],
)
def test_what_must_not_be_kept_is_not(reply: Reply) -> None:
    server = Server(synced())
    server.block.handler = always(reply)
    server.ask(WEB)
    assert len(server.dispatcher.hot) == server.entries == 0


@pytest.mark.parametrize("length", [0, 4, 5000])
def test_long_questions_take_no_room(length: int) -> None:
    """Whatever somebody hangs on to a question stays out of the tables."""
    server = Server(synced(service("web.shop", "10.96.0.1")))
    front = server.fronts["tcp", 4]
    nsid = (iana.EDNS_NSID, bytes(length))
    wire = question(WEB, opt=opt_record(options=[nsid]))
    for _ in range(2):
        front(wire, Peer("10.0.0.1", 4242, "tcp", ""))
    assert server.entries == (length < 5000)


# Chains.


def test_an_alias_dies_with_any_link_of_its_chain() -> None:
    zone = "shop.svc.cluster.local"
    cluster = synced(
        external("a.shop", f"b.{zone}"), external("b.shop", WEB), service("web.shop", "10.96.0.1")
    )
    server = Server(cluster)

    def found() -> list[str]:
        """Asked three times; the last answer is hot, if not the second one already."""
        before = server.hits
        told = [[str(r[0]) for r in server.ask(f"a.{zone}").answer] for _ in range(3)]
        assert told[0] == told[1] == told[2]
        assert server.hits > before
        return told[0]

    b, web = f"b.{zone}.", f"{WEB}."
    assert found() == [b, web, "10.96.0.1"]
    cluster.apply(*made(service("web.shop", "10.96.0.2")))
    assert found() == [b, web, "10.96.0.2"]
    cluster.remove(Resource.SERVICES, ("shop", "web"))
    assert found() == [b, web]
    cluster.apply(*made(service("web.shop", "10.96.0.3")))
    assert found() == [b, web, "10.96.0.3"]
    cluster.apply(*made(service("b.shop", "10.96.0.4")))
    assert found() == [b, "10.96.0.4"]
    cluster.apply(*made(external("b.shop", f"a.{zone}")))
    assert found() == [b, f"a.{zone}."]
    cluster.apply(*made(service("a.shop", "10.96.0.5")))
    assert found() == ["10.96.0.5"]
    cluster.remove(Resource.NAMESPACES, ("", "shop"))
    assert found() == []


# A name elsewhere answers only while there is none here.


def test_what_follows_after_no_such_name_dies_when_the_name_comes() -> None:
    cluster = synced()
    server = Server(cluster)
    parts = Parts(block=server.block)
    parts.dispatcher = server.dispatcher
    parsed = cast(
        "Kubernetes", settings(kubernetes.parse, COREFILE.replace("in-addr.arpa\n", "\n"))
    )
    parts.clusters[parsed.source()] = cluster
    behind = Reply(answer=(addresses(WEB, 1),), depends=("elsewhere",))
    server.block.handler = parsed.build(parts, always(behind))
    assert server.first() == server.first() == "192.0.2.1"
    cluster.apply(*made(service("web.shop", "10.96.0.1")))
    assert server.first() == "10.96.0.1"
    cluster.remove(Resource.SERVICES, ("shop", "web"))
    assert server.first() == "192.0.2.1"
    server.dispatcher.hot.forget(["elsewhere"])
    assert len(server.dispatcher.hot) == 0


# Turns.


@pytest.mark.parametrize(
    ("count", "client"),
    [
        (3, PLAIN),
        (3, Client(size=1232)),
        (3, Client(size=1232, cookie=b"8 octets")),
        (3, Client(case=0b10)),
        (20, Client(proto="tcp")),
        (3, Client(size=1232, nsid=True)),
        # More orders than are kept.
        (orders.MAX_ORDERS + 10, Client(proto="tcp")),
        (100, Client(size=4096)),
    ],
)
def test_every_address_is_first_as_often_as_the_others_and_none_twice_in_a_row(
    count: int, client: Client
) -> None:
    listed = [f"10.1.0.{n}" for n in range(count)]
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *listed)))
    first = []
    for number in range(3 * count):
        reply = server.ask(WEB, client=client)
        assert sorted(map(str, reply.answer[0])) == sorted(listed)
        first.append(str(reply.answer[0][0]))
        if number % 5 == 0:
            server.count()
    assert Counter(first) == dict.fromkeys(listed, 3)
    assert all(one != other for one, other in pairwise(first))


def test_an_alias_s_addresses_turn_behind_it() -> None:
    server = Server(
        synced(
            external("ext.shop", WEB),
            service("web.shop", "None"),
            slice_("s1.shop", "web", "10.1.0.1", "10.1.0.2"),
        )
    )
    for client in (PLAIN, Client(size=1232), Client(case=2)):
        found = [server.ask("ext.shop.svc.cluster.local", client=client).answer for _ in range(4)]
        assert {str(sets[0][0]) for sets in found} == {f"{WEB}."}
        first = [str(sets[1][0]) for sets in found]
        assert sorted(first) == ["10.1.0.1"] * 2 + ["10.1.0.2"] * 2
        assert first[0] != first[1]


def test_a_truncated_reply_is_at_hand_for_who_has_as_little_room() -> None:
    """RFC 2181, section 9: what fits is kept, with TC; how much fits, the client says."""
    calls: list[Request] = []

    def many(request: Request) -> Reply:
        calls.append(request)
        return Reply(answer=(addresses("a.example", *range(100)),), depends=())

    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(Block((".",), handler=many, counted=True))
    table = Table("udp", 1)
    front = dispatcher.front(table)
    peer = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")
    narrow, wide = question("a.example"), question("a.example", opt=opt_record(size=4096))
    first = [front(narrow, peer) for _ in range(3)]
    assert len(calls) == 1
    assert len({bytes(reply or b"") for reply in first if not isinstance(reply, Pending)}) == 1
    whole = front(wide, peer)
    assert isinstance(first[0], bytes)
    assert isinstance(whole, bytes)
    assert len(first[0]) <= 512 < len(whole)
    assert (first[0][2] & 2, whole[2] & 2) == (2, 0)
    assert narrow[2:] in table.entries


@pytest.mark.parametrize("client", [PLAIN, Client(size=512), Client(size=1232, case=0b10)])
def test_who_takes_cut_answers_for_whole_is_led_to_every_address(client: Client) -> None:
    """Some stub resolvers do not ask again over TCP: what is left out is another part each time."""
    listed = [f"10.1.0.{n}" for n in range(200)]
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *listed)))
    replies = [server.ask(WEB, client=client) for _ in range(400)]
    assert all(reply.flags & dns.flags.TC for reply in replies)
    led = Counter(str(record) for reply in replies for record in reply.answer[0])
    assert set(led) == set(listed)
    first = [str(reply.answer[0][0]) for reply in replies]
    assert all(one != other for one, other in pairwise(first))
    assert len(server.dispatcher.hot) == 1
    assert (server.hits > 300) == (not client.case)


def test_nobody_fills_the_memory_by_asking_with_every_size() -> None:
    """What is cut is kept for the sizes that resolvers have."""
    listed = [f"10.1.0.{n}" for n in range(250)] + [f"10.1.1.{n}" for n in range(250)]
    server = Server(synced(service("web.shop", "None"), slice_("s1.shop", "web", *listed)))
    server.ask("x.shop.svc.cluster.local")
    for size in (*range(512, 4200, 64), 1400, 1410, 65_535):
        assert server.ask(WEB, client=Client(size=size)).flags & dns.flags.TC
    assert len(server.dispatcher.hot) < 16
    before = server.hits
    server.ask(WEB, client=Client(size=65_535))
    assert server.hits == before + 1
