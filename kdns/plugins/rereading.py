"""A file that a directive reads when it is built, and again from time to time.

    first   open, read --> take                   raises what is wrong
    start   every `seconds`, beside what answers:
            open, compare, read --> take
                   |        +--> wrong, or not to be opened: one line in the log, and no more
                   +--> as it was: nothing

It is compared by its contents, for a ConfigMap's files change by links that lead elsewhere, and
others within one tick of the disk's clock.
"""

import logging
import os
from collections.abc import Callable
from hashlib import blake2b
from stat import S_ISREG
from typing import Generic, TypeVar

from kdns.plugins.parts import Parts, Timer

log = logging.getLogger("kdns.files")

T = TypeVar("T")

MAX_OCTETS = 1 << 20
"""Of one file: as much as a ConfigMap holds."""


class BadFile(ValueError):
    """What is wrong with a file: where, and what was expected."""


class UnreadableFile(BadFile):
    """One that cannot be opened or read, which may be otherwise a moment later."""


class Rereader(Generic[T]):
    """Reads one file, and tells `take` what it says when that is something new.

    read: makes of its octets what is taken, in a thread; raises BadFile. seconds: between two
    looks; 0 for none after the first. who: the directive, for the log. most: octets of the file;
    MAX_OCTETS without it.
    """

    def __init__(
        self,
        path: str,
        read: Callable[[bytes], T],
        take: Callable[[T], object],
        seconds: float,
        parts: Parts,
        who: str,
        most: int | None = None,
    ) -> None:
        self.path = path
        self._read = read
        self._take = take
        self._seconds = seconds
        self._parts = parts
        self._who = who
        self._most = most
        self.modified = 0.0
        """When what was taken was written, seconds since 1970; 0 before that."""
        self._digest = b""
        self._told = ""
        self._timer: Timer | None = None

    def first(self) -> None:
        """Read it now. Raises BadFile."""
        self._came(self._look())

    def start(self) -> None:
        """Look again from time to time."""
        if self._seconds:
            self._timer = self._parts.call_later(self._seconds, self._again)

    def stop(self) -> None:
        """Do not look any more."""
        self._seconds = 0.0
        if self._timer is not None:
            self._timer.cancel()

    def excuse(self, error: Exception, instead: str, *, say: bool = True) -> None:
        """Go on without: one line in the log, unless it is what was wrong before."""
        told = str(error) or type(error).__name__
        if told != self._told and say:
            log.warning("%s: %s; %s", self._who, told, instead)
        self._told = told

    def _again(self) -> None:
        self._parts.aside(self._look).when_done(self._came_again, self._failed)

    def _came_again(self, found: tuple[bytes, float, T] | None) -> None:
        if found is not None or self._told:
            log.info("%s: read %s again", self._who, self.path)
        self._came(found)
        self.start()

    def _failed(self, error: Exception) -> None:
        self.excuse(error, "what it said before goes on")
        self.start()

    def _look(self) -> tuple[bytes, float, T] | None:
        """The digest of what is there, when it was written, and what it says; None if that was
        taken already."""
        octets, modified = _read(self.path, self._most)
        digest = blake2b(octets).digest()
        if digest == self._digest:
            return None
        return digest, modified, self._read(octets)

    def _came(self, found: tuple[bytes, float, T] | None) -> None:
        self._told = ""
        if found is not None:
            self._digest, self.modified, taken = found
            self._take(taken)


def read_octets(path: str, most: int | None = None) -> bytes:
    """All of a file, at most so many octets; MAX_OCTETS without `most`. Raises BadFile."""
    return _read(path, most)[0]


def _read(path: str, most: int | None) -> tuple[bytes, float]:
    """The same, and when it was written, seconds since 1970."""
    most = MAX_OCTETS if most is None else most
    try:
        # What is no file must not be waited for: a pipe that nobody writes to.
        with open(path, "rb", opener=_open) as file:
            found = os.fstat(file.fileno())
            if not S_ISREG(found.st_mode):
                raise BadFile(f"{path}: expected a file")
            octets = file.read(most + 1)
    except IsADirectoryError as error:
        raise BadFile(f"{path}: expected a file, got a directory") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}; expected a file") from error
    except ValueError as error:
        # A path with a zero in it; and what is raised above.
        raise error if isinstance(error, BadFile) else BadFile(f"{path!r}: {error}") from error
    if len(octets) > most:
        raise BadFile(f"{path}: expected at most {most} octets")
    return octets, found.st_mtime


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
