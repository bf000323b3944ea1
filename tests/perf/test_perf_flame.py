"""Flame graphs name what was asked, and nothing of the machine."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from perf.flame import NotDrawn, draw, drawn, merged

STACKS = [
    "start (x.py:1);run (asyncio/runners.py:118);_on_readable (kdns/net/batch.py:1) 6",
    "start (x.py:1);run (asyncio/runners.py:118);_on_readable (kdns/net/batch.py:1);get (d.py:1) 3",
    "bootstrap (threading.py:1) 1",
]
SVG = "{http://www.w3.org/2000/svg}"


def test_what_is_above_the_loop_is_left_out_and_calls_are_summed_up() -> None:
    root = merged(STACKS)
    (ours, other) = root.called.values()
    assert (root.looks, ours.looks, other.looks) == (10, 9, 1)
    assert [frame.looks for frame in ours.called.values()] == [3]


def test_a_line_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="expected frames and a number"):
        merged(["main (a.py:1)"])


def test_a_frame_is_as_wide_as_its_share_and_stands_below_who_calls_it() -> None:
    picture = ET.fromstring(draw(merged(STACKS), "kdns: search/udp max"))
    found = {}
    for group in picture.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert rect is not None
        found[str(title.text).partition(" (")[0]] = (
            float(rect.get("width", 0)),
            float(rect.get("y", 0)),
        )
    assert found["_on_readable"][0] == 900
    assert found["get"][0] == 300
    assert found["get"][1] > found["_on_readable"][1]


def test_the_picture_has_its_title_and_no_script() -> None:
    svg = draw(merged(["a <b> (kdns/x.py:1) 1"]), "kdns: a & b")
    assert "kdns: a &amp; b" in svg
    assert "script" not in svg


def test_nothing_seen_is_an_empty_picture() -> None:
    assert "0 looks" in draw(merged([]), "nothing")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process IDs of Linux")
def test_a_process_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(NotDrawn, match="py-spy: "),
        drawn(4_194_304, tmp_path / "x.svg", 1, "nothing"),
    ):
        pass
