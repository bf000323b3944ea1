"""Quantities on the command line."""

import argparse

import pytest

from kdns.commands.options import octets


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
