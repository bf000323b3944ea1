"""A server takes the place of another; what is asked meanwhile waits, and is answered."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from kdns.testing.apiserver import ApiServer
from tests.scenarios.test_scenario_apiserver import SHOP, service, until
from tests.scenarios.test_scenario_reload import rcode
from tests.serving import Server, environment, serving

NAME = "a.example"


@pytest.fixture
def corefile(tmp_path: Path) -> Path:
    path = tmp_path / "Corefile"
    path.write_text(". {\n bind 127.0.0.1\n whoami\n health 127.0.0.1:0\n}\n")
    return path


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_one_takes_the_place_of_another(corefile: Path, first: int, second: int) -> None:
    path = str(corefile.parent / "control")
    with (
        serving(corefile, "--takeover", path, "--workers", str(first)) as before,
        serving(corefile, "--takeover", path, "--workers", str(second)) as after,
    ):
        assert after.port == before.port
        assert before.process.wait(timeout=60) == 0
        asked = {rcode(after.port, NAME) for _ in range(20)}
        query = dns.message.make_query(NAME, "A")
        over_tcp = dns.query.tcp(query, "127.0.0.1", port=after.port, timeout=20).rcode()
        assert asked | {over_tcp} == {dns.rcode.NOERROR}
        after.stop()
        assert after.process.returncode == 0


def test_what_waits_in_a_socket_is_answered_by_the_next(corefile: Path) -> None:
    path = str(corefile.parent / "control")
    query = dns.message.make_query(NAME, "A")
    with (
        serving(corefile, "--takeover", path) as before,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(60)
        client.connect(("127.0.0.1", before.port))
        with serving(corefile, "--takeover", path, "-quiet", wait=False) as after:
            before.wait_for("is about to take over")
            # It answers nothing from here on, but what comes in is there to be taken.
            before.process.send_signal(signal.SIGSTOP)
            client.send(query.to_wire())
            assert query.is_response(dns.message.from_wire(client.recv(4096)))
            before.process.send_signal(signal.SIGCONT)
            assert before.process.wait(timeout=60) == 0
            assert after.process.poll() is None


def test_who_fails_before_it_answers_leaves_all_to_the_other(corefile: Path) -> None:
    path = str(corefile.parent / "control")
    with serving(corefile, "--takeover", path) as before:
        bad = corefile.with_name("Bad")
        bad.write_text(". {\n bind 127.0.0.1\n forward . /nowhere/resolv.conf\n}\n")
        with serving(bad, "--takeover", path, wait=False) as after:
            assert after.process.wait(timeout=60) == 1
        before.wait_for("has ended before it answered")
        assert rcode(before.port, NAME) == dns.rcode.NOERROR
        with serving(corefile, "--takeover", path):
            assert before.process.wait(timeout=60) == 0


def test_who_is_told_to_stop_while_it_reads_its_corefile_stops(tmp_path: Path) -> None:
    """As process 1 of a container too, to which a signal without a handler is none."""
    path = tmp_path / "Corefile"
    os.mkfifo(path)
    with serving(path, wait=False) as server, path.open("w"):
        # Who opens the other end of a pipe waits for who reads.
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_who_is_told_to_stop_before_it_answers_stops(tmp_path: Path, workers: int) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        path = tmp_path / "Corefile"
        path.write_text(
            f". {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n  endpoint {api.url}\n }}\n}}\n"
        )
        args = ("--takeover", str(tmp_path / "control"), "--workers", str(workers))
        with serving(path, *args) as before:
            await asyncio.to_thread(until, before.port, "cart.shop", ["10.96.0.20"])
            api.forbid("services")
            with serving(path, *args, wait=False) as after:
                await asyncio.to_thread(after.wait_for, "watching ")
                after.process.send_signal(signal.SIGTERM)
                # It would wait for half a minute for the cluster, and then have failed.
                assert await asyncio.to_thread(after.process.wait, 60) == 0
            assert before.process.poll() is None
            await asyncio.to_thread(until, before.port, "cart.shop", ["10.96.0.20"])


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_successor_answers_once_it_knows_the_cluster(tmp_path: Path, workers: int) -> None:
    async with ApiServer() as api:
        api.load([SHOP, service("cart", "10.96.0.20")])
        corefile = tmp_path / "Corefile"
        corefile.write_text(
            f". {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n  endpoint {api.url}\n }}\n}}\n"
        )
        args = ("--takeover", str(tmp_path / "control"), "--workers", str(workers))
        asked = await asyncio.to_thread(asked_meanwhile, corefile, args)
        assert set(asked) == {dns.rcode.NOERROR}


def asked_meanwhile(corefile: Path, args: tuple[str, ...]) -> list[int]:
    """What is answered, one question after the other, while one takes the place of another."""
    asked: list[int] = []
    over = threading.Event()

    def ask(port: int) -> None:
        while not over.is_set():
            asked.append(rcode(port, "cart.shop.svc.cluster.local"))

    with serving(corefile, *args) as before:
        for _ in range(20):
            # Each asks from a port of its own, so both of two workers know it.
            until(before.port, "cart.shop", ["10.96.0.20"])
        asking = threading.Thread(target=ask, args=(before.port,))
        asking.start()
        try:
            with serving(corefile, *args):
                assert before.process.wait(timeout=60) == 0
                over.set()
                asking.join()
        finally:
            over.set()
    return asked


def test_a_signal_has_it_start_its_successor(corefile: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(60)
    manager = str(tmp_path / "notify")
    with notify, serving(corefile, "--takeover", path, NOTIFY_SOCKET=manager) as before:
        assert notify.recv(4096).startswith(b"READY=1")
        before.process.send_signal(signal.SIGUSR2)
        successor = 0
        try:
            before.wait_for("to take over")
            told = re.search(r"process ([0-9]+) is started", before.output[-1])
            assert told is not None
            successor = int(told[1])
            # In whichever order, from whom it is to hear and from whom it may.
            heard = {notify.recv(4096).decode() for _ in range(2)}
            assert heard == {f"READY=1\nMAINPID={successor}", f"MAINPID={successor}"}
            assert before.process.wait(timeout=60) == 0
            assert rcode(before.port, NAME) == dns.rcode.NOERROR
        finally:
            if successor:
                os.kill(successor, signal.SIGKILL)


def test_without_a_place_to_take_over_at_that_signal_is_a_line(corefile: Path) -> None:
    with serving(corefile) as server:
        server.process.send_signal(signal.SIGUSR2)
        server.wait_for("SIGUSR2: only with --takeover PATH")
        assert rcode(server.port, NAME) == dns.rcode.NOERROR


# A service manager's sockets.


HANDED = """
import os, sys
for number, fd in enumerate(sys.argv[1].split(",")):
    os.dup2(int(fd), 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def activated(corefile: Path, sockets: list[socket.socket], notify: Path) -> Iterator[Server]:
    """Serve with sockets that are open already, as systemd starts a unit with a socket unit."""
    fds = [str(sock.fileno()) for sock in sockets]
    served = [sys.executable, "-m", "kdns", "serve", "-conf", str(corefile), "-quiet"]
    process = subprocess.Popen(
        [sys.executable, "-c", HANDED, ",".join(fds), *served],
        pass_fds=[sock.fileno() for sock in sockets],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(LISTEN_FDS=str(len(sockets)), NOTIFY_SOCKET=str(notify)),
    )
    try:
        yield Server(process, 0, [])
    finally:
        process.kill()
        process.communicate()


def test_a_manager_gives_sockets_and_hears_how_it_goes(tmp_path: Path) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    port = udp.getsockname()[1]
    tcp = socket.create_server(("127.0.0.1", port))
    corefile = tmp_path / "Corefile"
    corefile.write_text(f".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(60)
    with udp, tcp, notify, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        query = dns.message.make_query(NAME, "A")
        # Twice, as in a restart: each time somebody asks before anybody is there.
        for _ in range(2):
            client.sendto(query.to_wire(), ("127.0.0.1", port))
            with activated(corefile, [udp, tcp], tmp_path / "notify") as server:
                pid = server.process.pid
                assert notify.recv(4096).decode() == f"READY=1\nMAINPID={pid}"
                assert query.is_response(dns.message.from_wire(client.recv(4096)))
                over_tcp = dns.query.tcp(query, "127.0.0.1", port=port, timeout=60)
                assert over_tcp.rcode() == dns.rcode.NOERROR
                server.process.send_signal(signal.SIGUSR1)
                assert notify.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert notify.recv(4096).startswith(b"READY=1")
                server.process.send_signal(signal.SIGTERM)
                assert notify.recv(4096) == b"STOPPING=1"
                assert server.process.wait(timeout=60) == 0
