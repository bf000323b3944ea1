"""From the bytes of one message to the bytes of its reply: read, choose the block, ask, write.

    wire --read_query--> Query --longest zone--> Block --handler--> Reply --write_reply--> wire
      ^                    |                                                                |
      +-- Front: hot? -----+-- prepared for another ID or letter case? <---- remembered ----+

Nothing here knows a socket. What cannot be read is refused with the rcode that the standard names,
and whatever a handler does, an answer comes out: an exception is a SERVFAIL and a line in the log.
"""

import logging
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from struct import Struct

from kdns.plugins import forwarding
from kdns.plugins.block import Block
from kdns.plugins.chain import Outcome, Request, Withheld
from kdns.plugins.hot import (
    Counting,
    HotAnswers,
    Lease,
    Prepared,
    Span,
    Table,
)
from kdns.plugins.orders import exchanged, in_runs, orders, windows
from kdns.plugins.peer import Peer, packed
from kdns.plugins.pending import Pending
from kdns.telemetry.histogram import SECONDS
from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import MIN_UDP_SIZE, Query, read_query, salvage
from kdns.wire.reply import MAX_UDP_SIZE, Draw, Reply, size_limit, write_reply

log = logging.getLogger("kdns.query")

DROPPED = "dropped"
"""The zone of queries for no zone, as CoreDNS's metrics have it."""
_ZONE_TRANSFERS = (iana.AXFR, iana.IXFR)


class Dispatcher:
    """Answers what comes in on one port, from the blocks that serve it. An Answerer.

    monotonic: seconds of a clock that never goes back, for durations.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._zones: dict[bytes, Block] = {}
        self._everything: Block | None = None
        """The only block, where it serves the root: the commonest Corefile, and nothing to find."""
        self.hot = HotAnswers()
        self.tables: list[Table] = []
        self.nobody = Block((DROPPED,))
        """Answers for names that no block serves: everything at its default."""
        self.unserved = 0
        """Messages that no block was asked about: unreadable ones, and names of no zone."""

    def serve(self, block: Block) -> None:
        """Ask `block` from now on about the names of its zones."""
        for zone in block.zones:
            self._zones[name.from_text(zone).lower()] = block
        self._everything = block if list(self._zones) == [name.ROOT] else None

    def own_zones(self) -> list[bytes]:
        """Where names are answered without asking anybody, in lower case, as on the wire."""
        blocks = {id(block): block for block in self._zones.values()}.values()
        if not any(block.can_forward for block in blocks):
            return [name.ROOT]
        idle = [zone for zone, block in self._zones.items() if not block.can_forward]
        return [*idle, *(zone for block in blocks for zone in block.own_zones)]

    def passing(self) -> list[tuple[bytes, Callable[[bytes], bool]]]:
        """Those of which unknown names go on to upstreams; see Block.passing."""
        blocks = {id(block): block for block in self._zones.values()}.values()
        return [passing for block in blocks if block.can_forward for passing in block.passing]

    def replace(self, blocks: Iterable[Block]) -> None:
        """Ask these blocks from now on, and no others; what is hot is of others, and forgotten."""
        for table in self.tables:
            table.clear()
        self.hot.clear()
        self._zones = {}
        self._everything = None
        for block in blocks:
            self.serve(block)

    def front(self, table: Table) -> "Front":
        """The Answerer of one listener, with the hot answers of its own."""
        self.tables.append(table)
        return Front(self, table)

    def widen(self, names: int) -> None:
        """Have room for hot answers about so many names of clusters."""
        self.hot.widen(names)
        for table in self.tables:
            table.widen(names)

    def shrink(self, part: float) -> None:
        """Have room for a part of the hot answers."""
        self.hot.shrink(part)
        for table in self.tables:
            table.shrink(part)

    def __call__(self, wire: bytes, peer: Peer) -> bytes | None | Pending[bytes | None]:
        """See Answerer."""
        return self.answer(wire, peer, None)

    def answer(
        self, wire: bytes, peer: Peer, table: Table | None
    ) -> bytes | None | Pending[bytes | None]:
        """Answer a message that is not hot; what comes of it may be, in `table`, from now on."""
        started = self.monotonic()
        try:
            query = read_query(wire)
        except WireError as error:
            self.unserved += 1
            if log.isEnabledFor(logging.DEBUG):
                log.debug("from %s: %s: %s", peer.host, error, wire[:_TOLD].hex())
            return salvage(wire, error)
        if table is not None:
            made = self._prepared(wire, query, table, started)
            if made is not None:
                return made
        block = self.find(query)
        if query.edns is not None and query.edns.version:
            # RFC 6891, section 6.1.3: a version that we do not have gets BADVERS and our own.
            self.unserved += 1
            return self._write(block or self.nobody, query, peer, Reply(Rcode.BADVERS))
        if block is None:
            self.unserved += 1
            return self._finish(self.nobody, Request(query, peer), Reply(Rcode.REFUSED), started)
        request = Request(query, peer)
        for tap in block.taps:
            try:
                tap.asked(request, wire)
            except Exception:
                log.exception("%r could not be told of", query)
        return self._answer(block, request, table, started)

    def _prepared(self, wire: bytes, query: Query, table: Table, started: float) -> bytes | None:
        """The reply that is at hand for a question, whole or as far as this client can take it."""
        question = _question(query)
        prepared = self.hot.get(question)
        made = None
        if prepared is not None:
            made = self._make(prepared, wire, query, table, started)
        if made is None and table.proto == "udp" and question is not None:
            cut = self.hot.get((question, _room(query)))
            if cut is not None:
                made = self._make(cut, wire, query, table, started)
        return made

    def _make(
        self, prepared: Prepared, wire: bytes, query: Query, table: Table, started: float
    ) -> bytes | None:
        """The reply to `query` from what is prepared; None where it is more than may be sent."""
        block = prepared.block
        size = len(prepared.bodies[0]) + 2
        if size > size_limit(query, udp=table.proto == "udp", cap=block.udp_limit):
            return None
        body = prepared.body()
        if block.asked is not None:
            block.asked.heard(1, query.key, prepared.rcode)
        if block.counted:
            counters = block.counters_of(query.key)
            edns = query.edns
            counters.answered(
                (
                    table.proto,
                    table.family,
                    query.qtype,
                    prepared.rcode,
                    prepared.by,
                    query.size,
                    size,
                    edns is not None and edns.do,
                )
            )
            counters.durations.observe(SECONDS, self.monotonic() - started)
        if _is_plain(query):
            table.put(wire[2:], prepared)
            return wire[:2] + body
        return wire[:2] + body[:_HEADER] + query.qname + body[_HEADER + len(query.qname) :]

    def find(self, query: Query) -> Block | None:
        """The block of the longest zone that the name is in.

        RFC 4035, section 3.1.4.1: DS belongs to the parent's side of a cut, so at a zone's apex it
        is the question of the block above, where there is one. As in CoreDNS the root is no such
        parent: what is forwarded there knows less of a private zone than the zone itself.
        """
        if self._everything is not None:
            return self._everything
        zones = self._zones
        at_apex: Block | None = None
        for suffix in name.suffixes(query.key):
            block = zones.get(suffix)
            if block is None:
                continue
            if query.qtype == iana.DS and len(suffix) == len(query.key) > 1:
                at_apex = block
            elif at_apex is None or len(suffix) > 1:
                return block
        return at_apex

    def resolve(self, request: Request) -> Outcome:
        """Ask the whole server on behalf of a client: for the target of an alias."""
        block = self.find(request.query)
        if block is None:
            return Reply(Rcode.REFUSED)
        return block.handler(request)

    def _answer(
        self,
        block: Block,
        request: Request,
        table: Table | None,
        started: float,
    ) -> bytes | None | Pending[bytes | None]:
        outcome = self._ask(block, request)
        if isinstance(outcome, Pending):
            return outcome.then(
                lambda reply: self._finish(block, request, reply, started),
                lambda error: self._finish(
                    block, request, self._failed(block, request, error), started
                ),
            )
        made = self._finish(block, request, outcome, started)
        keeps = table is not None and outcome.depends is not None and not block.watches_queries
        if keeps and made is not None:
            self._remember(block, request, outcome, made)
        return made

    def _remember(self, block: Block, request: Request, reply: Reply, made: bytes) -> None:
        """Have `made` at hand for the next who asks the same, if it is what everybody gets.

        It comes into a table when it is asked for again: most names that are asked for once are
        random, or misspelt, and would only take the place of others there.
        """
        query = request.query
        if reply.depends is None or reply.tc or made[3] & _RCODE == Rcode.SERVFAIL:
            return
        if reply.options and _opt_size(query, reply) > _SURE_ROOM:
            return
        question: object = _question(query)
        is_cut = bool(made[2] & _TC)
        if is_cut or not _has_additional(made, query, reply):
            # What is left out depends on the room that this client has.
            room = _room(query)
            if request.peer.proto != "udp" or room not in _ROOMS:
                return
            question = (question, room)
        end = 2 + _HEADER + len(query.key)
        body = made[2 : 2 + _HEADER] + query.key + made[end:]
        in_orders = _in_orders(body, query, reply, is_cut=is_cut)
        if in_orders is None:
            return
        bodies, turning, draw = in_orders
        depends = reply.depends
        # What rests on more than a lease is made of more than one answer, and not all of it ages.
        counts = len(depends) == 1 and isinstance(depends[0], Lease)
        prepared = (Counting if counts else Prepared)(
            bodies,
            depends,
            block,
            query.qtype,
            reply.rcode,
            reply.by,
            do=query.do,
            turning=turning,
            draw=draw,
        )
        self.hot.put(question, prepared)

    def _failed(self, block: Block, request: Request, error: Exception) -> Reply:
        block.counters.panics += 1
        # In CoreDNS's words; the traceback of each of a flood of queries is for who asks for it.
        log.error(
            'Recovered from panic in server: "%s" %s in %s, asked %s %s',
            block.label,
            traceback.format_exception_only(error)[-1].strip(),
            _place(error),
            name.to_text(request.query.key),
            iana.type_text(request.query.qtype),
            exc_info=error if block.stacktrace or block.debug else None,
        )
        return Reply(Rcode.SERVFAIL, error=f"internal error: {error}")

    def _ask(self, block: Block, request: Request) -> Outcome:
        query = request.query
        is_ours = query.qclass == iana.IN or not block.classes.isdisjoint(
            (query.qclass, iana.CLASS_ANY)
        )
        if not is_ours or query.qtype in _ZONE_TRANSFERS:
            # Most data is of class IN; and a transfer needs a directive that allows it.
            return Reply(Rcode.REFUSED)
        try:
            return block.handler(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self._failed(block, request, error)

    def _finish(self, block: Block, request: Request, reply: Reply, started: float) -> bytes | None:
        if type(reply) is Withheld:
            self._withhold(block, request, reply, started)
            return None
        try:
            wire = self._write(block, request.query, request.peer, reply)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            reply = self._failed(block, request, error)
            wire = self._write(block, request.query, request.peer, reply)
        if block.counted:
            self._count(block, request, reply, len(wire), started)
        if block.asked is not None:
            block.asked.heard(1, request.query.key, reply.rcode)
            if request.peer.proto == "tcp" and request.peer.host:
                block.asked.client(packed(request.peer.host), 1)
        for observe in block.observers:
            try:
                observe(request, reply, len(wire), self.monotonic() - started)
            except Exception:
                log.exception("%r was answered, but could not be told of", request.query)
        for tap in block.taps:
            try:
                tap.answered(request, reply, wire, self.monotonic() - started)
            except Exception:
                log.exception("%r was answered, but could not be told of", request.query)
        return wire

    def _withhold(self, block: Block, request: Request, reply: Reply, started: float) -> None:
        """It was asked, and no answer is sent: no size and no rcode of one is counted."""
        peer, query = request.peer, request.query
        if block.counted:
            asked = (peer.proto, _family(peer), query.qtype)
            seconds = self.monotonic() - started
            block.counters_of(query.key).unanswered(asked, query.size, seconds, do=query.do)
        if block.asked is not None:
            block.asked.heard(1, query.key, reply.rcode)

    def _count(
        self, block: Block, request: Request, reply: Reply, size: int, started: float
    ) -> None:
        peer, query = request.peer, request.query
        counters = block.counters_of(query.key)
        edns = query.edns
        counters.answered(
            (
                peer.proto,
                _family(peer),
                query.qtype,
                reply.rcode,
                reply.by,
                query.size,
                size,
                edns is not None and edns.do,
            )
        )
        counters.durations.observe(SECONDS, self.monotonic() - started)

    def _write(self, block: Block, query: Query, peer: Peer, reply: Reply) -> bytes:
        if query.edns is not None and _asks_nsid(query):
            # RFC 5001, section 2.3 leaves the content to us; without the directive it is empty.
            reply.options = (*reply.options, (iana.EDNS_NSID, block.nsid))
            # CoreDNS's nsid also sets DO, on what it has not forwarded. See docs/decisions.
            reply.do = bool(block.nsid) and reply.by.partition("/")[0] not in _HANDED_ON
        return write_reply(
            query,
            reply,
            limit=size_limit(query, udp=peer.proto == "udp", cap=block.udp_limit),
            ra=block.can_forward,
            size=block.udp_size,
        )


def _place(error: Exception) -> str:
    """The file and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no place"


def _family(peer: Peer) -> int:
    return 2 if ":" in peer.host else 1


def _asks_nsid(query: Query) -> bool:
    """RFC 5001, section 2.1: an empty NSID option asks for ours."""
    return query.edns is not None and any(c == iana.EDNS_NSID for c, _ in query.edns.options)


def _question(query: Query) -> bytes | None:
    """What a reply depends on of a query, but for ID, letter case and room; None: kept for nobody.

    EDNS options other than NSID, cookies say, change nothing in our replies.
    """
    edns = query.edns
    if edns is None:
        kind = 0
    elif edns.version:
        return None
    else:
        kind = 1 | edns.do << 1 | _asks_nsid(query) << 2
    return query.key + _THREE.pack(query.qtype, query.qclass, query.flags & _COPIED | kind)


def _room(query: Query) -> int:
    """Octets that a client has for a datagram, and nobody gives it more."""
    return MIN_UDP_SIZE if query.edns is None else min(query.edns.size, MAX_UDP_SIZE)


def _is_plain(query: Query) -> bool:
    """Whether others will send the same octets: no letter case of its own, no cookie."""
    if query.qname != query.key:
        return False
    edns = query.edns
    return edns is None or all(code == iana.EDNS_NSID for code, _ in edns.options)


def _has_additional(made: bytes, query: Query, reply: Reply) -> bool:
    """Whether all Additional records are there: TC does not tell."""
    if not reply.additional:
        return True
    wanted = sum([len(rrset.rdatas) for rrset in reply.additional]) + (query.edns is not None)
    return int.from_bytes(made[10:12], "big") == wanted


def _rotated_span(body: bytes, query: Query, reply: Reply) -> Span | None:
    """Where the records that may turn stand in a body, as many as it holds: at its end, before the
    OPT.

    None where they cannot be turned in place: each must be a pointer, ten octets of header, and
    data of one size, as addresses are.
    """
    before = sum([len(rrset.rdatas) for rrset in reply.answer[:-1]])
    held = int.from_bytes(body[4:6], "big") - before
    if held < 1:
        return len(body), len(body), 0
    rdatas = reply.answer[-1].rdatas[:held]
    size = 12 + len(rdatas[0])
    end = len(body) - _opt_size(query, reply)
    start = end - len(rdatas) * size
    head = body[start : start + 12]
    if head[:1] < b"\xc0" or body[start:end] != b"".join([head + rdata for rdata in rdatas]):
        return None
    return start, end, len(rdatas)


def _in_orders(
    body: bytes, query: Query, reply: Reply, *, is_cut: bool
) -> tuple[tuple[bytes, ...], Span | None, Draw | None] | None:
    """A body in every order that it is handed out in; what of it turns, where these are too many;
    and what says which is next, where they do not take turns. None: it is not to be at hand."""
    if not reply.rotated:
        return (body,), None, None
    span = _rotated_span(body, query, reply)
    if span is None:
        return _in_orders_spelled(body, query, reply, is_cut=is_cut)
    start, end, count = span
    rdatas = reply.answer[-1].rdatas
    draw = reply.drawn
    if not count:
        return (body,), None, None
    if draw is not None:
        bodies = exchanged(body, start, end, rdatas, draw.among)
        return (bodies, None, draw) if bodies else None
    if reply.runs:
        return in_runs(body, start, end, rdatas, reply.runs), None, None
    if is_cut:
        # Some take it for the whole, and are not to share a few addresses for ever.
        return windows(body, start, end, rdatas), None, None
    bodies = orders(body, start, end, count)
    return bodies, span if len(bodies) < count else None, None


def _in_orders_spelled(
    body: bytes, query: Query, reply: Reply, *, is_cut: bool
) -> tuple[tuple[bytes, ...], Span | None, Draw | None] | None:
    """See _in_orders; for a body whose records that may turn are another name's than was asked for:
    the first of them spells it, and the others point there."""
    size = 12 + len(reply.answer[-1].rdatas[0])
    before = sum([len(rrset.rdatas) for rrset in reply.answer[:-1]])
    others = int.from_bytes(body[4:6], "big") - before - 1
    second = len(body) - _opt_size(query, reply) - others * size
    pointer = body[second : second + 2]
    # A body lacks the ID.
    owner = (int.from_bytes(pointer, "big") & 0x3FFF) - 2
    header = second - size + 2
    if others < 1 or pointer[:1] < b"\xc0" or not _HEADER < owner < header - 2:
        return None
    pointing = body[:owner] + pointer + body[header:]
    if _rotated_span(pointing, query, reply) is None:
        return None
    made = _in_orders(pointing, query, reply, is_cut=is_cut)
    if made is None or made[1] is not None:
        return None
    spelled = body[owner:header]
    return tuple([b[:owner] + spelled + b[owner + 2 :] for b in made[0]]), None, made[2]


def _opt_size(query: Query, reply: Reply) -> int:
    if query.edns is None:
        return 0
    return 11 + sum([4 + len(value) for _, value in reply.options])


_TOLD = 512
"""Octets of an unreadable message that are logged."""
_HANDED_ON = (forwarding.NAME, "cache")
_THREE = Struct("!3H")
_COPIED = iana.RD | iana.CD | iana.AD
"""Flags of a query that decide flags of its reply."""
_HEADER = 10
"""Octets of a header after the ID."""
_TC = iana.TC >> 8
_RCODE = 15
_ROOMS = frozenset((512, 1200, 1220, 1232, 1280, 1400, 1410, 1452, 1472, 2048, 4000, 4096))
"""What resolvers have room for, octets. Answers that are cut are at hand for these alone: else one
name, asked for with every size, would take the place of all the others."""
_SURE_ROOM = MIN_UDP_SIZE - 12 - name.MAX_NAME - 4
"""Octets of an OPT that every reply has room for."""


class Front:
    """The Answerer of one listener: hot answers first. UDP in batches looks them up itself."""

    __slots__ = ("_answer", "_get", "_monotonic", "table")

    def __init__(self, dispatcher: Dispatcher, table: Table) -> None:
        self.table = table
        self._monotonic = dispatcher.monotonic
        self._get = table.entries.get
        self._answer = dispatcher.answer

    def __call__(self, wire: bytes, peer: Peer) -> bytes | None | Pending[bytes | None]:
        """See Answerer."""
        entry = self._get(wire[2:])
        if entry is None:
            return self._answer(wire, peer, self.table)
        began = self._monotonic()
        entry.hits += 1
        prepared = entry.prepared
        bodies, draw = prepared.bodies, prepared.draw
        reply = wire[:2] + bodies[entry.hits % len(bodies) if draw is None else draw()]
        self.table.seconds.observe(SECONDS, self._monotonic() - began)
        return reply


class FamilyFront:
    """The Answerer of a listener that serves both address families: a Front for each."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, v4: Front, v6: Front) -> None:
        self._v4 = v4
        self._v6 = v6

    def __call__(self, wire: bytes, peer: Peer) -> bytes | None | Pending[bytes | None]:
        """See Answerer."""
        return self._v6(wire, peer) if ":" in peer.host else self._v4(wire, peer)
