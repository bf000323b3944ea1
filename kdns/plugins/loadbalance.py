"""loadbalance: hands out the addresses of a name in turn, each first as often as the others."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from operator import is_not

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.plugins.pending import after
from kdns.wire import iana
from kdns.wire.reply import Reply, RRset

ROTATED = (iana.A, iana.AAAA, iana.MX)
MAX_REMEMBERED = 10_000
"""Names whose turn is remembered; when there are more, all begin anew at a random place."""


@dataclass(slots=True, frozen=True)
class LoadBalance(Configured):
    """The settings of one loadbalance directive."""

    ineffective: tuple[str, ...] = ()

    def explain(self) -> str:
        return "addresses are handed out in turn"

    def warnings(self) -> tuple[str, ...]:
        return self.ineffective

    def build(self, parts: Parts, following: Handler) -> Handler:
        return Rotator(parts.rng.randrange, following)


class Rotator:
    """Rotates A, AAAA and MX sets by one more at every answer, name by name.

    Each set has its own turn: with one turn for all, a client that asks A and AAAA in pairs would
    be handed the same first address for ever.
    """

    def __init__(self, randrange: Callable[[int], int], following: Handler) -> None:
        self._randrange = randrange
        self._following = following
        self._turns: dict[tuple[bytes, int], int] = {}

    def __call__(self, request: Request) -> Outcome:
        """Pass on, and rotate what comes back."""
        return after(self._following(request), self._rotate)

    def _rotate(self, reply: Reply) -> Reply:
        carried = reply.carried
        if carried is not None and carried.counts[0] < 2 and carried.counts[2] < 2:
            return reply
        before = reply.answer
        answer = self._section(before)
        if answer is not before:
            reply.answer = answer
            *turned, reply.rotated = map(is_not, answer, before)
            if any(turned):
                # An answer at hand can turn its last set alone, and the others are not to stand.
                reply.depends = None
        reply.additional = self._section(reply.additional)
        return reply

    def _section(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        if not any(len(r.rdatas) > 1 and r.rtype in ROTATED for r in rrsets):
            return rrsets
        return tuple(self._rotated(rrset) for rrset in rrsets)

    def _rotated(self, rrset: RRset) -> RRset:
        count = len(rrset.rdatas)
        if count < 2 or rrset.rtype not in ROTATED:
            return rrset
        key = (rrset.owner, rrset.rtype)
        turn = self._turns.get(key)
        if turn is None:
            if len(self._turns) >= MAX_REMEMBERED:
                self._turns.clear()
            turn = self._randrange(count)
        turn = (turn + 1) % count
        self._turns[key] = turn
        rdatas = rrset.rdatas[turn:] + rrset.rdatas[:turn]
        return RRset(rrset.owner, rrset.rtype, rrset.ttl, rdatas, rrset.rclass)


def parse(directive: Directive, zones: tuple[str, ...]) -> LoadBalance:
    """See configured.Parse. `loadbalance [round_robin | weighted FILE] { prefer … reload … }`."""
    ineffective: list[str] = []
    args = directive.args
    if args:
        counts = {"round_robin": 1, "weighted": 2}
        if args[0].text not in counts:
            raise CorefileError.at(
                args[0], f"loadbalance: expected round_robin or weighted, got {args[0].text!r}"
            )
        values.exactly(directive, counts[args[0].text])
    if len(args) > 1:
        ineffective.append(
            f"{args[0].place}: loadbalance: weighted is not in effect yet: every address has its "
            "equal turn"
        )

    def prefer(option: Directive) -> None:
        for arg in values.at_least(option, 1):
            _network(arg)
        ineffective.append(f"{option.place}: loadbalance: prefer is not in effect yet")

    options: dict[str, Callable[[Directive], object]] = {"prefer": prefer}
    if len(args) > 1:
        options["reload"] = lambda option: values.duration(values.exactly(option, 1)[0])
    read_options(directive, options)
    return LoadBalance(tuple(ineffective))


def _network(token: Token) -> None:
    try:
        ip_network(token.text, strict=False)
    except ValueError as error:
        raise CorefileError.at(
            token, f"prefer: expected a prefix such as 10.0.0.0/8, got {token.text!r}"
        ) from error
