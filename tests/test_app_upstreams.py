"""Upstreams that directives share: kept while somebody asks them, and closed after that."""

import asyncio
from random import Random

from kdns.app import App, BlockParts
from kdns.plan import Plan
from kdns.plugins.block import Block
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.upstream import UpstreamError, UpstreamSettings
from kdns.workers import ToldSources

QUERY = bytes.fromhex("000101000001000000000000") + b"\x01a\x00\x00\x01\x00\x01"
SETTINGS = UpstreamSettings("127.0.0.1", 9)


async def test_an_upstream_is_closed_when_nobody_asks_it_any_more() -> None:
    app = App(Plan(), ToldSources(), Random(1), None)
    one, other = (BlockParts(app, Block((".",)), Dispatcher(lambda: 0.0)) for _ in range(2))
    upstream = one.upstream(SETTINGS)
    assert other.upstream(SETTINGS) is upstream
    one.release(SETTINGS)
    assert app.upstreams
    other.release(SETTINGS)
    assert not app.upstreams
    await asyncio.gather(*app.closing)
    got: list[bytes | UpstreamError] = []
    upstream.ask(QUERY, tcp=False, timeout=1.0).when_done(got.append)
    assert isinstance(got[0], UpstreamError)
    assert got[0].failure == "closed"
