"""Readers of option values; each raises ArgumentTypeError."""

import argparse
import os
import stat
from pathlib import Path

from kdns.cluster.assign import CIDRError, parse_service_cidrs
from kdns.wire import name
from kdns.wire.errors import BadName

MOST = 10_000_000
DEFAULT_CIDRS = "10.96.0.0/16,fd00:10:96::/112"
"""Where cluster IPs come from, as kubeadm has it."""


def port(text: str) -> int:
    """A port; 0 stands for any."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def zone(text: str) -> str:
    """A domain, in lower case and without the dot at its end."""
    try:
        name.from_text(text)
    except BadName as error:
        raise argparse.ArgumentTypeError(f"expected a domain: {error}") from error
    return text.lower().strip(".")


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


def service_cidrs(text: str) -> tuple[str, ...]:
    """Ranges, at most one of each family, parted by commas; none of an empty text."""
    try:
        parse_service_cidrs(text)
    except CIDRError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return tuple(text.split(",")) if text else ()


def folder(text: str) -> str:
    """A folder, or where one can be made; an empty text is none.

    What may change, such as who may write there, is not looked at.
    """
    path = Path(text)
    for nearest in (path, *path.parents):
        try:
            mode = os.stat(nearest).st_mode
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (OSError, ValueError) as error:
            # A part that is too long, or an octet that no path has.
            reason = error.strerror if isinstance(error, OSError) else error
            raise argparse.ArgumentTypeError(f"{text!r}: expected a folder: {reason}") from error
        if not stat.S_ISDIR(mode):
            raise argparse.ArgumentTypeError(f"{text!r}: expected a folder, but {nearest} is none")
        break
    return text
