"""health: alive, and answering for a while after it is told to stop."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import health
from kdns.plugins.chain import refuse
from kdns.plugins.parts import HttpReply
from tests.plugins.fakes import FakeParts, settings


@pytest.mark.parametrize(
    ("text", "address", "lameduck"),
    [
        ("health", ":8080", 0.0),
        ("health localhost:8091", "localhost:8091", 0.0),
        ("health {\nlameduck 5s\n}", ":8080", 5.0),
        ("health [::1]:8080 {\nlameduck 1m\n}", "[::1]:8080", 60.0),
    ],
)
def test_it_says_ok_where_it_is_told_to(text: str, address: str, lameduck: float) -> None:
    parts = FakeParts()
    configured = settings(health.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert list(parts.routes) == [(address, "/health")]
    reply = parts.routes[address, "/health"]()
    assert isinstance(reply, HttpReply)
    assert (reply.status, reply.body) == (200, b"OK")
    assert parts.lameduck == lameduck
    assert configured.explain() == f"http://{address}/health; lameduck {lameduck:g} s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("health 8080", r"^Corefile:2: expected HOST:PORT, .* got '8080'; write \":8080\""),
        ("health :1 :2", r"^Corefile:2: health: expected at most 1 argument"),
        ("health {\nlameduck\n}", r"^Corefile:3: lameduck: expected 1 argument, got 0"),
        ("health {\nlameduck soon\n}", r"^Corefile:3: expected a duration"),
        ("health {\nlameduck -5s\n}", r"^Corefile:3: expected a duration from 0s"),
        ("health {\nlame 5s\n}", r"^Corefile:3: health: unknown option 'lame'; expected lameduck"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(health.parse, text)
