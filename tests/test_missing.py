"""Where a package is not installed, the programs say which, and how to come by it."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdns import missing

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("program", ["kdns", "perf"])
def test_a_program_without_its_packages_says_so_in_one_line(program: str) -> None:
    # Without what is installed (-S) and what the environment names (-E), the tree alone is left.
    command = [sys.executable, "-B", "-S", "-E", "-m", program, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: the package ")
    assert "is not installed for" in line
    assert "`make dev` installs it for .venv/bin/python" in line


def test_a_package_is_named_as_it_is_installed() -> None:
    error = ModuleNotFoundError("No module named 'yaml'", name="yaml.nodes")
    assert "the package PyYAML is not" in missing.words("kdns", error)
    error = ModuleNotFoundError("No module named 'x'", name="prometheus_client")
    assert "the package prometheus-client is not" in missing.words("kdns", error)


@pytest.mark.parametrize("name", ["kdns.plan", "perf", None])
def test_a_module_of_ours_that_is_missing_is_a_defect_and_stays_one(name: str | None) -> None:
    error = ModuleNotFoundError("No module", name=name)
    with pytest.raises(ModuleNotFoundError) as raised:
        missing.words("kdns", error)
    assert raised.value is error
