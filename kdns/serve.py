"""A server from its sockets to its end: how it runs, and what signals do to it.

    one process     _serve     answers, follows the cluster, serves HTTP
    workers         _oversee   does all but answer; see kdns.workers

TERM, INT    drain, and end with 0; a second one ends it at once, with 2
QUIT         end at once, with 0
USR1         read the Corefile again, and change over
USR2         start a new process in this one's place, with --takeover
HUP          nothing
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

import kdns
from kdns import workers
from kdns.admin.http import AdminError, AdminServer
from kdns.app import App
from kdns.children import Children
from kdns.cluster.held import Held
from kdns.cluster.sink import Reader
from kdns.cluster.state import Cluster
from kdns.corefile.address import Place
from kdns.corefile.errors import CorefileError
from kdns.kube.credentials import CredentialsError
from kdns.kube.manifests import ManifestError
from kdns.kube.sources import Sources
from kdns.loading import load_again
from kdns.net.address import endpoint
from kdns.net.listen import ListenError
from kdns.plan import Plan
from kdns.process import StartError, command, run
from kdns.reloading import Reloader
from kdns.roles import NotReadyError
from kdns.sockets import Sockets, open_sockets
from kdns.systemd import Given, Manager, fits, given_sockets, sort_out
from kdns.takeover import Giver, Taken, TakeoverError, spread, take
from kdns.telemetry import lines
from kdns.upgrade import Upgrade, hindrance

log = logging.getLogger("kdns")


START_ERRORS = (
    StartError,
    CorefileError,
    ListenError,
    AdminError,
    CredentialsError,
    ManifestError,
    TakeoverError,
    NotReadyError,
)


def serve(
    options: argparse.Namespace, plan: Plan, children: Children | None, limit: int | None
) -> int:
    """Serve until told to stop; the exit status. Raises START_ERRORS.

    children: those who answer; None where this process does. limit: octets of memory for a process
    that answers; None for any number.
    """
    for warning in plan.warnings:
        log.warning("%s", warning)
    if children is None:
        return run(_serve(_begin(plan, 1, options), limit))
    return run(_oversee(_begin(plan, children.count, options), children))


@dataclass(slots=True)
class _Start:
    """What a server begins with.

    sockets: of each process that answers. taken: from a server before us, if there is one. given:
    sockets of the service manager's that no place of DNS has.
    """

    options: argparse.Namespace
    plan: Plan
    sockets: list[Sockets]
    taken: Taken | None
    given: list[Given]
    manager: Manager
    admin: AdminServer = field(default_factory=AdminServer)

    def offered(self, address: str) -> list[socket.socket]:
        """Sockets that are open already for an address of HTTP."""
        if self.taken is not None and Place(address, 0) in self.taken.http:
            return self.taken.http.at(Place(address, 0))
        host, _, port = address.rpartition(":")
        fitting = [one for one in self.given if fits(one.sock, host.strip("[]"), int(port))]
        self.given = [one for one in self.given if one not in fitting]
        return [one.sock for one in fitting]

    def let_go(self) -> None:
        """Close what nobody wants."""
        for one in self.given:
            log.warning("%s was given, and nothing in the Corefile listens there", one)
            one.sock.close()
        self.given = []

    def fail(self) -> None:
        """Close all: who was there before goes on."""
        for sockets in self.sockets:
            sockets.close()
        for one in self.given:
            one.sock.close()
        if self.taken is not None:
            self.taken.close()


def _begin(plan: Plan, processes: int, options: argparse.Namespace) -> _Start:
    """Take over or open what the plan listens on. Raises START_ERRORS."""
    manager = Manager(os.environ, os.getpid())
    given = given_sockets(os.environ, os.getpid())
    taken = take(Path(options.takeover)) if options.takeover else None
    start = _Start(options, plan, [], taken, given, manager)
    places = plan.listeners()
    try:
        held, start.given = sort_out(given, places)
        start.sockets = spread(taken.processes if taken is not None else [held], processes)
        for one in start.sockets:
            one.close([place for place in one.places() if place not in places])
        missing = [place for place in places if place not in start.sockets[0]]
        opened = open_sockets(missing, processes, ours=start.sockets)
    except BaseException:
        start.fail()
        raise
    for one, new in zip(start.sockets, opened, strict=True):
        one.adopt(new)
    return start


def _sources(
    options: argparse.Namespace, relay: Callable[[int, Cluster, Held], Reader] | None = None
) -> Sources:
    return Sources(
        manifests=tuple(options.manifests),
        service_cidrs=options.service_cidr,
        kubeconfig_file=options.kubeconfig,
        rng=SystemRandom(),
        relay=relay,
        state_dir=options.state_dir,
        audit_every=options.audit_every,
        watch_silence=options.watch_silence,
    )


async def _serve(start: _Start, limit: int | None) -> int:
    """One process that does everything."""
    app = App(start.plan, _sources(start.options), SystemRandom(), start.sockets[0], start.admin)
    app.offered = start.offered
    app.memory = limit
    signals = _Signals()
    try:
        if not await signals.unless_told(_answer(app, start)):
            await app.stop(linger=False)
            start.fail()
            return 0
        running = _Running(app, start, signals)
    except BaseException:
        await app.stop(linger=False)
        start.fail()
        raise
    await running.until_told()
    await app.stop(linger=not running.left)
    return 0


async def _nobody() -> None:
    """There are no workers."""


async def _answer(
    app: App, start: _Start, workers_answer: Callable[[], Awaitable[None]] = _nobody
) -> None:
    """From nothing to answers; in the place of another server only once all is known."""
    await app.prepare(silently=start.taken is not None)
    if start.taken is not None:
        await app.until_ready()
    await workers_answer()
    await app.answer()


async def _oversee(start: _Start, children: Children) -> int:
    """The process that watches for the workers."""
    overseer = workers.Overseer(children.spawn, children.end, start.plan.written, start.sockets)
    sources = _sources(start.options, overseer.relay)
    overseer.number_of = sources.number
    app = App(start.plan, sources, SystemRandom(), None, start.admin)
    app.offered = start.offered
    app.ports = start.sockets[0].ports()
    app.refresh = overseer.totals
    app.others = overseer
    app.followers = overseer
    signals = _Signals()
    try:

        async def workers_answer() -> None:
            await overseer.start([sources.number(cluster) for cluster in app.running.clusters])
            if start.taken is not None:
                await overseer.answering()

        if not await signals.unless_told(_answer(app, start, workers_answer)):
            start.fail()
            return 0
        running = _Running(app, start, signals)
        await running.until_told(overseer.lost)
        await app.linger(lameduck=signals.told.is_set())
    except BaseException:
        start.fail()
        raise
    finally:
        await overseer.stop()
        await app.stop(linger=False)
    return int(overseer.lost.is_set())


class _Running:
    """What goes on beside answering: reloading, signs of life, being there for a successor.

    Make it in the running loop, once questions are answered. `left`: a successor answers now.
    """

    def __init__(self, app: App, start: _Start, signals: "_Signals") -> None:
        self._app = app
        self._signals = signals
        self._admin = start.admin
        self._manager = start.manager
        self._loop = asyncio.get_running_loop()
        self._giver: Giver | None = None
        if start.options.takeover:
            path = Path(start.options.takeover)
            self._giver = Giver(path, start.sockets, lambda: _of_http(start.admin))
            self._giver.open()
        if start.taken is not None:
            start.taken.answering()
        start.let_go()
        reloader = _reloader(app, start)
        signals.on_reload(reloader.tell)
        self._upgrade = _upgrade(start.options, self._loop)
        signals.on_upgrade(self._upgrade.tell)
        self._reloading = asyncio.create_task(reloader.run(), name="reload")
        _announce(start.plan, app, start.options)
        self._manager.ready()
        self._show_life()

    @property
    def left(self) -> bool:
        """Whether a successor answers."""
        return self._giver is not None and self._giver.left.is_set()

    async def until_told(self, *also: asyncio.Event) -> None:
        """Until there is a reason to stop: a signal, a successor, or one of these."""
        events = [self._signals.told, *also]
        if self._giver is not None:
            events.append(self._giver.left)
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in (*waiting, self._reloading):
            task.cancel()
        # What it had begun to change is as it was before anything else ends.
        await asyncio.gather(self._reloading, return_exceptions=True)
        self._signals.end_at_once_when_told_again()
        if self.left and self._upgrade.successor:
            self._manager.left_to(self._upgrade.successor)
        else:
            self._manager.stopping()
        if self._giver is not None:
            self._giver.close()
        if self.left:
            # Probes are for the successor from here on: we are not ready, but it is.
            await self._admin.close()

    def _show_life(self) -> None:
        if self._manager.watchdog:
            self._manager.alive()
            self._loop.call_later(self._manager.watchdog, self._show_life)


def _of_http(admin: AdminServer) -> Sockets:
    sockets = Sockets()
    for address, held in admin.sockets.items():
        sockets.put(Place(address, 0), held)
    return sockets


def _reloader(app: App, start: _Start) -> Reloader:
    options, sockets = start.options, start.sockets

    def open_new(plan: Plan) -> list[Sockets]:
        if options.workers is None and workers.wanted(plan) != len(sockets):
            log.warning("multisocket: as many processes answer as before; a restart changes that")
        new = [place for place in plan.listeners() if place not in app.places]
        return open_sockets(new, len(sockets), ours=sockets)

    def tell(what: str) -> None:
        if what == "reloading":
            start.manager.reloading()
        else:
            start.manager.ready()

    return Reloader(app, lambda: load_again(options), open_new, SystemRandom(), tell)


def _upgrade(options: argparse.Namespace, loop: asyncio.AbstractEventLoop) -> Upgrade:
    pid = os.getpid()
    why_not = hindrance(takeover=options.takeover, conf=options.conf, pid=pid)
    return Upgrade(why_not, command(), os.environ, loop)


class _Signals:
    """What the process is told from outside. Make it in the running loop of the main thread."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        """To stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGQUIT, lambda: os._exit(0))
        # As in CoreDNS: HUP is nobody's business, for a terminal that closes must not stop a
        # server.
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        self._to_reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, self._to_reload.set)

    def _stop(self, number: signal.Signals) -> None:
        # In CoreDNS's words: who looks for why a server ended finds it.
        log.info("%s: Shutting down servers then terminating", number.name)
        self.told.set()

    async def unless_told(self, work: Coroutine[object, object, None]) -> bool:
        """Do something, to its end or until told to stop; whether it came to its end."""
        working = asyncio.ensure_future(work)
        told = asyncio.ensure_future(self.told.wait())
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not working.done():
            log.info("told to stop before questions were answered")
            working.cancel()
            await asyncio.wait((working,))
            return False
        await working
        return True

    def on_reload(self, tell: Callable[[], object]) -> None:
        """What to do when told to read the Corefile again."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
        if self._to_reload.is_set():
            # It came while questions were answered already, and the Corefile had been read.
            tell()

    def on_upgrade(self, tell: Callable[[], object]) -> None:
        """What to do when told to make room for a new process."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, tell)

    def end_at_once_when_told_again(self) -> None:
        """A second signal does not wait for the lameduck."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: os._exit(2))


def _announce(plan: Plan, app: App, options: argparse.Namespace) -> None:
    if options.pidfile:
        try:
            Path(options.pidfile).write_text(f"{os.getpid()}\n")
        except OSError as error:
            # By now questions are answered, and a predecessor may have gone for our sake.
            reason = error.strerror or error
            log.warning("cannot write the process ID to %s: %s", options.pidfile, reason)
    if not options.quiet:
        _greet(plan, options.log_format)
        _say_where(app.addresses)


def _greet(plan: Plan, form: lines.Format) -> None:
    """As CoreDNS does, or the same in one line where each is to be an object.

    Like a line of the log: where it cannot be written, nobody ends for it.
    """
    zones = [
        f"{'' if block.transport == 'dns' else f'{block.transport}://'}{zone}:{block.port}"
        for block in plan.blocks
        for zone in block.zones
    ]
    version = f"kdns-{kdns.__version__}"
    system = f"{sys.platform}/{platform.machine()}, python{platform.python_version()}"
    if form == "json":
        log.info("%s, %s, serving %s", version, system, ", ".join(zones))
        return
    for each in (*zones, version, system):
        lines.say(each)


def _say_where(addresses: Iterable[Place]) -> None:
    for host, port, transport in addresses:
        # The asterisk as in ss(8): every address, of both families.
        over = "UDP and TCP" if transport == "dns" else transport.upper()
        log.info("listening on %s (%s)", endpoint(host or "*", port), over)
