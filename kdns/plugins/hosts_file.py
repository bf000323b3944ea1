"""Names and their addresses as a file like /etc/hosts gives them, line by line.

192.0.2.1 www.example.com www   # nothing behind this sign counts
fe80::1%eth0 router             # which link it is on means something on one host: left out
192.0.2.9 *.apps.example.com    # for each name one label below apps.example.com
"""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from kdns.cluster import model
from kdns.cluster.errors import ObjectError
from kdns.plugins.rereading import BadFile
from kdns.wire import iana, name
from kdns.wire.errors import BadName

MAX_OCTETS = 8 << 20
MAX_ENTRIES = 250_000
"""Of one file: pairs of an address and a name."""
MAX_TOLD = 20
"""What is wrong with one file is told so often, at most."""
WILDCARD = b"\x01*"
_LONGEST = 1024
"""Characters: a name of 255 octets takes as many at most, each octet written as `\\DDD`."""
_SHOWN = 80


class Entry(NamedTuple):
    """One line: an address of 4 or 16 octets, and names in lower case, as on the wire."""

    address: bytes
    names: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """As it could stand in a file."""
        names = [name.to_text(key).removesuffix(".") or "." for key in self.names]
        return " ".join([name.address_text(self.address), *names])

    def gives(self, owner: bytes, named: Container[bytes]) -> bool:
        """Whether a name has a record of it. named: what the name's PTR records say."""
        return owner in self.names or (
            owner == name.reverse(self.address) and any(key in named for key in self.names)
        )


class Wrong(NamedTuple):
    """What is wrong in a line, and was left out."""

    line: int
    what: str


def read_line(text: str) -> tuple[Entry | None, list[str]]:
    """What a line says, None for nothing; and what is wrong with it, which it is read without."""
    words = text.partition("#")[0].split()
    if not words:
        return None, []
    first, *texts = words
    try:
        # An IPv6 zone (RFC 4007, section 11) is dropped, as everywhere in such files.
        address = model.address(first.partition("%")[0], "")
    except ObjectError:
        return None, [f"expected an IP address, got {first[:_SHOWN]!r}"]
    if not texts:
        return None, [f"expected a name behind the address {first[:_SHOWN]}"]
    names: list[bytes] = []
    wrong: list[str] = []
    for word in texts:
        try:
            names.append(_name(word))
        except BadName as error:
            wrong.append(f"expected a domain name, got {word[:_SHOWN]!r}: {error}")
    return (Entry(address, tuple(names)) if names else None), wrong


def _name(text: str) -> bytes:
    if len(text) > _LONGEST:
        raise BadName(f"longer than {name.MAX_NAME} octets")
    return name.from_text(text).lower()


class Reading:
    """The entries of one file, one after the other, each with the number of its line.

    wrong: what was left out until then, MAX_TOLD at most; `untold` is how much more there was.
    Going through it raises BadFile where there are too many.
    """

    def __init__(self, octets: bytes, path: str) -> None:
        self.wrong: list[Wrong] = []
        self.untold = 0
        self._octets = octets
        self._path = path

    def __iter__(self) -> Iterator[tuple[int, Entry]]:
        count = 0
        # What is no UTF-8 is good in comments, and as a part of nothing else.
        text = self._octets.decode("utf-8-sig", errors="replace")
        for number, line in enumerate(text.split("\n"), 1):
            entry, wrong = read_line(line)
            for what in wrong:
                if len(self.wrong) < MAX_TOLD:
                    self.wrong.append(Wrong(number, what))
                else:
                    self.untold += 1
            if entry is not None:
                count += len(entry.names)
                if count > MAX_ENTRIES:
                    expected = f"expected at most {MAX_ENTRIES} names in all"
                    raise BadFile(f"{self._path}:{number}: {expected}")
                yield number, entry


Records = dict[bytes, tuple[bytes, ...]]
"""By name: the data of its records of one type."""


class Table:
    """The records of many entries; never changed. In the order of the entries, none twice.

    shown: whether a name is one that is answered. reverse: whether addresses have names too.
    size: how many records there are.
    """

    __slots__ = ("_by_type", "_wildcards", "size")

    def __init__(
        self, entries: Iterable[Entry], shown: Callable[[bytes], bool], *, reverse: bool
    ) -> None:
        forward: dict[int, dict[bytes, list[bytes]]] = {4: {}, 16: {}}
        backward: dict[bytes, list[bytes]] = {}
        self._wildcards = False
        for address, names in entries:
            addresses = forward[len(address)]
            for key in filter(shown, names):
                addresses.setdefault(key, []).append(address)
                if key.startswith(WILDCARD):
                    # Whoever looks an address up is told no pattern.
                    self._wildcards = True
                elif reverse:
                    backward.setdefault(address, []).append(key)
        same: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}

        def sets(held: dict[bytes, list[bytes]]) -> Records:
            made: Records = {}
            for key, rdatas in held.items():
                # RFC 2181, section 5: no record is in its set twice.
                rrset = tuple(dict.fromkeys(rdatas))
                # Lists of names that are not to be reached have one address for all of them.
                made[key] = same.setdefault(rrset, rrset)
            return made

        self._by_type: dict[int, Records] = {
            iana.A: sets(forward[4]),
            iana.AAAA: sets(forward[16]),
            iana.PTR: {name.reverse(address): rrset for address, rrset in sets(backward).items()},
        }
        records = self._by_type.values()
        self.size = sum(len(rrset) for held in records for rrset in held.values())

    def owner(self, key: bytes) -> bytes | None:
        """Whose records a name, in lower case, has: its own, or those of the wildcard above it.

        A name that is there itself has nothing of a wildcard, whatever the type (RFC 4592, section
        2.2.1); and none matches more than one label, as in CoreDNS.
        """
        by_type = self._by_type.values()
        if any(key in held for held in by_type):
            return key
        if self._wildcards and len(key) > 1:
            wildcard = wildcard_of(key)
            if any(wildcard in held for held in by_type):
                return wildcard
        return None

    def find(self, owner: bytes, qtype: int) -> tuple[bytes, ...]:
        """The data of its records of a type; none where it has none."""
        held = self._by_type.get(qtype)
        return () if held is None else held.get(owner, ())

    def changes(self, before: "Table") -> set[bytes]:
        """The names that have not all records that they had before, or more."""
        changed: set[bytes] = set()
        for rtype, now in self._by_type.items():
            then = before._by_type[rtype]
            changed.update([key for key, rrset in now.items() if then.get(key) != rrset])
            changed.update(then.keys() - now.keys())
        return changed


def wildcard_of(key: bytes) -> bytes:
    """The wildcard that a name, which is not the root, may match."""
    return WILDCARD + name.parent(key)
