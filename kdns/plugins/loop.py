"""loop: finds out whether our own questions come back to us, and then stops forwarding them.

At the start a name that nobody else would ask is sent down the rest of the chain. If it arrives
here again by way of an upstream, forwarding goes in a circle. CoreDNS stops the process then; but a
pod that restarts for ever answers nobody, while cluster names need no upstream at all. So only what
would be forwarded is refused, with SERVFAIL, and the probe is repeated until the circle is broken.
"""

import logging
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Outcome, Request, failure
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.message import Query
from kdns.wire.reply import Reply

log = logging.getLogger("kdns.loop")

NAME = "loop"
RETRY = 30.0
"""Seconds between probes until one shows no loop."""
LOOPBACK = Peer("127.0.0.1", 0, "udp", "127.0.0.1")


@dataclass(slots=True, frozen=True)
class Loop(Configured):
    """The settings of one loop directive."""

    zone: str

    def explain(self) -> str:
        return f"forwarding loops of {self.zone} are found, and not forwarded"

    def build(self, parts: Parts, following: Handler) -> Handler:
        guard = LoopGuard(self.zone, parts, following)
        parts.when_started(guard.probe)
        return guard


class LoopGuard:
    """Stands before what forwards; see the module's theory."""

    def __init__(self, zone: str, parts: Parts, following: Handler) -> None:
        numbers = [b"%d" % parts.rng.getrandbits(63) for _ in range(2)]
        self._probe_name = name.from_labels([*numbers, *name.split(name.from_text(zone))])
        self._zone = zone
        self._parts = parts
        self._following = following
        self._returned = False
        self.looping = False

    def __call__(self, request: Request) -> Outcome:
        """Pass on, unless that would go in a circle."""
        query = request.query
        if query.qtype == iana.HINFO and query.key == self._probe_name:
            self._returned = True
            return failure("our own probe came back", NAME)
        if self.looping and any(takes(query.key) for takes in self._parts.block.forwarded):
            return failure(f"forwarding {self._zone} leads back to this server", NAME)
        return self._following(request)

    def probe(self) -> None:
        """Send the probe on its way. Never raises: what fails here must not stop the server."""
        self._returned = False
        query = Query(self._probe_name, iana.HINFO, id=self._parts.rng.getrandbits(16))
        try:
            outcome = self._following(Request(query, LOOPBACK))
        except Exception as error:
            log.exception("The probe for loops of zone %r failed.", self._zone)
            outcome = failure(str(error), NAME)
        if isinstance(outcome, Pending):
            outcome.when_done(self._judge, self._give_up)
        else:
            self._judge(outcome)

    def _give_up(self, error: Exception) -> None:
        log.error("The probe for loops of zone %r failed.", self._zone, exc_info=error)
        self._judge(failure(str(error), NAME))

    def _judge(self, reply: Reply) -> None:
        # A probe that nobody answered says nothing of the circle that was there before.
        looping = self._returned or (self.looping and bool(reply.error))
        if looping and not self.looping:
            log.error(
                "Loop (%s -> %s) detected for zone %r: not forwarding it until the loop is gone. "
                "Do not point forward at this server, in a resolv.conf either.",
                LOOPBACK.host,
                self._parts.block.label,
                self._zone,
            )
        elif self.looping and not looping:
            log.info("No loop for zone %r any more: forwarding again.", self._zone)
        self.looping = looping
        if self.looping or reply.error:
            self._parts.call_later(RETRY, self.probe)


def parse(directive: Directive, zones: tuple[str, ...]) -> Loop:
    """See configured.Parse."""
    values.flag(directive)
    return Loop(zones[0])
