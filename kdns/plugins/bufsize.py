"""bufsize: bounds the UDP replies of its block, and what its OPT offers."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts

DEFAULT = 1232
"""Octets: fits IPv6's minimum MTU, so that no path needs to fragment."""


@dataclass(slots=True, frozen=True)
class BufSize(Configured):
    """The settings of one bufsize directive, in octets."""

    size: int

    def explain(self) -> str:
        return f"UDP replies of at most {self.size} octets"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.udp_limit = self.size
        parts.block.udp_size = self.size
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> BufSize:
    """See configured.Parse."""
    values.without_block(directive)
    args = values.at_most(directive, 1)
    return BufSize(values.integer(args[0], minimum=512, maximum=4096) if args else DEFAULT)
