"""Regular expressions on names, in RE2's syntax, in bounded time.

    pattern --patterns_syntax--> tree --+-- few ways to try --> Python's re, written anew for it
                                        +-- many ways --------> patterns_machine

Python's `re` tries one way after the other through a pattern, and RE2 all of them at once: `(a*)*b`
takes one of them for ever, and the other no time. A name has 255 octets at most (RFC 1035, section
2.3.4), which are shown in no more than MAX_TEXT characters, so the ways can be counted before: each
repetition whose end is not where the next character says so multiplies them by as many as the text
has places; to search for a beginning does, and so does to walk along a repetition that has a clear
end. Up to MAX_WAYS are for `re`; what has more is matched in steps that are taken once each.
"""

import math
import re
from itertools import combinations

from kdns.plugins.patterns_machine import Machine
from kdns.plugins.patterns_syntax import (
    ALL,
    BadPattern,
    Chars,
    Choice,
    Edge,
    Group,
    Node,
    Repeat,
    Sequence,
    Tree,
    nullable,
    read,
)
from kdns.wire import name

__all__ = ["BadPattern", "Pattern", "shown"]

MAX_TEXT = 4 * name.MAX_NAME
"""Characters: each octet of a name is shown as at most four, such as `\\032`."""
MAX_WAYS = (MAX_TEXT + 1) ** 2
"""That two repetitions without a clear end have, or one with a clear end that may begin anywhere:
so many characters are looked at, at most, a few times each."""
FEW = 64
"""Characters that are walked along are not worth to be counted."""
MAX_PATTERN = 1024
"""Characters of a pattern."""

_END = 128
"""Stands for the end of the text where it is said what comes next."""

_SPECIAL = frozenset(b" '@;()\"\\.")


def shown(key: bytes) -> str:
    """A name as CoreDNS shows it to patterns, absolute: `\\.` and `\\ `, and `\\000` for the rest.

    RFC 1035, section 5.1, says what is quoted, and leaves some of it open.
    """
    if key == name.ROOT:
        return "."
    return "".join(["".join([_TEXTS[octet] for octet in label]) + "." for label in name.split(key)])


def _text(octet: int) -> str:
    if octet in _SPECIAL:
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet <= 0x7E else f"\\{octet:03d}"


_TEXTS = [_text(octet) for octet in range(256)]


class Pattern:
    """A regular expression.

    text: as it was written. groups: how many; names: the numbers of those that have one.
    """

    __slots__ = ("_look", "_machine", "groups", "names", "text")

    def __init__(self, text: str) -> None:
        """Raises BadPattern for what RE2 does not know, and for what is over a bound."""
        if len(text) > MAX_PATTERN:
            raise BadPattern(f"expected at most {MAX_PATTERN} characters, got {len(text)}")
        tree = read(text)
        self.text = text
        self.groups = tree.groups
        self.names = tree.names
        self._machine: Machine | None = None
        if ways(tree) > MAX_WAYS:
            self._machine = Machine(tree)
        found = re.compile("" if self._machine else _written(tree.root), re.ASCII)
        self._look = found.match if _begins(tree.root) else found.search

    def search(self, text: str) -> tuple[str, ...] | None:
        """The leftmost part of `text` that fits, and what its groups are in their order; a group
        that has no part in it is empty. None where nothing fits.

        text: of ASCII, without line breaks.
        """
        if self._machine is None:
            found = self._look(text)
            return None if found is None else (found[0], *found.groups(""))
        spans = self._machine.search(text)
        if spans is None:
            return None
        return tuple([text[start:end] if start >= 0 else "" for start, end in spans])

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def ways(tree: Tree) -> float:
    """How many characters are looked at, at most, in a text of MAX_TEXT; or infinity."""
    walked: list[Repeat] = []
    found = _ways(tree.root, frozenset(), walked)
    if walked:
        # They come one after the other, so that all together are as long as the text.
        found *= MAX_TEXT
    return found if _begins(tree.root) else found * MAX_TEXT


def _ways(node: Node, then: frozenset[int], walked: list[Repeat]) -> float:
    """Of a node that is followed by one of these characters. walked: gets the repetitions that have
    a clear end."""
    match node:
        case Chars() | Edge():
            return 1
        case Group():
            return _ways(node.body, then, walked)
        case Sequence():
            total = 1.0
            for part in reversed(node.parts):
                total *= _ways(part, then, walked)
                then = _first(part, then)
            return total
        case Choice():
            parts = [_ways(part, then, walked) for part in node.parts]
            firsts = [_first(part, then) for part in node.parts]
            apart = not any(one & other for one, other in combinations(firsts, 2))
            return max(parts) if apart else sum(parts)
        case Repeat():
            return _ways_again(node, then, walked)


def _ways_again(node: Repeat, then: frozenset[int], walked: list[Repeat]) -> float:
    begin = _first(node.body, frozenset())
    once = _ways(node.body, then | begin, walked)
    most = MAX_TEXT if node.most is None else min(node.most, MAX_TEXT)
    if most > FEW:
        walked.append(node)
    if node.least == node.most:
        return _power(once, node.least)
    if nullable(node.body):
        return math.inf
    # Where what follows begins as it does itself, it may end after any of them.
    if not begin & then:
        return _power(once, most)
    if walked[-1:] == [node]:
        # To go back from one end to the next is one step.
        walked.pop()
    return _power(once, most) * (most - min(node.least, most) + 1)


def _power(number: float, times: int) -> float:
    return 1 if number == 1 else number**times if number**2 < math.inf and times < 64 else math.inf


def _first(node: Node, then: frozenset[int]) -> frozenset[int]:
    """What the text goes on with where a node is to fit, and then one of these."""
    match node:
        case Chars():
            return node.members
        case Edge():
            return frozenset((_END,)) if node.kind == r"\Z" else then
        case Group():
            return _first(node.body, then)
        case Sequence():
            for part in reversed(node.parts):
                then = _first(part, then)
            return then
        case Choice():
            return frozenset().union(*[_first(part, then) for part in node.parts])
        case Repeat():
            if node.most == 0:
                return then
            begin = _first(node.body, then)
            return begin | then if node.least == 0 else begin


def _begins(node: Node) -> bool:
    """Whether it fits from the beginning of a text, if it fits at all."""
    match node:
        case Repeat(Chars(members), 0, None):
            # Whatever stands before it is taken too: names have no line breaks.
            return members >= ALL - {10}
        case Edge():
            return node.kind == r"\A"
        case Group():
            return _begins(node.body)
        case Sequence():
            return bool(node.parts) and _begins(node.parts[0])
        case Choice():
            return all(map(_begins, node.parts))
        case Chars() | Repeat():
            return False


def _written(node: Node) -> str:
    """The node for Python's `re`."""
    match node:
        case Chars():
            return _class(node.members)
        case Edge():
            # Python's `\B` is nowhere in an empty text.
            return r"(?!\b)" if node.kind == r"\B" else node.kind
        case Group():
            return f"({_written(node.body)})"
        case Sequence():
            return "".join(
                [f"(?:{_written(p)})" if type(p) is Choice else _written(p) for p in node.parts]
            )
        case Choice():
            return "|".join(map(_written, node.parts))
        case Repeat():
            most = "" if node.most is None else node.most
            lazy = "" if node.greedy else "?"
            return f"(?:{_written(node.body)}){{{node.least},{most}}}{lazy}"


def _class(members: frozenset[int]) -> str:
    if len(members) == len(ALL):
        return r"[\x00-\x7f]"
    if not members:
        return "(?!)"
    return "[" + "".join([f"\\x{member:02x}" for member in sorted(members)]) + "]"
