"""whoami: answers with the address and port that the question came from."""

from dataclasses import dataclass
from ipaddress import ip_address

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.wire import iana, name, rdata
from kdns.wire.reply import Reply, RRset


@dataclass(slots=True, frozen=True)
class WhoAmI(Configured):
    """The settings of one whoami directive: it has none."""

    def explain(self) -> str:
        return "every name is answered with the client's own address"

    def build(self, parts: Parts, following: Handler) -> Handler:
        return answer


def answer(request: Request) -> Outcome:
    """As CoreDNS: an empty answer, the client's address and port in Additional, TTL 0."""
    query, peer = request.query, request.peer
    packed = ip_address(peer.host.partition("%")[0]).packed
    rtype = iana.A if len(packed) == 4 else iana.AAAA
    additional = [RRset(query.key, rtype, 0, (packed,))]
    owner = b"\x04_" + peer.proto.encode() + query.key
    if len(owner) <= name.MAX_NAME:
        port = rdata.srv(0, 0, peer.port, name.ROOT)
        additional.append(RRset(owner, iana.SRV, 0, (port,)))
    return Reply(additional=tuple(additional), aa=True, by="whoami")


def parse(directive: Directive, zones: tuple[str, ...]) -> WhoAmI:
    """See configured.Parse."""
    values.flag(directive)
    return WhoAmI()
