"""Somebody who asks slowly, and goes on asking: how long a server takes to be itself again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Final, Self

OWN: Final = "127.0.0.2"
"""Its address."""
EVERY: Final = 0.02
"""Seconds between two rounds of questions, one of each kind."""
SPAN: Final = 0.25
"""Seconds in which everything must be answered, and within which each answer must come."""


@dataclass(slots=True)
class Probe:
    """One question: when it was sent, and when the answer came; inf for never. Seconds."""

    sent: float
    came: float = inf


def recovery(probes: Iterable[Probe], ended: float) -> float:
    """Seconds from `ended` to the first span in which every question is answered; inf for never."""
    after = sorted((probe for probe in probes if probe.sent >= ended), key=lambda each: each.sent)
    if not after:
        return inf
    begin = ended
    for probe in after:
        if probe.came - probe.sent > SPAN:
            begin = inf
        elif begin == inf:
            begin = probe.sent
        if probe.sent - begin >= SPAN:
            break
    return max(0.0, begin - ended)


def served(probes: Sequence[Probe], ended: float, kinds: int, kind: int) -> float:
    """The part of the questions of a kind before `ended` that were answered within a span."""
    asked = [probe for probe in probes[kind::kinds] if probe.sent < ended]
    return sum(probe.came - probe.sent <= SPAN for probe in asked) / max(1, len(asked))


class Prober:
    """Asks `makers` in turn, from a thread, for as long as the block lasts.

    makers: each gives a query's octets from a number, its ID's place included. It asks from OWN, so
    that a server can tell it from who floods it.
    """

    def __init__(self, host: str, port: int, makers: Iterable[Callable[[int], bytes]]) -> None:
        self.probes: list[Probe] = []
        self._makers = tuple(makers)
        self._open: dict[int, Probe] = {}
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((OWN, 0))
        self._socket.connect((host, port))
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _ask(self) -> None:
        number = 0
        while not self._over.is_set():
            for make in self._makers:
                number = (number + 1) % 65_536
                probe = self._open[number] = Probe(time.monotonic())
                self.probes.append(probe)
                try:
                    self._socket.send(number.to_bytes(2, "big") + make(len(self.probes))[2:])
                except OSError:
                    continue  # nobody listens: it stays unanswered
            self._listen(time.monotonic() + EVERY)

    def _listen(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                reply = self._socket.recv(4096)
            except OSError:
                continue
            probe = self._open.pop(int.from_bytes(reply[:2], "big"), None)
            # Whoever is told SERVFAIL or REFUSED is not served yet.
            if probe is not None and not reply[3] & 15:
                probe.came = time.monotonic()
