"""TLS of an address of HTTP, by a web configuration file as Prometheus's exporters have them.

    tls_server_config:
      cert_file, key_file                     beside this file, unless absolute
      client_auth_type, client_ca_file        whom it lets in
      min_version, max_version                TLS12, TLS13

What else may stand in such a file is an error and no warning: who wants passwords asked for is not
to be served without. (prometheus.io/docs/prometheus/latest/configuration/https)
"""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kdns.plugins.parts import WebConfigError

log = logging.getLogger("kdns.http")

SECTION = "tls_server_config"
MAX_OCTETS = 1 << 20
_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_KNOWN = (
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "min_version",
    "max_version",
)


@dataclass(frozen=True)
class Secured:
    """How one address is served. Alike are those that need no new connection.

    cert, key: files, read again when they change. client_ca: PEM, or nothing.
    """

    cert: Path
    key: Path
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca: str = ""
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    context: ssl.SSLContext | None = field(default=None, compare=False)


def read_web_config(path: Path) -> Secured:
    """What such a file says, ready for use. Raises WebConfigError naming it."""
    text = _read(path)
    try:
        document: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WebConfigError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping) or not isinstance(document.get(SECTION), Mapping):
        raise WebConfigError(f"{path}: expected {SECTION} with cert_file and key_file")
    _only(path, document, (SECTION,), "")
    section: Mapping[str, Any] = document[SECTION]
    _only(path, section, _KNOWN, f"{SECTION}.")
    for name, value in section.items():
        if not isinstance(value, str):
            raise WebConfigError(f"{path}: {SECTION}.{name}: expected a text, got {value!r}")
    missing = [name for name in ("cert_file", "key_file") if not section.get(name)]
    if missing:
        raise WebConfigError(f"{path}: expected {SECTION}.{missing[0]}")
    auth = _one_of(path, section, "client_auth_type", _AUTH, "NoClientCert")
    ca = section.get("client_ca_file", "")
    if bool(ca) != (auth is not ssl.CERT_NONE):
        raise WebConfigError(
            f"{path}: expected both or none of {SECTION}.client_ca_file and a client_auth_type "
            "that verifies"
        )
    secured = Secured(
        path.parent / section["cert_file"],
        path.parent / section["key_file"],
        auth,
        _read(path.parent / ca) if ca else "",
        _one_of(path, section, "min_version", _VERSIONS, "TLS12"),
        _one_of(path, section, "max_version", _VERSIONS, "TLS13"),
    )
    context = _context(secured)
    context.sni_callback = _Renewal(secured, context)
    object.__setattr__(secured, "context", context)
    return secured


class _Renewal:
    """Gives each handshake the certificate that is on the disk: called for all of them."""

    def __init__(self, secured: Secured, context: ssl.SSLContext) -> None:
        self._secured = secured
        self._newest = context
        self._seen = self._stamp()

    def __call__(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._newest = _context(self._secured)
            except WebConfigError as error:
                log.warning("%s; the one before goes on", error)
        if self._newest is not context:
            connection.context = self._newest

    def _stamp(self) -> tuple[object, ...]:
        """Changes when a file does; Kubernetes puts links to others in their place."""
        stamp: list[object] = []
        for path in (self._secured.cert, self._secured.key):
            try:
                stat = path.stat()
            except OSError:
                stamp.append(None)
            else:
                stamp.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(stamp)


def _context(secured: Secured) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = secured.minimum
    context.maximum_version = secured.maximum
    try:
        context.load_cert_chain(secured.cert, secured.key)
    except (OSError, ValueError) as error:
        places = f"{secured.cert}, {secured.key}"
        raise WebConfigError(f"{places}: expected a certificate and its key: {error}") from error
    if secured.client_ca:
        try:
            context.load_verify_locations(cadata=secured.client_ca)
        except (OSError, ValueError) as error:
            raise WebConfigError(f"client_ca_file: expected CAs in PEM: {error}") from error
    context.verify_mode = secured.client_auth
    return context


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_OCTETS + 1)
        if len(data) > MAX_OCTETS:
            raise WebConfigError(f"{path}: expected at most {MAX_OCTETS} octets")
        return data.decode()
    except OSError as error:
        raise WebConfigError(f"{path}: {error.strerror}; expected a file") from error
    except UnicodeDecodeError as error:
        raise WebConfigError(f"{path}: expected UTF-8: {error}") from error


def _only(path: Path, found: Mapping[str, Any], known: tuple[str, ...], within: str) -> None:
    for name in found:
        if name not in known:
            expected = ", ".join(known)
            raise WebConfigError(f"{path}: {within}{name}: kdns has not this; expected {expected}")


def _one_of(path: Path, section: Mapping[str, Any], name: str, known: Any, default: str) -> Any:
    given = section.get(name, default)
    if given not in known:
        expected = ", ".join(known)
        raise WebConfigError(f"{path}: {SECTION}.{name}: expected one of {expected}, got {given!r}")
    return known[given]
