"""ready: says over HTTP whether every directive that must know something first does know it."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import STOPPING, HttpReply, Parts

DEFAULT_ADDRESS = ":8181"
MODES = ("until-ready", "continuously")


@dataclass(slots=True)
class Ready(Configured):
    """The settings of one ready directive."""

    address: str = DEFAULT_ADDRESS
    monitor: str = "until-ready"

    def explain(self) -> str:
        return f"http://{self.address}/ready; {self.monitor}"

    def build(self, parts: Parts, following: Handler) -> Handler:
        latched = False

        def ready() -> HttpReply:
            nonlocal latched
            waiting = parts.unready()
            if self.monitor == "continuously":
                waiting += [f"{what} is outdated" for what in parts.outdated()]
            # Who was ready once stays so until the end, but a server that stops says so at once.
            if waiting and (not latched or STOPPING in waiting):
                return HttpReply(503, ",".join(waiting).encode())
            latched = self.monitor == "until-ready"
            return HttpReply(200, b"OK")

        parts.route(self.address, "/ready", ready)
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Ready:
    """See configured.Parse."""
    settings = Ready()
    for arg in values.at_most(directive, 1):
        settings.address = str(values.listen_address(arg))

    def monitor(option: Directive) -> None:
        (arg,) = values.exactly(option, 1)
        if arg.text not in MODES:
            raise CorefileError.at(arg, f"monitor: expected {' or '.join(MODES)}, got {arg.text!r}")
        settings.monitor = arg.text

    read_options(directive, {"monitor": monitor})
    return settings
