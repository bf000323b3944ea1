"""loadbalance weighted: which address is first is drawn by weight, anew for each who asks.

The one that is drawn changes places with the first. The addresses of a section are drawn from
together, whatever names and families they are of, so that one of an SRV's targets comes first too.
"""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate

from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.loadbalance_prefer import ADDRESSES, Preference
from kdns.plugins.loadbalance_weights import ByName, Weights, weights_of
from kdns.plugins.pending import after
from kdns.wire.reply import Reply, RRset

Below = Callable[[int], int]
"""A number by chance: one of 0 to n - 1, each as likely."""


class SetDraw:
    """Draws one of the first `among` records of one set. See wire.reply.Draw.

    It knows of new weights by itself: an answer at hand need not be made anew for them.
    """

    __slots__ = ("_below", "_by_name", "_rrset", "_sums", "_weights", "among")

    def __init__(self, rrset: RRset, among: int, weights: Weights, below: Below) -> None:
        self.among = among
        self._rrset = rrset
        self._weights = weights
        self._below = below
        self._by_name: ByName | None = None
        self._sums: list[int] = []

    def __call__(self) -> int:
        by_name = self._weights.by_name
        if by_name is not self._by_name:
            self._by_name = by_name
            rrset = self._rrset
            self._sums = list(
                accumulate(weights_of(by_name, rrset.owner, rrset.rdatas[: self.among]))
            )
        return bisect(self._sums, self._below(self._sums[-1]))


class Weighing:
    """Puts one address before the others, by weight.

    preference: networks whose addresses come first in any case; then one of the best is drawn.
    """

    def __init__(
        self,
        weights: Weights,
        below: Below,
        following: Handler,
        preference: Preference | None = None,
    ) -> None:
        self._weights = weights
        self._below = below
        self._following = following
        self._preference = preference

    def __call__(self, request: Request) -> Outcome:
        """Pass on, and draw from what comes back."""
        return after(self._following(request), self._weigh)

    def _weigh(self, reply: Reply) -> Reply:
        carried = reply.carried
        if carried is not None and carried.counts[0] < 2 and carried.counts[2] < 2:
            return reply
        before = reply.answer
        candidates = _addresses(before)
        last = before[-1] if before else None
        if len(candidates) == 1 and last is candidates[0]:
            self._weigh_last(reply, last)
        elif candidates:
            reply.answer = self._section(reply, before, candidates)
        beside = reply.additional
        candidates = _addresses(beside)
        if candidates:
            reply.additional = self._section(reply, beside, candidates)
        return reply

    def _weigh_last(self, reply: Reply, rrset: RRset) -> None:
        """The commonest answer, which can be at hand: one set of addresses, behind its aliases."""
        among = len(rrset.rdatas)
        if self._preference is not None:
            parts = self._preference.parts(rrset.rdatas)
            among = len(parts[0])
            rrset = _with(rrset, sum(parts, ()))
        if among > 1:
            chosen = SetDraw(rrset, among, self._weights, self._below)()
            rrset = _exchanged(rrset, chosen)
            reply.rotated = True
            reply.drawn = SetDraw(rrset, among, self._weights, self._below)
        reply.answer = (*reply.answer[:-1], rrset)

    def _section(
        self, reply: Reply, rrsets: tuple[RRset, ...], candidates: list[RRset]
    ) -> tuple[RRset, ...]:
        """A section with one of several sets' addresses first."""
        best = None
        if self._preference is not None:
            candidates = [
                _with(rrset, sum(self._preference.parts(rrset.rdatas), ()))
                for rrset in sorted(candidates, key=self._preference.of_set)
            ]
            best = self._preference.of_set(candidates[0])
        by_name = self._weights.by_name
        places: list[tuple[int, int]] = []
        weights: list[int] = []
        for number, rrset in enumerate(candidates):
            found = weights_of(by_name, rrset.owner, rrset.rdatas)
            for place, (rdata, weight) in enumerate(zip(rrset.rdatas, found, strict=True)):
                if self._preference is None or self._preference.rank(rdata) == best:
                    places.append((number, place))
                    weights.append(weight)
        if len(places) > 1:
            # An answer at hand draws from its last set alone, and the others are not to stand.
            reply.depends = None
            sums = list(accumulate(weights))
            number, place = places[bisect(sums, self._below(sums[-1]))]
            candidates.insert(0, _exchanged(candidates.pop(number), place))
        following = iter(candidates)
        return tuple([next(following) if r.rtype in ADDRESSES else r for r in rrsets])


def _addresses(rrsets: tuple[RRset, ...]) -> list[RRset]:
    """The address sets of a section; none where there is one address at most."""
    found = [rrset for rrset in rrsets if rrset.rtype in ADDRESSES]
    return found if sum([len(rrset.rdatas) for rrset in found]) > 1 else []


def _with(rrset: RRset, rdatas: tuple[bytes, ...]) -> RRset:
    return RRset(rrset.owner, rrset.rtype, rrset.ttl, rdatas, rrset.rclass)


def _exchanged(rrset: RRset, chosen: int) -> RRset:
    """The set with one of its records in the place of the first, and that in its."""
    if not chosen:
        return rrset
    rdatas = list(rrset.rdatas)
    rdatas[0], rdatas[chosen] = rdatas[chosen], rdatas[0]
    return _with(rrset, tuple(rdatas))
