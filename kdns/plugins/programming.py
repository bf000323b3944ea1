"""How long it takes until a change in the cluster is answered: Kubernetes' DNS programming latency.

The EndpointSlice controller writes into a slice when what made it change had happened. The time
from then until the slice is applied here, after which no answer is from before it, is measured;
only for changes that a watch or a relist tells, not for what was there when we started.
"""

from collections.abc import Callable
from datetime import datetime

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.model import Kind
from kdns.cluster.state import Cluster
from kdns.telemetry.histogram import Histogram
from kdns.telemetry.meters import Meters

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
BOUNDS = tuple(0.001 * 2**k for k in range(20))
"""Upper bounds in seconds, 1 ms to about nine minutes: CoreDNS's."""
# The controller knows only services that have a selector; the third kind of the Kubernetes SLI,
# headless_without_selector, has slices that nobody dates.
KINDS = {Kind.CLUSTER_IP: "cluster_ip", Kind.HEADLESS: "headless_with_selector"}
_HELP = "Seconds from what changed a service's endpoints until it was answered, by kind of service."


def measure(cluster: Cluster, meters: Meters, now: Callable[[], float]) -> None:
    """Have what `cluster` is told from now on be counted. now: seconds since the epoch."""
    counted = [
        meters.histogram(f"{who}_programming_duration_seconds", _HELP, BOUNDS, ("service_kind",))
        for who in ("kdns", "coredns_kubernetes_dns")
    ]

    def changed(obj: objects.Object) -> None:
        trigger = trigger_time(obj)
        kind = _kind(cluster, obj)
        if trigger is None or kind is None:
            return
        for histograms in counted:
            held = histograms.setdefault((kind,), Histogram.of(BOUNDS))
            held.observe(BOUNDS, max(0.0, now() - trigger))  # their clock may be ahead of ours

    cluster.on_changed = changed


def trigger_time(obj: objects.Object) -> float | None:
    """When what made a slice change happened, in seconds since the epoch; None if nobody says."""
    text = (obj.metadata.annotations or {}).get(TRIGGER_TIME, "")
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _kind(cluster: Cluster, obj: objects.Object) -> str | None:
    """Of the service that a slice belongs to, if there is one."""
    if not isinstance(obj, objects.EndpointSlice):
        return None
    owner = (obj.metadata.labels or {}).get(model.SERVICE_NAME_LABEL, "")
    try:
        service = cluster.services.get(model.service_key(obj.metadata.namespace, owner))
    except ObjectError:
        return None
    return KINDS.get(service.kind) if service is not None else None
