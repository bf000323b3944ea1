"""CoreDNS's metrics, made from the blocks' plain counters when somebody scrapes them."""

import platform
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

import kdns
from kdns.plugins.block import Block, Counters
from kdns.plugins.block import Exemplar as QueryExemplar
from kdns.plugins.parts import HttpReply, HttpRequest
from kdns.telemetry.histogram import OCTETS, SECONDS, Histogram
from kdns.telemetry.meters import Labels, Sample
from kdns.wire import iana

COUNTED_TYPES = frozenset(
    {"A", "AAAA", "CNAME", "DNSKEY", "DS", "MX", "NSEC", "NSEC3", "NS", "PTR", "RRSIG", "SOA"}
    | {"SRV", "TXT", "HTTPS", "SVCB", "IXFR", "AXFR", "ANY"}
)
"""Types that have a label of their own; all others are counted together, so labels are bounded."""

_ZONE = ("server", "zone", "view")
_LONGEST = 100
"""Characters of a name in an exemplar, whose labels may have 128 together (OpenMetrics 1.0)."""


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

    def _counted(self) -> Iterable[tuple[Block, Labels, Counters]]:
        """Each zone of a block that counts, its labels, and what was counted of it."""
        for block in self._blocks():
            if block.counted:
                for zone, counters in zip(block.zones, block.by_zone, strict=True):
                    yield block, (block.label, zone, ""), counters

    def _enabled(self) -> Iterable[Metric]:
        enabled = GaugeMetricFamily(
            "coredns_plugin_enabled",
            "1 for each directive that looks at the queries of a zone.",
            labels=(*_ZONE, "name"),
        )
        for block, labels, _ in self._counted():
            for directive in block.enabled:
                enabled.add_metric((*labels, directive), 1)
        yield enabled

    def _sizes_and_durations(self) -> Iterable[Metric]:
        durations = HistogramMetricFamily(
            "coredns_dns_request_duration_seconds",
            "Seconds from a query's arrival to its reply.",
            labels=_ZONE,
        )
        asked = HistogramMetricFamily(
            "coredns_dns_request_size_bytes", "Octets of queries.", labels=(*_ZONE, "proto")
        )
        answered = HistogramMetricFamily(
            "coredns_dns_response_size_bytes", "Octets of replies.", labels=(*_ZONE, "proto")
        )
        do = CounterMetricFamily(
            "coredns_dns_do_requests", "Queries with the DO bit set.", labels=_ZONE
        )
        for _, labels, counters in self._counted():
            buckets = _with_exemplars(_buckets(SECONDS, counters.durations), counters.exemplars)
            durations.add_metric(labels, buckets, counters.durations.sum)
            do.add_metric(labels, counters.do_requests)
            for family, sizes in (
                (asked, counters.request_sizes),
                (answered, counters.response_sizes),
            ):
                for proto, histogram in sizes.items():
                    family.add_metric((*labels, proto), _buckets(OCTETS, histogram), histogram.sum)
        yield from (durations, asked, answered, do)

    def _traffic(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "coredns_dns_requests",
            "DNS queries by zone, protocol, address family and type.",
            labels=(*_ZONE, "proto", "family", "type"),
        )
        responses = CounterMetricFamily(
            "coredns_dns_responses",
            "DNS replies by zone, rcode and the directive that answered.",
            labels=(*_ZONE, "rcode", "plugin"),
        )
        for _, labels, counters in self._counted():
            by_label: dict[tuple[str, str, str], int] = {}
            for (proto, family, qtype), count in counters.requests.items():
                text = iana.type_text(qtype)
                label = (proto, str(family), text if text in COUNTED_TYPES else "other")
                by_label[label] = by_label.get(label, 0) + count
            for asked, count in by_label.items():
                requests.add_metric((*labels, *asked), count)
            by_answerer: dict[tuple[str, str], int] = {}
            for (rcode, by), count in counters.responses.items():
                answered = (iana.rcode_label(rcode), by.partition("/")[0])
                by_answerer[answered] = by_answerer.get(answered, 0) + count
            for answered, count in by_answerer.items():
                responses.add_metric((*labels, *answered), count)
        yield requests
        yield responses
        yield from self._enabled()
        yield from self._sizes_and_durations()
        panics = CounterMetricFamily("coredns_panics", "Queries that made a directive fail.")
        panics.add_metric(
            (), sum(counters.panics for block in self._blocks() for counters in block.by_zone)
        )
        yield panics


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


def _with_exemplars(
    buckets: list[tuple[str, float]], exemplars: Mapping[int, QueryExemplar]
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    made: dict[int, Exemplar] = {}
    for bucket, (qname, ident, seconds, when) in exemplars.items():
        told = qname if len(qname) <= _LONGEST else f"{qname[:_LONGEST]}…"
        made[bucket] = Exemplar({"qname": told, "id": str(ident)}, seconds, when)
    return [
        (*bucket, made[index]) if index in made else bucket for index, bucket in enumerate(buckets)
    ]


def metrics_page(
    blocks: Callable[[], Iterable[Block]],
    samples: Callable[[], Iterable[Sample]],
    *,
    runtime: bool = False,
) -> Callable[[HttpRequest], HttpReply]:
    """What /metrics says: Prometheus's text, or OpenMetrics to who asks for it.

    runtime: with what the collector of cycles has done in this process.
    """
    registry = CollectorRegistry()
    registry.register(BlockCollector(blocks, samples))
    PlatformCollector(registry=registry)
    if runtime:
        GCCollector(registry=registry)

    def page(request: HttpRequest) -> HttpReply:
        encode, content_type = choose_encoder(request.accept)
        return HttpReply(200, encode(registry), content_type)

    return page
