"""The command line: kdns serve, kdns check; and CoreDNS's flags in CoreDNS's place.

`kdns -conf /etc/coredns/Corefile` serves, so that the arguments of a CoreDNS container go on
working when the image is kdns's.
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import SystemRandom

from rich.console import Console
from rich.table import Table

import kdns
from kdns import workers
from kdns.admin.http import AdminError
from kdns.app import App, Sockets, open_sockets
from kdns.cluster.held import Held
from kdns.cluster.sink import Reader
from kdns.cluster.state import Cluster
from kdns.corefile.errors import CorefileError
from kdns.kube.credentials import CredentialsError
from kdns.kube.manifests import ManifestError
from kdns.kube.sources import Sources
from kdns.kube.watches import AUDIT_EVERY
from kdns.net.listen import ListenError
from kdns.nursery import Nursery, plant
from kdns.plan import DEFAULT_COREFILE, Plan, make_plan, read_corefile
from kdns.plugins.multisocket import MAX_WORKERS
from kdns.telemetry.lines import Format, LineHandler

log = logging.getLogger("kdns")

COMMANDS = ("serve", "check")
START_ERRORS = (CorefileError, ListenError, AdminError, CredentialsError, ManifestError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the result is the exit status."""
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
    return check(options) if options.command == "check" else serve(options)


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
        "-dns.port", "-p", "--port", dest="port", type=_port, default=53, metavar="PORT",
        help="the port of zones that name none (53)",
    )  # fmt: skip
    server.add_argument(
        "--kubeconfig", metavar="FILE", help="how to reach the API server; overrides the Corefile"
    )
    server.add_argument(
        "--manifests", nargs="+", metavar="PATH", default=[],
        help="serve the objects in these files and folders, and no API server's",
    )  # fmt: skip
    server.add_argument(
        "--service-cidr", metavar="CIDR[,CIDR]", default="10.96.0.0/16,fd00:10:96::/112",
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
        "--state-dir",
        metavar="DIR",
        default="",
        help="remember the cluster there, and start from it when the API server is away",
    )
    server.add_argument(
        "--audit-every", type=_seconds, metavar="SECONDS", default=AUDIT_EVERY,
        help="compare what the API server has told with what it has; 0 for never (%(default)g)",
    )  # fmt: skip
    server.add_argument(
        "--log-format", choices=("text", "json"), default="text",
        help="text is CoreDNS's lines, json is an object a line (text)",
    )  # fmt: skip
    server.add_argument("-quiet", "--quiet", action="store_true", help="no greeting")
    server.add_argument("-pidfile", "--pidfile", metavar="FILE", help="write the process ID there")
    server.add_argument(
        "-version", dest="of_coredns_version", action="store_true", help=argparse.SUPPRESS
    )
    checker = commands.add_parser("check", help="read a Corefile and say what it means")
    checker.add_argument("corefile", metavar="COREFILE")
    checker.add_argument("-dns.port", "-p", "--port", dest="port", type=_port, default=53)
    checker.add_argument("--lenient", action="store_true")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return float(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS} workers, got {text!r}")
    return int(text)


def _plan(options: argparse.Namespace) -> Plan:
    if options.command == "check":
        text, file = read_corefile(options.corefile), options.corefile
    elif options.conf == "stdin":
        text, file = sys.stdin.read(), "stdin"
    elif options.conf is None and not Path("Corefile").exists():
        text, file = DEFAULT_COREFILE.format(port=options.port), "default"
    else:
        file = options.conf or "Corefile"
        text = read_corefile(file)
    return make_plan(text, file, environ=os.environ, port=options.port, lenient=options.lenient)


def _fail(error: Exception) -> int:
    for line in str(error).splitlines() or [type(error).__name__]:
        print(f"kdns: {line}", file=sys.stderr)
    return 1


def check(options: argparse.Namespace) -> int:
    """Explain a Corefile, block by block; 1 and the place of the error when it cannot be served."""
    try:
        plan = _plan(options)
    except CorefileError as error:
        return _fail(error)
    console = Console()
    for block in plan.blocks:
        hosts = ", ".join(host or "every address" for host in block.hosts)
        table = Table(
            title=f"{' '.join(block.zones)}\nport {block.port} on {hosts}",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("directive", style="cyan", no_wrap=True)
        table.add_column("what it does")
        table.add_column("where", style="dim", no_wrap=True)
        for known in block.directives:
            place = f"{Path(known.directive.file).name}:{known.directive.line}"
            table.add_row(known.directive.name, known.settings.explain(), place)
        console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    _log_to_stdout(options.log_format)
    try:
        plan = _plan(options)
        for warning in plan.warnings:
            log.warning("%s", warning)
        processes = options.workers or workers.wanted(plan)
        sockets = open_sockets(plan, processes)
        if processes == 1:
            return _run(_serve(plan, sockets[0], options))
        return _serve_by_workers(plan, sockets, options)
    except START_ERRORS as error:
        return _fail(error)


def _serve_by_workers(plan: Plan, sockets: list[Sockets], options: argparse.Namespace) -> int:
    ports = sockets[0].ports()

    def bear(number: int, link: socket.socket) -> int:
        for other, opened in enumerate(sockets):
            if other != number:
                opened.close()
        return _run(_work(plan, sockets[number], link))

    nursery = plant(bear)
    for opened in sockets:
        opened.close()
    try:
        return _run(_oversee(plan, ports, nursery, len(sockets), options))
    finally:
        nursery.close()


def _run(main: Coroutine[object, object, int]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _sources(
    options: argparse.Namespace, relay: Callable[[int, Cluster, Held], Reader] | None = None
) -> Sources:
    return Sources(
        manifests=tuple(options.manifests),
        service_cidrs=tuple(options.service_cidr.split(",")) if options.service_cidr else (),
        kubeconfig_file=options.kubeconfig,
        rng=SystemRandom(),
        relay=relay,
        state_dir=options.state_dir,
        audit_every=options.audit_every,
    )


async def _serve(plan: Plan, sockets: Sockets, options: argparse.Namespace) -> int:
    """One process that does everything."""
    app = App(plan, _sources(options), SystemRandom(), sockets)
    told = _told_to_stop()
    try:
        await app.start()
    finally:
        sockets.close()
    _announce(plan, app, options)
    await told.wait()
    _stop_at_once_when_told_again()
    await app.stop()
    return 0


async def _oversee(
    plan: Plan,
    ports: dict[tuple[str, int], int],
    nursery: Nursery,
    count: int,
    options: argparse.Namespace,
) -> int:
    """The process that watches for the workers."""
    overseer = workers.Overseer(nursery.spawn, count)
    app = App(plan, _sources(options, overseer.relay), SystemRandom(), None)
    app.ports = ports

    async def refresh() -> None:
        app.others = await overseer.counters(app.blocks)

    app.refresh = refresh
    told = _told_to_stop()
    await overseer.start()
    try:
        await app.start()
        _announce(plan, app, options)
        ends = [asyncio.ensure_future(event.wait()) for event in (told, overseer.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        _stop_at_once_when_told_again()
        app.stopping = True
        if told.is_set() and app.lameduck:
            log.info("stopping in %g s", app.lameduck)
            await asyncio.sleep(app.lameduck)
    finally:
        await overseer.stop()
        app.stopping = False
        await app.stop(linger=False)
    return int(overseer.lost.is_set())


async def _work(plan: Plan, sockets: Sockets, link: socket.socket) -> int:
    """One of the processes that answer."""
    sources = workers.ToldSources()
    app = App(plan, sources, SystemRandom(), sockets)
    app.serves_admin = False
    await workers.work(link, sources, app)
    return 0


def _told_to_stop() -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    # As in CoreDNS: HUP is nobody's business, for a terminal that closes must not stop a server.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return told


def _stop_at_once_when_told_again() -> None:
    """A second signal does not wait for the lameduck."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: os._exit(2))


def _announce(plan: Plan, app: App, options: argparse.Namespace) -> None:
    if options.pidfile:
        Path(options.pidfile).write_text(f"{os.getpid()}\n")
    if not options.quiet:
        _greet(plan, app)


def _greet(plan: Plan, app: App) -> None:
    for block in plan.blocks:
        for zone in block.zones:
            print(f"{zone}:{block.port}")
    version = f"kdns-{kdns.__version__}"
    print(f"{version}\n{sys.platform}/{platform.machine()}, python{platform.python_version()}")
    for host, port in app.addresses:
        log.info("listening on %s port %d, udp and tcp", host or "every address", port)
    sys.stdout.flush()


def _log_to_stdout(form: Format) -> None:
    handler = LineHandler(sys.stdout.fileno(), form)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    factory: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
