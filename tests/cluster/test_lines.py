"""A stream gives the same lines however it is chopped, and none beyond the limit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.errors import ObjectError
from kdns.cluster.lines import LineSplitter


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9)), st.integers(min_value=1, max_value=7))
def test_any_chop_of_a_stream_gives_the_same_lines(lines: list[bytes], size: int) -> None:
    stream = b"".join(text.replace(b"\n", b"") + b"\n" for text in lines)
    splitter = LineSplitter(64)
    chopped: list[bytes] = []
    for start in range(0, len(stream), size):
        chopped += splitter.feed(stream[start : start + size])
    assert chopped == LineSplitter(64).feed(stream) == stream.split(b"\n")[:-1]
    assert not splitter.unfinished


def test_a_line_beyond_the_limit_is_refused_whole_or_in_parts() -> None:
    with pytest.raises(ObjectError, match="longer than 3 bytes"):
        LineSplitter(3).feed(b"1234\n")
    with pytest.raises(ObjectError, match="longer than 3 bytes"):
        LineSplitter(3).feed(b"1\n1234")
    splitter = LineSplitter(3)
    splitter.feed(b"12")
    assert splitter.unfinished
    with pytest.raises(ObjectError, match="longer than 3 bytes"):
        splitter.feed(b"34")
