"""Whether two workers answer twice what one does."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from perf.scale import Scaled, answering, table
from perf.server import NotServing


def proc_of(root: Path, parents: dict[int, int]) -> Path:
    for pid, parent in parents.items():
        folder = root / str(pid)
        folder.mkdir()
        rest = " ".join("0" for _ in range(30))
        (folder / "stat").write_text(f"{pid} (python) S {parent} {rest}")
    return root


def test_a_process_alone_answers_itself(tmp_path: Path) -> None:
    assert answering([7], 1, proc_of(tmp_path, {7: 1})) == [7]


def test_of_several_generations_the_youngest_answers(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, {7: 1, 8: 7, 9: 8, 10: 8})
    assert answering([7, 8, 9, 10], 2, proc) == [9, 10]


def test_a_worker_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotServing, match="1 processes that answer; expected 2"):
        answering([7, 8], 2, proc_of(tmp_path, {7: 1, 8: 7}))


def test_the_table_has_medians_and_the_ratio_to_one_worker() -> None:
    runs = {
        1: [Scaled(1, qps, 4.0, 0, 0, (1.0,)) for qps in (90.0, 100.0, 400.0)],
        2: [Scaled(2, qps, 4.0, 1, 0, (0.4, 0.6)) for qps in (180.0, 190.0, 10.0)],
    }
    out = io.StringIO()
    Console(file=out, width=100).print(table(runs, 10))
    assert "1.80" in out.getvalue()
    assert "40% 60%" in out.getvalue()
