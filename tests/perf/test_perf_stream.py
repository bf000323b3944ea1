"""Frames leave a connection whole and in order, however little of them it takes at a time."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perf.model import Query
from perf.ring import Ring, lay_out
from perf.stream import TcpLane

BIG = Query(bytes(60_000), None)
SMALL = Query(bytes(12), None)


@contextmanager
def connected(ring: Ring) -> Iterator[tuple[TcpLane, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        lane = TcpLane("127.0.0.1", server.getsockname()[1], ring)
        try:
            peer, _ = server.accept()
            with peer:
                yield lane, peer
        finally:
            lane.close()


def test_a_query_sent_in_part_is_counted_once_and_its_rest_goes_before_the_next() -> None:
    (ring,) = lay_out([BIG], seed=1, wanted=400)
    sent, got = 0, bytearray()
    with connected(ring) as (lane, peer):
        while taken := lane.push(sent, 400):
            sent += taken
        assert 0 < sent < 400
        assert lane.owes
        while len(got) < ring.offsets[sent]:
            lane.pull()
            got += peer.recv(1 << 20)
        assert lane.push(0, 1) == 1
    assert bytes(got) == ring.frames[: ring.offsets[sent]]


def test_answers_are_cut_out_of_the_stream_and_what_is_too_short_is_left_out() -> None:
    (ring,) = lay_out([SMALL], seed=1, wanted=4)
    with connected(ring) as (lane, peer):
        assert lane.push(1, 3) == 2
        asked = peer.recv(28, socket.MSG_WAITALL)
        peer.sendall(b"\0\2hi" + asked[:20])
        answers = [read(lane)]
        peer.sendall(asked[20:])
        answers.append(read(lane))
    assert answers == [([1], [bytes(10)]), ([2], [bytes(10)])]


def read(lane: TcpLane) -> tuple[list[int], list[bytes]]:
    """The next answers, whenever loopback delivers them."""
    ids: list[int] = []
    bodies: list[bytes] = []
    while not ids:
        more, answers = lane.pull()
        ids.extend(more)
        bodies.extend(answers)
    return ids, bodies


def test_a_connection_that_the_server_closes_is_lost_and_can_be_opened_anew() -> None:
    (ring,) = lay_out([SMALL], seed=1, wanted=4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        lane = TcpLane("127.0.0.1", server.getsockname()[1], ring)
        server.accept()[0].close()
        with pytest.raises(ConnectionResetError, match="the server closed the connection"):
            read(lane)
        lane.reopen()
        peer, _ = server.accept()
        with peer:
            lane.push(0, 1)
            assert peer.recv(14, socket.MSG_WAITALL) == ring.frames[:14]
        lane.close()


def test_a_server_that_takes_no_connection_is_an_error() -> None:
    (ring,) = lay_out([SMALL], seed=1, wanted=4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        TcpLane("127.0.0.1", port, ring)
