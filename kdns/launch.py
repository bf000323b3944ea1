"""`kdns serve`: from its command line to the processes of a server.

options --> Corefile --> how many processes answer
                           | one               | several: a rehearsal, and they are forked
                           +-- what follows the cluster and serves HTTP is imported --> kdns.serve

What is imported here is what a worker needs: what comes after the fork is the overseer's alone, and
no page of it is in a worker.
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from typing import Final

import kdns
from kdns import memory, workers
from kdns.children import Again, Children, fork
from kdns.commands.options import DEFAULT_CIDRS, folder, octets, port, service_cidrs
from kdns.corefile.errors import CorefileError
from kdns.kube.patience import AUDIT_EVERY, WATCH_SILENCE_SECONDS
from kdns.loading import load
from kdns.net.files import LEAST, raise_limit
from kdns.plugins.multisocket import MAX_WORKERS
from kdns.plugins.table import plugins
from kdns.process import StartError, command, have_standard_files, import_late, log_to_stdout
from kdns.rehearsal import rehearse
from kdns.worker import live

INTERRUPTED: Final = 130
"""What a shell says of a command that SIGINT ended."""
_OF_ALL: Final = ("-h", "--help", "--version")


def asks_to_serve(args: Sequence[str]) -> bool:
    """Whether these are for `serve`, be it by CoreDNS's flags alone."""
    return bool(args) and (
        args[0] == "serve" or (args[0].startswith("-") and args[0] not in _OF_ALL)
    )


def main(args: Sequence[str]) -> int:
    """Do what they say, who ask to serve; the exit status."""
    parser = argparse.ArgumentParser(prog="kdns serve")
    add_options(parser)
    return launch(parser.parse_args(args[1:] if args[0] == "serve" else args))


def launch(options: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status. What stands in the way is told in a line."""
    if options.of_coredns_version:
        return say_version()
    if options.plugins:
        return _list_plugins()
    told: tuple[type[Exception], ...] = (StartError, CorefileError)
    try:
        # A process 1 that handles no TERM never hears of it. There is nothing to finish yet.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        have_standard_files()
        files = raise_limit()
        if files < LEAST:
            raise StartError(f"{files} files may be open; expected {LEAST} or more: see ulimit -n")
        log_to_stdout(options.log_format)
        plan = load(options)
        processes = options.workers or workers.wanted(plan)
        limit = memory.for_each(options.memory_limit or memory.group_limit(), processes)
        children = None if processes == 1 else _fork(processes, limit, options)
        try:
            from kdns.serve import START_ERRORS, serve

            told = START_ERRORS
            return serve(options, plan, children, limit)
        finally:
            if children is not None:
                children.close()
    except told as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        return INTERRUPTED


def _fork(processes: int, limit: int | None, options: argparse.Namespace) -> Children:
    """The workers, which come first. Raises StartError.

    Who keeps no socket of ours open cannot keep one open for too long; and the first line of the
    log, which a thread writes, comes after them.
    """
    import_late()
    rehearse()
    again = Again(command(), os.environ, limit, options.log_format)
    try:
        return fork(processes, lambda ties: live(ties, limit), again)
    except OSError as error:
        raise StartError(f"no process for workers: {error.strerror}") from error


def fail(error: Exception, status: int) -> int:
    """Tell of it; the status."""
    for line in str(error).splitlines() or [type(error).__name__]:
        # An argument that was no UTF-8 has characters that nothing can write.
        said = line.encode(errors="backslashreplace").decode()
        print(f"kdns: {said}", file=sys.stderr)
    return status


def say_version() -> int:
    """Which version this is; the status."""
    print(f"kdns-{kdns.__version__}")
    print(f"{sys.platform}/{platform.machine()}, python{platform.python_version()}")
    return 0


def _list_plugins() -> int:
    """As CoreDNS does, `dns.` and all: a line for each directive."""
    for name in sorted(plugin.name for plugin in plugins()):
        print(f"dns.{name}")
    return 0


def add_options(server: argparse.ArgumentParser) -> None:
    """All of `serve`, CoreDNS's flags among them."""
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


def _seconds(text: str) -> float:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return float(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS} workers, got {text!r}")
    return int(text)
