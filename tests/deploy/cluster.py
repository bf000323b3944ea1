"""As much of an API server as `helm install --dry-run=server` asks for: kinds, and objects."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml

Object = dict[str, Any]

KINDS: dict[str, dict[str, str]] = {
    "v1": {
        "configmaps": "ConfigMap",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"daemonsets": "DaemonSet", "deployments": "Deployment"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {
        "clusterrolebindings": "ClusterRoleBinding",
        "clusterroles": "ClusterRole",
    },
}
CLUSTER_WIDE = {"clusterroles", "clusterrolebindings"}


@contextmanager
def cluster(folder: Path, objects: list[Object]) -> Iterator[Path]:
    """A kubeconfig in `folder` for a server on the loopback that has these objects."""
    held = _held(objects)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = held.get(urlsplit(self.path).path)
            status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
            body = json.dumps(found or _absent(self.path)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(server.server_port)))
        yield path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _held(objects: list[Object]) -> dict[str, Object]:
    """What is answered, by path."""
    groups = [version for version in KINDS if "/" in version]
    held: dict[str, Object] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(map(_group, groups))},
    }
    for version, kinds in KINDS.items():
        held[_root(version)] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": [
                {
                    "name": name,
                    "singularName": kind.lower(),
                    "namespaced": name not in CLUSTER_WIDE,
                    "kind": kind,
                    "verbs": ["create", "get", "list"],
                }
                for name, kind in kinds.items()
            ],
        }
        for name, kind in kinds.items():
            there = [found for found in objects if found["kind"] == kind]
            place = f"{_root(version)}/namespaces/kube-system/{name}"
            items = [{"apiVersion": version} | found for found in there]
            held[place] = {"kind": f"{kind}List", "apiVersion": version, "items": items}
            for item, found in zip(items, there, strict=True):
                held[f"{place}/{found['metadata']['name']}"] = item
    return held


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _group(version: str) -> Object:
    known = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [known], "preferredVersion": known}


def _absent(path: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "code": 404,
        "message": f"{path} not found",
    }


def _kubeconfig(port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }
