"""bufsize: bounds UDP replies."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import bufsize
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    ("text", "size"), [("bufsize", 1232), ("bufsize 512", 512), ("bufsize 4096", 4096)]
)
def test_the_size_is_the_blocks_limit_and_what_its_opt_offers(text: str, size: int) -> None:
    parts = FakeParts()
    configured = settings(bufsize.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert (parts.block.udp_limit, parts.block.udp_size) == (size, size)
    assert configured.explain() == f"UDP replies of at most {size} octets"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bufsize 511", r"^Corefile:2: expected a number from 512 to 4096, got '511'"),
        ("bufsize 4097", r"^Corefile:2: expected a number from 512 to 4096, got '4097'"),
        ("bufsize big", r"^Corefile:2: expected a number"),
        ("bufsize 512 512", r"^Corefile:2: bufsize: expected at most 1 argument, got 2"),
        ("bufsize {\n}", r"^Corefile:2: bufsize: expected no block"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(bufsize.parse, text)
