"""kdns takes the place of CoreDNS, and gives it back, under a client that never stops asking.

    python -m perf.takeover --coredns /usr/bin/coredns

Three network namespaces are nodes, a fourth the network between them:

    client --- router --- one   (CoreDNS, or a second kdns in its stead)
                     \\--- two   (kdns)

The Service's address is on both nodes, and the router's route to it says who has it, as the rules
of kube-proxy do: to one, to both (each flow to one of them), to the other. The client sends each
question from a port of its own, on time, whatever becomes of the ones before, and asks nothing
twice: what is not answered rightly within two seconds is lost. Needs root and `ip`; nothing leaves
the namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table

from kdns.wire import name
from perf.cluster import Shape, generate

PORT: Final = 1053
SERVICE: Final = "10.96.0.10"
BESIDE: Final = "10.96.0.11"
RATE: Final = 500
SECONDS: Final = 8.0
PATIENCE: Final = 2.0
"""Seconds after which a question is lost."""
NODES: Final = {"client": "10.99.0", "one": "10.99.1", "two": "10.99.2"}
COREFILE: Final = """.:{port} {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {url}
        pods insecure
        ttl 30
    }}
    cache 30
    reload
    loadbalance
}}
"""


# The client, in a namespace of its own.


@dataclass(slots=True)
class Score:
    """What became of the questions of one phase. slowest: seconds."""

    asked: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    slowest: float = 0.0
    waits: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """For the record."""
        ordered = sorted(self.waits) or [0.0]
        return {
            "asked": self.asked,
            "right": self.right,
            "wrong": self.wrong,
            "lost": self.lost,
            "p50_ms": round(ordered[len(ordered) // 2] * 1e3, 3),
            "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1e3, 3),
            "slowest_ms": round(self.slowest * 1e3, 3),
        }


@dataclass(slots=True)
class Flight:
    """A question under way."""

    phase: str
    sent: float
    message_id: int
    address: bytes
    sock: socket.socket


class Client:
    """Asks for services in turn, RATE times a second; the phase is what standard input said last.

    A phase is a line: its name, and the servers that are asked in turn.
    """

    def __init__(self, services: list[tuple[str, str]], port: int = PORT) -> None:
        self._port = port
        self._services = [(name.from_text(n), socket.inet_aton(a)) for n, a in services]
        self._flights: dict[int, Flight] = {}
        self._poll = select.poll()
        self._sent = 0
        self._scores: dict[str, Score] = {}

    def run(self, orders: TextIO) -> dict[str, Score]:
        """Ask until the orders end."""
        phase, servers = _order(orders.readline())
        self._poll.register(orders.fileno(), select.POLLIN)
        due = time.monotonic()
        while phase or self._flights:
            now = time.monotonic()
            while phase and due <= now:
                self._ask(phase, servers[self._sent % len(servers)], now)
                due += 1 / RATE
            self._give_up(now)
            for number, _ in self._poll.poll(1):
                if number == orders.fileno():
                    phase, servers = _order(orders.readline())
                    if not phase:
                        self._poll.unregister(number)
                else:
                    self._hear(number)
        return self._scores

    def _ask(self, phase: str, server: str, now: float) -> None:
        qname, address = self._services[self._sent % len(self._services)]
        self._sent += 1
        score = self._scores.setdefault(phase, Score())
        score.asked += 1
        message_id = self._sent & 0xFFFF
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.connect((server, self._port))
            sock.send(struct.pack("!6H", message_id, 0x0100, 1, 0, 0, 0) + qname + b"\0\1\0\1")
        except OSError:
            score.lost += 1
            sock.close()
            return
        self._flights[sock.fileno()] = Flight(phase, now, message_id, address, sock)
        self._poll.register(sock.fileno(), select.POLLIN)

    def _hear(self, number: int) -> None:
        flight = self._flights[number]
        score = self._scores[flight.phase]
        try:
            reply = flight.sock.recv(4096)
        except OSError:
            # Nobody has the port: the question is lost, and is not asked again.
            score.lost += 1
        else:
            right = reply[:2] == flight.message_id.to_bytes(2, "big")
            right = right and reply[3] & 15 == 0 and flight.address in reply
            score.right += right
            score.wrong += not right
            wait = time.monotonic() - flight.sent
            score.waits.append(wait)
            score.slowest = max(score.slowest, wait)
        self._land(number)

    def _give_up(self, now: float) -> None:
        while self._flights:
            number, flight = next(iter(self._flights.items()))
            if now - flight.sent < PATIENCE:
                return
            self._scores[flight.phase].lost += 1
            self._land(number)

    def _land(self, number: int) -> None:
        self._poll.unregister(number)
        self._flights.pop(number).sock.close()


def _order(line: str) -> tuple[str, list[str]]:
    phase, *servers = line.split() or [""]
    return phase.replace("_", " "), servers


# What runs it.


def ip(*args: str) -> None:
    """Run ip(8). Raises CalledProcessError."""
    subprocess.run(["ip", *args], check=True)


def within(space: str, *args: str) -> list[str]:
    """A command line that runs in a namespace."""
    return ["ip", "netns", "exec", space, *args]


@contextmanager
def network(prefix: str) -> Iterator[None]:
    """The namespaces, their links and the addresses of the services; gone at the end."""
    spaces = [f"{prefix}-{node}" for node in ("router", *NODES)]
    try:
        for space in spaces:
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        router = f"{prefix}-router"
        for index, (node, net) in enumerate(NODES.items()):
            near, far = f"{prefix}r{index}", f"{prefix}n{index}"
            ip("link", "add", near, "netns", router, "type", "veth", "peer", "name", far,
               "netns", f"{prefix}-{node}")  # fmt: skip
            for space, link, host in ((router, near, 1), (f"{prefix}-{node}", far, 2)):
                ip("-n", space, "address", "add", f"{net}.{host}/24", "dev", link)
                ip("-n", space, "link", "set", link, "up")
            ip("-n", f"{prefix}-{node}", "route", "add", "default", "via", f"{net}.1")
        for node in ("one", "two"):
            ip("-n", f"{prefix}-{node}", "address", "add", f"{SERVICE}/32", "dev", "lo")
        ip("-n", f"{prefix}-two", "address", "add", f"{BESIDE}/32", "dev", "lo")
        setting = "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1"
        for text in setting:
            path, _, value = text.partition("=")
            file = "/proc/sys/" + path.replace(".", "/")
            subprocess.run(within(router, "sh", "-c", f"echo {value} > {file}"), check=True)
        yield
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, stderr=subprocess.DEVNULL)


def route(prefix: str, address: str, *nodes: str) -> None:
    """Have the router send each flow to `address` to one of these nodes."""
    hops = [word for node in nodes for word in ("nexthop", "via", f"{NODES[node]}.2")]
    ip("-n", f"{prefix}-router", "route", "replace", f"{address}/32", *hops)


class Node:
    """A DNS server in a namespace, with an API server of its own beside it."""

    def __init__(self, space: str, command: list[str], folder: Path, manifest: Path) -> None:
        self._space = space
        python = within(space, sys.executable, "-m", "perf.apiserver", str(manifest))
        # It takes orders from standard input, which must be a pipe: there are none.
        self._api = subprocess.Popen(
            python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._api.stdout is not None
        url = self._api.stdout.readline().strip()
        corefile = folder / f"{space}.Corefile"
        corefile.write_text(COREFILE.format(port=PORT, url=url))
        self._command = within(space, *command, "-conf", str(corefile))
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it says that it is ready."""
        self._server = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        probe = within(self._space, sys.executable, "-m", "perf.takeover", "--await-ready")
        subprocess.run(probe, check=True)

    def stop(self) -> None:
        """As the kubelet does: SIGTERM, and wait for the lameduck to be over."""
        assert self._server is not None
        self._server.send_signal(signal.SIGTERM)
        self._server.wait(timeout=60)
        self._server = None

    def close(self) -> None:
        """End everything at once."""
        for process in (self._server, self._api):
            if process is not None:
                process.kill()
                process.wait()


def await_ready() -> int:
    """0 once the server of this namespace says that it is ready; 1 after a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen("http://127.0.0.1:8181/ready", timeout=2):
                return 0
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return 1


class Asking:
    """The client process, told which phase it is."""

    def __init__(self, space: str, services: Path, seconds: float) -> None:
        command = within(space, sys.executable, "-m", "perf.takeover", "--client", str(services))
        self._seconds = seconds
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def phase(self, text: str, *servers: str, hold: bool = True) -> None:
        """From now on what is asked belongs to this phase; wait until it has lasted."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text.replace(' ', '_')} {' '.join(servers)}\n")
        self._process.stdin.flush()
        if hold:
            time.sleep(self._seconds)

    def end(self) -> dict[str, dict[str, float]]:
        """What became of the questions, by phase."""
        said, _ = self._process.communicate(timeout=60)
        found: dict[str, dict[str, float]] = json.loads(said)
        return found


def play(coredns: str, seconds: float, folder: Path) -> dict[str, dict[str, float]]:
    """The whole scene; what became of the questions, by phase."""
    cluster = generate(Shape(services=200, headless=((5, 10),)), seed=7)
    manifest, services = folder / "cluster.json", folder / "services.json"
    manifest.write_text(json.dumps({"items": list(cluster.objects())}))
    services.write_text(json.dumps([(s.host(), s.address) for s in cluster.services]))
    prefix = f"tk{os.getpid() % 100_000}"
    kdns = [sys.executable, "-m", "kdns", "serve"]
    with ExitStack() as stack:
        stack.enter_context(network(prefix))
        nodes = (
            Node(f"{prefix}-one", [coredns] if coredns else kdns, folder, manifest),
            Node(f"{prefix}-two", kdns, folder, manifest),
        )
        for node in nodes:
            stack.callback(node.close)
        one, two = nodes
        one.start()
        route(prefix, SERVICE, "one")
        route(prefix, BESIDE, "two")
        asking = Asking(f"{prefix}-client", services, seconds)
        asking.phase("before", SERVICE)
        asking.phase("kdns starts", SERVICE, hold=False)
        two.start()
        asking.phase("beside: half ask its own address", SERVICE, BESIDE)
        asking.phase("replace: both behind the Service", SERVICE, hold=False)
        route(prefix, SERVICE, "one", "two")
        time.sleep(seconds)
        asking.phase("replace: the first one leaves", SERVICE, hold=False)
        route(prefix, SERVICE, "two")
        one.stop()
        asking.phase("kdns alone", SERVICE)
        asking.phase("rollback: both behind the Service", SERVICE, hold=False)
        one.start()
        route(prefix, SERVICE, "one", "two")
        time.sleep(seconds)
        asking.phase("rollback: kdns leaves", SERVICE, hold=False)
        route(prefix, SERVICE, "one")
        two.stop()
        asking.phase("after", SERVICE)
        return asking.end()


def hindrance() -> str:
    """Why it cannot be played here; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip(8) is not there: iproute2"
    probe = f"tk{os.getpid() % 100_000}-probe"
    made = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    ip("netns", "del", probe)
    return ""


def main(argv: list[str] | None = None) -> int:
    """0 when nothing was lost, 1 when something was, 2 when it cannot be played here."""
    parser = argparse.ArgumentParser(prog="python -m perf.takeover", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--coredns", metavar="FILE", default="", help="else a second kdns")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a phase (%(default)g)")
    parser.add_argument("--json", metavar="FILE", help="write the record there")
    parser.add_argument("--client", metavar="SERVICES", help=argparse.SUPPRESS)
    parser.add_argument("--await-ready", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.await_ready:
        return await_ready()
    if options.client:
        client = Client(json.loads(Path(options.client).read_text()))
        scores = client.run(sys.stdin)
        json.dump({phase: score.as_json() for phase, score in scores.items()}, sys.stdout)
        return 0
    if why := hindrance():
        print(f"skipped: {why}")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        found = play(options.coredns, options.seconds, Path(folder))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    show(found)
    return int(any(phase["lost"] or phase["wrong"] for phase in found.values()))


def show(found: dict[str, dict[str, float]]) -> None:
    """A row for each phase."""
    table = Table(title=f"{RATE} questions a second, none asked twice", title_justify="left")
    table.add_column("phase")
    columns = ("asked", "right", "wrong", "lost", "p50_ms", "p99_ms", "slowest_ms")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for phase, score in found.items():
        table.add_row(phase, *(f"{score[column]:g}" for column in columns))
    total = Counter[str]()
    for score in found.values():
        total.update({column: int(score[column]) for column in columns[:4]})
    table.add_row("all", *(str(total[column]) for column in columns[:4]), style="bold")
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
