"""Workloads: a seed asks the same each time, in known proportions, with the right answers."""

import random
from collections import Counter
from collections.abc import Iterable

import dns.message
import dns.rdatatype
import pytest

from kdns.cluster.objects import Resource, convert_object
from kdns.cluster.state import Cluster as State
from kdns.cluster.zone import ForwardZone, PodsMode, ReverseZone, ZoneOptions
from kdns.testing.authority import Authority
from kdns.wire import name
from kdns.zone.node import End, look
from perf.answers import digest, matches
from perf.cluster import ABROAD, HOME, REVERSE_4, REVERSE_6, ZONES, Cluster, Shape, generate
from perf.subjects import tail
from perf.workloads import FORWARDED, MIX, SPECS, Question, build, query, questions, walk
from perf.zones import zone_file

SHAPE = Shape(services=300, namespaces=4, headless=((20, 2), (1_000, 1)), abroad=20)
KNOWN = [n for n, spec in SPECS.items() if not spec.forwards]
TTL = 30
TYPES = {"A": 1, "PTR": 12, "AAAA": 28, "SRV": 33}


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return generate(SHAPE, 7)


def asked(cluster: Cluster, workload: str, count: int = 100) -> list[Question]:
    return questions(workload, cluster, 3, count)


@pytest.mark.parametrize("workload", SPECS)
def test_the_same_seed_asks_the_same(cluster: Cluster, workload: str) -> None:
    assert generate(SHAPE, 7) == cluster
    assert asked(generate(SHAPE, 7), workload) == asked(cluster, workload)


def test_another_seed_is_another_cluster_with_other_names(cluster: Cluster) -> None:
    assert generate(SHAPE, 8).services != cluster.services
    assert questions("cold", cluster, 4, 100) != asked(cluster, "cold")


def test_cluster_asks_both_types_of_every_service(cluster: Cluster) -> None:
    found = Counter((q.qname, q.qtype) for q in asked(cluster, "cluster"))
    expected = [(s.host(), t) for s in cluster.services for t in ("A", "AAAA")]
    assert found == Counter(expected)


def test_half_of_the_services_have_an_ipv6_address(cluster: Cluster) -> None:
    found = [q for q in asked(cluster, "cluster") if q.qtype == "AAAA"]
    assert Counter(bool(q.rdatas) for q in found) == {True: 150, False: 150}
    assert all(q.rcode == 0 for q in found)


def test_a_search_is_four_denials_and_an_answer(cluster: Cluster) -> None:
    found = asked(cluster, "search")
    assert len(found) == 20 * 5 * 2
    for start in range(0, len(found), 10):
        assert [q.rcode for q in found[start : start + 10]] == [3] * 8 + [0, 0]
        assert found[start + 8].rdatas


def test_a_searched_name_has_too_few_dots_to_be_tried_first(cluster: Cluster) -> None:
    *searched, last = walk(cluster.services[0], "team-02")
    assert last.rstrip(".").count(".") < 5
    assert [n.removeprefix(last) for n in searched] == [
        f"team-02.svc.{HOME}",
        f"svc.{HOME}",
        HOME,
        ABROAD,
    ]


@pytest.mark.parametrize("workload", ["cold", "forward-miss"])
def test_who_asks_once_asks_as_many_different_names_as_wanted(
    cluster: Cluster, workload: str
) -> None:
    found = asked(cluster, workload, 250)
    assert len({q.qname for q in found}) == len(found) == 250


def test_forwarded_names_are_in_no_zone(cluster: Cluster) -> None:
    found = [*asked(cluster, "forward-hit"), *asked(cluster, "forward-miss")]
    assert not any(q.qname.endswith(zone) for q in found for zone in ZONES)
    assert all(q.qname.endswith(FORWARDED) for q in found)


def test_the_mix_has_the_proportions_that_clusters_showed(cluster: Cluster) -> None:
    found = asked(cluster, "mixed")
    types = Counter(q.qtype for q in found)
    assert sum(MIX.values()) == pytest.approx(1)
    assert sum(q.rcode == 3 for q in found) / len(found) == pytest.approx(0.75, abs=1e-3)
    assert types["AAAA"] / len(found) == pytest.approx(0.496, abs=1e-3)
    assert types["A"] == types["AAAA"]
    assert types["SRV"] == types["PTR"]


def test_the_mix_has_popular_names(cluster: Cluster) -> None:
    (_, most), *_, (_, least) = Counter(q.qname for q in asked(cluster, "mixed")).most_common()
    assert most > 100 * least


@pytest.mark.parametrize("workload", SPECS)
def test_questions_are_plain_queries_without_options(cluster: Cluster, workload: str) -> None:
    made = asked(cluster, workload)
    workloads = build(workload, made, "udp")
    for question, sent in list(zip(made, workloads.queries, strict=True))[:50]:
        message = dns.message.from_wire(sent.wire)
        assert str(message.question[0].name) == question.qname
        assert dns.rdatatype.to_text(message.question[0].rdtype) == question.qtype
        assert (message.id, message.edns) == (0, -1)


def test_what_does_not_fit_into_a_datagram_is_not_judged(cluster: Cluster) -> None:
    (question,) = asked(cluster, "headless-1000")
    assert len(question.rdatas) == 1_000
    assert query(question, "udp").expect is None
    assert query(question, "tcp").expect is not None


@pytest.mark.parametrize("workload", KNOWN)
def test_an_authority_for_the_zone_files_gives_the_expected_answers(
    cluster: Cluster, authorities: dict[str, Authority], workload: str
) -> None:
    for question in sample(asked(cluster, workload)):
        apex = next(zone for zone in ZONES if question.qname.endswith(zone))
        asking = query(question, "tcp")
        reply = authorities[apex].answer(asking.wire, tcp=True)
        assert reply is not None
        assert matches(asking, reply), question


def test_a_wrong_answer_is_known_as_one(
    cluster: Cluster, authorities: dict[str, Authority]
) -> None:
    right = asked(cluster, "cluster")[0]
    reply = authorities[HOME].answer(query(right, "tcp").wire, tcp=True)
    assert reply is not None
    assert not matches(query(right._replace(rdatas=("10.0.0.1",)), "tcp"), reply)


@pytest.mark.parametrize("workload", KNOWN)
def test_kdns_makes_the_same_records_of_the_objects(
    cluster: Cluster, zones: dict[str, ForwardZone | ReverseZone], workload: str
) -> None:
    for question in sample(asked(cluster, workload)):
        apex = next(zone for zone in ZONES if question.qname.endswith(zone))
        node = zones[apex].node(name.from_text(question.qname))
        found = look(node, TYPES[question.qtype])
        records = [(found.rrset.rtype, r) for r in found.rrset.rdatas] if found.rrset else []
        rcode = 3 if found.end is End.NXDOMAIN else 0
        assert digest(rcode, records) == query(question, "tcp").expect, question


def test_an_echo_says_as_much_as_kdns_would(cluster: Cluster) -> None:
    address, *_ = (q for q in asked(cluster, "cluster") if q.qtype == "A")
    (large,) = asked(cluster, "headless-1000")
    assert len(tail([address], "udp")) == 16
    assert len(tail([large], "tcp")) == 16_000
    assert len(query(large, "udp").wire) + len(tail([large], "udp")) <= 512


def sample(found: list[Question]) -> list[Question]:
    return random.Random(1).sample(found, min(60, len(found)))


@pytest.fixture(scope="module")
def authorities(cluster: Cluster) -> dict[str, Authority]:
    return {apex: Authority(text(cluster, apex)) for apex in ZONES}


def text(cluster: Cluster, apex: str) -> str:
    return f"$ORIGIN {apex}\n" + "\n".join(zone_file(cluster, apex)) + "\n"


@pytest.fixture(scope="module")
def zones(cluster: Cluster) -> dict[str, ForwardZone | ReverseZone]:
    complaints: list[str] = []
    state = State(lambda: 1.0, complaints.append)
    told(state, cluster.objects())
    assert not complaints
    options = ZoneOptions(ttl=TTL, pods=PodsMode.INSECURE)
    home = name.from_text(HOME)
    found: dict[str, ForwardZone | ReverseZone] = {
        apex: ForwardZone(name.from_text(apex), state, options) for apex in (HOME, ABROAD)
    }
    for apex in (REVERSE_4, REVERSE_6):
        found[apex] = ReverseZone(name.from_text(apex), home, state, options)
    return found


def told(state: State, objects: Iterable[dict[str, object]]) -> None:
    by_kind = {resource.kind: resource for resource in Resource}
    for made in objects:
        resource = by_kind[str(made["kind"])]
        state.apply(resource, convert_object(resource, made))
