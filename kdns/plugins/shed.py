"""shed: counts under CoreDNS's name what is dropped when there is too much to do."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts


@dataclass(slots=True, frozen=True)
class Shed(Configured):
    """The settings of one shed directive: it has none."""

    def explain(self) -> str:
        return "what is dropped under overload is counted as coredns_shed_dropped_total"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.sheds = True
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Shed:
    """See configured.Parse."""
    values.flag(directive)
    return Shed()
