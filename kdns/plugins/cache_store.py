"""Replies that are kept for a time, within bounds of number and octets, the least used going first.

An entry knows when it was stored and until when it is fresh; whether it may be handed out after
that is the directive's business.
"""

from collections import OrderedDict

from kdns.wire.passed import Passed

Key = tuple[bytes, int, int, object]
"""(qname in lower case, type, class, what else an answer depends on)."""
OVERHEAD = 600
"""Octets that an entry takes beside its records: objects, key, table."""


class Kept:
    """A reply in the cache. Times are seconds of the clock that never goes back."""

    __slots__ = (
        "expires",
        "first",
        "hits",
        "key",
        "kind",
        "lasts",
        "octets",
        "passed",
        "recheck",
        "refreshing",
        "stored",
    )

    def __init__(self, key: Key, kind: str, passed: Passed, stored: float, lasts: float) -> None:
        self.key = key
        self.kind = kind
        self.passed = passed
        self.stored = stored
        self.lasts = lasts
        self.expires = stored + lasts
        self.hits = 0
        """Since `first`; for prefetching."""
        self.first = stored
        self.refreshing = False
        self.recheck = 0.0
        """Before then nobody asks again, for it has just failed."""
        self.octets = passed.octets + OVERHEAD
        """What it takes, about."""


class Store:
    """The entries of one kind. limit: how many; `octets` is what they take together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.octets = 0
        self.evictions = 0
        # Not a dict: that is slow to say which of its entries is the first, once many were dropped.
        self._held: OrderedDict[Key, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> Kept | None:
        """The entry, now the one used last."""
        kept = self._held.get(key)
        if kept is not None:
            self._held.move_to_end(key)
        return kept

    def holds(self, kept: Kept) -> bool:
        """Whether it is still what is kept under its key."""
        return self._held.get(kept.key) is kept

    def put(self, kept: Kept) -> None:
        """Keep an entry in the place of the one before."""
        key = kept.key
        self.drop(key)
        if self.limit < 1:
            return
        while len(self._held) >= self.limit:
            self.evict()
        self._held[key] = kept
        self.octets += kept.octets

    def drop(self, key: Key) -> None:
        """Keep it no longer."""
        before = self._held.pop(key, None)
        if before is not None:
            self.octets -= before.octets

    def evict(self) -> None:
        """Drop the entry that was not used for longest; there must be one."""
        _, evicted = self._held.popitem(last=False)
        self.octets -= evicted.octets
        self.evictions += 1

    def shrink(self, limit: int) -> None:
        """Have so many entries at most from now on."""
        self.limit = limit
        while len(self._held) > limit:
            self.evict()
