"""deploy/alerts, deploy/dashboards: others can load them, and kdns tells what they ask for."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.described import SOURCE

ALERTS = SOURCE / "deploy/alerts/kdns.yaml"
BOARD = json.loads((SOURCE / "deploy/dashboards/kdns.json").read_text())
EXAMPLES = Path(__file__).parent / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]

OF_THE_PROCESS = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
}  # fmt: skip
"""Told by prometheus-client, for every program."""

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there")


def promtool(*arguments: str | Path) -> str:
    """What it says; an error shows that."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metrics(text: str) -> set[str]:
    """The metrics that an expression asks for."""
    return set(re.findall(r"\b(?:kdns|coredns|process)_[a-z0-9_]+", text))


def told() -> set[str]:
    """The names in kdns's sources, and what the exposition makes of them by kind."""
    sources = "\n".join(path.read_text() for path in sorted((SOURCE / "kdns").rglob("*.py")))
    names = set(re.findall(r'"((?:kdns|coredns)_[a-z0-9_]+)"', sources))
    endings = ("", "_total", "_bucket", "_sum", "_count")
    return {f"{name}{ending}" for name in names for ending in endings} | OF_THE_PROCESS


@needs_promtool
def test_prometheus_loads_the_alerts() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", ALERTS)


@needs_promtool
def test_alerts_wake_for_what_the_examples_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", EXAMPLES)


def test_every_alert_has_an_example() -> None:
    examples = yaml.safe_load(EXAMPLES.read_text())["tests"]
    tried = {case["alertname"] for example in examples for case in example["alert_rule_test"]}
    assert tried == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_kdns_tells(rule: dict[str, Any]) -> None:
    assert metrics(rule["expr"]) - told() == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_the_page_that_says_what_to_do(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    heads = re.findall(r"^## (\w+)$", (SOURCE / page).read_text(), re.MULTILINE)
    assert anchor in [head.lower() for head in heads]


def test_severities_are_those_that_people_route_by() -> None:
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning", "info"}


@needs_promtool
def test_prometheus_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(QUERIES)} rules found" in promtool("check", "rules", path)


def test_the_dashboard_asks_for_what_kdns_tells() -> None:
    assert metrics(" ".join(QUERIES)) - told() == set()


def test_every_panel_says_what_it_shows() -> None:
    assert [panel["title"] for panel in PANELS if not panel.get("description")] == []


def test_no_two_panels_have_one_number() -> None:
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_no_two_panels_lie_on_each_other() -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_no_panel_is_wider_than_the_board() -> None:
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in BOARD["panels"]) == 24


def test_the_reader_chooses_the_data_source() -> None:
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
