"""From settings to upstream servers: plain, over TLS, over HTTPS."""

import asyncio
import ssl
from random import Random

from kdns.net.upstream import Upstream
from kdns.net.upstream_https import HttpsUpstream
from kdns.plugins.upstream import UpstreamSettings, UpstreamSettingsError

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


def tls_context(settings: UpstreamSettings) -> ssl.SSLContext:
    """Whom to believe and as whom to come. Raises UpstreamSettingsError naming the file.

    RFC 8310, section 5: the strict profile. Who asks over TLS wants to know who answers.
    """
    path = settings.ca
    try:
        context = ssl.create_default_context(cafile=path or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert:
            path = f"{settings.cert}, {settings.key}"
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ValueError) as error:
        expected = "a certificate and its key" if settings.cert and path != settings.ca else "CAs"
        raise UpstreamSettingsError(f"{path}: expected {expected} in PEM: {error}") from error
    return context
