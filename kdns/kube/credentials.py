"""Where the API server is, and how to prove who we are to it.

There are three sources, of which only the last imports the `kubernetes` package: the service
account of the pod we run in, an explicit endpoint with certificate files, and a kubeconfig
(`kdns.kube.kubeconfig`).
"""

import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
log = logging.getLogger("kdns.kube")

TOKEN_LIFE = 60.0
"""Seconds for which a token is used before its file is read again; the kubelet rotates it."""


class CredentialsError(Exception):
    """No way to the API server: one line that says what, where, and what to do."""


Authorization = Callable[[str | None], Awaitable[str]]
"""Gives the value of the Authorization header; empty for none.

The argument is the value that the server last refused with 401, or None: what is given must be
fresher than a refused one, if there is anything fresher. Raises CredentialsError.
"""


async def anonymous(_rejected: str | None) -> str:
    """No Authorization header at all: a client certificate speaks for us, or nothing does."""
    return ""


@dataclass(slots=True)
class Connection:
    """One API server and our credentials for it.

    `server` is a URL without a trailing slash; `ssl` is None for http. `server_hostname` is the
    name its certificate must show, when that is not the URL's; `proxy` is a URL, or empty. `others`
    are further URLs of the same API, to be asked when the first one fails. `files` are what `ssl`
    was made of, where somebody else may change them.

    `authorization` may replace `ssl` when the credentials are a certificate: what was connected
    under the old context is not to be used again.
    """

    server: str
    ssl: "ssl.SSLContext | None" = None
    authorization: Authorization = anonymous
    server_hostname: str = ""
    proxy: str = ""
    others: tuple[str, ...] = ()
    files: "TlsFiles | None" = None

    @property
    def servers(self) -> tuple[str, ...]:
        """All URLs, in the order in which they are tried."""
        return (self.server, *self.others)

    def renew(self) -> None:
        """Have `ssl` be what the files say, if they have changed; connections live on."""
        if self.files is not None and (fresh := self.files.changed()) is not None:
            self.ssl = fresh


def in_cluster(
    environ: Mapping[str, str],
    root: Path = SERVICE_ACCOUNT,
    clock: Callable[[], float] = time.monotonic,
) -> Connection:
    """The connection of a pod, by its service account. Raises CredentialsError.

    `environ` has KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT; `root` holds the files
    `token` and `ca.crt`; `clock` counts seconds.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdigit():
        raise CredentialsError(
            "not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
            "outside a cluster name an `endpoint` or a `kubeconfig`"
        )
    token = TokenFile(root / "token", clock)
    token.read()
    files = TlsFiles(ca=str(root / "ca.crt"))
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Connection(url, files.context, token, files=files)


def endpoint(
    url: str, cert: str = "", key: str = "", ca: str = "", *, others: tuple[str, ...] = ()
) -> Connection:
    """The connection to an explicit URL, with PEM files where given. Raises CredentialsError.

    others: further URLs of the same API.
    """
    urls = (url, *others)
    for each in urls:
        if not is_http(each):
            raise CredentialsError(f"endpoint {each!r}: expected http://HOST[:PORT] or https://...")
    bare = tuple(each.rstrip("/") for each in urls)
    if not any(each.lower().startswith("https:") for each in urls):
        return Connection(bare[0], others=bare[1:])
    files = TlsFiles(ca, cert, key)
    return Connection(bare[0], files.context, others=bare[1:], files=files)


class Known(NamedTuple):
    """What people know PEM files as, where that is not their names."""

    ca: str = ""
    cert: str = ""
    key: str = ""


BY_NAME: Final = Known()


class TlsFiles:
    """A client context from PEM files that somebody else rotates: cert-manager, the kubelet.

    Raises CredentialsError where they cannot be used.
    """

    def __init__(
        self,
        ca: str = "",
        cert: str = "",
        key: str = "",
        *,
        verify: bool = True,
        known: Known = BY_NAME,
    ) -> None:
        self._names = (ca, cert, key)
        self._verify = verify
        self._known = known
        self._seen = self._state()
        self.context = tls_context(*self._names, verify=verify, known=known)

    def changed(self) -> ssl.SSLContext | None:
        """A new context when the files have changed since the last call, and are of use."""
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            self.context = tls_context(*self._names, verify=self._verify, known=self._known)
        except CredentialsError as error:
            # Caught half written, they will change again; what was read once is still good.
            log.warning("%s; going on with what it held before", error)
            return None
        log.info("the certificates for the API server have changed: %s", self)
        return self.context

    def __str__(self) -> str:
        return ", ".join(filter(None, self._names))

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_identity(name) for name in self._names if name)


class TokenFile:
    """A bearer token in a file that somebody else rotates. It is an `Authorization`."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._value = ""
        self._until = 0.0

    async def __call__(self, rejected: str | None) -> str:
        """The header's value, at most TOKEN_LIFE old, and not `rejected` unless the file is."""
        if rejected and self._value == rejected:
            self.read()
        elif self._clock() >= self._until:
            self._renew()
        return self._value

    def read(self) -> None:
        """Read the file now. Raises CredentialsError."""
        try:
            token = self._path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(self._advice(reason(error))) from error
        if not token.isprintable() or not token:
            raise CredentialsError(self._advice("it holds no token"))
        self._value = f"Bearer {token}"
        self._until = self._clock() + TOKEN_LIFE

    def _renew(self) -> None:
        # A file that cannot be read for a moment is no reason to stop using a token that works.
        try:
            self.read()
        except CredentialsError:
            if not self._value:
                raise
            self._until = self._clock() + TOKEN_LIFE

    def _advice(self, why: str) -> str:
        return (
            f"service account token {self._path}: {why}; "
            "the pod needs a service account with automountServiceAccountToken"
        )


def tls_context(
    ca: str = "", cert: str = "", key: str = "", *, verify: bool = True, known: Known = BY_NAME
) -> ssl.SSLContext:
    """A client context that trusts `ca` (else the system) and shows `cert`; PEM file names.

    Raises CredentialsError, which names the file, or what it is `known` as.
    """
    known = Known(
        known.ca or f"CA certificate {ca}",
        known.cert or f"client certificate {cert}",
        known.key or f"client key {key}",
    )
    # A context trusts what it was made with and whatever is added, so ours is made with the one
    # that is to be trusted; and what the system trusts takes megabytes to read.
    context = _only_trusting(ca, known.ca) if ca else ssl.create_default_context()
    # Cluster CAs are often made without an authority key identifier. Python refuses those since
    # 3.13, where it made strictness the default; kubectl accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert or key:
        _show(context, cert, key, known)
    return context


def _identity(name: str) -> tuple[int, int, int] | None:
    """What changes when a file does, behind whatever links; None where there is none."""
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _show(context: ssl.SSLContext, cert: str, key: str, known: Known) -> None:
    if not cert or not key:
        given, missing = (known.cert, "key") if cert else (known.key, "certificate")
        raise CredentialsError(f"{given} comes without its {missing}")
    _readable(known.cert, cert)
    _readable(known.key, key)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise CredentialsError(_why_not_shown(cert, known, error)) from error


def _why_not_shown(cert: str, known: Known, error: OSError | ValueError) -> str:
    """Which of a certificate and its key is not what was expected: OpenSSL does not say."""
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{known.key}: expected the key of {known.cert}, found that of another certificate"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except (OSError, ValueError):
        return f"{known.cert}: expected PEM certificates ({reason(error)})"
    return f"{known.key}: expected an unencrypted PEM key ({reason(error)})"


def reason(error: Exception) -> str:
    """What an error says, in one line and without the errno."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # asyncio writes the address there, which whoever tells of it has told already.
    if isinstance(error, OSError) and text.startswith("Connect call failed") and error.errno:
        text = os.strerror(error.errno)
    return " ".join(text.split()) or type(error).__name__


def is_http(url: str) -> bool:
    """Whether it is a URL that can be asked: http or https, a host, and a port that is one."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.port != 0
        return known and is_host(parts.hostname or "")
    except ValueError:  # a port that is no number, a bracket without its other half
        return False


def is_host(name: str) -> bool:
    """Whether it can be asked for, or be in a certificate: an empty or a long label cannot."""
    try:
        return bool(name.encode("idna"))  # as the socket and ssl modules do
    except UnicodeError:
        return False


def _only_trusting(ca: str, known: str) -> ssl.SSLContext:
    _readable(known, ca)
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{known}: expected PEM certificates ({reason(error)})") from error


def _readable(known: str, name: str) -> None:
    # The ssl module's own errors for a missing file do not say which one.
    try:
        Path(name).read_bytes()
    except OSError as error:
        why = f"{reason(error)}; check the path and who may read it"
        raise CredentialsError(f"{known}: {why}") from error


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal, and wait.
    raise ValueError("the key is encrypted")
