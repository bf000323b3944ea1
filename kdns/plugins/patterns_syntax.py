"""Reads RE2's regular expressions, as Corefiles have them, to a tree; for texts of ASCII alone.

    text --read--> Choice, Sequence, Repeat, Group --> Chars, Edge

What Python's `re` knows and RE2 does not (references back, looking around, possessive repetition)
is an error here, and what both write alike and mean otherwise is read as RE2 reads it.
https://github.com/google/re2/wiki/Syntax
"""

from typing import Literal, NamedTuple

ALL = frozenset(range(128))
"""What a text may hold: names are shown in ASCII, and have no line breaks."""
MAX_REPEAT = 1000
"""Times that something is repeated, those within it multiplied; RE2's bound."""
MAX_DEPTH = 100
"""Parentheses within parentheses."""


class BadPattern(ValueError):
    """A regular expression that RE2 does not know, or that is not supported here."""


class Chars(NamedTuple):
    """One character out of these; with none of them it never fits."""

    members: frozenset[int]


class Edge(NamedTuple):
    """A place between characters: the beginning, the end, at a word's edge or not at one."""

    kind: Literal[r"\A", r"\Z", r"\b", r"\B"]


class Sequence(NamedTuple):
    """One after the other."""

    parts: "tuple[Node, ...]"


class Choice(NamedTuple):
    """The first that fits."""

    parts: "tuple[Node, ...]"


class Group(NamedTuple):
    """What fits here is told apart. Groups are numbered from 1."""

    number: int
    body: "Node"


class Repeat(NamedTuple):
    """Again and again; most: None for ever. greedy: rather more than fewer."""

    body: "Node"
    least: int
    most: int | None
    greedy: bool


Node = Chars | Edge | Sequence | Choice | Group | Repeat


class Tree(NamedTuple):
    """A pattern, read. names: of groups, by what they are called."""

    root: Node
    groups: int
    names: dict[str, int]


def read(text: str) -> Tree:
    """Read a pattern. Raises BadPattern."""
    return _Reader(text).read()


def nullable(node: Node) -> bool:
    """Whether it may fit without a character."""
    match node:
        case Chars():
            return False
        case Edge():
            return True
        case Group():
            return nullable(node.body)
        case Sequence():
            return all(map(nullable, node.parts))
        case Choice():
            return any(map(nullable, node.parts))
        case Repeat():
            return node.least == 0 or nullable(node.body)


def _span(first: str, last: str) -> frozenset[int]:
    return frozenset(range(ord(first), ord(last) + 1))


_DIGITS = _span("0", "9")
_UPPER, _LOWER = _span("A", "Z"), _span("a", "z")
WORD = _DIGITS | _UPPER | _LOWER | {ord("_")}
_PUNCTUATION = _span("!", "/") | _span(":", "@") | _span("[", "`") | _span("{", "~")
_PERL = {
    "d": _DIGITS,
    "s": frozenset(b"\t\n\f\r "),
    "w": WORD,
}
_POSIX = {
    "alnum": _DIGITS | _UPPER | _LOWER,
    "alpha": _UPPER | _LOWER,
    "ascii": ALL,
    "blank": frozenset(b"\t "),
    "cntrl": _span("\0", "\x1f") | {127},
    "digit": _DIGITS,
    "graph": _span("!", "~"),
    "lower": _LOWER,
    "print": _span(" ", "~"),
    "punct": _PUNCTUATION,
    "space": frozenset(b"\t\n\v\f\r "),
    "upper": _UPPER,
    "word": WORD,
    "xdigit": _DIGITS | _span("A", "F") | _span("a", "f"),
}
_CONTROLS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_EDGES: dict[str, Literal[r"\A", r"\Z", r"\b", r"\B"]] = {
    "A": r"\A",
    "z": r"\Z",
    "b": r"\b",
    "B": r"\B",
}
_LAST = 0x10FFFF


class _Reader:
    """Descends through a pattern: a choice of sequences of repeated atoms."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._groups = 0
        self._names: dict[str, int] = {}
        self._depth = 0
        self._flags: frozenset[str] = frozenset()

    def read(self) -> Tree:
        root = self._choice()
        if self._at < len(self._text):
            raise self._wrong("a parenthesis is closed that was not opened")
        if _times(root) > MAX_REPEAT:
            raise self._wrong(f"repeated more than {MAX_REPEAT} times")
        return Tree(root, self._groups, self._names)

    def _wrong(self, why: str) -> BadPattern:
        return BadPattern(f"{why}, at character {min(self._at, len(self._text)) + 1}")

    def _peek(self, ahead: int = 1) -> str:
        return self._text[self._at : self._at + ahead]

    def _take(self, expected: str) -> bool:
        if self._text.startswith(expected, self._at):
            self._at += len(expected)
            return True
        return False

    def _next(self, what: str) -> str:
        character = self._peek()
        if not character:
            raise self._wrong(f"{what} is not closed")
        self._at += 1
        return character

    def _choice(self) -> Node:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (character := self._peek()) and character not in "|)":
            if self._take("\\Q"):
                parts += self._quoted()
                # A repetition is of the last character alone.
                if not parts:
                    continue
            elif character in "*+?" or (character == "{" and self._counts() is not None):
                raise self._wrong(f"nothing to repeat before {character!r}")
            else:
                parts += self._atom()
            if parts:
                parts[-1] = self._repeated(parts[-1])
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _quoted(self) -> list[Node]:
        end = self._text.find("\\E", self._at)
        quoted = self._text[self._at :] if end < 0 else self._text[self._at : end]
        self._at = len(self._text) if end < 0 else end + 2
        return [self._literal(ord(character)) for character in quoted]

    def _repeated(self, atom: Node) -> Node:
        repeated = self._repetition(atom)
        if repeated is None:
            return atom
        if self._peek() and (self._peek() in "*+?" or self._counts() is not None):
            raise self._wrong("a repetition is repeated; write it in parentheses")
        return repeated

    def _repetition(self, atom: Node) -> Node | None:
        bounds: tuple[int, int | None] | None
        counts = self._counts()
        if counts is not None:
            least, most, self._at = counts
            bounds = (least, most)
        else:
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
            if bounds is None:
                return None
            self._at += 1
        greedy = not self._take("?")
        if "U" in self._flags:
            greedy = not greedy
        return Repeat(atom, *bounds, greedy)

    def _counts(self) -> tuple[int, int | None, int] | None:
        """Of `{2}`, `{2,}` and `{2,5}`: the bounds, and where it ends; None for any other brace,
        which stands for itself."""
        end = self._text.find("}", self._at)
        if self._peek() != "{" or end < 0:
            return None
        first, comma, second = self._text[self._at + 1 : end].partition(",")
        if not _is_count(first) or (second and not _is_count(second)):
            return None
        # So many digits are too many in any case, and int() has words of its own for thousands.
        least = int(first[:9])
        most = (int(second[:9]) if second else None) if comma else least
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise self._wrong(f"expected {{LEAST,MOST}} up to {MAX_REPEAT}")
        return least, most, end + 1

    def _atom(self) -> list[Node]:
        """One; none where only flags are set."""
        if self._take("("):
            return self._parenthesis()
        if self._take("["):
            return [self._class()]
        if self._take("."):
            return [Chars(ALL if "s" in self._flags else ALL - {10})]
        # Under (?m) lines have edges; no text has two of them.
        if self._take("^"):
            return [Edge(r"\A")]
        if self._take("$"):
            return [Edge(r"\Z")]
        if self._peek() == "\\":
            kind = self._peek(2)[1:]
            if kind in _EDGES:
                self._at += 2
                return [Edge(_EDGES[kind])]
            members = self._perl()
            if members is not None:
                return [Chars(members)]
            return [self._literal(self._escape())]
        return [self._literal(ord(self._next("the pattern")))]

    def _parenthesis(self) -> list[Node]:
        number = 0
        before = self._flags
        if self._take("?"):
            if self._take("P<") or (self._take("<") and self._peek() not in ("=", "!")):
                number = self._named()
            elif self._set_flags():
                # Without a colon they hold to the end of what is in parentheses here.
                return []
        else:
            number = self._groups = self._groups + 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} parentheses within each other")
        body = self._choice()
        self._depth -= 1
        if not self._take(")"):
            raise self._wrong("a parenthesis is not closed")
        self._flags = before
        return [Group(number, body) if number else body]

    def _named(self) -> int:
        end = self._text.find(">", self._at)
        called = self._text[self._at : max(end, self._at)]
        if not called or not all(ord(c) in WORD for c in called):
            raise self._wrong("expected a group's name of letters, digits and _, then '>'")
        self._at = end + 1
        self._groups += 1
        # Where two have one name, it is that of the last.
        self._names[called] = self._groups
        return self._groups

    def _set_flags(self) -> bool:
        """Whether nothing but flags is in these parentheses. The rest begins behind a colon."""
        wanted, negative, given = set(self._flags), False, 0
        while True:
            character = self._peek()
            self._at += bool(character)
            if character in ("i", "m", "s", "U"):
                (wanted.discard if negative else wanted.add)(character)
                given += 1
            elif character == "-" and not negative:
                negative, given = True, 0
            elif character in (":", ")") and not (negative and not given):
                self._flags = frozenset(wanted)
                return character == ")"
            else:
                self._at -= bool(character)
                raise self._wrong(
                    "expected (?:…), (?P<name>…) or flags of i, m, s and U after '(?'"
                )

    def _literal(self, code: int) -> Node:
        return Chars(self._folded(frozenset((code,)) & ALL))

    def _folded(self, members: frozenset[int]) -> frozenset[int]:
        if "i" not in self._flags:
            return members
        return members | {ord(chr(code).swapcase()) for code in members}

    def _perl(self) -> frozenset[int] | None:
        """Of `\\d` and the like, which is taken."""
        kind = self._peek(2)[1:]
        if kind in ("p", "P"):
            raise self._wrong(f"\\{kind} is not supported: names are ASCII, write [a-z]")
        members = _PERL.get(kind.lower())
        if members is None:
            return None
        self._at += 2
        return members if kind.islower() else ALL - members

    def _escape(self) -> int:
        """The code of an escaped character."""
        self._at += 1
        character = self._next("an escape")
        if character in "01234567":
            return self._octal(character)
        if character == "x":
            return self._hexadecimal()
        if character in _CONTROLS:
            return _CONTROLS[character]
        if ord(character) in _PUNCTUATION:
            return ord(character)
        self._at -= 1
        raise self._wrong(f"unknown escape \\{character}")

    def _octal(self, digits: str) -> int:
        if digits != "0" and self._peek() not in tuple("01234567"):
            self._at -= 1
            raise self._wrong("references back to groups are not of RE2")
        while len(digits) < 3 and self._peek() in tuple("01234567"):
            digits += self._next("an escape")
        return int(digits, 8)

    def _hexadecimal(self) -> int:
        if self._take("{"):
            end = self._text.find("}", self._at)
            digits = self._text[self._at : max(end, self._at)]
            after = end + 1
        else:
            digits = self._peek(2) if len(self._peek(2)) == 2 else ""
            after = self._at + 2
        if not 0 < len(digits) <= 8 or any(ord(c) not in _POSIX["xdigit"] for c in digits):
            raise self._wrong("expected \\x7f or \\x{7f}")
        code = int(digits, 16)
        if code > _LAST:
            raise self._wrong("expected at most \\x{10FFFF}")
        self._at = after
        return code

    def _class(self) -> Node:
        negative = self._take("^")
        members: frozenset[int] = frozenset()
        first = True
        while first or self._peek() != "]":
            first = False
            members |= self._part()
        self._at += 1
        # Letter case first: what is left out is left out in both.
        members = self._folded(members)
        return Chars(ALL - members if negative else members)

    def _part(self) -> frozenset[int]:
        """One class, character or span of a class."""
        if not self._peek():
            raise self._wrong("a class is not closed")
        if self._peek(2) == "[:" and ":]" in self._text[self._at + 2 :]:
            return self._posix()
        if self._peek() == "\\":
            members = self._perl()
            if members is not None:
                return members
        low = self._member()
        span = self._peek(2)
        if span[:1] != "-" or span[1:] in ("", "]"):
            return frozenset((low,)) & ALL
        self._at += 1
        high = self._member()
        if high < low:
            raise self._wrong("a span of characters ends before it begins")
        return frozenset(range(low, min(high, 127) + 1))

    def _posix(self) -> frozenset[int]:
        self._at += 2
        end = self._text.index(":]", self._at)
        called = self._text[self._at : end]
        members = _POSIX.get(called.removeprefix("^"))
        if members is None:
            raise self._wrong(f"unknown class [:{called[:20]}:]")
        self._at = end + 2
        return ALL - members if called.startswith("^") else members

    def _member(self) -> int:
        if self._peek() == "\\":
            return self._escape()
        return ord(self._next("a class"))


def _is_count(text: str) -> bool:
    """As RE2 counts: without leading zeros."""
    return text.isascii() and text.isdecimal() and (text == "0" or not text.startswith("0"))


def _times(node: Node) -> int:
    """How often the innermost is repeated at most, counted as RE2 does; see MAX_REPEAT."""
    match node:
        case Chars() | Edge():
            return 1
        case Group():
            return _times(node.body)
        case Sequence() | Choice():
            return max([1, *map(_times, node.parts)])
        case Repeat():
            counted = node.least if node.most is None else node.most
            return max(1, counted) * _times(node.body)
