"""The command line: kdns serve and its fellows; and CoreDNS's flags in CoreDNS's place.

`kdns -conf /etc/coredns/Corefile` serves, so that the arguments of a CoreDNS container go on
working when the image is kdns's.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from kdns import launch
from kdns.admin.topview import TopError
from kdns.commands import check, compare, explain, top
from kdns.commands.asking import AskingError
from kdns.commands.explain import ExplainError
from kdns.corefile.errors import CorefileError
from kdns.kube.reading import ReadingError
from kdns.launch import INTERRUPTED, fail
from kdns.serve import START_ERRORS

_ERRORS = (*START_ERRORS, AskingError, ExplainError, ReadingError, TopError)
UNREAD = 141
"""What a shell says of a command that SIGPIPE ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the result is the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if launch.asks_to_serve(args):
        return launch.main(args)
    options = _parser().parse_args(args)
    if options.version:
        return launch.say_version()
    if options.command is None:
        _parser().print_help()
        return 2
    try:
        # What the readers of files log is told as errors are; a server logs to its own place.
        logging.basicConfig(format="kdns: %(message)s", level=logging.WARNING)
        return _command(options.run, options)
    except _ERRORS as error:
        return fail(error, _status(options.command, error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _command(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """A command to its end, which is not before all that it says is written."""
    try:
        status = run(options)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter would try to write the rest as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return UNREAD  # whoever read has had enough, `head` say
        return fail(error, 2)
    return status


def _status(command: str, error: Exception) -> int:
    """2 for what a command could not even look at, for 1 is what it found."""
    return 1 if command == "check" and isinstance(error, CorefileError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kdns", description="The DNS server that a Kubernetes cluster's pods ask."
    )
    parser.add_argument("--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    launch.add_options(commands.add_parser("serve", help="answer DNS queries"))
    for command in (check, compare, explain, top):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
