"""The schemas by which everything rendered is judged see what is wrong."""

from typing import Any

import pytest

from tests.deploy.rendered import complaints
from tests.deploy.restricted import violations

SERVICE: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
MONITOR: dict[str, Any] = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "a"},
}
GOOD: dict[str, Any] = {
    "name": "kdns",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    },
}


def test_a_field_that_kubernetes_does_not_know_is_seen() -> None:
    [text] = complaints([SERVICE | {"spec": {"trafficDistributions": "PreferSameNode"}}])
    assert "trafficDistributions" in text


def test_a_field_of_another_type_is_seen() -> None:
    [text] = complaints([SERVICE | {"spec": {"clusterIP": 10}}])
    assert "spec.clusterIP" in text


def test_a_field_that_the_operator_does_not_know_is_seen() -> None:
    endpoints = [{"port": "metrics", "intervall": "30s"}]
    [text] = complaints([MONITOR | {"spec": {"selector": {}, "endpoints": endpoints}}])
    assert text == "ServiceMonitor a: unknown: .spec.endpoints.0.intervall"


def test_a_field_that_the_operator_wants_is_missed() -> None:
    [text] = complaints([MONITOR | {"spec": {"endpoints": []}}])
    assert "selector" in text


def test_a_pod_can_pass_the_restricted_standard() -> None:
    assert violations({"spec": {"containers": [GOOD]}}) == []


@pytest.mark.parametrize(
    ("spec", "context", "expected"),
    [
        ({"hostNetwork": True}, {}, "hostNetwork must not be set"),
        (
            {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
            {},
            "volume a is of a forbidden kind: ['hostPath']",
        ),
        ({}, {"privileged": True}, "kdns must not be privileged"),
        ({}, {"allowPrivilegeEscalation": True}, "kdns must forbid privilege escalation"),
        ({}, {"capabilities": {}}, "kdns must drop all capabilities"),
        (
            {},
            {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
            "kdns may add NET_BIND_SERVICE only",
        ),
        ({}, {"runAsNonRoot": False}, "kdns must not run as root"),
        ({}, {"runAsUser": 0}, "kdns must not run as root"),
        ({}, {"seccompProfile": {"type": "Unconfined"}}, "kdns must have a seccomp profile"),
        ({}, {"procMount": "Unmasked"}, "kdns must have the default /proc"),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}},
            {},
            "sysctl kernel.msgmax is not a safe one",
        ),
    ],
)
def test_what_the_standard_forbids_is_seen(
    spec: dict[str, Any], context: dict[str, Any], expected: str
) -> None:
    container = GOOD | {"securityContext": GOOD["securityContext"] | context}
    assert violations({"spec": {"containers": [container]} | spec}) == [expected]


def test_a_port_of_the_host_is_seen() -> None:
    container = GOOD | {"ports": [{"hostPort": 53}]}
    [text] = violations({"spec": {"containers": [container]}})
    assert text == "kdns must not take ports of the host"
