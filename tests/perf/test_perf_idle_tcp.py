"""Connections that do nothing, and how what they cost is told."""

import os
import socket
from collections.abc import Iterator

import pytest
from rich.console import Console

from perf.__main__ import _given, _parser
from perf.idle_tcp import Half, Round, Terms, idlers, table
from perf.idlers import IdleSpec, Trickle, open_one, run, still_open
from perf.model import LoadResult
from perf.overload import Terms as Overload
from perf.run import LoadFailed

QUESTION = b"\0\x0c" + bytes(12)


def load(p99: float) -> LoadResult:
    return LoadResult(10, 10, 0, 0, 1.0, 10.0, 100.0, 150.0, p99, p99, p99, [])


@pytest.fixture
def port() -> Iterator[int]:
    """A server that accepts, and keeps what it accepted."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        yield sock.getsockname()[1]


def test_as_many_as_were_asked_for_are_open_and_stay(port: int) -> None:
    told, tell = os.pipe()
    os.close(tell)
    assert list(run(IdleSpec("127.0.0.1", port, 5, QUESTION), told)) == [5, 5]
    os.close(told)


def test_one_that_the_server_has_closed_is_not_open() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(2)
        opened = [open_one(*sock.getsockname()) for _ in range(2)]
        first, _ = sock.accept()
        first.close()
        opened[0].recv(1)  # the end, which is there by now
        assert still_open(opened) == 1
        for each in opened:
            each.close()


def test_a_question_comes_octet_by_octet_and_over_a_new_connection_when_one_is_gone() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(2)
        trickle = Trickle("127.0.0.1", sock.getsockname()[1], QUESTION)
        trickle.send()
        trickle.send()
        first, _ = sock.accept()
        assert first.recv(2, socket.MSG_WAITALL) == QUESTION[:2]
        trickle.close()
        trickle.send()
        second, _ = sock.accept()
        assert second.recv(2) == QUESTION[:1]
        for each in (first, second):
            each.close()
        trickle.close()


def test_a_process_holds_them_and_counts_them_at_the_end(port: int) -> None:
    with idlers(IdleSpec("127.0.0.1", port, 3, QUESTION), min(os.sched_getaffinity(0))) as counts:
        assert [next(counts), next(counts)] == [3, 3]


def test_where_nobody_listens_that_is_said() -> None:
    spec = IdleSpec("127.0.0.1", 1, 3, QUESTION)
    with (
        pytest.raises(LoadFailed, match="idlers: "),
        idlers(spec, min(os.sched_getaffinity(0))) as counts,
    ):
        next(counts)


def test_the_table_ends_with_the_median_of_the_ratios() -> None:
    rounds = [Round(Half(load(100.0), 5.0), Half(load(p99), 5.0), 9, 8) for p99 in (90, 120, 400)]
    console = Console(width=120, record=True)
    console.print(table(Terms(), rounds))
    assert "1.20, the median of 3 rounds" in console.export_text()


def test_the_command_line_overrules_the_terms() -> None:
    args = _parser().parse_args(["idle-tcp", "--connections", "5"])
    assert _given(Terms(), args) == Terms(connections=5)


def test_what_the_command_line_does_not_say_is_as_it_was() -> None:
    assert _given(Overload(), _parser().parse_args(["overload"])) == Overload()
