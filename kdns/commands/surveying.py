"""Reads what a cluster's DNS is made of: its Deployment, Service, ConfigMaps and rights."""

from typing import Any, Protocol

from kdns.kube.reading import ReadingError
from kdns.migration.survey import LABELS, NAMES, Survey

RBAC = "/apis/rbac.authorization.k8s.io/v1"
APPS = "/apis/apps/v1"


class Reads(Protocol):
    """The part of `Reader` that is needed."""

    async def get(self, path: str) -> Any | None:
        """One object, or None."""

    async def items(self, path: str, **query: str) -> list[Any]:
        """All objects of a collection."""


async def survey(reader: Reads, namespace: str) -> Survey:
    """Look at everything once. Raises ReadingError when not even Deployments can be read."""
    found = Survey(namespace)
    found.deployment = await _labelled(reader, f"{APPS}/namespaces/{namespace}/deployments")
    found.service = await _labelled(reader, f"/api/v1/namespaces/{namespace}/services")
    await _read_configmaps(reader, found)
    await _read_roles(reader, found)
    try:
        path = f"{APPS}/namespaces/{namespace}/daemonsets"
        caches = await reader.items(path, labelSelector="k8s-app=node-local-dns")
        found.node_local = caches[0] if caches else None
        found.nodes = (await reader.items("/api/v1/nodes"))[:1]
    except ReadingError as error:
        found.unread.append(str(error))
    return found


async def _labelled(reader: Reads, path: str) -> Any | None:
    """The object of DNS in a collection: by its usual labels, else by its usual names."""
    for selector in LABELS:
        items = await reader.items(path, labelSelector=selector)
        # k8s-app=kube-dns is on metrics services and autoscalers of some distributions too.
        items.sort(key=lambda item: _rank(item["metadata"]["name"]))
        if items:
            return items[0]
    for name in NAMES:
        if (found := await reader.get(f"{path}/{name}")) is not None:
            return found
    return None


def _rank(name: str) -> tuple[int, str]:
    order = ("kube-dns", "coredns", "rke2-coredns-rke2-coredns")
    return (order.index(name) if name in order else len(order)), name


async def _read_configmaps(reader: Reads, found: Survey) -> None:
    volumes = [volume.get("configMap") for volume in found.pod.get("volumes") or []]
    named = [str(source.get("name")) for source in volumes if source]
    for name in dict.fromkeys([*named, *NAMES, "coredns-custom"]):
        path = f"/api/v1/namespaces/{found.namespace}/configmaps/{name}"
        try:
            held = await reader.get(path)
        except ReadingError as error:
            found.unread.append(str(error))
            continue
        if held is not None:
            found.configmaps[name] = held


async def _read_roles(reader: Reads, found: Survey) -> None:
    if found.deployment is None:
        return
    subject = ("ServiceAccount", found.namespace, found.account)
    try:
        bindings = await reader.items(f"{RBAC}/clusterrolebindings")
        names = {
            binding["roleRef"]["name"]
            for binding in bindings
            for one in binding.get("subjects") or []
            if (one.get("kind"), one.get("namespace"), one.get("name")) == subject
        }
        roles = [await reader.get(f"{RBAC}/clusterroles/{name}") for name in sorted(names)]
    except ReadingError as error:
        found.unread.append(str(error))
        return
    found.roles = [role for role in roles if role is not None]
