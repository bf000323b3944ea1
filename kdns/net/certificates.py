"""Certificates of listeners: PEM files that somebody else renews, made into contexts.

    a connection --> have the files changed? --no--> the context at hand
                          | yes
                          +--> read, of use? --yes--> that one from now on
                                  | no
                                  +--> one line in the log; the one before goes on, if there is one

What is seen of a file costs a look at its inode, so it can be asked for at every connection, and
neither a reload nor a timer is needed: cert-manager, the kubelet and certbot put new files there.
"""

import logging
import os
import ssl
from typing import Final

from kdns.plugins.encryption import CertificateError, ClientAuth, ServerTls
from kdns.plugins.rereading import BadFile, read_octets

log = logging.getLogger("kdns.tls")

ALPN: Final = "dot"
"""RFC 7858, section 3.1, as registered for RFC 7301: offered, and not demanded."""
_VERIFY: Final[dict[ClientAuth, ssl.VerifyMode]] = {
    "nocert": ssl.CERT_NONE,
    "verify_if_given": ssl.CERT_OPTIONAL,
    "require_and_verify": ssl.CERT_REQUIRED,
}
_Stamp = tuple[tuple[int, int, int, int] | None, ...]


class FileCertificates:
    """Implements encryption.Certificates.

    judged: see Parts; files that are of no use are one line in the log. Otherwise it raises
    CertificateError.
    """

    def __init__(self, settings: ServerTls, *, judged: bool = False) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        # Looked at before it is read: what changes in between is seen the next time.
        self._seen = self._stamp()
        try:
            self._context = server_context(settings)
        except CertificateError as error:
            if not judged:
                raise
            self._excuse(error)

    def context(self) -> ssl.SSLContext | None:
        """See encryption.Certificates."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._context = server_context(self._settings)
            except CertificateError as error:
                self._excuse(error)
            else:
                log.info("%s has changed: read again", self._settings.cert)
        return self._context

    def _excuse(self, error: CertificateError) -> None:
        # Half written, they will change again; gone, they may come back.
        so = (
            "nobody is answered over TLS until it changes"
            if self._context is None
            else "the one before goes on"
        )
        log.warning("%s; %s", error, so)

    def _stamp(self) -> _Stamp:
        settings = self._settings
        return tuple([_identity(name) for name in (settings.cert, settings.key, settings.ca)])


def _identity(name: str) -> tuple[int, int, int, int] | None:
    """What changes when a file does, behind whatever links; None where there is none."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def server_context(settings: ServerTls) -> ssl.SSLContext:
    """What these files say now. Raises CertificateError.

    RFC 8310, section 9, by RFC 9325: TLS 1.2 and later; no renegotiation, which costs us more than
    who asks for it. Sessions are resumed as OpenSSL does of itself (RFC 7858, section 3.4).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])
    # OpenSSL's errors do not say which of the files it was, and it waits for a pipe.
    for name in (settings.cert, settings.key, *filter(None, [settings.ca])):
        _readable(name)
    # A key's error looks like a certificate's, so that is looked at alone before.
    _believe(settings.cert, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "a certificate")
    try:
        context.load_cert_chain(settings.cert, settings.key, _no_password)
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"{settings.key}: expected the key of {settings.cert}, in PEM and without a password"
            f"{_reason(error)}"
        ) from error
    context.verify_mode = _VERIFY[settings.client_auth]
    if settings.ca:
        _believe(settings.ca, context, "certificates of CAs")
        # As in CoreDNS, what the file has is believed, whether or not who signed it is there too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def _believe(name: str, context: ssl.SSLContext, what: str) -> None:
    try:
        context.load_verify_locations(name)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{name}: expected {what} in PEM{_reason(error)}") from error


def _readable(name: str) -> None:
    try:
        read_octets(name)
    except BadFile as error:
        raise CertificateError(str(error)) from error


def _no_password() -> str:
    """Otherwise OpenSSL asks for one at the terminal, and waits."""
    return ""


def _reason(error: Exception) -> str:
    """What OpenSSL found, where it says that; else its errors name lines of its own."""
    reason = getattr(error, "reason", None)
    return f": {reason.replace('_', ' ').lower()}" if isinstance(reason, str) else ""
