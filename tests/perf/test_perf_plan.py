"""The plan: subjects in turn, round by round; new servers for names that are asked once."""

from dataclasses import replace

import pytest

from perf.__main__ import _parser as parser
from perf.__main__ import settings_of
from perf.plan import (
    HEADLINE,
    SUBJECTS,
    SWEPT,
    Settings,
    cells,
    count_of,
    full,
    length,
    quick,
    seconds_of,
    stages,
)
from perf.run import Cores
from perf.workloads import SHAPES, SPECS


def settings(*workloads: str, **changes: object) -> Settings:
    made = Settings(workloads, ("a", "b"), transports=("udp",), repeat=3)
    return replace(made, **changes)  # type: ignore[arg-type]  # each test says what it changes


def test_subjects_take_turns_in_every_round() -> None:
    (stage,) = stages(settings("search"))
    order = [(cell.mode, number, subject) for cell, number, subject in stage.order(["a", "b"])]
    turns = [(number, subject) for number in range(3) for subject in ("a", "b")]
    assert order == [("max", *t) for t in turns] + [("open", *t) for t in turns]


def test_everything_is_planned_just_once() -> None:
    made = full()
    order = [
        (cell, number, subject)
        for stage in stages(made)
        for cell, number, subject in stage.order(made.subjects)
    ]
    assert len(order) == len(set(order))
    planned = {cell for cell, _, _ in order}
    assert planned == {cell for name in SPECS for cell in cells(made, name)}
    assert len(order) == len(planned) * made.repeat * len(SUBJECTS)
    assert length(made, made.subjects) == sum(made.measures(s, c.workload) for c, _, s in order)


def test_what_is_no_headline_is_asked_over_udp_of_kdns_and_the_peer_that_tells_most() -> None:
    made = full()
    assert {cell.transport for cell in cells(made, "srv")} == {"udp"}
    assert [s for s in SUBJECTS if made.measures(s, "srv")] == ["kdns", "knot"]
    assert [s for s in SUBJECTS if made.measures(s, "forward-hit")] == [
        "kdns",
        "coredns",
        "unbound",
    ]


@pytest.mark.parametrize("name", HEADLINE)
def test_headlines_are_asked_of_everybody_over_everything(name: str) -> None:
    made = full()
    assert {cell.transport for cell in cells(made, name)} == {"udp", "tcp"}
    assert all(made.measures(subject, name) for subject in SUBJECTS)


@pytest.mark.parametrize("words", ["--workload srv", "--subject knot", "--transport udp"])
def test_who_says_what_is_to_be_measured_gets_all_of_it(words: str) -> None:
    assert not settings_of(parser().parse_args(words.split())).focused


def test_servers_are_asked_once_for_names_that_must_be_new_to_them() -> None:
    found = stages(settings("cold", "cluster", "forward-miss"))
    alone = [stage for stage in found if any(SPECS[c.workload].once for c in stage.cells)]
    assert [(len(s.cells), len(s.rounds)) for s in alone] == [(1, 1)] * 6
    assert sorted(s.rounds[0] for s in alone if s.cells[0].workload == "cold") == [0, 1, 2]


def test_who_asks_once_has_a_given_rate() -> None:
    assert [cell.mode for cell in cells(settings("cold"), "cold")] == ["open"]


def test_a_stage_has_one_cluster() -> None:
    for stage in stages(full()):
        assert {SPECS[cell.workload].shape for cell in stage.cells} == {stage.shape}


def test_only_swept_workloads_over_udp_have_many_rates() -> None:
    made = full()
    for name in SPECS:
        rates = [(c.transport, c.rate) for c in cells(made, name) if c.mode == "open"]
        assert ("udp", made.rate) in rates
        assert (len([r for t, r in rates if t == "udp"]) > 1) == (name in SWEPT)


def test_a_run_is_short_enough_for_the_names_there_are() -> None:
    made = settings("cold", seconds=60.0)
    (cell,) = cells(made, "cold")
    most = SHAPES["100k"].services
    assert seconds_of(made, cell) == pytest.approx(most / made.rate)
    assert count_of(made, cell) <= most + 1
    (forwarded,) = cells(made, "forward-miss")
    assert seconds_of(made, forwarded) == 60.0


def test_quick_asks_less() -> None:
    assert set(quick().workloads) < set(full().workloads)
    assert quick().seconds < full().seconds


@pytest.mark.parametrize("made", [quick(), full()])
def test_there_are_rounds_enough_to_tell_a_difference_from_noise(made: Settings) -> None:
    assert made.repeat >= 6


def test_the_command_line_narrows_what_is_measured() -> None:
    words = "--workload srv --workload ptr --subject kdns --transport tcp --rate 500 --seconds 0.5"
    rest = "--repeat 2 --seed 9 --cpu-share 25%"
    made = settings_of(parser().parse_args([*words.split(), *rest.split()]))
    assert made == Settings(
        ("srv", "ptr"),
        ("kdns",),
        transports=("tcp",),
        seconds=0.5,
        rate=500.0,
        repeat=2,
        seed=9,
        cpu_share=25,
    )


@pytest.mark.parametrize(
    "words",
    [
        "--workload nothing",
        "--rate 0",
        "--rate nan",
        "--repeat 0",
        "--cpu-share 101",
        "--seconds x",
    ],
)
def test_what_makes_no_sense_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words.split())
    assert caught.value.code == 2
    assert words.split(maxsplit=1)[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "server", "helpers", "generator", "apart"),
    [
        ([0, 1, 2, 3], 0, 2, 3, True),
        ([4, 6], 4, 6, 6, False),
        ([5], 5, 5, 5, False),
    ],
)
def test_cores_are_shared_out(
    given: list[int], server: int, helpers: int, generator: int, *, apart: bool
) -> None:
    cores = Cores.of(given)
    assert (cores.server, cores.helpers, cores.generator) == (server, helpers, generator)
    assert cores.apart is apart
    assert cores.alone is (len(given) > 1)
    assert ("share" in str(cores)) is (len(given) == 1)
