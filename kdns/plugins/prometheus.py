"""prometheus: counts, and serves the counts over HTTP in the exposition format."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts, WebConfigError
from kdns.telemetry.histogram import SECONDS
from kdns.wire import name
from kdns.wire.reply import Reply

DEFAULT_ADDRESS = "localhost:9153"


@dataclass(slots=True, frozen=True)
class Prometheus(Configured):
    """The settings of one prometheus directive."""

    address: str = DEFAULT_ADDRESS
    runtime: bool = False
    exemplars: bool = False
    tls: Token | None = None
    """The name of a web configuration file."""

    def explain(self) -> str:
        if self.tls is not None:
            return f"https://{self.address}/metrics, by {self.tls.text}"
        return f"http://{self.address}/metrics"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.counted = True
        if self.tls is not None:
            try:
                parts.secure(self.address, self.tls.text)
            except WebConfigError as error:
                raise CorefileError.at(self.tls, f"tls: {error}") from error
        parts.metrics_route(self.address, runtime=self.runtime)
        if self.exemplars:
            parts.block.observers.append(Exemplars(parts))
        return following


class Exemplars:
    """An observer that keeps, of each bucket of durations, the last query that fell into it.

    There are no traces that an exemplar could point to. What there is: which name it was, and the
    ID that the client's log has. Hot answers are not among them: nobody waits for those.
    """

    def __init__(self, parts: Parts) -> None:
        self._block = parts.block
        self._now = parts.now

    def __call__(self, request: Request, reply: Reply, size: int, seconds: float) -> None:
        """See block.Observer."""
        query = request.query
        bucket = bisect_left(SECONDS, seconds)
        exemplar = (name.to_text(query.key), query.id, seconds, self._now())
        self._block.counters_of(query.key).exemplars[bucket] = exemplar


def parse(directive: Directive, zones: tuple[str, ...]) -> Prometheus:
    """See configured.Parse."""
    args = values.at_most(directive, 1)
    given: dict[str, bool] = {}
    files: list[Token] = []

    def flag(field: str) -> Callable[[Directive], object]:
        return lambda option: given.__setitem__(field, values.flag(option))

    def tls(option: Directive) -> None:
        if files:
            raise CorefileError.at(option, "tls stands twice; expected once")
        files.extend(values.exactly(option, 1))

    read_options(
        directive,
        {"runtime_metrics": flag("runtime"), "exemplars": flag("exemplars"), "tls": tls},
    )
    address = str(values.listen_address(args[0])) if args else DEFAULT_ADDRESS
    return Prometheus(address, **given, tls=files[0] if files else None)
