"""Readers of option values that several commands have; each raises ArgumentTypeError."""

import argparse

MOST = 10_000_000


def port(text: str) -> int:
    """A port; 0 stands for any."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """One or more."""
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST}, got {text!r}")
    return int(text)


def rate(text: str) -> float:
    """So many a second, more than none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST:
        raise argparse.ArgumentTypeError(f"expected a number up to {MOST}, got {text!r}")
    return value
