"""The world as a directive sees it, and upstreams that say what they are told to."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from random import Random
from typing import TypeVar, cast

from kdns.cluster import objects
from kdns.cluster.objects import Meta, Resource
from kdns.cluster.state import Cluster
from kdns.corefile.model import Directive
from kdns.corefile.parser import parse as parse_corefile
from kdns.net.certificates import FileCertificates
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Outcome, Request, refuse
from kdns.plugins.configured import Configured, Parse
from kdns.plugins.encryption import Certificates, ServerTls
from kdns.plugins.hot import Lease
from kdns.plugins.parts import (
    HttpReply,
    Route,
    Scarce,
    SourceSettings,
    Timer,
    WebConfigError,
)
from kdns.plugins.peer import Peer, Proto
from kdns.plugins.pending import Pending
from kdns.plugins.tap import SinkSettings
from kdns.plugins.upstream import UpstreamError, UpstreamExchange, UpstreamSettings
from kdns.telemetry.meters import Meters
from kdns.telemetry.profiler import Profile, ProfilingError
from kdns.telemetry.top import Top
from kdns.testing.clock import ManualClock
from kdns.wire import iana, name
from kdns.wire.message import HEADER, Edns, Query
from kdns.wire.reply import Reply, RRset, write_reply

T = TypeVar("T")

FILE = "Corefile"
Result = bytes | UpstreamError


@dataclass
class Asked:
    """One question that an upstream got; `pending` is the test's to resolve."""

    query: bytes
    tcp: bool
    timeout: float
    pending: Pending[Result]


@dataclass
class ScriptedExchange:
    """An UpstreamExchange: answers at once from `script`, in its order; then, only when told."""

    script: list[Result | Callable[[bytes], Result]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def ask(self, query: bytes, *, tcp: bool, timeout: float) -> Pending[Result]:
        asked = Asked(query, tcp, timeout, Pending())
        self.asked.append(asked)
        if self.script:
            step = self.script.pop(0)
            asked.pending.resolve(step(query) if callable(step) else step)
        return asked.pending


@dataclass
class FakeParts:
    """Implements kdns.plugins.parts.Parts; everything that is done to it can be looked at."""

    block: Block = field(default_factory=lambda: Block((".",)))
    rng: Random = field(default_factory=lambda: Random(1))
    hostname: str = "node-1"
    judged: bool = False
    meters: Meters = field(default_factory=Meters)
    clock: ManualClock = field(default_factory=ManualClock)
    upstreams: dict[tuple[str, int], UpstreamExchange] = field(default_factory=dict)
    settings: dict[tuple[str, int], UpstreamSettings] = field(default_factory=dict)
    clusters: dict[SourceSettings, Cluster] = field(default_factory=dict)
    routes: dict[tuple[str, str], Route] = field(default_factory=dict)
    fetches: list[Pending[bool]] = field(default_factory=list)
    fetched: list[tuple[str, str, float]] = field(default_factory=list)
    seen: Top = field(default_factory=lambda: Top(lambda: 1700000000.0))
    profiled: list[float] = field(default_factory=list)
    profile_error: str = ""
    sinks: "dict[str, FakeSink]" = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    readiness: list[tuple[str, Callable[[], bool]]] = field(default_factory=list)
    scarce: list[tuple[Scarce, Callable[[float], object]]] = field(default_factory=list)
    lameduck: float = 0.0
    web_error: str = ""
    secured: dict[str, str] = field(default_factory=dict)
    started: list[Callable[[], Awaitable[object] | None]] = field(default_factory=list)
    stopped: list[Callable[[], Awaitable[object] | None]] = field(default_factory=list)
    addresses: tuple[bytes, ...] = (bytes((10, 0, 0, 9)),)
    resolver: Handler = refuse
    stopping: bool = False
    old: list[str] = field(default_factory=list)
    forgotten: list[object] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.clock.time()

    def now(self) -> float:
        return 1700000000.0 + self.clock.time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self.clock.call_later(delay, callback)

    def aside(self, work: Callable[[], T]) -> Pending[T]:
        pending: Pending[T] = Pending()
        try:
            pending.resolve(work())
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            pending.fail(error)
        return pending

    def local_addresses(self) -> tuple[bytes, ...]:
        return self.addresses

    def upstream(self, settings: UpstreamSettings) -> UpstreamExchange:
        place = (settings.host, settings.port)
        self.settings[place] = settings
        return self.upstreams.setdefault(place, ScriptedExchange())

    def release(self, settings: UpstreamSettings) -> None:
        del self.upstreams[settings.host, settings.port]

    def scripted(self, host: str, port: int = 53) -> ScriptedExchange:
        """The upstream of that place."""
        return cast("ScriptedExchange", self.upstream(UpstreamSettings(host, port)))

    def cluster(self, settings: SourceSettings) -> Cluster:
        return self.clusters.setdefault(
            settings, Cluster(lambda: 1700000000.0, lambda reason: None)
        )

    def all_clusters(self) -> list[Cluster]:
        return list(self.clusters.values())

    def forget(self, changed: Iterable[object]) -> None:
        self.forgotten += changed

    def renew(self, leases: Sequence[Lease]) -> None:
        pass

    def resolve(self, request: Request) -> Outcome:
        return self.resolver(request)

    def route(self, address: str, path: str, route: Route) -> None:
        self.routes[address, path] = route

    def secure(self, address: str, file: str) -> None:
        if self.web_error:
            raise WebConfigError(self.web_error)
        self.secured[address] = file

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        self.fetched.append((address, path, seconds))
        return self.fetches.pop(0) if self.fetches else None

    def top(self, address: str) -> Top:
        self.routes[address, "/top"] = lambda: HttpReply(200, b"")
        return self.seen

    async def profile(self, seconds: float) -> Profile:
        self.profiled.append(seconds)
        if self.profile_error:
            raise ProfilingError(self.profile_error)
        return Profile(seconds, [([("inner", "a/b/c.py", 7), ("outer", "a/b/c.py", 1)], 3)])

    def sink(self, settings: SinkSettings) -> "FakeSink":
        self.sinks[str(settings)] = FakeSink()
        return self.sinks[str(settings)]

    def certificates(self, settings: ServerTls) -> Certificates:
        return FileCertificates(settings, judged=self.judged)

    def metrics_route(self, address: str, *, runtime: bool = False) -> None:
        self.metrics.append(address)

    def when_short(self, kind: Scarce, shrink: Callable[[float], object]) -> None:
        self.scarce.append((kind, shrink))

    def when_ready(self, name: str, ready: Callable[[], bool]) -> None:
        self.readiness.append((name, ready))

    def unready(self) -> list[str]:
        if self.stopping:
            return ["stopping"]
        return [name for name, ready in self.readiness if not ready()]

    def outdated(self) -> list[str]:
        return self.old

    def linger(self, seconds: float) -> None:
        self.lameduck = max(self.lameduck, seconds)

    def when_started(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.started.append(action)

    def when_stopped(self, action: Callable[[], Awaitable[object] | None]) -> None:
        self.stopped.append(action)


@dataclass
class FakeSink:
    """A plugins.tap.Sink that keeps what it gets."""

    frames: list[bytes] = field(default_factory=list)
    sent: int = 0
    dropped: int = 0
    started: bool = False
    closed: bool = False

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)

    def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        self.closed = True


def directive(text: str) -> Directive:
    """The one directive of a block; its first line is line 2 of the Corefile."""
    (block,) = parse_corefile(f". {{\n{text}\n}}\n", FILE, environ={}, read=lambda path: [])
    (found,) = block.directives
    return found


def settings(parse: Parse, text: str, zones: tuple[str, ...] = (".",)) -> Configured:
    """What a directive's parser makes of a text."""
    return parse(directive(text), zones)


def ask(
    qname: str,
    qtype: int = iana.A,
    *,
    qclass: int = iana.IN,
    flags: int = iana.RD,
    edns: Edns | None = None,
    host: str = "10.0.0.1",
    proto: Proto = "udp",
    local: str = "10.0.0.9",
) -> Request:
    """A question from port 4242 of `host`, ID 7, 41 octets."""
    query = Query(name.from_text(qname), qtype, qclass, id=7, flags=flags, edns=edns, size=41)
    return Request(query, Peer(host, 4242, proto, local))


def question(
    qname: str,
    qtype: int = iana.A,
    *,
    id: int = 7,  # noqa: A002 - the field's word
    qclass: int = iana.IN,
    flags: int = iana.RD,
    opt: bytes = b"",
) -> bytes:
    """The bytes of a question."""
    tail = qtype.to_bytes(2, "big") + qclass.to_bytes(2, "big")
    return HEADER.pack(id, flags, 1, 0, 0, int(bool(opt))) + name.from_text(qname) + tail + opt


def reply_now(outcome: Outcome) -> Reply:
    """The reply, which must be there."""
    if isinstance(outcome, Reply):
        return outcome
    assert outcome.done, "the reply is not there yet"
    got: list[Reply] = []
    outcome.when_done(got.append)
    return got[0]


def addresses(owner: str, *last: int, ttl: int = 30) -> RRset:
    """A record set of 192.0.2.x."""
    rdatas = tuple(bytes((192, 0, 2, n)) for n in last)
    return RRset(name.from_text(owner), iana.A, ttl, rdatas)


def networks(*prefixes: str) -> list[IPv4Network | IPv6Network]:
    """The networks of these prefixes."""
    return [ip_network(prefix) for prefix in prefixes]


def says(reply: Reply, **flags: bool) -> Callable[[bytes], bytes]:
    """An upstream's step: that reply to whatever question."""

    def answer(wire: bytes) -> bytes:
        qname, position = name.read(wire, 12)
        qtype = int.from_bytes(wire[position : position + 2], "big")
        ident, asked = int.from_bytes(wire[:2], "big"), int.from_bytes(wire[2:4], "big")
        query = Query(qname, qtype, id=ident, flags=asked)
        return write_reply(query, reply, limit=65535, **flags)

    return answer


def always(reply: Reply) -> Handler:
    """A handler that gives a fresh reply with the same contents to every question."""
    from copy import copy

    return lambda request: copy(reply)


def later(pending: Pending[Reply]) -> Handler:
    """A handler whose reply is the test's to give."""
    return lambda request: pending


def populate(cluster: Cluster) -> None:
    """web.shop is 10.96.0.1; ext.shop is www.example.com; in.shop is web.shop; ring is itself."""
    cluster.apply(Resource.NAMESPACES, objects.Namespace(Meta("shop")))
    for service, spec in {
        "web": objects.ServiceSpec(
            type="ClusterIP", cluster_ips=["10.96.0.1"], ports=[objects.ServicePort(80, "http")]
        ),
        "ext": external("WWW.example.com"),
        "in": external("web.shop.svc.cluster.local"),
        "twice": external("in.shop.svc.cluster.local"),
        "gone": external("none.shop.svc.cluster.local"),
        "ring": external("ring.shop.svc.cluster.local"),
    }.items():
        cluster.apply(Resource.SERVICES, objects.Service(Meta(service, "shop"), spec))
    for resource in Resource:
        cluster.sweep(resource, keys_of(cluster, resource))


def external(target: str) -> objects.ServiceSpec:
    return objects.ServiceSpec(type="ExternalName", external_name=target)


def keys_of(cluster: Cluster, resource: Resource) -> set[tuple[str, str]]:
    if resource is Resource.NAMESPACES:
        return {("", "shop")}
    if resource is Resource.SERVICES:
        return {("shop", service) for service in ("web", "ext", "in", "twice", "gone", "ring")}
    return set()
