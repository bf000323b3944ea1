"""kdns top: tables on a terminal."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from kdns.admin import topview
from kdns.cli import main

TOLD: dict[str, Any] = {
    "seconds": 10.0,
    "names": {"total": 8, "most": [{"key": "a.example.", "count": 6, "error": 2}]},
    "denied": {"total": 0, "most": []},
    "wasted": {"total": 0, "most": []},
    "clients": {"total": 8, "most": [{"key": "10.0.0.1", "count": 8, "error": 0}]},
    "namespaces": {"total": 0, "most": []},
}


class Answers(BaseHTTPRequestHandler):
    body = json.dumps(TOLD).encode()
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def printed(before: dict[str, Any] | None = None, seconds: float = 0.0) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(topview.tables(TOLD, before, seconds))
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:9154", "http://localhost:9154/top?n=10"),
        ("http://a:1/", "http://a:1/top?n=10"),
        ("https://a/kdns/top", "https://a/kdns/top?n=10"),
    ],
)
def test_what_is_missing_of_an_address_is_filled_in(text: str, url: str) -> None:
    assert topview.address(text, 10) == url


def test_each_kind_that_has_something_is_a_table() -> None:
    text = printed()
    assert "names: 8 queries in 10 s" in text
    assert "clients: 8 queries" in text
    assert "exist" not in text


def test_a_row_has_count_error_and_share() -> None:
    (row,) = [line for line in printed().splitlines() if "a.example." in line]
    assert row.split("│")[2:4] == ["     4–6 ", " 75.0 % "]


def test_rates_are_of_the_time_between_two_looks() -> None:
    before = {
        **TOLD,
        "names": {"total": 2, "most": [{"key": "a.example.", "count": 1, "error": 0}]},
    }
    (row,) = [line for line in printed(before, 2.0).splitlines() if "a.example." in line]
    assert "2.5" in row


def test_a_name_that_looks_like_markup_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [{"key": "[red]a.example.", "count": 1, "error": 0}]
    monkeypatch.setitem(TOLD, "names", {"total": 1, "most": odd})
    assert "[red]a.example." in printed()


def test_where_nothing_was_asked_it_says_so() -> None:
    nothing = {kind: {"total": 0, "most": []} for kind in TOLD} | {"seconds": 1.0}
    out = io.StringIO()
    Console(file=out).print(topview.tables(nothing, None, 0.0))
    assert out.getvalue() == "nothing was asked yet\n"


def test_it_is_shown_once_where_there_is_no_terminal(url: str) -> None:
    out = io.StringIO()
    assert topview.show(topview.address(url, 5), once=False, console=Console(file=out)) == 0
    assert "a.example." in out.getvalue()


def test_on_a_terminal_it_goes_on_until_ctrl_c(url: str) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    console = Console(file=io.StringIO(), force_terminal=True)
    assert topview.show(topview.address(url, 5), once=False, console=console, sleep=sleep) == 0
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("127.0.0.1:1", "http://127.0.0.1:1/top?n=10: connection refused; "),
        ("ftp://a/top", "ftp://a/top?n=10: expected http:// or https://"),
        ("http://a b/top", "http://a b/top?n=10: expected a URL: "),
    ],
)
def test_what_cannot_be_asked_is_a_line(
    place: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--once", place]) == 2
    assert capsys.readouterr().err.startswith(f"kdns: {reason}")


def test_a_page_that_is_not_there_is_a_line_with_its_status(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Answers, "status", 404)
    assert main(["top", "--once", url]) == 2
    assert "/top?n=10: 404 Not Found; " in capsys.readouterr().err


def test_what_does_not_speak_http_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def answer() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(1000)
            client.sendall(b"no HTTP\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["top", "--once", f"127.0.0.1:{listening.getsockname()[1]}"]) == 2
        thread.join()
    assert "does not speak HTTP" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"names": {}}'])
def test_who_says_something_else_is_told_of(
    url: str, body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Answers, "body", body)
    assert main(["top", "--once", url]) == 2
    told = capsys.readouterr().err
    assert told == f"kdns: {url}/top?n=10: expected what the directive `top` serves\n"


def test_octets_that_are_no_text_are_no_url() -> None:
    with pytest.raises(topview.TopError, match="expected a URL"):
        topview.fetch(topview.address("\udcff", 10))


def test_what_is_no_url_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "http://[::1"]) == 2
    assert capsys.readouterr().err.startswith("kdns: http://[::1: expected a URL: ")
