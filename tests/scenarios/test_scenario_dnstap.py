"""The real program, and a collector that is told what it does."""

import asyncio
from pathlib import Path
from typing import cast

import dns.message
import pytest

from kdns.telemetry.dnstap import MessageType
from kdns.testing.collector import Collector, fields
from kdns.testing.upstream import ScriptedUpstream
from tests.scenarios.test_scenario_forward import ask, before, found

ROUND = [
    MessageType.CLIENT_QUERY,
    MessageType.FORWARDER_QUERY,
    MessageType.FORWARDER_RESPONSE,
    MessageType.CLIENT_RESPONSE,
]


@pytest.mark.parametrize("directives", ["", "cache"])
async def test_the_way_of_a_query_is_told(tmp_path: Path, directives: str) -> None:
    tap = str(tmp_path / "tap")
    async with (
        Collector(tap) as collector,
        ScriptedUpstream(otherwise=found) as upstream,
        before(tmp_path, upstream, f"{directives}\n dnstap {tap} full") as server,
    ):
        for _ in range(3):
            await ask(server)
        kinds = ROUND + (ROUND[::3] * 2 if directives else ROUND * 2)
        told = [await message(collector) for _ in kinds]
        assert [message[1] for message in told] == kinds
        replies = [dns.message.from_wire(cast("bytes", m[14])) for m in told if 14 in m]
        assert all(len(reply.answer) == 2 for reply in replies)
        await asyncio.to_thread(server.stop)
        await collector.ended.wait()


async def message(collector: Collector) -> dict[int, int | bytes]:
    return fields(cast("bytes", fields(await collector.frame())[14]))
