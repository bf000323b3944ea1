"""What became of runs of faults: rows as soon as they are known, a record, and a page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perf.measure import Machine
from perf.page import facts_of, page


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run; None for what was not known when it failed.

    sent, lost, wrong: questions about what did not change. p99: µs, of the worst load of the run.
    settled: seconds from the end of the fault until all answers were right; None for never.
    lists: how often everything was listed. healed: objects that audits found wrong. ready: seconds
    from the start of kdns to its first right answer, of the last start. why: what failed, if so.
    """

    name: str
    about: str
    sent: int = 0
    lost: int = 0
    wrong: int = 0
    p99: float | None = None
    settled: float | None = None
    lists: int | None = None
    healed: int | None = None
    ready: float | None = None
    why: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong or lost, and the end was the right one."""
        whole = not self.why and self.settled is not None and self.sent > 0
        return whole and not self.lost and not self.wrong


@dataclass(frozen=True, slots=True)
class Result:
    """The runs that came to an end, in their order, of those that were meant to be done.

    rate: questions a second.
    """

    made: Machine
    rate: float
    meant: int
    outcomes: Sequence[Outcome]


_HEADINGS = ("asked", "lost", "wrong", "p99 ms", "right after s", "lists", "healed", "start s")


def table(outcomes: Sequence[Outcome]) -> Table:
    """What became of the runs, for people: red is what did not go well, and why."""
    made = Table(title="Faults of the API server", title_justify="left")
    made.add_column("fault", no_wrap=True)
    for heading in _HEADINGS:
        made.add_column(heading, justify="right")
    for each in outcomes:
        made.add_row(each.name, *figures(each), style=None if each.is_good else "red")
    # Below, for a terminal of 80 columns has no room for a column of sentences; and as text, for
    # what a server said last may look like markup.
    reasons = [f"{each.name} failed: {each.why}" for each in outcomes if each.why]
    made.caption = Text("\n".join(reasons), style="red") if reasons else None
    made.caption_justify = "left"
    return made


def figures(outcome: Outcome) -> tuple[str, ...]:
    """What was counted, as `_HEADINGS` name it; empty where it is not known."""
    never = "" if outcome.why else "never"
    counts = [f"{count:,}" for count in (outcome.sent, outcome.lost, outcome.wrong)]
    return (
        *(("", "", "") if outcome.p99 is None else counts),
        "" if outcome.p99 is None else f"{outcome.p99 / 1000:.1f}",
        never if outcome.settled is None else f"{outcome.settled:.1f}",
        "" if outcome.lists is None else str(outcome.lists),
        "" if outcome.healed is None else str(outcome.healed),
        "" if outcome.ready is None else f"{outcome.ready:.2f}",
    )


def line(outcome: Outcome) -> str:
    """The same in a line, for who reads a file or a pipe."""
    named = zip(_HEADINGS, figures(outcome), strict=True)
    shown = ", ".join(f"{heading} {figure}" for heading, figure in named if figure)
    if not outcome.why:
        return f"{outcome.name}: {shown}"
    return f"{outcome.name} failed: {outcome.why}{f' ({shown})' if shown else ''}"


def troubles(result: Result) -> Iterator[str]:
    """What is not as it should be, in a line each."""
    for each in result.outcomes:
        if not each.is_good:
            yield line(each)
    if (missing := result.meant - len(result.outcomes)) > 0:
        yield f"{missing} of {result.meant} faults were not played to their end"


def save(result: Result, json: Path | None, html: Path | None) -> None:
    """Write it, as a record and as a page. Raises OSError."""
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    if html is not None:
        html.write_text(render(result), encoding="utf-8")


def render(result: Result) -> str:
    """The page."""
    played = Table("fault", "what happens", title="What was played", title_justify="left")
    for each in result.outcomes:
        played.add_row(each.name, each.about)
    facts = facts_of(result.made) | {
        "asked": f"{result.rate:,.0f} questions a second, about what does not change"
    }
    return page(
        "Answers while the API server misbehaves",
        "Lost and wrong answers during each fault, and how soon all is right after it.",
        facts,
        {},
        (table(result.outcomes), played),
        troubles(result),
    )


class View:
    """Shows runs as they end: a table that fills on a terminal, else a line for each.

    A context manager; at its end, however it comes, the table of all that is known is printed.
    """

    def __init__(self, console: Console) -> None:
        self.outcomes: list[Outcome] = []
        self._console = console
        self._now: tuple[str, float] | None = None
        self._live = Live(
            get_renderable=self.__rich__, console=console, refresh_per_second=1, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self.outcomes:
            self._console.print(table(self.outcomes))

    def begin(self, name: str, about: str) -> None:
        """A run begins."""
        self._now = f"{name}: {about}", time.monotonic()
        if not self._console.is_terminal:
            self._print(f"{name}: {about}", "dim")

    def end(self, outcome: Outcome) -> None:
        """It has ended."""
        self.outcomes.append(outcome)
        self._now = None
        if not self._console.is_terminal:
            self._print(line(outcome), None if outcome.is_good else "red")

    def _print(self, text: str, style: str | None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        parts: list[Table | Text] = [table(self.outcomes)] if self.outcomes else []
        if self._now is not None:
            words, began = self._now
            parts.append(Text(f"{words} ({time.monotonic() - began:.0f} s)", style="dim"))
        return Group(*parts)
