"""The command line: kdns serve and its fellows; and CoreDNS's flags in CoreDNS's place.

`kdns -conf /etc/coredns/Corefile` serves, so that the arguments of a CoreDNS container go on
working when the image is kdns's.
"""

import argparse
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence

import kdns
from kdns.admin.topview import TopError
from kdns.commands import check, compare, explain, top
from kdns.commands.asking import AskingError
from kdns.commands.clusters import DEFAULT_CIDRS
from kdns.commands.explain import ExplainError
from kdns.commands.options import folder, octets, port, service_cidrs
from kdns.corefile.errors import CorefileError
from kdns.kube.client import WATCH_SILENCE_SECONDS
from kdns.kube.reading import ReadingError
from kdns.kube.watches import AUDIT_EVERY
from kdns.plugins.multisocket import MAX_WORKERS
from kdns.plugins.table import plugins
from kdns.serve import START_ERRORS, serve

COMMAND_ERRORS = (AskingError, ExplainError, ReadingError, TopError)
INTERRUPTED = 130
UNREAD = 141
"""What a shell says of commands that SIGINT and SIGPIPE ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the result is the exit status."""
    if sys.stdout is None:
        # Closed before we began.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as we run
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0].startswith("-") and args[0] not in ("-h", "--help", "--version"):
        args.insert(0, "serve")
    options = _parser().parse_args(args)
    if options.version or getattr(options, "of_coredns_version", False):
        print(f"kdns-{kdns.__version__}")
        print(f"{sys.platform}/{platform.machine()}, python{platform.python_version()}")
        return 0
    if options.command is None:
        _parser().print_help()
        return 2
    if getattr(options, "plugins", False):
        return _list_plugins()
    try:
        if options.command == "serve":
            return serve(options)
        # What the readers of files log is told as errors are; a server logs to its own place.
        logging.basicConfig(format="kdns: %(message)s", level=logging.WARNING)
        return _command(options.run, options)
    except (*START_ERRORS, *COMMAND_ERRORS) as error:
        return _fail(error, _status(options.command, error))
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
        return _fail(error, 2)
    return status


def _list_plugins() -> int:
    """As CoreDNS does, `dns.` and all: a line for each directive."""
    for name in sorted(plugin.name for plugin in plugins()):
        print(f"dns.{name}")
    return 0


def _status(command: str, error: Exception) -> int:
    """2 for what a command could not even look at, for 1 is what it found."""
    found = command == "serve" or (command == "check" and isinstance(error, CorefileError))
    return 1 if found else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kdns", description="The DNS server that a Kubernetes cluster's pods ask."
    )
    parser.add_argument("--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    server = commands.add_parser("serve", help="answer DNS queries")
    server.add_argument(
        "-conf",
        "--conf",
        metavar="FILE",
        help='the Corefile, "stdin" for standard input (./Corefile)',
    )
    server.add_argument(
        "-dns.port", "--dns.port", "-p", "--port", dest="port", type=port, default=53,
        metavar="PORT", help="the port of zones that name none (53)",
    )  # fmt: skip
    server.add_argument(
        "--kubeconfig", metavar="FILE", help="how to reach the API server; overrides the Corefile"
    )
    server.add_argument(
        "--manifests", nargs="+", metavar="PATH", default=[],
        help="serve the objects in these files and folders, and no API server's",
    )  # fmt: skip
    server.add_argument(
        "--service-cidr", metavar="CIDR[,CIDR]", type=service_cidrs, default=DEFAULT_CIDRS,
        help="where cluster IPs come from for services of manifests that have none (%(default)s)",
    )  # fmt: skip
    server.add_argument(
        "--lenient", action="store_true", help="leave out directives that are not known"
    )
    server.add_argument(
        "--workers", type=_workers, metavar="N",
        help="processes that answer; overrides multisocket (1)",
    )  # fmt: skip
    server.add_argument(
        "--memory-limit", type=octets, metavar="SIZE",
        help="memory for all processes, 160Mi say; tables are made smaller near it (the "
        "container's limit)",
    )  # fmt: skip
    server.add_argument(
        "--state-dir",
        metavar="DIR",
        type=folder,
        default="",
        help="remember the cluster there, and start from it when the API server is away",
    )
    server.add_argument(
        "--watch-silence", type=_seconds, metavar="SECONDS", default=WATCH_SILENCE_SECONDS,
        help="leave a watch that is silent for so long for a new one; 0 for never (%(default)g)",
    )  # fmt: skip
    server.add_argument(
        "--audit-every", type=_seconds, metavar="SECONDS", default=AUDIT_EVERY,
        help="compare what the API server has told with what it has; 0 for never (%(default)g)",
    )  # fmt: skip
    server.add_argument(
        "--log-format", choices=("text", "json"), default="text",
        help="text is CoreDNS's lines, json is an object a line (text)",
    )  # fmt: skip
    server.add_argument(
        "--takeover", metavar="PATH", default="",
        help="take the place of the server that has this unix socket, and have it then",
    )  # fmt: skip
    server.add_argument("-quiet", "--quiet", action="store_true", help="no greeting")
    server.add_argument("-pidfile", "--pidfile", metavar="FILE", help="write the process ID there")
    server.add_argument(
        "-plugins", "--plugins", action="store_true", help="list the directives, and end"
    )
    server.add_argument(
        "-version", dest="of_coredns_version", action="store_true", help=argparse.SUPPRESS
    )
    for command in (check, compare, explain, top):
        command.add(commands)
    return parser


def _seconds(text: str) -> float:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return float(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS} workers, got {text!r}")
    return int(text)


def _fail(error: Exception, status: int) -> int:
    for line in str(error).splitlines() or [type(error).__name__]:
        # An argument that was no UTF-8 has characters that nothing can write.
        said = line.encode(errors="backslashreplace").decode()
        print(f"kdns: {said}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
