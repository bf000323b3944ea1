"""Where a process of kdns begins: as a server, as a worker of one, or as another command.

Each imports no more than it needs: a worker two thirds of what the whole command line does.
"""

import os
import sys
from collections.abc import Callable

from kdns import missing


def main() -> int:
    """Do what `sys.argv` says; the exit status."""
    if sys.stdout is None:
        # Closed before we began.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as we run
    try:
        return _begun()()
    except ModuleNotFoundError as error:
        sys.exit(missing.words("kdns", error))


def _begun() -> Callable[[], int]:
    from kdns.children import BORN

    if BORN in sys.argv:
        from kdns.worker import be_born

        return lambda: be_born(sys.argv[sys.argv.index(BORN) + 1])
    from kdns import launch

    if launch.asks_to_serve(sys.argv[1:]):
        return lambda: launch.main(sys.argv[1:])
    from kdns.cli import main as command_line

    return command_line
