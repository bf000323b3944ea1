"""The data of the few record types that kdns makes itself, as bytes with names uncompressed."""

import struct

_SRV = struct.Struct("!HHH")
_SOA = struct.Struct("!5I")


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """SRV (RFC 2782)."""
    return _SRV.pack(priority, weight, port) + target


def srv_target(rdata: bytes) -> bytes:
    """The target of a SRV record's data."""
    return rdata[6:]


def soa(  # noqa: PLR0913, RUF100 - the record has these fields
    mname: bytes, rname: bytes, serial: int, refresh: int, retry: int, expire: int, minimum: int
) -> bytes:
    """SOA (RFC 1035, section 3.3.13); times in seconds."""
    return mname + rname + _SOA.pack(serial & 0xFFFFFFFF, refresh, retry, expire, minimum)


def txt(*texts: bytes) -> bytes:
    """TXT (RFC 1035, section 3.3.14); texts over 255 octets are split into several strings.

    Without a text it is one empty string, for the type asks for at least one.
    """
    cuts = [text[i : i + 255] for text in texts or (b"",) for i in range(0, len(text) or 1, 255)]
    return b"".join(map(_string, cuts))


def hinfo(cpu: bytes, operating_system: bytes) -> bytes:
    """HINFO (RFC 1035, section 3.3.2). Raises ValueError where a text is over 255 octets."""
    return _string(cpu) + _string(operating_system)


def _string(text: bytes) -> bytes:
    """A <character-string> (RFC 1035, section 3.3)."""
    return bytes((len(text),)) + text
