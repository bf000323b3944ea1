"""The answers of an authoritative server for one zone, as Knot DNS 3.2 gives them.

Written with dnslib and not with the code it is there to test. What Knot chose where the RFCs leave
a choice: no NS records beside a positive answer; ANY is answered with the one record set of the
lowest type (RFC 8482, 4.1); addresses of NS, MX and SRV targets are added; a record set that does
not fit into a datagram is left out whole; a message that cannot be read gets silence.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dnslib import CLASS, QTYPE, RCODE, RR, DNSBuffer, DNSError
from dnslib.buffer import BufferError as DNSBufferError
from dnslib.dns import ZoneParser
from dnslib.label import DNSLabelError

Labels: TypeAlias = tuple[bytes, ...]
RRset: TypeAlias = list[RR]

_HEADER = struct.Struct("!6H")
_QR: Final = 0x8000
_OPCODE: Final = 0x7800
_NOTIFY: Final = 0x2000
_AA: Final = 0x0400
_TC: Final = 0x0200
_RD: Final = 0x0100
_OWN_SIZE: Final = 1232
_PLAIN_SIZE: Final = 512
_MAX_SIZE: Final = 65_535
_CHAIN: Final = 20
_BADVERS: Final = 16
_ANY_CLASS: Final = 255
_UNREADABLE: Final = (DNSError, DNSBufferError, DNSLabelError, struct.error, ValueError)
_EDE_NOT_AUTHORITATIVE: Final = struct.pack("!HHH", 15, 2, 20)  # RFC 8914, 4.21


class Authority:
    """One zone, from the text of its file. Raises ValueError when that is no zone."""

    def __init__(self, text: str) -> None:
        self._nodes: dict[Labels, dict[int, RRset]] = {}
        try:
            records = list(_Parser(text))
        except (*_UNREADABLE, LookupError, AttributeError, TypeError) as error:
            raise ValueError(f"zone file: {error}") from error
        for record in records:
            self._add(record)
        apexes = [n for n, sets in self._nodes.items() if QTYPE.SOA in sets]
        if len(apexes) != 1 or len(self._nodes[apexes[0]][QTYPE.SOA]) != 1:
            raise ValueError("zone file: expected one SOA record")
        self._apex = apexes[0]
        self._soa = self._nodes[self._apex][QTYPE.SOA][0]

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """The reply to one message, None for silence. It never raises."""
        try:
            query = _read(wire)
        except _UNREADABLE:
            return None
        if query is None:
            return None
        reply = _Reply()
        reply.rcode = self._refusal(query, tcp=tcp)
        if reply.rcode == RCODE.NOERROR:
            self._look_up(query, reply)
        return _write(query, reply, tcp=tcp)

    def _add(self, record: RR) -> None:
        labels = _fold(record.rname.label)
        self._nodes.setdefault(labels, {}).setdefault(record.rtype, []).append(record)

    def _refusal(self, query: "_Query", *, tcp: bool) -> int:
        if query.malformed:
            return int(RCODE.FORMERR)
        if query.version:
            return _BADVERS
        if query.flags & _OPCODE == _NOTIFY:
            return int(RCODE.NOTAUTH)
        if query.flags & _OPCODE or not query.qtype or (query.qtype == QTYPE.AXFR and not tcp):
            return int(RCODE.NOTIMP)
        if query.qtype in {QTYPE.AXFR, QTYPE.IXFR}:
            return int(RCODE.NOTAUTH)
        if query.qclass not in {CLASS.IN, _ANY_CLASS}:
            return int(RCODE.REFUSED)
        return int(RCODE.NOERROR)

    def _look_up(self, query: "_Query", reply: "_Reply") -> None:
        name: Labels = query.qname
        if not self._holds(name):
            reply.rcode = int(RCODE.REFUSED)
            reply.option = _EDE_NOT_AUTHORITATIVE
            return
        reply.authoritative = True
        for _ in range(_CHAIN):
            node = self._node(name)
            if node is None:
                reply.rcode = int(RCODE.NXDOMAIN)
                break
            found = _choose(node, query.qtype)
            if found is None:
                break
            reply.answer.append(_renamed(found, name))
            if found[0].rtype != QTYPE.CNAME or query.qtype in {QTYPE.CNAME, QTYPE.ANY}:
                self._add_targets(found, reply)
                return
            name = found[0].rdata.label.label
            if not self._holds(name):
                return
        reply.authority.append([self._negative()])

    def _holds(self, name: Labels) -> bool:
        return _fold(name)[-len(self._apex) :] == self._apex if self._apex else True

    def _node(self, name: Labels) -> dict[int, RRset] | None:
        """What stands at `name`: empty for an empty non-terminal; else by wildcard (RFC 4592)."""
        labels = _fold(name)
        if labels in self._nodes:
            return self._nodes[labels]
        while not self._exists(labels):
            labels = labels[1:]
        if len(labels) == len(name):
            return {}
        return self._nodes.get((b"*", *labels))

    def _exists(self, labels: Labels) -> bool:
        return any(name[-len(labels) :] == labels for name in self._nodes) if labels else True

    def _negative(self) -> RR:
        """The SOA with the time a negative answer may be kept (RFC 2308, 3)."""
        ttl = min(self._soa.ttl, self._soa.rdata.times[4])
        return RR(self._soa.rname, QTYPE.SOA, ttl=ttl, rdata=self._soa.rdata)

    def _add_targets(self, found: RRset, reply: "_Reply") -> None:
        if found[0].rtype not in {QTYPE.NS, QTYPE.MX, QTYPE.SRV}:
            return
        for record in found:
            target = getattr(record.rdata, "target", None) or record.rdata.label
            node = self._node(target.label) if self._holds(target.label) else None
            for rtype in (QTYPE.A, QTYPE.AAAA):
                if node and rtype in node:
                    reply.additional.append(_renamed(node[rtype], target.label))


@dataclass
class _Query:
    ident: int
    flags: int
    question: bytes = b""
    qname: Labels = ()
    qtype: int = 0
    qclass: int = 0
    size: int | None = None
    version: int = 0
    do: bool = False
    malformed: bool = False


@dataclass
class _Reply:
    rcode: int = 0
    authoritative: bool = False
    option: bytes = b""
    answer: list[RRset] = field(default_factory=list)
    authority: list[RRset] = field(default_factory=list)
    additional: list[RRset] = field(default_factory=list)


class _Parser(ZoneParser):  # type: ignore[misc]  # dnslib has no types
    """dnslib's own, with the origin put to relative SRV targets, which it forgets."""

    def parse_rr(self, rr: list[str]) -> RR:
        if "SRV" in rr[1:-4] and not rr[-1].endswith("."):
            rr[-1] = str(self.origin if rr[-1] == "@" else self.origin.add(rr[-1]))
        return super().parse_rr(rr)


class _Folded(dict[Labels, int]):
    """Offsets of names already written, whatever their letter case: replies show the asker's."""

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_fold(key)) if isinstance(key, tuple) else False

    def __getitem__(self, key: Labels) -> int:
        return super().__getitem__(_fold(key))

    def __setitem__(self, key: Labels, value: int) -> None:
        super().__setitem__(_fold(key), value)


def _fold(labels: Labels) -> Labels:
    return tuple(label.lower() for label in labels)


def _choose(node: dict[int, RRset], qtype: int) -> RRset | None:
    if not node:
        return None
    if qtype == QTYPE.ANY:
        return node[min(node)]
    if qtype in {QTYPE.RRSIG, QTYPE.NSEC}:  # these may stand beside a CNAME (RFC 4034, 3 and 4)
        return None
    return node.get(qtype) or node.get(QTYPE.CNAME)


def _renamed(records: RRset, owner: Labels) -> RRset:
    return [RR(list(owner), r.rtype, r.rclass, r.ttl, r.rdata) for r in records]


def _read(wire: bytes) -> _Query | None:
    """A query, as far as it can be read; None for what must not be answered."""
    ident, flags, questions, *counts = _HEADER.unpack_from(wire)
    if flags & _QR or questions > 1:
        return None
    query = _Query(ident, flags & (_OPCODE | _RD), malformed=not questions)
    if not questions:
        query.flags = 0
        return query
    buffer = DNSBuffer(wire)
    buffer.offset = _HEADER.size
    query.qname = tuple(buffer.decode_name().label)
    query.qtype, query.qclass = buffer.unpack("!HH")
    query.question = wire[_HEADER.size : buffer.offset]
    try:
        for _ in range(sum(counts)):
            _read_record(buffer, query)
    except _UNREADABLE:
        query.malformed = True
    query.malformed |= buffer.remaining() > 0
    return query


def _read_record(buffer: DNSBuffer, query: _Query) -> None:
    buffer.decode_name()
    rtype, rclass, ttl, length = buffer.unpack("!HHIH")
    buffer.get(length)
    if rtype == QTYPE.OPT:
        query.malformed |= query.size is not None
        query.size = rclass
        query.version = ttl >> 16 & 0xFF
        query.do = bool(ttl & 0x8000)


def _write(query: _Query, reply: _Reply, *, tcp: bool) -> bytes:
    opt = b"" if query.size is None else _opt(query, reply)
    limit = (_MAX_SIZE if tcp else _datagram_limit(query)) - len(opt)
    buffer = DNSBuffer()
    buffer.names = _Folded()
    flags = _QR | query.flags | (_AA if reply.authoritative else 0) | reply.rcode & 15
    buffer.append(bytes(_HEADER.size))
    if query.question:
        buffer.encode_name(list(query.qname))
        buffer.pack("!HH", query.qtype, query.qclass)
    counts = []
    for section in (reply.answer, reply.authority, reply.additional):
        written, fits = (0, False) if flags & _TC else _write_section(buffer, section, limit)
        counts.append(written)
        if not fits and section is not reply.additional:
            flags |= _TC
    counts[2] += bool(opt)
    header = _HEADER.pack(query.ident, flags, bool(query.question), *counts)
    return header + bytes(buffer.data[_HEADER.size :]) + opt


def _write_section(buffer: DNSBuffer, sets: Iterable[RRset], limit: int) -> tuple[int, bool]:
    """How many records were written, and whether that is all of them."""
    count = 0
    for records in sets:
        end, names = buffer.offset, dict(buffer.names)
        for record in records:
            record.pack(buffer)
        if buffer.offset > limit:
            buffer.data = buffer.data[:end]
            buffer.offset = end
            buffer.names = _Folded(names)
            return count, False
        count += len(records)
    return count, True


def _datagram_limit(query: _Query) -> int:
    return max(_PLAIN_SIZE, min(query.size or 0, _OWN_SIZE))


def _opt(query: _Query, reply: _Reply) -> bytes:
    """The OPT record (RFC 6891, 6.1.2): our size, the upper bits of the rcode, DO as asked."""
    ttl = reply.rcode >> 4 << 24 | (0x8000 if query.do and reply.rcode != _BADVERS else 0)
    head = struct.pack("!BHHIH", 0, QTYPE.OPT, _OWN_SIZE, ttl, len(reply.option))
    return head + reply.option
