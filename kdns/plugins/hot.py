"""Hot answers: finished replies under the bytes of the queries that they answer.

    datagram after its ID --Table--> Entry: the reply's bytes after its ID, ready to be sent
            | miss                     ^ from the second time on
    read question --HotAnswers--> Prepared: the same reply for any letter case, ID, or cookie
            | miss
    the block's handlers --Reply.depends--> remembered, until one of those names changes

A `Table` belongs to one listener, so that what is counted (transport, address family, sizes) is the
same for all uses of an entry: a hit costs one look-up and one `+= 1`, and metrics are exact all the
same. A `Prepared` belongs to all listeners of a port.

An answer names what it depends on, and `forget` drops it the moment that changes; the next one to
its question stands where it stood at once, if it was in use there. One whose TTLs count down rests
on a `Lease`, and `renew` makes it older where it stands. Everything is bounded, by number and by
octets; what was not used since the last sweep goes first.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from struct import Struct

from kdns.plugins.block import Block, Counters
from kdns.plugins.orders import turned
from kdns.plugins.peer import Proto
from kdns.telemetry.histogram import SECONDS, Histogram
from kdns.wire.message import ttl_places

MAX_ENTRIES = 32_768
"""Entries of one table, beside room for the cluster's own names: see `widen`."""
MAX_PREPARED = 32_768
PER_NAME = 2
"""Answers for each name of the cluster that there is room for: an address of either family."""
MAX_OCTETS = 64 << 20
"""Of all prepared replies of a port together, in all their orders."""
MAX_KEY = 10 + 255 + 4 + 11 + 4
"""Octets of a query after its ID: a header, the longest question, and an OPT that asks for NSID."""
MAX_PLACES = 32
"""Entries of one reply: clients differ in their EDNS sizes, and nobody needs all 65,536."""
SWEEP = 64
"""Entries, or replies, that are looked at to make room: so many that to find the oldest costs
little for each, so few that nobody waits for it."""
MAX_TALLIES = 1024
MAX_MISSED = 4096
"""Questions whose answer has ended and was in use."""

Pin = Callable[[bytes], tuple[int, object]]
"""The address of an object's octets, and what keeps that address good while it is kept."""
Dependency = object
"""What an answer rests on: whatever directives name alike in replies and in `forget`."""
Span = tuple[int, int, int]
"""Where the rotated records of a body begin and end, and how many they are, all of one size."""


class Lease:
    """What one answer rests on, and no other, whose TTLs count down. See HotAnswers.renew.

    seconds: how much older the answer becomes at the next `renew`.
    uses: how often it was handed out before that, since the one before; -1 where nobody has it.
    """

    __slots__ = ("seconds", "uses")

    def __init__(self) -> None:
        self.seconds = 0
        self.uses = -1


def no_pin(body: bytes) -> tuple[int, object]:
    """For listeners that send objects and not addresses."""
    return 0, None


class Prepared:
    """One reply, after its ID: for every client whose reply differs in ID and letter case alone.

    bodies: in every order that it is handed out in; each begins with the flags.
    turning: where a body has too many orders to have them all at hand, the records that turn.
    draw: says which of the bodies is next; without it they take turns.
    """

    __slots__ = (
        "_seen",
        "block",
        "bodies",
        "by",
        "depends",
        "do",
        "draw",
        "key",
        "octets",
        "places",
        "qtype",
        "rcode",
        "turning",
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
        turning: Span | None = None,
        draw: Callable[[], int] | None = None,
    ) -> None:
        self.bodies = bodies
        self.depends = depends
        self.block = block
        self.qtype = qtype
        self.rcode = rcode
        self.by = by
        self.do = do
        self.turning = turning
        self.draw = draw
        self.octets = len(bodies[0]) * len(bodies)
        self.key: object = None
        self.places: tuple[Entry, ...] = ()
        """Where it stands in tables; few, so a tuple, which is smaller than a list."""
        # The client it was made for has had it in its first order.
        self.used = self._seen = 1

    @property
    def qname(self) -> bytes:
        """The name in lower case; only once the reply is kept under a question."""
        key = self.key[0] if isinstance(self.key, tuple) else self.key
        return key[:-_TYPE_CLASS_FLAGS] if isinstance(key, bytes) else b""

    def body(self) -> bytes:
        """The reply in its next order."""
        used = self.used
        self.used = used + 1
        if self.draw is not None:
            return self.bodies[self.draw()]
        if self.turning is None:
            return self.bodies[used % len(self.bodies)]
        start, end, count = self.turning
        return turned(self.bodies[0], start, end, start + used % count * ((end - start) // count))

    def was_used(self) -> bool:
        """Whether it was handed out since this was last asked, or since it was made."""
        before = self._seen
        self._seen = self.used + sum([entry.hits for entry in self.places])
        return self._seen != before

    def stand(self, entry: "Entry") -> None:
        """An entry of a table has it from now on."""
        self.places += (entry,)


class Counting(Prepared):
    """One whose TTLs count down, all of them alike."""

    __slots__ = ("_counted", "_ttls")

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
        turning: Span | None = None,
        draw: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            bodies, depends, block, qtype, rcode, by, do=do, turning=turning, draw=draw
        )
        self._counted = self.used
        self._ttls: tuple[int, ...] | None = None

    def stand(self, entry: "Entry") -> None:
        """See Prepared."""
        super().stand(entry)
        # It begins with the number of those who had it before.
        self._counted += entry.hits

    def renew(self, seconds: int) -> int:
        """Make it older; how often it was handed out since the last time."""
        if seconds:
            if self._ttls is None:
                # A body lacks the ID. The TTLs of records that turn stand in the same places.
                self._ttls = tuple([at - 2 for at in ttl_places(b"\0\0" + self.bodies[0])])
            ttls = self._ttls
            self.bodies = tuple([_older(body, ttls, seconds) for body in self.bodies])
            for entry in self.places:
                entry.table.renew(entry)
        counted = self._counted
        self._counted = self.used + sum([entry.hits for entry in self.places])
        # Tables drop entries, with what those had counted.
        return max(0, self._counted - counted)


_TTL = Struct("!I")


def _older(body: bytes, ttls: tuple[int, ...], seconds: int) -> bytes:
    older = bytearray(body)
    for place in ttls:
        (ttl,) = _TTL.unpack_from(older, place)
        _TTL.pack_into(older, place, ttl - seconds if ttl > seconds else 0)
    return bytes(older)


class Entry:
    """A Prepared as one listener sends it. `hits` only grows; `counted` are in the metrics.

    key: the query after its ID; size: octets of the reply after its ID.
    """

    __slots__ = (
        "address",
        "addresses",
        "counted",
        "hits",
        "key",
        "marked",
        "orders",
        "pins",
        "prepared",
        "size",
        "table",
        "tally",
    )

    def __init__(self, prepared: Prepared, table: "Table", key: bytes, pin: Pin) -> None:
        self.prepared = prepared
        self.table = table
        self.key = key
        self.size = len(prepared.bodies[0])
        self.orders = 0
        self.addresses: list[int] = _NONE
        self.lie(pin)
        # The next order is the one after what was handed out last.
        self.hits = self.counted = prepared.used - 1
        self.marked = True
        self.tally: Tally | None = None

    def lie(self, pin: Pin) -> None:
        """Have the reply where it lies now."""
        bodies = self.prepared.bodies
        self.pins: object
        if len(bodies) == 1:
            self.address, self.pins = pin(bodies[0])
        else:
            pinned = [pin(body) for body in bodies]
            self.addresses = [address for address, _ in pinned]
            self.pins = [kept for _, kept in pinned]
            self.address = self.addresses[0]
            self.orders = len(bodies)

    def turn(self) -> None:
        """Have the next order at `address`."""
        draw = self.prepared.draw
        self.address = self.addresses[self.hits % self.orders if draw is None else draw()]


_NONE: list[int] = []
_TYPE_CLASS_FLAGS = 6
"""Octets after the name in a question's key."""


class Tally:
    """Hits that are alike in all that is counted, and not in the metrics yet."""

    __slots__ = ("asked", "block", "counters", "do", "qtype", "response", "size", "times")

    def __init__(self, entry: Entry) -> None:
        prepared = entry.prepared
        self.block = prepared.block
        self.counters = prepared.block.counters_of(prepared.qname)
        self.qtype = prepared.qtype
        self.response = (prepared.rcode, prepared.by)
        self.do = prepared.do
        self.asked = len(entry.key) + 2
        self.size = entry.size + 2
        self.times = 0


class Room:
    """How many answers there is room for: `base` and those to `names` names of a cluster.

    part: of it, where memory is short. Answers of the cluster, which are worth most, suffer last.
    """

    __slots__ = ("base", "names", "part")

    def __init__(self, base: int) -> None:
        self.base = base
        self.names = 0
        self.part = 1.0

    def limit(self) -> int:
        """The bound."""
        return max(1, int(self.base * self.part + PER_NAME * self.names * min(1.0, 8 * self.part)))


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
        self._room = Room(limit)
        self._limit = limit
        self._tallies: dict[object, Tally] = {}
        self._unsettled: list[Tally] = []
        self._owed: dict[int, tuple[Counters, int]] = {}
        """By the counters' id: hits whose durations are still in `seconds`."""

    def widen(self, names: int) -> None:
        """Have room for all of so many names of a cluster beside what others ask."""
        self._room.names = max(self._room.names, names)
        self._limit = self._room.limit()

    def shrink(self, part: float) -> None:
        """Have room for a part of it, until told otherwise. What was there first goes."""
        self._room.part = part
        self._limit = self._room.limit()
        surplus = max(0, len(self.entries) - self._limit)
        for entry in list(islice(self.entries.values(), surplus)):
            self._evict(entry)

    def put(self, key: bytes, prepared: Prepared) -> None:
        """Answer `key`, a query after its ID, with `prepared` from now on.

        Nothing happens where that would cost more than it is worth: see MAX_KEY, MAX_PLACES.
        """
        if (
            prepared.turning is not None
            or len(key) > MAX_KEY
            or len(prepared.places) >= MAX_PLACES
            or key in self.entries
        ):
            return
        if len(self.entries) >= self._limit:
            self._sweep()
        entry = self.entries[key] = Entry(prepared, self, key, self._pin)
        prepared.stand(entry)

    def renew(self, entry: Entry) -> None:
        """Its reply has changed, and lies elsewhere; not while a batch is being answered."""
        entry.lie(self._pin)

    def drop(self, key: bytes) -> None:
        """Forget an answer; its hits go into the metrics."""
        self._count(self.entries.pop(key))

    def count(self) -> None:
        """Put all hits into the metrics."""
        for entry in self.entries.values():
            if entry.hits != entry.counted:
                self._count(entry)
        self._settle()
        for counters, hits in self._owed.values():
            counters.durations.add(self.seconds.take(hits))
        self._owed.clear()
        # The rest is of blocks that count nothing.
        self.seconds.take(sum(self.seconds.counts))

    def clear(self) -> None:
        """Forget every answer and every block; all hits go into the metrics."""
        self.count()
        for entry in self.entries.values():
            # They hold each other, and nobody should have to look for that.
            entry.prepared.places = ()
        self.entries.clear()
        self._tallies.clear()

    def _count(self, entry: Entry) -> None:
        hits = entry.hits - entry.counted
        if not hits:
            return
        entry.counted = entry.hits
        entry.marked = True
        asked = entry.prepared.block.asked
        if asked is not None:
            asked.heard(hits, entry.prepared.qname, entry.prepared.rcode)
        tally = entry.tally
        if tally is None:
            tally = entry.tally = self._tally_of(entry)
        if not tally.times:
            if len(self._unsettled) >= MAX_TALLIES:
                self._settle()
            self._unsettled.append(tally)
        tally.times += hits

    def _tally_of(self, entry: Entry) -> Tally:
        """One tally for what is counted alike, so that a scrape has few to settle."""
        made = Tally(entry)
        kind = (id(made.counters), made.qtype, made.response, made.do, made.asked, made.size)
        if len(self._tallies) >= MAX_TALLIES:
            self._tallies.clear()
        return self._tallies.setdefault(kind, made)

    def _settle(self) -> None:
        for tally in self._unsettled:
            times, tally.times = tally.times, 0
            counters = tally.counters
            if tally.block.counted:
                counters.count((self.proto, self.family, tally.qtype), tally.response, times)
                counters.measure(self.proto, tally.asked, tally.size, times, do=tally.do)
                _, owed = self._owed.get(id(counters), (counters, 0))
                self._owed[id(counters)] = (counters, owed + times)
        self._unsettled.clear()

    def _sweep(self) -> None:
        """Second chance: what was used since the last sweep goes to the end, the rest goes."""
        for entry in list(islice(self.entries.values(), SWEEP)):
            self._count(entry)
            if entry.marked:
                entry.marked = False
                self.entries[entry.key] = self.entries.pop(entry.key)
            else:
                self._evict(entry)
        if len(self.entries) >= self._limit:
            self._evict(next(iter(self.entries.values())))

    def _evict(self, entry: Entry) -> None:
        self.drop(entry.key)
        prepared = entry.prepared
        prepared.places = tuple([place for place in prepared.places if place is not entry])


class HotAnswers:
    """What is prepared for one port, by question, and by what it depends on."""

    def __init__(self, limit: int = MAX_PREPARED, octets: int = MAX_OCTETS) -> None:
        self._prepared: dict[object, Prepared] = {}
        # Most words have one answer that rests on them: a set for each would be most of the memory.
        self._dependants: dict[Dependency, Prepared | set[Prepared]] = {}
        self._room = Room(limit)
        self._limit = limit
        self._octets_at_most = self._most_octets = octets
        self.octets = 0
        """Of all bodies together."""
        self._missed: dict[object, tuple[tuple[Table, bytes, int], ...]] = {}
        """Where an answer stood that a change has ended: table, key, and octets."""

    def __len__(self) -> int:
        return len(self._prepared)

    def widen(self, names: int) -> None:
        """Have room for all of so many names of a cluster beside what others ask."""
        self._room.names = max(self._room.names, names)
        self._limit = self._room.limit()

    def shrink(self, part: float) -> None:
        """Have room for a part of it, until told otherwise. What was there first goes."""
        self._room.part = part
        self._limit = self._room.limit()
        self._most_octets = int(self._octets_at_most * part)
        surplus = max(0, len(self._prepared) - self._limit)
        for prepared in list(islice(self._prepared.values(), surplus)):
            self._drop(prepared)
        if self.octets > self._most_octets:
            self._make_room(0)

    def get(self, key: object) -> Prepared | None:
        """The answer prepared for a question."""
        return self._prepared.get(key)

    def put(self, key: object, prepared: Prepared) -> None:
        """Remember an answer, in the place of one to the same question. The oldest make room.

        Where one stood that was in use until a change ended it, this one stands at once.
        """
        before = self._prepared.get(key)
        if before is not None:
            self._drop(before)
        octets = self.octets + prepared.octets
        if len(self._prepared) >= self._limit or octets > self._most_octets:
            self._make_room(prepared.octets)
        self.octets += prepared.octets
        prepared.key = key
        self._prepared[key] = prepared
        dependants = self._dependants
        for dependency in prepared.depends:
            held = dependants.get(dependency)
            if held is None:
                dependants[dependency] = prepared
            elif isinstance(held, set):
                held.add(prepared)
            elif held is not prepared:
                dependants[dependency] = {held, prepared}
        for table, place, size in self._missed.pop(key, ()):
            # A larger one may be more than who asks so can take.
            if len(prepared.bodies[0]) <= size:
                table.put(place, prepared)

    def forget(self, changed: Iterable[Dependency]) -> None:
        """Drop every answer that depends on one of these."""
        for dependency in changed:
            held = self._dependants.pop(dependency, ())
            for prepared in (held,) if isinstance(held, Prepared) else held:
                self._miss(prepared)
                self._drop(prepared)

    def renew(self, leases: Iterable[Lease]) -> None:
        """Make the answers that rest on these older, each by its seconds, and say their uses."""
        dependants = self._dependants
        for lease in leases:
            held = dependants.get(lease)
            if type(held) is Counting:
                lease.uses = held.renew(lease.seconds)

    def clear(self) -> None:
        """Forget every answer; those that stand in tables are cleared there."""
        self._prepared.clear()
        self._dependants.clear()
        self._missed.clear()
        self.octets = 0

    def _miss(self, prepared: Prepared) -> None:
        """Remember where it stood, if it was asked for there."""
        places = tuple([(e.table, e.key, e.size) for e in prepared.places if e.hits])
        if places:
            if len(self._missed) >= MAX_MISSED:
                del self._missed[next(iter(self._missed))]
            self._missed[prepared.key] = places

    def _make_room(self, octets: int) -> None:
        """For one more, of so many octets: of a part of the oldest, those go together that were not
        used since they were last looked at; see SWEEP. If need be, others too."""
        part = max(1, min(SWEEP, self._limit // SWEEP))
        for prepared in list(islice(self._prepared.values(), part)):
            if prepared.was_used():
                self._prepared[prepared.key] = self._prepared.pop(prepared.key)
            else:
                self._drop(prepared)
        if len(self._prepared) >= self._limit:
            self._drop(next(iter(self._prepared.values())))
        while self._prepared and self.octets + octets > self._most_octets:
            self._drop(next(iter(self._prepared.values())))

    def _drop(self, prepared: Prepared) -> None:
        del self._prepared[prepared.key]
        self.octets -= prepared.octets
        for dependency in prepared.depends:
            held = self._dependants.get(dependency)
            if isinstance(held, set):
                held.discard(prepared)
            if held is prepared or not held:
                self._dependants.pop(dependency, None)
        for entry in prepared.places:
            entry.table.drop(entry.key)
        prepared.places = ()
