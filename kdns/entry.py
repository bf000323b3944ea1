"""Where a process of kdns begins: with a command line, or as a worker of a server that runs.

A worker imports no more than it needs to answer, which is two thirds of what the command line does.
"""

import sys
from collections.abc import Callable

from kdns import missing


def main() -> int:
    """Do what `sys.argv` says; the exit status."""
    try:
        begun = _begun()
    except ModuleNotFoundError as error:
        sys.exit(missing.words("kdns", error))
    return begun()


def _begun() -> Callable[[], int]:
    from kdns.children import BORN

    if BORN in sys.argv:
        from kdns.worker import be_born

        return lambda: be_born(sys.argv[sys.argv.index(BORN) + 1])
    from kdns.cli import main as command_line

    return command_line
