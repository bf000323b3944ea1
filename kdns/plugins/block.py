"""One server block at work: its zones, its chain, and what it says about every reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kdns.plugins.chain import Handler, Request, refuse
from kdns.plugins.encryption import Certificates
from kdns.plugins.tap import Tap
from kdns.telemetry.histogram import OCTETS, SECONDS, Histogram
from kdns.telemetry.top import Places, Searched, Top
from kdns.wire import name
from kdns.wire.reply import MAX_UDP_SIZE, OUR_UDP_SIZE, Reply

MAX_TALLIES = 1024
"""Kinds of answers that are counted apart before they are sorted into metrics."""

RequestKey = tuple[str, int, int]
"""(proto, family 1 or 2, qtype)."""


Tally = tuple[str, int, int, int, str, int, int, bool]
"""(proto, family, qtype, rcode, directive, octets of the query and of the reply, DO)."""

Exemplar = tuple[str, int, float, float]
"""One query: its name, its ID, the seconds that it took, and when that was, since 1970."""

MAX_COUNTED_TYPE = 256
"""Types above are counted as this one, so that nobody can make the table large by asking."""
MAX_COUNTED_RCODE = 24
"""Likewise; none of those is assigned."""


@dataclass(slots=True)
class Counters:
    """What a block's metrics are made of: plain integers, read when somebody scrapes them.

    Whoever reads them calls `settle` before.
    """

    requests: dict[RequestKey, int] = field(default_factory=dict)
    responses: dict[tuple[int, str], int] = field(default_factory=dict)
    panics: int = 0
    do_requests: int = 0
    durations: Histogram = field(default_factory=lambda: Histogram.of(SECONDS))
    request_sizes: dict[str, Histogram] = field(default_factory=dict)
    """By transport; octets."""
    response_sizes: dict[str, Histogram] = field(default_factory=dict)
    tallies: dict[Tally, int] = field(default_factory=dict)
    """Answers that are not sorted into the rest yet."""
    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    """By bucket of `durations`: the last query that fell into it, where that is wanted."""

    def answered(self, tally: Tally) -> None:
        """Count one query and its reply: one look-up, as nothing more may be done for each."""
        tallies = self.tallies
        tallies[tally] = tallies.get(tally, 0) + 1
        if len(tallies) > MAX_TALLIES:
            self.settle()

    def unanswered(self, request: RequestKey, size: int, seconds: float, *, do: bool) -> None:
        """Count a query whose reply was not sent."""
        self._count_request(request, 1)
        self.do_requests += do
        self._size(self.request_sizes, request[0], size, 1)
        self.durations.observe(SECONDS, seconds)

    def settle(self) -> None:
        """Sort what was counted into what metrics show."""
        for tally, times in self.tallies.items():
            proto, family, qtype, rcode, by, asked, size, do = tally
            self.count((proto, family, qtype), (rcode, by), times)
            self.measure(proto, asked, size, times, do=do)
        self.tallies.clear()

    def add(self, other: "Counters") -> None:
        """Add what another process has counted."""
        for request, times in other.requests.items():
            self.requests[request] = self.requests.get(request, 0) + times
        for response, times in other.responses.items():
            self.responses[response] = self.responses.get(response, 0) + times
        self.panics += other.panics
        self.do_requests += other.do_requests
        self.durations.add(other.durations)
        for bucket, exemplar in other.exemplars.items():
            mine_then = self.exemplars.get(bucket)
            if mine_then is None or mine_then[3] < exemplar[3]:
                self.exemplars[bucket] = exemplar
        for mine, theirs in (
            (self.request_sizes, other.request_sizes),
            (self.response_sizes, other.response_sizes),
        ):
            for proto, sizes in theirs.items():
                mine.setdefault(proto, Histogram.of(OCTETS)).add(sizes)

    def measure(self, proto: str, request: int, response: int, times: int, *, do: bool) -> None:
        """Count the octets of `times` queries and replies. do: the queries had the DO bit."""
        self.do_requests += times if do else 0
        self._size(self.request_sizes, proto, request, times)
        self._size(self.response_sizes, proto, response, times)

    @staticmethod
    def _size(sizes: dict[str, Histogram], proto: str, octets: int, times: int) -> None:
        histogram = sizes.get(proto)
        if histogram is None:
            histogram = sizes[proto] = Histogram.of(OCTETS)
        histogram.observe(OCTETS, octets, times)

    def count(self, request: RequestKey, response: tuple[int, str], times: int) -> None:
        """Count `times` queries that were answered alike. response: (rcode, directive)."""
        self._count_request(request, times)
        if response[0] > MAX_COUNTED_RCODE:
            response = (MAX_COUNTED_RCODE, response[1])
        self.responses[response] = self.responses.get(response, 0) + times

    def _count_request(self, request: RequestKey, times: int) -> None:
        if request[2] > MAX_COUNTED_TYPE:
            request = (*request[:2], MAX_COUNTED_TYPE)
        self.requests[request] = self.requests.get(request, 0) + times


Observer = Callable[[Request, Reply, int, float], object]
"""Told of every reply: the request, the reply, its octets, and the seconds that it took."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """What the timeouts directive says of connections: seconds, None for the default.

    questions: of one connection; 0 for any number.
    """

    read: float | None = None
    write: float | None = None
    idle: float | None = None
    questions: int = 0


@dataclass(slots=True)
class Block:
    """A server block, built. Directives fill it in while they are built.

    zones: absolute lower-case names, as text; label: how metrics name the server.
    """

    zones: tuple[str, ...]
    label: str = "dns://:53"
    handler: Handler = refuse
    can_forward: bool = False
    """RA is set where this block can forward (RFC 1035, 4.1.1: recursion is available)."""
    forwarded: list[Callable[[bytes], bool]] = field(default_factory=list)
    """Whether a name, absolute and lower-case, is one that a directive of this block forwards."""
    own_zones: list[bytes] = field(default_factory=list)
    """Zones whose names are answered from here, as on the wire: they go first under pressure."""
    passing: list[tuple[bytes, Callable[[bytes], bool]]] = field(default_factory=list)
    """Of those, the ones whose unknown names go on; and whether a name, absolute and lower-case,
    does not."""
    taken: list[Callable[[bytes], bool]] = field(default_factory=list)
    """Whether a directive answers for a name, absolute and lower-case, though it passes others on;
    it says when it may have come to answer for more."""
    when_taken: list[Callable[[], object]] = field(default_factory=list)
    """Whom it says that."""
    timeouts: Timeouts | None = None
    certificates: Certificates | None = None
    """What is shown where its port is one of TLS."""
    sheds: bool = False
    """Whether what is dropped at its address is counted under CoreDNS's name too."""
    classes: set[int] = field(default_factory=set)
    """Classes beside IN that a directive of this block answers; ANY is all of them."""
    udp_limit: int = MAX_UDP_SIZE
    udp_size: int = OUR_UDP_SIZE
    nsid: bytes = b""
    observers: list[Observer] = field(default_factory=list)
    watches_queries: bool = False
    """Whether a directive must see each query, so that none may be answered without it."""
    stacktrace: bool = False
    """Whether a fault of a directive is logged with its traceback."""
    debug: bool = False
    """Whether the debug directive is there."""
    asked: Top | None = None
    """Where it is counted who asks what, if that is wanted."""
    searched: list[Searched] = field(default_factory=list)
    """Zones of clusters that a directive of this block serves."""
    places: list[Places] = field(default_factory=list)
    """Who knows of which namespace a pod is."""
    labels: list[Callable[[Request, Reply], Mapping[str, str]]] = field(default_factory=list)
    """What directives know of a query and its reply, by label."""
    metadata: tuple[bytes, ...] = ()
    """Zones of names of which that may be told."""
    taps: list[Tap] = field(default_factory=list)
    """Who is told of every message as it is on the wire."""
    counted: bool = False
    """Whether the prometheus directive is there."""
    by_zone: list[Counters] = field(default_factory=list)
    """What is counted, for each of the zones; one, if there are none."""
    enabled: tuple[str, ...] = ()
    """The directives that look at queries."""
    _keys: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_zone = [Counters() for _ in self.zones] or [Counters()]
        if len(self.zones) > 1:
            self._keys = [name.from_text(zone).lower() for zone in self.zones]

    def told(self, request: Request, reply: Reply) -> dict[str, str]:
        """By label, what directives know of a query, where the metadata directive wants that."""
        key = request.query.key
        if not any(name.is_below(key, zone) for zone in self.metadata):
            return {}
        said = [known for publish in self.labels for known in publish(request, reply).items()]
        return {label: text for label, text in said if text}

    @property
    def counters(self) -> Counters:
        """Those of the first zone, which mostly is the only one."""
        return self.by_zone[0]

    def counters_of(self, key: bytes) -> Counters:
        """Those of the longest zone that a name, absolute and lower-case, is in."""
        if not self._keys:
            return self.by_zone[0]
        for suffix in name.suffixes(key):
            if suffix in self._keys:
                return self.by_zone[self._keys.index(suffix)]
        return self.by_zone[0]
