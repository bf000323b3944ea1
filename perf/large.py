"""A large cluster's objects as an API server gives them: with all that DNS has no use for.

What a server must read, and throw away, is most of what it is sent: the owners, node names and
managed fields here are as long as those of a real cluster. Every service has a cluster IP and as
many endpoints as there are for each; every name can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from perf.cluster import HOME, Json, reverse
from perf.workloads import Question

_NAMESPACES: Final = 50
_SLICE_SIZE: Final = 100
_CLUSTER_IPS: Final = int(IPv4Address("10.96.0.10"))
_ENDPOINT_IPS: Final = int(IPv4Address("10.128.0.1"))
_POD_IPS: Final = int(IPv4Address("10.192.0.1"))
_NODES: Final = 1_000
_PER_NODE: Final = 200
_TIME: Final = "2024-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Large:
    """services: how many. endpoints: of all of them together. pods: beside the endpoints.

    headless: how many of the services have no cluster IP; the first ones.
    """

    services: int = 5_000
    endpoints: int = 100_000
    pods: int = 0
    headless: int = 0

    @property
    def each(self) -> int:
        """The endpoints of one service."""
        return self.endpoints // self.services

    def name(self, index: int) -> str:
        """The name of a service."""
        return f"checkout-{index}"

    def namespace(self, index: int) -> str:
        """The namespace of a service, or of a pod."""
        return f"team-{index % _NAMESPACES:02}"

    def host(self, index: int) -> str:
        """The domain name of a service."""
        return f"{self.name(index)}.{self.namespace(index)}.svc.{HOME}"

    def address(self, index: int) -> str:
        """The cluster IP of a service."""
        return str(IPv4Address(_CLUSTER_IPS + index))

    def endpoint_address(self, index: int, number: int, generation: int = 0) -> str:
        """The address of one of a service's endpoints; others in each generation."""
        where = index * self.each + number + generation * self.endpoints
        # Each node has a range of its own, and the endpoints of a service are on many nodes.
        turn, place = divmod(where, _NODES * _PER_NODE)
        node = turn % 16 * _NODES + place % _NODES
        return str(IPv4Address(_ENDPOINT_IPS + node * 256 + place // _NODES))

    def pod_address(self, index: int) -> str:
        """The address of a pod that is no endpoint."""
        return str(IPv4Address(_POD_IPS + index % _NODES * 256 + index // _NODES))

    def questions(self, step: int = 1) -> Iterator[Question]:
        """A of every so-many-eth service with a cluster IP, and PTR of its first endpoint."""
        for index in range(self.headless, self.services, step):
            host, first = self.host(index), self.endpoint_address(index, 0)
            yield Question(host, "A", 0, (self.address(index),))
            label = first.replace(".", "-")
            yield Question(reverse(first), "PTR", 0, (f"{label}.{host}",))

    def rolled(self, index: int, updates: int) -> Question:
        """A of a headless service after so many updates."""
        addresses = [
            self.endpoint_address(index, number, self.generation(number, updates))
            for number in range(self.each)
        ]
        return Question(self.host(index), "A", 0, tuple(addresses))

    def generation(self, number: int, updates: int) -> int:
        """How often an endpoint of a service was replaced: each update replaces the next one."""
        return (updates + self.each - 1 - number) // self.each

    def pod_questions(self, step: int = 1) -> Iterator[Question]:
        """A of every so-many-eth pod by its address, as `pods verified` has them."""
        for index in range(0, self.pods, step):
            address = self.pod_address(index)
            label = address.replace(".", "-")
            host = f"{label}.{self.namespace(index)}.pod.{HOME}"
            yield Question(host, "A", 0, (address,))

    def objects(self) -> Iterator[Json]:
        """All of them."""
        for number in range(_NAMESPACES):
            yield _object("v1", "Namespace", f"team-{number:02}", "", {})
        for index in range(self.services):
            yield self.service(index)
            yield from self.slices(index)
        for index in range(self.pods):
            yield self.pod(index)

    def service(self, index: int) -> Json:
        """A Service."""
        address = self.address(index) if index >= self.headless else "None"
        spec: Json = {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": self.name(index)},
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080},
                {"name": "metrics", "protocol": "TCP", "port": 9090, "targetPort": 9090},
            ],
        }
        rest: Json = {"spec": spec, "status": {"loadBalancer": {}}}
        return _object("v1", "Service", self.name(index), self.namespace(index), rest)

    def slices(self, index: int, updates: int = 0) -> Iterator[Json]:
        """The EndpointSlices of a service, as they are after so many updates."""
        for start in range(0, self.each, _SLICE_SIZE):
            numbers = range(start, min(start + _SLICE_SIZE, self.each))
            yield self.slice(index, numbers, updates)

    def slice(self, index: int, numbers: Sequence[int], updates: int = 0) -> Json:
        """One slice, of these endpoints of a service."""
        name, namespace = self.name(index), self.namespace(index)
        rest: Json = {
            "addressType": "IPv4",
            "endpoints": [self._endpoint(index, n, self.generation(n, updates)) for n in numbers],
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 8080},
                {"name": "metrics", "protocol": "TCP", "port": 9090},
            ],
        }
        labels = {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": name,
        }
        annotations = {"endpoints.kubernetes.io/last-change-trigger-time": _TIME}
        made = _object(
            "discovery.k8s.io/v1", "EndpointSlice", f"{name}-{numbers[0]:05x}", namespace, rest
        )
        metadata = made["metadata"]
        assert isinstance(metadata, dict)
        metadata |= {"labels": labels, "annotations": annotations}
        return made

    def pod(self, index: int) -> Json:
        """A running pod, without the containers that kdns is never sent by nobody's choice."""
        address = self.pod_address(index)
        containers = [
            {
                "name": "main",
                "image": f"registry.example/shop/batch:{index % 97}",
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }
        ]
        spec: Json = {
            "containers": containers,
            "nodeName": _node(index),
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
        }
        status: Json = {
            "phase": "Running",
            "hostIP": f"192.168.{index % 250}.7",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": _TIME,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": _TIME}
                for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
        }
        name = f"batch-{index // 10}-7d9f8b6c5d-{index:05x}"
        return _object("v1", "Pod", name, self.namespace(index), {"spec": spec, "status": status})

    def _endpoint(self, index: int, number: int, generation: int) -> Json:
        pod = f"{self.name(index)}-7d9f8b6c5d-{generation:x}{number:04x}"
        return {
            "addresses": [self.endpoint_address(index, number, generation)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": _node(number),
            "targetRef": {
                "kind": "Pod",
                "namespace": self.namespace(index),
                "name": pod,
                "uid": f"00000000-0000-4000-8000-{index:06x}{number:06x}",
            },
            "zone": f"zone-{number % 3}",
        }


def _node(number: int) -> str:
    return f"worker-{number % _NODES:04}.nodes.example"


def _object(version: str, kind: str, name: str, namespace: str, rest: Json) -> Json:
    """With the metadata of an object that a controller keeps."""
    metadata: Json = {
        "name": name,
        "creationTimestamp": _TIME,
        "labels": {"app": name, "app.kubernetes.io/managed-by": "deployer"},
        "managedFields": [
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "apiVersion": version,
                "time": _TIME,
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:annotations": {".": {}}},
                    "f:spec": {"f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}}}},
                },
            }
        ],
    }
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | rest
