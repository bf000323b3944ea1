"""What endpoints count, for metrics: of those that are open, and of those that were."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from kdns.endpoint import Endpoint
from kdns.telemetry.meters import Labels, Meters

_COUNTERS: Final = {
    "kdns_udp_receive_drops": "Queries that the kernel dropped, for want of room or as told.",
    "kdns_unserved_queries": "Messages that no block was asked about: unreadable, or of no zone.",
    "kdns_dropped": "Queries without an answer because there was too much to do, by their kind.",
    "coredns_shed_dropped": "What was dropped under overload: queries, and responses.",
    "kdns_tcp_closed": "Connections closed for others' sake: for room, or for what they held.",
    "kdns_tls_handshakes": "Handshakes of clients over TLS, by what they came to.",
}
_GAUGES: Final = {
    "kdns_shedding": "Sockets that turn new outside names away, since not all can be answered.",
    "kdns_tcp_connections": "Connections of clients.",
}
_LABELS: Final = {
    "kdns_dropped": ("reason",),
    "kdns_tcp_closed": ("reason",),
    "kdns_tls_handshakes": ("outcome",),
    "coredns_shed_dropped": ("server", "reason"),
}
Key = tuple[str, Labels]


class EndpointCounts:
    """opened: gives the endpoints that are open."""

    def __init__(self, opened: Callable[[], Iterable[Endpoint]]) -> None:
        self._opened = opened
        self._past: Counter[Key] = Counter()

    def keep(self, endpoint: Endpoint, dropped: int) -> None:
        """Go on counting what an endpoint had counted that is closed now.

        dropped: by the kernel; it says so only while sockets are open.
        """
        self._past.update(_counted(endpoint, dropped))

    def watch(self, meters: Meters) -> None:
        """Have all of it among the metrics."""
        for name, text in _COUNTERS.items():
            meters.watch("counter", name, text, _LABELS.get(name, ()), self._reader(name))
        for name, text in _GAUGES.items():
            meters.watch("gauge", name, text, (), self._reader(name))

    def _reader(self, name: str) -> Callable[[], Iterable[tuple[Labels, float]]]:
        def read() -> Iterable[tuple[Labels, float]]:
            total = self._past.copy()
            for endpoint in self._opened():
                total.update(_counted(endpoint, endpoint.kernel_drops()))
                total["kdns_shedding", ()] += endpoint.shedding()
                total["kdns_tcp_connections", ()] += endpoint.connections()
            return [(labels, number) for (named, labels), number in total.items() if named == name]

        return read


def _counted(endpoint: Endpoint, dropped: int) -> dict[Key, int]:
    outside, greedy = endpoint.turned_away()
    evicted, expelled = endpoint.closed_connections()
    counted: dict[Key, int] = {
        ("kdns_udp_receive_drops", ()): dropped,
        ("kdns_unserved_queries", ()): endpoint.dispatcher.unserved,
        ("kdns_dropped", ("outside",)): outside,
        ("kdns_dropped", ("greedy",)): greedy,
        ("kdns_tcp_closed", ("room",)): evicted,
        ("kdns_tcp_closed", ("held",)): expelled,
    }
    for outcome, times in endpoint.handshakes().items():
        counted["kdns_tls_handshakes", (outcome,)] = times
    if endpoint.shed_label:
        counted["coredns_shed_dropped", (endpoint.shed_label, "query")] = outside + greedy
        counted["coredns_shed_dropped", (endpoint.shed_label, "response")] = endpoint.unsent()
    return counted
