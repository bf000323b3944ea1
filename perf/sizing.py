"""How much memory kdns takes for a cluster: `python -m perf.sizing`, a row for each size.

An API server of kdns.testing holds the cluster; kdns lists it and watches. What is read is the
kernel's: resident now (VmRSS), and the most that it ever was (VmHWM), once every service has been
asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from kdns.wire import name
from perf.cluster import Cluster, Json, Shape, generate

PATIENCE: Final = 120.0
COREFILE: Final = """. {{
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {url}
        pods {pods}
        ttl 30
    }}
    cache 30
    loadbalance
}}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """services: with a cluster IP. endpoints: of each. pods: followed under `pods verified`."""

    services: int
    endpoints: int = 0
    pods: int = 0

    @property
    def text(self) -> str:
        """For people."""
        ends = f"{self.services * self.endpoints:,} endpoints"
        pods = f", {self.pods:,} pods" if self.pods else ""
        return f"{self.services:,} services, {ends}{pods}"


SIZES: Final = (
    Size(10, 1),
    Size(1_000, 10),
    Size(1_000, 100),
    Size(10_000, 10),
    Size(1_000, 10, 10_000),
    Size(1_000, 10, 100_000),
)


def objects(size: Size, cluster: Cluster) -> Iterator[Json]:
    """The cluster's, and pods in its namespaces."""
    yield from cluster.objects()
    for number in range(size.pods):
        address = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        space = cluster.namespaces[number % len(cluster.namespaces)]
        metadata = {"name": f"pod-{number}", "namespace": space, "labels": {"app": "web"}}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        yield {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "status": status}


@contextmanager
def process(*args: str) -> Iterator[subprocess.Popen[str]]:
    """A module of Python, until the block ends."""
    command = [sys.executable, "-m", *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def measure(size: Size) -> dict[str, float]:
    """MiB resident and at most, and seconds until ready."""
    cluster = generate(Shape(size.services, endpoints=size.endpoints, headless=()), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "cluster.json"
        with manifest.open("w") as file:
            json.dump({"items": list(objects(size, cluster))}, file)
        with process("perf.apiserver", str(manifest)) as api:
            assert api.stdout is not None
            url = api.stdout.readline().strip()
            pods = "verified" if size.pods else "insecure"
            corefile = Path(folder) / "Corefile"
            corefile.write_text(COREFILE.format(url=url, pods=pods))
            began = time.monotonic()
            with process("kdns", "serve", "-conf", str(corefile), "-dns.port", "0") as server:
                port = _port(server)
                hosts = [service.host() for service in cluster.services]
                _until_answered(port, hosts[-1])
                ready = time.monotonic() - began
                for host in hosts:
                    ask(port, host)
                kept = _memory(server.pid)
    return {"resident": kept["VmRSS"], "most": kept["VmHWM"], "ready": round(ready, 1)}


def _port(server: subprocess.Popen[str]) -> int:
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"listening on .*:([0-9]+) \(UDP", line):
            return int(found[1])
    raise SystemExit("kdns ended before it listened")


def ask(port: int, host: str) -> int:
    """The rcode of an A question, or -1 without a reply."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        header = b"\0\1\1\0\0\1\0\0\0\0\0\0"
        sock.sendto(header + name.from_text(host) + b"\0\1\0\1", ("127.0.0.1", port))
        try:
            return sock.recv(4096)[3] & 15
        except TimeoutError:
            return -1


def _until_answered(port: int, host: str) -> None:
    until = time.monotonic() + PATIENCE
    while ask(port, host) != 0:
        if time.monotonic() > until:
            raise SystemExit(f"{host} is not answered after {PATIENCE:g} s")
        time.sleep(0.02)


def _memory(pid: int) -> dict[str, float]:
    """VmRSS and VmHWM in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.findall(r"^(VmRSS|VmHWM):\s+([0-9]+) kB", text, re.MULTILINE)
    return {key: round(int(value) / 1024, 1) for key, value in found}


def main(argv: list[str] | None = None) -> int:
    """Measure each size, and say what it came to."""
    parser = argparse.ArgumentParser(prog="python -m perf.sizing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", metavar="FILE", help="write the record there")
    options = parser.parse_args(argv)
    table = Table("cluster", "resident MiB", "at most MiB", "answers after s")
    record = []
    for size in SIZES:
        found = measure(size)
        record.append({"cluster": size.text, **found})
        table.add_row(size.text, *(f"{value:g}" for value in found.values()))
    Console(width=100).print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
