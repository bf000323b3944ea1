"""The Corefile that runs is the one that is written: looked at from time to time, and when told.

    the file, its imports --load--> Plan --other than what runs--> App.change
          | cannot be read            | cannot be put to work
          +---------------------------+--> one line in the log, one count; what runs goes on

Whatever fails is tried again at the next look, for what was in the way may be gone by then.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random

from kdns.admin.http import AdminError
from kdns.app import App
from kdns.corefile.errors import CorefileError
from kdns.kube.credentials import CredentialsError
from kdns.kube.manifests import ManifestError
from kdns.net.listen import ListenError
from kdns.plan import Plan
from kdns.plugins.reload import Reload
from kdns.roles import FollowError, NotReadyError
from kdns.sockets import Sockets

log = logging.getLogger("kdns.reload")

FAILURES = (
    CorefileError,
    ListenError,
    AdminError,
    CredentialsError,
    ManifestError,
    NotReadyError,
    FollowError,
)

_FAILED = "plugin/reload: Corefile changed but reload failed, the old one goes on"

Notify = Callable[[str], object]
"""Tells the service manager, by `kdns.systemd.notify`, of "reloading" and of "ready"."""


def settings(plan: Plan) -> Reload | None:
    """The first reload directive of a Corefile; as in CoreDNS it is about the whole."""
    for block in plan.blocks:
        for known in block.directives:
            if isinstance(known.settings, Reload):
                return known.settings
    return None


class Reloader:
    """Looks, and changes what runs.

    load: reads the Corefile, in a thread; raises CorefileError. open_new: sockets, for each process
    that answers, of the places that a plan has and the App has not; raises ListenError.
    """

    def __init__(
        self,
        app: App,
        load: Callable[[], Plan],
        open_new: Callable[[Plan], list[Sockets]],
        rng: Random,
        notify: Notify = lambda _: None,
    ) -> None:
        self._app = app
        self._load = load
        self._open_new = open_new
        self._rng = rng
        self._notify = notify
        self._told = asyncio.Event()
        self._digest = app.running.plan.digest()
        self._failed = app.meters.counter(
            "coredns_reload_failed", "New Corefiles that could not take the place of what runs."
        )
        self._failed[()] = 0
        self._done = app.meters.counter("kdns_reloads", "Corefiles that took over.")
        self._done[()] = 0
        app.meters.watch(
            "gauge",
            "coredns_reload_version_info",
            "Always 1; the labels say which Corefile runs.",
            ("hash", "value"),
            lambda: [(("sha512", self._digest), 1)],
        )

    def tell(self) -> None:
        """Look now, and change over even to the same Corefile: what it names may be another."""
        self._told.set()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            found = settings(self._app.running.plan)
            pause = None if found is None else found.pause(self._rng)
            try:
                await asyncio.wait_for(self._told.wait(), pause)
            except TimeoutError:
                await self.look()
            else:
                self._told.clear()
                await self.look(forced=True)

    async def look(self, *, forced: bool = False) -> None:
        """Take over what is written now, if it is another than what runs. Never raises."""
        try:
            plan = await asyncio.to_thread(self._load)
            digest = await asyncio.to_thread(plan.digest)
            if forced or digest != self._digest:
                await self._change(plan)
                self._digest = digest
        except FAILURES as error:
            self._failed[()] += 1
            _tell(error)
        except Exception:
            # A fault of ours: what runs goes on, and so do the looks.
            self._failed[()] += 1
            log.exception(_FAILED)

    async def _change(self, plan: Plan) -> None:
        log.info("Reloading")
        self._notify("reloading")
        try:
            await self._app.change(plan, self._open_new(plan))
        finally:
            self._notify("ready")
        self._done[()] += 1
        for warning in plan.warnings:
            log.warning("%s", warning)
        log.info("plugin/reload: Running configuration SHA512 = %s", plan.digest())
        log.info("Reloading complete")


def _tell(error: Exception) -> None:
    """In CoreDNS's words, and without a stack: what is wrong is in the file."""
    for line in str(error).splitlines() or [type(error).__name__]:
        log.error("%s: %s", _FAILED, line)
