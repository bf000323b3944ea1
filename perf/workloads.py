"""What is asked: each workload is a seeded list of questions with their right answers.

    cluster       A and AAAA of 5,000 services (cluster-1k, cluster-100k: of as many as they say)
    search        names of another domain along the search path: four NXDOMAIN, one answer
    headless-20   A of headless services with 20 endpoints (headless-1000: with 1,000)
    srv, ptr      SRV of named ports; PTR of cluster IPs
    cold          A of names that nobody asked for before, each once
    forward-none  cluster names, asked as those below are: what they are to be compared with, where
                  the generator shares its core with the upstream and sleeps between two questions
    forward-hit   a few names outside the cluster, again and again
    forward-miss  names outside the cluster, each once
    forward-slow  the same, of an upstream that takes 50 ms and loses one question in a hundred
    forward-three, forward-dead
                  the same, of three upstreams; in `dead` one of them is a black hole, and what is
                  measured begins when it has been one for two seconds
    mixed         what clusters were seen to ask

Questions have no OPT record: glibc and musl send none unless told to (resolv.conf(5), edns0).

**search.** A pod in namespace `team-07` looks up `cart-api-3.team-01.svc.corp.test`. It has fewer
than five dots, so the resolver walks the search list that kubelet and the node wrote:

    ….team-07.svc.cluster.local  ….svc.cluster.local  ….cluster.local  ….corp.test   four NXDOMAIN
    cart-api-3.team-01.svc.corp.test                                                 the answer

Every server under test holds corp.test as it holds cluster.local, so no upstream has a part in it.

**mixed.** The proportions come from what clusters were seen to ask:

- three of four answers are NXDOMAIN: 400 of 530 million on an EKS cluster
  (https://github.com/coredns/coredns/issues/6202), 798 of 1,064 under cluster.local
  (https://github.com/kubernetes/dns/issues/453), "around 80 %" on another EKS cluster
  (https://dev.to/ahmedshendy/the-hidden-dns-misconfiguration-that-was-killing-performance-in-our-eks-cluster-and-how-we-fixed-2onm);
- 49.6 % of the questions are AAAA: 1,211,420 of 2,444,351
  (https://github.com/onedr0p/home-ops/pull/11428). A resolver asks A and AAAA together, which
  leaves 0.8 % for everything else: half SRV, half PTR, which nobody seems to have counted;
- a search walk that ends in an answer has four NXDOMAIN before it, so the three quarters bring
  18.75 % of answers from outside the cluster; services have what remains, one in ten headless;
- names are not equally popular: by Zipf's law, rank r is asked 1/r as often as the first (Jung,
  Sit, Balakrishnan, Morris: DNS Performance and the Effectiveness of Caching, 2002).
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from perf.answers import digest
from perf.cluster import ABROAD, HOME, Cluster, Service, Shape, reverse
from perf.model import Query, Transport, Workload

FORWARDED: Final = "forward.example."
"""Below it are names that no server holds; the upstream gives each the same address."""
UPSTREAM_ADDRESS: Final = "192.0.2.1"
UPSTREAM_TTL: Final = 300

SHAPES: Final = {
    "5k": Shape(services=5_000),
    "100k": Shape(services=100_000, endpoints=1, headless=(), abroad=0),
}
MIX: Final = {
    "nxdomain": 0.75,
    "abroad": 0.1875,
    "services": 0.0545 * 0.9,
    "headless": 0.0545 * 0.1,
    "srv": 0.004,
    "ptr": 0.004,
}
"""The share of each kind of question in `mixed`; see above."""
_MIXED: Final = 20_000
_NXDOMAIN: Final = 3
PLAIN_SIZE: Final = 512
"""Octets of an answer over UDP without EDNS (RFC 1035, 4.2.1)."""
_TYPES: Final = {"A": 1, "PTR": 12, "AAAA": 28, "SRV": 33}
_BOTH: Final = ("A", "AAAA")


UpstreamKind = Literal["near", "slow", "three", "dead"]


class Question(NamedTuple):
    """A question and its right answer: rcode, and RDATA in presentation format."""

    qname: str
    qtype: str
    rcode: int
    rdatas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """One workload.

    shape: of the cluster, one of SHAPES. make(cluster, chance, count) gives the questions; `count`
    is how many a run will ask, for workloads that ask each once. once: they do, so their rate is
    given and the server is new. forwards: it takes a server that asks others. upstream: which kind
    of others, one of perf.upstreams.KINDS. settle: seconds of other such questions before those
    that are measured.
    """

    about: str
    make: Callable[[Cluster, random.Random, int], Iterable[Question]]
    shape: str = "5k"
    once: bool = False
    forwards: bool = False
    upstream: UpstreamKind = "near"
    settle: float = 0.0


def questions(name: str, cluster: Cluster, seed: int, count: int) -> list[Question]:
    """What the workload of that name asks. The seed decides the names. Raises KeyError."""
    return list(SPECS[name].make(cluster, random.Random(f"{seed} {name}"), count))


def build(name: str, asked: Iterable[Question], transport: Transport) -> Workload:
    """The questions as messages."""
    return Workload(name, transport, tuple(query(question, transport) for question in asked))


def query(question: Question, transport: Transport) -> Query:
    """The question as a message with RD set, and the digest of its answer.

    Over UDP an answer of more than 512 octets is truncated (RFC 1035, 4.2.1), and what is left of
    it is the server's choice: nothing is expected.
    """
    rtype = _TYPES[question.qtype]
    name = _name(question.qname)
    wire = struct.pack("!6H", 0, 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", rtype, 1)
    rdatas = [_rdata(question.qtype, text) for text in question.rdatas]
    if transport == "udp" and len(wire) + sum(12 + len(r) for r in rdatas) > PLAIN_SIZE:
        return Query(wire, None)
    return Query(wire, digest(question.rcode, ((rtype, r) for r in rdatas)))


def _ask(cluster: Cluster, qname: str, qtype: str) -> Question:
    return Question(qname, qtype, *cluster.look(qname, qtype))


def _services(most: int) -> Callable[[Cluster, random.Random, int], Iterator[Question]]:
    def make(cluster: Cluster, chance: random.Random, _count: int) -> Iterator[Question]:
        chosen = chance.sample(cluster.services, min(most, len(cluster.services)))
        return (_ask(cluster, s.host(), qtype) for s in chosen for qtype in _BOTH)

    return make


def walk(service: Service, namespace: str) -> tuple[str, ...]:
    """The names that a pod of that namespace asks for, to find a service by its name abroad."""
    host = service.host(ABROAD)
    searched = (f"{namespace}.svc.{HOME}", f"svc.{HOME}", HOME, ABROAD)
    return (*(host + suffix for suffix in searched), host)


def _search(cluster: Cluster, chance: random.Random, _count: int) -> Iterator[Question]:
    for service in cluster.abroad:
        names = walk(service, chance.choice(cluster.namespaces))
        yield from (_ask(cluster, name, qtype) for name in names for qtype in _BOTH)


def _headless(size: int) -> Callable[[Cluster, random.Random, int], Iterator[Question]]:
    def make(cluster: Cluster, _chance: random.Random, _count: int) -> Iterator[Question]:
        found = (h for h in cluster.headless if len(h.endpoints) == size)
        return (_ask(cluster, h.host, "A") for h in found)

    return make


def _srv(cluster: Cluster, _chance: random.Random, _count: int) -> Iterator[Question]:
    # Of IPv4 services alone: see Cluster.ported.
    single = (s for s in cluster.services if not s.address6)
    return (_ask(cluster, f"_http._tcp.{s.host()}", "SRV") for s in single)


def _ptr(cluster: Cluster, _chance: random.Random, _count: int) -> Iterator[Question]:
    addresses = (a for s in cluster.services for a in (s.address, s.address6) if a)
    return (_ask(cluster, reverse(address), "PTR") for address in addresses)


def _cold(cluster: Cluster, chance: random.Random, count: int) -> Iterator[Question]:
    chosen = chance.sample(cluster.services, min(count, len(cluster.services)))
    return (_ask(cluster, s.host(), "A") for s in chosen)


def _forward_hit(_cluster: Cluster, _chance: random.Random, _count: int) -> Iterator[Question]:
    return (_forwarded(f"site-{n}") for n in range(1_000))


def _forward_miss(_cluster: Cluster, chance: random.Random, count: int) -> Iterator[Question]:
    return (_forwarded(f"{chance.getrandbits(64):016x}") for _ in range(count))


def _forwarded(label: str) -> Question:
    return Question(f"{label}.{FORWARDED}", "A", 0, (UPSTREAM_ADDRESS,))


def _mixed(cluster: Cluster, chance: random.Random, _count: int) -> Iterator[Question]:
    """Draws of both types of an address question come together, as a resolver asks them."""
    makers = {
        "nxdomain": _Popular(chance, list(_denied(cluster, chance))),
        "abroad": _Popular(chance, [s.host(ABROAD) for s in cluster.abroad]),
        "services": _Popular(chance, [s.host() for s in cluster.services]),
        "headless": _Popular(chance, [h.host for h in cluster.headless if len(h.endpoints) < 25]),
        "srv": _Popular(chance, [f"_http._tcp.{s.host()}" for s in cluster.ported]),
        "ptr": _Popular(chance, [q.qname for q in _ptr(cluster, chance, 0)]),
    }
    for kind, share in MIX.items():
        types = (kind.upper(),) if kind in {"srv", "ptr"} else _BOTH
        for _ in range(round(_MIXED * share / len(types))):
            name = makers[kind].draw()
            yield from (_ask(cluster, name, qtype) for qtype in types)


def _denied(cluster: Cluster, chance: random.Random) -> Iterator[str]:
    for service in cluster.abroad:
        yield from walk(service, chance.choice(cluster.namespaces))[:-1]


class _Popular:
    """Names drawn by Zipf's law, their ranks by chance."""

    def __init__(self, chance: random.Random, names: Sequence[str]) -> None:
        self._chance = chance
        self._names = chance.sample(names, len(names))
        self._weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))

    def draw(self) -> str:
        """A name."""
        return self._chance.choices(self._names, cum_weights=self._weights)[0]


def _rdata(qtype: str, text: str) -> bytes:
    match qtype:
        case "A":
            return socket.inet_pton(socket.AF_INET, text)
        case "AAAA":
            return socket.inet_pton(socket.AF_INET6, text)
        case "SRV":
            priority, weight, port, target = text.split()
            return struct.pack("!3H", int(priority), int(weight), int(port)) + _name(target)
    return _name(text)


def _name(text: str) -> bytes:
    labels = text.rstrip(".").encode("ascii").split(b".")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


SPECS: Final = {
    "cluster": Spec("A and AAAA of 5,000 services", _services(5_000)),
    "cluster-1k": Spec("A and AAAA of 1,000 services", _services(1_000)),
    "cluster-100k": Spec("A and AAAA of 100,000 services", _services(100_000), shape="100k"),
    "search": Spec("a search walk: four NXDOMAIN, one answer", _search),
    "headless-20": Spec("A of headless services with 20 endpoints", _headless(20)),
    "headless-1000": Spec("A of headless services with 1,000 endpoints", _headless(1_000)),
    "srv": Spec("SRV of named ports", _srv),
    "ptr": Spec("PTR of cluster IPs", _ptr),
    "cold": Spec("A of services, each name once", _cold, shape="100k", once=True),
    "forward-none": Spec(
        "A and AAAA of 1,000 services, of who could forward", _services(1_000), forwards=True
    ),
    "forward-hit": Spec("1,000 names of an upstream, again and again", _forward_hit, forwards=True),
    "forward-miss": Spec(
        "names of an upstream, each once", _forward_miss, once=True, forwards=True
    ),
    "forward-slow": Spec(
        "the same, of an upstream 50 ms away that loses 1 %",
        _forward_miss,
        once=True,
        forwards=True,
        upstream="slow",
    ),
    "forward-three": Spec(
        "the same, of three upstreams",
        _forward_miss,
        once=True,
        forwards=True,
        upstream="three",
        settle=2.0,
    ),
    "forward-dead": Spec(
        "the same, one of the three a black hole for 2 s before",
        _forward_miss,
        once=True,
        forwards=True,
        upstream="dead",
        settle=2.0,
    ),
    "mixed": Spec("what clusters were seen to ask", _mixed),
}
