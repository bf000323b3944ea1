"""Requests to an API server are counted as CoreDNS's client counts them."""

from kdns.kube.requests import RequestMeter
from kdns.telemetry.meters import Meters


def test_requests_are_told_by_status_method_and_host() -> None:
    meters = Meters()
    meter = RequestMeter(meters)
    for code in (200, 200, 503, None):
        meter.answered("https://10.96.0.1:443/prefix", code)
    (requests,) = [s for s in meters.sample() if s.kind == "counter"]
    assert requests.name == "coredns_kubernetes_rest_client_requests"
    assert dict(requests.numbers) == {
        ("200", "GET", "10.96.0.1:443"): 2,
        ("503", "GET", "10.96.0.1:443"): 1,
        ("<error>", "GET", "10.96.0.1:443"): 1,
    }


def test_how_long_they_take_and_wait_are_told_by_verb_and_host() -> None:
    meters = Meters()
    meter = RequestMeter(meters)
    meter.took("http://a:1", 0.02)
    meter.took("http://a:1", 0.2)
    meter.put_off("http://a:1", 0.0)
    sums = {
        s.name.removeprefix("coredns_kubernetes_rest_client_"): {
            labels: (sum(h.counts), round(h.sum, 9)) for labels, h in s.histograms
        }
        for s in meters.sample()
        if s.kind == "histogram"
    }
    assert sums == {
        "request_duration_seconds": {("GET", "a:1"): (2, 0.22)},
        "rate_limiter_duration_seconds": {("GET", "a:1"): (1, 0.0)},
    }
