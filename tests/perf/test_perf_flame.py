"""Flame graphs name what was asked, and nothing of the machine."""

import sys
from pathlib import Path

import pytest

from perf.flame import NotDrawn, drawn, titled


def test_the_title_takes_the_place_of_the_command_line() -> None:
    svg = '<svg><text id="title" x="50%">py-spy record -o /home/me/x.svg</text><g>kept</g></svg>'
    expected = '<svg><text id="title" x="50%">kdns: search/udp max</text><g>kept</g></svg>'
    assert titled(svg, "kdns: search/udp max") == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process IDs of Linux")
def test_a_process_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(NotDrawn, match="py-spy: "),
        drawn(4_194_304, tmp_path / "x.svg", 1, "nothing"),
    ):
        pass
