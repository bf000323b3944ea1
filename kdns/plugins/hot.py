"""Hot answers: finished replies under the bytes of the queries that they answer.

    datagram after its ID --Table--> Entry: the reply's bytes after its ID, ready to be sent
            | miss
    read question --HotAnswers--> Prepared: the same reply for any letter case, ID, or cookie
            | miss
    the block's handlers --Reply.depends--> remembered, until one of those names changes

A `Table` belongs to one listener, so that what is counted (transport, address family, sizes) is the
same for all uses of an entry: a hit costs one look-up and one `+= 1`, and metrics are exact all the
same. A `Prepared` belongs to all listeners of a port.

An answer names what it depends on, and `forget` drops it the moment that changes. Everything is
bounded; what was not used since the last sweep goes first.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from kdns.plugins.block import Block
from kdns.plugins.peer import Proto
from kdns.telemetry.histogram import SECONDS, Histogram

MAX_ENTRIES = 131_072
"""Entries of one table; 100,000 names that are all in use fit."""
MAX_PREPARED = 131_072
MAX_ORDERS = 64
"""Prepared orders of a rotated answer, and what they may take together, octets."""
MAX_ORDERS_SIZE = 65_536
SWEEP = 64
"""One part in so many is swept when a table is full."""

Pin = Callable[[bytes], tuple[int, object]]
"""The address of an object's octets, and what keeps that address good while it is kept."""
Dependency = object
"""What an answer rests on: whatever directives name alike in replies and in `forget`."""


def no_pin(body: bytes) -> tuple[int, object]:
    """For listeners that send objects and not addresses."""
    return 0, None


class Prepared:
    """One reply, after its ID: for every client whose reply differs in ID and letter case alone.

    bodies: in as many orders as are prepared; each begins with the flags.
    """

    __slots__ = (
        "block",
        "bodies",
        "by",
        "depends",
        "do",
        "key",
        "places",
        "qtype",
        "rcode",
        "used",
    )

    def __init__(
        self,
        bodies: tuple[bytes, ...],
        depends: tuple[Dependency, ...],
        block: Block,
        qtype: int,
        rcode: int,
        by: str,
        *,
        do: bool = False,
    ) -> None:
        self.bodies = bodies
        self.depends = depends
        self.block = block
        self.qtype = qtype
        self.rcode = rcode
        self.by = by
        self.do = do
        self.key: object = None
        self.places: list[tuple[Table, bytes]] = []
        self.used = 0


class Entry:
    """A Prepared as one listener sends it. `hits` counts uses that are not in the metrics yet.

    asked: octets of the query; size: octets of the reply after its ID.
    """

    __slots__ = (
        "address",
        "addresses",
        "asked",
        "hits",
        "marked",
        "orders",
        "pins",
        "prepared",
        "size",
    )

    def __init__(self, prepared: Prepared, pin: Pin, asked: int) -> None:
        self.prepared = prepared
        self.asked = asked
        pinned = [pin(body) for body in prepared.bodies]
        self.addresses = [address for address, _ in pinned]
        self.pins = [kept for _, kept in pinned]
        self.address = self.addresses[0]
        self.size = len(prepared.bodies[0])
        self.orders = len(prepared.bodies) if len(prepared.bodies) > 1 else 0
        self.hits = 0
        self.marked = True

    def turn(self) -> None:
        """Have the next order at `address`."""
        self.address = self.addresses[self.hits % self.orders]


class Table:
    """The hot answers of one listener. `entries` is read by the listener itself."""

    def __init__(
        self, proto: Proto, family: int, pin: Pin = no_pin, limit: int = MAX_ENTRIES
    ) -> None:
        self.proto = proto
        self.family = family
        self.entries: dict[bytes, Entry] = {}
        self.seconds = Histogram.of(SECONDS)
        """How long hot answers took that are not in the metrics yet; shared out as they are."""
        self._pin = pin
        self._limit = limit

    def put(self, key: bytes, prepared: Prepared) -> None:
        """Answer `key`, a query after its ID, with `prepared` from now on."""
        if len(self.entries) >= self._limit:
            self._sweep()
        if key not in self.entries:
            self.entries[key] = Entry(prepared, self._pin, len(key) + 2)
            prepared.places.append((self, key))

    def drop(self, key: bytes) -> None:
        """Forget an answer; its hits go into the metrics."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._count(entry)

    def count(self) -> None:
        """Put all hits into the metrics."""
        for entry in self.entries.values():
            if entry.hits:
                self._count(entry)

    def _count(self, entry: Entry) -> None:
        hits, entry.hits = entry.hits, 0
        if hits:
            entry.marked = True
            prepared = entry.prepared
            counters = prepared.block.counters
            if prepared.block.counted:
                asked = (self.proto, self.family, prepared.qtype)
                counters.count(asked, (prepared.rcode, prepared.by), hits)
                size = entry.size + 2
                counters.measure(self.proto, entry.asked, size, hits, do=prepared.do)
                counters.durations.add(self.seconds.take(hits))

    def _sweep(self) -> None:
        """Second chance: what was used since the last sweep goes to the end, the rest goes."""
        for key in list(islice(self.entries, max(1, len(self.entries) // SWEEP))):
            entry = self.entries.pop(key)
            self._count(entry)
            if entry.marked:
                entry.marked = False
                self.entries[key] = entry
            else:
                entry.prepared.places.remove((self, key))
        if len(self.entries) >= self._limit:
            oldest = next(iter(self.entries))
            self.entries.pop(oldest).prepared.places.remove((self, oldest))


class HotAnswers:
    """What is prepared for one port, by question, and by what it depends on."""

    def __init__(self, limit: int = MAX_PREPARED) -> None:
        self._prepared: dict[object, Prepared] = {}
        self._dependants: dict[Dependency, set[Prepared]] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._prepared)

    def get(self, key: object) -> Prepared | None:
        """The answer prepared for a question."""
        return self._prepared.get(key)

    def put(self, key: object, prepared: Prepared) -> None:
        """Remember an answer. The oldest make room."""
        while len(self._prepared) >= self._limit:
            self._drop(next(iter(self._prepared.values())))
        prepared.key = key
        self._prepared[key] = prepared
        for dependency in prepared.depends:
            self._dependants.setdefault(dependency, set()).add(prepared)

    def forget(self, changed: Iterable[Dependency]) -> None:
        """Drop every answer that depends on one of these."""
        for dependency in changed:
            for prepared in list(self._dependants.get(dependency, ())):
                self._drop(prepared)

    def _drop(self, prepared: Prepared) -> None:
        del self._prepared[prepared.key]
        for dependency in prepared.depends:
            dependants = self._dependants[dependency]
            dependants.discard(prepared)
            if not dependants:
                del self._dependants[dependency]
        for table, key in prepared.places:
            table.drop(key)
        prepared.places.clear()


def orders(body: bytes, start: int, end: int, count: int) -> tuple[bytes, ...]:
    """A body in up to MAX_ORDERS rotations of the `count` records, equal in size, in start:end."""
    if count < 2:
        return (body,)
    wanted = max(1, min(count, MAX_ORDERS, MAX_ORDERS_SIZE // len(body)))
    size = (end - start) // count
    records = body[start:end]
    made: list[bytes] = []
    for turn in range(wanted):
        cut = turn * count // wanted * size
        made.append(body[:start] + records[cut:] + records[:cut] + body[end:])
    return tuple(made)
