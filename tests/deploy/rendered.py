"""What helm and kubectl make of deploy/, and whether a cluster would take it.

helm comes by `make tools`; where it or kubectl is not there, the tests that need it are skipped.
"""

import importlib
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.described import CHART, SOURCE

KUBERNETES = "1.37.0"
"""The version whose schema counts, and that templates are told of."""

OPERATOR = "monitoring.coreos.com/v1"
MODES = ("beside", "replace", "nodelocal")
OVERLAYS = ("beside", "replace", "nodelocal", "kind")

Object = dict[str, Any]

_HELM = next(
    (
        path
        for path in (str(SOURCE / ".venv/bin/helm"), shutil.which("helm"))
        if path and Path(path).exists()
    ),
    None,
)
_KUBECTL = shutil.which("kubectl")

needs_helm = pytest.mark.skipif(_HELM is None, reason="helm is not there: make tools")
needs_kubectl = pytest.mark.skipif(_KUBECTL is None, reason="kubectl is not there")


class Refused(Exception):
    """helm's own words."""


def helm(*arguments: str) -> str:
    """Run helm. Raises Refused."""
    assert _HELM is not None
    done = subprocess.run([_HELM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


@cache
def _template(arguments: tuple[str, ...]) -> str:
    return helm(
        "template", "kdns", str(CHART), "--namespace=kube-system",
        f"--kube-version={KUBERNETES}", *arguments,
    )  # fmt: skip


def chart(*arguments: str, values: object = None) -> list[Object]:
    """The objects of the chart, by arguments of `helm template` and a tree of values."""
    more = [f"--set-json={name}={json.dumps(value)}" for name, value in _items(values)]
    return documents(_template((*arguments, *more)))


def _items(values: object) -> list[tuple[str, object]]:
    return list(values.items()) if isinstance(values, dict) else []


@cache
def _kustomize(overlay: str) -> str:
    assert _KUBECTL is not None
    folder = SOURCE / "deploy/kustomize/overlays" / overlay
    done = subprocess.run(
        [_KUBECTL, "kustomize", folder], capture_output=True, text=True, check=True
    )
    return done.stdout


def overlay(name: str) -> list[Object]:
    """The objects of an overlay."""
    return documents(_kustomize(name))


def documents(text: str) -> list[Object]:
    """The objects in a stream of YAML."""
    return [found for found in yaml.safe_load_all(text) if found]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    [found] = [found for found in objects if found["kind"] == kind]
    return found


def kinds(objects: list[Object]) -> list[str]:
    """Their kinds, sorted."""
    return sorted(found["kind"] for found in objects)


def pods(objects: list[Object]) -> list[Object]:
    """The templates of pods in them."""
    return [found["spec"]["template"] for found in objects if "template" in found.get("spec", {})]


def complaints(objects: list[Object]) -> list[str]:
    """What a cluster's schema, or the Prometheus operator's, has against them."""
    found = [_complaint(json.dumps(one, sort_keys=True)) for one in objects]
    return [text for text in found if text]


@cache
def _complaint(encoded: str) -> str:
    found: Object = json.loads(encoded)
    name = f"{found['kind']} {found['metadata']['name']}"
    if found["apiVersion"] == OPERATOR:
        return _of_operator(found, name)
    try:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
    return ""


def _of_operator(found: Object, name: str) -> str:
    # Its models are some megabytes of source, which mypy need not read.
    models = importlib.import_module("cloudcoil.models.prometheus_operator.v1")
    try:
        read = getattr(models, found["kind"]).model_validate(found)
    except ValueError as error:
        return f"{name}: {error}"
    # A model passes over what it does not know: that is then not in what it says.
    said = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    lost = _lost(found, said, "")
    return f"{name}: unknown: {', '.join(lost)}" if lost else ""


def _lost(given: Any, said: Any, path: str) -> list[str]:
    if isinstance(given, dict) and isinstance(said, dict):
        return [
            place
            for key in given
            for place in (
                _lost(given[key], said[key], f"{path}.{key}") if key in said else [f"{path}.{key}"]
            )
        ]
    if isinstance(given, list) and isinstance(said, list):
        pairs = enumerate(zip(given, said, strict=True))
        return [place for n, (one, other) in pairs for place in _lost(one, other, f"{path}.{n}")]
    return []
