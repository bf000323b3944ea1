"""A reply as another server gave it, its records handed on as the octets that came.

    header | question | records ...... | OPT
    ours   | client's | theirs, in place | ours

The question's name is as long as it was, so compression pointers stay good, and an owner that is a
pointer to the question gets the client's own letter case. What cannot be handed on so is written
anew: a name spelled out where a pointer to the question would do (it has somebody's letter case),
a record twice, a set with several TTLs, an OPT that is not the last record, and records that the
question did not ask for.

RFC 5452, section 6 leaves it to resolvers to believe what they asked for alone: in the answer, what
the question's name owns, and what its chain of aliases leads to; in the authority section, what
stands at those names or above; beside them, what one of these, or one beside them before, names.
"""

import struct
from collections.abc import Iterable

from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.message import HEADER, MAX_RECORDS, Query, Record, read_rdata, read_response
from kdns.wire.reply import MAX_TCP_SIZE, Carried, Reply, RRset, write_reply

_RR_HEAD = struct.Struct("!HHIH")
_TTL = struct.Struct("!I")
_QUESTION = b"\xc0\x0c"
_RRSIG = 46


class Passed(Reply):
    """A reply that is handed on whole, and taken apart only when a directive looks inside.

    Whoever sets a section changes it for good: it is then written anew.
    """

    __slots__ = ("_question", "_sections")

    def __init__(
        self,
        question: bytes,
        carried: Carried,
        *,
        rcode: int = 0,
        aa: bool = False,
        tc: bool = False,
        ad: bool = False,
        cd: bool | None = None,
        by: str = "",
        upstream: str = "",
    ) -> None:
        self._question = question
        self._sections: list[tuple[RRset, ...]] | None = None
        self.rcode = rcode
        self.aa = aa
        self.tc = tc
        self.ad = ad
        self.cd = cd
        self.by = by
        self.upstream = upstream
        self.options = ()
        self.error = ""
        self.do = False
        self.depends = None
        self.rotated = False
        self.runs = ()
        self.drawn = None
        self.carried = carried

    def copy(self) -> "Passed":
        """The same once more, for somebody else to write on."""
        return self._with(self._carried())

    def aged(self, seconds: int, *, floor: int = 0) -> "Passed":
        """The same with all TTLs lower by `seconds`, but not below `floor`."""
        carried = self._carried()
        records = bytearray(carried.records)
        for place in carried.ttls:
            (ttl,) = _TTL.unpack_from(records, place)
            _TTL.pack_into(records, place, max(ttl - seconds, floor))
        return self._with(Carried(bytes(records), carried.counts, carried.ttls))

    def bounded(self, least: int, most: int) -> "Passed":
        """The same with all TTLs brought between two bounds, seconds."""
        carried = self._carried()
        ttls = self.ttls()
        if not ttls or (min(ttls) >= least and max(ttls) <= most):
            return self._with(carried)
        records = bytearray(carried.records)
        for place, ttl in zip(carried.ttls, ttls, strict=True):
            _TTL.pack_into(records, place, max(least, min(ttl, most)))
        return self._with(Carried(bytes(records), carried.counts, carried.ttls))

    def take_apart(self) -> None:
        """Have it written anew, for who asked another question than was answered."""
        self._parts()
        self.carried = None

    def ttls(self) -> list[int]:
        """The TTL of each record, in the order of the message, seconds."""
        carried = self._carried()
        return [_TTL.unpack_from(carried.records, place)[0] for place in carried.ttls]

    @property
    def octets(self) -> int:
        """Of the records."""
        return len(self._carried().records)

    @property
    def answer(self) -> tuple[RRset, ...]:
        """The answer section, as record sets."""
        return self._parts()[0]

    @answer.setter
    def answer(self, sets: tuple[RRset, ...]) -> None:
        self._put(0, sets)

    @property
    def authority(self) -> tuple[RRset, ...]:
        """The authority section, as record sets."""
        return self._parts()[1]

    @authority.setter
    def authority(self, sets: tuple[RRset, ...]) -> None:
        self._put(1, sets)

    @property
    def additional(self) -> tuple[RRset, ...]:
        """The additional section, as record sets, without the OPT."""
        return self._parts()[2]

    @additional.setter
    def additional(self, sets: tuple[RRset, ...]) -> None:
        self._put(2, sets)

    def _carried(self) -> Carried:
        assert self.carried is not None, "asked before a section was changed"
        return self.carried

    def _with(self, carried: Carried) -> "Passed":
        return Passed(
            self._question,
            carried,
            rcode=self.rcode,
            aa=self.aa,
            tc=self.tc,
            ad=self.ad,
            cd=self.cd,
            by=self.by,
            upstream=self.upstream,
        )

    def _parts(self) -> list[tuple[RRset, ...]]:
        if self._sections is None:
            carried = self._carried()
            flags = HEADER.pack(0, iana.QR, 1, *carried.counts)
            response = read_response(flags + self._question + carried.records)
            sections = (response.answer, response.authority, response.additional)
            self._sections = [rrsets(section) for section in sections]
        return self._sections

    def _put(self, section: int, sets: tuple[RRset, ...]) -> None:
        parts = self._parts()
        # A directive that leaves everything as it was leaves the octets as they were.
        if parts[section] is not sets and parts[section] != sets:
            self._sections = [*parts[:section], sets, *parts[section + 1 :]]
            self.carried = None


def read_passed(wire: bytes, by: str = "") -> Passed:
    """The reply in a message that answers a question of ours. Raises WireError."""
    if len(wire) < 12:
        raise WireError("shorter than a header")
    _, flags, questions, *counts = HEADER.unpack_from(wire)
    if not flags & iana.QR or questions != 1:
        raise WireError("not a reply to one question")
    if sum(counts) > MAX_RECORDS:
        raise WireError(f"{sum(counts)} records; at most {MAX_RECORDS} are read")
    qname, position = name.read(wire, 12)
    start = position + 4
    if start > len(wire):
        raise WireError("the question is cut off")
    walked = _walk(wire, start, qname, counts)
    if walked is None:
        return _anew(wire, by)
    ttls, end, extended = walked
    if end != len(wire):
        counts[2] -= 1
    return Passed(
        wire[12:start],
        Carried(wire[start:end], (counts[0], counts[1], counts[2]), tuple(ttls)),
        rcode=flags & 15 | extended,
        aa=bool(flags & iana.AA),
        tc=bool(flags & iana.TC),
        ad=bool(flags & iana.AD),
        cd=bool(flags & iana.CD),
        by=by,
    )


def _walk(
    wire: bytes, start: int, qname: bytes, counts: list[int], *, trusted: bool = False
) -> tuple[list[int], int, int] | None:
    """Where the TTLs stand after `start`, where the records end, and the upper bits of the rcode.

    None where the records cannot be handed on as they are. Raises WireError.
    trusted: we have written them ourselves; all owners are right.
    """
    position, size = start, len(wire)
    answers = counts[0]
    denials = answers + counts[1]
    ttls: list[int] = []
    qkey = qname.lower()
    chain = {qkey}
    seen: set[tuple[bytes, int, bytes]] = set()
    ttl_of: dict[tuple[bytes, int], int] = {}
    known: dict[int, bytes] = {}
    named: set[bytes] = set()
    # An OPT alone, the commonest thing there, names nothing and is named by nothing.
    beside = counts[2] > 1
    for index in range(sum(counts)):
        if wire[position : position + 2] == _QUESTION:
            position += 2
            owner = qkey
        else:
            owner, position = name.read(wire, position, known)
            owner = owner.lower()
            if owner == qkey and len(owner) > 1:
                return None
        data = position + 10
        if data > size:
            raise WireError("a record's header is cut off")
        rtype, _, ttl, length = _RR_HEAD.unpack_from(wire, position)
        after = data + length
        if after > size:
            raise WireError("a record's data is cut off")
        if rtype == iana.OPT:
            if index != sum(counts) - 1 or index < denials or owner != name.ROOT or after != size:
                return None
            return ttls, position - 1, ttl >> 24 << 4
        rdata = read_rdata(wire, data, after, rtype, known)
        section = (index >= answers) + (index >= denials)
        if not trusted and not _belongs(owner, section, chain, named):
            return None
        if rtype == iana.CNAME and index < answers:
            chain.add(rdata.lower())
        if beside and rtype in _TARGET_AT:
            named |= _target(rtype, rdata)
        record = (owner, rtype, rdata)
        if ttl & 0x80000000 or (record in seen and not trusted):
            return None
        kind = (owner, rtype)
        if rtype != _RRSIG and ttl_of.setdefault(kind, ttl) != ttl and not trusted:
            return None
        seen.add(record)
        ttls.append(position + 4 - start)
        position = after
    if position != size:
        raise WireError(f"{size - position} octets after the message's end")
    return ttls, position, 0


def _belongs(owner: bytes, section: int, chain: set[bytes], named: set[bytes]) -> bool:
    """Whether a record of this owner may stand in a section: 0 for the answer, and so on."""
    if section == _ADDITIONAL:
        return owner in named or owner in chain
    return owner in chain or (section > 0 and _above(owner, chain))


_ADDITIONAL = 2
_SVCB, _HTTPS = 64, 65
_TARGET_AT = {iana.NS: 0, iana.PTR: 0, iana.MX: 2, iana.SRV: 6, _SVCB: 2, _HTTPS: 2}
"""Where the name stands whose addresses are worth to be sent along: RFC 1035, section 3.3; RFC
2782; RFC 9460, section 4.1."""


def _target(rtype: int, rdata: bytes) -> set[bytes]:
    """The name that a record leads to, in lower case, if it is there."""
    try:
        return {name.read(rdata, _TARGET_AT[rtype])[0].lower()}
    except WireError:
        return set()


def _above(owner: bytes, chain: set[bytes]) -> bool:
    """Whether a name, in lower case, is one of the chain's or stands above one."""
    return any(name.is_below(link, owner) for link in chain)


def _anew(wire: bytes, by: str) -> Passed:
    """The same reply, without what was not asked for, each set once and with one TTL."""
    response = read_response(wire)
    qname, qtype, qclass = response.question
    chain = {qname.lower()}
    aliases = [record for record in response.answer if record.rtype in _LEADS_ON]
    for _ in aliases:
        for record in aliases:
            chain |= _led_to(record, chain)
    said: set[tuple[bytes, int, bytes]] = set()
    answer = _first(_believed(response.answer, chain), said)
    above = [record for record in response.authority if _above(record.owner.lower(), chain)]
    authority = _first(above, said)
    additional = _first(_related(response.additional, [*answer, *authority], chain), said)
    reply = Reply(answer=rrsets(answer), authority=rrsets(authority), additional=rrsets(additional))
    written = write_reply(Query(qname, qtype, qclass), reply, limit=MAX_TCP_SIZE)
    _, flags, _, *counts = HEADER.unpack_from(written)
    start = 12 + len(qname) + 4
    walked = _walk(written, start, qname, counts, trusted=True)
    assert walked is not None, "what we write is in order"
    return Passed(
        written[12:start],
        Carried(written[start:], (counts[0], counts[1], counts[2]), tuple(walked[0])),
        rcode=response.rcode,
        aa=bool(response.flags & iana.AA),
        tc=bool((response.flags | flags) & iana.TC),
        ad=bool(response.flags & iana.AD),
        cd=bool(response.flags & iana.CD),
        by=by,
    )


_LEADS_ON = frozenset((iana.CNAME, iana.DNAME))


def _led_to(alias: Record, chain: set[bytes]) -> set[bytes]:
    """Names that an alias leads to from those of the chain (RFC 6672, section 2.2 for DNAME)."""
    owner, target = alias.owner.lower(), alias.rdata.lower()
    if alias.rtype == iana.CNAME:
        return {target} if owner in chain else set()
    below = [link for link in chain if link != owner and name.is_below(link, owner)]
    led = {link[: len(link) - len(owner)] + target for link in below}
    return {link for link in led if len(link) <= name.MAX_NAME}


def _believed(records: tuple[Record, ...], chain: set[bytes]) -> list[Record]:
    """The records that the chain's names own, and the DNAMEs above them with their signatures."""
    return [
        record
        for record in records
        if record.owner.lower() in chain
        or (_may_stand_above(record) and _above(record.owner.lower(), chain))
    ]


def _related(
    records: Iterable[Record], before: Iterable[Record], chain: set[bytes]
) -> list[Record]:
    """Those of the records that the chain, one of `before`, or one of them before it, names."""
    named = set(chain)
    for record in before:
        named |= _target(record.rtype, record.rdata) if record.rtype in _TARGET_AT else set()
    related = []
    for record in records:
        if record.owner.lower() in named:
            related.append(record)
            named |= _target(record.rtype, record.rdata) if record.rtype in _TARGET_AT else set()
    return related


def _first(records: Iterable[Record], said: set[tuple[bytes, int, bytes]]) -> list[Record]:
    """The records that no section before has said; they are said from now on."""
    fresh = [r for r in records if (r.owner.lower(), r.rtype, r.rdata) not in said]
    said.update((r.owner.lower(), r.rtype, r.rdata) for r in fresh)
    return fresh


def _may_stand_above(record: Record) -> bool:
    if record.rtype == _RRSIG:
        return record.rdata[:2] == iana.DNAME.to_bytes(2, "big")
    return record.rtype == iana.DNAME


def rrsets(records: Iterable[Record]) -> tuple[RRset, ...]:
    """Records to record sets, in the order of their first records, none twice.

    RFC 2181, section 5.2: the records of a set have one TTL; where they come with several, the
    lowest. But for signatures, whose TTLs are those of what they sign (RFC 4034, section 3).
    """
    sets: dict[tuple[bytes, int, int, int], tuple[bytes, int, dict[bytes, None]]] = {}
    for record in records:
        apart = record.ttl if record.rtype == _RRSIG else 0
        key = (record.owner.lower(), record.rtype, record.rclass, apart)
        owner, ttl, datas = sets.get(key, (record.owner, record.ttl, {}))
        datas[record.rdata] = None
        sets[key] = (owner, min(ttl, record.ttl), datas)
    return tuple(
        RRset(owner, rtype, ttl, tuple(datas), rclass)
        for (_, rtype, rclass, _), (owner, ttl, datas) in sets.items()
    )
