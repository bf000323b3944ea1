"""Whatever the server and the wire do, the sink ends with exactly the server's state."""

import random
from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.audit import Audit
from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import Resource
from kdns.cluster.reflector import ListRequest, Reflector, WatchRequest
from kdns.cluster.sink import Key
from kdns.cluster.versions import Versions
from kdns.testing.apihistory import ApiError, Json
from kdns.testing.apistore import Query, Store, Watch
from kdns.testing.sink import Held

SERVICES = Resource.SERVICES


class Wire:
    """A reflector and a server, and a wire between them that a test plays on."""

    def __init__(self, store: Store, held: Held, *, stream: bool) -> None:
        self.store = store
        self.reflector = Reflector(SERVICES, held, random.Random(0), stream=stream)
        self.watch: Watch | None = None
        self._splitter = LineSplitter(1 << 20)
        self._flight = b""

    def ask(self, limit: int) -> None:
        """One request, answered, unless a watch is open; pages are as small as `limit`."""
        if self.watch is not None:
            return
        request = self.reflector.next_request()
        asked = parse_qs(urlsplit(request.target).query)
        parameters = {name: text for name, (text,) in asked.items()}
        query = Query.read(parameters | ({"limit": str(limit)} if "limit" in parameters else {}))
        try:
            if isinstance(request, ListRequest):
                self.reflector.on_page(self.store.page(SERVICES, query))
            else:
                self.watch = self.store.watch(SERVICES, query)
                self._splitter, self._flight = LineSplitter(1 << 20), b""
                self.reflector.on_watch_start()
        except ApiError as error:
            if isinstance(request, WatchRequest) and limit % 2:
                self.reflector.on_watch_start()
                self.reflector.on_watch_line(error.line.strip())
            else:
                self.reflector.on_status(error.code, error.body, {})

    def deliver(self, size: int) -> None:
        """Up to `size` more bytes of the watch."""
        self._send()
        chunk, self._flight = self._flight[:size], self._flight[size:]
        for text in self._splitter.feed(chunk):
            if self.watch is not None and self.reflector.on_watch_line(text) is not None:
                self.watch = None

    def lose(self, name: str) -> None:
        """A change, or a deletion, of which an open watch is never told."""
        self._send()
        if f"a/{name}" in self.store.collections[SERVICES].objects and name < "w":
            self.store.delete("Service", "a", name)
        else:
            self.store.load([service(name)])
        if self.watch is not None:
            self.watch.skip()

    def audit(self, limit: int) -> int:
        """How many objects an audit finds wrong; it is over at once, so that nothing is in flight.

        A fault is healed as the shell does it.
        """
        self.deliver(1 << 20)
        audit = Audit(SERVICES, self.reflector.versions)
        more = True
        while more:
            query = Query.read({n: t for n, t in audit.query.items() if t} | {"limit": str(limit)})
            more = audit.on_page(self.store.page(SERVICES, query, partial=True))
        faults = audit.verdict().faults
        if faults:
            self.reflector.relist()
            self.watch = None
        return faults

    def bookmark(self) -> None:
        """The server sends a bookmark."""
        self._send(bookmark=True)

    def _send(self, *, bookmark: bool = False) -> None:
        if self.watch is None:
            return
        try:
            self._flight += self.watch.lines()
            self._flight += self.watch.bookmark() if bookmark else b""
        except ApiError as error:
            self._flight += error.line

    def end(self) -> None:
        """The server closes the watch in good order: all it has told arrives."""
        self.deliver(1 << 20)
        if self.watch is not None:
            self.watch = None
            self.reflector.on_watch_end()

    def cut(self) -> None:
        """The connection is lost, with whatever was in flight."""
        self.watch = None
        self.reflector.on_connection_lost("reset")


def service(name: str) -> Json:
    return {"kind": "Service", "metadata": {"name": name, "namespace": "a"}}


NAMES = st.sampled_from("stuvwxyz")
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("deliver"), st.integers(1, 400)),
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["compact", "bookmark", "cut", "end", "refuse"]), st.none()),
)
Step = tuple[str, str | int | None]


def play(wire: Wire, what: str, how: str | int | None) -> None:
    """Do as one step says."""
    store = wire.store
    match what:
        case "put":
            store.load([service(str(how))])
        case "delete":
            if f"a/{how}" in store.collections[SERVICES].objects:
                store.delete("Service", "a", str(how))
        case "compact":
            store.compact()
        case "refuse":
            wire.watch = None
            wire.reflector.on_status(503, b"", {})
        case "ask":
            wire.ask(int(str(how)))
        case "deliver":
            wire.deliver(int(str(how)))
        case "bookmark":
            wire.bookmark()
        case "lose":
            wire.lose(str(how))
        case "cut":
            wire.cut()
        case _:
            wire.end()


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60), st.sampled_from([2, 1000]), st.booleans())
def test_whatever_happens_the_sink_ends_with_exactly_the_servers_state(
    steps: list[Step], history: int, stream: bool
) -> None:
    """And on the way, once synced, it never lacks what was there all the time."""
    store, held = Store(history), Held()
    store.load([service(name) for name in ("always", "s", "t", "u")])
    wire = Wire(store, held, stream=stream)
    for what, how in steps:
        play(wire, what, how)
        if wire.reflector.synced:
            assert ("a", "always") in held.objects

    for _ in range(20):  # the wire heals: a few pages, a watch, and what it tells
        wire.ask(4)
        wire.deliver(1 << 20)
    expected = versions(store)
    assert held.versions == expected
    assert wire.reflector.versions.digest == digest(expected)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(STEPS, st.tuples(st.just("lose"), NAMES)), max_size=40),
    st.booleans(),
    st.integers(1, 4),
)
def test_whatever_a_watch_was_not_told_an_audit_finds_and_heals(
    steps: list[Step], stream: bool, limit: int
) -> None:
    """And it finds nothing where all was told."""
    store, held = Store(1000), Held()
    wire = Wire(store, held, stream=stream)
    for what, how in steps:
        play(wire, what, how)
    for _ in range(20):
        wire.ask(4)
        wire.deliver(1 << 20)
    right = held.versions == versions(store)
    assert (wire.audit(limit) == 0) is right
    for _ in range(20):
        wire.ask(4)
        wire.deliver(1 << 20)
    assert held.versions == versions(store)
    assert wire.audit(limit) == 0


def versions(store: Store) -> dict[Key, str]:
    """What a list of it would say."""
    objects = store.collections[SERVICES].objects
    return {("a", key.removeprefix("a/")): str(stored.version) for key, stored in objects.items()}


def digest(states: dict[Key, str]) -> int:
    """What somebody has who was told this and nothing else."""
    told = Versions(SERVICES)
    for key, version in states.items():
        told.put(key, version)
    return told.digest
