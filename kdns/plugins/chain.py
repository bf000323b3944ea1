"""Questions on their way through a block's handlers, and what comes back.

A handler takes a Request and returns a Reply, at once or pending. Handlers wrap each other in the
order of the directive table, whatever the order in the Corefile, as in CoreDNS: the first to know
the answer gives it, and those before it may change it on its way out.
"""

from collections.abc import Callable
from typing import NamedTuple

from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.wire import iana
from kdns.wire.message import Query
from kdns.wire.reply import Reply

MAX_ALIASES = 8
"""How many aliases are followed for one question, over all zones and upstreams together."""

EDE_NOT_READY = 14
EDE_NETWORK_ERROR = 23


class Request(NamedTuple):
    """A question, who asked it, and how many aliases it has already been led through."""

    query: Query
    peer: Peer
    aliases: int = 0

    def instead(self, qname: bytes) -> "Request":
        """The question for an alias's target, on behalf of the same client."""
        query = self.query.ask_instead(qname, self.query.qtype)
        return Request(query, self.peer, self.aliases + 1)


class Withheld(Reply):
    """A reply that is not sent, nor counted as one: silence. Its question is counted."""

    __slots__ = ()


Outcome = Reply | Pending[Reply]
Handler = Callable[[Request], Outcome]


def refuse(request: Request) -> Reply:
    """The end of every chain: nobody serves this name (RFC 1035, 4.1.1: REFUSED by policy)."""
    return Reply(iana.Rcode.REFUSED)


def failure(error: str, by: str, *, options: tuple[tuple[int, bytes], ...] = ()) -> Reply:
    """SERVFAIL, with the reason for our own log."""
    return Reply(iana.Rcode.SERVFAIL, by=by, error=error, options=options)


def extended_error(code: int, text: str = "") -> tuple[int, bytes]:
    """The EDNS option of an Extended DNS Error (RFC 8914, section 2)."""
    return (iana.EDNS_EDE, code.to_bytes(2, "big") + text.encode())
