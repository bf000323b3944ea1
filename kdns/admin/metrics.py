"""CoreDNS's metrics, made from the blocks' plain counters when somebody scrapes them."""

import platform
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import kdns
from kdns.plugins.block import Block
from kdns.plugins.parts import HttpReply
from kdns.telemetry.histogram import OCTETS, SECONDS, Histogram
from kdns.telemetry.meters import Sample
from kdns.wire import iana

COUNTED_TYPES = frozenset(
    {"A", "AAAA", "CNAME", "DNSKEY", "DS", "MX", "NSEC", "NSEC3", "NS", "PTR", "RRSIG", "SOA"}
    | {"SRV", "TXT", "HTTPS", "SVCB", "IXFR", "AXFR", "ANY"}
)
"""Types that have a label of their own; all others are counted together, so labels are bounded."""


class BlockCollector(Collector):
    """Reads the counters of every block at the time of the scrape."""

    def __init__(
        self, blocks: Callable[[], Iterable[Block]], samples: Callable[[], Iterable[Sample]]
    ) -> None:
        self._blocks = blocks
        self._samples = samples

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
        yield from map(_family, self._samples())

    def _sizes_and_durations(self) -> Iterable[Metric]:
        durations = HistogramMetricFamily(
            "coredns_dns_request_duration_seconds",
            "Seconds from a query's arrival to its reply.",
            labels=("server", "zone", "view"),
        )
        asked = HistogramMetricFamily(
            "coredns_dns_request_size_bytes",
            "Octets of queries.",
            labels=("server", "zone", "view", "proto"),
        )
        answered = HistogramMetricFamily(
            "coredns_dns_response_size_bytes",
            "Octets of replies.",
            labels=("server", "zone", "view", "proto"),
        )
        do = CounterMetricFamily(
            "coredns_dns_do_requests",
            "Queries with the DO bit set.",
            labels=("server", "zone", "view"),
        )
        for block in self._blocks():
            if not block.counted:
                continue
            labels = (block.label, block.zones[0], "")
            counters = block.counters
            histogram = counters.durations
            durations.add_metric(labels, _buckets(SECONDS, histogram), histogram.sum)
            do.add_metric(labels, counters.do_requests)
            for family, sizes in (
                (asked, counters.request_sizes),
                (answered, counters.response_sizes),
            ):
                for proto, histogram in sizes.items():
                    buckets = _buckets(OCTETS, histogram)
                    family.add_metric((*labels, proto), buckets, histogram.sum)
        yield from (durations, asked, answered, do)

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
            by_answerer: dict[tuple[str, str], int] = {}
            for (rcode, by), count in block.counters.responses.items():
                answered = (iana.rcode_text(rcode), by.partition("/")[0])
                by_answerer[answered] = by_answerer.get(answered, 0) + count
            for answered, count in by_answerer.items():
                responses.add_metric((block.label, zone, "", *answered), count)
        yield requests
        yield responses
        yield from self._sizes_and_durations()
        total = CounterMetricFamily(
            "coredns_panics", "Counter of queries that made a directive fail."
        )
        total.add_metric((), panics)
        yield total


def _family(sample: Sample) -> Metric:
    if sample.kind == "histogram":
        family = HistogramMetricFamily(sample.name, sample.help, labels=sample.labels)
        for labels, histogram in sample.histograms:
            family.add_metric(labels, _buckets(sample.bounds, histogram), histogram.sum)
        return family
    kind = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
    numbers = kind(sample.name, sample.help, labels=sample.labels)
    for labels, number in sample.numbers:
        numbers.add_metric(labels, number)
    return numbers


def _buckets(bounds: tuple[float, ...], histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, the last one being +Inf."""
    texts = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(texts, accumulate(map(float, histogram.counts)), strict=True))


def metrics_route(
    blocks: Callable[[], Iterable[Block]], samples: Callable[[], Iterable[Sample]]
) -> Callable[[], HttpReply]:
    """What /metrics says."""
    registry = CollectorRegistry()
    registry.register(BlockCollector(blocks, samples))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return lambda: HttpReply(200, generate_latest(registry), CONTENT_TYPE_LATEST)
