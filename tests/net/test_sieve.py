"""What the kernel's program lets in: read by a few lines of Python, and by the kernel."""

import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.net.sieve import Instruction, TooLong, program, sift

ZONES = (b"\7cluster\5local\0", b"\7in-addr\4arpa\0", b"\3ip6\4arpa\0")
UDP = bytes(8)
HEADER = bytes(12)
label = st.binary(min_size=1, max_size=20)


def message(*labels: bytes, tail: bytes = b"\0\1\0\1") -> bytes:
    """A datagram as a filter sees it, with its UDP header."""
    name = b"".join(bytes([len(each)]) + each for each in labels) + b"\0"
    return UDP + HEADER + name + tail


LOADS = {0x40: 4, 0x48: 2, 0x50: 1}
"""Loads from where X points to: octets."""


def lets_in(made: list[Instruction], packet: bytes, chance: int = 0) -> bool:
    """Run a program on a packet, as filter(7) says."""
    at = a = x = kept = 0
    while True:
        code, yes, no, number = made[at]
        at += 1
        if code in LOADS:
            start = x + number
            if not 0 <= start <= len(packet) - LOADS[code]:
                return False
            a = int.from_bytes(packet[start : start + LOADS[code]], "big")
        elif code == 0x06:
            return number > 0
        elif code in (0x15, 0x35):
            at += yes if (a == number if code == 0x15 else a >= number) else no
        elif code == 0x03:
            kept = x
        elif code in (0x01, 0x61, 0x07):
            x = {0x01: number, 0x61: kept, 0x07: a}[code]
        else:
            assert code != 0x20 or number == 0xFFFFF000 + 56
            made_of = {0x20: chance, 0x0C: a + x, 0x04: a + number, 0x14: a - number}
            a = (made_of | {0x44: a | number, 0x87: x})[code] & 0xFFFFFFFF


NONE = program(ZONES, 0.0)


@given(st.lists(label, max_size=5))
def test_names_below_a_zone_come_in(labels: list[bytes]) -> None:
    assert lets_in(NONE, message(*labels, b"cluster", b"local"))


@given(st.lists(label, max_size=5), st.binary(max_size=40))
def test_what_follows_the_question_does_not_matter(labels: list[bytes], tail: bytes) -> None:
    packet = message(*labels, b"in-addr", b"arpa", tail=b"\0\1\0\1" + tail)
    assert lets_in(NONE, packet)


@pytest.mark.parametrize("labels", [(b"CLUSTER", b"Local"), (b"a", b"cLuStEr", b"lOcAl")])
def test_letter_case_does_not_matter(labels: tuple[bytes, ...]) -> None:
    assert lets_in(NONE, message(*labels))


@pytest.mark.parametrize(
    "labels",
    [
        (),
        (b"local",),
        (b"xcluster", b"local"),
        (b"cluster", b"local", b"example"),
        (b"www", b"example"),
        (b"arpa",),
    ],
)
def test_other_names_do_not(labels: tuple[bytes, ...]) -> None:
    assert not lets_in(NONE, message(*labels))


def test_a_reverse_name_of_34_labels_comes_in() -> None:
    assert lets_in(NONE, message(*[b"0"] * 32, b"ip6", b"arpa"))


@given(st.binary(max_size=60))
def test_any_octets_are_let_in_or_not(octets: bytes) -> None:
    assert lets_in(NONE, UDP + octets) in (True, False)


@pytest.mark.parametrize(("keep", "chance", "comes_in"), [
    (0.0, 0, False), (0.5, 2**31 - 1, True), (0.5, 2**31, False), (1.0, 2**32 - 2, True),
])  # fmt: skip
def test_of_the_rest_a_part_comes_in(keep: float, chance: int, *, comes_in: bool) -> None:
    assert lets_in(program(ZONES, keep), message(b"www"), chance) is comes_in


def test_the_root_is_every_name() -> None:
    assert lets_in(program([b"\0"], 0.0), message(b"www", b"example"))


def test_too_many_zones_are_no_program() -> None:
    with pytest.raises(TooLong):
        program([b"\7cluster\5local\0"] * 300, 0.0)


def test_too_long_a_zone_is_no_program() -> None:
    with pytest.raises(TooLong):
        program([(b"\x3f" + b"a" * 63) * 6 + b"\0"], 0.0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        client.connect(server.getsockname())
        yield server, client


@pytest.mark.skipif(sys.platform != "linux", reason="the program is Linux's")
def test_the_kernel_reads_it_as_we_do(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    sift(server, ZONES, 0.0)
    for labels in ((b"www", b"example"), (b"web", b"Cluster", b"local"), (b"local",)):
        client.send(message(*labels)[8:])
    # Loopback delivers in order: what was sent before has been dropped by now.
    client.send(message(b"end", b"ip6", b"arpa")[8:])
    assert server.recv(512) == message(b"web", b"Cluster", b"local")[8:]
    assert server.recv(512) == message(b"end", b"ip6", b"arpa")[8:]


@pytest.mark.skipif(sys.platform != "linux", reason="the program is Linux's")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_holds_a_client_back(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as sock,
    ):
        server.bind((host, 0))
        server.settimeout(10)
        sock.connect(server.getsockname())
        address = socket.inet_pton(family, host)
        other = address[:-1] + b"\x77"
        wanted = message(b"end", b"ip6", b"arpa")[8:]
        sift(server, ZONES, 0.0, {other: 0.0, address: 0.0})
        sock.send(message(b"cluster", b"local")[8:])
        sift(server, ZONES, 0.0, {other: 0.0})
        sock.send(wanted)
        assert server.recv(512) == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="the program is Linux's")
def test_taken_away_everything_comes_in(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    sift(server, ZONES, 0.0)
    sift(server, ZONES, 1.0)
    client.send(struct.pack("!H", 7))
    assert server.recv(512) == b"\0\7"
