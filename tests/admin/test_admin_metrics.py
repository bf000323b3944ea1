"""CoreDNS's metrics, by CoreDNS's names and labels."""

import platform

from prometheus_client.parser import text_string_to_metric_families

import kdns
from kdns.admin.metrics import COUNTED_TYPES, metrics_page
from kdns.plugins.block import Block
from kdns.plugins.parts import HttpRequest
from kdns.telemetry.histogram import SECONDS, Histogram
from kdns.telemetry.meters import Meters
from kdns.telemetry.process import watch_process
from kdns.wire import iana
from kdns.wire.iana import Rcode

Labels = tuple[tuple[str, str], ...]


def scraped(*blocks: Block, meters: Meters | None = None) -> dict[tuple[str, Labels], float]:
    """Every sample of a scrape, which holds none twice."""
    reply = metrics_page(lambda: blocks, (meters or Meters()).sample)(HttpRequest({}))
    assert reply.status == 200
    assert reply.content_type.startswith("text/plain; version=")
    samples = [
        ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    ]
    assert len(dict(samples)) == len(samples)
    return dict(samples)


def labels(**given: str) -> Labels:
    return tuple(sorted(given.items()))


def block(zone: str = ".", label: str = "dns://:53") -> Block:
    return Block((zone, "second.example."), label=label, counted=True)


def test_the_build_is_told() -> None:
    told = labels(
        version=f"kdns-{kdns.__version__}",
        revision="",
        goversion=f"python{platform.python_version()}",
    )
    assert scraped()["coredns_build_info", told] == 1


def test_the_process_is_told() -> None:
    meters = Meters()
    watch_process(meters, whole=True)
    names = {name for name, _ in scraped(meters=meters)}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= names
    assert "process_open_fds" in names


def test_requests_are_told_by_server_zone_proto_family_and_type() -> None:
    served = block()
    served.counters.requests = {("udp", 1, iana.A): 3, ("tcp", 2, iana.AAAA): 1}
    found = scraped(served)
    common = {"server": "dns://:53", "zone": ".", "view": ""}
    name = "coredns_dns_requests_total"
    assert found[name, labels(**common, proto="udp", family="1", type="A")] == 3
    assert found[name, labels(**common, proto="tcp", family="2", type="AAAA")] == 1


def test_types_that_nobody_counts_are_one_label() -> None:
    served = block()
    served.counters.requests = {("udp", 1, qtype): 1 for qtype in range(1000)}
    found = {
        dict(told)["type"]: value
        for (name, told), value in scraped(served).items()
        if name == "coredns_dns_requests_total"
    }
    assert found.keys() == COUNTED_TYPES | {"other"}
    assert found["other"] == 1000 - len(COUNTED_TYPES)


def test_responses_are_told_by_rcode_and_directive() -> None:
    served = block()
    served.counters.responses = {
        (Rcode.NOERROR, "kubernetes"): 2,
        (Rcode.REFUSED, ""): 1,
        (3841, "forward"): 1,
    }
    found = scraped(served)
    common = {"server": "dns://:53", "zone": ".", "view": ""}
    name = "coredns_dns_responses_total"
    assert found[name, labels(**common, rcode="NOERROR", plugin="kubernetes")] == 2
    assert found[name, labels(**common, rcode="REFUSED", plugin="")] == 1
    assert found[name, labels(**common, rcode="other", plugin="forward")] == 1


def test_blocks_are_told_apart_and_those_without_prometheus_left_out() -> None:
    counted, other, uncounted = block(), block("a.", "dns://127.0.0.1:54"), Block(("b.",))
    for each in (counted, other, uncounted):
        each.counters.requests = {("udp", 1, iana.A): 1}
    zones = {
        (dict(told)["zone"], dict(told)["server"])
        for name, told in scraped(counted, other, uncounted)
        if name == "coredns_dns_requests_total"
    }
    assert zones == {(".", "dns://:53"), ("a.", "dns://127.0.0.1:54")}


def test_panics_of_all_blocks_are_one_count() -> None:
    first, second = block(), Block(("b.",))
    first.counters.panics, second.counters.panics = 2, 1
    assert scraped(first, second)["coredns_panics_total", ()] == 3
    assert scraped()["coredns_panics_total", ()] == 0


def test_a_scrape_tells_what_is_true_at_its_time() -> None:
    served = block()
    page = metrics_page(lambda: [served], list)
    before = page(HttpRequest({})).body
    served.counters.panics += 1
    assert b"coredns_panics_total 0.0" in before
    assert b"coredns_panics_total 1.0" in page(HttpRequest({})).body


def test_what_directives_count_is_written_with_their_labels() -> None:
    meters = Meters()
    meters.counter("kdns_words", "Words.", ("kind",))[("long",)] += 2
    meters.gauge("kdns_height", "Height.")[()] = 1.5
    durations = meters.histogram("kdns_took_seconds", "Seconds.", (0.5, 1.0))
    durations[()] = Histogram.of((0.5, 1.0))
    durations[()].observe((0.5, 1.0), 0.75)
    found = scraped(meters=meters)
    assert found["kdns_words_total", labels(kind="long")] == 2
    assert found["kdns_height", ()] == 1.5
    assert found["kdns_took_seconds_bucket", labels(le="0.5")] == 0
    assert found["kdns_took_seconds_bucket", labels(le="1.0")] == 1
    assert found["kdns_took_seconds_sum", ()] == 0.75


def open_metrics(*blocks: Block) -> str:
    reply = metrics_page(lambda: blocks, list)(HttpRequest({}, "application/openmetrics-text"))
    assert reply.content_type.startswith("application/openmetrics-text")
    return reply.body.decode()


def test_who_takes_openmetrics_gets_exemplars() -> None:
    served = block()
    served.counters.durations.observe(SECONDS, 1.5)
    served.counters.exemplars[13] = ("a.example.", 7, 1.5, 1700000000.25)
    (line,) = [line for line in open_metrics(served).splitlines() if " # " in line]
    assert line == (
        'coredns_dns_request_duration_seconds_bucket{le="2.048",server="dns://:53",view="",zone="."}'
        ' 1.0 # {id="7",qname="a.example."} 1.5 1700000000.25'
    )


def test_a_name_in_an_exemplar_is_cut_to_what_openmetrics_allows() -> None:
    served = block()
    served.counters.exemplars[0] = ("x" * 250, 65535, 0.0, 0.0)
    (line,) = [line for line in open_metrics(served).splitlines() if " # " in line]
    assert f'qname="{"x" * 100}…"' in line


def test_prometheus_s_own_text_has_no_exemplars() -> None:
    served = block()
    served.counters.exemplars[0] = ("a.", 7, 0.0, 0.0)
    reply = metrics_page(lambda: [served], list)(HttpRequest({}, "text/plain"))
    assert b" # " not in reply.body


def test_of_two_processes_the_later_exemplar_is_told() -> None:
    one, other = block().counters, block().counters
    one.exemplars = {0: ("old.", 1, 0.0, 1.0), 1: ("only.", 1, 0.0, 1.0)}
    other.exemplars = {0: ("new.", 1, 0.0, 2.0)}
    one.add(other)
    assert {bucket: told[0] for bucket, told in one.exemplars.items()} == {0: "new.", 1: "only."}


def test_the_directives_of_each_zone_are_told() -> None:
    served = block()
    served.enabled = ("errors", "forward")
    told = {
        (dict(labels)["zone"], dict(labels)["name"])
        for name, labels in scraped(served)
        if name == "coredns_plugin_enabled"
    }
    assert told == {(z, n) for z in (".", "second.example.") for n in ("errors", "forward")}


def test_runtime_metrics_tell_of_the_collector_of_cycles() -> None:
    reply = metrics_page(list, list, runtime=True)(HttpRequest({}))
    assert b"python_gc_collections_total" in reply.body
