"""`kdns serve`: from a command line to a server that runs, takes signals, and ends.

    one process     _serve                     answers, follows the cluster, serves HTTP
    workers         _oversee + _work for each  see kdns.workers

TERM, INT    drain, and end with 0; a second one ends it at once, with 2
QUIT         end at once, with 0
USR1         read the Corefile again, and change over
HUP          nothing
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import SystemRandom

import kdns
from kdns import memory, workers
from kdns.admin.http import AdminError
from kdns.app import App
from kdns.cluster.held import Held
from kdns.cluster.sink import Reader
from kdns.cluster.state import Cluster
from kdns.corefile.errors import CorefileError
from kdns.kube.credentials import CredentialsError
from kdns.kube.manifests import ManifestError
from kdns.kube.sources import Sources
from kdns.net.listen import ListenError
from kdns.nursery import Nursery, Ties, plant
from kdns.plan import DEFAULT_COREFILE, Plan, make_plan, read_corefile
from kdns.reloading import Reloader
from kdns.sockets import Sockets, open_sockets
from kdns.telemetry.lines import Format, LineHandler

log = logging.getLogger("kdns")

START_ERRORS = (CorefileError, ListenError, AdminError, CredentialsError, ManifestError)
STDIN = "stdin"


def load(options: argparse.Namespace) -> Plan:
    """What the command line names, or ./Corefile, or what CoreDNS serves without one.

    Raises CorefileError.
    """
    if options.conf == STDIN:
        text, file = sys.stdin.read(), STDIN
    elif options.conf is None and not Path("Corefile").exists():
        text, file = DEFAULT_COREFILE.format(port=options.port), "default"
    else:
        file = options.conf or "Corefile"
        text = read_corefile(file)
    return make_plan(text, file, environ=os.environ, port=options.port, lenient=options.lenient)


def load_again(options: argparse.Namespace) -> Plan:
    """The same at a later time. Raises CorefileError."""
    if options.conf == STDIN:
        raise CorefileError("standard input cannot be read twice; expected a file", STDIN, 1)
    return load(options)


def serve(options: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status. Raises START_ERRORS."""
    _log_to_stdout(options.log_format)
    plan = load(options)
    processes = options.workers or workers.wanted(plan)
    limit = memory.for_each(options.memory_limit or memory.group_limit(), processes)
    if processes == 1:
        _warn(plan)
        (sockets,) = open_sockets(plan.listeners())
        return _run(_serve(plan, sockets, options, limit))
    # The nursery comes first: who keeps no socket of ours open cannot keep one open for too long.
    # It comes before the first line of the log too, which a thread writes.
    nursery = plant(lambda _, ties: _run(_work(ties, limit)))
    _warn(plan)
    try:
        opened = open_sockets(plan.listeners(), processes)
        return _run(_oversee(plan, opened, nursery, options))
    finally:
        nursery.close()


def _warn(plan: Plan) -> None:
    for warning in plan.warnings:
        log.warning("%s", warning)


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
        watch_silence=options.watch_silence,
    )


async def _serve(
    plan: Plan, sockets: Sockets, options: argparse.Namespace, limit: int | None
) -> int:
    """One process that does everything."""
    app = App(plan, _sources(options), SystemRandom(), sockets)
    app.memory = limit
    signals = _Signals()
    try:
        await app.start()
    except BaseException:
        sockets.close()
        raise
    reloader = _reloader(app, [sockets], options)
    signals.on_reload(reloader.tell)
    _announce(plan, app, options)
    reloading = asyncio.create_task(reloader.run(), name="reload")
    await signals.told.wait()
    reloading.cancel()
    signals.end_at_once_when_told_again()
    await app.stop()
    return 0


async def _oversee(
    plan: Plan, sockets: list[Sockets], nursery: Nursery, options: argparse.Namespace
) -> int:
    """The process that watches for the workers."""
    overseer = workers.Overseer(nursery.spawn, plan.written, sockets)
    sources = _sources(options, overseer.relay)
    overseer.number_of = sources.number
    app = App(plan, sources, SystemRandom(), None)
    app.ports = sockets[0].ports()
    app.refresh = overseer.totals
    app.others = overseer
    app.followers = overseer
    signals = _Signals()
    try:
        await app.start()
        await overseer.start([sources.number(cluster) for cluster in app.running.clusters])
        reloader = _reloader(app, sockets, options)
        signals.on_reload(reloader.tell)
        _announce(plan, app, options)
        reloading = asyncio.create_task(reloader.run(), name="reload")
        ends = [asyncio.ensure_future(e.wait()) for e in (signals.told, overseer.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in (*ends, reloading):
            end.cancel()
        signals.end_at_once_when_told_again()
        await app.linger(lameduck=signals.told.is_set())
    finally:
        await overseer.stop()
        await app.stop(linger=False)
    return int(overseer.lost.is_set())


async def _work(ties: Ties, limit: int | None) -> int:
    """One of the processes that answer."""
    await workers.work(ties, SystemRandom(), limit)
    return 0


def _reloader(app: App, sockets: list[Sockets], options: argparse.Namespace) -> Reloader:
    def open_new(plan: Plan) -> list[Sockets]:
        if options.workers is None and workers.wanted(plan) != len(sockets):
            log.warning("multisocket: as many processes answer as before; a restart changes that")
        new = [place for place in plan.listeners() if place not in app.places]
        return open_sockets(new, len(sockets), ours=sockets)

    return Reloader(app, lambda: load_again(options), open_new, SystemRandom())


class _Signals:
    """What the process is told from outside. Make it in the running loop of the main thread."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        """To stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.told.set)
        loop.add_signal_handler(signal.SIGQUIT, lambda: os._exit(0))
        # As in CoreDNS: HUP is nobody's business, for a terminal that closes must not stop a
        # server; and there is nothing to read again before there is something that runs.
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)

    def on_reload(self, tell: Callable[[], object]) -> None:
        """What to do when told to read the Corefile again."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)

    def end_at_once_when_told_again(self) -> None:
        """A second signal does not wait for the lameduck."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: os._exit(2))


def _announce(plan: Plan, app: App, options: argparse.Namespace) -> None:
    if options.pidfile:
        Path(options.pidfile).write_text(f"{os.getpid()}\n")
    if not options.quiet:
        if options.log_format == "text":
            _greet(plan)
        _say_where(app)


def _greet(plan: Plan) -> None:
    """As CoreDNS does."""
    for block in plan.blocks:
        for zone in block.zones:
            print(f"{zone}:{block.port}")
    version = f"kdns-{kdns.__version__}"
    print(f"{version}\n{sys.platform}/{platform.machine()}, python{platform.python_version()}")
    sys.stdout.flush()


def _say_where(app: App) -> None:
    for host, port in app.addresses:
        log.info("listening on %s port %d, udp and tcp", host or "every address", port)


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
