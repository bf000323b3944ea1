"""reload: how often the Corefile, with what it imports, is looked at for changes."""

from dataclasses import dataclass
from random import Random

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts

INTERVAL, MIN_INTERVAL = 30.0, 2.0
JITTER, MIN_JITTER = 15.0, 1.0


@dataclass(slots=True, frozen=True)
class Reload(Configured):
    """The settings of one reload directive, in seconds."""

    interval: float = INTERVAL
    jitter: float = JITTER

    def explain(self) -> str:
        first, last = self.interval - self.jitter, self.interval + self.jitter
        return f"the Corefile is read again every {first:g} to {last:g} s"

    def build(self, parts: Parts, following: Handler) -> Handler:
        # It is about the process, and outlives what is built: kdns.reloading reads it in the plan.
        return following

    def pause(self, rng: Random) -> float:
        """Seconds until the next look: replicas that started together do not all look at once."""
        return self.interval + rng.uniform(-self.jitter, self.jitter)


def parse(directive: Directive, zones: tuple[str, ...]) -> Reload:
    """See configured.Parse. `reload [INTERVAL [JITTER]]`; as in CoreDNS, JITTER is cut to half."""
    values.without_block(directive)
    args = values.at_most(directive, 2)
    interval = values.duration(args[0], minimum=MIN_INTERVAL) if args else INTERVAL
    jitter = values.duration(args[1], minimum=MIN_JITTER) if len(args) > 1 else JITTER
    return Reload(interval, min(jitter, interval / 2))
