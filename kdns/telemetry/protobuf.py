"""The little of protobuf's encoding that we write: varints and octets, by field number."""


def varint(number: int) -> bytes:
    """Seven bits an octet, the low ones first. number: not negative."""
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def number(field: int, value: int) -> bytes:
    """A field that is a number; nothing for 0, which is what absent means."""
    return varint(field << 3) + varint(value) if value else b""


def octets(field: int, value: bytes) -> bytes:
    """A field that is octets, a text, or a message; nothing for an empty one."""
    return varint(field << 3 | 2) + varint(len(value)) + value if value else b""


def fixed32(field: int, value: int) -> bytes:
    """A field of four octets, little end first; there even where it is 0."""
    return varint(field << 3 | 5) + value.to_bytes(4, "little")


def text(field: int, value: str) -> bytes:
    """A field that is a text; there even where it is empty, for lists have such elements."""
    raw = value.encode()
    return varint(field << 3 | 2) + varint(len(raw)) + raw
