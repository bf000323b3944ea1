"""minimal: leaves Authority and Additional out of positive answers."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.plugins.pending import after
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply


@dataclass(slots=True, frozen=True)
class Minimal(Configured):
    """The settings of one minimal directive: it has none."""

    def explain(self) -> str:
        return "positive answers without Authority and Additional"

    def build(self, parts: Parts, following: Handler) -> Handler:
        return lambda request: after(following(request), strip)


def strip(reply: Reply) -> Reply:
    """The reply, bare where it has an answer.

    Negative answers keep their SOA: without it nobody could cache them (RFC 2308, section 3).
    """
    if reply.rcode == Rcode.NOERROR and reply.answer:
        reply.authority = ()
        reply.additional = ()
    return reply


def parse(directive: Directive, zones: tuple[str, ...]) -> Minimal:
    """See configured.Parse."""
    values.flag(directive)
    return Minimal()
