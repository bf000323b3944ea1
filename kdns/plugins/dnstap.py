"""dnstap: tells a collector of every message, in protobuf over Frame Streams.

Clients' queries and our replies are told as they were on the wire; so are questions to upstreams
and their replies, where `forward` asks. Each query must be looked at, so nothing is answered hot.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import kdns
from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins import log
from kdns.plugins.chain import Handler, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.plugins.tap import Sink, SinkSettings
from kdns.telemetry.dnstap import Message, MessageType, Server, SocketProtocol, encode
from kdns.telemetry.meters import Labels
from kdns.wire.reply import Reply

QUEUE = 10_000
"""Frames that may wait, as in CoreDNS; the Corefile multiplies it."""
MAX_TIMES = 1024
MAX_TEXT = 255
_MEGABYTE = 1 << 20
_PROTOCOLS = {"tls": SocketProtocol.DOT, "https": SocketProtocol.DOH}


@dataclass(slots=True)
class Dnstap(Configured):
    """The settings of one dnstap directive."""

    sink: SinkSettings
    full: bool = False
    identity: str | None = None
    version: str = f"kdns-{kdns.__version__}"
    extra: str = ""
    kinds: frozenset[MessageType] = field(default_factory=lambda: frozenset(MessageType))

    def explain(self) -> str:
        told = "messages" if self.full else "who asked whom, without the messages,"
        return f"{told} to {self.sink}"

    def build(self, parts: Parts, following: Handler) -> Handler:
        sink = parts.sink(self.sink)
        parts.block.taps.append(Teller(self, sink, parts))
        parts.block.watches_queries = True
        parts.when_started(sink.start)
        parts.when_stopped(sink.close)
        count(sink, str(self.sink), parts)
        return following


def count(sink: Sink, place: str, parts: Parts) -> None:
    """Have what was sent and dropped among the metrics."""

    def reading(read: Callable[[], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((place,), read())]

    for metric, text, read in (
        ("kdns_dnstap_sent_messages", "Messages sent to dnstap.", lambda: sink.sent),
        (
            "kdns_dnstap_dropped_messages",
            "Messages that dnstap did not take in time.",
            lambda: sink.dropped,
        ),
    ):
        parts.meters.watch("counter", metric, text, ("to",), reading(read))


class Teller:
    """A Tap that writes dnstap. Without `full` the messages themselves are left out."""

    def __init__(self, settings: Dnstap, sink: Sink, parts: Parts) -> None:
        identity = parts.hostname if settings.identity is None else settings.identity
        self._server = Server(identity.encode(), settings.version.encode())
        self._full = settings.full
        self._kinds = settings.kinds
        self._sink = sink
        self._now = parts.now
        self._extra: log.Render | None = None
        self._asked_extra: log.Render | None = None
        if settings.extra:
            self._extra = log.compile_template(settings.extra, parts.block)
            self._asked_extra = log.compile_template(settings.extra, parts.block, replied=False)

    def asked(self, request: Request, wire: bytes) -> None:
        """See tap.Tap."""
        extra = self._asked_extra and self._asked_extra(request, _NO_REPLY, 0, 0.0)
        self._tell(
            Message(
                MessageType.CLIENT_QUERY,
                *_client(request),
                query_time=self._now(),
                query=wire if self._full else b"",
            ),
            extra,
        )

    def answered(self, request: Request, reply: Reply, wire: bytes, seconds: float) -> None:
        """See tap.Tap."""
        now = self._now()
        extra = self._extra and self._extra(request, reply, len(wire), seconds)
        self._tell(
            Message(
                MessageType.CLIENT_RESPONSE,
                *_client(request),
                query_time=now - seconds,
                response_time=now,
                response=wire if self._full else b"",
            ),
            extra,
        )

    def forwarded(self, upstream: str, wire: bytes, *, tcp: bool) -> None:
        """See tap.Tap. Several clients may wait for one question, so none is named."""
        protocol, host, port = _upstream(upstream, tcp=tcp)
        self._tell(
            Message(
                MessageType.FORWARDER_QUERY,
                protocol,
                response_address=host,
                response_port=port,
                query_time=self._now(),
                query=wire if self._full else b"",
            )
        )

    def returned(self, upstream: str, wire: bytes, seconds: float, *, tcp: bool) -> None:
        """See tap.Tap."""
        protocol, host, port = _upstream(upstream, tcp=tcp)
        now = self._now()
        self._tell(
            Message(
                MessageType.FORWARDER_RESPONSE,
                protocol,
                response_address=host,
                response_port=port,
                query_time=now - seconds,
                response_time=now,
                response=wire if self._full else b"",
            )
        )

    def _tell(self, message: Message, extra: str | None = None) -> None:
        if message.kind in self._kinds:
            self._sink.put(encode(self._server, message, (extra or "").encode()))


_NO_REPLY = Reply()


def _client(request: Request) -> tuple[SocketProtocol, str, int, str]:
    peer = request.peer
    stream = SocketProtocol.DOT if peer.encrypted else SocketProtocol.TCP
    protocol = stream if peer.proto == "tcp" else SocketProtocol.UDP
    return protocol, peer.host, peer.port, peer.local


@lru_cache(maxsize=256)
def _upstream(label: str, *, tcp: bool) -> tuple[SocketProtocol, str, int]:
    """Protocol, host and port of an upstream, from its label."""
    plain = SocketProtocol.TCP if tcp else SocketProtocol.UDP
    parsed = urlsplit(label if "://" in label else f"dns://{label}")
    return _PROTOCOLS.get(parsed.scheme, plain), parsed.hostname or "", parsed.port or 0


def parse(directive: Directive, zones: tuple[str, ...]) -> Dnstap:
    """See configured.Parse. `dnstap SOCKET [full] [WRITEBUFFER] [QUEUE] { … }`."""
    socket, *rest = values.between(directive, 1, 4)
    full = bool(rest) and rest[0].text == "full"
    sizes = [values.integer(token, minimum=1, maximum=MAX_TIMES) for token in rest[full:]]
    if len(sizes) > 2:
        raise CorefileError.at(rest[0], f"dnstap: expected full, got {rest[0].text!r}")
    megabytes, times = (*sizes, *(0, 1)[len(sizes) :])
    given: dict[str, str] = {}
    kinds: set[MessageType] = set()
    verify = True

    def text(option: Directive) -> None:
        (token,) = values.exactly(option, 1)
        if len(token.text.encode()) > MAX_TEXT:
            raise CorefileError.at(token, f"{option.name}: expected at most {MAX_TEXT} octets")
        given[option.name] = token.text

    def message_types(option: Directive) -> None:
        for token in values.at_least(option, 1):
            if token.text not in MessageType.__members__:
                raise CorefileError.at(
                    token, f"message_types: expected CLIENT_QUERY, say, got {token.text!r}"
                )
            kinds.add(MessageType[token.text])

    def skipverify(option: Directive) -> None:
        nonlocal verify
        verify = not values.flag(option)

    read_options(
        directive,
        {
            "identity": text,
            "version": text,
            "extra": text,
            "message_types": message_types,
            "skipverify": skipverify,
        },
    )
    settings = Dnstap(_place(socket, megabytes * _MEGABYTE, times * QUEUE, verify=verify), full)
    settings.identity = given.get("identity")
    settings.version = given.get("version", settings.version)
    settings.extra = given.get("extra", "")
    settings.kinds = frozenset(kinds) or settings.kinds
    return settings


def _place(token: Token, buffer: int, queue: int, *, verify: bool) -> SinkSettings:
    """`unix:///PATH`, `/PATH`, `tcp://HOST:PORT` or `tls://HOST:PORT`."""
    scheme, separator, rest = token.text.partition("://")
    if not separator:
        scheme, rest = "unix", token.text
    if scheme == "unix" and rest:
        return SinkSettings("unix", rest, queue, buffer, verify)
    if scheme not in ("tcp", "tls"):
        raise CorefileError.at(
            token,
            f"dnstap: expected a path, tcp://HOST:PORT or tls://HOST:PORT, got {token.text!r}",
        )
    host, port = values.listen_address(Token(rest, token.file, token.line))
    if not host or not port:
        raise CorefileError.at(token, f"dnstap: expected a host and a port in {token.text!r}")
    place = str(values.ListenAddress(host, port))
    return SinkSettings("tls" if scheme == "tls" else "tcp", place, queue, buffer, verify)
