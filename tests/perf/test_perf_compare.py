"""Comparing records: ratios to a peer are judged, times never; and records survive being saved."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from perf.compare import Verdict, main, verdicts
from perf.metrics import CPU, P99, QPS, RSS
from perf.record import Record, RecordError, load, save, thinned
from tests.perf.builders import FAST, PACED, record

KNOT = [4.0, 4.1, 3.9, 4.0, 4.2, 4.1]
KDNS = [5.0, 5.1, 4.9, 5.0, 5.2, 5.1]


def cpu(old: Record, new: Record) -> Verdict:
    return next(v for v in verdicts(old, new) if v.metric is CPU)


def scaled(values: list[float], factor: float) -> list[float]:
    return [value * factor for value in values]


def test_costing_more_beside_the_peer_is_worse() -> None:
    old = record({"kdns": KDNS, "knot": KNOT})
    new = record({"kdns": scaled(KDNS, 1.2), "knot": KNOT})
    found = cpu(old, new)
    assert (found.text, found.worse, found.peer) == ("worse", True, "knot")
    assert found.ratio.median == pytest.approx(1.2)
    assert cpu(new, old).text == "better"


def test_a_slower_machine_changes_nothing() -> None:
    old = record({"kdns": KDNS, "knot": KNOT})
    new = record({"kdns": scaled(KDNS, 3), "knot": scaled(KNOT, 3)})
    assert cpu(old, new).text == "no difference beyond noise"
    assert not any(v.worse for v in verdicts(old, new))


def test_a_difference_that_not_every_round_shows_is_noise() -> None:
    old = record({"kdns": KDNS, "knot": KNOT})
    new = record({"kdns": [*scaled(KDNS[:4], 1.2), *scaled(KDNS[4:], 0.9)], "knot": KNOT})
    assert cpu(old, new).text == "no difference beyond noise"


def test_few_rounds_judge_nothing() -> None:
    old = record({"kdns": KDNS[:3], "knot": KNOT[:3]})
    new = record({"kdns": scaled(KDNS[:3], 2), "knot": KNOT[:3]})
    assert cpu(old, new).text == "too few runs"
    assert not cpu(old, new).worse


def test_the_first_peer_that_both_records_have_is_the_measure() -> None:
    old = record({"kdns": KDNS, "knot": KNOT, "unbound": KNOT})
    new = record({"kdns": KDNS, "unbound": KNOT})
    assert {v.peer for v in verdicts(old, new)} == {"unbound"}


def test_rates_are_judged_as_fast_as_it_goes_and_latency_at_a_given_rate() -> None:
    made = record({"kdns": KDNS, "knot": KNOT})
    found = {(v.key, v.metric) for v in verdicts(made, made)}
    assert found == {(k, m) for k, m in zip([FAST] * 3, (CPU, QPS, RSS), strict=True)} | {
        (PACED, m) for m in (CPU, P99, RSS)
    }


def test_without_a_common_peer_there_is_no_verdict() -> None:
    alone = record({"kdns": KDNS})
    assert not list(verdicts(alone, alone))


@pytest.mark.parametrize(
    ("new", "status"),
    [
        ({"kdns": KDNS, "knot": KNOT}, 0),
        ({"kdns": scaled(KDNS, 1.5), "knot": KNOT}, 1),
        ({"kdns": KDNS}, 2),
    ],
)
def test_the_exit_status_says_whether_something_became_worse(
    new: dict[str, list[float]], status: int, tmp_path: Path
) -> None:
    save(record({"kdns": KDNS, "knot": KNOT}), tmp_path / "old.json")
    save(record(new), tmp_path / "new.json")
    said = io.StringIO()
    console = Console(file=said, width=150)
    assert main(tmp_path / "old.json", tmp_path / "new.json", console) == status
    assert ("worse" in said.getvalue()) == (status < 2)


def test_a_saved_record_is_read_back(tmp_path: Path) -> None:
    made = record({"kdns": KDNS, "knot": KNOT})
    save(made, tmp_path / "a.json")
    found = load(tmp_path / "a.json")
    save(found, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert found.keys == made.keys
    assert found.settings == made.settings
    assert [r.figures.cpu for r in found.runs] == [r.figures.cpu for r in made.runs]


def test_a_record_names_no_path_and_no_host(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save(record({"kdns": KDNS}), path)
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"made": 3}'])
def test_what_is_no_record_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"x\.json: expected a record"):
        load(tmp_path / "x.json")
    with pytest.raises(RecordError, match=r"none\.json"):
        load(tmp_path / "none.json")


def test_a_thinned_histogram_keeps_its_counts_and_bounds_that_it_had() -> None:
    full = [(bound, bound % 7 + 1) for bound in range(1, 5_000, 3)]
    thin = thinned(full)
    assert sum(count for _, count in thin) == sum(count for _, count in full)
    assert set(dict(thin)) <= set(dict(full))
    assert thin[-1][0] == full[-1][0]
    assert len(thin) <= 4 * 13
    assert thinned(thin) == thin
