"""Runs of faults: what changes, what counts as good, and one of them for real."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdns.cluster.objects import Resource
from kdns.testing.apiserver import ApiServer
from perf.answers import matches
from perf.cluster import Shape, generate
from perf.fault_run import Outcome, Probes, main, run_fault, table
from perf.faults import FAULTS, odd_objects

GOOD = Outcome("cut", "connections are cut", 1_000, 0, 0, 1_500.0, 0.25, 3, 0, 0.5)


def test_faults_are_told_apart_by_their_names() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "worse",
    [{"lost": 1}, {"wrong": 1}, {"settled": None}, {"sent": 0}],
    ids=lambda w: next(iter(w)),
)
def test_a_run_is_good_when_nothing_was_lost_or_wrong_and_all_came_right(
    worse: dict[str, int | None],
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


def test_a_name_that_is_no_fault_is_said_with_those_that_are(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    assert main(["quake"], None, tmp_path, console) == 2
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
    cluster = generate(Shape(services=20, namespaces=2, headless=((2, 2),), abroad=20), 1)
    odd = next(fault for fault in FAULTS if fault.name == "odd")
    outcome = await run_fault(odd, cluster, tmp_path, scale=0.001, rate=2_000.0)
    assert (outcome.name, outcome.wrong, outcome.healed) == ("odd", 0, 0)
    assert outcome.sent > 0
    assert outcome.settled is not None
    assert outcome.lists == 3
