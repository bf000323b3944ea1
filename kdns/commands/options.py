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


_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_UNITS |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
LEAST_MEMORY = 32 << 20


def octets(text: str) -> int:
    """Octets, from a quantity of memory as Kubernetes writes it: 160Mi, 170M, 178257920."""
    digits = text.rstrip("".join(set("".join(_UNITS))))
    unit = text[len(digits) :]
    if not digits.isdecimal() or unit not in _UNITS or int(digits) * _UNITS[unit] < LEAST_MEMORY:
        raise argparse.ArgumentTypeError(f"expected 32Mi or more, as in 160Mi, got {text!r}")
    return int(digits) * _UNITS[unit]
