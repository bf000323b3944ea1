"""Writing a reply: sections in order, names compressed, and never more than the client can take.

Truncation drops whole records from the end. RFC 2181, section 9: TC is set when a record set that
the answer requires is left out or cut; Additional records are a courtesy, and go without TC.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from kdns.wire import iana, name
from kdns.wire.message import HEADER, MIN_UDP_SIZE, Query

MAX_UDP_SIZE = 4096
"""The largest UDP reply, octets, whatever the client offers: beyond, fragments are the rule."""
OUR_UDP_SIZE = 1232
"""What our OPT says that we take, octets: fits IPv6's minimum MTU, as resolvers agreed on."""
MAX_TCP_SIZE = 65535

_RR_HEAD = struct.Struct("!HHIH")
_TWO = struct.Struct("!HH")
_LENGTH = struct.Struct("!H")
_QUESTION_POINTER = b"\xc0\x0c"
_POINTER = 0xC000
_POINTER_LIMIT = 0x4000

_COMPRESSED_AT = {iana.NS: 0, iana.CNAME: 0, iana.PTR: 0, iana.MX: 2}
"""Where the one compressible name of a type's data stands.

RFC 3597, section 4: only the types of RFC 1035 may be compressed. SRV must not be (RFC 2782).
"""

_HOLDS_NAMES = frozenset((*_COMPRESSED_AT, iana.SOA, iana.SRV))


class RRset(NamedTuple):
    """The records of one owner, type and class. `rdatas` hold names uncompressed, none twice.

    A tuple, for several are made for each name that is asked for the first time.
    """

    owner: bytes
    rtype: int
    ttl: int
    rdatas: tuple[bytes, ...]
    rclass: int = iana.IN


@dataclass(slots=True, frozen=True)
class Carried:
    """The records of a reply as octets, from behind the question to before the OPT.

    Compression pointers count from a header of 12 octets and a question as long as this reply's.
    counts: of answer, authority and additional; ttls: where each record's TTL stands in `records`.
    """

    records: bytes
    counts: tuple[int, int, int]
    ttls: tuple[int, ...]


class Draw(Protocol):
    """Says, anew each time, which record of a set stands first: one of the first `among`."""

    @property
    def among(self) -> int:
        """How many there are to choose from."""

    def __call__(self) -> int:
        """The place, from 0, of the one that changes places with the first."""


@dataclass(slots=True)
class Reply:
    """What a handler found. The dispatcher adds ID, question, RD, CD, RA, OPT, and writes it.

    by: the directive that answered, for metrics and logs; behind a slash, what it may tell apart.
    cd: the CD bit where it is not the query's; do: the DO bit where the query's is not set.
    error: why it could not be answered, for our log; never sent.
    options: EDNS options for a client that speaks EDNS, as (code, data).
    depends: whatever the reply rests on, so that it can be kept until that changes; () for what
    never changes, None for what must not be kept.
    rotated: the last set of the answer may be handed out in any order; or, where `runs` says how
    many of its records stand together, with each such part turned for itself; or, where there is
    `drawn`, as that says each time.
    carried: the three sections as octets, where they are at hand. See wire.passed.
    upstream: who gave it, where it was handed on; for our log.
    """

    rcode: int = iana.Rcode.NOERROR
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    aa: bool = False
    tc: bool = False
    ad: bool = False
    by: str = ""
    options: tuple[tuple[int, bytes], ...] = ()
    error: str = ""
    cd: bool | None = None
    do: bool = False
    depends: tuple[object, ...] | None = None
    rotated: bool = False
    runs: tuple[int, ...] = ()
    drawn: Draw | None = None
    carried: Carried | None = None
    upstream: str = ""


def size_limit(query: Query, *, udp: bool, cap: int = MAX_UDP_SIZE) -> int:
    """Octets that the reply to `query` may have (RFC 1035, 4.2.1; RFC 6891, 6.2.3)."""
    if not udp:
        return MAX_TCP_SIZE
    return MIN_UDP_SIZE if query.edns is None else min(query.edns.size, cap)


def opt_record(
    *,
    rcode: int = 0,
    do: bool = False,
    size: int = OUR_UDP_SIZE,
    options: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """Our OPT (RFC 6891, 6.1.2): extended rcode, version 0, DO as the client's (RFC 3225)."""
    data = b"".join([struct.pack("!HH", code, len(value)) + value for code, value in options])
    ttl = (rcode >> 4) << 24 | (iana.DO if do else 0)
    return name.ROOT + _RR_HEAD.pack(iana.OPT, size, ttl, len(data)) + data


@lru_cache(maxsize=256)
def _bare_opt(rcode: int, do: bool, size: int) -> bytes:
    return opt_record(rcode=rcode, do=do, size=size)


def write_reply(
    query: Query,
    reply: Reply,
    *,
    limit: int,
    ra: bool = False,
    size: int = OUR_UDP_SIZE,
) -> bytes:
    """The bytes of `reply` to `query`, at most `limit` octets; below 512 it counts as 512.

    RFC 1035, section 4.1.1: ID, opcode and RD come from the query; RFC 4035, section 3: so does
    CD. RFC 6891, section 6.1.1: an OPT is answered with an OPT, and only then.
    """
    if limit < MIN_UDP_SIZE:
        limit = MIN_UDP_SIZE
    rcode = reply.rcode
    opt = b""
    if query.edns is not None:
        do = query.edns.do or reply.do
        options = reply.options and _fitting(reply.options, limit - _BARE - len(query.qname))
        if options:
            opt = opt_record(rcode=rcode, do=do, size=size, options=options)
        else:
            opt = _bare_opt(rcode, do, size)
    elif rcode > 15:
        # RFC 6891, section 6.1.3: the upper bits stand in an OPT; the lower ones mean another.
        rcode = iana.Rcode.SERVFAIL
    carried = reply.carried
    if carried is not None:
        records = carried.records
        if 16 + len(query.qname) + len(records) + len(opt) <= limit:
            flags = _flags(query, reply, rcode, ra=ra)
            answer, authority, additional = carried.counts
            head = HEADER.pack(
                query.id, flags, 1, answer, authority, additional + 1 if opt else additional
            )
            return head + query.qname + _TWO.pack(query.qtype, query.qclass) + records + opt
    if not reply.answer and not reply.additional and not reply.tc:
        denial = _denial(query, reply.authority)
        if denial and 16 + len(query.qname) + len(denial) + len(opt) <= limit:
            flags = _flags(query, reply, rcode, ra=ra)
            head = HEADER.pack(query.id, flags, 1, 0, 1, 1 if opt else 0)
            return head + query.qname + _TWO.pack(query.qtype, query.qclass) + denial + opt
    writer = _Writer(query, limit - len(opt))
    answered = writer.add_section(reply.answer) and writer.add_section(reply.authority, 1)
    if answered:
        writer.add_section(reply.additional, 2, whole_sets=True)
    flags = _flags(query, reply, rcode, ra=ra)
    if not answered:
        flags |= iana.TC
    return writer.finish(query.id, flags, opt)


def _denial(query: Query, authority: tuple[RRset, ...]) -> bytes:
    """The SOA of a zone that the question is in: most denials are this alone. Empty otherwise."""
    if len(authority) != 1:
        return b""
    (soa,) = authority
    owner = soa.owner
    if soa.rtype != iana.SOA or len(owner) == 1 or len(soa.rdatas) != 1:
        return b""
    if not name.is_below(query.key, owner):
        return b""
    return _soa_at(12 + len(query.key) - len(owner), owner, soa.ttl, soa.rclass, soa.rdatas[0])


@lru_cache(maxsize=1024)
def _soa_at(offset: int, owner: bytes, ttl: int, rclass: int, data: bytes) -> bytes:
    """A SOA record whose owner, in lower case, stands at `offset` of the message."""
    pointer = _LENGTH.pack(_POINTER | offset)
    mname, position = name.read(data, 0)
    rname, position = name.read(data, position)
    made = b""
    for text in (mname, rname):
        below = name.is_below(text.lower(), owner)
        made += text[: len(text) - len(owner)] + pointer if below else text
    made += data[position:]
    return pointer + _RR_HEAD.pack(iana.SOA, rclass, ttl, len(made)) + made


def _flags(query: Query, reply: Reply, rcode: int, *, ra: bool) -> int:
    flags = iana.QR | query.flags & (iana.RD | iana.CD | iana.OPCODE_MASK) | rcode & 15
    if reply.cd is not None:
        flags = flags | iana.CD if reply.cd else flags & ~iana.CD
    if reply.aa:
        flags |= iana.AA
    if reply.tc:
        flags |= iana.TC
    # RFC 6840, sections 5.7 and 5.8: for those who have said that they know the bit.
    if reply.ad and (query.flags & iana.AD or query.do):
        flags |= iana.AD
    if ra:
        flags |= iana.RA
    return flags


_BARE = 12 + 4 + 11
"""Octets of a reply that holds a question and an OPT without options, but for the question's name:
with the longest name it is 282, so it always fits."""


def _fitting(options: tuple[tuple[int, bytes], ...], room: int) -> list[tuple[int, bytes]]:
    """The options that `room` octets hold; one that is too long is left out, not cut."""
    kept: list[tuple[int, bytes]] = []
    for option in options:
        octets = 4 + len(option[1])
        if octets <= room:
            kept.append(option)
            room -= octets
    return kept


class _Writer:
    """A message in the making: its bytes, its counts, and where each name stands.

    `_offsets` holds, by its folded bytes, the place of every name and suffix that a pointer can
    reach: nothing at 0x4000 or beyond (14 bits), and not the root, which is shorter than a pointer.
    """

    __slots__ = ("_counts", "_limit", "_offsets", "_out", "_qkey")

    def __init__(self, query: Query, limit: int) -> None:
        self._out = bytearray(12)
        self._out += query.qname
        self._out += _TWO.pack(query.qtype, query.qclass)
        self._limit = limit
        self._counts = [0, 0, 0]
        self._qkey = query.key
        self._offsets: dict[bytes, int] = {}

    def add_section(
        self, rrsets: tuple[RRset, ...], section: int = 0, *, whole_sets: bool = False
    ) -> bool:
        """Append these sets; False, with what fits kept, when they are too many.

        With `whole_sets` a set that does not fit whole is left out whole. After False nothing more
        may be written: `_offsets` still holds the names of what was taken back.
        """
        for rrset in rrsets:
            mark, count = len(self._out), self._counts[section]
            if not self._add(rrset, section):
                if whole_sets:
                    del self._out[mark:]
                    self._counts[section] = count
                return False
        return True

    def finish(self, id_: int, flags: int, opt: bytes) -> bytes:
        """The message, with `opt` as its last record where there is one."""
        out = self._out
        answer, authority, additional = self._counts
        HEADER.pack_into(out, 0, id_, flags, 1, answer, authority, additional + bool(opt))
        out += opt
        return bytes(out)

    def _add(self, rrset: RRset, section: int) -> bool:
        """Append the records of a set while they fit; whether all did."""
        out = self._out
        rtype, rclass, ttl = rrset.rtype, rrset.rclass, rrset.ttl
        plain = rtype not in _HOLDS_NAMES
        key = rrset.owner.lower()
        owner = _QUESTION_POINTER if key == self._qkey and len(key) > 1 else b""
        if plain and owner and self._add_alike(owner, rrset, section):
            return True
        for rdata in rrset.rdatas:
            mark = len(out)
            if owner or (owner := self._reference(key)):
                out += owner
            else:
                self._put_name(rrset.owner)
            if plain:
                out += _RR_HEAD.pack(rtype, rclass, ttl, len(rdata))
                out += rdata
            else:
                out += _RR_HEAD.pack(rtype, rclass, ttl, 0)
                self._put_rdata(rtype, rdata)
            if len(out) > self._limit:
                del out[mark:]
                return False
            self._counts[section] += 1
        return True

    def _add_alike(self, owner: bytes, rrset: RRset, section: int) -> bool:
        """Append a set all at once, if its data are of one size, as addresses are, and all fit."""
        rdatas = rrset.rdatas
        sizes = set(map(len, rdatas))
        if len(sizes) != 1 or len(rdatas) == 1:
            return False
        (size,) = sizes
        if len(self._out) + len(rdatas) * (12 + size) > self._limit:
            return False
        head = owner + _RR_HEAD.pack(rrset.rtype, rrset.rclass, rrset.ttl, size)
        self._out += head
        self._out += head.join(rdatas)
        self._counts[section] += len(rdatas)
        return True

    def _reference(self, key: bytes) -> bytes:
        """A pointer to a name that stands in the message already; empty when none can be."""
        offset = self._offsets.get(key)
        return b"" if offset is None else _LENGTH.pack(_POINTER | offset)

    def _put_rdata(self, rtype: int, rdata: bytes) -> None:
        """The data of a type that holds names, and its length before it."""
        out = self._out
        start = len(out)
        if rtype == iana.SRV:
            # Not compressed itself, but the Additional records' owners may point at it.
            self._enter(rdata[6:].lower(), start + 6)
            out += rdata
        elif rtype == iana.SOA:
            mname, position = name.read(rdata, 0)
            rname, position = name.read(rdata, position)
            self._put_name(mname)
            self._put_name(rname)
            out += rdata[position:]
        else:
            kept = _COMPRESSED_AT[rtype]
            out += rdata[:kept]
            self._put_name(rdata[kept:])
        _LENGTH.pack_into(out, start - 2, len(out) - start)

    def _put_name(self, text: bytes) -> None:
        """RFC 1035, section 4.1.4: a name, its longest suffix already written being a pointer."""
        out, offsets = self._out, self._offsets
        if self._qkey not in offsets:
            # Not before: most replies have no use for the question's suffixes.
            self._enter(self._qkey, 12)
        key = text.lower()
        base = len(out)
        position = 0
        while length := key[position]:
            suffix = key[position:]
            offset = offsets.get(suffix)
            if offset is not None:
                out += text[:position]
                out += _LENGTH.pack(_POINTER | offset)
                return
            if base + position < _POINTER_LIMIT:
                offsets[suffix] = base + position
            position += length + 1
        out += text

    def _enter(self, key: bytes, base: int) -> None:
        """Remember a name that stands uncompressed at `base`, and its suffixes."""
        offsets = self._offsets
        position = 0
        while (length := key[position]) and base + position < _POINTER_LIMIT:
            suffix = key[position:]
            if suffix in offsets:
                return
            offsets[suffix] = base + position
            position += length + 1
