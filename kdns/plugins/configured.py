"""A directive of one server block, read and understood, before anything is built from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.parts import Parts


class Configured(ABC):
    """What a directive's `parse` returns: settings, and how to put them to work."""

    @abstractmethod
    def explain(self) -> str:
        """One line for people: what these settings do."""

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, though it is no error."""
        return ()

    @abstractmethod
    def build(self, parts: Parts, following: Handler) -> Handler:
        """The handler that stands before `following`; or `following`, if it does nothing per query.

        Raises CorefileError for what only shows when it is built.
        """


Parse = Callable[[Directive, tuple[str, ...]], Configured]
"""(directive, zones of its block) to settings. Raises CorefileError."""


@dataclass(slots=True, frozen=True)
class Plugin:
    """One entry of the directive table, and what an entry point of `kdns.plugins` names.

    before: where a third party's directive stands in the order: before the one of this name;
    None is before all.
    """

    name: str
    parse: Parse
    repeatable: bool = False
    before: str | None = None


def read_options(directive: Directive, known: dict[str, Callable[[Directive], object]]) -> None:
    """Give each line of the directive's block to its parser. Raises CorefileError.

    No option has a block of its own.
    """
    for option in directive.block or ():
        parser = known.get(option.name)
        if parser is None:
            expected = ", ".join(sorted(known)) or "none"
            raise CorefileError.at(
                option, f"{directive.name}: unknown option {option.name!r}; expected {expected}"
            )
        parser(option)
        values.without_block(option)
