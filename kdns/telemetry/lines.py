"""Log lines on their way out: whoever logs puts a line in a queue, and a thread writes it.

A pipe that nobody reads blocks who writes to it, and a server that is blocked answers nobody. So
the queue is bounded, in octets; a line that finds it full is dropped and counted. A process that
was forked has a queue and a thread of its own. Lines are written together up to PIPE_BUF octets,
which no other process's lines come between (pipe(7)).

As text a line is CoreDNS's: `[LEVEL] text`, and the traceback where there is one. As JSON it is one
object a line. A record with `fields` (see `logging`'s `extra`) is an object in either case.
"""

import json
import logging
import os
import select
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from queue import Empty, SimpleQueue
from typing import Literal

MAX_BACKLOG = 8 << 20
"""Octets that wait to be written."""
MAX_LINE = 64 << 10
"""Octets of one record; the rest is cut off."""
FLUSH = 2.0
"""Seconds that the end waits for what is not written yet."""
_CUT = b"...\n"

Format = Literal["text", "json"]


class LineHandler(logging.Handler):
    """Writes records to a file descriptor, and never waits for it.

    `dropped` counts records that were not written: no room in the queue, or nobody who reads.
    """

    def __init__(self, fd: int, form: Format = "text", backlog: int = MAX_BACKLOG) -> None:
        super().__init__()
        self.setFormatter(JsonLines() if form == "json" else TextLines())
        self._fd = fd
        self._backlog = backlog
        self.dropped = 0
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._queued = self._written = 0
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._begin)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue it. Never raises, never waits."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a record that cannot be written down must not end a query
            self.dropped += 1
            return
        if len(line) > MAX_LINE:
            line = line[: MAX_LINE - len(_CUT)] + _CUT
        self._queue(line)

    def say(self, text: str) -> None:
        """Queue a text as it is, with no level."""
        with self.lock or nullcontext():
            self._queue(text.encode("utf-8", "backslashreplace") + b"\n")

    def _queue(self, line: bytes) -> None:
        # Each of the two is changed by one thread only: logging locks around emit.
        if self._queued - self._written + len(line) > self._backlog:
            self.dropped += 1
            return
        self._queued += len(line)
        self._lines.put(line)
        if self._thread is None:
            # Not before there is something to write: who forks should have no threads.
            self._thread = threading.Thread(target=self._write, name="log lines", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until all is written, at most FLUSH seconds."""
        if self._thread is not None and self._thread.is_alive():
            done = threading.Event()
            self._lines.put(done)
            done.wait(FLUSH)

    def _begin(self) -> None:
        """Nothing is queued, and no thread is there: as after a fork."""
        self._lines = SimpleQueue()
        self._queued = self._written = 0
        self._thread = None

    def _write(self) -> None:
        lines = self._lines
        waiting: bytes | threading.Event | None = None
        while True:
            item = lines.get() if waiting is None else waiting
            waiting = None
            if not isinstance(item, bytes):
                item.set()
                continue
            chunk, size = [item], len(item)
            while size < select.PIPE_BUF:
                try:
                    waiting = lines.get_nowait()
                except Empty:
                    break
                if not isinstance(waiting, bytes) or size + len(waiting) > select.PIPE_BUF:
                    break
                chunk.append(waiting)
                size += len(waiting)
                waiting = None
            if not self._put(b"".join(chunk)):
                self.dropped += len(chunk)
            self._written += size

    def _put(self, octets: bytes) -> bool:
        """Write all of it; False where nobody will ever read it."""
        rest = memoryview(octets)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Others share the description of a terminal, and may have made it non-blocking.
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True


class TextLines(logging.Formatter):
    """CoreDNS's line format."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if fields is not None:
            return _json(record, fields)
        return f"[{record.levelname}] {super().format(record)}"


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, and a message or fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if fields is None:
            fields = {"message": record.getMessage()}
            if record.exc_info:
                fields["traceback"] = self.formatException(record.exc_info)
        return _json(record, fields)


def _fields(record: logging.LogRecord) -> dict[str, object] | None:
    fields = getattr(record, "fields", None)
    return dict(fields) if isinstance(fields, Mapping) else None


def _json(record: logging.LogRecord, fields: dict[str, object]) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    head: dict[str, object] = {
        "time": f"{seconds}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    return json.dumps({**head, **fields}, ensure_ascii=False, separators=(",", ":"))


def dropped() -> int:
    """Records that this process's handlers have not written."""
    return sum(handler.dropped for handler in _handlers())


def say(text: str) -> None:
    """Have this process's handlers write a text as it is, with no level."""
    for handler in _handlers():
        handler.say(text)


def _handlers() -> list[LineHandler]:
    return [h for h in logging.getLogger().handlers if isinstance(h, LineHandler)]
