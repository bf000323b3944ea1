"""debug: what is only worth telling to somebody who looks for a fault is logged too.

In CoreDNS it also lets a panic end the process. Here a fault in a directive costs one query and no
more, with debug as without.
"""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts


@dataclass(slots=True, frozen=True)
class Debug(Configured):
    """The settings of one debug directive: it has none."""

    def explain(self) -> str:
        return "debug lines are logged, for the whole process"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.debug = True
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Debug:
    """See configured.Parse."""
    values.exactly(directive, 0)
    values.without_block(directive)
    return Debug()
