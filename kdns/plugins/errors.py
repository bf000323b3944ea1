"""errors: logs why queries could not be answered."""

import logging
import re
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.wire import iana, name
from kdns.wire.reply import Reply

log = logging.getLogger("kdns.errors")

LEVELS = {
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
MAX_PATTERN = 10_000
"""Characters of a regular expression, as in CoreDNS."""


@dataclass(slots=True, frozen=True)
class Consolidation:
    """Errors that match `pattern` are counted, and told of once in `seconds`."""

    seconds: float
    pattern: re.Pattern[str]
    level: int = logging.ERROR
    show_first: bool = False


@dataclass(slots=True)
class Errors(Configured):
    """The settings of one errors directive."""

    consolidations: tuple[Consolidation, ...] = ()
    stacktrace: bool = False

    def explain(self) -> str:
        told = [f"{c.pattern.pattern!r} once in {c.seconds:g} s" for c in self.consolidations]
        traced = ["with the tracebacks of faults"] if self.stacktrace else []
        return "; ".join(["errors are logged", *traced, *told])

    def build(self, parts: Parts, following: Handler) -> Handler:
        errors = ErrorLog(self.consolidations, parts)
        parts.block.observers.append(errors)
        parts.block.stacktrace = self.stacktrace
        parts.when_stopped(errors.tell_all)
        return following


class ErrorLog:
    """An observer that logs errors in CoreDNS's words: rcode, name, type, reason."""

    def __init__(self, consolidations: tuple[Consolidation, ...], parts: Parts) -> None:
        self._consolidations = consolidations
        self._parts = parts
        self._counts = [0] * len(consolidations)

    def __call__(self, request: Request, reply: Reply, size: int, seconds: float) -> None:
        """See block.Observer."""
        if not reply.error:
            return
        query = request.query
        kind = iana.type_text(query.qtype)
        text = f"{int(reply.rcode)} {name.to_text(query.key)} {kind}: {reply.error}"
        for index, consolidation in enumerate(self._consolidations):
            # As CoreDNS: a pattern is of the reason alone, so that "^" is where that begins.
            if consolidation.pattern.search(reply.error):
                self._consolidate(index, text)
                return
        log.error("plugin/errors: %s", text)

    def _consolidate(self, index: int, text: str) -> None:
        consolidation = self._consolidations[index]
        first = self._counts[index] == 0
        self._counts[index] += 1
        if first:
            self._parts.call_later(consolidation.seconds, lambda: self._tell(index))
            if consolidation.show_first:
                log.log(consolidation.level, "plugin/errors: %s", text)

    def tell_all(self) -> None:
        """Tell now what waits for the end of its time."""
        for index in range(len(self._consolidations)):
            self._tell(index)

    def _tell(self, index: int) -> None:
        consolidation, count = self._consolidations[index], self._counts[index]
        self._counts[index] = 0
        if count > consolidation.show_first:
            log.log(
                consolidation.level,
                "plugin/errors: %d errors like '%s' occurred in last %s",
                count,
                consolidation.pattern.pattern,
                go_duration(consolidation.seconds),
            )


def go_duration(seconds: float) -> str:
    """As Go prints a duration: 1h0m0s, 5m0s, 1.5s, 20ms."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def parse(directive: Directive, zones: tuple[str, ...]) -> Errors:
    """See configured.Parse."""
    args = values.at_most(directive, 1)
    if args and args[0].text != "stdout":
        raise CorefileError.at(args[0], f"errors: expected stdout, got {args[0].text!r}")
    settings = Errors()

    def consolidate(option: Directive) -> None:
        given = values.between(option, 2, 4)
        seconds = values.duration(given[0], minimum=0.001)
        if len(given[1].text) > MAX_PATTERN:
            raise CorefileError.at(
                given[1], f"consolidate: expected at most {MAX_PATTERN} characters of a pattern"
            )
        try:
            pattern = re.compile(given[1].text)
        except (re.error, OverflowError, RecursionError) as error:
            raise CorefileError.at(
                given[1],
                f"consolidate: expected a regular expression, got {given[1].text!r}: {error}",
            ) from error
        words = [arg.text for arg in given[2:]]
        show_first = "show_first" in words
        levels = [word for word in words if word != "show_first"]
        if len(levels) > 1 or any(level not in LEVELS for level in levels):
            raise CorefileError.at(
                given[2],
                "consolidate: expected warning, error, info or debug, and show_first, "
                f"got {' '.join(words)!r}",
            )
        level = LEVELS[levels[0]] if levels else logging.ERROR
        settings.consolidations += (Consolidation(seconds, pattern, level, show_first),)

    def stacktrace(option: Directive) -> None:
        settings.stacktrace = values.flag(option)

    read_options(directive, {"consolidate": consolidate, "stacktrace": stacktrace})
    return settings
