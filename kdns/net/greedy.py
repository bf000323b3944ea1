"""Which client takes the place of the others: seen in samples, and held back by the kernel.

While not all can be answered, the clients of one batch in each tick are counted, and old counts
fade. A client that has more than TWICE what any other has is greedy, and less and less of what it
sends is let in, until it has no more than that or there is time for all: so those who ask little
lose nothing, and what they leave is for who asks much. A client alone takes nobody's place.
"""

from collections.abc import Iterable
from typing import Final

TWICE: Final = 2.0
LEAST_KEPT: Final = 1 / 256
LESS: Final = 0.85
MORE: Final = 1.1
"""Small steps, for what is dropped in vain is as bad as what waits for too long."""
AT_ONCE: Final = 4
"""Clients that are held back at a time."""
_FADES: Final = 0.8
_FORGOTTEN: Final = 0.25
_SURE: Final = 32.0
"""Counted so often, a client is no accident."""
_MOST: Final = 512


class Greedy:
    """`kept` is the part that is let in of each greedy client, by its address as octets."""

    def __init__(self) -> None:
        self.kept: dict[bytes, float] = {}
        self._seen: dict[bytes, float] = {}

    def sample(self, clients: Iterable[bytes]) -> None:
        """Who asked in one batch."""
        seen = {
            client: count * _FADES
            for client, count in self._seen.items()
            if count * _FADES > _FORGOTTEN
        }
        for client in clients:
            if client in seen or len(seen) < _MOST:
                seen[client] = seen.get(client, 0.0) + 1
        self._seen = seen

    def harden(self) -> bool:
        """There is too much: hold the greediest back, or more so; whether there is one."""
        ranked = sorted(self._seen.items(), key=lambda item: -item[1])[:2]
        if len(ranked) < 2:
            return False
        (client, most), (_, second) = ranked
        if most < _SURE or most <= TWICE * second:
            return False
        kept = self.kept.get(client, 1.0)
        if kept <= LEAST_KEPT or (kept == 1.0 and len(self.kept) >= AT_ONCE):
            return False
        self.kept[client] = max(LEAST_KEPT, kept * LESS)
        return True

    def relax(self, *, over: bool) -> bool:
        """There is time: let more of them in, or all of it where the flood is over; whether any
        were held back."""
        if not self.kept:
            return False
        more = {} if over else {client: kept * MORE for client, kept in self.kept.items()}
        self.kept = {client: kept for client, kept in more.items() if kept < 1}
        return True
