"""What is counted of requests to API servers, under the names that CoreDNS has for client-go's."""

from urllib.parse import urlsplit

from kdns.telemetry.histogram import Histogram
from kdns.telemetry.meters import Labels, Meters

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations, seconds: those that Prometheus clients have by default."""
VERB = "GET"
"""Lists and watches are all that we ask."""
ERROR = "<error>"
"""The code of a request that got no status."""
_PREFIX = "coredns_kubernetes_rest_client"


class RequestMeter:
    """Counts requests. `server` is the URL that one goes to."""

    def __init__(self, meters: Meters) -> None:
        self._durations = meters.histogram(
            f"{_PREFIX}_request_duration_seconds",
            "Seconds from a request to the end of a list, or to the beginning of a watch.",
            BOUNDS,
            ("verb", "host"),
        )
        self._put_off = meters.histogram(
            f"{_PREFIX}_rate_limiter_duration_seconds",
            "Seconds that a request was put off, after a failure mostly.",
            BOUNDS,
            ("verb", "host"),
        )
        self._requests = meters.counter(
            f"{_PREFIX}_requests",
            "Requests by the status that they got.",
            ("code", "method", "host"),
        )

    def put_off(self, server: str, seconds: float) -> None:
        """A request is made that waited for so long."""
        _observe(self._put_off, server, seconds)

    def answered(self, server: str, code: int | None) -> None:
        """It got this status; None: it got none."""
        self._requests[str(code or ERROR), VERB, _host(server)] += 1

    def took(self, server: str, seconds: float) -> None:
        """A list was asked for and read, or a watch begun, in so long."""
        _observe(self._durations, server, seconds)


def _host(server: str) -> str:
    return urlsplit(server).netloc


def _observe(held: dict[Labels, Histogram], server: str, seconds: float) -> None:
    labels = (VERB, _host(server))
    if labels not in held:
        held[labels] = Histogram.of(BOUNDS)
    held[labels].observe(BOUNDS, seconds)
