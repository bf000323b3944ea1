"""dnstap: a message of DNS and who exchanged it, as the protobuf that dnstap's tools read.

The schema is dnstap.proto (dnstap.info). It is small and will not change under us, so it is written
here field by field; a field that is empty or unknown is left out, as protobuf has it.
"""

import socket
from dataclasses import dataclass
from enum import IntEnum

from kdns.telemetry.protobuf import fixed32, number, octets

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"


class MessageType(IntEnum):
    """Who sends what to whom; see the picture in dnstap.proto."""

    AUTH_QUERY = 1
    AUTH_RESPONSE = 2
    RESOLVER_QUERY = 3
    RESOLVER_RESPONSE = 4
    CLIENT_QUERY = 5
    CLIENT_RESPONSE = 6
    FORWARDER_QUERY = 7
    FORWARDER_RESPONSE = 8
    STUB_QUERY = 9
    STUB_RESPONSE = 10
    TOOL_QUERY = 11
    TOOL_RESPONSE = 12
    UPDATE_QUERY = 13
    UPDATE_RESPONSE = 14


class SocketProtocol(IntEnum):
    """How a message travels."""

    UDP = 1
    TCP = 2
    DOT = 3
    DOH = 4


@dataclass(slots=True, frozen=True)
class Server:
    """Who taps."""

    identity: bytes = b""
    version: bytes = b""


@dataclass(slots=True, frozen=True)
class Message:
    """One message. Times are seconds since 1970; addresses numeric, "" where they are not known."""

    kind: MessageType
    protocol: SocketProtocol
    query_address: str = ""
    query_port: int = 0
    response_address: str = ""
    response_port: int = 0
    query_time: float = 0.0
    response_time: float = 0.0
    query: bytes = b""
    response: bytes = b""


def encode(server: Server, message: Message, extra: bytes = b"") -> bytes:
    """The payload of one frame."""
    return b"".join(
        [
            octets(1, server.identity),
            octets(2, server.version),
            octets(3, extra),
            octets(14, _message(message)),
            number(15, 1),
        ]
    )


def _message(message: Message) -> bytes:
    asked, answered = _packed(message.query_address), _packed(message.response_address)
    family = 2 if len(asked or answered) == 16 else 1
    parts = [number(1, message.kind)]
    if asked or answered:
        parts.append(number(2, family))
    parts += [
        number(3, message.protocol),
        octets(4, asked),
        octets(5, answered),
        number(6, message.query_port),
        number(7, message.response_port),
        _time(8, 9, message.query_time),
        octets(10, message.query),
        _time(12, 13, message.response_time),
        octets(14, message.response),
    ]
    return b"".join(parts)


def _packed(host: str) -> bytes:
    """Four or sixteen octets; none for what is no address. A scope is not part of it."""
    plain = host.partition("%")[0]
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
    except OSError:
        return b""


def _time(seconds_field: int, rest_field: int, when: float) -> bytes:
    """Whole seconds, and nanoseconds."""
    if not when:
        return b""
    seconds = int(when)
    return number(seconds_field, seconds) + fixed32(rest_field, int((when - seconds) * 1e9))
