"""What an overseer and its workers tell each other over their links, in MessagePack."""

import asyncio
import struct

import msgspec

from kdns.cluster.sink import Key
from kdns.plan import Written
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Window
from kdns.totals import Totals


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Overseer to worker, and back."""


class Applied(Message, frozen=True, array_like=True, tag=True):
    """Reader.put for one of the sources; the object is encoded by cluster.held."""

    source: int
    resource: str
    body: bytes
    triggered: float | None = None


class Removed(Message, frozen=True, array_like=True, tag=True):
    """Reader.remove."""

    source: int
    resource: str
    key: Key


class Known(Message, frozen=True, array_like=True, tag=True):
    """Reader.know."""

    source: int
    resource: str


class Assumed(Message, frozen=True, array_like=True, tag=True):
    """Reader.assume."""

    source: int
    resource: str


class Staged(Message, frozen=True, array_like=True, tag=True):
    """Build this Corefile beside what runs; the sockets of `places` new places are in the hand.

    sources: the numbers of the clusters that it asks for, in the order in which it does.
    """

    written: Written
    places: int
    sources: list[int]


class Adopted(Message, frozen=True, array_like=True, tag=True):
    """What was staged takes over."""


class Discarded(Message, frozen=True, array_like=True, tag=True):
    """What was staged is forgotten."""


class Begin(Message, frozen=True, array_like=True, tag=True):
    """That was all there is by now: answer."""


class Asked(Message, frozen=True, array_like=True, tag=True):
    """Wants the counters."""


class Probed(Message, frozen=True, array_like=True, tag=True):
    """Wants a sign of life."""


class Look(Message, frozen=True, array_like=True, tag=True):
    """Wants to know who asks what; or, for `seconds` above 0, where the CPU time goes."""

    seconds: float = 0.0


class Dismissed(Message, frozen=True, array_like=True, tag=True):
    """The end is near: have clients over TCP go."""


class Stop(Message, frozen=True, array_like=True, tag=True):
    """Drain, and end."""


class Counted(Message, frozen=True, array_like=True, tag=True):
    """All that was counted."""

    totals: Totals


class Alive(Message, frozen=True, array_like=True, tag=True):
    """A sign of life."""


class Looked(Message, frozen=True, array_like=True, tag=True):
    """One of the two; neither where it cannot be told."""

    asked: Window | None = None
    profile: Profile | None = None


class Ready(Message, frozen=True, array_like=True, tag=True):
    """What was to be staged, or to take over, is so; or not, and why."""

    error: str


Told = Applied | Removed | Known | Assumed
ToWorker = Staged | Adopted | Discarded | Told | Begin | Asked | Probed | Look | Dismissed | Stop
ToOverseer = Counted | Ready | Looked | Alive
_LENGTH = struct.Struct("!I")
_encode = msgspec.msgpack.Encoder().encode
to_worker = msgspec.msgpack.Decoder(ToWorker).decode
to_overseer = msgspec.msgpack.Decoder(ToOverseer).decode


def frame(message: Message) -> bytes:
    """A message as octets, its length before it."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> bytes | None:
    """The next message's octets; None at the end."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        return await reader.readexactly(_LENGTH.unpack(head)[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
