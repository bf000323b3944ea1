"""Which queries are unanswered on one socket, by message ID, and what became of the others.

An ID is a slot in a ring: slots are used in turn, and one whose answer has not come is passed over.
What was sent longest ago expires first. Nothing here knows sockets or clocks; times are seconds
since the start of the run.
"""

from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final

from perf.answers import Tally
from perf.histogram import Histogram

IDS: Final = 1 << 16


class Ledger:
    """The accounts of one socket.

    queries: which query each slot asks, by its index in `tally`; there are as many slots.
    first: the slot to begin with. timeout: seconds from sending to being lost.
    `unanswered` are pending, `answered` and `lost` are done with; `ignored` counts replies to
    nothing: too late, twice, or to an ID that was never used. `reasked`
    counts those that were asked again.
    """

    def __init__(
        self,
        queries: Sequence[int],
        tally: Tally,
        latencies: Histogram,
        *,
        first: int = 0,
        timeout: float = 1.0,
    ) -> None:
        self.unanswered = 0
        self.answered = 0
        self.lost = 0
        self.ignored = 0
        self.reasked = 0
        self._twice: set[int] = set()
        self._queries = queries
        self._size = len(queries)
        self._tally = tally
        self._seen = [tally.seen[query] for query in queries]
        self._latencies = latencies
        self._timeout = timeout
        self._head = first
        # One entry per ID that a reply can bear, so that no reply needs a check of bounds.
        self._pending = bytearray(IDS)
        self._due = array("d", bytes(8 * IDS))
        self._sent = array("d", bytes(8 * IDS))
        self._batches: deque[tuple[float, int, int]] = deque()

    def free(self, wanted: int) -> tuple[int, int]:
        """The next free slots, as a range of at most `wanted`; empty when every slot is pending."""
        head = self._head
        if self._pending[head]:
            after = self._pending.find(0, head, self._size)
            head = after if after >= 0 else self._pending.find(0, 0, head)
            if head < 0:
                return 0, 0
        end = min(head + wanted, self._size)
        stop = self._pending.find(1, head, end)
        return head, end if stop < 0 else stop

    def sent(self, first: int, dues: "array[float]", now: float) -> None:
        """Slots from `first` on, one for each of `dues`, went out at `now`."""
        count = len(dues)
        last = first + count
        self._pending[first:last] = b"\1" * count
        self._due[first:last] = dues
        self._sent[first:last] = array("d", [now]) * count
        self._batches.append((now, first, last))
        self._head = last if last < self._size else 0
        self.unanswered += count
        if self._twice:
            self._twice.difference_update(range(first, last))

    def take(self, ids: Sequence[int], bodies: Sequence[bytes], now: float) -> None:
        """Replies came at `now`: their IDs, and their bytes after the ID."""
        pending, due, seen = self._pending, self._due, self._seen
        latencies: list[int] = []
        for slot, body in zip(ids, bodies, strict=True):
            if not pending[slot]:
                self.ignored += 1
                continue
            pending[slot] = 0
            latencies.append(int((now - due[slot]) * 1e6 + 0.5))
            answers = seen[slot]
            if body in answers:
                answers[body] += 1
            else:
                self._tally.first(self._queries[slot], body)
        self._latencies.record_all(latencies)
        self.answered += len(latencies)
        self.unanswered -= len(latencies)

    def expire(self, now: float) -> None:
        """What was sent more than the time-out before `now` and is unanswered is lost."""
        batches = self._batches
        while batches and batches[0][0] + self._timeout < now:
            self._lose(*batches.popleft())

    def abandon(self) -> None:
        """Everything unanswered is lost: the connection is."""
        while self._batches:
            self._lose(*self._batches.popleft())

    def again(self, now: float) -> list[tuple[int, int]]:
        """The connection is lost: runs of slots to ask over the next one, `now`.

        What was asked twice already is lost.
        """
        runs: list[tuple[int, int]] = []
        batches, self._batches = self._batches, deque()
        for when, first, last in batches:
            slot = self._pending.find(1, first, last)
            while slot >= 0:
                if self._sent[slot] == when:
                    self._ask_again(slot, now, runs)
                slot = self._pending.find(1, slot + 1, last)
        self._batches.extend((now, first, last) for first, last in runs)
        return runs

    def _ask_again(self, slot: int, now: float, runs: list[tuple[int, int]]) -> None:
        if slot in self._twice:
            self._pending[slot] = 0
            self.lost += 1
            self.unanswered -= 1
            return
        self._twice.add(slot)
        self.reasked += 1
        self._sent[slot] = now
        if runs and runs[-1][1] == slot:
            runs[-1] = (runs[-1][0], slot + 1)
        else:
            runs.append((slot, slot + 1))

    def _lose(self, when: float, first: int, last: int) -> None:
        slot = self._pending.find(1, first, last)
        while slot >= 0:
            # A slot answered since and used again belongs to a later batch.
            if self._sent[slot] == when:
                self._pending[slot] = 0
                self.lost += 1
                self.unanswered -= 1
            slot = self._pending.find(1, slot + 1, last)
