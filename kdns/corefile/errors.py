"""The one error of this package, and what it needs of whatever it points at."""

from typing import Protocol


class Located(Protocol):
    """Anything that stands on a line of a file: a token, a directive, a place."""

    @property
    def file(self) -> str:
        """The file as it was named to the parser; empty when the text came from elsewhere."""

    @property
    def line(self) -> int:
        """Counted from 1; 0 when there is no file."""


class CorefileError(ValueError):
    """What is wrong in a Corefile, where, and what was expected; `str` is "FILE:LINE: message"."""

    def __init__(self, message: str, file: str, line: int) -> None:
        super().__init__(message, file, line)
        self.message = message
        self.file = file
        self.line = line

    @classmethod
    def at(cls, place: Located, message: str) -> "CorefileError":
        """The error at the place of a token, a directive or anything else with a file and line."""
        return cls(message, place.file, place.line)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.file else self.message
