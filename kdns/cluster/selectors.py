"""Label and field selectors: the text `kubectl -l` and `--field-selector` take, as predicates.

A label selector is a conjunction of requirements:

    selector    = [ requirement *( "," requirement ) ]          ; empty selects everything
    requirement = [ "!" ] key                                   ; has, or has not, the label
                | key ( "=" | "==" | "!=" ) [ value ]
                | key ( "in" | "notin" ) "(" [ value ] *( "," [ value ] ) ")"
                | key ( ">" | "<" ) integer

`!=` and `notin` also select what lacks the label; every other requirement with a value does not.
A field selector knows only `=`, `==` and `!=`, and an absent field is an empty one.
"""

import enum
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn


class SelectorError(ValueError):
    """A selector that cannot be read; `column` counts characters from 1."""

    def __init__(self, text: str, column: int, what: str) -> None:
        super().__init__(f"selector {text!r}, column {column}: {what}")
        self.text = text
        self.column = column


class Operator(enum.Enum):
    """How a requirement relates a label, or a field, to its values."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"
    GREATER = ">"
    LESS = "<"


_SELECTS_ABSENT = frozenset({Operator.NOT_EQUALS, Operator.NOT_IN, Operator.ABSENT})
_COMPARE = {Operator.GREATER: operator.gt, Operator.LESS: operator.lt}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `values` is empty for EXISTS and ABSENT, and for no other."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets the condition."""
        value = labels.get(self.key)
        if value is None:
            return self.operator in _SELECTS_ABSENT
        match self.operator:
            case Operator.EQUALS | Operator.IN:
                return value in self.values
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS | Operator.ABSENT:
                return self.operator is Operator.EXISTS
        return self._compares(value)

    def _compares(self, value: str) -> bool:
        found = _int64(value)
        (bound,) = map(int, self.values)
        return found is not None and _COMPARE[self.operator](found, bound)

    def __str__(self) -> str:
        listed = ",".join(sorted(self.values))
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.ABSENT:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.value} ({listed})"
            case _:
                return f"{self.key}{self.operator.value}{listed}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements at once; none of them select everything.

    `str()` is the canonical text the API takes: requirements sorted by key, `==` written `=`.
    """

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels (None: no labels) is selected."""
        present = labels or {}
        return all(requirement.matches(present) for requirement in self.requirements)

    def __bool__(self) -> bool:
        """Whether it restricts anything."""
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One condition on one field: its value is, or is not (`negated`), `value`."""

    field: str
    value: str
    negated: bool = False

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether an object with these fields meets the condition; an absent field is empty."""
        return (fields.get(self.field, "") == self.value) is not self.negated

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{_ESCAPED.sub(_escape, self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms at once; none of them select everything. `str()` is the text the API takes."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether an object with these fields is selected."""
        return all(term.matches(fields) for term in self.terms)

    def __bool__(self) -> bool:
        """Whether it restricts anything."""
        return bool(self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def parse_label_selector(text: str) -> LabelSelector:
    """The label selector of a text. Raises SelectorError."""
    requirements = _LabelParser(text).requirements()
    return LabelSelector(tuple(sorted(requirements, key=lambda r: (r.key, str(r)))))


def parse_field_selector(text: str) -> FieldSelector:
    r"""The field selector of a text; `\,`, `\=` and `\\` stand for themselves in a value.

    Raises SelectorError.
    """
    terms = (_field_term(text, m) for m in _FIELD_PIECE.finditer(text) if m[0].strip())
    return FieldSelector(tuple(terms))


# Kubernetes object names, labels and selectors: a key is an optional DNS subdomain and a name.
_SYMBOL = re.compile(r"==|!=|[=!(),<>]|[^=!(),<>\s]+")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_RESERVED = frozenset({"=", "==", "!=", "!", "(", ")", ",", "<", ">", ""})
_MAX_SUBDOMAIN = 253
_BINARY = {
    "=": Operator.EQUALS,
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}


def _int64(text: str) -> int | None:
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


class _Token(NamedTuple):
    """A symbol or a word, and its column; the empty text ends the selector."""

    text: str
    column: int

    @property
    def is_word(self) -> bool:
        return self.text not in _RESERVED

    def __str__(self) -> str:
        return f"found {self.text!r}" if self.text else "found the end"


class _LabelParser:
    """Recursive descent over the tokens of one selector, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [_Token(m[0], m.start() + 1) for m in _SYMBOL.finditer(text)]
        self._tokens.append(_Token("", len(text) + 1))
        self._at = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += bool(token.text)
        return token

    def _accept(self, text: str) -> bool:
        found = self._next.text == text
        self._at += found
        return found

    def _fail(self, token: _Token, expected: str) -> NoReturn:
        raise SelectorError(self._text, token.column, f"{token}, expected {expected}")

    def requirements(self) -> Iterator[Requirement]:
        if not self._next.text:
            return
        yield self._requirement()
        while self._accept(","):
            yield self._requirement()
        if self._next.text:
            self._fail(self._next, "',' or the end of the selector")

    def _requirement(self) -> Requirement:
        if self._accept("!"):
            return Requirement(self._key("a label key after '!'"), Operator.ABSENT)
        key = self._key("a label key or '!'")
        if self._next.text in {"", ","}:
            return Requirement(key, Operator.EXISTS)
        token = self._take()
        chosen = _BINARY.get(token.text)
        if chosen is None:
            self._fail(token, "one of = == != in notin > < or ','")
        return Requirement(key, chosen, self._values(chosen))

    def _key(self, expected: str) -> str:
        token = self._take()
        if not token.is_word:
            self._fail(token, expected)
        prefix, slash, name = token.text.rpartition("/")
        whole = _SUBDOMAIN.fullmatch(prefix) and len(prefix) <= _MAX_SUBDOMAIN
        if _NAME.fullmatch(name) is None or (slash and not whole):
            self._fail(
                token,
                "a label key: an optional DNS subdomain and '/', then up to 63 letters, digits,"
                " '-', '_' or '.', a letter or digit first and last",
            )
        return token.text

    def _values(self, chosen: Operator) -> frozenset[str]:
        if chosen in {Operator.IN, Operator.NOT_IN}:
            return frozenset(self._listed())
        if chosen in _COMPARE:
            return frozenset({self._integer()})
        return frozenset({self._value()})

    def _listed(self) -> Iterator[str]:
        if not self._accept("("):
            self._fail(self._next, "'('")
        yield self._value()
        while self._accept(","):
            yield self._value()
        if not self._accept(")"):
            self._fail(self._next, "',' or ')'")

    def _value(self) -> str:
        # A value may be empty: `a=`, `a in (,b)`. What follows it is the caller's to judge.
        if self._next.text in {"", ",", ")"}:
            return ""
        token = self._take()
        if not token.is_word or _NAME.fullmatch(token.text) is None:
            self._fail(
                token,
                "a label value: up to 63 letters, digits, '-', '_' or '.',"
                " a letter or digit first and last",
            )
        return token.text

    def _integer(self) -> str:
        token = self._take()
        # Label values start with a letter or digit: there are no signed ones.
        if not token.text.isdigit() or _int64(token.text) is None:
            self._fail(token, "an integer of 64 bits")
        return token.text


# A term ends at a comma that no backslash precedes; a lone backslash at the very end is an error.
_FIELD_PIECE = re.compile(r"(?:\\.|[^,\\]|\\)+", re.DOTALL)
_FIELD_TERM = re.compile(r"\s*([^=!\\\s]*)\s*(!=|==|=)\s*(.*?)\s*", re.DOTALL)
_FIELD_VALUE = re.compile(r"(?:\\[\\,=]|[^\\,=])*", re.DOTALL)
_ESCAPED = re.compile(r"[\\,=]")
_ESCAPE = re.compile(r"\\([\\,=])")


def _escape(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def _field_term(text: str, piece: re.Match[str]) -> FieldTerm:
    term = _FIELD_TERM.fullmatch(piece[0])
    start = piece.start() + 1
    if term is None:
        column = start + len(piece[0]) - len(piece[0].lstrip())
        what = f"found {piece[0].strip()!r}, expected FIELD=VALUE, FIELD==VALUE or FIELD!=VALUE"
        raise SelectorError(text, column, what)
    field, sign, value = term.groups()
    if not field:
        raise SelectorError(text, start + term.start(2), f"found {sign!r}, expected a field first")
    readable = _FIELD_VALUE.match(value)
    if readable is None or readable.end() != len(value):
        at = readable.end() if readable else 0
        what = rf"found {value[at:]!r}, expected a value; \, \= and \\ stand for , = and \ in it"
        raise SelectorError(text, start + term.start(3) + at, what)
    return FieldTerm(field, _ESCAPE.sub(r"\1", value), sign == "!=")
