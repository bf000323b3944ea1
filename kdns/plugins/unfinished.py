"""cache and reload: read and checked, so that Corefiles that have them are served."""

import re
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts

REFRESH_MODES = ("immediate", "verify")
_NUMBER = re.compile(r"[-+]?[0-9]+")
_PERCENTAGE = re.compile(r"[1-8][0-9]%|90%")


@dataclass(slots=True, frozen=True)
class WithoutEffect(Configured):
    """A directive that is understood, and does nothing yet."""

    name: str
    place: str
    consequence: str

    def explain(self) -> str:
        return f"not in effect yet: {self.consequence}"

    def warnings(self) -> tuple[str, ...]:
        return (f"{self.place}: {self.name} is not in effect yet: {self.consequence}",)

    def build(self, parts: Parts, following: Handler) -> Handler:
        return following


def parse_cache(directive: Directive, zones: tuple[str, ...]) -> WithoutEffect:
    """`cache [TTL] [ZONES…] { … }` as CoreDNS has it."""
    args = list(directive.args)
    if args and _NUMBER.fullmatch(args[0].text):
        values.integer(args.pop(0), minimum=1)
    for arg in args:
        expand_zone(arg)

    def capacity(option: Directive) -> None:
        for arg, minimum in zip(values.between(option, 1, 3), (0, 1, 0), strict=False):
            values.integer(arg, minimum=minimum)

    def prefetch(option: Directive) -> None:
        given = values.between(option, 1, 3)
        values.integer(given[0])
        if len(given) > 1:
            values.duration(given[1])
        if len(given) > 2 and not _PERCENTAGE.fullmatch(given[2].text):
            raise CorefileError.at(
                given[2], f"expected a percentage from 10% to 90%, got {given[2].text!r}"
            )

    def serve_stale(option: Directive) -> None:
        given = list(values.at_most(option, 3))
        if given and given[0].text not in REFRESH_MODES:
            values.duration(given.pop(0))
        if given:
            _one_of(given.pop(0), REFRESH_MODES)
        for arg in given:
            values.duration(arg)

    def disable(option: Directive) -> None:
        kind, *disabled = values.at_least(option, 1)
        _one_of(kind, ("success", "denial"))
        for arg in disabled:
            expand_zone(arg)

    read_options(
        directive,
        {
            "success": capacity,
            "denial": capacity,
            "prefetch": prefetch,
            "serve_stale": serve_stale,
            "serve_stale_policy": lambda o: _one_of(values.exactly(o, 1)[0], ("prefer_positive",)),
            "servfail": lambda o: values.duration(values.exactly(o, 1)[0], maximum=300),
            "disable": disable,
            "keepttl": values.flag,
        },
    )
    return WithoutEffect("cache", str(directive.place), "every forwarded question goes upstream")


def _one_of(token: Token, expected: tuple[str, ...]) -> None:
    if token.text not in expected:
        raise CorefileError.at(token, f"expected {' or '.join(expected)}, got {token.text!r}")


def parse_reload(directive: Directive, zones: tuple[str, ...]) -> WithoutEffect:
    """`reload [INTERVAL [JITTER]]` as CoreDNS has it."""
    values.without_block(directive)
    bounds = (2.0, 1.0)
    for arg, minimum in zip(values.at_most(directive, 2), bounds, strict=False):
        values.duration(arg, minimum=minimum)
    return WithoutEffect("reload", str(directive.place), "changes need a restart")
