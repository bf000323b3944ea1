"""DNS programming latency: which changes are measured, from when, and under which names."""

import pytest

from kdns.cluster import objects
from kdns.cluster.model import TRIGGER_TIME
from kdns.cluster.objects import EndpointSlice, Meta, Resource, Service, ServiceSpec
from kdns.cluster.state import Cluster
from kdns.plugins.programming import BOUNDS, measure
from kdns.telemetry.meters import Meters, Sample

NAMES = ("coredns_kubernetes_dns_programming_duration_seconds", "kdns_programming_duration_seconds")
TRIGGERED = 1_700_000_000.0
WRITTEN = "2023-11-14T22:13:20Z"


def slice_of(service: str, *addresses: str, written: str | None = WRITTEN) -> EndpointSlice:
    return EndpointSlice(
        Meta(
            "s",
            "a",
            labels={"kubernetes.io/service-name": service},
            annotations={TRIGGER_TIME: written} if written else None,
        ),
        endpoints=[objects.Endpoint([address]) for address in addresses],
    )


class Scene:
    """A cluster with two services, whose slices are in sync; it is half a second after WRITTEN."""

    def __init__(self) -> None:
        self.now = TRIGGERED + 0.5
        self.cluster = Cluster(lambda: self.now, print)
        self.meters = Meters()
        measure(self.cluster, self.meters, lambda: self.now)
        for name, address in (("plain", "10.0.0.1"), ("headless", "None")):
            spec = ServiceSpec(cluster_ip=address)
            self.cluster.apply(Resource.SERVICES, Service(Meta(name, "a"), spec))

    def tell(self, obj: EndpointSlice) -> None:
        self.cluster.apply(Resource.ENDPOINTSLICES, obj)

    @property
    def samples(self) -> list[Sample]:
        return sorted(self.meters.sample(), key=lambda sample: sample.name)

    @property
    def counted(self) -> dict[str, int]:
        """Observations by kind of service."""
        return {kind: sum(held.counts) for (kind,), held in self.samples[0].histograms}


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.cluster.sweep(Resource.ENDPOINTSLICES, set())
    return made


def test_the_time_from_the_trigger_to_the_answer_is_measured(scene: Scene) -> None:
    scene.tell(slice_of("plain", "10.1.0.1"))
    assert [sample.name for sample in scene.samples] == list(NAMES)
    for sample in scene.samples:
        ((labels, held),) = sample.histograms
        assert labels == ("cluster_ip",)
        assert held.sum == 0.5
        assert held.counts[BOUNDS.index(0.512)] == 1


def test_the_buckets_are_those_that_dashboards_know(scene: Scene) -> None:
    assert scene.samples[0].bounds[0] == 0.001
    assert scene.samples[0].bounds[-1] == 0.001 * 2**19
    assert scene.samples[0].labels == ("service_kind",)


def test_headless_services_are_counted_apart(scene: Scene) -> None:
    scene.tell(slice_of("headless", "10.1.0.1"))
    assert scene.counted == {"headless_with_selector": 1}


def test_what_changes_no_answer_is_not_counted(scene: Scene) -> None:
    scene.tell(slice_of("plain", "10.1.0.1"))
    scene.now += 60
    scene.tell(slice_of("plain", "10.1.0.1"))
    assert scene.counted == {"cluster_ip": 1}


def test_what_was_there_when_we_started_is_not_counted() -> None:
    scene = Scene()
    scene.tell(slice_of("plain", "10.1.0.1"))
    assert scene.counted == {}


def test_what_is_only_remembered_does_not_count_as_known() -> None:
    scene = Scene()
    scene.cluster.assume(Resource.ENDPOINTSLICES)
    scene.tell(slice_of("plain", "10.1.0.1"))
    assert scene.counted == {}


def test_a_slice_that_nobody_has_dated_or_owns_is_not_counted(scene: Scene) -> None:
    scene.tell(slice_of("plain", "10.1.0.1", written=None))
    scene.tell(slice_of("plain", "10.1.0.2", written="yesterday"))
    scene.tell(slice_of("unknown", "10.1.0.3"))
    scene.tell(slice_of("no.label", "10.1.0.4"))
    assert scene.counted == {}


def test_other_objects_are_not_counted(scene: Scene) -> None:
    scene.cluster.sweep(Resource.NAMESPACES, set())
    namespace = objects.Namespace(Meta("b", annotations={TRIGGER_TIME: WRITTEN}))
    scene.cluster.apply(Resource.NAMESPACES, namespace)
    assert scene.counted == {}


def test_a_clock_ahead_of_ours_gives_no_negative_time(scene: Scene) -> None:
    scene.now = TRIGGERED - 5
    scene.tell(slice_of("plain", "10.1.0.1"))
    assert scene.samples[0].histograms[0][1].sum == 0
