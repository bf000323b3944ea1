"""What two servers answered to the same questions, sorted into what may be and what may not.

same         but for what no client can rely on (docs/decisions/0002)
ttl          same, but for TTLs: one of them has a cache, or another `ttl`
known        the second follows a standard that the first contradicts (docs/differences.md)
unexpected   neither
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from kdns.cluster import objects
from kdns.compare.questions import Question
from kdns.compare.scene import Json, Row, Scene, canonical
from kdns.compare.verdicts import judge

Kind = Literal["same", "ttl", "known", "unexpected"]
KINDS: tuple[Kind, ...] = ("same", "ttl", "known", "unexpected")
SECTIONS = ("answer", "authority", "additional")
_TTL = re.compile(r"^(\S+) [0-9]+ ")
_MINIMUM = re.compile(r"( SOA( \S+){6}) [0-9]+$")
"""RFC 2308, section 4: the TTL of denials."""


@dataclass(slots=True, frozen=True)
class Compared:
    """One question and both replies. why: the text that allows a known difference, or ""."""

    question: Question
    tcp: bool
    first: Json
    second: Json
    kind: Kind
    why: str

    def as_json(self) -> Json:
        """For a machine to read."""
        return {
            "name": self.question.name,
            "type": self.question.type,
            "transport": "tcp" if self.tcp else "udp",
            "about": self.question.about,
            "kind": self.kind,
            "why": self.why,
            "first": self.first,
            "second": self.second,
        }


def row(question: Question, *, tcp: bool) -> Json:
    """The question as it is asked."""
    return {"name": question.name, "type": question.type, "edns": 1232, "tcp": tcp}


def compare(
    asked: Sequence[tuple[Question, bool]],
    replies: Sequence[tuple[Json, Json]],
    items: Iterable[objects.Object],
    zones: tuple[str, ...],
) -> list[Compared]:
    """Judge the replies, the first server's being CoreDNS's."""
    rows = [row(question, tcp=tcp) for question, tcp in asked]
    timeless = [(_timeless(a), _timeless(b)) for a, b in replies]
    learnt = [{"q": q, "r": a} for q, (a, _) in zip(rows, timeless, strict=True)]
    scene = Scene(items, learnt, zones)
    found = []
    for (question, tcp), q, (a, b), (plain_a, plain_b) in zip(
        asked, rows, replies, timeless, strict=True
    ):
        kind, why = _kind(Row(q, plain_a, scene), plain_b)
        if kind == "same" and _aged(a, b):
            kind = "ttl"
        found.append(Compared(question, tcp, a, b, kind, why))
    return found


def _kind(judged: Row, second: Json) -> tuple[Kind, str]:
    if "error" in judged.want and judged.want.get("error") == second.get("error"):
        return "unexpected", ""  # neither answers: there is nothing that could be the same
    verdict, rule = judge(judged, second)
    match verdict:
        case "same" | "kept":
            return "same", ""
        case "better":
            assert rule is not None, "a better answer is better by a text"
            return "known", rule.says
        case "different":
            return "unexpected", ""


def _timeless(reply: Json) -> Json:
    """The reply with every TTL written as 0, that of a zone's denials too."""
    sections = {
        s: [_MINIMUM.sub(r"\1 0", _TTL.sub(r"\1 0 ", r)) for r in reply[s]]
        for s in SECTIONS
        if s in reply
    }
    return {**reply, **sections}


def _aged(first: Json, second: Json) -> bool:
    """Whether replies that are the same otherwise differ in TTLs."""
    return any(
        canonical(first[s]) != canonical(second[s])
        and canonical(_timeless(first)[s]) == canonical(_timeless(second)[s])
        for s in SECTIONS
        if s in first and s in second
    )


def tally(found: Iterable[Compared]) -> dict[Kind, int]:
    """How many there are of each kind."""
    counted = Counter(one.kind for one in found)
    return {kind: counted[kind] for kind in KINDS}


def lines_of(reply: Json) -> list[str]:
    """A reply in a few lines of text."""
    if "error" in reply:
        return [str(reply["error"])]
    head = reply["rcode"] + (" TC" if "TC" in reply["flags"].split() else "")
    return [head, *reply["answer"], *(f"authority {r}" for r in reply["authority"])]
