"""top: counts who asks what, and serves the counts to people.

CoreDNS has nothing like it. It is off unless asked for, and says who asks what only on localhost
unless told otherwise: names and clients are nobody else's business.
"""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts

DEFAULT_ADDRESS = "localhost:9154"


@dataclass(slots=True, frozen=True)
class TopNames(Configured):
    """The settings of one top directive."""

    address: str = DEFAULT_ADDRESS

    def explain(self) -> str:
        return f"who asks what, at http://{self.address}/top"

    def build(self, parts: Parts, following: Handler) -> Handler:
        block, top = parts.block, parts.top(self.address)
        block.asked = top
        top.searched += [searched for searched in block.searched if searched not in top.searched]
        top.places += [places for places in block.places if places not in top.places]
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> TopNames:
    """See configured.Parse."""
    args = values.at_most(directive, 1)
    values.without_block(directive)
    return TopNames(str(values.listen_address(args[0]))) if args else TopNames()
