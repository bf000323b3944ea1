"""Upstreams that directives share: kept while somebody asks them, and closed after that."""

from dataclasses import replace
from random import Random

from kdns.net.upstreams import SharedUpstreams
from kdns.plugins.upstream import UpstreamError, UpstreamExchange, UpstreamSettings
from tests.certificates import Certificates

QUERY = bytes.fromhex("000101000001000000000000") + b"\x01a\x00\x00\x01\x00\x01"
SETTINGS = UpstreamSettings("127.0.0.1", 9)


def is_closed(upstream: UpstreamExchange) -> bool:
    got: list[bytes | UpstreamError] = []
    upstream.ask(QUERY, tcp=False, timeout=1.0).when_done(got.append)
    return bool(got) and isinstance(got[0], UpstreamError) and got[0].failure == "closed"


async def test_the_same_settings_are_the_same_upstream() -> None:
    shared = SharedUpstreams(Random(1))
    assert shared.take(SETTINGS, "one") is shared.take(SETTINGS, "other")
    await shared.close()


async def test_an_upstream_is_closed_when_nobody_asks_it_any_more() -> None:
    shared = SharedUpstreams(Random(1))
    upstream = shared.take(SETTINGS, "one")
    shared.take(SETTINGS, "other")
    shared.release(SETTINGS, "one")
    assert len(shared) == 1
    shared.release(SETTINGS, "other")
    assert not len(shared)
    await shared.close()
    assert is_closed(upstream)


async def test_files_are_read_again_for_another_owner(certificates: Certificates) -> None:
    """What a Corefile names may have other contents by the time the next one is read."""
    encrypted = replace(SETTINGS, transport="tls", ca=str(certificates.ca))
    shared = SharedUpstreams(Random(1))
    assert shared.take(encrypted, "one") is not shared.take(encrypted, "other")
    await shared.close()


async def test_what_is_left_is_closed_at_the_end() -> None:
    shared = SharedUpstreams(Random(1))
    upstream = shared.take(SETTINGS, "one")
    await shared.close()
    assert is_closed(upstream)
