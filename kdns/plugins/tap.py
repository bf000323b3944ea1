"""What looks at messages as they are on the wire, and where it sends what it makes of them."""

from dataclasses import dataclass
from typing import Literal, Protocol

from kdns.plugins.chain import Request
from kdns.wire.reply import Reply


class Tap(Protocol):
    """Is told of messages. It never raises, and never waits."""

    def asked(self, request: Request, wire: bytes) -> None:
        """A client's query has come."""

    def answered(self, request: Request, reply: Reply, wire: bytes, seconds: float) -> None:
        """It is answered, so many seconds later."""

    def forwarded(self, upstream: str, wire: bytes, *, tcp: bool) -> None:
        """A question goes to an upstream, named as in UpstreamSettings."""

    def returned(self, upstream: str, wire: bytes, seconds: float, *, tcp: bool) -> None:
        """Its reply has come, so many seconds later."""


@dataclass(slots=True, frozen=True)
class SinkSettings:
    """Where frames go. place: a path for unix, else HOST:PORT; queue: frames that may wait."""

    transport: Literal["unix", "tcp", "tls"]
    place: str
    queue: int
    buffer: int
    """Octets of the kernel's buffer for what is sent; 0 for what it has by itself."""
    verify: bool = True

    def __str__(self) -> str:
        return f"{self.transport}://{self.place}"


class Sink(Protocol):
    """Takes frames and sends them on, when it can."""

    sent: int
    dropped: int

    def put(self, frame: bytes) -> None:
        """Send this some time. Never raises, never waits; what there is no room for is dropped."""

    def start(self) -> None:
        """Begin to connect."""

    async def close(self) -> None:
        """Send what waits, if that is quick, and end."""
