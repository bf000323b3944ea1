"""debug: says that debug lines are wanted."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import debug
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


def test_its_block_says_that_debug_lines_are_wanted() -> None:
    parts = FakeParts()
    assert settings(debug.parse, "debug").build(parts, refuse) is refuse
    assert parts.block.debug


def test_it_explains_itself() -> None:
    assert "debug lines" in settings(debug.parse, "debug").explain()


@pytest.mark.parametrize("text", ["debug on", "debug {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: debug"):
        settings(debug.parse, text)
