"""metadata: what directives know of a query, by label, for the formats of log and dnstap.

kubernetes, forward --publish--> Block.labels
                                     |  asked only when a format names a label, or for JSON
{/kubernetes/service} <-- Block.told, for names of the zones of this directive
"""

from dataclasses import dataclass

from kdns.corefile.address import expand_zone
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.wire import name


@dataclass(slots=True)
class Metadata(Configured):
    """The settings of one metadata directive."""

    zones: tuple[str, ...]

    def explain(self) -> str:
        zones = " ".join(self.zones)
        return f"{{/kubernetes/service}} and the like in formats, of queries of {zones}"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.metadata = tuple(name.from_text(zone) for zone in self.zones)
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Metadata:
    """See configured.Parse. `metadata [ZONES…]`."""
    named = tuple(zone for arg in directive.args for zone in expand_zone(arg))
    read_options(directive, {})
    return Metadata(tuple(dict.fromkeys(named)) or zones)
