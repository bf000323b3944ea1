"""timeouts: how long connections of clients may be idle, and how many questions one may ask."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.block import Timeouts
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts

SHORTEST = 1.0
LONGEST = 24 * 3600.0
"""CoreDNS's bounds, seconds."""


@dataclass(slots=True, frozen=True)
class Settings(Configured):
    """The settings of one timeouts directive."""

    timeouts: Timeouts

    def explain(self) -> str:
        limits = self.timeouts
        named = (("read", limits.read), ("write", limits.write), ("idle", limits.idle))
        said = [f"{name} {seconds:g} s" for name, seconds in named if seconds is not None]
        if limits.questions:
            said.append(f"{limits.questions} questions each")
        return "connections: " + ", ".join(said)

    def build(self, parts: Parts, following: Handler) -> Handler:
        # Connections belong to the port, which more than one block may share: see app.py.
        parts.block.timeouts = self.timeouts
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Settings:
    """See configured.Parse."""
    values.exactly(directive, 0)
    seconds: dict[str, float] = {}
    questions = 0

    def duration(option: Directive) -> None:
        (given,) = values.exactly(option, 1)
        seconds[option.name] = values.duration(
            given, minimum=SHORTEST, maximum=LONGEST, plain_seconds=True
        )

    def most(option: Directive) -> None:
        nonlocal questions
        (given,) = values.exactly(option, 1)
        # -1 is CoreDNS's word for any number.
        questions = 0 if given.text == "-1" else values.integer(given, minimum=1)

    known = dict.fromkeys(("read", "write", "idle"), duration)
    read_options(directive, {**known, "maxtcpqueries": most})
    if not directive.block:
        raise CorefileError.at(directive, "timeouts without any; expected read, write or idle")
    return Settings(Timeouts(questions=questions, **seconds))
