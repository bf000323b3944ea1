"""Servers are asked over UDP and TCP, at a bounded pace, and silence is a reply of its own."""

import asyncio
import random
import socket

import pytest

from kdns.commands.asking import (
    Asker,
    AskingError,
    Pace,
    Place,
    ask_both,
    read,
    read_place,
    type_number,
)
from kdns.testing.upstream import ZoneServer

ZONE = """$ORIGIN example.test.
@ 60 IN SOA ns hostmaster 1 2 3 4 5
www 60 IN A 192.0.2.1
_http._tcp 60 IN SRV 0 5 80 www
"""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.1", Place("10.0.0.1", 53)),
        ("10.0.0.1:1053", Place("10.0.0.1", 1053)),
        ("fd00::1", Place("fd00::1", 53)),
        ("[fd00::1]:1053", Place("fd00::1", 1053)),
        ("[fd00::1]", Place("fd00::1", 53)),
    ],
)
def test_a_place_is_an_address_and_a_port(text: str, place: Place) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize("text", ["", "dns.example", "10.0.0.1:0", "10.0.0.1:x", "10.0.0.1:70000"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(AskingError, match="expected"):
        read_place(text)


@pytest.mark.parametrize("place", [Place("10.0.0.1", 53), Place("fd00::1", 53)])
def test_a_place_is_written_as_it_is_read(place: Place) -> None:
    assert read_place(str(place)) == place


@pytest.mark.parametrize(("text", "number"), [("a", 1), ("SRV", 33), ("TYPE65400", 65400)])
def test_types_have_numbers(text: str, number: int) -> None:
    assert type_number(text) == number


@pytest.mark.parametrize("text", ["", "B", "TYPE0", "TYPE65536", "TYPEX"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(AskingError, match="is no type"):
        type_number(text)


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_reply_is_lines_of_text(tcp: bool) -> None:
    async with ZoneServer(ZONE) as server:
        asker = Asker(Place("127.0.0.1", server.port), random.Random(1))
        question = {"name": "_http._tcp.example.test.", "type": "SRV", "tcp": tcp}
        reply = await asker.ask(question)
        asker.close()
    assert reply["answer"] == ["_http._tcp.example.test. 60 IN SRV 0 5 80 www.example.test."]


async def test_sockets_are_used_again() -> None:
    async with ZoneServer(ZONE) as server:
        asker = Asker(Place("127.0.0.1", server.port), random.Random(1))
        for _ in range(3):
            await asker.ask({"name": "www.example.test.", "type": "A", "tcp": True})
        asker.close()
    assert server.queries == 3


async def test_silence_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        asker = Asker(Place("127.0.0.1", silent.getsockname()[1]), random.Random(1), timeout=0.01)
        reply = await asker.ask({"name": "www.example.test.", "type": "A"})
        asker.close()
    assert reply == {"error": "no reply within 0.01 s"}


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_port_that_nobody_has_is_told(tcp: bool) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        asker = Asker(Place("127.0.0.1", held.getsockname()[1]), random.Random(1))
        reply = await asker.ask({"name": "www.example.test.", "type": "A", "tcp": tcp})
        asker.close()
    assert reply == {"error": "Connection refused"}


def test_octets_that_are_no_message_are_told() -> None:
    assert "unreadable" in read(b"\x00\x01\x84\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff")["error"]


async def test_the_pace_is_kept_whatever_the_replies_cost() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))

    pace = Pace(10.0, lambda: 100.0, sleep)
    for _ in range(4):
        await pace.turn()
    assert waits == [0.1, 0.2, 0.3]


async def test_both_servers_are_asked_everything_in_order() -> None:
    names = [f"w{n}.example.test." for n in range(20)]
    told: list[int] = []
    async with ZoneServer(ZONE) as one, ZoneServer(ZONE) as other:
        places = Place("127.0.0.1", one.port), Place("127.0.0.1", other.port)
        rows = [{"name": name, "type": "A"} for name in names]
        pace = Pace(1e6, asyncio.get_running_loop().time)
        found = await ask_both(
            places, rows, pace, random.Random(1), concurrency=4, told=told.append
        )
    assert [first["question"] for first, _ in found] == [[name] for name in names]
    assert [second["question"] for _, second in found] == [[name] for name in names]
    assert told == list(range(1, 21))
