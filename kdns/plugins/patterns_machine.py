"""Matches a pattern in time that grows with the text and the pattern, and never faster.

    tree --assemble--> steps: Char, Split, Save, At, Match
    text --run--> each step at each place once: what has failed there fails there again

A backtracker that remembers where it has been, as RE2 has one for short texts: of several ways it
takes the same as one that does not, since it tries them in the same order.
"""

from typing import NamedTuple

from kdns.plugins.patterns_syntax import (
    WORD,
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
)

MAX_STEPS = 256
"""Of one pattern: with those of the longest name that is what one question may cost."""


class Char(NamedTuple):
    """Goes on where the next character is one of these."""

    members: frozenset[str]
    then: int


class Split(NamedTuple):
    """Tries one way, then the other."""

    first: int
    second: int


class Save(NamedTuple):
    """A group begins or ends here."""

    slot: int
    then: int


class At(NamedTuple):
    """Goes on at such a place alone."""

    kind: str
    then: int


class Match(NamedTuple):
    """The whole pattern fits."""


Step = Char | Split | Save | At | Match


class Machine:
    """One pattern, ready to be matched."""

    def __init__(self, tree: Tree) -> None:
        """Raises BadPattern for one of more than MAX_STEPS."""
        self._steps: list[Step] = [Match()]
        self._slots = 2 * (tree.groups + 1)
        end = self._add(Save(1, 0))
        self._start = self._add(Save(0, self._assemble(tree.root, end)))

    def search(self, text: str) -> list[tuple[int, int]] | None:
        """Where the leftmost match and its groups begin and end; (-1, -1) for a group without a
        part in it. None where nothing matches."""
        size = len(text) + 1
        # Shared by all beginnings: what has failed for one fails for the others.
        seen = bytearray(len(self._steps) * size)
        for start in range(size):
            slots = self._run(text, start, seen)
            if slots is not None:
                return list(zip(slots[::2], slots[1::2], strict=True))
        return None

    def _run(self, text: str, start: int, seen: bytearray) -> tuple[int, ...] | None:
        steps, size = self._steps, len(text) + 1
        waiting = [(self._start, start, (-1,) * self._slots)]
        while waiting:
            number, at, slots = waiting.pop()
            while not seen[number * size + at]:
                seen[number * size + at] = 1
                step = steps[number]
                if type(step) is Char:
                    if at + 1 == size or text[at] not in step.members:
                        break
                    number, at = step.then, at + 1
                elif type(step) is Split:
                    waiting.append((step.second, at, slots))
                    number = step.first
                elif type(step) is Save:
                    slots = (*slots[: step.slot], at, *slots[step.slot + 1 :])
                    number = step.then
                elif type(step) is At:
                    if not _is_at(step.kind, text, at):
                        break
                    number = step.then
                else:
                    return slots
        return None

    def _add(self, step: Step) -> int:
        if len(self._steps) >= MAX_STEPS:
            raise BadPattern(f"too long for what it repeats: over {MAX_STEPS} steps")
        self._steps.append(step)
        return len(self._steps) - 1

    def _assemble(self, node: Node, then: int) -> int:
        """The step that a node begins with, when `then` is what follows it."""
        match node:
            case Chars():
                return self._add(Char(frozenset(map(chr, node.members)), then))
            case Edge():
                return self._add(At(node.kind, then))
            case Group():
                end = self._add(Save(2 * node.number + 1, then))
                return self._add(Save(2 * node.number, self._assemble(node.body, end)))
            case Sequence():
                for part in reversed(node.parts):
                    then = self._assemble(part, then)
                return then
            case Choice():
                *parts, last = node.parts
                begin = self._assemble(last, then)
                for part in reversed(parts):
                    begin = self._add(Split(self._assemble(part, then), begin))
                return begin
            case Repeat():
                return self._repeat(node, then)

    def _repeat(self, node: Repeat, then: int) -> int:
        body, least, most = node.body, node.least, node.most
        if most is None:
            # Something that may be empty is asked for once, so that its groups have a part.
            begin = self._endless(node, then)
            if least == 0 and nullable(body):
                begin = self._split(node, begin, then)
        else:
            begin = then
            for _ in range(most - least):
                begin = self._split(node, self._assemble(body, begin), then)
        for _ in range(least - 1 if most is None else least):
            begin = self._assemble(body, begin)
        return begin

    def _endless(self, node: Repeat, then: int) -> int:
        """The body once and again; or not at all, where that may be."""
        loop = self._split(node, 0, then)
        begin = self._assemble(node.body, loop)
        first, second = (begin, then) if node.greedy else (then, begin)
        self._steps[loop] = Split(first, second)
        return loop if node.least == 0 and not nullable(node.body) else begin

    def _split(self, node: Repeat, again: int, then: int) -> int:
        return self._add(Split(again, then) if node.greedy else Split(then, again))


def _is_at(kind: str, text: str, at: int) -> bool:
    if kind == r"\A":
        return at == 0
    if kind == r"\Z":
        return at == len(text)
    before = at > 0 and ord(text[at - 1]) in WORD
    after = at < len(text) and ord(text[at]) in WORD
    return (before != after) == (kind == r"\b")
