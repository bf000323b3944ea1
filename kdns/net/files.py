"""How many files this process may have open, and how many of them connections of clients may be."""

import resource
from typing import Final

RESERVED: Final = 256
"""For upstreams, the API server, HTTP, logs, and what libraries open."""
ENOUGH: Final = 65_536
FEWEST: Final = 8
LEAST: Final = 64
"""Fewer are not enough for a server: a loop, a port, HTTP, the API server, a few upstreams."""


def raise_limit() -> int:
    """Have as many open files as the system lets us have, up to ENOUGH; how many that is.

    That is the soft bound of RLIMIT_NOFILE (getrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ENOUGH if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def for_clients(files: int, listeners: int) -> int:
    """Connections that each listener may have, so that accepting never takes the last file."""
    reserved = min(RESERVED, files // 2)
    return max(FEWEST, (files - reserved) // max(1, listeners))
