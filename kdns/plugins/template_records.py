"""One record from its text (RFC 1035, section 5.1), as octets.

The common types are read here, and strictly: what a client has put into a name must end as a record
or as an error, and libraries read some of it as another record. Parameters of services are
dnslib's; types that are not known here have their octets in hexadecimal (RFC 3597).
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from dnslib import HTTPS

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
_BLANK_OWNER = re.compile(r"(?:[ \t\r]*(?:;[^\n]*)?\n)*[ \t]+[^\s;]")
"""RFC 1035, section 5.1: it would be that of the record before, and there is none."""
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
    if _BLANK_OWNER.match(text):
        raise BadRecord("expected a name at the beginning, got blanks")
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
    text = iana.type_text(rtype)
    if words[:1] == ["\\#"]:
        return _generic(text, rtype, words)
    if rtype in _TEXTS:
        if not words:
            raise BadRecord(f"{text}: expected a text")
        return b"".join(map(_string, words))
    if rtype in _SERVICES:
        return _service(text, words)
    kinds = _FIELDS.get(rtype) or _BEFORE_OCTETS.get(rtype)
    if kinds is None:
        raise BadRecord(f"{text}: expected \\# LENGTH and octets, for the type is not known here")
    rest = words[len(kinds) :]
    if rtype in _BEFORE_OCTETS:
        if len(words) <= len(kinds):
            raise BadRecord(f"{text}: expected {len(kinds)} numbers and octets in hexadecimal")
        octets = _hexadecimal("".join(rest))
    else:
        if len(words) != len(kinds):
            raise BadRecord(f"{text}: expected {len(kinds)} fields of data")
        octets = b""
    return b"".join([kind(word) for kind, word in zip(kinds, words, strict=False)]) + octets


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadRecord(f"expected octets in hexadecimal, got {text[:40]!r}") from error


def _generic(text: str, rtype: int, words: list[str]) -> bytes:
    """RFC 3597, section 5; types that are read here have their own form alone, for octets that are
    no such data would go out as if they were."""
    if rtype in _TEXTS | _SERVICES | _FIELDS.keys() | _BEFORE_OCTETS.keys():
        raise BadRecord(f"{text}: expected its own form of data, not \\#")
    data = _hexadecimal("".join(words[2:]))
    if words[1:2] != [str(len(data))]:
        raise BadRecord(f"expected \\# {len(data)} before so many octets")
    return data


def _service(text: str, words: list[str]) -> bytes:
    """SVCB and HTTPS (RFC 9460, section 2.1).

    dnslib knows `ech` by its older name, and no order.
    """
    if len(words) < 2:
        raise BadRecord(f"{text}: expected a priority and a target")
    params: dict[int, bytes] = {}
    rest = words[2:]
    while rest:
        key, _, value = rest.pop(0).partition("=")
        if not value and rest and rest[0].startswith('"'):
            value = _bare(rest.pop(0))
        try:
            known = b"echconfig" if key == "ech" else key.encode("ascii")
            number, data = HTTPS.zf_parse_param(known, bytearray(value.encode("ascii")))
            head = number.to_bytes(2, "big") + len(data).to_bytes(2, "big")
        except Exception as error:
            # dnslib has no error of its own for texts, and raises whatever comes of them.
            raise BadRecord(f"{text}: expected a parameter, got {key[:40]}={value[:40]}") from error
        # RFC 9460, section 2.1: a key that stands twice makes the whole malformed.
        if number in params:
            raise BadRecord(f"{text}: {key} stands twice")
        params[number] = head + bytes(data)
    # Section 2.2: in the order of their numbers.
    return _SHORT(words[0]) + _name(words[1]) + b"".join([params[n] for n in sorted(params)])


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


_BYTE = _number(1)
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
    35: (_SHORT, _SHORT, _string, _string, _string, _name),
    257: (_BYTE, _string, _octets),
}
"""By type, what its data is made of; 17 is RP, 18 AFSDB, 35 NAPTR (RFC 3403, section 4.1) and 257
CAA (RFC 8659, section 4.1)."""
_BEFORE_OCTETS: dict[int, tuple[Callable[[str], bytes], ...]] = {
    iana.DS: (_SHORT, _BYTE, _BYTE),
    44: (_BYTE, _BYTE),
    52: (_BYTE, _BYTE, _BYTE),
}
"""What stands before a digest: of DS, SSHFP (RFC 4255) and TLSA (RFC 6698)."""
_SERVICES = frozenset((64, 65))
_TEXTS = frozenset((iana.TXT, 99))
