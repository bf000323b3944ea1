"""loadbalance: which address of a name comes first: each in its turn, or one by its weight.

round_robin      each of them as often as the others
weighted FILE    drawn by the weights in a file, which is read again from time to time
prefer CIDR...   those in these networks come before the others, under either
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import groupby
from operator import is_not
from typing import NamedTuple

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.dice import Dice
from kdns.plugins.loadbalance_prefer import ADDRESSES, Network, Preference
from kdns.plugins.loadbalance_weighted import Weighing
from kdns.plugins.loadbalance_weights import ByName, Weights, read_weights
from kdns.plugins.parts import Parts
from kdns.plugins.pending import after
from kdns.plugins.rereading import BadFile, Rereader, UnreadableFile
from kdns.wire import iana
from kdns.wire.reply import Reply, RRset

ROTATED = (iana.A, iana.AAAA, iana.MX)
MAX_REMEMBERED = 10_000
"""Names whose turn is remembered; when there are more, all begin anew at a random place."""
RELOAD = 30.0
"""Seconds between two looks at a file of weights, as in CoreDNS."""
SHORTEST = 0.1
"""Seconds: what is asked for more often is looked at so often."""


class Weighted(NamedTuple):
    """A file of weights, and the seconds between two looks at it; 0 for one look alone."""

    path: str
    seconds: float


@dataclass(slots=True, frozen=True)
class LoadBalance(Configured):
    """The settings of one loadbalance directive."""

    place: Directive = field(compare=False)
    weighted: Weighted | None = None
    preferred: tuple[Network, ...] = ()

    @property
    def chooses(self) -> bool:
        """Whether some addresses are handed out first more often than others."""
        return self.weighted is not None or bool(self.preferred)

    def explain(self) -> str:
        if self.weighted is None:
            text = "addresses are handed out in turn"
        else:
            path, seconds = self.weighted
            often = f"every {seconds:g} s" if seconds else "once"
            text = f"the first address is drawn by the weights in {path}, read {often}"
        if self.preferred:
            text += "; always first are addresses in " + ", then ".join(map(str, self.preferred))
        return text

    def build(self, parts: Parts, following: Handler) -> Handler:
        preference = Preference(self.preferred) if self.preferred else None
        if self.weighted is None:
            return Rotator(parts.rng.randrange, following, preference)
        weights = Weights()
        self._follow(self.weighted, weights, parts)
        return Weighing(weights, Dice(parts.rng).below, following, preference)

    def _follow(self, weighted: Weighted, weights: Weights, parts: Parts) -> None:
        """Read the weights, and again from time to time. Raises CorefileError."""
        path, seconds = weighted

        def take(by_name: ByName) -> None:
            weights.by_name = by_name

        rereader = Rereader(
            path, lambda octets: read_weights(octets, path), take, seconds, parts, "loadbalance"
        )
        try:
            rereader.first()
        except BadFile as error:
            may_come = seconds and isinstance(error, UnreadableFile)
            if not may_come and not parts.judged:
                raise CorefileError.at(self.place, f"loadbalance: {error}") from error
            # Who has judged it has said so.
            say = not (seconds and parts.judged)
            rereader.excuse(error, "until it is good, all addresses weigh the same", say=say)
        parts.when_started(rereader.start)
        parts.when_stopped(rereader.stop)


class Rotator:
    """Rotates A, AAAA and MX sets by one more at every answer, name by name.

    Each set has its own turn: with one turn for all, a client that asks A and AAAA in pairs would
    be handed the same first address for ever. preference: networks whose addresses come first; then
    those of one rank take turns among themselves.
    """

    def __init__(
        self,
        randrange: Callable[[int], int],
        following: Handler,
        preference: Preference | None = None,
    ) -> None:
        self._randrange = randrange
        self._following = following
        self._preference = preference
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
            if self._preference is not None and answer[-1].rtype in ADDRESSES:
                runs = [
                    len(list(run)) for _, run in groupby(answer[-1].rdatas, self._preference.rank)
                ]
                reply.runs = tuple(runs) if len(runs) > 1 else ()
        reply.additional = self._section(reply.additional)
        return reply

    def _section(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        if self._preference is not None:
            rrsets = self._preference.sets(rrsets)
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
        turn += 1
        self._turns[key] = turn
        rdatas = rrset.rdatas
        if self._preference is not None and rrset.rtype in ADDRESSES:
            rdatas = sum([_from(part, turn) for part in self._preference.parts(rdatas)], ())
        else:
            rdatas = _from(rdatas, turn)
        return RRset(rrset.owner, rrset.rtype, rrset.ttl, rdatas, rrset.rclass)


def _from(rdatas: tuple[bytes, ...], turn: int) -> tuple[bytes, ...]:
    """The records, beginning with that of this turn."""
    turn %= len(rdatas)
    return rdatas[turn:] + rdatas[:turn]


def parse(directive: Directive, zones: tuple[str, ...]) -> LoadBalance:
    """See configured.Parse. `loadbalance [round_robin | weighted FILE] { prefer … reload … }`."""
    args = directive.args
    if args:
        counts = {"round_robin": 1, "weighted": 2}
        if args[0].text not in counts:
            raise CorefileError.at(
                args[0], f"loadbalance: expected round_robin or weighted, got {args[0].text!r}"
            )
        values.exactly(directive, counts[args[0].text])
    preferred: dict[Network, None] = {}
    seconds = [RELOAD]

    def prefer(option: Directive) -> None:
        preferred.update(dict.fromkeys(map(_network, values.at_least(option, 1))))

    def reload(option: Directive) -> None:
        wanted = values.duration(values.exactly(option, 1)[0])
        seconds[0] = wanted and max(wanted, SHORTEST)

    options: dict[str, Callable[[Directive], object]] = {"prefer": prefer}
    if len(args) > 1:
        options["reload"] = reload
    read_options(directive, options)
    weighted = Weighted(args[1].text, seconds[0]) if len(args) > 1 else None
    return LoadBalance(directive, weighted, tuple(preferred))


def _network(token: Token) -> Network:
    try:
        return ip_network(token.text, strict=False)
    except ValueError as error:
        raise CorefileError.at(
            token, f"prefer: expected a prefix such as 10.0.0.0/8, got {token.text!r}"
        ) from error
