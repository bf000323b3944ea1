"""What the tls directive needs of the shells: files of certificates, made of use."""

import ssl
from dataclasses import dataclass
from typing import Literal, Protocol

ClientAuth = Literal["nocert", "verify_if_given", "require_and_verify"]
"""Whether a client is asked for a certificate, and whether it must have one."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How what listens is encrypted: names of PEM files, relative to where the process runs.

    ca: whose certificates of clients are believed; "" for those that the system trusts.
    """

    cert: str
    key: str
    ca: str = ""
    client_auth: ClientAuth = "nocert"


class CertificateError(ValueError):
    """Why files cannot be used: which, and what was expected, in one line."""


class Certificates(Protocol):
    """What a listener shows of itself."""

    def context(self) -> ssl.SSLContext | None:
        """For the next handshake; None while there is nothing to show. It never raises."""
