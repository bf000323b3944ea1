"""From settings to upstream servers: plain, over TLS, over HTTPS."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from kdns.net.upstream import Upstream
from kdns.net.upstream_tls import tls_context
from kdns.plugins.upstream import UpstreamSettings

if TYPE_CHECKING:
    from kdns.net.upstream_https import HttpsUpstream

AnyUpstream: TypeAlias = "Upstream | HttpsUpstream"
_PAST = 1_000
"""Upstreams that are closed, and remembered for what they had counted."""


def make_upstream(
    settings: UpstreamSettings, *, loop: asyncio.AbstractEventLoop, rng: Random
) -> AnyUpstream:
    """An upstream. Raises UpstreamSettingsError for files and addresses that cannot be used."""
    if settings.transport == "https":
        # A worker has no other use for what it imports, which is as much as half of it.
        from kdns.net.upstream_https import HttpsUpstream

        return HttpsUpstream(
            str(settings),
            method=settings.doh_method,
            context=tls_context(settings),
            expire=settings.expire,
            source=settings.source_address,
        )
    return Upstream(
        settings.host,
        settings.port,
        loop=loop,
        rng=rng,
        context=tls_context(settings) if settings.transport == "tls" else None,
        servername=settings.servername,
        expire=settings.expire,
        max_age=settings.max_age,
        idle=settings.max_idle_conns,
        source=settings.source_address,
        randomize_case=settings.randomize_case,
        cookies=settings.cookies,
    )


class SharedUpstreams:
    """Upstreams that several ask: the same one for the same settings, as long as somebody does.

    Make it in a running loop.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._held: dict[tuple[UpstreamSettings, object], AnyUpstream] = {}
        self._uses: Counter[tuple[UpstreamSettings, object]] = Counter()
        self._closing: set[asyncio.Task[None]] = set()
        self._past: dict[tuple[str, str], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, settings: UpstreamSettings, owner: object) -> AnyUpstream:
        """The upstream of these settings. Raises UpstreamSettingsError.

        owner: who reads the files that the settings name; they may have other contents for others.
        """
        key = _key(settings, owner)
        if key not in self._held:
            self._held[key] = make_upstream(settings, loop=self._loop, rng=self._rng)
        self._uses[key] += 1
        return self._held[key]

    def release(self, settings: UpstreamSettings, owner: object) -> None:
        """Say that it is not asked any more; once for each `take`."""
        key = _key(settings, owner)
        self._uses[key] -= 1
        if not self._uses[key]:
            del self._uses[key]
            self._remember(settings, self._held[key])
            closing = self._loop.create_task(self._held.pop(key).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def reuse(self, place: int) -> Iterable[tuple[tuple[str, str], float]]:
        """By upstream and transport: see Upstream.reuse; 0 for what was open, 1 for what was not.

        Those that were closed are in it.
        """
        counts = {key: pair[place] for key, pair in self._past.items()}
        for (settings, _), upstream in self._held.items():
            for proto, *made in upstream.reuse():
                key = (str(settings), proto)
                counts[key] = counts.get(key, 0) + made[place]
        return counts.items()

    def _remember(self, settings: UpstreamSettings, upstream: AnyUpstream) -> None:
        for proto, reused, opened in upstream.reuse():
            before = self._past.pop((str(settings), proto), (0, 0))
            self._past[str(settings), proto] = (before[0] + reused, before[1] + opened)
        while len(self._past) > _PAST:
            del self._past[next(iter(self._past))]

    async def close(self) -> None:
        """Close all that are left."""
        for upstream in self._held.values():
            await upstream.close()
        self._held.clear()
        self._uses.clear()
        await asyncio.gather(*self._closing)


def _key(settings: UpstreamSettings, owner: object) -> tuple[UpstreamSettings, object]:
    return settings, owner if settings.ca or settings.cert else None
