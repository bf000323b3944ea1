"""The Pod Security Standard `restricted`, control by control, of the fields that our pods have.

Source: Kubernetes, Pod Security Standards, "Baseline" and "Restricted".
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
}  # fmt: skip


def violations(template: dict[str, Any]) -> list[str]:
    """What the standard forbids, of the template of a pod."""
    spec = template["spec"]
    return [*_of_pod(spec), *(text for one in _containers(spec) for text in _of(one, spec))]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} must not be set"
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of a forbidden kind: {sorted(kinds - VOLUMES)}"
    for sysctl in spec.get("securityContext", {}).get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"


def _of(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    both = spec.get("securityContext", {}) | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield f"{name} must not be privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} must forbid privilege escalation"
    if capabilities.get("drop") != ["ALL"]:
        yield f"{name} must drop all capabilities"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield f"{name} may add NET_BIND_SERVICE only"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield f"{name} must not run as root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} must have a seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} must not take ports of the host"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} must have the default /proc"
