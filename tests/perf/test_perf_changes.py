"""Change after change under load: what is asked of a run, and how it is judged and told."""

import io

import pytest
from rich.console import Console

from perf.__main__ import _given, _parser
from perf.changes import KINDS, Outcome, Terms, Trial, main, table
from perf.model import LoadResult
from perf.server import NotServing


def load(*, sent: int = 10, lost: int = 0, wrong: int = 0, reasked: int = 0) -> LoadResult:
    answered = sent - lost
    return LoadResult(
        sent, answered, lost, wrong, 1.0, 10.0, 100.0, 150.0, 900.0, 950.0, 1500.0, [], reasked
    )


@pytest.mark.parametrize(
    ("came", "well"),
    [
        (load(), True),
        (load(reasked=3), True),
        (load(lost=1), False),
        (load(wrong=1), False),
        (load(sent=0), False),
    ],
)
def test_it_went_well_when_every_question_was_answered_rightly(
    came: LoadResult, well: bool
) -> None:
    assert Outcome("udp", (0.5,), came).well is well


def test_the_table_tells_of_each_transport() -> None:
    written = io.StringIO()
    outcomes = [Outcome("udp", (0.5, 1.5), load()), Outcome("tcp", (), load(lost=2, reasked=4))]
    Console(file=written, width=120).print(table("restarts", Terms(), outcomes))
    rows = [line.split("│")[1:-1] for line in written.getvalue().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["udp", "10", "0", "0", "0", "0.9", "1.5", "1.00"],
        ["tcp", "10", "2", "0", "4", "0.9", "1.5", ""],
    ]


@pytest.mark.parametrize(
    ("lost", "status"),
    [(0, 0), (1, 1)],
)
def test_its_status_is_what_became_of_the_questions(
    monkeypatch: pytest.MonkeyPatch, lost: int, status: int
) -> None:
    class Done:
        def __init__(self, *_: object) -> None:
            """What is started elsewhere is not started here."""

        def run(self) -> Outcome:
            return Outcome("udp", (0.5,), load(lost=lost))

    monkeypatch.setattr("perf.changes.Trial", Done)
    assert main("reloads", Terms(), Console(file=io.StringIO())) == status


def test_a_server_that_does_not_answer_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Trial, *_: object) -> None:
        raise NotServing("ended before it answered")

    monkeypatch.setattr(Trial, "__init__", fail)
    written = io.StringIO()
    assert main("restarts", Terms(), Console(file=written)) == 1
    assert written.getvalue() == "ended before it answered\n"


@pytest.mark.parametrize("kind", KINDS)
def test_terms_are_said_on_the_command_line(kind: str) -> None:
    args = _parser().parse_args([kind, "--changes", "3", "--rate", "100", "--workers", "2"])
    assert (args.command, _given(Terms(), args)) == (kind, Terms(3, 100.0, 2))
