"""kdns serve: its command line, which takes CoreDNS's flags as they are."""

import argparse
from pathlib import Path

import pytest

from kdns.cli import main
from kdns.loading import load
from kdns.plugins.table import BUILT_IN


@pytest.mark.parametrize("flag", ["-plugins", "--plugins"])
def test_directives_are_listed_as_coredns_lists_them(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([flag]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {f"dns.{plugin.name}" for plugin in BUILT_IN} <= set(listed)


@pytest.mark.parametrize("flag", ["-dns.port=1", "--dns.port=1", "-p=1", "--port=1"])
def test_a_flag_of_go_has_one_dash_or_two_and_an_equals_sign(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([flag, "-conf=nowhere", "-version"]) == 0
    assert capsys.readouterr().out.startswith("kdns-")


def test_without_a_corefile_it_says_what_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = load(argparse.Namespace(conf=None, port=53, lenient=False))
    assert [known.directive.name for known in plan.blocks[0].directives] == ["log", "whoami"]
    assert "there is no file Corefile here" in plan.warnings[0]
