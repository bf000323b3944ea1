"""The client of the takeover: what it counts as right, wrong and lost."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from kdns.testing.upstream import ZoneServer
from perf.takeover import Client, Score

ZONE = "$ORIGIN example.test.\n@ 60 IN SOA ns h 1 2 3 4 5\nwww 60 IN A 192.0.2.1\n"


@contextmanager
def orders(*lines: str) -> Iterator[TextIO]:
    """Standard input that says these lines, and ends."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as said:
        said.writelines(f"{line}\n" for line in lines)
    with os.fdopen(reading, buffering=1) as heard:
        yield heard


async def scores(port: int, address: str) -> dict[str, Score]:
    client = Client([("www.example.test.", address)], port)
    with orders("first_phase 127.0.0.1") as given:
        return await asyncio.to_thread(client.run, given)


async def test_an_answer_with_the_address_is_right() -> None:
    async with ZoneServer(ZONE) as server:
        found = await scores(server.port, "192.0.2.1")
    assert found["first phase"].right == found["first phase"].asked > 0


async def test_another_answer_is_wrong() -> None:
    async with ZoneServer(ZONE) as server:
        found = await scores(server.port, "192.0.2.2")
    assert found["first phase"].wrong == found["first phase"].asked > 0


async def test_a_question_to_nobody_is_lost() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    found = await scores(port, "192.0.2.1")
    assert found["first phase"].lost == found["first phase"].asked > 0


def test_a_record_has_its_waits_in_milliseconds() -> None:
    waits = [number / 1000 for number in range(1, 101)]
    score = Score(asked=100, right=100, slowest=0.1, waits=waits)
    assert score.as_json() == {
        "asked": 100, "right": 100, "wrong": 0, "lost": 0,
        "p50_ms": 51.0, "p99_ms": 100.0, "slowest_ms": 100.0,
    }  # fmt: skip
