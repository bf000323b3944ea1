"""Cluster names beside dead upstreams: how the questions are counted, and what is told of them."""

import os
import socket

import pytest
from rich.console import Console

from kdns.plugins.chain import extended_error
from kdns.wire.iana import Rcode
from kdns.wire.message import read_query
from kdns.wire.reply import Reply, write_reply
from perf import storm
from perf.__main__ import _given, _parser
from perf.dead import Round, Run, Terms, faults, table
from perf.model import LoadResult
from perf.storm import Ledger, StormResult, StormSpec


def reply(question: bytes, rcode: int = 0, ede: int | None = None) -> bytes:
    options = () if ede is None else (extended_error(ede),)
    return write_reply(read_query(question), Reply(rcode, options=options), limit=1232)


def test_answers_are_counted_by_rcode_with_the_slowest() -> None:
    ledger = Ledger()
    first, second, _ = (ledger.ask(label, at) for label, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)))
    ledger.answer(reply(second, Rcode.SERVFAIL), 6.5)
    ledger.answer(reply(first), 7.0)
    assert ledger.result == StormResult(3, 2, {2: 1, 0: 1}, 0, 6.0)


def test_answers_that_say_that_they_are_stale_are_counted() -> None:
    ledger = Ledger()
    questions = [ledger.ask("a", 0.0) for _ in range(3)]
    for question, ede in zip(questions, (3, 19, None), strict=True):
        ledger.answer(reply(question, ede=ede), 0.0)
    assert ledger.result.stale == 1


def test_what_was_not_asked_counts_for_nothing() -> None:
    ledger = Ledger()
    question = ledger.ask("a", 0.0)
    ledger.answer(reply(question), 1.0)
    ledger.answer(reply(question), 9.0)
    assert ledger.result == StormResult(1, 1, {0: 1}, 0, 1.0)


def test_a_storm_ends_when_it_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        told, tell = os.pipe()
        os.close(tell)
        spec = StormSpec("127.0.0.1", server.getsockname()[1], 1e-9)
        assert storm.run(spec, told) == StormResult()
        os.close(told)


def load(p99: float) -> LoadResult:
    return LoadResult(10, 10, 0, 0, 1.0, 10.0, 100.0, 150.0, p99, p99, p99, [])


def made(p99: float, dead: StormResult) -> Round:
    living = StormResult(5, 5, {0: 5}, 0, 0.1)
    return Round(Run(load(100), 0.1, None), Run(load(200), 0.2, living), Run(load(p99), 0.2, dead))


SERVFAILS = StormResult(5, 5, {2: 5}, 0, 4.9)
STALE = StormResult(5, 5, {0: 5}, 5, 0.1)


def test_the_table_ends_with_the_medians_of_the_ratios() -> None:
    console = Console(width=160, record=True)
    console.print(table(Terms(), [made(p99, SERVFAILS) for p99 in (100, 300, 900)]))
    assert "to alone: 3.00, to upstreams alive: 1.50" in console.export_text()


def test_what_is_well_has_no_faults() -> None:
    assert faults([made(100, SERVFAILS)], STALE) == []


@pytest.mark.parametrize(
    ("dead", "stale", "said"),
    [
        (StormResult(5, 4, {2: 4}, 0, 4.9), STALE, "had no answer"),
        (StormResult(5, 5, {2: 5}, 0, 5.0), STALE, "took 5 s"),
        (StormResult(5, 5, {2: 4, 0: 1}, 0, 4.9), STALE, "not dead"),
        (SERVFAILS, StormResult(5, 5, {0: 4, 2: 1}, 4, 4.8), "was not handed out"),
        (SERVFAILS, StormResult(), "was not handed out"),
    ],
)
def test_what_is_not_well_is_told(dead: StormResult, stale: StormResult, said: str) -> None:
    (fault,) = faults([made(100, dead)], stale)
    assert said in fault


def test_the_command_line_overrules_the_terms() -> None:
    assert _given(Terms(), _parser().parse_args(["dead", "--repeat", "9"])) == Terms(repeat=9)
