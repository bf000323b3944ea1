"""What the kernel drops for us before it takes a place in a socket's queue: a classic BPF program.

    from a greedy client?     --yes, and not by chance let in-->  dropped
            | no
    qname below a kept zone?  --yes-->  in
            | no
    by chance, `keep` of 1    --yes-->  in
            | no
    dropped, and counted by the kernel with what it drops for want of room

To read a datagram only to drop it costs a third of what it costs to answer it hot, so who is asked
for ten times what it can do must not read most of it. The program walks the labels of the question
(RFC 1035, section 4.1.2) and compares the end of the name, letter case aside, by setting the bit
that tells letters apart in everything: length octets come out wrong alike on both sides. What it
lets in may be wrong that way, and is then judged by who reads it.

A datagram begins with its UDP header here. Loads from behind its end drop it (bpf(4), filter(7)).
"""

import ctypes
import socket
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

# linux/bpf_common.h and linux/filter.h.
_LDX_IMM: Final = 0x01
_LD_WORD: Final = 0x40
_LD_HALF: Final = 0x48
_LD_BYTE: Final = 0x50
_LD_ABS: Final = 0x20
_LDX_MEM: Final = 0x61
_STX: Final = 0x03
_ADD_X: Final = 0x0C
_ADD: Final = 0x04
_SUB: Final = 0x14
_OR: Final = 0x44
_TAX: Final = 0x07
_TXA: Final = 0x87
_JEQ: Final = 0x15
_JGE: Final = 0x35
_RETURN: Final = 0x06
_RANDOM: Final = 0xFFFFF000 + 56
_SOURCE_4: Final = 0xFFF00000 + 12
_SOURCE_6: Final = 0xFFF00000 + 8
"""The address of who sent it, in the header of IP (RFC 791, section 3.1; RFC 8200, section 3)."""

_QUESTION: Final = 8 + 12
_LABELS: Final = 40
"""As many labels of a name are walked; those of ip6.arpa have 34."""
_ALL: Final = 0xFFFFFFFF
_LONGEST: Final = 4096
_FAR: Final = 255


_NOBODY: Final[Mapping[bytes, float]] = MappingProxyType({})


class TooLong(Exception):
    """There are too many zones for one program."""


class Instruction(NamedTuple):
    """One of them: operation, where to go on if true and if not, relative, and its number."""

    code: int
    yes: int
    no: int
    number: int


def program(
    zones: Sequence[bytes], keep: float, clients: Mapping[bytes, float] = _NOBODY
) -> list[Instruction]:
    """Lets in what is below a zone, and `keep` of the rest. Raises TooLong.

    zones: names as on the wire, without letters in upper case. clients: by address, 4 or 16 octets,
    how much of what they send goes on to that question.
    """
    walk: list[Instruction] = []
    for client, part in clients.items():
        walk += _hold_back(client, part)
    walk.append(_do(_LDX_IMM, _QUESTION))
    for label in range(_LABELS):
        left = 5 * (_LABELS - label) - 2
        walk += (
            _do(_LD_BYTE, 0),
            Instruction(_JEQ, left, 0, 0),
            _do(_ADD_X),
            _do(_ADD, 1),
            _do(_TAX),
        )
    # X is where the name ends, or somewhere in one that is too long to be anybody's.
    compare: list[Instruction] = [_do(_STX)]
    for zone in zones:
        compare += _compare(zone)
    made = [*walk, *compare, *_chance(keep), _do(_RETURN, _ALL)]
    if len(made) > _LONGEST:
        raise TooLong
    return made


def sift(
    sock: socket.socket,
    zones: Sequence[bytes],
    keep: float,
    clients: Mapping[bytes, float] = _NOBODY,
) -> None:
    """Have what comes to a socket pass the program; or nothing, to keep all.

    Raises TooLong and OSError.
    """
    if keep >= 1 and not clients:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    made = program(zones, keep, clients)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in made)
    held = ctypes.create_string_buffer(code)
    sock.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(made), ctypes.addressof(held)),
    )


def _do(code: int, number: int = 0) -> Instruction:
    return Instruction(code, 0, 0, number)


def _chance(keep: float) -> list[Instruction]:
    """Goes on by chance, and else drops."""
    threshold = min(_ALL, int(keep * (1 << 32)))
    return [_do(_LD_ABS, _RANDOM), Instruction(_JGE, 0, 1, threshold), _do(_RETURN, 0)]


def _hold_back(client: bytes, part: float) -> list[Instruction]:
    """Goes on for other clients, and for this one by chance."""
    begin = _SOURCE_4 if len(client) == 4 else _SOURCE_6
    chance = _chance(part)
    made: list[Instruction] = []
    for at in range(0, len(client), 4):
        left = 2 * ((len(client) - at) // 4 - 1) + len(chance)
        word = int.from_bytes(client[at : at + 4], "big")
        made += (_do(_LD_ABS, begin + at), Instruction(_JEQ, 0, left, word))
    return [*made, *chance]


def _compare(zone: bytes) -> list[Instruction]:
    """Lets the datagram in if its name ends with the zone; else goes on behind this."""
    # Loads of words, a half word and an octet, each followed by two instructions.
    pieces: list[tuple[int, int, int]] = []
    at = 0
    while at < len(zone):
        size = next(size for size in (4, 2, 1) if at + size <= len(zone))
        code = {4: _LD_WORD, 2: _LD_HALF, 1: _LD_BYTE}[size]
        pieces.append((code, at, size))
        at += size
    made: list[Instruction] = []
    rest = 3 * len(pieces) + 1
    head = (
        _do(_LDX_MEM),
        _do(_TXA),
        Instruction(_JGE, 0, rest + 2, _QUESTION + len(zone) - 1),
        _do(_SUB, len(zone) - 1),
        _do(_TAX),
    )
    for number, (code, offset, size) in enumerate(pieces):
        bit = int.from_bytes(b"\x20" * size, "big")
        wanted = int.from_bytes(zone[offset : offset + size], "big") | bit
        miss = 3 * (len(pieces) - number - 1) + 1
        if miss > _FAR:
            raise TooLong
        made += (_do(code, offset), _do(_OR, bit), Instruction(_JEQ, 0, miss, wanted))
    if rest + 2 > _FAR:
        raise TooLong
    return [*head, *made, _do(_RETURN, _ALL)]
