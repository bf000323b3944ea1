"""Quantities on the command line."""

import argparse
from pathlib import Path

import pytest

from kdns.cli import main
from kdns.commands.options import folder, octets, service_cidrs


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("160Mi", 160 << 20),
        ("170M", 170_000_000),
        ("1Gi", 1 << 30),
        ("1G", 10**9),
        ("65536Ki", 64 << 20),
        ("178257920", 178257920),
    ],
)
def test_memory_is_written_as_kubernetes_writes_it(text: str, amount: int) -> None:
    assert octets(text) == amount


@pytest.mark.parametrize("text", ["", "Mi", "160MB", "160mi", "-1Mi", "1.5Gi", "31Mi", "0"])
def test_what_is_no_quantity_or_too_little_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected 32Mi or more"):
        octets(text)


def test_ranges_are_parted_by_commas_and_may_be_none() -> None:
    assert service_cidrs("10.96.0.0/16,fd00::/112") == ("10.96.0.0/16", "fd00::/112")
    assert service_cidrs("") == ()


@pytest.mark.parametrize("command", [["serve"], ["explain", "web"], ["compare", "a", "b"]])
def test_what_is_no_range_is_told_where_nothing_needs_it_too(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--service-cidr", "foo"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert told.endswith(
        "argument --service-cidr: service CIDR 'foo': 'foo' does not appear to be an IPv4 or IPv6 "
        "network; expected one like 10.96.0.0/16 or fd00:10:96::/112"
    )


@pytest.mark.parametrize("below", ["", "state", "much/deeper"])
def test_a_folder_is_there_or_can_be_made(tmp_path: Path, below: str) -> None:
    assert folder(str(tmp_path / below)) == str(tmp_path / below)


@pytest.mark.parametrize("place", ["file", "file/state", "file/much/deeper"])
def test_below_a_file_there_is_no_folder(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--state-dir", str(tmp_path / place)])
    assert ended.value.code == 2
    assert f"expected a folder, but {tmp_path / 'file'} is none" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a\0b", "x" * 300])
def test_what_no_path_can_be_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a folder"):
        folder(text)
