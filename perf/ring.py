"""Every query that a socket will send, laid out once: framed, under its ID, one after the other.

Sending a run of them is then one system call on memory that is already there, over UDP as over TCP.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final

from perf.ledger import IDS
from perf.model import Query

PREFIX: Final = 2
"""Octets of the length before a message over TCP (RFC 1035, section 4.2.2)."""


class Ring:
    """One lap of queries. Slot i begins at `offsets[i]` in `frames` and asks query `queries[i]`.

    A frame is the length, the ID and the rest of the message. The ID of slot i is the number i in
    the machine's own byte order: to everybody else, an ID has none.
    """

    def __init__(self, queries: Sequence[Query], order: Sequence[int]) -> None:
        wires = [query.wire for query in queries]
        lengths = [struct.pack("!H", len(wire)) for wire in wires]
        tails = [wire[2:] for wire in wires]
        ids = struct.Struct("=H")
        self.queries = order
        self.frames = bytearray(
            b"".join([lengths[q] + ids.pack(slot) + tails[q] for slot, q in enumerate(order)])
        )
        self.offsets = [0, *accumulate(PREFIX + len(wires[q]) for q in order)]


def lay_out(queries: Sequence[Query], seed: int, wanted: int) -> list[Ring]:
    """The rings that ask all `queries` in rotation, in an order shuffled by `seed`.

    One ring holds whole laps, at most 65,536 slots, and no more laps than `wanted` queries need.
    Queries that do not fit into one ring are spread over several. Raises ValueError for no queries
    and for one that is no DNS message.
    """
    if not queries:
        raise ValueError("a workload without queries; expected one at least")
    for number, query in enumerate(queries):
        if not 12 <= len(query.wire) < IDS:
            raise ValueError(f"query {number} has {len(query.wire)} octets; expected 12 to 65535")
    order = list(range(len(queries)))
    Random(seed).shuffle(order)
    # Equal pieces: sockets take turns, and no query is to be asked more often than another.
    size = -(-len(order) // -(-len(order) // IDS))
    pieces = [order[start : start + size] for start in range(0, len(order), size)]
    if len(pieces) == 1:
        laps = min(IDS // len(order), -(-wanted // len(order)))
        pieces = [order * max(1, laps)]
    return [Ring(queries, piece) for piece in pieces]
