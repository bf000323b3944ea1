"""Who asked, and over what."""

import socket
from typing import Literal, NamedTuple, Protocol

from kdns.plugins.pending import Pending

Proto = Literal["udp", "tcp"]


class Peer(NamedTuple):
    """The client of one question. `host` is numeric; a v4-mapped address is written as IPv4."""

    host: str
    port: int
    proto: Proto
    local: str
    """The numeric address that was asked; empty when the socket cannot tell."""
    encrypted: bool = False

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4


def packed(host: str) -> bytes:
    """The 4 or 16 octets of a numeric address; its scope is left out."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_pton(socket.AF_INET, host)


class Answerer(Protocol):
    """Turns the bytes of one message into the bytes of its reply. It never raises."""

    def __call__(self, wire: bytes, peer: Peer) -> bytes | None | Pending[bytes | None]:
        """The reply, None for silence, or either of them later."""
