"""Domain names as the bytes that travel: length-prefixed labels, closed by the root's zero.

A name is a `bytes` in uncompressed wire form, 1 to 255 octets. Letter case is kept for replies and
folded for look-ups; `bytes.lower` folds a whole name at once and cannot touch a length octet,
because lengths end at 63 and the capital letters begin at 65.

This module walks, joins and reads names; compressed names exist only inside messages.
"""

from ipaddress import IPv4Address, IPv6Address

from kdns.wire.errors import BadName, WireError

ROOT = b"\x00"
MAX_NAME = 255
"""RFC 1035, section 2.3.4: 255 octets, length octets and the root's zero included."""
MAX_LABEL = 63
MAX_POINTERS = 127
"""As many as a name can have labels: more are pointers to pointers, which only cost time."""
_HEADER = 12

IN_ADDR_ARPA = b"\x07in-addr\x04arpa\x00"
IP6_ARPA = b"\x03ip6\x04arpa\x00"

_ESCAPED = frozenset(b'."();@$\\')


def _octet_text(octet: int) -> str:
    if octet in _ESCAPED:
        return "\\" + chr(octet)
    return chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03d}"


_TEXTS = [_octet_text(octet) for octet in range(256)]


def from_text(text: str) -> bytes:
    """A name from presentation form (RFC 1035, section 5.1), relative ones taken as absolute.

    Knows `\\.`-style and `\\DDD` escapes; `.` and the empty text are the root. Raises BadName.
    """
    if text in (".", ""):
        return ROOT
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        try:
            raw = text.encode("idna")
        except UnicodeError as error:
            raise BadName(f"{text!r}: not a domain name: {error}") from error
    if b"\\" not in raw:
        return from_labels(raw.removesuffix(b".").split(b"."))
    labels: list[bytes] = []
    label = bytearray()
    position = 0
    while position < len(raw):
        octet = raw[position]
        position += 1
        if octet == 0x2E:
            labels.append(bytes(label))
            label.clear()
            if position == len(raw):
                break
        elif octet == 0x5C:
            octet, position = _unescape(raw, position, text)
            label.append(octet)
        else:
            label.append(octet)
    else:
        labels.append(bytes(label))
    return from_labels(labels)


def _unescape(raw: bytes, position: int, text: str) -> tuple[int, int]:
    digits = raw[position : position + 3]
    if not digits[:1].isdigit():
        if not digits:
            raise BadName("ends in a backslash")
        return digits[0], position + 1
    if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
        raise BadName(f"expected \\000 to \\255, got \\{digits.decode()}")
    return int(digits), position + 3


def from_labels(labels: list[bytes] | tuple[bytes, ...]) -> bytes:
    """The absolute name of these labels, leftmost first. Raises BadName where a bound is broken."""
    for label in labels:
        if not label:
            raise BadName("an empty label: two dots in a row, or a leading dot")
        if len(label) > MAX_LABEL:
            raise BadName(f"label of {len(label)} octets: {label[:20]!r}…; at most 63 are allowed")
    name = b"".join([bytes((len(label),)) + label for label in labels]) + ROOT
    if len(name) > MAX_NAME:
        raise BadName(f"name of {len(name)} octets; at most 255 are allowed")
    return name


def to_text(name: bytes) -> str:
    """Presentation form with the final dot; what is not printable ASCII is written `\\DDD`."""
    if name == ROOT:
        return "."
    return "".join(["".join([_TEXTS[octet] for octet in label]) + "." for label in split(name)])


def split(name: bytes) -> list[bytes]:
    """The labels of a name, leftmost first, without the root's empty one."""
    labels: list[bytes] = []
    position = 0
    while length := name[position]:
        position += 1
        labels.append(name[position : position + length])
        position += length
    return labels


def parent(name: bytes) -> bytes:
    """The name without its leftmost label; the root's parent is the root."""
    return name[name[0] + 1 :] if name[0] else name


def suffixes(name: bytes) -> list[bytes]:
    """The name itself, its parent, and so on; the root is last."""
    found: list[bytes] = []
    position = 0
    while length := name[position]:
        found.append(name[position:])
        position += length + 1
    found.append(ROOT)
    return found


def is_below(name: bytes, ancestor: bytes) -> bool:
    """Whether `name` is `ancestor` or below it. Both in the same letter case."""
    if not name.endswith(ancestor):
        return False
    # The bytes may match in the middle of a label: only a walk along the lengths can tell.
    surplus = len(name) - len(ancestor)
    position = 0
    while position < surplus:
        position += name[position] + 1
    return position == surplus


def read(wire: bytes, position: int, known: dict[int, bytes] | None = None) -> tuple[bytes, int]:
    """The name that starts at `position` of a message, pointers followed, and where it ends.

    RFC 1035, section 4.1.4: a pointer leads to a *prior* name, so behind the header, and what is
    read there ends before the labels that the pointer closes: a loop cannot exist. Every step is
    bounded while walking, 255 octets and MAX_POINTERS in all, whatever the message repeats.
    known: the names of this message by where pointers lead to, added to here: whoever reads many
    follows each pointer once, so that no message costs more than in proportion to its length.
    Raises WireError.
    """
    head = b""
    end = pointers = 0
    run, behind = position, len(wire)
    # Where the root's zero may stand at the latest.
    last = position + MAX_NAME - 1
    met: list[tuple[int, int]] = []
    rest: bytes | None = None
    try:
        while length := wire[position]:
            if length <= MAX_LABEL:
                position += length + 1
                if position > last:
                    raise WireError(f"name longer than {MAX_NAME} octets, or over its own pointer")
            elif length < 0xC0:
                raise WireError(f"label type {length >> 6:02b} at {position} is unknown")
            else:
                target = (length & 0x3F) << 8 | wire[position + 1]
                pointers += 1
                if not _HEADER <= target < run or position + 2 > behind or pointers > MAX_POINTERS:
                    raise WireError(f"compression pointer at {position} leads to no prior name")
                end = end or position + 2
                head += wire[run:position]
                if known is not None:
                    rest = known.get(target)
                    if rest is not None:
                        if len(head) + len(rest) > MAX_NAME:
                            raise WireError(f"name longer than {MAX_NAME} octets")
                        break
                    met.append((target, len(head)))
                behind = run
                run = position = target
                last = min(behind, target + MAX_NAME - len(head)) - 1
    except IndexError:
        raise WireError("name runs past the end of its message") from None
    name = head + (wire[run : position + 1] if rest is None else rest)
    if known is not None:
        for target, before in met:
            known[target] = name[before:]
    return name, end or position + 1


def reverse(address: bytes) -> bytes:
    """The name under in-addr.arpa or ip6.arpa of an address of 4 or 16 octets.

    RFC 1035, section 3.5; RFC 3596, section 2.5.
    """
    if len(address) == 4:
        return b"".join([_DECIMAL[octet] for octet in reversed(address)]) + IN_ADDR_ARPA
    return b"".join([_NIBBLES[octet] for octet in reversed(address)]) + IP6_ARPA


_DECIMAL = [bytes((len(str(n)),)) + str(n).encode() for n in range(256)]
_NIBBLES = [b"\x01%x\x01%x" % (n & 15, n >> 4) for n in range(256)]


def address_text(address: bytes) -> str:
    """An address of 4 or 16 octets as text; IPv6 as RFC 5952 writes it."""
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))
