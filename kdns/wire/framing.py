"""On a stream every message follows its own length: two octets, network order (RFC 1035, 4.2.2)."""

from typing import Final

MAX_MESSAGE: Final = 65_535
"""The longest message two octets can announce, in octets."""

_PREFIX: Final = 2


def frame(message: bytes) -> bytes:
    """`message` as it goes on a stream. Raises ValueError when it is too long to be announced."""
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"message of {len(message)} octets: expected at most {MAX_MESSAGE}")
    return len(message).to_bytes(_PREFIX, "big") + message


class Splitter:
    """Cuts a stream, given in any chunks, back into its messages.

    It holds the chunk it was fed last and at most one unfinished message besides, as long as its
    owner takes every whole message out before feeding more. A message of length zero is given
    as it came: what to do about it is not the stream's business.
    """

    __slots__ = ("_buffer", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0

    def __len__(self) -> int:
        """Octets held that no message given out has used yet, length prefixes included."""
        return len(self._buffer) - self._start

    @property
    def ready(self) -> bool:
        """Whether `take` would give a message."""
        return self._end() is not None

    def feed(self, chunk: bytes) -> None:
        """Append what was read from the stream."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += chunk

    def take(self) -> bytes | None:
        """The next whole message, without its length; None until more is fed."""
        end = self._end()
        if end is None:
            return None
        message = bytes(self._buffer[self._start + _PREFIX : end])
        self._start = end
        return message

    def _end(self) -> int | None:
        body = self._start + _PREFIX
        if body > len(self._buffer):
            return None
        end = body + int.from_bytes(self._buffer[self._start : body], "big")
        return end if end <= len(self._buffer) else None
