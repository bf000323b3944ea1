"""tls: the certificate of a block of tls://, and which clients it lets in (RFC 7858)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.encryption import CertificateError, ClientAuth, ServerTls
from kdns.plugins.parts import Parts

AUTH: dict[str, ClientAuth] = {
    "nocert": "nocert",
    "request": "nocert",
    "verify_if_given": "verify_if_given",
    "require_and_verify": "require_and_verify",
}
_SAID: dict[ClientAuth, str] = {
    "nocert": "",
    "verify_if_given": "; a client's certificate, if it has one, must be of ",
    "require_and_verify": "; for clients with a certificate of ",
}
Loaded = TypeVar("Loaded")


@dataclass(slots=True, frozen=True)
class Tls(Configured):
    """The settings of one tls directive. asks_in_vain: see `warnings`."""

    directive: Directive
    server: ServerTls
    asks_in_vain: bool = False

    def explain(self) -> str:
        server = self.server
        said = _SAID[server.client_auth]
        whose = (server.ca or "a CA that this host trusts") if said else ""
        return f"over TLS with the certificate {server.cert}{said}{whose}"

    def warnings(self) -> tuple[str, ...]:
        if not self.asks_in_vain:
            return ()
        place = self.directive.place
        return (
            f"{place}: client_auth request has no effect: nobody would look at the certificates",
        )

    def load(self, read: Callable[[ServerTls], Loaded]) -> Loaded:
        """What `read` makes of the files. Raises CorefileError, where `read` CertificateError."""
        try:
            return read(self.server)
        except CertificateError as error:
            raise CorefileError.at(self.directive, f"tls: {error}") from error

    def build(self, parts: Parts, following: Handler) -> Handler:
        # It belongs to the port, which more than one block may share: see endpoint.py.
        parts.block.certificates = self.load(parts.certificates)
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Tls:
    """See configured.Parse. `tls CERT KEY [CA] { client_auth … }`."""
    cert, key, *more = (token.text for token in values.between(directive, 2, 3))
    given: list[str] = []

    def client_auth(option: Directive) -> None:
        (token,) = values.exactly(option, 1)
        if given:
            raise CorefileError.at(option, "client_auth stands twice; expected once")
        if token.text == "require":
            raise CorefileError.at(
                token,
                "client_auth require takes any certificate, which proves nothing, and kdns cannot; "
                "expected require_and_verify",
            )
        if token.text not in AUTH:
            expected = ", ".join(AUTH)
            raise CorefileError.at(
                token, f"client_auth: expected one of {expected}, got {token.text!r}"
            )
        given.append(token.text)

    read_options(directive, {"client_auth": client_auth})
    asked = given[0] if given else "nocert"
    server = ServerTls(cert, key, more[0] if more else "", AUTH[asked])
    return Tls(directive, server, asked == "request")
