"""kdns in a cluster: its API server, its RBAC, its pods' resolv.conf, and its CoreDNS next door."""

import json
import urllib.request
from collections.abc import Callable

import dns.rcode

from tests.e2e.conftest import NAMESPACE, Server, kubectl, rollout, warnings

RESOLVE = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: many}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: many-1, labels: {kubernetes.io/service-name: many}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [192.0.2.1]}, {addresses: [192.0.2.2]}]
"""


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within some thousand questions: each of them takes its time."""
    return any(holds() for _ in range(5_000))


def cluster_ip(name: str, namespace: str = "default") -> str:
    found = kubectl("--namespace", namespace, "get", "service", name, "--output=json")
    address: str = json.loads(found)["spec"]["clusterIP"]
    return address


def resolved_in_a_pod(namespace: str, pod: str, name: str) -> str:
    """What a pod of the cluster gets from the DNS that kubelet told it of."""
    said = kubectl(
        "--namespace", namespace, "run", pod, "--image=kdns:e2e", "--image-pull-policy=Never",
        "--restart=Never", "--rm", "--stdin", "--quiet",
        "--command", "--", "python3", "-c", RESOLVE, name,
    )  # fmt: skip
    return said.strip().splitlines()[0]


def test_the_api_server_has_its_name(server: Server) -> None:
    assert server.addresses("kubernetes.default.svc.cluster.local") == {cluster_ip("kubernetes")}


def test_a_name_that_is_not_there_is_denied(server: Server) -> None:
    assert server.ask("nothing.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_a_service_answers_once_it_is_made(server: Server, namespace: str) -> None:
    kubectl("--namespace", namespace, "create", "service", "clusterip", "made", "--tcp=80")
    wanted = {cluster_ip("made", namespace)}
    assert eventually(lambda: server.addresses(f"made.{namespace}.svc.cluster.local") == wanted)


def test_a_service_is_denied_once_it_is_deleted(server: Server, namespace: str) -> None:
    kubectl("--namespace", namespace, "create", "service", "clusterip", "gone", "--tcp=80")
    name = f"gone.{namespace}.svc.cluster.local"
    assert eventually(lambda: server.addresses(name) != set())
    kubectl("--namespace", namespace, "delete", "service", "gone")
    assert eventually(lambda: server.ask(name).rcode() == dns.rcode.NXDOMAIN)


def test_a_headless_service_has_the_addresses_of_its_endpoints(
    server: Server, namespace: str
) -> None:
    kubectl("--namespace", namespace, "apply", "--filename=-", stdin=HEADLESS)
    wanted = {"192.0.2.1", "192.0.2.2"}
    assert eventually(lambda: server.addresses(f"many.{namespace}.svc.cluster.local") == wanted)


def test_it_is_watched_for(server: Server) -> None:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    assert 'kdns_watch_age_seconds{resource="services"}' in text


def test_pods_resolve_without_coredns_and_after_it_came_back(
    server: Server, namespace: str
) -> None:
    kubectl("--namespace", NAMESPACE, "scale", "deployment/coredns", "--replicas=0")
    rollout("deployment/coredns")
    wanted = cluster_ip("kubernetes")
    name = "kubernetes.default.svc.cluster.local"
    found = [resolved_in_a_pod(namespace, "without", name)]
    kubectl("--namespace", NAMESPACE, "scale", "deployment/coredns", "--replicas=1")
    rollout("deployment/coredns")
    found.append(resolved_in_a_pod(namespace, "with", name))
    assert found == [wanted, wanted]


def test_the_strictest_standard_takes_its_pods(server: Server) -> None:
    """Of a standard that would be enforced the API server says which pods break it."""
    said = warnings(
        "label", "--dry-run=server", "--overwrite", "--output=name", "namespace", NAMESPACE,
        "pod-security.kubernetes.io/enforce=restricted",
    )  # fmt: skip
    assert "kdns" not in said
