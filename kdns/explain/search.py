"""Which names a pod's resolver asks for, and in which order (resolv.conf(5))."""

from collections.abc import Sequence
from typing import NamedTuple

from kdns.wire import name
from kdns.wire.errors import BadName

NDOTS = 5
"""What the kubelet writes into a pod's resolv.conf."""


class Candidate(NamedTuple):
    """A name that is asked for, absolute, and why."""

    name: str
    why: str


def search_list(namespace: str, zone: str) -> tuple[str, ...]:
    """What the kubelet gives a pod of that namespace (dnsPolicy ClusterFirst)."""
    return (f"{namespace}.svc.{zone}", f"svc.{zone}", zone)


def candidates(text: str, search: Sequence[str], ndots: int = NDOTS) -> list[Candidate]:
    """The names that stand for `text`, in the order in which they are asked for.

    A name that ends in a dot is absolute. One with at least `ndots` dots is asked for as it is
    before the search list, another one after it. What is too long for a name is left out.
    """
    if text.endswith("."):
        return [Candidate(text, "it ends in a dot, so it is looked up as it is")]
    dots = text.count(".")
    if not search:
        return [Candidate(f"{text}.", "as it is: there is no search list")]
    as_it_is = Candidate(f"{text}.", f"as it is: {_dots(dots)}, ndots is {ndots}")
    searched = [
        Candidate(f"{text}.{suffix.rstrip('.')}.", f"search {suffix.rstrip('.')}")
        for suffix in search
    ]
    ordered = [as_it_is, *searched] if dots >= ndots else [*searched, as_it_is]
    return [candidate for candidate in ordered if _exists(candidate.name)]


def _dots(count: int) -> str:
    return f"{count} dot" if count == 1 else f"{count} dots"


def _exists(text: str) -> bool:
    try:
        name.from_text(text)
    except BadName:
        return False
    return True
