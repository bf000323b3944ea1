"""nsid: which server of many has answered."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import nsid
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    ("text", "said", "told"),
    [
        ("nsid", b"node-1", "NSID of the host"),
        ("nsid use-a", b"use-a", "NSID use-a"),
        ("nsid rack 7", b"rack 7", "NSID rack 7"),
    ],
)
def test_the_text_is_the_blocks(text: str, said: bytes, told: str) -> None:
    parts = FakeParts()
    configured = settings(nsid.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert parts.block.nsid == said
    assert configured.explain() == told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nsid {\n}", r"^Corefile:2: nsid: expected no block"),
        ("nsid " + "x" * 129, r"^Corefile:2: nsid: expected at most 128 octets, got 129"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(nsid.parse, text)
