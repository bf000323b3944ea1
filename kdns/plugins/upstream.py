"""What a directive needs of another DNS server: a question out, a reply or an error back."""

from dataclasses import dataclass
from typing import Literal, Protocol

from kdns.plugins.pending import Pending

UpstreamFailure = Literal["timeout", "refused", "lost", "busy", "malformed", "closed"]
"""Why there is no reply: none in time; nobody listens there, or no way to it; the connection was
lost twice; too many questions are pending already, or we can have no more sockets; the query is no
question; we are closing."""

Transport = Literal["dns", "tls", "https"]


@dataclass(slots=True, frozen=True)
class UpstreamSettings:
    """One upstream server, and how to talk to it. The same settings are the same server.

    host: numeric for dns and tls, when it is asked; path: of https. The durations are in seconds:
    how long an idle connection is kept (expire), how long any is (max_age; 0 for ever), and how
    many idle ones are (max_idle_conns; 0 for as many as there are). randomize_case,
    cookies: see net.upstream; over UDP.
    """

    host: str
    port: int = 53
    transport: Transport = "dns"
    path: str = ""
    servername: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    expire: float = 10.0
    max_age: float = 0.0
    max_idle_conns: int = 0
    source_address: str = ""
    doh_method: Literal["GET", "POST"] = "POST"
    randomize_case: bool = False
    cookies: bool = True

    def __str__(self) -> str:
        """As metrics and the log name it: what a Corefile has."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "" if self.transport == "dns" else f"{self.transport}://"
        return f"{scheme}{host}:{self.port}{self.path}"


class UpstreamSettingsError(ValueError):
    """Settings that nothing can be asked by: a file that cannot be used, say."""


class UpstreamError(Exception):
    """Why there is no reply. It is given as a value, not raised."""

    def __init__(self, failure: UpstreamFailure, message: str) -> None:
        super().__init__(message)
        self.failure: UpstreamFailure = failure


class UpstreamExchange(Protocol):
    """One upstream server."""

    def ask(self, query: bytes, *, tcp: bool, timeout: float) -> Pending[bytes | UpstreamError]:
        """Ask `query` over UDP, or TCP; a truncated UDP reply is asked again over TCP by itself.

        The reply has the query's ID and question. `timeout` is in seconds, for everything together.
        It never raises: every failure is an UpstreamError in the result.
        """
