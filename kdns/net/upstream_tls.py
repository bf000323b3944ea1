"""TLS towards upstreams: whom to believe, and sessions that are taken up again (RFC 8446, 2.2).

asyncio, uvloop and aiohttp make connections by `SSLContext.wrap_bio`, and none of them passes a
session. So the context does, from the connection that it made last.
"""

import ssl
from typing import Any

from kdns.plugins.upstream import UpstreamSettings, UpstreamSettingsError


class ResumingContext(ssl.SSLContext):
    """A context for connections to one server, each of which resumes the session before it."""

    _last: ssl.SSLObject | None = None
    _session: ssl.SSLSession | None = None

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """See ssl.SSLContext. A server that has forgotten the session makes a new one."""
        if self._last is not None:
            # Tickets come behind the handshake, so they are looked for as late as can be.
            session = self._last.session
            if session is not None and session.has_ticket:
                self._session = session
        options.setdefault("session", self._session)
        self._last = super().wrap_bio(*args, **options)
        return self._last


def tls_context(settings: UpstreamSettings) -> ResumingContext:
    """Whom to believe and as whom to come. Raises UpstreamSettingsError naming the file.

    RFC 8310, section 5: the strict profile. Who asks over TLS wants to know who answers: clients'
    contexts verify certificates and names unless told otherwise.
    """
    path = settings.ca
    try:
        context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if path:
            context.load_verify_locations(path)
        else:
            context.load_default_certs()
        if settings.cert:
            path = f"{settings.cert}, {settings.key}"
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ValueError) as error:
        expected = "a certificate and its key" if settings.cert and path != settings.ca else "CAs"
        raise UpstreamSettingsError(f"{path}: expected {expected} in PEM: {error}") from error
    return context
