"""health: says over HTTP that the process is alive, and keeps it answering while it is drained."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import HttpReply, Parts

DEFAULT_ADDRESS = ":8080"
OK = HttpReply(200, b"OK")


@dataclass(slots=True)
class Health(Configured):
    """The settings of one health directive. lameduck: seconds."""

    address: str = DEFAULT_ADDRESS
    lameduck: float = 0.0

    def explain(self) -> str:
        return f"http://{self.address}/health; lameduck {self.lameduck:g} s"

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.route(self.address, "/health", lambda: OK)
        parts.linger(self.lameduck)
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Health:
    """See configured.Parse."""
    settings = Health()
    for arg in values.at_most(directive, 1):
        settings.address = str(values.listen_address(arg))

    def lameduck(option: Directive) -> None:
        settings.lameduck = values.duration(values.exactly(option, 1)[0])

    read_options(directive, {"lameduck": lameduck})
    return settings
