"""What a server says that it was asked: its own metrics, read before a run and after it."""

from __future__ import annotations

from typing import Final
from urllib.request import urlopen

from perf.subjects import HOST

_PATIENCE: Final = 10.0
_REQUESTS: Final = "coredns_dns_requests_total"
_DROPS: Final = "kdns_udp_receive_drops_total"


def requests_of(port: int) -> int:
    """The queries that reached a server by its metrics on this port of HOST. Raises OSError.

    Those that the kernel dropped before its sockets were read are counted too, where it tells.
    """
    with urlopen(f"http://{HOST}:{port}/metrics", timeout=_PATIENCE) as answer:
        return parse_requests(answer.read().decode())


def parse_requests(text: str) -> int:
    """The sum of requests and drops in an exposition of metrics."""
    total = 0.0
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in {_REQUESTS, _DROPS}:
            total += float(line.rpartition(" ")[2])
    return int(total)
