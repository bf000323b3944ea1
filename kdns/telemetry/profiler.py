"""Where the CPU time goes: the stack of the main thread at every hundredth of a second of it.

The kernel's timer of CPU time (setitimer, ITIMER_PROF) sends a signal, and Python runs its handler
between two instructions. Nothing runs, and nothing costs anything, unless somebody has asked.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import CodeType, FrameType

from kdns.telemetry import protobuf

PERIOD = 0.01
"""Seconds of CPU between two samples: Go's."""
MAX_DEPTH = 128
MAX_STACKS = 10_000
"""Different ones; more are counted together."""

Frame = tuple[str, str, int]
"""Function, file, and the line where it begins."""


class ProfilingError(Exception):
    """A profile cannot be taken: why."""


@dataclass(slots=True)
class Profile:
    """What was on the CPU. samples: stacks, innermost frame first, and how often each was met."""

    seconds: float
    samples: list[tuple[list[Frame], int]]

    def below(self, process: str) -> "Profile":
        """The same, with the process as the outermost frame of each stack."""
        outermost: Frame = (process, "", 0)
        return Profile(self.seconds, [([*stack, outermost], n) for stack, n in self.samples])


class Sampler:
    """Counts stacks while it is told of them."""

    def __init__(self) -> None:
        self._codes: dict[int, CodeType] = {}
        """By id: kept, so that an id means one code object all the time."""
        self._stacks: dict[tuple[int, ...], int] = {}

    def __call__(self, _signal: int, frame: FrameType | None) -> None:
        """A signal handler."""
        stack: list[int] = []
        while frame is not None and len(stack) < MAX_DEPTH:
            code = frame.f_code
            self._codes[id(code)] = code
            stack.append(id(code))
            frame = frame.f_back
        key = tuple(stack)
        if key not in self._stacks and len(self._stacks) >= MAX_STACKS:
            key = ()
        self._stacks[key] = self._stacks.get(key, 0) + 1

    def profile(self, seconds: float) -> Profile:
        """What was counted."""
        samples: list[tuple[list[Frame], int]] = []
        for stack, times in self._stacks.items():
            codes = [self._codes[ident] for ident in stack]
            frames = [(c.co_qualname, c.co_filename, c.co_firstlineno) for c in codes]
            samples.append((frames or [("other", "", 0)], times))
        return Profile(seconds, samples)


_taking = asyncio.Lock()


async def take(
    seconds: float, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> Profile:
    """Profile this process for so long. Call it in the main thread.

    Raises ProfilingError while another profile is taken, for there is one timer.
    """
    if _taking.locked():
        raise ProfilingError("a profile is being taken already")
    async with _taking:
        sampler = Sampler()
        before = signal.signal(signal.SIGPROF, sampler)
        signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)
        try:
            await sleep(seconds)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            # One that was on its way must not end the process.
            signal.signal(signal.SIGPROF, signal.SIG_IGN if before == signal.SIG_DFL else before)
        return sampler.profile(seconds)


def collapsed(profile: Profile) -> str:
    """A line for each stack, outermost frame first: what flame graphs are made of."""
    lines = [
        f"{';'.join(map(_frame_text, reversed(stack)))} {times}"
        for stack, times in sorted(profile.samples)
    ]
    return "".join(f"{line}\n" for line in lines)


def _frame_text(frame: Frame) -> str:
    function, file, line = frame
    short = "/".join(file.rsplit("/", 2)[-2:])
    return f"{function} ({short}:{line})".replace(";", ",") if file else function


def pprof(profile: Profile, when: float) -> bytes:
    """As `go tool pprof` reads it, not compressed (google/pprof, proto/profile.proto).

    when: it was begun, seconds since 1970.
    """
    texts: dict[str, int] = {"": 0}
    functions: dict[Frame, int] = {}

    def index(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def kind(name: str, unit: str) -> bytes:
        return protobuf.number(1, index(name)) + protobuf.number(2, index(unit))

    period = int(PERIOD * 1e9)
    parts = [
        protobuf.octets(1, kind("samples", "count")),
        protobuf.octets(1, kind("cpu", "nanoseconds")),
    ]
    for stack, times in profile.samples:
        ids = [functions.setdefault(frame, len(functions) + 1) for frame in stack]
        places = b"".join(map(protobuf.varint, ids))
        values = protobuf.varint(times) + protobuf.varint(times * period)
        parts.append(protobuf.octets(2, protobuf.octets(1, places) + protobuf.octets(2, values)))
    for (name, file, line), ident in functions.items():
        # A location for each function: where in it we were is not kept.
        at = protobuf.number(1, ident) + protobuf.number(2, line)
        parts.append(protobuf.octets(4, protobuf.number(1, ident) + protobuf.octets(4, at)))
        described = [
            protobuf.number(1, ident),
            protobuf.number(2, index(name)),
            protobuf.number(3, index(name)),
            protobuf.number(4, index(file)),
            protobuf.number(5, line),
        ]
        parts.append(protobuf.octets(5, b"".join(described)))
    period_type = kind("cpu", "nanoseconds")
    parts += [protobuf.text(6, text) for text in texts]
    parts += [
        protobuf.number(9, int(when * 1e9)),
        protobuf.number(10, int(profile.seconds * 1e9)),
        protobuf.octets(11, period_type),
        protobuf.number(12, period),
    ]
    return b"".join(parts)
