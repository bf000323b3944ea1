"""The part of Go's text/template that records in Corefiles are made with.

    "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.0.1" --read--> pieces --render--> a record

Fields of the query, `index`, `parseInt` and constants: a piece of text each, and no more. Whatever
else the language has, conditions and variables say, is an error when the Corefile is read, and not
another record when it is used.  https://pkg.go.dev/text/template
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdns.plugins.chain import Request
from kdns.plugins.patterns import Pattern, shown

KNOWN = (
    ".Name, .Zone, .Class, .Type, .Regex, .Remote, .Question.Name, .Question.Qtype, "
    ".Question.Qclass, .Message.Id, index .Match N, .Group.NAME, index .Group NAME, .Meta LABEL, "
    "parseInt TEXT BASE BITS, and constants"
)
MAX_ACTIONS = 100
"""Of one record."""
MAX_DEPTH = 20
"""Parentheses within parentheses."""


class BadTemplate(ValueError):
    """What is no template, or is not supported; it says what is."""


class Failed(Exception):
    """A template that makes no text of this query."""


class Matched(NamedTuple):
    """A query that a pattern fits, as templates see it.

    name: as patterns see it; match: the part that fits, and the pattern's groups; meta: what
    directives know of the query, by label.
    """

    request: Request
    zone: str
    name: str
    qclass: str
    qtype: str
    pattern: Pattern
    match: tuple[str, ...]
    meta: Callable[[str], str]


Value = str | int
Read = Callable[[Matched], Value]

_FIELDS: dict[str, Read] = {
    ".Zone": lambda m: m.zone,
    ".Name": lambda m: m.name,
    ".Class": lambda m: m.qclass,
    ".Type": lambda m: m.qtype,
    ".Regex": lambda m: m.pattern.text,
    ".Remote": lambda m: m.request.peer.host,
    ".Message.Id": lambda m: m.request.query.id,
    ".Question.Name": lambda m: shown(m.request.query.qname),
    ".Question.Qtype": lambda m: m.request.query.qtype,
    ".Question.Qclass": lambda m: m.request.query.qclass,
}
_OWN = frozenset((".Remote", ".Message.Id", ".Question.Name", ".Meta"))
"""What may be another for the next who asks the same; of a name in letters, their case."""

_ACTION = re.compile(
    r"""\{\{(?P<left>-(?=\s))?(?P<inside>(?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`])*?)(?P<right>(?<=\s)-)?\}\}""",
    re.DOTALL,
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>-?[0-9]\w*)"""
    r"""|(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<word>[A-Za-z_]\w*)|(?P<bracket>[()])|(?P<rest>\S+))"""
)
_BLANKS = " \t\r\n"
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


class Text:
    """One template. `own`: whether it uses what may differ for the next who asks the same."""

    __slots__ = ("_pieces", "own", "text")

    def __init__(self, text: str, patterns: Sequence[Pattern]) -> None:
        """patterns: whose groups it may use. Raises BadTemplate."""
        self.text = text
        self.own = False
        self._pieces: list[str | Read] = []
        at, strip = 0, False
        for action in _ACTION.finditer(text):
            self._plain(text[at : action.start()], strip=strip, rstrip=bool(action["left"]))
            inside: str = action["inside"]
            # One blank is between a dash and a comment, and none where there is no dash.
            inside = inside[bool(action["left"]) : len(inside) - bool(action["right"])]
            if not _COMMENT.fullmatch(inside):
                reader = _Reader(inside, patterns)
                self._pieces.append(reader.read())
                self.own |= reader.own
            at, strip = action.end(), bool(action["right"])
        if len(self._pieces) > 2 * MAX_ACTIONS:
            raise BadTemplate(f"expected at most {MAX_ACTIONS} actions")
        self._plain(text[at:], strip=strip, rstrip=False)

    def _plain(self, text: str, *, strip: bool, rstrip: bool) -> None:
        if "{{" in text:
            raise BadTemplate("'{{' is not closed")
        text = text.lstrip(_BLANKS) if strip else text
        text = text.rstrip(_BLANKS) if rstrip else text
        if text:
            self._pieces.append(text)

    @property
    def constant(self) -> bool:
        """Whether it is the same for every query."""
        return all(isinstance(piece, str) for piece in self._pieces)

    def render(self, matched: Matched) -> str:
        """The text. Raises Failed."""
        return "".join([p if isinstance(p, str) else str(p(matched)) for p in self._pieces])

    def plain(self) -> str:
        """The text of a constant."""
        return "".join([piece for piece in self._pieces if isinstance(piece, str)])


class _Reader:
    """What is between the braces: an operand, or a function and its operands."""

    def __init__(self, inside: str, patterns: Sequence[Pattern]) -> None:
        self._inside = inside.strip()
        self._tokens = [
            (str(found.lastgroup), found[found.lastgroup or 0].strip())
            for found in _TOKEN.finditer(self._inside)
        ]
        self._patterns = patterns
        self._depth = 0
        self.own = False

    def read(self) -> Read:
        read = self._call()
        if self._tokens:
            raise self._wrong()
        return read

    def _wrong(self) -> BadTemplate:
        return BadTemplate(f"{{{{ {self._inside} }}}} is not supported; expected {KNOWN}")

    def _take(self) -> tuple[str, str]:
        if not self._tokens:
            raise self._wrong()
        return self._tokens.pop(0)

    def _call(self) -> Read:
        """A function with its operands, or one operand."""
        if self._tokens[:1] == [("word", "index")]:
            self._take()
            return self._index()
        if self._tokens[:1] == [("word", "parseInt")]:
            self._take()
            return self._parse_int()
        if self._tokens[:1] == [("field", ".Meta")]:
            self._take()
            self.own = True
            label = self._operand()
            return lambda matched: matched.meta(_string(label(matched)))
        return self._operand()

    def _operand(self) -> Read:
        kind, text = self._take()
        if kind == "bracket" and text == "(":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise BadTemplate(f"expected at most {MAX_DEPTH} parentheses within each other")
            inner = self._call()
            self._depth -= 1
            if self._take() != ("bracket", ")"):
                raise self._wrong()
            return inner
        if kind == "text":
            constant = self._unquoted(text)
            return lambda _: constant
        if kind == "number":
            if not _DECIMAL.fullmatch(text):
                raise self._wrong()
            number = int(text)
            return lambda _: number
        if kind == "field":
            return self._field(text)
        raise self._wrong()

    def _unquoted(self, text: str) -> str:
        if text.startswith("`"):
            return text[1:-1]
        pieces = re.split(r"\\(.)", text[1:-1])
        for at in range(1, len(pieces), 2):
            if pieces[at] not in _ESCAPES:
                raise self._wrong()
            pieces[at] = _ESCAPES[pieces[at]]
        return "".join(pieces)

    def _field(self, text: str) -> Read:
        if text.startswith(".Group.") and text.count(".") == 2:
            called = text.removeprefix(".Group.")
            self._has_group(called)

            def group(matched: Matched) -> str:
                number = matched.pattern.names.get(called)
                if number is None:
                    raise Failed(f"{matched.pattern.text!r} has no group {called!r}")
                return matched.match[number]

            return group
        if text not in _FIELDS:
            raise self._wrong()
        self.own |= text in _OWN
        return _FIELDS[text]

    def _has_group(self, called: str) -> None:
        if not any(called in pattern.names for pattern in self._patterns):
            raise BadTemplate(
                f"{{{{ {self._inside} }}}}: no match has a group {called!r}: (?P<{called}>…)"
            )

    def _index(self) -> Read:
        """Of `.Match` by number, of `.Group` by name, or by number as text."""
        of = self._take()
        kind, text = self._take()
        if of == ("field", ".Match") and kind == "number" and _DECIMAL.fullmatch(text):
            return self._numbered(int(text))
        if of == ("field", ".Group") and kind == "text":
            called = self._unquoted(text)
            if called.isascii() and called.isdecimal() and len(called) <= 4:
                return self._numbered(int(called))
            self._has_group(called)
            # A map without the key gives an empty text here, and none after a dot.
            return lambda m: m.match[m.pattern.names[called]] if called in m.pattern.names else ""
        raise self._wrong()

    def _numbered(self, number: int) -> Read:
        most = max(pattern.groups for pattern in self._patterns)
        if not 0 <= number <= most:
            raise BadTemplate(
                f"{{{{ {self._inside} }}}}: expected a group's number from 0 to {most}"
            )

        def read(matched: Matched) -> str:
            if number > matched.pattern.groups:
                raise Failed(f"{matched.pattern.text!r} has no group {number}")
            return matched.match[number]

        return read

    def _parse_int(self) -> Read:
        operand = self._operand()
        base, bits = self._number(), self._number()
        if not 2 <= base <= 36 or not 0 <= bits <= 64:
            raise BadTemplate(
                f"{{{{ {self._inside} }}}}: expected a base from 2 to 36, and 0 to 64 bits"
            )
        digits = re.compile(f"[{'0123456789abcdefghijklmnopqrstuvwxyz'[:base]}]+", re.IGNORECASE)
        limit = 1 << (bits or 64)

        def parse_int(matched: Matched) -> int:
            text = _string(operand(matched))
            # 64 bits have no more digits than that in any base, but for zeros before them.
            shortest = text.lstrip("0") or text[:1]
            if len(shortest) <= 64 and digits.fullmatch(shortest):
                number = int(shortest, base)
                if number < limit:
                    return number
            raise Failed(f"parseInt: no number of base {base} and {bits or 64} bits: {text[:80]!r}")

        return parse_int

    def _number(self) -> int:
        kind, text = self._take()
        if kind != "number" or not _DECIMAL.fullmatch(text):
            raise self._wrong()
        return int(text)


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise Failed(f"expected a text, got the number {value}")
    return value
