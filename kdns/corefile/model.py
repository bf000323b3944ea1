"""What a Corefile says, as values: tokens, directives that may hold directives, server blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, written "file:line". Lines are counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a Corefile, its quotes removed, and the file and line where it begins.

    A quoted token is only ever text: quoted, neither a brace nor `import` means anything.
    """

    text: str
    file: str
    line: int
    quoted: bool = False

    @property
    def place(self) -> Place:
        """Where the token begins."""
        return Place(self.file, self.line)


@dataclass(frozen=True, slots=True)
class Directive:
    """One line: a name, its arguments, and its block, whose lines are directives themselves.

    `block` is None where there are no braces, and empty where there is nothing between them.
    """

    name: str
    file: str
    line: int
    args: tuple[Token, ...] = ()
    block: tuple["Directive", ...] | None = None

    @property
    def place(self) -> Place:
        """Where the directive begins."""
        return Place(self.file, self.line)


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """The keys (zones, with scheme and port where given) and the directives that serve them.

    There is at least one key. Directives are in the order of the file, repeated ones kept apart.
    """

    keys: tuple[Token, ...]
    directives: tuple[Directive, ...]

    @property
    def place(self) -> Place:
        """Where the first key stands."""
        return self.keys[0].place


def as_token(value: Token | str) -> Token:
    """The value itself, or a token without a place for text that comes from no Corefile."""
    return Token(value, "", 0) if isinstance(value, str) else value
