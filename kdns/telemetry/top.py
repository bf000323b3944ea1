"""Who asks what: names, clients, names that do not exist, and what search paths waste.

    hot answers --hits, when they are counted--+
    cold answers --one each--------------------+--> a dict, until it is full --> sketches
    one datagram of each batch stands for all of it --> clients

Nothing is done per query on the hot path: an answer's hits are known anyway. Everything is bounded:
a dict of BATCH names, and sketches of SIZE keys, for this WINDOW and the one before.

A name is wasted that was asked for only because a resolver tried its search path: it does not exist
and is another name with a part of the search path of pods behind it. Had the application put a dot
at the end of that other name, it would not have been asked for.
"""

from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from kdns.telemetry.sketch import Sketch
from kdns.wire import name
from kdns.wire.iana import Rcode

SIZE = 1_000
BATCH = 1_024
"""Names, or clients, that wait to be sorted in: so few that nobody waits for it."""
WINDOW = 300.0
"""Seconds; what is told is of one to two windows."""
KINDS = ("names", "denied", "wasted", "clients")


Places = Callable[[AbstractSet[bytes]], Mapping[bytes, bytes]]
"""From addresses to the namespaces, as labels, of the pods that have them."""


@dataclass(slots=True, frozen=True)
class Searched:
    """A zone that search paths of pods lead through, and its namespaces, as labels."""

    zone: bytes
    namespaces: Container[bytes]


@dataclass(slots=True)
class Window:
    """What was counted since `began`, by kind: seconds of the host's clock that never goes back."""

    began: float
    sketches: dict[str, Sketch] = field(
        default_factory=lambda: {kind: Sketch(SIZE) for kind in KINDS}
    )

    namespaces: dict[str, int] = field(default_factory=dict)
    """Queries of those clients whose pods are known."""

    def merge(self, other: "Window") -> None:
        """Count what another one has counted, in another process or before."""
        self.began = min(self.began, other.began)
        for namespace, times in other.namespaces.items():
            self.namespaces[namespace] = self.namespaces.get(namespace, 0) + times
        for kind, sketch in self.sketches.items():
            sketch.merge(other.sketches[kind])


class Top:
    """What one process counts. now: seconds of a clock that never goes back, all processes' one."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._names: dict[tuple[bytes, int], int] = {}
        self._clients: dict[bytes, int] = {}
        self._window = Window(now())
        self._before: Window | None = None
        self.searched: list[Searched] = []
        self.places: list[Places] = []
        """Who knows where clients are."""

    def heard(self, times: int, qname: bytes, rcode: int) -> None:
        """A name, absolute and lower-case, was answered so many times."""
        names = self._names
        key = (qname, rcode)
        names[key] = names.get(key, 0) + times
        if len(names) >= BATCH:
            self._fold()

    def client(self, address: bytes, times: int) -> None:
        """An address of 4 or 16 octets has asked, and stands for so many queries."""
        clients = self._clients
        clients[address] = clients.get(address, 0) + times
        if len(clients) >= BATCH:
            self._fold()

    def read(self) -> Window:
        """All that was counted in this window and the one before. It is the caller's."""
        self._fold()
        told = Window(self._window.began)
        told.merge(self._window)
        if self._before is not None:
            told.merge(self._before)
        clients = told.sketches["clients"].counts
        for places in self.places:
            for address, namespace in places(clients.keys()).items():
                text = namespace[1:].decode("ascii", "backslashreplace")
                told.namespaces[text] = told.namespaces.get(text, 0) + clients[address][0]
        return told

    def _fold(self) -> None:
        """Sort what was heard into the sketches."""
        now = self._now()
        if now - self._window.began >= WINDOW:
            self._before, self._window = self._window, Window(now)
        names: dict[bytes, int] = {}
        denied: dict[bytes, int] = {}
        wasted: dict[bytes, int] = {}
        for (qname, rcode), times in self._names.items():
            names[qname] = names.get(qname, 0) + times
            if rcode == Rcode.NXDOMAIN:
                denied[qname] = times
                meant = self._meant(qname)
                if meant:
                    wasted[meant] = wasted.get(meant, 0) + times
        for kind, batch in zip(KINDS, (names, denied, wasted, self._clients), strict=True):
            self._window.sketches[kind].add_all(batch)
        self._names.clear()
        self._clients.clear()

    def _meant(self, qname: bytes) -> bytes:
        for searched in self.searched:
            if name.is_below(qname, searched.zone):
                return meant(qname, searched)
        return b""


def meant(qname: bytes, searched: Searched) -> bytes:
    """The name that a search path was put behind; b"" where none was.

    A pod's search path is NAMESPACE.svc.ZONE, svc.ZONE and ZONE. What is left must have a dot: a
    single label is what the search path is for. Names of services (_http._tcp) are left alone.
    """
    labels = name.split(qname)
    labels = labels[: len(labels) - len(name.split(searched.zone))]
    if labels and labels[-1] == b"svc":
        labels = labels[:-1]
        if labels and bytes((len(labels[-1]),)) + labels[-1] in searched.namespaces:
            labels = labels[:-1]
    if len(labels) < 2 or labels[0].startswith(b"_"):
        return b""
    return name.from_labels(labels)
