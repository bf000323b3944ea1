"""single_stack: addresses of a family that a cluster has not are not asked of others."""

from collections.abc import Iterable

import dns.edns
import dns.message
import pytest

from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.plugins import forward
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Table
from kdns.plugins.parts import SourceSettings
from kdns.plugins.peer import Peer
from kdns.wire import iana
from kdns.wire.reply import Reply, opt_record
from tests.cluster.builders import Tree, made, service, slice_
from tests.plugins.fakes import FakeParts, always, question, settings

FOUR = service("web.shop", "10.96.0.1")
SIX = service("new.shop", "fd00::1")
BOTH = service("both.shop", "10.96.0.2", "fd00::2")
SLICE = slice_("pods.shop", "web", "fd00::9", addressType="IPv6")
CLIENT = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")


class Outside(FakeParts):
    """A server of a cluster, whose hot answers are forgotten when they should be."""

    def build(self, *trees: Tree, option: str = "single_stack", known: bool = True) -> Cluster:
        cluster = self.cluster(SourceSettings(frozenset(Resource)))
        for tree in trees:
            cluster.apply(*made(tree))
        if known:
            for resource in Resource:
                cluster.know(resource)
        text = f"forward . 192.0.2.1 {{\n{option}\n}}"
        self.block.handler = settings(forward.parse, text).build(self, always(Reply()))
        self.block.counted = True
        self.dispatcher = Dispatcher(self.monotonic)
        self.dispatcher.serve(self.block)
        self.front = self.dispatcher.front(Table("udp", 1))
        for start in self.started:
            start()
        return cluster

    def forget(self, changed: Iterable[object]) -> None:
        self.dispatcher.hot.forget(changed)

    def ask(self, qtype: int) -> dns.message.Message | None:
        """The reply, None where it is the upstream's to give."""
        wire = self.front(question("a.example", qtype, opt=opt_record()), CLIENT)
        return dns.message.from_wire(wire) if isinstance(wire, bytes) else None


@pytest.mark.parametrize(
    ("trees", "spared"),
    [
        ([FOUR], {iana.AAAA}),
        ([SIX], {iana.A}),
        ([FOUR, SIX], set()),
        ([BOTH], set()),
        ([FOUR, SLICE], set()),
        ([], set()),
    ],
)
def test_what_no_service_and_no_slice_has_is_not_asked_for(
    trees: list[Tree], spared: set[int]
) -> None:
    outside = Outside()
    outside.build(*trees)
    asked = {qtype for qtype in (iana.A, iana.AAAA) if outside.ask(qtype) is None}
    assert {iana.A, iana.AAAA} - asked == spared


def test_the_answer_is_that_the_name_has_no_such_address() -> None:
    outside = Outside()
    outside.build(FOUR)
    reply = outside.ask(iana.AAAA)
    assert reply is not None
    assert (reply.rcode(), reply.answer, reply.authority) == (0, [], [])
    (told,) = reply.options
    assert isinstance(told, dns.edns.EDEOption)
    assert (told.code, told.text) == (29, "no IPv6 in this cluster")


def test_other_types_are_asked_for() -> None:
    outside = Outside()
    outside.build(FOUR)
    assert outside.ask(iana.MX) is None


def test_it_is_off_unless_it_is_asked_for() -> None:
    outside = Outside()
    outside.build(FOUR, option="")
    assert outside.ask(iana.AAAA) is None


def test_a_cluster_that_is_not_known_whole_says_nothing() -> None:
    outside = Outside()
    cluster = outside.build(FOUR, known=False)
    assert outside.ask(iana.AAAA) is None
    for resource in Resource:
        cluster.assume(resource)
    assert outside.ask(iana.AAAA) is None
    for resource in Resource:
        cluster.know(resource)
    assert outside.ask(iana.AAAA) is not None


def test_the_first_address_of_the_family_ends_it_and_the_last_one_begins_it_anew() -> None:
    outside = Outside()
    cluster = outside.build(FOUR)
    for _ in range(3):
        assert outside.ask(iana.AAAA) is not None
    assert len(outside.dispatcher.hot) == 1
    cluster.apply(*made(SIX))
    assert outside.ask(iana.AAAA) is None
    cluster.remove(Resource.SERVICES, ("shop", "new"))
    assert outside.ask(iana.AAAA) is not None


def test_it_ends_too_where_nothing_had_changed_since_the_cluster_became_known() -> None:
    outside = Outside()
    cluster = outside.build(FOUR, known=False)
    for resource in Resource:
        cluster.know(resource)
    assert outside.ask(iana.AAAA) is not None
    cluster.apply(*made(SIX))
    assert outside.ask(iana.AAAA) is None


def test_what_changes_within_a_family_leaves_answers_hot() -> None:
    outside = Outside()
    cluster = outside.build(FOUR)
    outside.ask(iana.AAAA)
    cluster.apply(*made(service("more.shop", "10.96.0.7")))
    assert len(outside.dispatcher.hot) == 1


def test_what_was_spared_is_counted_hot_answers_too() -> None:
    outside = Outside()
    outside.build(FOUR)
    for _ in range(5):
        outside.ask(iana.AAAA)
    outside.front.table.count()
    outside.block.counters.settle()
    samples = {sample.name: sample for sample in outside.meters.sample()}
    assert samples["kdns_forward_single_stack"].numbers == [((), 5)]


def test_it_hears_of_the_cluster_no_more_when_it_is_taken_apart() -> None:
    outside = Outside()
    cluster = outside.build(FOUR)
    (stop,) = outside.stopped
    stop()
    assert cluster.listeners == ()
