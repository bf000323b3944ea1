"""any: answers ANY with one small record, so that nobody is flooded with all of them (RFC 8482)."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.wire import iana, rdata
from kdns.wire.reply import Reply, RRset

TTL = 8482
"""Seconds; CoreDNS's, after the RFC's number."""
_DATA = rdata.hinfo(b"ANY obsoleted", b"See RFC 8482")


@dataclass(slots=True, frozen=True)
class Any(Configured):
    """The settings of one any directive: it has none."""

    def explain(self) -> str:
        return "ANY is answered with HINFO"

    def build(self, parts: Parts, following: Handler) -> Handler:
        def handle(request: Request) -> Outcome:
            query = request.query
            if query.qtype != iana.ANY:
                return following(request)
            # RFC 8482, section 4.2: a synthesised HINFO.
            return Reply(answer=(RRset(query.key, iana.HINFO, TTL, (_DATA,)),), by="any")

        return handle


def parse(directive: Directive, zones: tuple[str, ...]) -> Any:
    """See configured.Parse."""
    values.flag(directive)
    return Any()
