"""Framing on streams: what was framed comes out whole, however the stream was cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.wire.framing import MAX_MESSAGE, Splitter, frame


def split(chunks: list[bytes]) -> list[bytes]:
    splitter = Splitter()
    messages = []
    for chunk in chunks:
        splitter.feed(chunk)
        while (message := splitter.take()) is not None:
            messages.append(message)
    return messages


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(stream) + 1) for p in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.binary(max_size=600), max_size=8), st.lists(st.integers(0, 10_000)))
def test_any_split_of_a_stream_frames_alike(messages: list[bytes], places: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    assert split(cut(stream, places)) == messages


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000)))
def test_any_bytes_frame_alike_whole_or_cut(stream: bytes, places: list[int]) -> None:
    assert split(cut(stream, places)) == split([stream])


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_one_octet_at_a_time_frames_alike(messages: list[bytes]) -> None:
    stream = b"".join(map(frame, messages))
    assert split([bytes([octet]) for octet in stream]) == messages


def test_the_length_is_two_octets_in_network_order() -> None:
    assert frame(b"a" * 258) == b"\x01\x02" + b"a" * 258
    assert frame(b"") == b"\x00\x00"


def test_the_longest_message_passes_and_one_octet_more_is_refused() -> None:
    longest = bytes(MAX_MESSAGE)
    assert split([frame(longest)]) == [longest]
    with pytest.raises(ValueError, match="65536 octets: expected at most 65535"):
        frame(longest + b"x")


def test_an_unfinished_message_stays_until_its_last_octet() -> None:
    splitter = Splitter()
    splitter.feed(b"\x00\x03ab")
    assert splitter.take() is None
    assert not splitter.ready
    assert len(splitter) == 4
    splitter.feed(b"c\x00")
    assert splitter.take() == b"abc"
    assert len(splitter) == 1
