"""prometheus: counts, and serves the counts over HTTP in the exposition format."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts

DEFAULT_ADDRESS = "localhost:9153"


@dataclass(slots=True, frozen=True)
class Prometheus(Configured):
    """The settings of one prometheus directive."""

    address: str = DEFAULT_ADDRESS

    def explain(self) -> str:
        return f"http://{self.address}/metrics"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.counted = True
        parts.metrics_route(self.address)
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Prometheus:
    """See configured.Parse."""
    args = values.at_most(directive, 1)
    # What the runtime knows of itself is always there: it costs nothing until somebody scrapes it.
    read_options(directive, {"runtime_metrics": values.flag, "tls": _not_yet})
    return Prometheus(str(values.listen_address(args[0]))) if args else Prometheus()


def _not_yet(option: Directive) -> None:
    # An error and no warning: what somebody wants encrypted is not served in the clear.
    raise CorefileError.at(
        option, "prometheus: tls is an option of CoreDNS that kdns does not have yet"
    )
