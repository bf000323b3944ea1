"""values.yaml: every value is described, is read by a template, and changes what is rendered."""

import json
import re
from typing import Any

import pytest

from tests.deploy.described import CHART, SCHEMA, VALUES, Value, schema, undescribed, units
from tests.deploy.rendered import Refused, chart, needs_helm

TEXT = VALUES.read_text()
UNITS = units(TEXT)
READ = {
    match
    for path in (CHART / "templates").iterdir()
    for match in re.findall(r"\.Values\.([a-zA-Z0-9.]*[a-zA-Z0-9])", path.read_text())
}

ON: dict[str, Any] = {
    "prometheus": {
        "service": {"enabled": True},
        "monitor": {"enabled": True},
        "rules": {"enabled": True},
    },
    "grafana": {"dashboard": {"enabled": True}},
    "networkPolicy": {"enabled": True},
}
OFF: dict[str, Any] = {}
SCALED: dict[str, Any] = {"autoscaler": {"enabled": True}}
AROUND: dict[str, dict[str, Any]] = {
    "prometheus": ON,
    "grafana": ON,
    "networkPolicy": ON,
    "prometheus.service.enabled": OFF,
    "prometheus.monitor.enabled": OFF,
    "prometheus.rules.enabled": OFF,
    "grafana.dashboard.enabled": OFF,
    "networkPolicy.enabled": OFF,
    "hpa": {"hpa": {"enabled": True}},
    "hpa.enabled": OFF,
    "autoscaler": SCALED,
    "autoscaler.enabled": OFF,
    "nodelocal": {"mode": "nodelocal"},
    "service.clusterIP": {"mode": "replace"},
}
"""The other values by which a value can have an effect at all; the longest path counts."""

OTHERS: dict[str, object] = {
    "mode": "replace",
    "image.pullPolicy": "Always",
    "autoscaler.image.pullPolicy": "Always",
    "service.trafficDistribution": "PreferClose",
    "deployment.dnsPolicy": "ClusterFirst",
    "rbac.pods": True,
    "workers": 2,
    "extraSecrets": [{"name": "other", "mountPath": "/other"}],
    "zoneFiles": [{"filename": "other.db", "contents": "other"}],
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "other"}],
    "servers": [{"port": 53, "plugins": [{"name": "whoami"}]}],
    "extraConfig": {"import": {"parameters": "other"}},
    "state.volume": {"persistentVolumeClaim": {"claimName": "other"}},
    "podDisruptionBudget": {"minAvailable": 1},
    "deployment.selector": {"other": "label"},
}
"""Another value, where its type does not give one."""

NOT_RENDERED = {"rbac.pspEnable", "rbac.multiclusterEnable"}
"""Values whose effect is a word in the notes, which helm shows as it installs, or a refusal."""


def ids(value: Value) -> str:
    return value.dotted


def other(value: Value) -> object:
    """A value that is not the default."""
    if value.dotted in OTHERS:
        return OTHERS[value.dotted]
    match value.default:
        case bool():
            return not value.default
        case int():
            return value.default + 7
        case str():
            return "other"
        case list():
            return [{"name": "other"}]
        case _:
            return {"other": "value"}


def around(value: Value) -> dict[str, Any]:
    names = [".".join(value.path[:length]) for length in range(len(value.path), 0, -1)]
    return next((AROUND[name] for name in names if name in AROUND), OFF)


def flags(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """A tree of values as arguments of helm."""
    found = []
    for key, inner in tree.items():
        here = (*path, key)
        if isinstance(inner, dict):
            found += flags(inner, here)
        else:
            found.append(f"--set-json={'.'.join(here)}={json.dumps(inner)}")
    return found


def test_no_value_is_without_a_description() -> None:
    assert undescribed(TEXT) == []


def test_the_schema_is_that_of_the_values() -> None:
    """`python -m tests.deploy.described` makes it anew."""
    assert json.loads(SCHEMA.read_text()) == schema(TEXT)


def test_every_value_is_read_by_a_template() -> None:
    assert {value.dotted for value in UNITS} - READ == set()


def test_every_value_that_a_template_reads_is_among_the_values() -> None:
    assert READ - {value.dotted for value in UNITS} == set()


@needs_helm
@pytest.mark.parametrize(
    "value", [value for value in UNITS if value.dotted not in NOT_RENDERED], ids=ids
)
def test_a_value_changes_what_is_rendered(value: Value) -> None:
    before = flags(around(value))
    changed = [*before, f"--set-json={value.dotted}={json.dumps(other(value))}"]
    assert chart(*changed) != chart(*before)


@needs_helm
def test_what_is_not_served_is_refused() -> None:
    with pytest.raises(Refused, match=r"rbac\.multiclusterEnable"):
        chart("--set=rbac.multiclusterEnable=true")
