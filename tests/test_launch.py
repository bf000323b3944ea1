"""A server imports what it needs, and what a worker has no use for only once workers are forked."""

import subprocess
import sys

import pytest

from kdns.launch import asks_to_serve, main


@pytest.mark.parametrize("args", [["serve"], ["-conf", "Corefile"], ["--lenient"], ["-plugins"]])
def test_coredns_flags_alone_ask_to_serve(args: list[str]) -> None:
    assert asks_to_serve(args)


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["--version"], ["check", "-h"]])
def test_other_commands_do_not(args: list[str]) -> None:
    assert not asks_to_serve(args)


def imported(*modules: str) -> set[str]:
    script = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True, check=True)
    return set(done.stdout.splitlines())


def test_before_the_fork_nothing_is_imported_that_only_the_overseer_needs() -> None:
    before = imported("kdns.entry", "kdns.launch")
    assert "kdns.worker" in before
    assert not before & {"aiohttp", "kubernetes", "kdns.serve", "kdns.kube.client"}
    assert not {name for name in before if name.startswith("kdns.commands.")} - {
        "kdns.commands.options"
    }


def test_a_server_imports_no_other_command() -> None:
    commands = {name for name in imported("kdns.serve") if name.startswith("kdns.commands")}
    assert not commands


def test_its_usage_is_that_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: kdns serve [-h]")
