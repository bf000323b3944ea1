"""health: says over HTTP that the process is alive, and keeps it answering while it is drained.

As CoreDNS it asks itself once a second, and counts how long that takes: a process that is too busy
to say that it is alive will be killed for it.
"""

import logging
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import HttpReply, Parts, Timer
from kdns.telemetry.histogram import Histogram

log = logging.getLogger("kdns.health")

DEFAULT_ADDRESS = ":8080"
PATH = "/health"
OK = HttpReply(200, b"OK")
EVERY = 1.0
PATIENCE = 3.0
"""Seconds between two questions to ourselves, and until one is given up."""
BOUNDS = tuple(0.00025 * 10**k for k in range(5))
"""Upper bounds of their durations, seconds: CoreDNS's."""


@dataclass(slots=True)
class Health(Configured):
    """The settings of one health directive. lameduck: seconds."""

    address: str = DEFAULT_ADDRESS
    lameduck: float = 0.0

    def explain(self) -> str:
        return f"http://{self.address}{PATH}; lameduck {self.lameduck:g} s"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.route(self.address, PATH, lambda: OK)
        parts.linger(self.lameduck)
        probe = SelfProbe(self.address, parts)
        parts.when_stopped(probe.stop)
        return following


class SelfProbe:
    """Asks again a second after each answer."""

    def __init__(self, address: str, parts: Parts) -> None:
        self._address = address
        self._parts = parts
        self._durations = parts.meters.histogram(
            "coredns_health_request_duration_seconds",
            "Seconds that /health took when we asked it ourselves, once a second.",
            BOUNDS,
        )
        self._failures = parts.meters.counter(
            "coredns_health_request_failures",
            "Times that /health did not say OK in time when we asked it ourselves.",
        )
        self._stopped = False
        self._served = False
        """Whether it was OK once: until then it is not our turn yet, when the Corefile is new."""
        self._timer: Timer = parts.call_later(EVERY, self._ask)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        self._timer.cancel()

    def _ask(self) -> None:
        began = self._parts.monotonic()
        asked = self._parts.fetch(self._address, PATH, PATIENCE)
        if asked is not None:
            # There from the start, as a count that is missing is no count of 0.
            self._durations.setdefault((), Histogram.of(BOUNDS))
            self._failures.setdefault((), 0)
            asked.when_done(lambda ok: self._seen(began, ok=ok))

    def _seen(self, began: float, *, ok: bool) -> None:
        if self._stopped:
            return
        self._timer = self._parts.call_later(EVERY, self._ask)
        self._served = self._served or ok
        if not self._served:
            return
        seconds = self._parts.monotonic() - began
        self._durations[()].observe(BOUNDS, seconds)
        if not ok:
            self._failures[()] += 1
            log.warning("we asked ourselves at %s%s, and got no OK", self._address, PATH)
        elif seconds > EVERY:
            log.warning("our own request to %s%s took %.1f s", self._address, PATH, seconds)


def parse(directive: Directive, zones: tuple[str, ...]) -> Health:
    """See configured.Parse."""
    settings = Health()
    for arg in values.at_most(directive, 1):
        settings.address = str(values.listen_address(arg))

    def lameduck(option: Directive) -> None:
        settings.lameduck = values.duration(values.exactly(option, 1)[0])

    read_options(directive, {"lameduck": lameduck})
    return settings
