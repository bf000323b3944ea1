"""A stream of bytes comes in chunks of any size and leaves as whole lines of a bounded length."""

from kdns.cluster.errors import ObjectError


class LineSplitter:
    """Cuts a stream at its newlines. Holds at most `limit` bytes of an unfinished line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    @property
    def unfinished(self) -> bool:
        """Whether the stream so far ends within a line."""
        return self._held > 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, in order and without their newlines.

        Raises ObjectError when a line grows beyond the limit; the stream is of no use after that.
        """
        lines = chunk.split(b"\n")
        self._parts.append(lines[0])
        self._held += len(lines[0])
        self._check(self._held)
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._parts)
        self._parts = [lines.pop()]
        self._held = len(self._parts[0])
        for line in lines:
            self._check(len(line))
        self._check(self._held)
        return lines

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise ObjectError(f"a line of the watch is longer than {self._limit} bytes")
