"""What directives need from the shells, as Protocols; net, kube and admin are behind them.

app.py joins the two sides, and tests put in what they like.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, Protocol, TypeVar

from kdns.cluster.objects import Resource
from kdns.cluster.selectors import FieldSelector, LabelSelector
from kdns.cluster.state import Cluster
from kdns.plugins.block import Block
from kdns.plugins.chain import Outcome, Request
from kdns.plugins.encryption import Certificates, ServerTls
from kdns.plugins.hot import Lease
from kdns.plugins.pending import Pending
from kdns.plugins.tap import Sink, SinkSettings
from kdns.plugins.upstream import UpstreamExchange, UpstreamSettings
from kdns.telemetry.meters import Meters
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Top

T = TypeVar("T")

STOPPING = "stopping"
"""What `Parts.unready` names from when the server is told to stop."""


class HttpReply(NamedTuple):
    """What an HTTP route says."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class HttpRequest(NamedTuple):
    """What a page may ask of its request: the query's parameters, and the Accept header."""

    query: Mapping[str, str]
    accept: str = ""


NOTHING_ASKED = HttpRequest({})


@dataclass(frozen=True, slots=True)
class Page:
    """A route that wants to know what was asked."""

    answer: Callable[[HttpRequest], HttpReply | Awaitable[HttpReply]]

    def __call__(self, request: HttpRequest = NOTHING_ASKED) -> HttpReply | Awaitable[HttpReply]:
        """What it says."""
        return self.answer(request)


Route = Callable[[], HttpReply | Awaitable[HttpReply]] | Page
Routes = dict[str, dict[str, Route]]
"""By address ("host:port", ":port" for every address), and by path."""


Scarce = Literal["kept", "pending"]
"""What is in a table that may have to be smaller: what upstreams have said, questions to them."""


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> object:
        """Have it not happen."""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where a kubernetes directive's objects come from, and which of them.

    endpoint, other_endpoints (of the same API), tls, kubeconfig: as in the Corefile; all absent is
    the pod's own service account.
    resources: what is listed and watched.
    selectors: by resource; resources without one are watched whole.
    pod_names: whether the names of endpoints' pods are wanted too.
    """

    resources: frozenset[Resource]
    selectors: tuple[tuple[Resource, LabelSelector, FieldSelector], ...] = ()
    endpoint: str | None = None
    other_endpoints: tuple[str, ...] = ()
    tls: tuple[str, str, str] | None = None
    kubeconfig: tuple[str, str] | None = None
    """(file, context); an empty context is the file's current one."""
    pod_names: bool = False


class WebConfigError(ValueError):
    """Why an address cannot be served over TLS: what, where, and what was expected."""


class Parts(Protocol):
    """The world, as one server block's directives see it."""

    @property
    def block(self) -> Block:
        """The block that is being built."""

    @property
    def rng(self) -> Random:
        """Chance."""

    @property
    def hostname(self) -> str:
        """What this host calls itself."""

    @property
    def judged(self) -> bool:
        """Whether another process has built the same Corefile, and judged the files that it names:
        what is wrong with them by now is no reason not to answer."""

    @property
    def meters(self) -> Meters:
        """Where what is counted stands, for metrics."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    def now(self) -> float:
        """Seconds since 1970."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in `delay` seconds."""

    def aside(self, work: Callable[[], T]) -> Pending[T]:
        """What `work`, which may wait for a disk, gives or raises: done beside what answers, and
        never told where all ends before."""

    def local_addresses(self) -> tuple[bytes, ...]:
        """The addresses that this server is reached at: 4 or 16 octets each."""

    def upstream(self, settings: UpstreamSettings) -> UpstreamExchange:
        """A DNS server to ask. The same one for the same settings.

        Raises UpstreamSettingsError where a file that they name cannot be used.
        """

    def release(self, settings: UpstreamSettings) -> None:
        """Say that a DNS server is not asked any more; call it once for each `upstream`."""

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state of a cluster, kept up to date from when the server starts."""

    def all_clusters(self) -> Sequence[Cluster]:
        """Those that any block answers from; all of them from when the server starts."""

    def forget(self, changed: Iterable[object]) -> None:
        """Drop every answer at hand that depends on one of these. See Reply.depends."""

    def renew(self, leases: Sequence[Lease]) -> None:
        """Make the answers at hand that rest on these older. See HotAnswers.renew."""

    def resolve(self, request: Request) -> Outcome:
        """Ask this server itself, whichever block serves the name."""

    def route(self, address: str, path: str, route: Route) -> None:
        """Serve `path` over HTTP on `address` ("host:port" or ":port")."""

    def secure(self, address: str, file: str) -> None:
        """Serve all that is on `address` over TLS, as a web configuration file says.

        Raises WebConfigError.
        """

    def certificates(self, settings: ServerTls) -> Certificates:
        """What these files have to show, now and when they have changed.

        Raises CertificateError, unless it is `judged`.
        """

    def fetch(self, address: str, path: str, seconds: float) -> Pending[bool] | None:
        """Whether what we serve over HTTP there is 200, within so many seconds.

        None in a process that serves none.
        """

    def top(self, address: str) -> Top:
        """Where it is counted who asks what; served at /top on `address`."""

    async def profile(self, seconds: float) -> Profile:
        """Where the CPU time of all processes goes, for so long. Raises ProfilingError."""

    def sink(self, settings: SinkSettings) -> Sink:
        """Where frames of dnstap go."""

    def metrics_route(self, address: str, *, runtime: bool = False) -> None:
        """Serve /metrics on `address`. runtime: with what the collector of cycles has done."""

    def when_ready(self, name: str, ready: Callable[[], bool]) -> None:
        """Have the server count as ready only when `ready` says so too."""

    def unready(self) -> list[str]:
        """The names of what is not ready; STOPPING alone once the server is told to stop."""

    def outdated(self) -> list[str]:
        """What of a cluster we have not been told of for so long that it may be the past."""

    def when_short(self, kind: Scarce, shrink: Callable[[float], object]) -> None:
        """Call `shrink` with the part of its bounds that a table may have, when memory is short,
        and when it is so no longer."""

    def linger(self, seconds: float) -> None:
        """When told to stop, go on answering for so long (lameduck)."""

    def when_started(self, action: Callable[[], Awaitable[object] | None]) -> None:
        """Call `action` once the sockets are open."""

    def when_stopped(self, action: Callable[[], Awaitable[object] | None]) -> None:
        """Call `action` once nothing is answered any more: another Corefile has taken over, or the
        server ends. `call_later` does nothing from then on."""
