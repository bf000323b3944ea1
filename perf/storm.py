"""Names elsewhere: `python -m perf.storm` asks for them evenly until standard input ends.

It reads a StormSpec as a line of JSON, and writes a StormResult once all are answered, or PATIENCE
after the last question.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from collections import Counter
from itertools import count, cycle
from typing import Final

import msgspec

from kdns.plugins.cache import EDE_STALE
from kdns.wire import iana, name
from kdns.wire.message import HEADER
from kdns.wire.reply import opt_record
from perf.workloads import FORWARDED

PATIENCE: Final = 7.0
"""Seconds: longer than anybody may need."""
_NAP: Final = 0.002
_STALE: Final = b"\0\x0f\0\2" + EDE_STALE.to_bytes(2, "big")
"""The option of RFC 8914, section 2, at the end of a reply."""


class StormSpec(msgspec.Struct, frozen=True):
    """Whom to ask, how many questions a second, and for which labels; for none: new ones."""

    host: str
    port: int
    rate: float
    labels: tuple[str, ...] = ()


class StormResult(msgspec.Struct):
    """What came of it. rcodes: answers by number; stale: those that say so; slowest: seconds."""

    asked: int = 0
    answered: int = 0
    rcodes: dict[int, int] = {}
    stale: int = 0
    slowest: float = 0.0


class Ledger:
    """Which questions are open, and what became of the others. Times are in seconds."""

    def __init__(self) -> None:
        self._open: dict[int, float] = {}
        self._numbers = count()
        self._rcodes: Counter[int] = Counter()
        self.result = StormResult()

    def ask(self, label: str, now: float) -> bytes:
        """One more question, with an OPT."""
        number = next(self._numbers) & 0xFFFF
        self._open[number] = now
        self.result.asked += 1
        qname = name.from_text(f"{label}.{FORWARDED}")
        tail = iana.A.to_bytes(2, "big") + iana.IN.to_bytes(2, "big")
        return HEADER.pack(number, iana.RD, 1, 0, 0, 1) + qname + tail + opt_record()

    def answer(self, reply: bytes, now: float) -> None:
        """A reply has come."""
        asked = self._open.pop(int.from_bytes(reply[:2], "big"), None)
        if asked is None:
            return
        self._rcodes[reply[3] & 15] += 1
        made = self.result
        made.answered += 1
        made.rcodes = dict(self._rcodes)
        made.stale += reply.endswith(_STALE)
        made.slowest = max(made.slowest, now - asked)


def run(spec: StormSpec, control: int) -> StormResult:
    """Ask until the file `control` ends. Raises OSError."""
    ledger = Ledger()
    labels = cycle(spec.labels)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((spec.host, spec.port))
        sock.setblocking(False)
        began = now = time.monotonic()
        asking, end = True, 0.0
        while asking or (ledger.result.answered < ledger.result.asked and now < end):
            while asking and ledger.result.asked < (now - began) * spec.rate:
                label = next(labels, None) or f"{random.getrandbits(64):016x}"
                sock.send(ledger.ask(label, now))
            files = [sock.fileno(), control] if asking else [sock.fileno()]
            ready, _, _ = select.select(files, [], [], _NAP)
            now = time.monotonic()
            if control in ready:
                asking, end = False, now + PATIENCE
            if sock.fileno() in ready:
                ledger.answer(sock.recv(65535), now)
    return ledger.result


def _main() -> None:
    # Unbuffered: what follows the line must not be read with it.
    line = b""
    with open(0, "rb", buffering=0, closefd=False) as control:
        while not line.endswith(b"\n"):
            line += control.read(1) or b"\n"
        result = run(msgspec.json.decode(line, type=StormSpec), control.fileno())
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    _main()
