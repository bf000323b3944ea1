"""Runs of faults: what changes, what counts as good, and one of them for real."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from kdns.cluster.objects import Resource
from kdns.testing.apiserver import ApiServer
from perf import fault_run
from perf.answers import matches
from perf.cluster import Shape, generate
from perf.fault_report import Outcome, Result, View, line, render, table
from perf.fault_run import INTERRUPTED, Probes, main, run_fault
from perf.faults import FAULTS, Fault, Stage, odd_objects
from perf.measure import Machine
from perf.server import NotServing

Played: TypeAlias = Callable[[Fault], Coroutine[None, None, Outcome]]

SMALL = generate(Shape(services=20, namespaces=2, headless=((2, 2),), abroad=20), 1)
GOOD = Outcome("cut", "connections are cut", 1_000, 0, 0, 1_500.0, 0.25, 3, 0, 0.5)


def test_faults_are_told_apart_by_their_names() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "worse",
    [{"lost": 1}, {"wrong": 1}, {"settled": None}, {"sent": 0}, {"why": "it ended"}],
    ids=lambda w: next(iter(w)),
)
def test_a_run_is_good_when_nothing_was_lost_or_wrong_and_all_came_right(
    worse: dict[str, int | str | None],
) -> None:
    assert GOOD.is_good
    assert not replace(GOOD, **worse).is_good  # type: ignore[arg-type]


def test_a_table_has_a_row_for_each_run() -> None:
    console = Console(width=100, record=True, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(table([GOOD, replace(GOOD, name="killed", lost=7, settled=None)]))
    rows = [line for line in captured.get().splitlines() if "│" in line]
    assert [cell.strip() for cell in rows[0].split("│")[1:-1]] == (
        ["cut", "1,000", "0", "0", "1.5", "0.2", "3", "0", "0.50"]
    )
    assert [cell.strip() for cell in rows[1].split("│")[1:-1]] == (
        ["killed", "1,000", "7", "0", "1.5", "never", "3", "0", "0.50"]
    )


def test_a_run_that_failed_is_a_red_row_that_says_why() -> None:
    failed = Outcome("killed", "it is killed", why="ended before it answered: [Errno 98] in use")
    console = Console(width=80, file=StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(table([GOOD, failed]))
    row, reason = (line for line in captured.get().splitlines() if "killed" in line)
    assert "\x1b[31m" in row
    assert "\x1b[31m" in reason
    assert "killed failed: ended before it answered: [Errno 98] in use" in reason
    assert line(failed) == "killed failed: ended before it answered: [Errno 98] in use"


def test_a_name_that_is_no_fault_is_said_with_those_that_are(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    assert main(["quake"], None, None, tmp_path, console) == 2
    assert "no fault 'quake'; expected one of none, killed" in console.export_text()


@pytest.mark.parametrize("told", [True, False])
async def test_probes_expect_what_the_server_has(told: bool) -> None:
    async with ApiServer() as api:
        probes = Probes(api)
        for _ in range(5):
            probes.change(told=told)
        services = api.objects(Resource.SERVICES)
    addresses = {
        f"{name}.probes": obj["spec"]["clusterIP"]
        for name, obj in ((obj["metadata"]["name"], obj) for obj in services)
    }
    assert {name: there for name, there in probes.expected.items() if there} == addresses
    assert [name for name, there in probes.expected.items() if there is None] == [
        "p0.probes",
        "p1.probes",
        "p2.probes",
    ]


async def test_a_probes_question_knows_its_answer_from_others() -> None:
    async with ApiServer() as api:
        probes = Probes(api)
        probes.change(told=True)
        (asked,) = probes.questions()
    denied = bytearray(asked.wire)
    denied[2:4] = b"\x81\x83"  # a reply, NXDOMAIN
    assert not matches(asked, bytes(denied))


def test_odd_objects_have_null_for_each_list() -> None:
    assert str(odd_objects()).count("None") > 10


async def test_a_run_of_a_fault_counts_what_became_of_its_questions(tmp_path: Path) -> None:
    """The real program and the real generator, for a moment."""
    odd = next(fault for fault in FAULTS if fault.name == "odd")
    outcome = await run_fault(odd, SMALL, tmp_path, scale=0.001, rate=2_000.0)
    assert (outcome.name, outcome.wrong, outcome.healed) == ("odd", 0, 0)
    assert outcome.sent > 0
    assert outcome.settled is not None
    assert outcome.lists == 3


async def test_a_run_that_fails_says_why_with_what_is_known(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.asked()
        raise NotServing("it ended")

    outcome = await run_fault(
        Fault("bad", "kdns ends", 5, act), SMALL, tmp_path, scale=0.001, rate=2_000.0
    )
    assert outcome.why == "it ended"
    assert outcome.sent > 0
    assert outcome.ready is not None
    assert outcome.settled is None


async def test_a_run_that_fails_as_nobody_thought_of_says_of_what_kind_it_is(
    tmp_path: Path,
) -> None:
    async def act(_stage: Stage) -> None:
        raise KeyError("nursery")

    outcome = await run_fault(Fault("bad", "a defect", 0.005, act), SMALL, tmp_path, scale=0.001)
    assert outcome.why == "KeyError: 'nursery'"


async def test_a_run_that_is_cancelled_leaves_no_load(tmp_path: Path) -> None:
    """The load would go on for an hour, and the test with it."""
    begun = asyncio.Event()

    async def act(_stage: Stage) -> None:
        begun.set()
        await asyncio.Event().wait()

    fault = Fault("long", "an hour of questions", 3_600_000, act)
    task = asyncio.create_task(run_fault(fault, SMALL, tmp_path, scale=0.001))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_run_that_is_cancelled_waits_for_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever right here, and for that a run has more than six minutes."""
    asked = threading.Event()

    def never(*_args: object) -> bool:
        asked.set()
        return False

    monkeypatch.setattr(fault_run, "_is_right", never)
    odd = next(fault for fault in FAULTS if fault.name == "odd")
    task = asyncio.create_task(run_fault(odd, SMALL, tmp_path, scale=0.001))
    await asyncio.to_thread(asked.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_default_executor()


def played(
    monkeypatch: pytest.MonkeyPatch, folder: Path, play: Played
) -> tuple[int, str, Result, str]:
    """Of all faults, played so: the status, what is shown, the record, and the page."""

    async def run(fault: Fault, *_more: object) -> Outcome:
        return await play(fault)

    monkeypatch.setattr(fault_run, "run_fault", run)
    console = Console(file=StringIO(), width=200, record=True)
    json, html = folder / "faults.json", folder / "faults.html"
    status = main([], json, html, folder, console)
    record = msgspec.json.decode(json.read_bytes(), type=Result)
    return status, console.export_text(), record, html.read_text()


def test_one_that_fails_ends_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def play(fault: Fault) -> Outcome:
        if fault.name == "cut":
            return Outcome(fault.name, fault.about, why="it ended")
        return replace(GOOD, name=fault.name)

    status, shown, record, page = played(monkeypatch, tmp_path, play)
    assert status == 1
    assert [each.name for each in record.outcomes] == [fault.name for fault in FAULTS]
    assert [each.why for each in record.outcomes if each.why] == ["it ended"]
    assert "cut failed: it ended" in shown
    assert '<tr class="bad"><td>cut</td>' in page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_known_is_kept_on_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    async def play(fault: Fault) -> Outcome:
        if fault.name == "cut":
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        return replace(GOOD, name=fault.name)

    status, shown, record, page = played(monkeypatch, tmp_path, play)
    assert status == INTERRUPTED
    assert [each.name for each in record.outcomes] == ["none", "killed", "restart"]
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("│")] == (
        ["none", "killed", "restart"]
    )
    assert "interrupted: what is known is kept" in shown
    assert "9 of 12 faults were not played to their end" in page


def test_rows_are_shown_as_they_are_known() -> None:
    written = StringIO()
    with View(Console(file=written, width=200)) as view:
        view.begin("cut", "connections are cut")
        assert written.getvalue() == "cut: connections are cut\n"
        view.end(GOOD)
        assert written.getvalue().splitlines()[1:] == [line(GOOD)]
    assert line(GOOD) == (
        "cut: asked 1,000, lost 0, wrong 0, p99 ms 1.5, right after s 0.2, lists 3, healed 0, "
        "start s 0.50"
    )


def test_a_terminal_has_a_table_that_fills() -> None:
    terminal = Console(file=StringIO(), width=100, force_terminal=True, _environ={})
    with View(terminal) as view:
        view.begin("none", "nothing happens")
        view.end(replace(GOOD, name="none"))
        view.begin("cut", "connections are cut")
        with terminal.capture() as captured:
            terminal.print(view)
    assert "none" in captured.get()
    assert "cut: connections are cut (0 s)" in captured.get()


def test_the_page_is_well_formed_and_has_what_happened() -> None:
    result = Result(Machine("Some CPU", 2, "Linux 6.1", "3.11.1"), 500.0, 1, [GOOD])
    made = render(result)
    ET.fromstring(made.removeprefix("<!DOCTYPE html>"))
    assert "connections are cut" in made
    assert 'class="bad"' not in made
