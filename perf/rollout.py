"""Rolling updates in an API server, and how long each takes until it is answered.

Headless services are updated in turn; an update replaces one endpoint of one service, as the
EndpointSlice controller does while a deployment rolls. Of some updates it is asked, again and
again, until the new address is in the answer.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final, NamedTuple, cast

import msgspec

from kdns.testing.apiserver import ApiServer
from perf.large import Large
from perf.workloads import query

_TICK: Final = 0.001
_AGAIN: Final = 0.0005
_PATIENCE: Final = 5.0
_IDS: Final = 1 << 16


class Order(msgspec.Struct, frozen=True):
    """What to do to a cluster: updates a second, for how long; after how many were made before.

    host, port: who is asked. probes: updates a second that are asked for.
    """

    large: Large
    host: str
    port: int
    rate: float
    seconds: float
    before: int = 0
    probes: float = 100.0


class Outcome(msgspec.Struct, frozen=True):
    """updates: made so far, those before too. waits: seconds from an update to its answer.

    missing: of how many updates no answer told in five seconds. late: seconds by which the last
    update was made after its time.
    """

    updates: int
    waits: list[float]
    missing: int
    late: float


class _Probe(NamedTuple):
    wire: bytes
    told: bytes
    """The octets of the new address."""
    begun: float


class Prober(asyncio.DatagramProtocol):
    """Asks for what has changed until the answer has."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.missing = 0
        self.idle = asyncio.Event()
        """Set while nothing is awaited."""
        self.idle.set()
        self._probes: dict[int, _Probe] = {}
        self._next = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # Not all of them are an instance of it, as asyncio's own before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def ask(self, wire: bytes, told: bytes, begun: float) -> None:
        """Ask until the answer to `wire` holds the octets `told`."""
        self.idle.clear()
        self._next = (self._next + 1) % _IDS
        self._probes[self._next] = _Probe(wire, told, begun)
        self._send(self._next)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """See asyncio."""
        number = int.from_bytes(data[:2], "big")
        probe = self._probes.get(number)
        if probe is None:
            return
        now = time.monotonic()
        if probe.told not in data and now - probe.begun <= _PATIENCE:
            asyncio.get_running_loop().call_later(_AGAIN, self._send, number)
            return
        if probe.told in data:
            self.waits.append(now - probe.begun)
        else:
            self.missing += 1
        del self._probes[number]
        if not self._probes:
            self.idle.set()

    def error_received(self, exc: Exception) -> None:
        """See asyncio. What is not answered is missing in the end."""

    def give_up(self) -> None:
        """Those without an answer are missing."""
        self.missing += len(self._probes)
        self._probes.clear()

    def _send(self, number: int) -> None:
        if self._transport is not None and number in self._probes:
            self._transport.sendto(number.to_bytes(2, "big") + self._probes[number].wire[2:])


async def roll_out(api: ApiServer, order: Order) -> Outcome:
    """Do it."""
    loop = asyncio.get_running_loop()
    transport, prober = await loop.create_datagram_endpoint(
        Prober, remote_addr=(order.host, order.port)
    )
    begun = time.monotonic()
    made = 0
    wanted = int(order.rate * order.seconds)
    each = max(1, round(order.rate / order.probes))
    while made < wanted:
        due = min(wanted, int((time.monotonic() - begun) * order.rate) + 1)
        for number in range(made, due):
            update(api, order, order.before + number, prober if number % each == 0 else None)
        made = due
        await asyncio.sleep(_TICK)
    late = time.monotonic() - begun - order.seconds
    with suppress(TimeoutError):
        await asyncio.wait_for(prober.idle.wait(), _PATIENCE)
    prober.give_up()
    transport.close()
    return Outcome(order.before + made, prober.waits, prober.missing, max(0.0, late))


def update(api: ApiServer, order: Order, number: int, prober: Prober | None) -> None:
    """Make update `number`, counted from 0, and have it asked for."""
    large = order.large
    index, turn = number % large.headless, number // large.headless
    begun = time.monotonic()
    api.replace(large.slice(index, range(large.each), turn + 1))
    if prober is not None:
        replaced = turn % large.each
        generation = large.generation(replaced, turn + 1)
        address = large.endpoint_address(index, replaced, generation)
        wire = query(large.rolled(index, 0), "udp").wire
        prober.ask(wire, IPv4Address(address).packed, begun)
