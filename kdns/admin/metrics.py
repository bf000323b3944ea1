"""CoreDNS's metrics, made from the blocks' plain counters when somebody scrapes them."""

import platform
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

import kdns
from kdns.plugins.block import Block
from kdns.plugins.parts import HttpReply
from kdns.wire import iana

COUNTED_TYPES = frozenset(
    {"A", "AAAA", "CNAME", "DNSKEY", "DS", "MX", "NSEC", "NSEC3", "NS", "PTR", "RRSIG", "SOA"}
    | {"SRV", "TXT", "HTTPS", "SVCB", "IXFR", "AXFR", "ANY"}
)
"""Types that have a label of their own; all others are counted together, so labels are bounded."""


class BlockCollector(Collector):
    """Reads the counters of every block at the time of the scrape."""

    def __init__(self, blocks: Callable[[], Iterable[Block]]) -> None:
        self._blocks = blocks

    def collect(self) -> Iterable[Metric]:
        """The metric families."""
        build = GaugeMetricFamily(
            "coredns_build_info",
            "Always 1; the labels say what runs.",
            labels=("version", "revision", "goversion"),
        )
        python = f"python{platform.python_version()}"
        build.add_metric((f"kdns-{kdns.__version__}", "", python), 1)
        yield build
        yield from self._traffic()

    def _traffic(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "coredns_dns_requests",
            "DNS queries by zone, protocol, address family and type.",
            labels=("server", "zone", "view", "proto", "family", "type"),
        )
        responses = CounterMetricFamily(
            "coredns_dns_responses",
            "DNS replies by zone, rcode and the directive that answered.",
            labels=("server", "zone", "view", "rcode", "plugin"),
        )
        panics = 0
        for block in self._blocks():
            panics += block.counters.panics
            if not block.counted:
                continue
            zone = block.zones[0]
            by_label: dict[tuple[str, str, str], int] = {}
            for (proto, family, qtype), count in block.counters.requests.items():
                text = iana.type_text(qtype)
                label = (proto, str(family), text if text in COUNTED_TYPES else "other")
                by_label[label] = by_label.get(label, 0) + count
            for (proto, family_text, text), count in by_label.items():
                requests.add_metric((block.label, zone, "", proto, family_text, text), count)
            for (rcode, by), count in block.counters.responses.items():
                responses.add_metric((block.label, zone, "", iana.rcode_text(rcode), by), count)
        yield requests
        yield responses
        total = CounterMetricFamily(
            "coredns_panics", "Counter of queries that made a directive fail."
        )
        total.add_metric((), panics)
        yield total


def metrics_route(blocks: Callable[[], Iterable[Block]]) -> Callable[[], HttpReply]:
    """What /metrics says."""
    registry = CollectorRegistry()
    registry.register(BlockCollector(blocks))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return lambda: HttpReply(200, generate_latest(registry), CONTENT_TYPE_LATEST)
