""".github/workflows: they run what the Makefile has, with as little power as they can."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.described import SOURCE

WORKFLOWS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((SOURCE / ".github/workflows").glob("*.yaml"))
}
JOBS: dict[str, dict[str, Any]] = {
    f"{name}/{job}": found
    for name, workflow in WORKFLOWS.items()
    for job, found in workflow["jobs"].items()
}
each = pytest.mark.parametrize("job", list(JOBS.values()), ids=list(JOBS))


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("name", list(WORKFLOWS))
def test_a_workflow_may_do_nothing_unless_a_job_says_so(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}


@each
def test_a_job_has_a_time_limit(job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= 45


@each
def test_actions_are_named_by_commit(job: dict[str, Any]) -> None:
    loose = [
        step["uses"]
        for step in job["steps"]
        if "uses" in step and not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
    ]
    assert loose == []


@each
def test_what_a_job_makes_is_in_the_makefile(job: dict[str, Any]) -> None:
    targets = re.findall(r"^([\w-]+):", (SOURCE / "Makefile").read_text(), re.MULTILINE)
    made = re.findall(r"^make (.+)$", commands(job), re.MULTILINE)
    assert {target for words in made for target in words.split()} <= set(targets)


@each
def test_a_checkout_leaves_no_credentials_behind(job: dict[str, Any]) -> None:
    kept = [
        step
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
        and step.get("with", {}).get("persist-credentials") is not False
    ]
    assert kept == []


def test_every_python_of_the_package_is_tried() -> None:
    tried = WORKFLOWS["test"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r"Python :: (3\.\d+)", (SOURCE / "pyproject.toml").read_text())
    assert tried == named


@pytest.mark.parametrize("name", ["deploy", "release"])
def test_the_image_is_made_for_both_processors(name: str) -> None:
    platforms = [
        step["with"]["platforms"]
        for step in WORKFLOWS[name]["jobs"]["image"]["steps"]
        if "platforms" in step.get("with", {})
    ]
    assert platforms == ["linux/amd64,linux/arm64"]


def test_a_release_names_its_base_by_digest() -> None:
    [arguments] = [
        step["with"]["build-args"]
        for step in WORKFLOWS["release"]["jobs"]["image"]["steps"]
        if "build-args" in step.get("with", {})
    ]
    base = "BASE=${{ steps.base.outputs.name }}@${{ steps.base.outputs.digest }}"
    assert arguments.splitlines()[0] == base


def test_the_cluster_gets_the_image_that_its_overlay_names() -> None:
    assert "kind load docker-image kdns:e2e" in commands(JOBS["deploy/e2e"])
