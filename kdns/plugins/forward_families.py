"""What clusters of one address family need not ask others: AAAA, or A, of names elsewhere.

A pod without an IPv6 address can do nothing with an AAAA record, and yet every resolver library
asks for one with each A. As long as no Service and no EndpointSlice of any cluster has an address
of a family, questions for it are answered here: the name exists, and owns nothing of that type.

Answers rest on a word, which is forgotten the moment the first such address comes, or the last one
goes. What is not known whole, or only remembered, says nothing.
"""

from collections.abc import Sequence

from kdns.cluster.objects import Resource
from kdns.cluster.state import Change, Cluster
from kdns.plugins.chain import extended_error
from kdns.plugins.parts import Parts
from kdns.wire import iana
from kdns.wire.reply import Reply

BY = "forward/single_stack"
EDE_SYNTHESIZED = 29
TOLD_BY = frozenset((Resource.SERVICES, Resource.ENDPOINTSLICES))
OCTETS = {iana.A: 4, iana.AAAA: 16}
WORDS = {iana.A: "no IPv4 in this cluster", iana.AAAA: "no IPv6 in this cluster"}


class Families:
    """Knows of which family no address is in the clusters that this server answers from."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clusters: Sequence[Cluster] = ()
        self._word = object()
        self._lacking: int | None = None
        parts.when_started(self._start)
        parts.when_stopped(self._stop)

    def answer(self, qtype: int) -> Reply | None:
        """The reply to a question for addresses that nobody here can use; None for all others."""
        if qtype not in OCTETS or qtype != self._lack():
            return None
        # What the answer rests on: a cluster that has become known whole tells of no change.
        self._lacking = qtype
        return Reply(
            by=BY,
            options=(extended_error(EDE_SYNTHESIZED, WORDS[qtype]),),
            depends=(self._word,),
        )

    def _start(self) -> None:
        self._clusters = tuple(self._parts.all_clusters())
        self._lacking = self._lack()
        for cluster in self._clusters:
            cluster.listen(self._changed)

    def _stop(self) -> None:
        for cluster in self._clusters:
            cluster.unlisten((self._changed,))

    def _lack(self) -> int | None:
        """The type of addresses that are nowhere, while there are others."""
        clusters = self._clusters
        if not all(cluster.synced - cluster.assumed >= TOLD_BY for cluster in clusters):
            return None
        absent = [
            qtype
            for qtype, octets in OCTETS.items()
            if not any(cluster.has_addresses(octets) for cluster in clusters)
        ]
        return absent[0] if len(absent) == 1 else None

    def _changed(self, change: Change) -> None:
        if not change.addresses:
            return
        lacking = self._lack()
        if lacking != self._lacking:
            self._lacking = lacking
            self._parts.forget((self._word,))
            self._word = object()
