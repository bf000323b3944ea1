"""From settings to upstream servers: plain, over TLS, over HTTPS."""

import asyncio
from random import Random

from kdns.net.upstream import Upstream
from kdns.net.upstream_https import HttpsUpstream
from kdns.net.upstream_tls import tls_context
from kdns.plugins.upstream import UpstreamSettings

AnyUpstream = Upstream | HttpsUpstream


def make_upstream(
    settings: UpstreamSettings, *, loop: asyncio.AbstractEventLoop, rng: Random
) -> AnyUpstream:
    """An upstream. Raises UpstreamSettingsError for files and addresses that cannot be used."""
    if settings.transport == "https":
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
    )
