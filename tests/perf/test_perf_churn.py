"""Rolling updates: what they change, how their answers are awaited, and how a churn is judged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from typing import cast
from xml.etree import ElementTree as ET

import dns.message
import dns.rrset
import pytest
from rich.console import Console

from kdns.cluster import model
from kdns.cluster.objects import Resource, convert_object
from kdns.testing.apiserver import ApiServer
from perf.__main__ import _given, _parser
from perf.churn import (
    Result,
    Round,
    Run,
    Terms,
    full_speed,
    percentiles,
    render,
    table,
    troubles,
    wrong_answers,
)
from perf.large import Large
from perf.measure import Machine
from perf.model import LoadResult
from perf.rollout import Order, Prober, roll_out, update
from perf.workloads import query

LARGE = Large(services=6, endpoints=18, headless=2)
LOAD = LoadResult(1_000, 1_000, 0, 0, 8.0, 125.0, 100.0, 150.0, 300.0, 400.0, 500.0, [])
MACHINE = Machine("Some CPU", 2, "Linux 6.1", "3.11.1")
STILL = Run(0.0, 8.0, LOAD, 0.1, None, None, 0, 0.0, 0)
ROLLING = Run(1_000.0, 8.0, LOAD, 0.11, 1.0, 4.0, 0, 0.0, 0)


class Answering(asyncio.DatagramProtocol):
    """Answers from a list for each name: the last one again and again."""

    def __init__(self, answers: dict[str, list[tuple[str, ...]]]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not all of them are an instance of it, as asyncio's own before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = dns.message.from_wire(data)
        reply = dns.message.make_response(asked)
        name = asked.question[0].name.to_text()
        said = self._answers[name]
        addresses = said.pop(0) if len(said) > 1 else said[0]
        reply.answer = [dns.rrset.from_text(name, 30, "IN", "A", *addresses)]
        self._transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def answering(answers: dict[str, list[tuple[str, ...]]]) -> AsyncIterator[int]:
    """The port of somebody who answers so."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Answering(answers), local_addr=("127.0.0.1", 0)
    )
    yield transport.get_extra_info("sockname")[1]
    transport.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("updates", range(8))
def test_an_update_replaces_the_next_endpoint_of_the_next_service(updates: int) -> None:
    before = {i: set(LARGE.rolled(i, _turns(i, updates)).rdatas) for i in range(2)}
    after = {i: set(LARGE.rolled(i, _turns(i, updates + 1)).rdatas) for i in range(2)}
    changed = updates % 2
    assert before[1 - changed] == after[1 - changed]
    assert len(before[changed] - after[changed]) == len(after[changed] - before[changed]) == 1


def _turns(index: int, updates: int) -> int:
    return updates // 2 + (index < updates % 2)


async def test_the_objects_are_those_that_the_final_answers_are_judged_by() -> None:
    async with ApiServer() as api:
        api.load(LARGE.objects())
        for number in range(7):
            update(api, Order(LARGE, "", 0, 1.0, 1.0), number, None)
    for index in range(2):
        made = next(LARGE.slices(index, _turns(index, 7)))
        read = model.from_object(convert_object(Resource.ENDPOINTSLICES, made))
        assert isinstance(read, model.Slice)
        expected = LARGE.rolled(index, _turns(index, 7)).rdatas
        assert [".".join(map(str, address)) for address in read.addresses] == list(expected)


async def test_an_update_is_asked_for_until_it_is_answered() -> None:
    old, new = LARGE.rolled(0, 0).rdatas, LARGE.rolled(0, 1).rdatas
    other = LARGE.rolled(1, 1).rdatas
    answers = {LARGE.host(0): [old, old, new], LARGE.host(1): [other]}
    async with answering(answers) as port, ApiServer() as api:
        api.load(LARGE.objects())
        order = Order(LARGE, "127.0.0.1", port, rate=1e6, seconds=2e-6, probes=1e6)
        outcome = await roll_out(api, order)
    assert (outcome.updates, len(outcome.waits), outcome.missing) == (2, 2, 0)


def test_what_is_never_answered_is_missing() -> None:
    prober = Prober()
    prober.ask(b"\0\0", b"\1\2\3\4", 0.0)
    prober.datagram_received(b"\0\1 other", None)
    prober.datagram_received(b"\0\7 unknown", None)
    assert (prober.waits, prober.missing, prober.idle.is_set()) == ([], 1, True)
    prober.ask(b"\0\0", b"\1\2\3\4", 0.0)
    prober.give_up()
    assert prober.missing == 2


async def test_final_answers_are_judged_one_by_one() -> None:
    right = LARGE.rolled(0, 3)
    asked = [query(right, "udp"), query(LARGE.rolled(0, 4), "udp")]
    async with answering({LARGE.host(0): [right.rdatas]}) as port:
        assert await asyncio.to_thread(wrong_answers, port, asked) == 1


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles([]) == (None, None)
    assert percentiles([n / 1e3 for n in range(101)]) == pytest.approx((50.0, 99.0))


@pytest.mark.parametrize(
    ("rolling", "expected"),
    [
        (ROLLING, []),
        (replace(ROLLING, p99=20.0), ["p99 from update to answer is 20.0 ms"]),
        (replace(ROLLING, cpu=1.5), ["82% of the core are left"]),
        (replace(ROLLING, wrong=1), ["1 final answers wrong, 0 updates"]),
        (replace(ROLLING, missing=2), ["0 final answers wrong, 2 updates"]),
        (replace(ROLLING, load=replace(LOAD, lost=3)), ["0 answers wrong and 3 lost"]),
        (replace(ROLLING, updates=5_000.0, p99=50.0, cpu=0.5), []),
    ],
)
def test_a_churn_is_judged(rolling: Run, expected: list[str]) -> None:
    result = Result(Terms(), MACHINE, [STILL, rolling], [])
    found = list(troubles(result))
    assert len(found) == len(expected)
    assert all(words in trouble for words, trouble in zip(expected, found, strict=True))
    console = Console(file=StringIO(), width=150)
    console.print(table(result))
    assert isinstance(console.file, StringIO)
    assert f"{rolling.updates:,.0f}" in console.file.getvalue()


def test_a_run_is_judged_beside_those_just_before_and_after_it() -> None:
    quick, slow = replace(STILL, cpu=0.0), replace(STILL, cpu=4.0)
    rolling = replace(ROLLING, cpu=2.0)
    result = Result(Terms(), MACHINE, [quick, rolling, slow, rolling, quick, quick], [])
    assert result.left(rolling) == 1.0
    result = Result(Terms(), MACHINE, [slow, quick, rolling, quick], [])
    assert result.left(rolling) == 0.75


def round_of(with_updates: float, cpu: float = 7.9) -> Round:
    """Of 8 s at 125 q/s without updates."""
    still = replace(STILL, cpu=7.9)
    return Round(still, replace(ROLLING, cpu=cpu, load=replace(LOAD, qps=with_updates)))


@pytest.mark.parametrize(("rate", "troubled"), [(110.0, False), (100.0, True)])
def test_at_full_speed_the_median_of_the_rounds_without_rest_is_judged(
    rate: float, troubled: bool
) -> None:
    odd, idle = round_of(9.0), round_of(9.0, cpu=5.0)
    rounds = [odd, idle, round_of(rate), idle, round_of(rate)]
    result = Result(Terms(), MACHINE, [STILL], rounds)
    assert bool(list(troubles(result))) == troubled
    console = Console(file=StringIO(), width=150)
    console.print(full_speed(result))
    assert isinstance(console.file, StringIO)
    assert f"no rest: {rate / 125:.0%} of the rate, 100% of the core" in console.file.getvalue()


def test_where_kdns_always_had_time_to_rest_nothing_is_known_of_full_speed() -> None:
    result = Result(Terms(), MACHINE, [STILL], [round_of(200.0, cpu=5.0)])
    (trouble,) = troubles(result)
    assert "is not known" in trouble
    console = Console(file=StringIO(), width=150)
    console.print(full_speed(result))
    assert isinstance(console.file, StringIO)
    assert "medians" not in console.file.getvalue()


def test_the_page_has_both_tables_and_a_dot_for_each_round() -> None:
    result = Result(Terms(), MACHINE, [STILL, replace(ROLLING, p99=20.0)], [round_of(110.0)] * 3)
    made = render(result)
    page = ET.fromstring(made.removeprefix("<!DOCTYPE html>"))
    assert len(page.findall(".//table")) == 2
    dots = page.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) >= 2 * 3
    assert "p99 from update to answer is 20.0 ms" in made


def test_without_updates_there_is_a_page_still() -> None:
    ET.fromstring(render(Result(Terms(), MACHINE, [STILL], [])).removeprefix("<!DOCTYPE html>"))


def test_what_is_lost_at_full_speed_is_told() -> None:
    kept = round_of(125.0)
    lossy = replace(kept, still=replace(kept.still, load=replace(LOAD, lost=3)))
    (trouble,) = troubles(Result(Terms(), MACHINE, [STILL], [lossy]))
    assert "3 lost" in trouble


def test_the_command_line_says_how_many_updates() -> None:
    words = "churn --updates 10,20 --seconds 2 --rounds 3"
    assert _given(Terms(), _parser().parse_args(words.split())) == Terms(
        rates=(10.0, 20.0), seconds=2.0, rounds=3
    )
