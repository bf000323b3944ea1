"""The arguments of directives as the values they stand for.

Each reader takes a token and gives a value, or raises CorefileError at the token's place with what
was expected. Text in place of a token is read alike; its errors then name no place.
"""

import math
import re
from fractions import Fraction
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, NamedTuple

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token, as_token
from kdns.wire import name
from kdns.wire.errors import BadName

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_UNIT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([-+]?)(0|(?:{_UNIT.pattern})+)")
_LONGEST = 2**63 - 1
"""Nanoseconds in the longest duration that Go knows, 292 years."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}

_LISTEN = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")


class ListenAddress(NamedTuple):
    """Where to listen. An empty host is every address; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def duration(
    value: Token | str,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    plain_seconds: bool = False,
) -> float:
    """Seconds, from a duration as Go writes it: 5s, 1h30m, 500ms, 1.5s, 0.

    A number without a unit is an error, but seconds when `plain_seconds` is set. Both bounds, in
    seconds, are allowed. Raises CorefileError.
    """
    token = as_token(value)
    nanoseconds = _nanoseconds(token.text, plain_seconds=plain_seconds)
    if nanoseconds is None:
        example = "such as 30, 30s or 1h30m" if plain_seconds else "such as 500ms, 30s or 1h30m"
        raise CorefileError.at(token, f"expected a duration {example}, got {token.text!r}")
    seconds = float(nanoseconds / 10**9)
    if not minimum <= seconds <= maximum:
        bounds = _bounds(f"{minimum:g}s", None if maximum == math.inf else f"{maximum:g}s")
        raise CorefileError.at(token, f"expected a duration {bounds}, got {token.text!r}")
    return seconds


def _nanoseconds(text: str, *, plain_seconds: bool) -> Fraction | None:
    # The bound on the length keeps int() from refusing thousands of digits in its own way.
    if len(text) > 64:
        return None
    if plain_seconds and _INTEGER.fullmatch(text):
        text += "s"
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    total = sum(
        (Fraction(number) * _NANOSECONDS[unit] for number, unit in _UNIT.findall(found[2])),
        start=Fraction(0),
    )
    if total > _LONGEST:
        return None
    return -total if found[1] == "-" else total


def integer(value: Token | str, *, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
    """A decimal number from `minimum` to `maximum`. Raises CorefileError."""
    token = as_token(value)
    if _INTEGER.fullmatch(token.text):
        number = int(token.text)
        if minimum <= number <= maximum:
            return number
    bounds = _bounds(str(minimum), str(maximum))
    raise CorefileError.at(token, f"expected a number {bounds}, got {token.text!r}")


def _bounds(minimum: str, maximum: str | None) -> str:
    return f"from {minimum}" if maximum is None else f"from {minimum} to {maximum}"


def boolean(value: Token | str) -> bool:
    """true or false, also as Go's other spellings of them. Raises CorefileError."""
    token = as_token(value)
    try:
        return _BOOLEANS[token.text]
    except KeyError:
        message = f"expected true or false, got {token.text!r}"
        raise CorefileError.at(token, message) from None


def flag(directive: Directive) -> Literal[True]:
    """True, for a directive that says what it says by being there: no arguments and no block."""
    exactly(directive, 0)
    without_block(directive)
    return True


def listen_address(value: Token | str) -> ListenAddress:
    """HOST:PORT, where HOST may be empty and an IPv6 address is in brackets. Raises CorefileError.

    A port alone is an error, as in CoreDNS: it is written ":8080".
    """
    token = as_token(value)
    found = _LISTEN.fullmatch(token.text)
    if found is None:
        raise _not_listen(token)
    port = int(found["port"])
    if port > 65535:
        raise CorefileError.at(token, f"expected a port from 0 to 65535, got {port}")
    host: str = found["host"] or ""
    if found["v6"] is not None:
        host = found["v6"]
        try:
            IPv6Address(host)
        except AddressValueError:
            raise _not_listen(token) from None
    return ListenAddress(host, port)


def _not_listen(token: Token) -> CorefileError:
    hint = f'; write ":{token.text}"' if token.text.isdecimal() else ""
    expected = 'HOST:PORT, such as ":8080", "127.0.0.1:8080" or "[::1]:8080"'
    return CorefileError.at(token, f"expected {expected}, got {token.text!r}{hint}")


def domain_name(value: Token | str) -> str:
    """A domain name, absolute and in lower case: "Cluster.Local" is "cluster.local.".

    What is not ASCII becomes IDNA; the bounds are 63 octets a label and 255 a name (RFC 1035,
    section 2.3.4). Raises CorefileError.
    """
    token = as_token(value)
    text = token.text
    if not text or any(character.isspace() or character < " " for character in text):
        raise CorefileError.at(token, f"expected a domain name, got {text!r}")
    try:
        return name.to_text(name.from_text(text).lower())
    except BadName as error:
        raise CorefileError.at(
            token, f"expected a domain name, got {text[:300]!r}: {error}"
        ) from error


def exactly(directive: Directive, count: int) -> tuple[Token, ...]:
    """The arguments, which must be `count`. Raises CorefileError."""
    return _counted(directive, count, count, _plural(count))


def at_least(directive: Directive, count: int) -> tuple[Token, ...]:
    """The arguments, `count` or more. Raises CorefileError."""
    return _counted(directive, count, None, f"at least {_plural(count)}")


def at_most(directive: Directive, count: int) -> tuple[Token, ...]:
    """The arguments, `count` or fewer. Raises CorefileError."""
    return _counted(directive, 0, count, f"at most {_plural(count)}")


def between(directive: Directive, low: int, high: int) -> tuple[Token, ...]:
    """The arguments, `low` to `high` of them. Raises CorefileError."""
    return _counted(directive, low, high, f"{low} to {_plural(high)}")


def _counted(directive: Directive, low: int, high: int | None, expected: str) -> tuple[Token, ...]:
    got = len(directive.args)
    if got < low or (high is not None and got > high):
        message = f"{directive.name}: expected {expected}, got {got}"
        raise CorefileError.at(directive, message)
    return directive.args


def _plural(count: int) -> str:
    return f"{count} argument{'' if count == 1 else 's'}"


def without_block(directive: Directive) -> None:
    """Refuse a block where a directive has none to read. Raises CorefileError."""
    if directive.block is not None:
        raise CorefileError.at(directive, f"{directive.name}: expected no block")
