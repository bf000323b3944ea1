"""What stands at one name, and how a look-up ends."""

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from kdns.wire import iana
from kdns.wire.reply import RRset

Targets = Callable[[], tuple[RRset | None, tuple[RRset, ...]]]
"""Makes a SRV record set, if there is any, and the addresses of what it points at."""


class Node:
    """One existing name: its record sets by type, and the addresses of what they point at.

    A node without record sets is an empty non-terminal (RFC 8020): the name exists, for something
    stands below it. `srv` is called when somebody asks for SRV, which few who ask for addresses
    do, and which takes several times as long to make.
    """

    __slots__ = ("_additional", "_rrsets", "_srv")

    def __init__(
        self,
        rrsets: Mapping[int, RRset] = MappingProxyType({}),
        additional: tuple[RRset, ...] = (),
        srv: Targets | None = None,
    ) -> None:
        self._rrsets = rrsets
        self._additional = additional
        self._srv = srv

    def find(self, rtype: int) -> RRset | None:
        """The record set of a type."""
        return (self.rrsets if rtype == iana.SRV else self._rrsets).get(rtype)

    @property
    def rrsets(self) -> Mapping[int, RRset]:
        """All of them."""
        self._complete()
        return self._rrsets

    @property
    def additional(self) -> tuple[RRset, ...]:
        """The addresses of what they point at."""
        self._complete()
        return self._additional

    @property
    def alias(self) -> RRset | None:
        """The CNAME, which stands alone at its name (RFC 1034, section 3.6.2)."""
        return self._rrsets.get(iana.CNAME)

    def _complete(self) -> None:
        if self._srv is None:
            return
        made, self._additional = self._srv()
        self._srv = None
        if made is not None:
            self._rrsets = {**self._rrsets, iana.SRV: made}


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
    rrset = node.find(qtype)
    if rrset is not None:
        additional = node.additional if qtype in (iana.SRV, iana.NS) else ()
        return Lookup(End.FOUND, rrset, additional)
    alias = node.alias
    if alias is not None:
        return Lookup(End.ALIAS, alias)
    return NODATA
