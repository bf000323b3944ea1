"""Weights of addresses, name by name, as a file of CoreDNS's `loadbalance weighted` gives them.

# a comment has a line of its own
www.example.com
192.0.2.1 3
192.0.2.2 1
"""

import re
from collections.abc import Mapping

from kdns.cluster import model
from kdns.cluster.errors import ObjectError
from kdns.plugins.rereading import BadFile
from kdns.wire import name
from kdns.wire.errors import BadName

MAX_NAMES = 10_000
"""Of one file; the addresses are bounded by its size."""
MAX_WEIGHT = 255
_WEIGHT = re.compile(r"[0-9]{1,20}")
_SHOWN = 80

ByName = Mapping[bytes, Mapping[bytes, int]]
"""By name, in lower case, as on the wire: the weight of each address, of 4 or 16 octets."""


class Weights:
    """The weights that hold now. `by_name` is replaced whole."""

    __slots__ = ("by_name",)

    def __init__(self) -> None:
        self.by_name: ByName = {}


def weights_of(by_name: ByName, owner: bytes, addresses: tuple[bytes, ...]) -> list[int]:
    """The weight of each address of a name; 1 where none is given."""
    given = by_name.get(owner.lower())
    if given is None:
        return [1] * len(addresses)
    return [given.get(address, 1) for address in addresses]


def read_weights(octets: bytes, path: str) -> ByName:
    """What such a file says. Raises BadFile, which names file and line.

    A name that stands there again goes on; an address that does has its first weight, as in
    CoreDNS. Names are compared without regard to letter case (RFC 4343, section 3).
    """
    by_name: dict[bytes, dict[bytes, int]] = {}
    current: dict[bytes, int] | None = None
    # Octets that are no UTF-8 are good in comments, and as a part of nothing else.
    for number, line in enumerate(octets.decode(errors="replace").split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}:{number}"
        if len(words) == 1:
            current = by_name.setdefault(_name(words[0], where), {})
            if len(by_name) > MAX_NAMES:
                raise BadFile(f"{where}: expected at most {MAX_NAMES} names")
        elif len(words) == 2:
            address, weight = _address(words[0], where), _weight(words[1], where)
            if current is None:
                raise BadFile(f"{where}: expected a name before its addresses, got {words[0]}")
            current.setdefault(address, weight)
        else:
            got = " ".join(words)[:_SHOWN]
            raise BadFile(f"{where}: expected a name, or an address and its weight, got {got!r}")
    return by_name


def _name(text: str, where: str) -> bytes:
    try:
        model.address(text, where)
    except ObjectError:
        pass
    else:
        raise BadFile(f"{where}: expected a weight behind the address {text}")
    try:
        return name.from_text(text).lower()
    except BadName as error:
        raise BadFile(f"{where}: expected a domain name, got {text[:_SHOWN]!r}: {error}") from error


def _address(text: str, where: str) -> bytes:
    try:
        return model.address(text, where)
    except ObjectError as error:
        raise BadFile(f"{where}: expected an IP address, got {text[:_SHOWN]!r}") from error


def _weight(text: str, where: str) -> int:
    if not _WEIGHT.fullmatch(text) or not 1 <= int(text) <= MAX_WEIGHT:
        raise BadFile(f"{where}: expected a weight from 1 to {MAX_WEIGHT}, got {text[:_SHOWN]!r}")
    return int(text)
