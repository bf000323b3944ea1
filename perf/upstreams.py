"""The upstreams of workloads that forward: echoes at loopback, near or far, alive or not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from pathlib import Path
from socket import inet_aton
from typing import Final, NamedTuple

from perf.server import Server
from perf.subjects import HOST, compile_echo
from perf.workloads import UPSTREAM_ADDRESS, UPSTREAM_TTL, UpstreamKind


class Echo(NamedTuple):
    """An upstream that answers after `delay` ms, but for one question in `loss`; 0 for all."""

    delay: int = 0
    loss: int = 0


HOLE: Final = None
"""In the place of an upstream: what is sent there is never heard of again."""

KINDS: Final[dict[UpstreamKind, tuple[Echo | None, ...]]] = {
    "near": (Echo(),),
    "slow": (Echo(delay=50, loss=100),),
    "three": (Echo(), Echo(), Echo()),
    "dead": (Echo(), HOLE, Echo()),
}


def start(
    kind: UpstreamKind,
    port: Callable[[], int],
    cpus: AbstractSet[int],
    folder: Path,
    stack: ExitStack,
) -> tuple[int, ...]:
    """Have upstreams of that kind until `stack` is closed: their ports.

    port: gives one that is free. folder: where the program is made. Raises OSError and
    CalledProcessError where that cannot be compiled.
    """
    program = compile_echo(folder)
    record = bytes.fromhex("c00c 0001 0001") + UPSTREAM_TTL.to_bytes(4, "big")
    said = (record + b"\0\4" + inet_aton(UPSTREAM_ADDRESS)).hex()
    ports = []
    for echo in KINDS[kind]:
        ports.append(number := port())
        if echo is HOLE:
            _dig(number, stack)
            continue
        command = [str(program), HOST, str(number), said, str(echo.delay), str(echo.loss)]
        stack.enter_context(Server(command, cpus, folder / f"upstream-{number}.log"))
    return tuple(ports)


def _dig(port: int, stack: ExitStack) -> None:
    """Sockets that nobody reads: no error says that nothing will come."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
        sock.bind((HOST, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
