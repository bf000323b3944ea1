"""dnstap: every message told, with or without its octets."""

from typing import cast

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import dnstap
from kdns.plugins.chain import refuse
from kdns.plugins.tap import SinkSettings, Tap
from kdns.telemetry.dnstap import MessageType, SocketProtocol
from kdns.testing.collector import fields
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, FakeSink, ask, settings

Fields = dict[int, int | bytes]


class Tapped:
    """A block with a dnstap directive, and what it has sent."""

    def __init__(self, text: str = "dnstap /tap full") -> None:
        self.parts = FakeParts()
        configured = settings(dnstap.parse, text)
        assert configured.build(self.parts, refuse) is refuse
        (self.sink,) = self.parts.sinks.values()
        (self.tap,) = self.parts.block.taps

    def told(self) -> list[tuple[Fields, Fields]]:
        """Envelope and message of each frame."""
        return [
            (fields(frame), fields(cast("bytes", fields(frame)[14]))) for frame in self.sink.frames
        ]


def tell_all(tap: Tap) -> None:
    request = ask("a.example")
    tap.asked(request, b"query")
    tap.forwarded("192.0.2.53:53", b"question", tcp=False)
    tap.returned("192.0.2.53:53", b"found", 0.25, tcp=False)
    tap.answered(request, Reply(Rcode.NXDOMAIN), b"reply", 0.5)


def test_each_message_is_told_with_its_octets() -> None:
    tapped = Tapped()
    tell_all(tapped.tap)
    told = [(inner[1], inner.get(10), inner.get(14)) for _, inner in tapped.told()]
    assert told == [
        (MessageType.CLIENT_QUERY, b"query", None),
        (MessageType.FORWARDER_QUERY, b"question", None),
        (MessageType.FORWARDER_RESPONSE, None, b"found"),
        (MessageType.CLIENT_RESPONSE, None, b"reply"),
    ]


def test_without_full_the_octets_are_left_out() -> None:
    tapped = Tapped("dnstap /tap")
    tell_all(tapped.tap)
    assert all({10, 14}.isdisjoint(inner) for _, inner in tapped.told())


def test_a_client_s_message_has_its_address_port_and_ours() -> None:
    tapped = Tapped()
    tapped.tap.asked(ask("a", host="2001:db8::1", proto="tcp", local="2001:db8::9"), b"")
    ((_, inner),) = tapped.told()
    assert (inner[2], inner[3], inner[6]) == (2, 2, 4242)
    assert (cast("bytes", inner[4])[-1], cast("bytes", inner[5])[-1]) == (1, 9)


def test_a_response_has_the_times_of_query_and_reply() -> None:
    tapped = Tapped()
    tapped.parts.clock.advance(10.0)
    tapped.tap.answered(ask("a"), Reply(), b"", 0.5)
    ((_, inner),) = tapped.told()
    assert (inner[8], inner[9], inner[12], inner[13]) == (1700001009, 500_000_000, 1700001010, 0)


def test_a_client_over_tls_is_told_to_be_one() -> None:
    tapped = Tapped()
    request = ask("a", proto="tcp")
    tapped.tap.asked(request._replace(peer=request.peer._replace(encrypted=True)), b"")
    ((_, inner),) = tapped.told()
    assert inner[3] == SocketProtocol.DOT


@pytest.mark.parametrize(
    ("label", "tcp", "protocol", "address", "port"),
    [
        ("192.0.2.53:53", False, 1, bytes((192, 0, 2, 53)), 53),
        ("192.0.2.53:5353", True, 2, bytes((192, 0, 2, 53)), 5353),
        ("tls://192.0.2.53:853", False, 3, bytes((192, 0, 2, 53)), 853),
        ("https://192.0.2.53:443/dns-query", False, 4, bytes((192, 0, 2, 53)), 443),
        ("[::1]:53", False, 1, bytes(15) + b"\x01", 53),
        ("https://dns.example:443/dns-query", False, 4, None, 443),
    ],
)
def test_an_upstream_is_told_by_protocol_address_and_port(
    label: str, tcp: bool, protocol: int, address: bytes | None, port: int
) -> None:
    tapped = Tapped()
    tapped.tap.forwarded(label, b"", tcp=tcp)
    ((_, inner),) = tapped.told()
    assert (inner[3], inner.get(5), inner[7]) == (protocol, address, port)


def test_identity_and_version_are_ours_unless_told_otherwise() -> None:
    tapped = Tapped()
    tapped.tap.asked(ask("a"), b"")
    ((envelope, _),) = tapped.told()
    assert envelope[1] == b"node-1"
    assert cast("bytes", envelope[2]).startswith(b"kdns-")
    other = Tapped("dnstap /tap {\nidentity me\nversion 7\n}")
    other.tap.asked(ask("a"), b"")
    ((envelope, _),) = other.told()
    assert (envelope[1], envelope[2]) == (b"me", b"7")


def test_extra_has_the_fields_of_log_and_a_query_none_of_a_reply() -> None:
    tapped = Tapped('dnstap /tap {\nextra "{name} {rcode} {rsize}"\n}')
    tell_all(tapped.tap)
    extras = [envelope.get(3) for envelope, _ in tapped.told()]
    assert extras == [b"a.example. - -", None, None, b"a.example. NXDOMAIN 5"]


def test_only_the_messages_asked_for_are_told() -> None:
    tapped = Tapped("dnstap /tap {\nmessage_types CLIENT_RESPONSE FORWARDER_QUERY\n}")
    tell_all(tapped.tap)
    assert [inner[1] for _, inner in tapped.told()] == [7, 6]


def test_each_query_is_looked_at() -> None:
    assert Tapped().parts.block.watches_queries


async def test_the_sink_begins_and_ends_with_the_server() -> None:
    tapped = Tapped()
    (start,), (stop,) = tapped.parts.started, tapped.parts.stopped
    start()
    ending = stop()
    assert ending is not None
    await ending
    assert tapped.sink == FakeSink(started=True, closed=True)


def test_what_is_sent_and_dropped_is_counted() -> None:
    tapped = Tapped()
    tapped.sink.sent, tapped.sink.dropped = 5, 2
    counted = {sample.name: sample.numbers for sample in tapped.parts.meters.sample()}
    assert counted == {
        "kdns_dnstap_sent_messages": [(("unix:///tap",), 5)],
        "kdns_dnstap_dropped_messages": [(("unix:///tap",), 2)],
    }


@pytest.mark.parametrize(
    ("text", "sink"),
    [
        ("dnstap /tap", SinkSettings("unix", "/tap", 10_000, 0)),
        ("dnstap unix:///tap full", SinkSettings("unix", "/tap", 10_000, 0)),
        ("dnstap tcp://[::1]:6000 full 2 3", SinkSettings("tcp", "[::1]:6000", 30_000, 2 << 20)),
        ("dnstap tls://a.example:6000", SinkSettings("tls", "a.example:6000", 10_000, 0)),
        (
            "dnstap tls://a.example:6000 {\nskipverify\n}",
            SinkSettings("tls", "a.example:6000", 10_000, 0, verify=False),
        ),
    ],
)
def test_where_to_is_written_as_in_coredns(text: str, sink: SinkSettings) -> None:
    configured = settings(dnstap.parse, text)
    assert isinstance(configured, dnstap.Dnstap)
    assert configured.sink == sink


def test_it_explains_itself() -> None:
    told = settings(dnstap.parse, "dnstap tcp://127.0.0.1:1 full").explain()
    assert told == "messages to tcp://127.0.0.1:1"
    assert "without the messages" in settings(dnstap.parse, "dnstap /tap").explain()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dnstap", r"^Corefile:2: dnstap: expected 1 to 4 arguments"),
        ("dnstap udp://a:1", r"^Corefile:2: dnstap: expected a path, tcp://.* got 'udp://a:1'"),
        ("dnstap tcp://a", r"^Corefile:2: expected HOST:PORT"),
        ("dnstap tcp://:6000", r"^Corefile:2: dnstap: expected a host and a port"),
        ("dnstap unix://", r"^Corefile:2: dnstap: expected a path"),
        ("dnstap /tap half", r"^Corefile:2: expected a number"),
        ("dnstap /tap full 0", r"^Corefile:2: expected a number from 1"),
        ("dnstap /tap 1 2 3", r"^Corefile:2: dnstap: expected full, got '1'"),
        ("dnstap /tap {\nidentity\n}", r"^Corefile:3: identity: expected 1 argument"),
        (f"dnstap /tap {{\nextra {'x' * 256}\n}}", r"^Corefile:3: extra: expected at most 255"),
        ("dnstap /tap {\nmessage_types ODD\n}", r"^Corefile:3: message_types: .* got 'ODD'"),
        ("dnstap /tap {\nskipverify x\n}", r"^Corefile:3: skipverify: expected 0 arguments"),
        ("dnstap /tap {\nx\n}", r"^Corefile:3: dnstap: unknown option 'x'; expected extra"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(dnstap.parse, text)
