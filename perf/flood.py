"""More than a server can take: `python -m perf.flood` asks for what is known, and what is not.

Two kinds of lanes take turns, so half of the queries are of each kind:

    known     the queries of a workload, in rotation; their answers are checked
    outside   a name that nobody has asked for before, each time: the label of 16 digits at the
              start of each query of the ring is written anew before it is sent

It reads a FloodSpec and writes a FloodResult, both as JSON.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from perf.answers import Tally
from perf.batch import Headers, Inbox, Poller, UdpLane
from perf.drive import Drive
from perf.histogram import Histogram
from perf.ledger import Ledger
from perf.load import no_collector, pace_of
from perf.model import FloodResult, FloodSpec, KindResult, Query
from perf.ring import PREFIX, Ring

TIMEOUT: Final = 1.0
"""Seconds after being sent in which a query is answered, or lost."""
LANES: Final = 8
"""Sockets of each kind."""
_RING: Final = 1 << 15
"""Slots of a socket: more than may be unanswered on it."""
DIGITS: Final = 16
_LABEL: Final = PREFIX + 12 + 1
"""Where the digits stand in a frame: after the header and the length of the label."""
_FLAGS: Final = 2


class OutsideLane(UdpLane):
    """A lane that asks for a new name each time. `number` is of the next one, and where it went."""

    def __init__(self, host: str, port: int, ring: Ring, inbox: Inbox, number: int) -> None:
        super().__init__(host, port, Headers(ring), inbox)
        self._ring = ring
        self._number = number

    def push(self, first: int, last: int) -> int:
        """See UdpLane."""
        frames, number = self._ring.frames, self._number
        for offset in self._ring.offsets[first:last]:
            frames[offset + _LABEL : offset + _LABEL + DIGITS] = b"%016x" % number
            number += 1
        self._number = number
        return super().push(first, last)

    def pull(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """See UdpLane; of each answer its flags alone, for the names are all different."""
        ids, bodies = super().pull()
        return ids, [body[:_FLAGS] for body in bodies]


def run(spec: FloodSpec, clock: Callable[[], float] = time.monotonic) -> FloodResult:
    """Do what `spec` says. Blocks this thread. Raises ValueError and OSError as load.run does."""
    if spec.cpu is not None:
        os.sched_setaffinity(0, {spec.cpu})
    # What is overdue at the end is not sent any more: then the flood is over.
    pace = pace_of(spec.mode, spec.rate, spec.seconds, spec.outstanding, 0.0)
    known = Ring(spec.known, _laps(len(spec.known)))
    tally = Tally(spec.known)
    outside = (Query(spec.outside, None),)
    flags = Tally(outside)
    latencies, others = Histogram(), Histogram()
    lanes: list[tuple[UdpLane, Ledger]] = []
    mine: list[Ledger] = []
    theirs: list[Ledger] = []
    with ExitStack() as stack:
        inbox, headers = Inbox(), Headers(known)
        for number in range(LANES):
            lane = UdpLane(spec.host, spec.port, headers, inbox)
            stack.callback(lane.close)
            begin = number * len(known.queries) // LANES
            mine.append(Ledger(known.queries, tally, latencies, first=begin, timeout=TIMEOUT))
            lanes.append((lane, mine[-1]))
            if not spec.outside:
                continue
            ring = Ring(outside, [0] * _RING)
            first = spec.seed << 40 | number << 36
            lane = OutsideLane(spec.host, spec.port, ring, inbox, first)
            stack.callback(lane.close)
            theirs.append(Ledger(ring.queries, flags, others, timeout=TIMEOUT))
            lanes.append((lane, theirs[-1]))
        poller = Poller()
        stack.callback(poller.close)
        drive = Drive(lanes, pace, poller, clock, own_core=spec.cpu is not None)
        with no_collector():
            began = clock()
            drive.run()
    made = flags.seen[0]
    right = sum(times for body, times in made.items() if not body[1] & 15)
    return FloodResult(
        known=_sum(mine, tally.wrong(), latencies, spec.seconds),
        outside=_sum(theirs, sum(made.values()) - right, others, spec.seconds),
        unsent=pace.unsent(drive.sent),
        ended=began + spec.seconds,
    )


def _laps(size: int) -> list[int]:
    return list(range(size)) * max(1, _RING // size)


def _sum(ledgers: Sequence[Ledger], wrong: int, latencies: Histogram, seconds: float) -> KindResult:
    answered = sum(ledger.answered for ledger in ledgers)
    lost = sum(ledger.lost for ledger in ledgers)
    at = latencies.percentile
    return KindResult(
        answered + lost, answered, wrong, (answered - wrong) / seconds, at(50), at(99)
    )


def main() -> int:
    """The process: 0 when the run was done, 2 when it could not be, with the reason on stderr."""
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=FloodSpec)
        result = run(spec)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"perf.flood: {error}\n")
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
