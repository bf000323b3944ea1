"""Bodies of replies whose record set stands in one order after another, made before anybody asks.

Each takes a body, the octets of a reply after its header, whose set is in start:end: records that
have one owner, two octets that point to it, and data of one size. They differ in who is to come
first: each in turn (`orders`), each part of a set that is too long to be whole (`windows`), each
within its part (`in_runs`), or one that is drawn (`exchanged`).
"""

from collections.abc import Sequence
from math import lcm

MAX_ORDERS = 64
"""Prepared orders of a rotated answer, and what they may take together, octets."""
MAX_ORDERS_SIZE = 65_536


def orders(body: bytes, start: int, end: int, count: int) -> tuple[bytes, ...]:
    """A body in all rotations of the `count` records, equal in size, in start:end.

    The body alone where they are too many to be kept: see MAX_ORDERS.
    """
    if not 1 < count <= MAX_ORDERS or count * len(body) > MAX_ORDERS_SIZE:
        return (body,)
    size = (end - start) // count
    return tuple([turned(body, start, end, cut) for cut in range(start, end, size)])


def windows(body: bytes, start: int, end: int, rdatas: Sequence[bytes]) -> tuple[bytes, ...]:
    """A body that holds a part of a record set in start:end, with one part after the other.

    rdatas: of the whole set, equal in size; those in the body are the first ones. The parts begin
    as far from each other as the bounds of a rotated answer ask for; see MAX_ORDERS.
    """
    if start == end:
        return (body,)
    total, size = len(rdatas), 12 + len(rdatas[0])
    head = body[start : start + 12]
    ring = 2 * b"".join([head + rdata for rdata in rdatas])
    count = max(1, min(total, MAX_ORDERS, MAX_ORDERS_SIZE // len(body)))
    cuts = [n * total // count * size for n in range(count)]
    return tuple([body[:start] + ring[cut : cut + end - start] + body[end:] for cut in cuts])


def in_runs(
    body: bytes, start: int, end: int, rdatas: Sequence[bytes], runs: Sequence[int]
) -> tuple[bytes, ...]:
    """A body whose record set, or its beginning, in start:end, is handed out with each of its parts
    turned for itself: each record of the first part comes first as often as the others of it.

    rdatas: of the whole set, equal in size; runs: how many of them stand together, 1 or more each.
    """
    most = max(1, min(MAX_ORDERS, MAX_ORDERS_SIZE // len(body)))
    first = runs[0]
    count = min(lcm(*runs), most // first * first or most)
    made: list[list[bytes]] = []
    for turn in range(count):
        order: list[bytes] = []
        at = 0
        for size in runs:
            cut = at + (turn % size if size <= count else turn * size // count)
            order += [*rdatas[cut : at + size], *rdatas[at:cut]]
            at += size
        made.append(order)
    return _ordered(body, start, end, made)


def exchanged(
    body: bytes, start: int, end: int, rdatas: Sequence[bytes], among: int
) -> tuple[bytes, ...]:
    """A body with each of the first `among` records of the set, which in start:end stands whole or
    as far as there is room, in the place of its first; empty where these are too many to be kept.
    """
    if among > MAX_ORDERS or among * len(body) > MAX_ORDERS_SIZE:
        return ()
    made: list[list[bytes]] = []
    for chosen in range(among):
        order = list(rdatas)
        order[0], order[chosen] = order[chosen], order[0]
        made.append(order)
    return _ordered(body, start, end, made)


def _ordered(body: bytes, start: int, end: int, made: list[list[bytes]]) -> tuple[bytes, ...]:
    """The body with its record set in each of these orders, as far as there is room."""
    head = body[start : start + 12]
    held = (end - start) // (12 + len(made[0][0]))
    return tuple(
        [
            body[:start] + b"".join([head + rdata for rdata in order[:held]]) + body[end:]
            for order in made
        ]
    )


def turned(body: bytes, start: int, end: int, cut: int) -> bytes:
    """The body with what stands from `cut` to `end` before what stands from `start` to `cut`."""
    return body[:start] + body[cut:end] + body[start:cut] + body[end:]
