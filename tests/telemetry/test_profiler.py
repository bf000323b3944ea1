"""A profile is of what was on the CPU, and others can read it."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import pytest

from kdns.telemetry import profiler
from kdns.telemetry.profiler import Profile, ProfilingError, Sampler, collapsed, pprof, take

INNER, OUTER = ("inner", "a/b/c.py", 7), ("outer", "a/b/c.py", 1)
PROFILE = Profile(2.0, [([INNER, OUTER], 3), ([OUTER], 1)])


async def spin(_: float) -> None:
    """Stands for `sleep`: a third of a second of CPU."""
    end = time.process_time() + 0.3
    while time.process_time() < end:
        sum(range(1000))


async def test_it_finds_what_was_on_the_cpu() -> None:
    profile = await take(0.5, spin)
    functions: Counter[str] = Counter()
    for stack, times in profile.samples:
        functions.update({function: times for function, _, _ in stack})
    assert functions["spin"] > 10


async def test_the_timer_is_off_afterwards() -> None:
    await take(0.0)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_IGN


async def test_there_is_one_at_a_time() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(_: float) -> None:
        entered.set()
        await go.wait()

    first = asyncio.create_task(take(1.0, wait))
    await entered.wait()
    with pytest.raises(ProfilingError, match="already"):
        await take(1.0)
    go.set()
    assert (await first).seconds == 1.0


def test_stacks_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "MAX_STACKS", 1)
    sampler = Sampler()

    def one() -> None:
        sampler(signal.SIGPROF, _frame())

    def other() -> None:
        sampler(signal.SIGPROF, _frame())

    one()
    other()
    other()
    told = sampler.profile(1.0).samples
    assert [times for _, times in told] == [1, 2]
    assert told[1][0] == [("other", "", 0)]


def test_a_process_is_the_outermost_frame() -> None:
    below = PROFILE.below("worker 1").samples
    assert [stack[-1] for stack, _ in below] == [("worker 1", "", 0)] * 2


def test_collapsed_stacks_begin_outside() -> None:
    assert collapsed(PROFILE.below("me")) == (
        "me;outer (b/c.py:1);inner (b/c.py:7) 3\nme;outer (b/c.py:1) 1\n"
    )


def test_pprof_has_the_stacks_as_its_schema_says() -> None:
    """Read by hand: google/pprof, proto/profile.proto."""
    found: dict[int, list[bytes]] = {}
    for number, value in _all_fields(pprof(PROFILE, 1700000000.0)):
        found.setdefault(number, []).append(value)
    texts = [text.decode() for text in found[6]]
    assert texts[0] == ""
    functions = {}
    for function in found[5]:
        told = dict(_all_fields(function))
        functions[told[1]] = (texts[told[2][0]], texts[told[4][0]], told[5][0])
    assert sorted(functions.values()) == [INNER, OUTER]
    locations = {}
    for location in found[4]:
        told = dict(_all_fields(location))
        line = dict(_all_fields(told[4]))
        locations[told[1][0]] = functions[line[1]]
    samples = []
    for sample in found[2]:
        told = dict(_all_fields(sample))
        samples.append(([locations[i] for i in told[1]], list(_varints(told[2]))))
    assert samples == [([INNER, OUTER], [3, 30_000_000]), ([OUTER], [1, 10_000_000])]
    assert [texts[dict(_all_fields(kind))[1][0]] for kind in found[1]] == ["samples", "cpu"]
    assert list(_varints(found[10][0])) == [2_000_000_000]


def _all_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and octets of each field; of a varint, its own octets."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        start = at
        value, at = _varint(message, at)
        if tag & 7 == 2:
            start, at = at, at + value
        yield tag >> 3, message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = message[at]
        value |= (octet & 127) << shift
        at, shift = at + 1, shift + 7
        if octet < 128:
            return value, at


def _varints(message: bytes) -> Iterator[int]:
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _frame() -> FrameType:
    return sys._getframe(1)
