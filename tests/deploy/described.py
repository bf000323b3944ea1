"""What values.yaml says of each value: its path, its default, and the comment above it.

The schema of the chart is made from that: `python -m tests.deploy.described` writes it anew.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

SOURCE = Path(__file__).parents[2]
CHART = SOURCE / "deploy/helm/kdns"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"

TYPES: dict[str, object] = {
    "mode": {"enum": ["beside", "replace", "nodelocal"]},
    "image.tag": {"type": ["string", "number"]},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "autoscaler.image.tag": {"type": ["string", "number"]},
    "rollingUpdate.maxUnavailable": {"type": ["integer", "string"]},
    "rollingUpdate.maxSurge": {"type": ["integer", "string"]},
    "rbac.pods": {"type": ["boolean", "null"]},
    "workers": {"type": ["integer", "null"], "minimum": 1},
    "podDisruptionBudget": {"type": ["object", "null"]},
    "preStopSleep": {"type": "integer", "minimum": 0},
    "service.trafficDistribution": {
        "enum": ["", "PreferClose", "PreferSameZone", "PreferSameNode"],
    },
    "deployment.dnsPolicy": {
        "enum": ["Default", "ClusterFirst", "ClusterFirstWithHostNet", "None"],
    },
}
"""Where the default does not say what else may stand there."""

_KINDS = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


@dataclass(slots=True)
class Value:
    """One key of values.yaml. Those without a comment belong to the one that they are in."""

    path: tuple[str, ...]
    default: object
    comment: str

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


def values(text: str) -> list[Value]:
    """All keys, outermost first."""
    node = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return list(_below(node, (), text.splitlines(), yaml.safe_load(text)))


def units(text: str) -> list[Value]:
    """The values that an operator sets: described, with nothing described within."""
    found = [value for value in values(text) if value.comment]
    return [value for value in found if not any(_within(other, value) for other in found)]


def undescribed(text: str) -> list[str]:
    """Paths of values that no comment speaks of, be it of what they are in."""
    all_of_them = values(text)
    whole = units(text)
    return [
        value.dotted
        for value in all_of_them
        if not any(value.path[: len(unit.path)] == unit.path for unit in whole)
        and not any(_within(other, value) for other in all_of_them)
    ]


def _within(inner: Value, outer: Value) -> bool:
    return len(inner.path) > len(outer.path) and inner.path[: len(outer.path)] == outer.path


def _below(
    node: yaml.MappingNode, path: tuple[str, ...], lines: list[str], default: dict[str, object]
) -> Iterator[Value]:
    for key, inner in node.value:
        here = (*path, key.value)
        yield Value(here, default[key.value], _comment(lines, key.start_mark.line))
        if isinstance(inner, yaml.MappingNode):
            within = default[key.value]
            assert isinstance(within, dict)
            yield from _below(inner, here, lines, within)


def _comment(lines: list[str], number: int) -> str:
    """The lines of comment right above a line, as one text."""
    found: list[str] = []
    while number > 0 and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        found.insert(0, lines[number].strip().lstrip("#").strip())
    return " ".join(found)


def schema(text: str) -> dict[str, object]:
    """The JSON schema of values.yaml: a name that it has not is an error."""
    root = _object(values(text), (), {value.dotted for value in units(text)})
    # Helm hands every chart the values of all, under this name.
    root["properties"] |= {"global": {"type": "object"}}  # type: ignore[operator]
    return {"$schema": "https://json-schema.org/draft-07/schema#", "title": "kdns"} | root


def _object(found: list[Value], path: tuple[str, ...], whole: set[str]) -> dict[str, object]:
    properties: dict[str, object] = {}
    for value in found:
        if value.path[:-1] != path:
            continue
        described = {"description": value.comment} if value.comment else {}
        if value.dotted in whole or not isinstance(value.default, dict):
            kind = TYPES.get(value.dotted) or {"type": _KINDS[type(value.default)]}
            assert isinstance(kind, dict)
            properties[value.path[-1]] = described | kind
        else:
            properties[value.path[-1]] = described | _object(found, value.path, whole)
    return {"type": "object", "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(VALUES.read_text()), indent=2, ensure_ascii=False) + "\n")
