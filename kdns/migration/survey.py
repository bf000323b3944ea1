"""What a cluster's DNS is made of, as its API gives it, under the names that distributions use.

kubeadm, kind   Deployment coredns, k8s-app=kube-dns; Service kube-dns; ConfigMap coredns
k3s             the same labels; NodeHosts beside the Corefile; coredns-custom imported
RKE2            Deployment and Service rke2-coredns-rke2-coredns
EKS             the same as kubeadm; eks.amazonaws.com/component: coredns
AKS             the same; coredns-custom imported; an add-on manager puts changes back
GKE             Deployment kube-dns, which is no CoreDNS; stub domains in ConfigMap kube-dns
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

Json = Mapping[str, Any]
FOLDER = "/etc/coredns"
NAMES = ("coredns", "kube-dns", "rke2-coredns-rke2-coredns")
LABELS = ("k8s-app=kube-dns", "k8s-app=coredns", "app.kubernetes.io/name=coredns")
"""Selectors by which a cluster's DNS is found, the usual one first."""


@dataclass(slots=True)
class Survey:
    """The objects, None or empty where there are none. unread: what could not be looked at."""

    namespace: str = "kube-system"
    deployment: Json | None = None
    service: Json | None = None
    configmaps: dict[str, Json] = field(default_factory=dict)
    roles: list[Json] | None = None
    """The ClusterRoles that are bound to the service account; None when they cannot be read."""
    node_local: Json | None = None
    nodes: list[Json] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def pod(self) -> Json:
        """The pod template's spec, empty without a Deployment."""
        spec: Json = _of(self.deployment, "spec", "template", "spec")
        return spec

    @property
    def container(self) -> Json:
        """The container that answers: the one with port 53, else the first."""
        containers: list[Json] = list(self.pod.get("containers") or [])
        for container in containers:
            if any(port.get("containerPort") == 53 for port in container.get("ports") or []):
                return container
        return containers[0] if containers else {}

    @property
    def account(self) -> str:
        """The service account."""
        return str(self.pod.get("serviceAccountName") or "default")

    @property
    def flavour(self) -> str:
        """Whose cluster this looks like."""
        meta: Json = _of(self.deployment, "metadata")
        marks = " ".join(
            [*(meta.get("labels") or {}), *(meta.get("annotations") or {}), *self._provider_marks()]
        )
        image = str(self.container.get("image") or "")
        if "k8s-dns-kube-dns" in image or "gke" in marks:
            return "GKE"
        for mark, flavour in (
            ("eks.amazonaws.com", "EKS"),
            ("kubernetes.azure.com", "AKS"),
            ("azure:", "AKS"),
            ("rke2", "RKE2"),
            ("k3s", "k3s"),
            ("kind:", "kind"),
        ):
            if mark in marks or mark in str(meta.get("name") or ""):
                return flavour
        if "coredns-custom" in self.configmaps and "NodeHosts" in self.files_of("coredns"):
            return "k3s"
        return "kubeadm"

    def _provider_marks(self) -> Iterator[str]:
        for node in self.nodes:
            yield str(_of(node, "spec").get("providerID") or "")
            yield str(_of(node, "status", "nodeInfo").get("kubeletVersion") or "").replace("+", " ")

    def files_of(self, configmap: str) -> dict[str, str]:
        """The files of a ConfigMap."""
        data: dict[str, str] = dict((self.configmaps.get(configmap) or {}).get("data") or {})
        return data

    def files(self) -> dict[str, str]:
        """What the container finds on its disk, by path."""
        found: dict[str, str] = {}
        mounts = {m.get("name"): m for m in self.container.get("volumeMounts") or []}
        for volume in self.pod.get("volumes") or []:
            mount = mounts.get(volume.get("name"))
            source = volume.get("configMap")
            if mount is None or source is None:
                continue
            held = self.files_of(str(source.get("name") or ""))
            items = source.get("items")
            chosen = {i["key"]: i["path"] for i in items} if items else {k: k for k in held}
            for key, path in chosen.items():
                if key in held:
                    place = posixpath.join(str(mount.get("mountPath")), path)
                    found[posixpath.normpath(place)] = held[key]
        return found

    def corefile(self) -> tuple[str, str] | None:
        """(path, text) of the Corefile that the arguments name; None when there is none."""
        files = self.files()
        path = self._named() or f"{FOLDER}/Corefile"
        if path in files:
            return path, files[path]
        for configmap in NAMES:
            text = self.files_of(configmap).get("Corefile")
            if text is not None:
                return f"{FOLDER}/Corefile", text
        return None

    def _named(self) -> str:
        args = self.arguments()
        for index, arg in enumerate(args):
            flag, _, value = arg.lstrip("-").partition("=")
            if flag == "conf":
                return value or (args[index + 1] if index + 1 < len(args) else "")
        return ""

    def arguments(self) -> list[str]:
        """The arguments of the container."""
        return [str(arg) for arg in self.container.get("args") or []]

    def read(self, pattern: str) -> list[tuple[str, str]]:
        """The files that an import names, for `make_plan`; only what the container can see."""
        place = posixpath.normpath(posixpath.join(FOLDER, pattern))
        return sorted((path, text) for path, text in self.files().items() if fnmatch(path, place))


def _of(tree: Json | None, *path: str) -> Json:
    """A part of an object; empty where there is none."""
    part: Any = tree or {}
    for key in path:
        part = part.get(key) or {}
    found: Json = part
    return found
