"""multisocket: how many processes answer, each with sockets of its own on the same ports."""

import os
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts

MAX_WORKERS = 1024
"""CoreDNS's bound."""


@dataclass(slots=True, frozen=True)
class MultiSocket(Configured):
    """The settings of one multisocket directive."""

    workers: int

    def explain(self) -> str:
        return f"{self.workers} processes answer"

    def build(self, parts: Parts, following: Handler) -> Handler:
        # Processes are started before anything is built; workers.py reads the number from here.
        return following


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse(directive: Directive, zones: tuple[str, ...]) -> MultiSocket:
    """See configured.Parse. `multisocket [N]`; without N as many as there are cores."""
    values.without_block(directive)
    args = values.at_most(directive, 1)
    if not args:
        return MultiSocket(usable_cores())
    return MultiSocket(values.integer(args[0], minimum=1, maximum=MAX_WORKERS))
