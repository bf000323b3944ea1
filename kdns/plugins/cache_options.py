"""The settings of the cache directive, and how they are read from a Corefile."""

import re
from dataclasses import dataclass, field

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.configured import read_options

REFRESH_MODES = ("immediate", "verify")
KINDS = ("success", "denial")
MAX_SERVFAIL = 300.0
"""RFC 2308, section 7.1: a failure must not be kept for more than five minutes, seconds."""
MAX_STALE_TTL = 3600.0
MAX_RECHECK = 300.0
_NUMBER = re.compile(r"[-+]?[0-9]+")
_PERCENTAGE = re.compile(r"[1-8][0-9]%|90%")


@dataclass(slots=True)
class Kind:
    """Of answers, or of denials: how many entries, and between which bounds their TTLs are kept."""

    capacity: int = 9984
    most: int = 3600
    least: int = 0
    disabled: tuple[str, ...] = ()


@dataclass(slots=True)
class Options:
    """See docs/cache.md. Durations are in seconds.

    prefetch: from how many hits on, none of them further apart than prefetch_within, an entry is
    fetched again when prefetch_part percent of its time is left; 0 for never.
    stale: how long an entry is handed out after its time; 0 for not at all.
    verify: ask first, and hand out what is stale only if there is no answer in stale_patience.
    stale_ttl: the most that a stale record shows; stale_recheck: after a failure to refresh an
    entry, nobody asks for it again for so long (RFC 8767, section 5 recommends 30 for both).
    """

    zones: tuple[str, ...]
    success: Kind = field(default_factory=Kind)
    denial: Kind = field(default_factory=lambda: Kind(most=1800))
    prefetch: int = 0
    prefetch_within: float = 60.0
    prefetch_part: int = 10
    stale: float = 0.0
    verify: bool = False
    stale_patience: float = 1.8
    stale_ttl: int = 30
    stale_recheck: float = 30.0
    prefer_positive: bool = False
    servfail: float = 5.0
    keepttl: bool = False
    nxdomain_cut: bool = False
    octets: int = 64 << 20


def read(directive: Directive, zones: tuple[str, ...]) -> Options:
    """`cache [TTL] [ZONES…] { … }` as CoreDNS has it. Raises CorefileError."""
    options = Options(zones)
    args = list(directive.args)
    if args and _NUMBER.fullmatch(args[0].text):
        most = values.integer(args.pop(0), minimum=1)
        options.success.most = options.denial.most = most
    if args:
        options.zones = tuple(zone for arg in args for zone in expand_zone(arg))
    read_options(
        directive,
        {
            "success": lambda option: _kind(option, options.success),
            "denial": lambda option: _kind(option, options.denial),
            "prefetch": lambda option: _prefetch(option, options),
            "serve_stale": lambda option: _serve_stale(option, options),
            "serve_stale_policy": lambda option: _policy(option, options),
            "servfail": lambda option: _servfail(option, options),
            "disable": lambda option: _disable(option, options),
            "keepttl": lambda option: setattr(options, "keepttl", values.flag(option)),
            "nxdomain_cut": lambda option: setattr(options, "nxdomain_cut", values.flag(option)),
            "max_octets": lambda option: _octets(option, options),
        },
    )
    return options


def _kind(option: Directive, kind: Kind) -> None:
    """`success|denial CAPACITY [TTL [MINTTL]]`."""
    given = values.between(option, 1, 3)
    kind.capacity = values.integer(given[0])
    if len(given) > 1:
        kind.most = values.integer(given[1], minimum=1)
    if len(given) > 2:
        kind.least = values.integer(given[2])


def _prefetch(option: Directive, options: Options) -> None:
    """`prefetch AMOUNT [DURATION] [PERCENTAGE%]`."""
    given = values.between(option, 1, 3)
    options.prefetch = values.integer(given[0])
    if len(given) > 1:
        options.prefetch_within = values.duration(given[1])
    if len(given) > 2:
        if not _PERCENTAGE.fullmatch(given[2].text):
            raise CorefileError.at(
                given[2], f"expected a percentage from 10% to 90%, got {given[2].text!r}"
            )
        options.prefetch_part = int(given[2].text[:-1])


def _serve_stale(option: Directive, options: Options) -> None:
    """`serve_stale [DURATION] [immediate|verify [PATIENCE]] [TTL [RECHECK]]`; see docs/cache.md.

    PATIENCE is of `verify` alone, and TTL and RECHECK come behind a mode.
    """
    given = list(values.at_most(option, 5))
    options.stale = 3600.0
    if given and given[0].text not in REFRESH_MODES:
        options.stale = values.duration(given.pop(0))
    if not given:
        return
    options.verify = _one_of(given.pop(0), REFRESH_MODES) == "verify"
    if given and options.verify:
        options.stale_patience = values.duration(given.pop(0))
    if given:
        options.stale_ttl = int(values.duration(given.pop(0), maximum=MAX_STALE_TTL))
    if given:
        options.stale_recheck = values.duration(given.pop(0), maximum=MAX_RECHECK)
    if given:
        raise CorefileError.at(given[0], f"serve_stale: unexpected {given[0].text!r}")


def _policy(option: Directive, options: Options) -> None:
    _one_of(values.exactly(option, 1)[0], ("prefer_positive",))
    options.prefer_positive = True


def _servfail(option: Directive, options: Options) -> None:
    options.servfail = values.duration(values.exactly(option, 1)[0], maximum=MAX_SERVFAIL)


def _octets(option: Directive, options: Options) -> None:
    options.octets = values.integer(values.exactly(option, 1)[0], minimum=1 << 16)


def _disable(option: Directive, options: Options) -> None:
    """`disable success|denial [ZONES…]`."""
    first, *named = values.at_least(option, 1)
    kind = options.success if _one_of(first, KINDS) == "success" else options.denial
    kind.disabled += tuple(zone for arg in named for zone in expand_zone(arg)) or options.zones


def _one_of(token: Token, expected: tuple[str, ...]) -> str:
    if token.text not in expected:
        raise CorefileError.at(token, f"expected {' or '.join(expected)}, got {token.text!r}")
    return token.text
