"""Upstreams over TLS (RFC 7858) and HTTPS (RFC 8484): who is believed, and what ends a question."""

import asyncio
import ssl
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.net.upstream import Upstream
from kdns.net.upstream_https import HttpsUpstream
from kdns.net.upstream_tls import tls_context
from kdns.net.upstreams import AnyUpstream, make_upstream
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamSettings, UpstreamSettingsError
from kdns.testing.clock import ManualClock
from kdns.testing.upstream import (
    ScriptedUpstream,
    Step,
    echo,
    servfail,
    truncated,
    wrong_id,
    wrong_question,
)
from tests.certificates import Certificates

Result = bytes | UpstreamError
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01"


async def result(pending: Pending[Result]) -> Result:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    pending.when_done(future.set_result)
    return await future


def made(given: UpstreamSettings) -> AnyUpstream:
    # Cookies have tests of their own; without them a question goes out to the octet as it came.
    plain = replace(given, cookies=False)
    return make_upstream(plain, loop=asyncio.get_running_loop(), rng=Random(1))


@asynccontextmanager
async def asking(given: UpstreamSettings) -> AsyncIterator[Callable[[], Pending[Result]]]:
    upstream = made(given)
    try:
        yield lambda: upstream.ask(QUERY, tcp=False, timeout=10.0)
    finally:
        await upstream.close()


def over_tls(server: ScriptedUpstream, certificates: Certificates) -> UpstreamSettings:
    return UpstreamSettings(server.host, server.port, "tls", ca=str(certificates.ca))


# TLS.


async def test_a_question_goes_over_tls_and_the_next_over_the_same_connection(
    certificates: Certificates,
) -> None:
    async with ScriptedUpstream(context=certificates.server_context()) as server:
        async with asking(over_tls(server, certificates)) as ask:
            assert await result(ask()) == echo(QUERY)
            assert await asyncio.gather(*(result(ask()) for _ in range(5))) == [echo(QUERY)] * 5
        assert server.connections == 1
        assert {question.proto for question in server.questions} == {"tcp"}


async def test_the_name_of_the_certificate_may_be_another_than_the_address(
    certificates: Certificates,
) -> None:
    async with ScriptedUpstream(context=certificates.server_context()) as server:
        given = over_tls(server, certificates)
        async with asking(replace(given, servername="kubernetes")) as ask:
            assert await result(ask()) == echo(QUERY)
        async with asking(replace(given, servername="other.example")) as ask:
            got = await result(ask())
    assert isinstance(got, UpstreamError)
    assert "other.example" in str(got)


async def test_a_server_of_a_ca_that_we_do_not_know_gets_no_question(
    certificates: Certificates,
) -> None:
    """RFC 8310, section 5: the strict profile."""
    async with ScriptedUpstream(context=certificates.server_context()) as server:
        given = UpstreamSettings(server.host, server.port, "tls")
        async with asking(given) as ask:
            got = await result(ask())
        assert server.questions == []
    assert isinstance(got, UpstreamError)
    assert "certificate" in str(got).lower()


async def test_a_server_that_wants_to_know_us_is_shown_our_certificate(
    certificates: Certificates,
) -> None:
    context = certificates.server_context(ask_client=True)
    async with ScriptedUpstream(context=context) as server:
        given = over_tls(server, certificates)
        shown = replace(given, cert=str(certificates.cert), key=str(certificates.key))
        async with asking(shown) as ask:
            assert await result(ask()) == echo(QUERY)


async def test_a_connection_that_breaks_is_made_anew_once(certificates: Certificates) -> None:
    context = certificates.server_context()
    async with (
        ScriptedUpstream("close", echo, "close", "close", context=context) as server,
        asking(over_tls(server, certificates)) as ask,
    ):
        assert await result(ask()) == echo(QUERY)
        got = await result(ask())
    assert isinstance(got, UpstreamError)
    assert got.failure == "lost"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_connection_goes_on_with_the_session_of_the_one_before(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """RFC 8446, section 2.2; RFC 5077 for TLS 1.2: no certificates, and one round trip less."""
    context = certificates.server_context()
    context.maximum_version = version
    async with (
        ScriptedUpstream(echo, "close", otherwise=echo, context=context) as server,
        asking(over_tls(server, certificates)) as ask,
    ):
        assert [await result(ask()) for _ in range(2)] == [echo(QUERY)] * 2
        assert (server.connections, server.resumed) == (2, 1)


async def test_a_server_that_does_not_know_the_session_makes_a_new_one(
    certificates: Certificates,
) -> None:
    context = tls_context(UpstreamSettings("127.0.0.1", ca=str(certificates.ca)))
    for _ in range(2):
        async with ScriptedUpstream(context=certificates.server_context()) as server:
            loop = asyncio.get_running_loop()
            upstream = Upstream(server.host, server.port, loop=loop, rng=Random(1), context=context)
            assert await result(upstream.ask(QUERY, tcp=False, timeout=10.0)) == echo(QUERY)
            await upstream.close()
            assert (server.connections, server.resumed) == (1, 0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (UpstreamSettings("127.0.0.1", 853, "tls", ca="/missing/ca"), "/missing/ca: expected CAs"),
        (
            UpstreamSettings("127.0.0.1", 853, "tls", cert="/missing/c", key="/missing/k"),
            "/missing/c, /missing/k: expected a certificate and its key",
        ),
    ],
)
async def test_files_that_cannot_be_read_are_named(given: UpstreamSettings, named: str) -> None:
    with pytest.raises(UpstreamSettingsError, match=named):
        made(given)


async def test_a_file_that_is_no_pem_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca"
    path.write_text("not a certificate")
    with pytest.raises(UpstreamSettingsError, match="ca: expected CAs in PEM"):
        made(UpstreamSettings("127.0.0.1", 853, "tls", ca=str(path)))


# How long connections are kept.


async def idle(clock: ManualClock, server: ScriptedUpstream, **kept: float) -> Upstream:
    """An upstream that has asked one question over TCP."""
    upstream = Upstream(
        server.host,
        server.port,
        loop=asyncio.get_running_loop(),
        rng=Random(1),
        clock=clock,
        **kept,  # type: ignore[arg-type]
    )
    await result(upstream.ask(QUERY, tcp=True, timeout=5.0))
    return upstream


@pytest.mark.parametrize(
    ("kept", "seconds", "connections"),
    [
        ({"expire": 20.0}, 19.0, 1),
        ({"expire": 20.0}, 20.0, 2),
        ({"expire": 20.0, "max_age": 5.0}, 4.0, 1),
        ({"expire": 20.0, "max_age": 5.0}, 5.0, 2),
        ({"expire": 10.0, "max_age": 12.0}, 9.0, 1),
    ],
)
async def test_connections_end_in_time(
    clock: ManualClock, kept: dict[str, float], seconds: float, connections: int
) -> None:
    async with ScriptedUpstream() as server:
        upstream = await idle(clock, server, **kept)
        clock.advance(seconds)
        await result(upstream.ask(QUERY, tcp=True, timeout=5.0))
        assert server.connections == connections
        await upstream.close()


async def test_a_busy_connection_ends_at_its_age_too(clock: ManualClock) -> None:
    async with ScriptedUpstream() as server:
        upstream = await idle(clock, server, expire=10.0, max_age=12.0)
        for _ in range(6):
            clock.advance(2.0)
            await result(upstream.ask(QUERY, tcp=True, timeout=5.0))
        assert server.connections == 2
        await upstream.close()


async def test_only_so_many_idle_connections_are_kept(clock: ManualClock) -> None:
    async with ScriptedUpstream(otherwise="hold") as server:
        upstream = Upstream(
            server.host,
            server.port,
            loop=asyncio.get_running_loop(),
            rng=Random(1),
            clock=clock,
            idle=1,
        )
        asked = [upstream.ask(QUERY, tcp=True, timeout=50.0) for _ in range(65)]
        held = [await server.held() for _ in asked]
        assert server.connections == 2
        for each in held:
            each.reply(echo(each.question.wire))
        for pending in asked:
            await result(pending)
        again = [upstream.ask(QUERY, tcp=True, timeout=50.0) for _ in range(65)]
        for each in [await server.held() for _ in again]:
            each.reply(echo(each.question.wire))
        assert server.connections == 3
        await upstream.close()


# Letter case.


def lowered(wire: bytes) -> bytes:
    return echo(wire[:12] + wire[12:-4].lower() + wire[-4:])


async def test_random_letter_case_must_come_back() -> None:
    """A reply in another case is not believed, and the question asked over TCP."""
    async with ScriptedUpstream(echo, lowered, echo) as server:
        upstream = made(UpstreamSettings(server.host, server.port, randomize_case=True))
        for _ in range(2):
            got = await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
            assert isinstance(got, bytes)
            assert got[12:].lower() == QUERY[12:]
        await upstream.close()
        names = [question.wire[12:-4] for question in server.questions]
        assert [question.proto for question in server.questions] == ["udp", "udp", "tcp"]
        assert all(one.lower() == QUERY[12:-4] for one in names)
        assert names[0] != QUERY[12:-4]


async def test_an_upstream_that_never_keeps_the_letter_case_is_let_be() -> None:
    async with ScriptedUpstream(otherwise=lowered) as server:
        upstream = made(UpstreamSettings(server.host, server.port, randomize_case=True))
        for _ in range(5):
            assert await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
        await upstream.close()
        protos = [question.proto for question in server.questions]
        assert protos == ["udp", "tcp"] * 3 + ["udp"] * 2
        assert server.questions[-1].wire[12:] == QUERY[12:]


async def test_questions_come_from_the_address_that_is_named() -> None:
    async with ScriptedUpstream() as server:
        given = UpstreamSettings(server.host, server.port, source_address="127.0.0.2")
        upstream = made(given)
        for tcp in (False, True):
            assert await result(upstream.ask(QUERY, tcp=tcp, timeout=10.0)) == echo(QUERY)
        assert {question.client_host for question in server.questions} == {"127.0.0.2"}
        await upstream.close()


# HTTPS.


def message(wire: bytes, kind: str = "application/dns-message", status: int = 200) -> web.Response:
    return web.Response(body=wire, content_type=kind, status=status)


@asynccontextmanager
async def web_server(
    certificates: Certificates, answer: Callable[[bytes], web.Response]
) -> AsyncIterator[tuple[UpstreamSettings, list[tuple[str, bytes]]]]:
    """A DoH server; what it was asked, as (method, message)."""
    asked: list[tuple[str, bytes]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            text = request.query["dns"]
            wire = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        else:
            assert request.content_type == "application/dns-message"
            wire = await request.read()
        asked.append((request.method, wire))
        return answer(wire)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server_context())
    await site.start()
    _, port = runner.addresses[0][:2]
    given = UpstreamSettings("127.0.0.1", port, "https", "/q", ca=str(certificates.ca))
    try:
        yield given, asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_question_goes_over_https_under_an_id_of_zero(
    certificates: Certificates, method: str
) -> None:
    """RFC 8484, section 4.1."""
    async with web_server(certificates, lambda wire: message(echo(wire))) as (given, asked):
        chosen = replace(given, doh_method="GET" if method == "GET" else "POST")
        async with asking(chosen) as ask:
            assert await result(ask()) == echo(QUERY)
        assert asked == [(method, b"\0\0" + QUERY[2:])]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda wire: message(echo(wire), status=503), "HTTP status 503; expected 200"),
        (lambda wire: message(echo(wire), "text/html"), "content of type text/html"),
        (lambda wire: message(wrong_question(wire)), "answers another question"),
        (message, "answers another question"),
        (lambda wire: message(b""), "answers another question"),
        (lambda wire: message(bytes(70_000)), "more than 65535 octets"),
    ],
)
async def test_what_is_no_answer_to_the_question_is_an_error(
    certificates: Certificates, answer: Callable[[bytes], web.Response], reason: str
) -> None:
    async with web_server(certificates, answer) as (given, _), asking(given) as ask:
        got = await result(ask())
    assert isinstance(got, UpstreamError)
    assert reason in str(got)


async def test_nobody_waits_for_a_server_that_is_not_there(certificates: Certificates) -> None:
    async with ScriptedUpstream() as server:
        pass
    given = UpstreamSettings("127.0.0.1", server.port, "https", "/", ca=str(certificates.ca))
    async with asking(given) as ask:
        got = await result(ask())
    assert isinstance(got, UpstreamError)


async def test_bounds_and_ends(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    async with ScriptedUpstream("hold") as server:
        url = f"https://127.0.0.1:{server.port}/"
        upstream = HttpsUpstream(url, context=context, limit=1)
        waiting = upstream.ask(QUERY, tcp=False, timeout=10.0)
        busy = await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
        malformed = await result(upstream.ask(QUERY[:5], tcp=False, timeout=10.0))
        await asyncio.sleep(0)
        await upstream.close()
        closed = await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
        ended = await result(waiting)
    failures = [
        got.failure for got in (busy, malformed, closed, ended) if not isinstance(got, bytes)
    ]
    assert failures == ["busy", "malformed", "closed", "closed"]
    assert (upstream.asked, upstream.failed) == (4, 4)


# Whatever an upstream does.


def garbage(wire: bytes) -> bytes:
    return wire[:2] + b"\x80" + bytes(40)


def header_only(wire: bytes) -> bytes:
    return wire[:2] + b"\x81\x81" + bytes(8)


STEPS: tuple[Step, ...] = (echo, servfail, truncated, wrong_id, wrong_question, garbage, "close")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=8), st.booleans())
def test_a_question_ends_once_and_never_in_another_ones_answer(
    script: list[Step], tcp: bool
) -> None:
    async def run() -> None:
        clock = ManualClock()
        async with ScriptedUpstream(*script) as server:
            upstream = Upstream(
                server.host,
                server.port,
                loop=asyncio.get_running_loop(),
                rng=Random(1),
                clock=clock,
            )
            got: list[Result] = []
            ends = asyncio.Event()

            def done(one: Result) -> None:
                got.append(one)
                ends.set()

            for _ in range(3):
                ends.clear()
                before = len(server.questions)
                upstream.ask(QUERY, tcp=tcp, timeout=5.0).when_done(done)
                while not ends.is_set() and len(server.questions) == before:
                    await server.asked()
                clock.advance(5.0)
                await ends.wait()
            for one in got:
                assert isinstance(one, UpstreamError) or one[:2] == QUERY[:2]
                if isinstance(one, bytes):
                    assert one[12:] == QUERY[12:]
            assert len(got) == 3
            assert upstream.unanswered == 0
            await upstream.close()

    asyncio.run(run())


@pytest.mark.parametrize("tcp", [False, True])
async def test_an_error_that_repeats_no_question_is_an_answer(tcp: bool) -> None:
    """RFC 1035, section 4.1.1: FORMERR is of a server that could not read the question."""
    async with ScriptedUpstream(header_only) as server:
        upstream = made(UpstreamSettings(server.host, server.port))
        got = await result(upstream.ask(QUERY, tcp=tcp, timeout=10.0))
        await upstream.close()
    assert got == QUERY[:2] + b"\x81\x81\x00\x01" + bytes(6) + QUERY[12:]


async def test_questions_over_open_connections_are_counted(certificates: Certificates) -> None:
    async with ScriptedUpstream(context=certificates.server_context()) as server:
        upstream = made(over_tls(server, certificates))
        for _ in range(3):
            await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
        assert upstream.reuse() == [("tcp-tls", 2, 1)]
        await upstream.close()


async def test_questions_over_open_connections_of_https_are_counted(
    certificates: Certificates,
) -> None:
    async with web_server(certificates, lambda wire: message(echo(wire))) as (given, _):
        upstream = made(given)
        for _ in range(3):
            await result(upstream.ask(QUERY, tcp=False, timeout=10.0))
        assert upstream.reuse() == [("https", 2, 1)]
        await upstream.close()
