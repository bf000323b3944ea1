"""A cluster with kdns in it: the one that KUBECONFIG names, and only if KDNS_E2E is set too.

`make e2e` sets it. The tests put kdns behind kube-dns, scale CoreDNS down and up again, and take
kdns out: a throwaway cluster, please, with the image kdns:e2e in its nodes.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import pytest

SOURCE = Path(__file__).parents[2]
OVERLAY = SOURCE / "deploy/kustomize/overlays/kind"
NAMESPACE = "kube-system"
PATIENCE = "180s"

if not os.environ.get("KDNS_E2E"):
    # Not skipped one by one: nobody who runs `make test` has asked for a cluster.
    collect_ignore_glob = ["test_*"]


def kubectl(*arguments: str | Path, stdin: str | None = None) -> str:
    """What kubectl prints."""
    words = ["kubectl", *map(str, arguments)]
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def warnings(*arguments: str) -> str:
    """What kubectl warns of."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=True)
    return done.stderr


def rollout(what: str) -> None:
    """Wait until the pods of a workload are as its spec says."""
    kubectl("--namespace", NAMESPACE, "rollout", "status", what, f"--timeout={PATIENCE}")


@dataclass(frozen=True, slots=True)
class Server:
    """kdns's DNS port by TCP, and its metrics, on this machine."""

    dns_port: int
    metrics_port: int

    def ask(self, name: str, rdtype: str = "A") -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        return dns.query.tcp(query, "127.0.0.1", port=self.dns_port, timeout=10)

    def addresses(self, name: str) -> set[str]:
        return {str(rdata) for rrset in self.ask(name).answer for rdata in rrset}


@pytest.fixture(scope="session")
def deployed() -> Iterator[None]:
    """kdns behind kube-dns, beside CoreDNS; in the end there are as many of its pods as before."""
    coredns = ("--namespace", NAMESPACE, "get", "deployment/coredns")
    replicas = kubectl(*coredns, "--output=jsonpath={.spec.replicas}")
    kubectl("apply", "--kustomize", OVERLAY)
    try:
        rollout("deployment/kdns")
        yield
    finally:
        kubectl("--namespace", NAMESPACE, "scale", "deployment/coredns", f"--replicas={replicas}")
        rollout("deployment/coredns")
        kubectl("delete", "--kustomize", OVERLAY, "--wait=true")


@pytest.fixture(scope="session")
def server(deployed: None) -> Iterator[Server]:
    """A way to kdns's own pod, whatever else is behind kube-dns."""
    forward = subprocess.Popen(
        ["kubectl", "--namespace", NAMESPACE, "port-forward", "deployment/kdns", ":53", ":9153"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert forward.stdout is not None
        ports: dict[str, int] = {}
        while len(ports) < 2:
            line = forward.stdout.readline()
            assert line, "port-forward ended"
            if found := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line):
                ports[found[2]] = int(found[1])
        yield Server(ports["53"], ports["9153"])
    finally:
        forward.terminate()
        forward.wait()
        assert forward.stdout is not None
        forward.stdout.close()


@pytest.fixture(scope="session")
def namespace(deployed: None) -> Iterator[str]:
    """A namespace for what the tests make."""
    name = "kdns-e2e"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
