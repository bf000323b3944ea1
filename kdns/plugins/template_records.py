"""One record from its text (RFC 1035, section 5.1), as octets.

The commoner types are read here, strictly, for they are read for each answer, and what a client has
put into a name must end as a record or as an error. The rarer ones are dnslib's.
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from dnslib import DNSBuffer
from dnslib.dns import RDMAP

from kdns.wire import iana, name
from kdns.wire.errors import BadName

DEFAULT_TTL = 3600
"""Seconds; of a record that has none of its own, as in CoreDNS."""
MAX_TTL = 2**31 - 1
"""RFC 2181, section 8."""
MAX_TEXT = 16_384
"""Characters of one record, which then has no more octets than a message holds."""

_TYPES = {text: number for number, text in iana.TYPE_NAMES.items()}
_CLASSES = {text: number for number, text in iana.CLASS_NAMES.items()}
_NO_RECORDS = frozenset((iana.OPT, 249, 250, iana.IXFR, iana.AXFR, 253, 254, iana.ANY, 0))
"""Types that only messages have."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"(?:[0-9]{1,10}[smhdw]?)+", re.IGNORECASE)
_TIME_PART = re.compile(r"([0-9]+)([smhdw]?)", re.IGNORECASE)
_WORD = re.compile(
    r'[ \t\r]+|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<end>\n)|(?P<bracket>[()])|(?P<note>;[^\n]*)'
    r'|(?P<word>(?:[^\s();"\\]|\\.)+)',
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\([0-9]{3}|[^0-9])", re.DOTALL)


class BadRecord(ValueError):
    """A text that is no record: what was expected."""


class Record(NamedTuple):
    """A record; names in its data are uncompressed."""

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    data: bytes


def read(text: str) -> Record:
    """The one record of a text. Names are absolute, with or without their last dot.

    Raises BadRecord.
    """
    words = _words(text)
    if not words or words[0].startswith('"'):
        raise BadRecord("expected a record such as 'www.example.org. 60 IN A 192.0.2.1'")
    owner = _name(words.pop(0))
    ttl, rclass = DEFAULT_TTL, iana.IN
    seen: set[str] = set()
    # RFC 1035, section 5.1: TTL and class in either order, or not at all.
    while words:
        word = words[0].upper()
        if word in _CLASSES and word != "ANY" and "class" not in seen:
            rclass = _CLASSES[word]
            seen.add("class")
        elif word[:1].isdigit() and "ttl" not in seen:
            ttl = _time(word, MAX_TTL)
            seen.add("ttl")
        else:
            break
        words.pop(0)
    if not words:
        raise BadRecord("expected a type, got the end")
    rtype = _type(words.pop(0))
    return Record(owner, rtype, rclass, ttl, _data(rtype, words))


def _words(text: str) -> list[str]:
    """Words, quoted ones in their quotes; parentheses join lines (RFC 1035, section 5.1)."""
    if len(text) > MAX_TEXT:
        raise BadRecord(f"expected at most {MAX_TEXT} characters")
    words: list[str] = []
    at, is_open, ended = 0, False, False
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise BadRecord(f"expected a word, got {text[at : at + 20]!r}")
        at = found.end()
        kind = found.lastgroup
        if kind == "bracket":
            if is_open == (found[0] == "("):
                raise BadRecord("expected parentheses in pairs")
            is_open = not is_open
        elif kind == "end":
            ended = ended or (bool(words) and not is_open)
        elif kind in ("word", "quoted"):
            if ended:
                raise BadRecord("expected one record, got two lines")
            words.append(found[0])
    if is_open:
        raise BadRecord("expected parentheses in pairs")
    return words


def _type(text: str) -> int:
    word = text.upper()
    rtype = _TYPES.get(word)
    if rtype is None and re.fullmatch("TYPE[0-9]{1,5}", word):
        rtype = int(word[4:])
    if rtype is None or rtype in _NO_RECORDS or rtype > 65_535:
        raise BadRecord(f"expected a type of records, got {text[:40]!r}")
    return rtype


def _data(rtype: int, words: list[str]) -> bytes:
    kinds = _FIELDS.get(rtype)
    if kinds is not None:
        if len(words) != len(kinds):
            raise BadRecord(f"{iana.type_text(rtype)}: expected {len(kinds)} fields of data")
        return b"".join([kind(word) for kind, word in zip(kinds, words, strict=True)])
    if rtype in _TEXTS:
        if not words:
            raise BadRecord(f"{iana.type_text(rtype)}: expected a text")
        return b"".join(map(_string, words))
    if words[:1] == ["\\#"]:
        return _generic(words[1:])
    return _by_dnslib(rtype, words)


def _generic(words: list[str]) -> bytes:
    """RFC 3597, section 5; types that are read here have their own form alone, for octets that are
    no such data would go out as if they were."""
    try:
        data = bytes.fromhex("".join(words[1:]))
    except ValueError:
        data = None
    if data is None or words[:1] != [str(len(data))]:
        raise BadRecord("expected \\# LENGTH and so many octets in hexadecimal")
    return data


def _by_dnslib(rtype: int, words: list[str]) -> bytes:
    text = iana.type_text(rtype)
    reader = RDMAP.get("HTTPS" if text == "SVCB" else text)
    if reader is None:
        raise BadRecord(f"{text}: expected \\# LENGTH and octets, as for every type not known here")
    buffer = DNSBuffer()
    try:
        reader.fromZone([_bare(word) for word in words]).pack(buffer)
    except Exception as error:
        # dnslib has no error of its own for texts, and raises whatever comes of them.
        raise BadRecord(f"{text}: {type(error).__name__}: {error}") from error
    return bytes(buffer.data)


def _bare(word: str) -> str:
    return word[1:-1] if word.startswith('"') else word


def _name(word: str) -> bytes:
    # There is no origin but the root.
    if word == "@":
        return name.ROOT
    if word.startswith('"'):
        raise BadRecord(f"expected a domain name, got {word[:40]}")
    try:
        return name.from_text(word)
    except (BadName, UnicodeError) as error:
        raise BadRecord(f"expected a domain name, got {word[:40]!r}: {error}") from error


def _time(word: str, most: int = 2**32 - 1) -> int:
    seconds = most + 1
    if _TIME.fullmatch(word):
        seconds = sum(int(n) * _UNITS[unit.lower()] for n, unit in _TIME_PART.findall(word))
    if seconds > most:
        raise BadRecord(f"expected seconds up to {most}, got {word[:40]!r}")
    return seconds


def _number(octets: int) -> Callable[[str], bytes]:
    most = (1 << 8 * octets) - 1

    def number(word: str) -> bytes:
        if not re.fullmatch("[0-9]{1,10}", word) or int(word) > most:
            raise BadRecord(f"expected a number up to {most}, got {word[:40]!r}")
        return int(word).to_bytes(octets, "big")

    return number


def _period(word: str) -> bytes:
    return _time(word).to_bytes(4, "big")


def _a(word: str) -> bytes:
    try:
        return IPv4Address(word).packed
    except AddressValueError as error:
        raise BadRecord(f"expected an IPv4 address, got {word[:40]!r}") from error


def _aaaa(word: str) -> bytes:
    try:
        address = IPv6Address(word)
    except AddressValueError as error:
        raise BadRecord(f"expected an IPv6 address, got {word[:60]!r}") from error
    if address.scope_id is not None:
        raise BadRecord(f"expected an IPv6 address without a scope, got {word[:60]!r}")
    return address.packed


def _octets(word: str) -> bytes:
    """A text's octets, its quotes and escapes gone."""

    def octet(found: re.Match[bytes]) -> bytes:
        digits = found[1]
        if not digits.isdigit():
            return digits
        if int(digits) > 255:
            raise BadRecord(f"expected \\000 to \\255, got \\{digits.decode()}")
        return bytes((int(digits),))

    return _ESCAPE.sub(octet, _bare(word).encode())


def _string(word: str) -> bytes:
    """A <character-string>."""
    octets = _octets(word)
    if len(octets) > 255:
        raise BadRecord(f"expected texts of at most 255 octets, got {len(octets)}")
    return bytes((len(octets),)) + octets


_SHORT = _number(2)
_FIELDS: dict[int, tuple[Callable[[str], bytes], ...]] = {
    iana.A: (_a,),
    iana.AAAA: (_aaaa,),
    iana.NS: (_name,),
    iana.CNAME: (_name,),
    iana.PTR: (_name,),
    iana.DNAME: (_name,),
    iana.MX: (_SHORT, _name),
    18: (_SHORT, _name),
    17: (_name, _name),
    iana.SRV: (_SHORT, _SHORT, _SHORT, _name),
    iana.SOA: (_name, _name, _number(4), _period, _period, _period, _period),
    iana.HINFO: (_string, _string),
    257: (_number(1), _string, _octets),
}
"""By type, what its data is made of; 17 is RP, 18 AFSDB, and 257 CAA (RFC 8659, section 4.1)."""
_TEXTS = frozenset((iana.TXT, 99))
