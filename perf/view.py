"""The session as it goes, on a terminal: progress, and a table that fills."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from perf.metrics import CPU, P99, QPS
from perf.plan import Cell
from perf.record import Key, Run
from perf.stats import summary

_FORMS = ("{} q/s", "CPU {}", "p99 {}")
_SHOWN = 8
"""Rows of the table while it is live: terminals are not endless. All are printed at the end."""


class View:
    """A watcher of a session that shows it; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: dict[tuple[Key, str], list[Run]] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4)

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
        if self._runs:
            self._console.print(self.table())

    def begin(self, runs: int) -> None:
        """See Watcher."""
        self._progress.update(self._task, total=runs)
        self.note(f"{runs} runs")

    def note(self, text: str) -> None:
        """See Watcher."""
        self._console.print(text, style="dim", markup=False, highlight=False)

    def running(self, subject: str, cell: Cell, number: int) -> None:
        """See Watcher."""
        words = f"{subject} {Key(*cell)} round {number + 1}"
        self._progress.update(self._task, description=words)

    def done(self, run: Run) -> None:
        """See Watcher."""
        self._runs.setdefault((run.key, run.subject), []).append(run)
        self._progress.advance(self._task)
        if not self._console.is_terminal:
            words = f"{run.key} {run.subject} {run.repetition + 1}: {_short([run], ' · ')}"
            self._console.print(words, markup=False, highlight=False)

    def passed(self) -> None:
        """See Watcher."""
        self._progress.advance(self._task)

    def table(self, last: int | None = None) -> Table:
        """What was measured so far, medians of the rounds; of the `last` keys only, if given."""
        keys = list(dict.fromkeys(key for key, _ in self._runs))
        subjects = list(dict.fromkeys(subject for _, subject in self._runs))
        made = Table("medians, times in µs", show_lines=True)
        for subject in subjects:
            made.add_column(subject, justify="right")
        for key in keys if last is None else keys[-last:]:
            cells = (self._runs.get((key, subject)) for subject in subjects)
            made.add_row(str(key), *(_short(runs, "\n") if runs else "" for runs in cells))
        return made

    def _draw(self) -> Group:
        return Group(self.table(_SHOWN), self._progress) if self._runs else Group(self._progress)


def _short(runs: list[Run], separator: str) -> str:
    figures = [run.figures for run in runs]
    middles = [(m, summary([m.get(f) for f in figures]).median) for m in (QPS, CPU, P99)]
    shown = [form.format(m.text(x)) for (m, x), form in zip(middles, _FORMS, strict=True)]
    troubles = {
        "lost": sum(f.load.lost for f in figures),
        "wrong": sum(f.load.wrong for f in figures),
    }
    if runs[0].subject == "echo":
        troubles.pop("wrong")  # it knows no answers
    return separator.join([*shown, *(f"{n:,} {what}" for what, n in troubles.items() if n)])
