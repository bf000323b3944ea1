"""nsid: tells a client that asks which server of many has answered (RFC 5001)."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts

MAX_NSID = 128
"""Octets: with the longest name and our other options it still fits a reply of 512."""


@dataclass(slots=True, frozen=True)
class Nsid(Configured):
    """The settings of one nsid directive; an empty text is the host's name."""

    text: str = ""

    def explain(self) -> str:
        return f"NSID {self.text or 'of the host'}"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.nsid = (self.text or parts.hostname).encode()[:MAX_NSID]
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Nsid:
    """See configured.Parse."""
    values.without_block(directive)
    text = " ".join(arg.text for arg in directive.args)
    if len(text.encode()) > MAX_NSID:
        raise CorefileError.at(
            directive, f"nsid: expected at most {MAX_NSID} octets, got {len(text.encode())}"
        )
    return Nsid(text)
