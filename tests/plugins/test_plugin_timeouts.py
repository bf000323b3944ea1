"""timeouts: what connections of clients are allowed."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import timeouts
from kdns.plugins.block import Timeouts
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("timeouts {\n read 5s\n}", Timeouts(read=5.0), "read 5 s"),
        ("timeouts {\n idle 1m\n write 10\n}", Timeouts(None, 10.0, 60.0), "write 10 s, idle 60 s"),
        ("timeouts {\n maxtcpqueries 128\n}", Timeouts(questions=128), "128 questions each"),
        ("timeouts {\n maxtcpqueries -1\n idle 2s\n}", Timeouts(idle=2.0), "idle 2 s"),
    ],
)
def test_a_block_has_what_the_directive_says(text: str, limits: Timeouts, said: str) -> None:
    parts = FakeParts()
    configured = settings(timeouts.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert parts.block.timeouts == limits
    assert configured.explain() == f"connections: {said}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeouts", r"^Corefile:2: timeouts without any; expected read, write or idle"),
        ("timeouts {\n}", r"^Corefile:2: timeouts without any"),
        ("timeouts 5s", r"^Corefile:2: timeouts: expected 0 arguments"),
        ("timeouts {\n read\n}", r"^Corefile:3: read: expected 1 argument"),
        ("timeouts {\n read 10ms\n}", r"^Corefile:3: .*'10ms'"),
        ("timeouts {\n idle 48h\n}", r"^Corefile:3: .*'48h'"),
        ("timeouts {\n maxtcpqueries 0\n}", r"^Corefile:3: .*'0'"),
        ("timeouts {\n patience 5s\n}", r"^Corefile:3: timeouts: unknown option 'patience'"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(timeouts.parse, text)
