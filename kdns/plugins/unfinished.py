"""reload: read and checked, so that Corefiles that have it are served."""

from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts


@dataclass(slots=True, frozen=True)
class WithoutEffect(Configured):
    """A directive that is understood, and does nothing yet."""

    name: str
    place: str
    consequence: str

    def explain(self) -> str:
        return f"not in effect yet: {self.consequence}"

    def warnings(self) -> tuple[str, ...]:
        return (f"{self.place}: {self.name} is not in effect yet: {self.consequence}",)

    def build(self, parts: Parts, following: Handler) -> Handler:
        return following


def parse_reload(directive: Directive, zones: tuple[str, ...]) -> WithoutEffect:
    """`reload [INTERVAL [JITTER]]` as CoreDNS has it."""
    values.without_block(directive)
    bounds = (2.0, 1.0)
    for arg, minimum in zip(values.at_most(directive, 2), bounds, strict=False):
        values.duration(arg, minimum=minimum)
    return WithoutEffect("reload", str(directive.place), "changes need a restart")
