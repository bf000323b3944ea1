"""Which of the cache's hot answers grow older, and which end, and when.

    slot:  0 . 1 . 2 . ................ SLOTS, a second
           |   |   +-- leases whose answers end in such a slot, so many seconds from now
           |   +-- each is visited once a second: made older where it stands, or ended
           +-- just before the age of its reply is a whole number of seconds

A hot answer shows an age that was right when it was visited last, and is never handed out after the
time until which its reply holds. So all that many clients ask for costs, beside the hits, is one
visit a second; and what nobody has asked for a while ends.
"""

from collections.abc import Callable, Mapping
from typing import Final

from kdns.plugins import hot
from kdns.plugins.cache_store import Kept, Store
from kdns.plugins.parts import Parts

SLOTS: Final = 32
"""Visits are spread over so many parts of a second."""
MOST: Final = 1024
"""Visits in one slot, so that nobody waits long for them; the rest are put off to the next."""
IDLE: Final = 20
"""Visits after which an answer that nobody asked for ends: that costs less than to make it anew."""
_EARLY: Final = 2 / SLOTS
"""Visits are so much, at most, before the second is full."""
_LATE: Final = 0.001
"""Loops round delays: a visit that comes too early would find nothing to do."""


class Lease(hot.Lease):
    """On a reply that is kept. end: its last slot, counted from when the clock was 0."""

    __slots__ = ("age", "end", "idle", "kept")

    def __init__(self, kept: Kept, age: int, end: int) -> None:
        super().__init__()
        self.kept = kept
        self.age = age
        self.end = end
        self.idle = 0


class Leases:
    """The leases of one cache. used: told how often a reply was handed out hot, before now.

    still: whether TTLs are shown as they came.
    """

    def __init__(
        self,
        parts: Parts,
        stores: Mapping[str, Store],
        used: Callable[[Kept, int, float], object],
        *,
        still: bool,
    ) -> None:
        self._parts = parts
        self._stores = stores
        self._used = used
        self._still = still
        self._ring: list[list[Lease]] = [[] for _ in range(SLOTS)]
        self._count = 0
        self._slot = 0
        self._ticking = False

    def __len__(self) -> int:
        return self._count

    def take(self, kept: Kept, age: int, due: float) -> Lease | None:
        """A lease for an answer that shows this age and holds until `due`; None: it ends too soon,
        or there are too many."""
        if not self._ticking:
            self._ticking = True
            self._slot = int(self._parts.monotonic() * SLOTS)
            self._wait()
        end = int(due * SLOTS) - 1
        if end <= self._slot or self._count >= MOST * SLOTS:
            return None
        lease = Lease(kept, age, end)
        self._ring[end % SLOTS].append(lease)
        self._count += 1
        return lease

    def end(self, gone: Callable[[bytes], bool]) -> None:
        """End those of the names, absolute and lower-case, that are `gone`: at once."""
        ended = [lease for leases in self._ring for lease in leases if gone(lease.kept.key[0])]
        if not ended:
            return
        over = set(ended)
        self._ring = [[lease for lease in leases if lease not in over] for leases in self._ring]
        self._parts.forget(ended)
        self._count -= len(ended)

    def _wait(self) -> None:
        # In whole slots of the clock, so that delays do not add up.
        now = self._parts.monotonic()
        self._parts.call_later((int(now * SLOTS) + 1) / SLOTS - now + _LATE, self._tick)

    def _tick(self) -> None:
        now = self._parts.monotonic()
        slot = int(now * SLOTS)
        for at in range(max(self._slot, slot - SLOTS) + 1, slot + 1):
            here = at % SLOTS
            leases, self._ring[here] = self._ring[here], []
            if len(leases) > MOST:
                self._ring[(here + 1) % SLOTS] += [one for one in leases[MOST:] if one.end > at]
                leases = leases[:MOST] + [one for one in leases[MOST:] if one.end <= at]
            if leases:
                self._ring[here] += self._visit(leases, at, now)
        self._slot = slot
        self._ticking = self._count > 0
        if self._ticking:
            self._wait()

    def _visit(self, leases: list[Lease], at: int, now: float) -> list[Lease]:
        """Those that go on."""
        for lease in leases:
            age = 0 if self._still else int(now - lease.kept.stored + _EARLY)
            lease.seconds = age - lease.age
            lease.age = age
            lease.uses = -1
        self._parts.renew(leases)
        ended: list[object] = []
        going: list[Lease] = []
        # One that was put off ends early, rather than late.
        following = at + SLOTS
        for lease in leases:
            kept = lease.kept
            if lease.uses > 0:
                lease.idle = 0
                self._used(kept, lease.uses, now)
            else:
                lease.idle += 1
            if (
                lease.uses >= 0
                and lease.end >= following
                and lease.idle < IDLE
                and self._stores[kept.kind].holds(kept)
            ):
                going.append(lease)
            else:
                ended.append(lease)
        self._parts.forget(ended)
        self._count -= len(ended)
        return going
