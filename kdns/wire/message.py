"""Reading a query: header, question and OPT of any datagram, within bounds.

The reader looks at every octet it must and at none it need not. What it refuses it refuses with the
rcode that the standard names; `salvage` makes the reply to what could not be read.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

from kdns.wire import iana, name
from kdns.wire.errors import NotAQuery, NotImplementedOpcode, WireError

HEADER = struct.Struct("!6H")
_RR_HEAD = struct.Struct("!HHIH")
_TWO = struct.Struct("!HH")

MIN_UDP_SIZE = 512
"""RFC 1035, section 4.2.1: what a client without EDNS can take over UDP, octets."""

MAX_QUERY_RECORDS = 16
"""Records beside the question that a query may have. An OPT, a TSIG and an IXFR's SOA are three;
thousands, each owner a chain of pointers, would cost a quarter of a second."""
MAX_RECORDS = 4096
"""Records that a reply may have: 64 KiB hold that many of 16 octets."""


@dataclass(slots=True, frozen=True)
class Edns:
    """The OPT record of a query (RFC 6891, section 6.1).

    size: the UDP payload that the client can take, octets, never below 512 (section 6.2.3).
    options: (code, data) in the order of the wire; empty where the version is not 0.
    """

    size: int
    version: int
    do: bool
    options: tuple[tuple[int, bytes], ...] = ()


class Query:
    """One question and what came with it. `qname` keeps the letter case; `key` has it folded.

    sent: EDNS options, (code, data), for the servers that are asked on behalf of the client, whose
    own do not go there.
    """

    __slots__ = ("edns", "flags", "id", "key", "qclass", "qname", "qtype", "sent", "size")

    def __init__(
        self,
        qname: bytes,
        qtype: int,
        qclass: int = iana.IN,
        *,
        id: int = 0,  # noqa: A002 - the field's word
        flags: int = iana.RD,
        edns: Edns | None = None,
        size: int = 0,
        sent: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        self.id = id
        self.flags = flags
        self.qname = qname
        self.key = qname.lower()
        self.qtype = qtype
        self.qclass = qclass
        self.edns = edns
        self.size = size
        """Octets of the message it came in; 0 when it did not come in one."""
        self.sent = sent

    @property
    def rd(self) -> bool:
        """Recursion desired."""
        return bool(self.flags & iana.RD)

    @property
    def do(self) -> bool:
        """DNSSEC OK (RFC 3225)."""
        return self.edns is not None and self.edns.do

    def ask_instead(self, qname: bytes, qtype: int) -> "Query":
        """The same client's question for another name or type."""
        return Query(
            qname,
            qtype,
            self.qclass,
            id=self.id,
            flags=self.flags,
            edns=self.edns,
            size=self.size,
            sent=self.sent,
        )

    def __repr__(self) -> str:
        kind, group = iana.type_text(self.qtype), iana.class_text(self.qclass)
        return f"Query({name.to_text(self.qname)} {group} {kind})"


def read_query(wire: bytes) -> Query:
    """The query in a datagram or a TCP message.

    Raises NotAQuery for what gets no reply, NotImplementedOpcode (NOTIMP), and WireError (FORMERR)
    for everything else that is not one question, at most one OPT, and nothing after them.
    """
    if len(wire) < 12:
        raise NotAQuery("shorter than a header")
    id_, flags, qdcount, ancount, nscount, arcount = HEADER.unpack_from(wire)
    if flags & iana.QR:
        raise NotAQuery("a response")
    if flags & iana.OPCODE_MASK:
        raise NotImplementedOpcode(f"opcode {flags >> 11 & 15}")
    if qdcount != 1:
        # RFC 9619: a QUERY has exactly one question.
        raise WireError(f"{qdcount} questions; expected one")
    qname, position = name.read(wire, 12)
    if position + 4 > len(wire):
        raise WireError("the question is cut off")
    qtype, qclass = _TWO.unpack_from(wire, position)
    position += 4
    edns = None
    if ancount or nscount or arcount or position != len(wire):
        if arcount == 1 and len(wire) == position + 11 and not ancount | nscount:
            edns = _read_last(wire[position:])
        else:
            edns = _read_records(wire, position, ancount + nscount, arcount)
    return Query(qname, qtype, qclass, id=id_, flags=flags, edns=edns, size=len(wire))


@lru_cache(maxsize=256)
def _read_last(record: bytes) -> Edns | None:
    """The only record behind the question, 11 octets: nearly always an OPT without options."""
    return _read_records(record, 0, 0, 1)


def _read_records(wire: bytes, position: int, before: int, additional: int) -> Edns | None:
    """Walk what follows the question; return the OPT of the additional section.

    Records before it (an IXFR's SOA, say) must be well-formed, and are not looked at.
    """
    if before + additional > MAX_QUERY_RECORDS:
        raise WireError(f"{before + additional} records; at most {MAX_QUERY_RECORDS} are read")
    edns = None
    for index in range(before + additional):
        owner, position = name.read(wire, position)
        data = position + 10
        if data > len(wire):
            raise WireError("a record's header is cut off")
        rtype, rclass, ttl, rdlength = _RR_HEAD.unpack_from(wire, position)
        position = data + rdlength
        if position > len(wire):
            raise WireError("a record's data is cut off")
        if rtype == iana.OPT:
            # RFC 6891, section 6.1.1: at most one, in Additional, owned by the root.
            if edns is not None or index < before or owner != name.ROOT:
                raise WireError("a second or misplaced OPT")
            edns = _read_opt(wire[data:position], rclass, ttl)
    if position != len(wire):
        raise WireError(f"{len(wire) - position} octets after the message's end")
    return edns


def _read_opt(rdata: bytes, rclass: int, ttl: int) -> Edns:
    version = ttl >> 16 & 0xFF
    # RFC 6891, section 6.1.3: another version gets BADVERS, whatever its options look like.
    options = _read_options(rdata) if rdata and not version else ()
    return Edns(max(rclass, MIN_UDP_SIZE), version, bool(ttl & iana.DO), options)


def _read_options(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    options: list[tuple[int, bytes]] = []
    position = 0
    while position < len(rdata):
        data = position + 4
        if data > len(rdata):
            raise WireError("an EDNS option's header is cut off")
        code, length = _TWO.unpack_from(rdata, position)
        position = data + length
        if position > len(rdata):
            raise WireError("an EDNS option's data is cut off")
        options.append((code, rdata[data:position]))
    return tuple(options)


def salvage(wire: bytes, error: WireError) -> bytes | None:
    """The reply to a message that could not be read, or None where silence is the answer.

    A header alone: RFC 1035, section 4.1.1 asks for the ID, the opcode and RD to be copied, and
    nothing after a header that was not understood can be trusted.
    """
    if isinstance(error, NotAQuery):
        return None
    id_, flags = _TWO.unpack_from(wire)
    kept = flags & (iana.OPCODE_MASK | iana.RD | iana.CD)
    return HEADER.pack(id_, iana.QR | kept | (error.rcode & 15), 0, 0, 0, 0)


@dataclass(slots=True, frozen=True)
class Record:
    """One resource record as it came: rdata has its names uncompressed where the type is known."""

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


@dataclass(slots=True, frozen=True)
class Response:
    """A whole reply, as read from an upstream. `rcode` includes the EDNS bits."""

    id: int
    flags: int
    rcode: int
    question: tuple[bytes, int, int]
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]
    edns: Edns | None


def read_response(wire: bytes) -> Response:
    """A reply with every record, OPT taken out. Raises WireError."""
    if len(wire) < 12:
        raise WireError("shorter than a header")
    id_, flags, qdcount, *counts = HEADER.unpack_from(wire)
    if not flags & iana.QR or qdcount != 1:
        raise WireError("not a reply to one question")
    qname, position = name.read(wire, 12)
    if position + 4 > len(wire):
        raise WireError("the question is cut off")
    qtype, qclass = _TWO.unpack_from(wire, position)
    position += 4
    if sum(counts) > MAX_RECORDS:
        raise WireError(f"{sum(counts)} records; at most {MAX_RECORDS} are read")
    known: dict[int, bytes] = {}
    sections: list[list[Record]] = []
    edns: Edns | None = None
    extended = 0
    for count in counts:
        records: list[Record] = []
        for _ in range(count):
            record, position = _read_record(wire, position, known)
            if record.rtype == iana.OPT:
                edns = _read_opt(record.rdata, record.rclass, record.ttl)
                extended = record.ttl >> 24 << 4
            else:
                records.append(record)
        sections.append(records)
    answer, authority, additional = map(tuple, sections)
    question = (qname, qtype, qclass)
    return Response(
        id_, flags, flags & 15 | extended, question, answer, authority, additional, edns
    )


def _read_record(wire: bytes, position: int, known: dict[int, bytes]) -> tuple[Record, int]:
    owner, position = name.read(wire, position, known)
    if position + 10 > len(wire):
        raise WireError("a record's header is cut off")
    rtype, rclass, ttl, rdlength = _RR_HEAD.unpack_from(wire, position)
    position += 10
    end = position + rdlength
    if end > len(wire):
        raise WireError("a record's data is cut off")
    # RFC 2181, section 8: a TTL with its highest bit set counts as zero. OPT's is no time.
    if rtype != iana.OPT and ttl & 0x80000000:
        ttl = 0
    return Record(owner, rtype, rclass, ttl, read_rdata(wire, position, end, rtype, known)), end


_NAMES_IN_RDATA: dict[int, tuple[int, int, int]] = {
    # type: octets before the names, how many names, octets after (at least)
    iana.NS: (0, 1, 0),
    iana.CNAME: (0, 1, 0),
    iana.PTR: (0, 1, 0),
    iana.SOA: (0, 2, 20),
    iana.MX: (2, 1, 0),
    3: (0, 1, 0),  # MD
    4: (0, 1, 0),  # MF
    7: (0, 1, 0),  # MB
    8: (0, 1, 0),  # MG
    9: (0, 1, 0),  # MR
    14: (0, 2, 0),  # MINFO
    17: (0, 2, 0),  # RP
    18: (2, 1, 0),  # AFSDB
    21: (2, 1, 0),  # RT
    26: (2, 2, 0),  # PX
    iana.SRV: (6, 1, 0),
    36: (2, 1, 0),  # KX
    iana.DNAME: (0, 1, 0),
}
"""Types whose data may hold compressed names when they arrive.

RFC 3597, section 4: receivers expand them in the types of RFC 1035 and in those that older
software compressed (RP, AFSDB, RT, PX, NAPTR, SRV and a few that nobody uses); every other type's
data is opaque. NAPTR's name stands after strings, and is handled on its own.
"""
_NAPTR = 35


def ttl_places(message: bytes) -> tuple[int, ...]:
    """Where the TTL of each record stands in a message with one question. Raises WireError.

    RFC 6891, section 6.1.3: what stands there in an OPT is no TTL.
    """
    if len(message) < HEADER.size:
        raise WireError("shorter than a header")
    known: dict[int, bytes] = {}
    _, position = name.read(message, HEADER.size, known)
    position += _TWO.size
    places = []
    for _ in range(sum(HEADER.unpack_from(message)[3:])):
        _, position = name.read(message, position, known)
        if position + _RR_HEAD.size > len(message):
            raise WireError("a record's header is cut off")
        rtype, _, _, length = _RR_HEAD.unpack_from(message, position)
        if rtype != iana.OPT:
            places.append(position + 4)
        position += _RR_HEAD.size + length
    return tuple(places)


def read_rdata(
    wire: bytes, start: int, end: int, rtype: int, known: dict[int, bytes] | None = None
) -> bytes:
    """The data of a record with its names uncompressed; opaque data as it stands.

    known: see name.read. Raises WireError where the names do not fill the data as the type has it.
    """
    if rtype == _NAPTR:
        before = _naptr_prefix(wire, start, end)
        layout = (before, 1, 0)
    elif rtype in _NAMES_IN_RDATA:
        layout = _NAMES_IN_RDATA[rtype]
    else:
        return wire[start:end]
    before, names, after = layout
    position = start + before
    parts = [wire[start:position]]
    for _ in range(names):
        target, position = name.read(wire, position, known)
        parts.append(target)
    # Also where a name began or ended beyond the data.
    if end - position != after:
        raise WireError(f"data of a {iana.type_text(rtype)} record has the wrong length")
    parts.append(wire[position:end])
    return b"".join(parts)


def naptr_replacement(rdata: bytes) -> int:
    """Where the name stands in the data of a NAPTR record. Raises WireError."""
    return _naptr_prefix(rdata, 0, len(rdata))


def _naptr_prefix(wire: bytes, start: int, end: int) -> int:
    """Octets before NAPTR's replacement: order, preference and three strings (RFC 3403, 4.1)."""
    position = start + 4
    for _ in range(3):
        if position >= end:
            raise WireError("data of a NAPTR record is cut off")
        position += wire[position] + 1
    return position - start
