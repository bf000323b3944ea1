"""The load generator: `python -m perf.load` reads a LoadSpec and writes a LoadResult, both as JSON.

It runs in a process of its own, pinned to a core of its own, so that what it costs is not counted
as the server's.
"""

import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import msgspec

from perf.answers import Tally, digest, digest_of, matches
from perf.batch import Headers, Inbox, Poller, UdpLane
from perf.drive import Drive, Lane
from perf.histogram import Histogram
from perf.ledger import IDS, Ledger
from perf.model import LoadResult, LoadSpec, Mode
from perf.pace import ClosedPace, OpenPace, Pace
from perf.ring import Ring, lay_out
from perf.stream import TcpLane

__all__ = ["TIMEOUT", "check", "digest", "digest_of", "main", "matches", "run"]

TIMEOUT: Final = 1.0
"""Seconds after being sent in which a query is answered, or lost."""

_PER_SOCKET: Final = 60_000
_MOST_LANES: Final = 4096
_MOST: Final = 10_000_000


def run(spec: LoadSpec, timeout: float = TIMEOUT) -> LoadResult:
    """Do what `spec` says. Blocks this thread for spec.seconds and at most twice `timeout` more.

    With spec.cpu it pins the whole calling process. Raises ValueError for a spec that makes no
    sense, and OSError where sockets, connections or the core cannot be had.
    """
    check(spec)
    if spec.cpu is not None:
        os.sched_setaffinity(0, {spec.cpu})
    pace = pace_of(spec.mode, spec.rate, spec.seconds, spec.outstanding, timeout)
    wanted = pace.total if isinstance(pace, OpenPace) else IDS
    rings = lay_out(spec.workload.queries, spec.seed, wanted)
    tally = Tally(spec.workload.queries)
    latencies = Histogram()
    ledgers = [
        Ledger(queries, tally, latencies, first=first, timeout=timeout)
        for queries, first in _places(rings, _lanes_needed(spec, rings, timeout))
    ]
    with ExitStack() as stack:
        lanes = _open(spec, rings, len(ledgers), stack)
        sleeper = Poller()
        stack.callback(sleeper.close)
        pairs = list(zip(lanes, ledgers, strict=True))
        drive = Drive(
            pairs,
            pace,
            sleeper,
            time.monotonic,
            own_core=spec.cpu is not None,
            reask=spec.reask,
        )
        with no_collector():
            seconds = max(spec.seconds, drive.run())
    return _result(ledgers, pace.unsent(drive.sent), tally, latencies, seconds)


def check(spec: LoadSpec) -> None:
    """Raises ValueError, saying what was expected, for a spec that makes no sense."""
    if not spec.seconds > 0:
        raise ValueError(f"seconds is {spec.seconds}; expected more than 0")
    if spec.mode == "open" and not (spec.rate is not None and 0 < spec.rate <= _MOST):
        expected = f"more than 0 and at most {_MOST} queries a second"
        raise ValueError(f"rate is {spec.rate}; expected {expected}")
    if spec.mode == "max" and not 1 <= spec.outstanding <= _MOST:
        raise ValueError(f"outstanding is {spec.outstanding}; expected 1 to {_MOST}")
    if not 1 <= spec.connections <= _MOST_LANES:
        raise ValueError(f"connections is {spec.connections}; expected 1 to {_MOST_LANES}")


def main() -> int:
    """The process: 0 when the run was done, 2 when it could not be, with the reason on stderr."""
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec)
        result = run(spec)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"perf.load: {error}\n")
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


def pace_of(mode: Mode, rate: float | None, seconds: float, outstanding: int, grace: float) -> Pace:
    """The pace of a load; see LoadSpec and OpenPace."""
    if mode == "open" and rate is not None:
        return OpenPace(rate, seconds, grace)
    return ClosedPace(outstanding, seconds)


def _lanes_needed(spec: LoadSpec, rings: Sequence[Ring], timeout: float) -> int:
    """As many sockets as were asked for, or as the IDs of all that may be unanswered take."""
    unanswered = spec.outstanding
    if spec.mode == "open" and spec.rate is not None:
        unanswered = int(spec.rate * min(timeout, spec.seconds))
    room = min(_PER_SOCKET, *(len(ring.queries) for ring in rings))
    return max(spec.connections, len(rings), -(-unanswered // room))


def _places(rings: Sequence[Ring], lanes: int) -> Iterator[tuple[Sequence[int], int]]:
    """For each lane its ring's queries, and the slot to begin with."""
    sharing = -(-lanes // len(rings))
    for number in range(lanes):
        queries = rings[number % len(rings)].queries
        # Sockets that share a ring begin apart, so that they do not ask the same at once.
        yield queries, number // len(rings) * len(queries) // sharing


def _open(spec: LoadSpec, rings: Sequence[Ring], count: int, stack: ExitStack) -> list[Lane]:
    lanes: list[Lane] = []
    inbox = Inbox()
    headers = [Headers(ring) for ring in rings] if spec.workload.transport == "udp" else []
    for number in range(count):
        which = number % len(rings)
        lane: UdpLane | TcpLane
        if headers:
            lane = UdpLane(spec.host, spec.port, headers[which], inbox)
        else:
            lane = TcpLane(spec.host, spec.port, rings[which])
        stack.callback(lane.close)
        lanes.append(lane)
    return lanes


@contextmanager
def no_collector() -> Iterator[None]:
    """Have the collector of cycles stand still within the block."""
    # Nothing here makes cycles, and a collection in the middle would be somebody's latency.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _result(
    ledgers: Sequence[Ledger], unsent: int, tally: Tally, latencies: Histogram, seconds: float
) -> LoadResult:
    answered = sum(ledger.answered for ledger in ledgers)
    lost = sum(ledger.lost for ledger in ledgers) + unsent
    at = latencies.percentile
    return LoadResult(
        sent=answered + lost,
        answered=answered,
        lost=lost,
        wrong=tally.wrong(),
        seconds=seconds,
        qps=answered / seconds,
        p50=at(50),
        p90=at(90),
        p99=at(99),
        p999=at(99.9),
        worst=latencies.worst,
        histogram=latencies.buckets(),
        reasked=sum(ledger.reasked for ledger in ledgers),
    )


if __name__ == "__main__":
    sys.exit(main())
