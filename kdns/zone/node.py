"""What stands at one name, and how a look-up ends."""

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from kdns.wire import iana
from kdns.wire.reply import RRset


@dataclass(slots=True, frozen=True)
class Node:
    """One existing name: its record sets by type, and the addresses of what they point at.

    A node without record sets is an empty non-terminal (RFC 8020): the name exists, for something
    stands below it.
    """

    rrsets: dict[int, RRset] = field(default_factory=dict)
    additional: tuple[RRset, ...] = ()

    @property
    def alias(self) -> RRset | None:
        """The CNAME, which stands alone at its name (RFC 1034, section 3.6.2)."""
        return self.rrsets.get(iana.CNAME)


EMPTY = Node()


class End(enum.Enum):
    """How a look-up ends."""

    FOUND = enum.auto()
    NODATA = enum.auto()
    """The name exists, the type does not (RFC 2308, section 2.2)."""
    NXDOMAIN = enum.auto()
    """Nothing stands at or below the name (RFC 8020)."""
    ALIAS = enum.auto()
    """The name is an alias, and something else was asked for."""


class Lookup(NamedTuple):
    """The end of a look-up, with the record set where there is one."""

    end: End
    rrset: RRset | None = None
    additional: tuple[RRset, ...] = ()


NODATA = Lookup(End.NODATA)
NXDOMAIN = Lookup(End.NXDOMAIN)


def look(node: Node | None, qtype: int) -> Lookup:
    """What asking `node` for `qtype` gives. None is a name that does not exist."""
    if node is None:
        return NXDOMAIN
    rrset = node.rrsets.get(qtype)
    if rrset is not None:
        additional = node.additional if qtype in (iana.SRV, iana.NS) else ()
        return Lookup(End.FOUND, rrset, additional)
    alias = node.alias
    if alias is not None:
        return Lookup(End.ALIAS, alias)
    return NODATA
