"""What a directive needs of another DNS server: a question out, a reply or an error back."""

from typing import Literal, Protocol

from kdns.plugins.pending import Pending

UpstreamFailure = Literal["timeout", "refused", "lost", "busy", "malformed", "closed"]
"""Why there is no reply: none in time; nobody listens there, or no way to it; the connection was
lost twice; too many questions are pending already; the query is no question; we are closing."""


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
