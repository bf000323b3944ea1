"""The objects of a cluster by what a name says, those that a directive hides included."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.plugins.kubernetes import Kubernetes
from kdns.wire.name import MAX_LABEL

NEAR = 3
"""Near matches at most."""


def near(wrong: str, known: Iterable[str]) -> list[str]:
    """The names that `wrong` may have been meant to be, the nearest first."""
    return get_close_matches(wrong, sorted(set(known)), NEAR)


@dataclass(slots=True, frozen=True)
class Endpoint:
    """One address of a slice: label is its name, text says it to people."""

    label: str
    address: str
    ready: bool
    pod: str

    @property
    def text(self) -> str:
        """The address, and the pod behind it."""
        return f"{self.address} (pod {self.pod})" if self.pod else self.address


class World:
    """A cluster as a `kubernetes` directive with these settings sees it, and what it leaves out."""

    def __init__(self, items: Iterable[objects.Object], settings: Kubernetes) -> None:
        self.settings = settings
        self.namespaces: dict[str, objects.Namespace] = {}
        self.services: dict[tuple[str, str], objects.Service] = {}
        self.pods: dict[tuple[str, str], objects.Pod] = {}
        self._slices: dict[tuple[str, str], list[objects.EndpointSlice]] = {}
        for item in items:
            key = item.metadata.namespace, item.metadata.name
            match item:
                case objects.Namespace():
                    self.namespaces[item.metadata.name] = item
                case objects.Service():
                    self.services[key] = item
                case objects.Pod():
                    self.pods[key] = item
                case objects.EndpointSlice():
                    owner = (item.metadata.labels or {}).get(model.SERVICE_NAME_LABEL, "")
                    self._slices.setdefault((key[0], owner), []).append(item)

    def slices(self, namespace: str, service: str) -> list[objects.EndpointSlice]:
        """The slices that the directive sees of a service."""
        held = self._slices.get((namespace, service), [])
        return [] if self.settings.no_endpoints else [s for s in held if not self.hidden(s)]

    def endpoints(self, namespace: str, service: str) -> list[Endpoint]:
        """The endpoints of a service, ready or not."""
        return [one for held in self.slices(namespace, service) for one in self._of_slice(held)]

    def has_ready(self, held: objects.EndpointSlice) -> bool:
        """Whether any endpoint of a slice is ready."""
        return any(endpoint.ready for endpoint in self._of_slice(held))

    def _of_slice(self, held: objects.EndpointSlice) -> Iterator[Endpoint]:
        for endpoint in held.endpoints or ():
            pod = (endpoint.target_ref and endpoint.target_ref.name) or ""
            ready = endpoint.conditions is None or endpoint.conditions.ready is not False
            for address in endpoint.addresses or ():
                own = pod if self.settings.endpoint_pod_names and _is_label(pod) else ""
                yield Endpoint(endpoint.hostname or own or dashed(address), address, ready, pod)

    def owners_of(self, address: str) -> Iterator[tuple[str, str, Endpoint]]:
        """(namespace, service, endpoint) of every endpoint of this address."""
        for namespace, service in self._slices:
            for endpoint in self.endpoints(namespace, service):
                if endpoint.address == address:
                    yield namespace, service, endpoint

    def hidden(self, item: objects.Object) -> str:
        """Why the directive does not see an object; "" when it does."""
        settings = self.settings
        if isinstance(item, objects.Namespace):
            return self.hidden_namespace(item.metadata.name)
        if settings.labels is not None and not settings.labels.matches(item.metadata.labels):
            return f"labels {settings.labels}"
        return ""

    def unlisted(self, namespace: str) -> str:
        """The `namespaces` that leave one out, there or not; "" when they do not."""
        listed = self.settings.namespaces
        return f"namespaces {' '.join(listed)}" if listed and namespace not in listed else ""

    def hidden_namespace(self, text: str) -> str:
        """Why a namespace that is there is not shown; "" when it is."""
        settings = self.settings
        if unlisted := self.unlisted(text):
            return unlisted
        labels = self.namespaces[text].metadata.labels
        if settings.namespace_labels is not None and not settings.namespace_labels.matches(labels):
            return f"namespace_labels {settings.namespace_labels}"
        return ""

    def selected(self, service: objects.Service) -> list[objects.Pod]:
        """The pods that a service's selector matches."""
        wanted = service.spec.selector or {}
        return [
            pod
            for (namespace, _), pod in self.pods.items()
            if namespace == service.metadata.namespace
            and wanted.items() <= (pod.metadata.labels or {}).items()
        ]


def _is_label(text: str) -> bool:
    return "." not in text and len(text) <= MAX_LABEL


def dashed(address: str) -> str:
    """The label of an address; "" for what is none."""
    try:
        return model.dashed(model.address(address, "address"))[1:].decode()
    except ObjectError:
        return ""
