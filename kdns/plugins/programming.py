"""How long it takes until a change in the cluster is answered: Kubernetes' DNS programming latency.

The EndpointSlice controller writes into a slice when what made it change had happened. The time
from then until the slice is applied here, after which no answer is from before it, is measured;
only for changes that a watch or a relist tells, not for what was there when we started.
"""

from collections.abc import Callable

from kdns.cluster import model
from kdns.cluster.model import Kind
from kdns.cluster.state import Cluster
from kdns.telemetry.histogram import Histogram
from kdns.telemetry.meters import Meters

BOUNDS = tuple(0.001 * 2**k for k in range(20))
"""Upper bounds in seconds, 1 ms to about nine minutes: CoreDNS's."""
# The controller knows only services that have a selector; the third kind of the Kubernetes SLI,
# headless_without_selector, has slices that nobody dates.
KINDS = {Kind.CLUSTER_IP: "cluster_ip", Kind.HEADLESS: "headless_with_selector"}
_HELP = "Seconds from what changed a service's endpoints until it was answered, by kind of service."


def measure(cluster: Cluster, meters: Meters, now: Callable[[], float]) -> None:
    """Have what `cluster` is told from now on be counted. now: seconds since the epoch."""
    counted = [
        meters.histogram(metric, _HELP, BOUNDS, ("service_kind",))
        for metric in (
            "kdns_programming_duration_seconds",
            "coredns_kubernetes_dns_programming_duration_seconds",
        )
    ]

    def changed(obj: model.Object, triggered: float) -> None:
        kind = _kind(cluster, obj)
        if kind is None:
            return
        for histograms in counted:
            held = histograms.get((kind,))
            if held is None:
                held = histograms[kind,] = Histogram.of(BOUNDS)
            held.observe(BOUNDS, max(0.0, now() - triggered))  # their clock may be ahead of ours

    cluster.on_changed = changed


def _kind(cluster: Cluster, obj: model.Object) -> str | None:
    """Of the service that a slice belongs to, if there is one."""
    service = cluster.services.get(obj.service) if isinstance(obj, model.Slice) else None
    return KINDS.get(service.kind) if service is not None else None
