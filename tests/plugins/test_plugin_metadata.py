"""metadata: what directives know of a query stands in the formats of log."""

import logging

import pytest

from kdns.cluster import objects
from kdns.cluster.objects import Meta, Resource
from kdns.corefile.errors import CorefileError
from kdns.plugins import forward, kubernetes, log, metadata
from kdns.plugins.chain import refuse
from kdns.plugins.log import as_fields
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, ask, populate, settings

FORMAT = 'log . "{name} {/kubernetes/service} {/kubernetes/namespace} {/kubernetes/kind}"'
POD = objects.PodStatus(pod_ips=[objects.PodIP("10.1.0.7")])
VERIFIED = "kubernetes cluster.local {\npods verified\n}"


class Block:
    """A block with log and these directives, and the line that it writes."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *texts: str, form: str = FORMAT) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self.parts = FakeParts()
        parsers = {
            "kubernetes": kubernetes.parse,
            "forward": forward.parse,
            "metadata": metadata.parse,
        }
        for text in texts:
            settings(parsers[text.split()[0]], text).build(self.parts, refuse)
        settings(log.parse, form).build(self.parts, refuse)
        for cluster in self.parts.clusters.values():
            populate(cluster)
            cluster.apply(Resource.PODS, objects.Pod(Meta("shell", "shop"), POD))

    def line(self, qname: str, host: str = "10.0.0.1", reply: Reply | None = None) -> str:
        self._caplog.clear()
        observe = self.parts.block.observers[-1]
        observe(ask(qname, host=host), reply or Reply(), 68, 0.1)
        return self._caplog.records[-1].getMessage()


def test_a_format_says_what_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    block = Block(caplog, VERIFIED, "metadata")
    assert block.line("web.shop.svc.cluster.local").endswith(" web shop svc")


def test_without_the_directive_it_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert Block(caplog, VERIFIED).line("web.shop.svc.cluster.local").endswith(" - - -")


def test_it_is_of_the_zones_that_are_named(caplog: pytest.LogCaptureFixture) -> None:
    block = Block(caplog, VERIFIED, "metadata other.test")
    assert block.line("web.shop.svc.cluster.local").endswith(" - - -")
    assert (
        Block(caplog, VERIFIED, "metadata shop.svc.cluster.local")
        .line("web.shop.svc.cluster.local")
        .endswith(" web shop svc")
    )


def test_names_of_no_cluster_have_none_of_it(caplog: pytest.LogCaptureFixture) -> None:
    assert Block(caplog, VERIFIED, "metadata .").line("a.example").endswith(" - - -")


def test_a_client_is_known_by_its_pod(caplog: pytest.LogCaptureFixture) -> None:
    form = 'log . "{/kubernetes/client-namespace}/{/kubernetes/client-pod-name}"'
    block = Block(caplog, VERIFIED, "metadata .", form=form)
    assert block.line("a.example", host="10.1.0.7") == "shop/shell"
    assert block.line("a.example", host="10.1.0.99") == "-/-"


def test_the_upstream_that_gave_an_answer_is_known(caplog: pytest.LogCaptureFixture) -> None:
    form = 'log . "{/forward/upstream}"'
    block = Block(caplog, "forward . 10.0.0.2", "forward b 10.0.0.3", "metadata .", form=form)
    passed = Reply(by="forward", upstream="10.0.0.2:53")
    assert block.line("a.example", reply=passed) == "10.0.0.2:53"
    kept = Reply(by="cache", upstream="10.0.0.2:53")
    assert block.line("a.example", reply=kept) == "-"
    assert len(block.parts.block.labels) == 1


def test_json_has_all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    block = Block(caplog, VERIFIED, "metadata").parts.block
    fields = as_fields(block, ask("shop.svc.cluster.local"), Reply(), 68, 0.1)
    assert fields["metadata"] == {"kubernetes/kind": "svc", "kubernetes/namespace": "shop"}


def test_it_explains_itself() -> None:
    assert "of queries of a.test." in settings(metadata.parse, "metadata a.test").explain()


def test_it_has_no_options() -> None:
    with pytest.raises(CorefileError, match="metadata: unknown option 'map'; expected none"):
        settings(metadata.parse, "metadata {\nmap {{.IP}} a\n}")
