"""What DNS is made of, as hypothesis strategies: names, record sets, queries, broken messages.

Names are as `kdns.wire.name` has them, bytes in uncompressed wire form. Everything drawn is valid
unless its name says otherwise, and leans to what breaks programs: mixed case, dots and zero octets
inside labels, names of exactly 255 octets, owners that share a suffix with the question.

    label_bytes()             one label, 1 to 63 octets, any octets
    host_names()              names of letters, digits, hyphens and underscores
    names()                   any absolute name, the root and the longest included
    recased(draw, name)       the same name, letters in any case
    names_near(name)          names that compression meets: it, its ancestors, below it, elsewhere
    edns()                    the OPT of a query
    queries()                 a question as the reader gives it
    query_wires()             (query, its bytes)
    record_sets(names)        record sets, their owners and targets drawn from `names`
    replies(query)            what a handler may answer to it
    mutated(wires)            bytes flipped, cut out, repeated, overwritten: mostly broken
"""

import struct

from hypothesis import strategies as st

from kdns.wire import iana, name, rdata
from kdns.wire.message import HEADER, Edns, Query
from kdns.wire.reply import Reply, RRset

UNKNOWN_TYPE = 65_280
"""A type for private use (RFC 6895, section 3.1), so its data is any octets (RFC 3597)."""
LOCAL_OPTIONS = (65_001, 65_534)
"""EDNS options for local use (RFC 6891, section 9), so their data is any octets."""

_HOST_OCTETS = b"abcABCxyzXYZ019-_"
_MAX_TTL = 2**31 - 1


def label_bytes() -> st.SearchStrategy[bytes]:
    """One label: mostly short and of host-name letters, now and then any octets up to 63."""
    host = st.lists(st.sampled_from(_HOST_OCTETS), min_size=1, max_size=4).map(bytes)
    return host | st.binary(min_size=1, max_size=63) | st.just(b"x" * 63)


def _joined(labels: list[bytes]) -> bytes:
    """The name of as many of these labels, from the right, as 255 octets hold."""
    octets = 1
    kept: list[bytes] = []
    for label in reversed(labels):
        octets += len(label) + 1
        if octets > name.MAX_NAME:
            break
        kept.insert(0, label)
    return name.from_labels(kept)


def host_names() -> st.SearchStrategy[bytes]:
    """A name of letters, digits, hyphens and underscores, for readers that take no other."""
    host = st.lists(st.sampled_from(_HOST_OCTETS), min_size=1, max_size=20).map(bytes)
    return st.lists(host, max_size=4).map(_joined)


def names() -> st.SearchStrategy[bytes]:
    """Any absolute name. The root, a name of 255 octets and one of 127 labels are among them."""
    longest = name.from_labels([b"L" * 61, b"o" * 63, b"n" * 63, b"g" * 63])
    deepest = name.from_labels([b"d"] * 127)
    edge = st.sampled_from((name.ROOT, longest, deepest))
    return st.lists(label_bytes(), max_size=8).map(_joined) | edge


_ANY_NAME = names()
_FEW_LABELS = st.lists(label_bytes(), min_size=1, max_size=2)
_FLIPS = st.integers(0, 2**64 - 1)
_DICE = st.integers(0, 1_000_000)


def recased(draw: st.DrawFn, of: bytes) -> bytes:
    """The name `of` with each letter's case drawn anew (RFC 4343: still the same name)."""
    flips = draw(_FLIPS)
    return bytes(
        octet ^ 0x20 if flips >> place % 64 & 1 and 65 <= octet & ~0x20 <= 90 else octet
        for place, octet in enumerate(of)
    )


@st.composite
def names_near(draw: st.DrawFn, of: bytes) -> bytes:
    """Names that compression meets: `of`, an ancestor, a child, a cousin, or one of elsewhere."""
    above = name.suffixes(of)
    ancestor = above[draw(_DICE) % len(above)]
    match draw(_DICE) % 4:
        case 0:
            return recased(draw, of)
        case 1:
            return recased(draw, ancestor)
        case 2:
            return recased(draw, _joined([*draw(_FEW_LABELS), *name.split(ancestor)]))
        case _:
            return draw(_ANY_NAME)


def edns(versions: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Edns]:
    """The OPT of a query, by default of version 0. Other versions have no options that we know."""

    def build(size: int, version: int, do: bool, options: list[tuple[int, bytes]]) -> Edns:
        return Edns(size, version, do, () if version else tuple(options))

    option = st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=20))
    size = st.sampled_from((512, 1232, 4096, 0xFFFF)) | st.integers(512, 0xFFFF)
    versions = st.just(0) if versions is None else versions
    return st.builds(build, size, versions, st.booleans(), st.lists(option, max_size=3))


def queries(
    *, qnames: st.SearchStrategy[bytes] | None = None, opcodes: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Query]:
    """A question, by default with opcode QUERY; every other flag but QR as it comes."""
    flags = st.builds(
        lambda flags, opcode: flags & ~(iana.QR | iana.OPCODE_MASK) | opcode << 11,
        st.integers(0, 0xFFFF),
        st.just(0) if opcodes is None else opcodes,
    )
    return st.builds(
        Query,
        names() if qnames is None else qnames,
        st.sampled_from((iana.A, iana.AAAA, iana.SRV, iana.ANY, UNKNOWN_TYPE)),
        st.sampled_from((iana.IN, iana.IN, iana.CH, iana.CLASS_ANY)),
        id=st.integers(0, 0xFFFF),
        flags=flags,
        edns=st.none() | edns(),
    )


def wire_of(query: Query) -> bytes:
    """The bytes of `query`: header, question, OPT. A second writer, independent of kdns's own."""
    opt = b""
    if query.edns is not None:
        found = query.edns
        data = b"".join(struct.pack("!HH", c, len(d)) + d for c, d in found.options)
        ttl = found.version << 16 | (0x8000 if found.do else 0)
        opt = struct.pack("!BHHIH", 0, 41, found.size, ttl, len(data)) + data
    header = HEADER.pack(query.id, query.flags, 1, 0, 0, 1 if opt else 0)
    return header + query.qname + struct.pack("!HH", query.qtype, query.qclass) + opt


def query_wires() -> st.SearchStrategy[tuple[Query, bytes]]:
    """A question, and the bytes it comes in."""
    return queries().map(lambda query: (query, wire_of(query)))


_TYPES = (
    iana.A, iana.AAAA, iana.NS, iana.CNAME, iana.PTR, iana.DNAME, iana.MX, iana.SRV, iana.SOA,
    iana.TXT, UNKNOWN_TYPE,
)  # fmt: skip
_ONLY_IN = (iana.A, iana.AAAA, iana.SRV)
"""Types whose data other classes do not have, or have otherwise."""
_CLASSES = (iana.IN, iana.CH, 0xFF00)
_TTL = st.integers(0, _MAX_TTL)
_OCTETS = st.binary(max_size=40)
_NUMBERS = st.binary(min_size=20, max_size=20)
_TEXTS = st.lists(st.binary(max_size=20), min_size=1, max_size=3)
_SIZE = st.integers(200, 17_000)


def _data(draw: st.DrawFn, rtype: int, near: st.SearchStrategy[bytes]) -> bytes:
    """The data of one record."""
    match rtype:
        case iana.A:
            return draw(_NUMBERS)[:4]
        case iana.AAAA:
            return draw(_NUMBERS)[:16]
        case iana.MX:
            return draw(_NUMBERS)[:2] + draw(near)
        case iana.SRV:
            return draw(_NUMBERS)[:6] + draw(near)
        case iana.SOA:
            return draw(near) + draw(near) + draw(_NUMBERS)
        case iana.TXT:
            return rdata.txt(*draw(_TEXTS))
        case _ if rtype == UNKNOWN_TYPE:
            return bytes(draw(_SIZE)) if draw(_DICE) % 4 == 0 else draw(_OCTETS)
        case _:
            return draw(near)


@st.composite
def record_sets(draw: st.DrawFn, near: st.SearchStrategy[bytes]) -> RRset:
    """A record set whose owner and targets come from `near`; none of its records twice.

    Empty sets, data of no octets and of 17,000, classes other than IN, and sets of up to a hundred
    addresses are among them.
    """
    rtype = _TYPES[draw(_DICE) % len(_TYPES)]
    rclass = iana.IN if rtype in _ONLY_IN else _CLASSES[draw(_DICE) % len(_CLASSES)]
    if rtype == iana.A and draw(_DICE) % 2:
        datas = [bytes((10, 0, 0, index)) for index in range(20 + draw(_DICE) % 80)]
    else:
        found = [_data(draw, rtype, near) for _ in range(draw(_DICE) % 5)]
        datas = list({data.lower(): data for data in found}.values())
    return RRset(draw(near), rtype, draw(_TTL), tuple(datas), rclass)


@st.composite
def replies(draw: st.DrawFn, query: Query, near: st.SearchStrategy[bytes] | None = None) -> Reply:
    """What a handler may answer to `query`, of any size; options of up to 70,000 octets.

    Owners and targets come from `near`, by default from what is near the question's name.
    """
    near = names_near(query.qname) if near is None else near
    sets = st.lists(record_sets(near), max_size=3).map(tuple)
    data = st.binary(max_size=20) | st.integers(200, 70_000).map(bytes)
    option = st.tuples(st.sampled_from((iana.EDNS_NSID, *LOCAL_OPTIONS)), data)
    return Reply(
        draw(st.sampled_from(list(iana.Rcode))),
        draw(sets),
        draw(sets),
        draw(sets),
        aa=draw(st.booleans()),
        tc=draw(st.sampled_from((False, False, True))),
        ad=draw(st.booleans()),
        options=tuple(draw(st.lists(option, max_size=3))),
        do=draw(st.booleans()),
    )


@st.composite
def mutated(draw: st.DrawFn, wires: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were a message, after one to four accidents.

    An octet or a bit changed, a piece cut out or repeated, the end missing, a compression pointer
    written over two octets, octets appended.
    """
    wire = bytearray(draw(wires))
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(wire)))
        last = min(len(wire), first + draw(st.integers(1, 20)))
        match draw(st.sampled_from(("octet", "bit", "cut", "repeat", "end", "pointer", "more"))):
            case "octet":
                wire[first : first + 1] = draw(st.binary(min_size=1, max_size=1))
            case "bit" if first < len(wire):
                wire[first] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del wire[first:last]
            case "repeat":
                wire[first:first] = wire[first:last]
            case "end":
                del wire[first:]
            case "pointer":
                target = draw(st.integers(0, 60))
                wire[first : first + 2] = struct.pack("!H", 0xC000 | target)
            case _:
                wire += draw(st.binary(min_size=1, max_size=20))
    return bytes(wire)
