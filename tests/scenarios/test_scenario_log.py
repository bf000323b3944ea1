"""The real program, and a log that nobody reads."""

import asyncio
import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from platform import machine, python_version

import dns.message
import dns.query
import pytest

from kdns import __version__
from tests.serving import command, environment, free_port, serving

COREFILE = ". {\n bind 127.0.0.1\n log\n whoami\n}\n"
ROUNDS = 1500
"""Lines of a hundred octets each: twice what a pipe takes."""


def ask_often(port: int) -> int:
    answered = 0
    for number in range(ROUNDS):
        query = dns.message.make_query(f"n{number}.example", "A")
        reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=20)
        answered += reply.id == query.id
    return answered


async def test_a_log_that_nobody_reads_stops_no_answer_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(COREFILE)
    with serving(path) as server:
        assert await asyncio.to_thread(ask_often, server.port) == ROUNDS
        output = await asyncio.to_thread(server.stop)
    lines = [line for line in output.splitlines() if '"A IN n' in line]
    assert len(lines) == ROUNDS
    assert all(line.startswith("[INFO] 127.0.0.1:") for line in lines)


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "<&- >&- 2>&-"])
def test_where_nothing_can_be_written_questions_are_answered(tmp_path: Path, where: str) -> None:
    port = free_port()
    path = tmp_path / "Corefile"
    path.write_text(f".:{port} {{\n bind 127.0.0.1\n log\n whoami\n}}\n")
    words = shlex.join(
        command(
            "serve",
            "-conf",
            str(path),
        )
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        env = environment(NOTIFY_SOCKET=str(tmp_path / "notify"))
        process = subprocess.Popen(["sh", "-c", f"exec {words} {where}"], env=env)
        try:
            assert notify.recv(4096).startswith(b"READY=1")
            query = dns.message.make_query("a.example", "A")
            for _ in range(3):
                dns.query.udp(query, "127.0.0.1", port=port, timeout=20)
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.wait()


async def test_as_json_every_line_of_the_log_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(COREFILE.replace("log", "log {\n json\n }"))
    with serving(path, "--log-format", "json") as server:
        query = dns.message.make_query("a.example", "A")
        await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", port=server.port, timeout=20)
        output = await asyncio.to_thread(server.stop)
    told = [json.loads(line) for line in output.splitlines()]
    assert [one["message"] for one in told if one["logger"] == "kdns"][:2] == [
        f"kdns-{__version__}, {sys.platform}/{machine()}, python{python_version()}, serving .:0",
        f"listening on 127.0.0.1:{server.port} (UDP and TCP)",
    ]
    assert [one["name"] for one in told if one["logger"] == "kdns.log"] == ["a.example."]


async def test_as_text_it_says_what_it_serves_as_coredns_does_and_where(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text("b.example " + COREFILE)
    with serving(path) as server:
        output = await asyncio.to_thread(server.stop)
    assert output.splitlines()[:5] == [
        "b.example.:0",
        ".:0",
        f"kdns-{__version__}",
        f"{sys.platform}/{machine()}, python{python_version()}",
        f"[INFO] listening on 127.0.0.1:{server.port} (UDP and TCP)",
    ]


def test_too_few_files_are_a_line_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(COREFILE)
    words = shlex.join(command("serve", "-conf", str(path), "-dns.port", "0"))
    ended = subprocess.run(
        ["sh", "-c", f"ulimit -n 20; exec {words}"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    told = "kdns: 20 files may be open; expected 64 or more: see ulimit -n\n"
    assert (ended.returncode, ended.stderr) == (1, told)
