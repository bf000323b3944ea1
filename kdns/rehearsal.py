"""The life of a server in short, with a worker and a client in one process, before the fork.

At its first runs the interpreter writes into code what it has seen there (PEP 659), and libraries
make what they need later. Done before workers are forked, that is there once; done after it, each
process has a copy of every page that it writes on, and is slower for its first clients.

The cluster and the Corefile are of this module, and so are the sockets, on a port of loopback that
the system chooses: nobody else is asked or told anything, and nothing of it stays.
"""

import asyncio
import gc
import logging
import socket
import struct
import time
from random import SystemRandom
from typing import Final

from kdns.children import Ties, tie
from kdns.cluster.held import Held
from kdns.cluster.objects import Resource, decode_object
from kdns.cluster.state import Cluster
from kdns.plan import make_plan
from kdns.process import run
from kdns.sockets import open_sockets
from kdns.wire import iana, name
from kdns.worker import work
from kdns.workers import Overseer

WITHIN: Final = 5.0
"""Seconds for a life, though a hundredth is enough: no start waits for a loopback that is none."""
ROUNDS: Final = 16
"""Twice what the interpreter wants to see of a function before it writes into it. More lives than
one would have it write into what sets up a server as well, and take more than that is worth."""

_HOST: Final = "127.0.0.1"
_COREFILE: Final = f"""
. {{
    bind {_HOST}
    errors
    health
    ready
    prometheus
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    forward . {_HOST}:9 {{
        max_concurrent 1000
    }}
    cache 30
    loadbalance
}}
"""
_NAMESPACE: Final = '{"metadata": {"name": "shop"}}'
_SERVICE: Final = """{
    "metadata": {"name": "cart", "namespace": "shop"},
    "spec": {
        "type": "ClusterIP", "clusterIP": "192.0.2.1", "clusterIPs": ["192.0.2.1"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]
    }
}"""
_HEADLESS: Final = """{
    "metadata": {"name": "db", "namespace": "shop"},
    "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]}
}"""
_SLICE: Final = """{
    "metadata": {
        "name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}
    },
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["198.51.100.1"], "conditions": {"ready": true}, "hostname": "db-0"},
        {"addresses": ["198.51.100.%d"], "conditions": {"ready": true}, "hostname": "db-1"}
    ],
    "ports": [{"name": "sql", "port": 5432}]
}"""
_ASKED: Final = (
    ("cart.shop.svc.cluster.local.", iana.A),
    ("cart.shop.svc.cluster.local.", iana.AAAA),
    ("db.shop.svc.cluster.local.", iana.A),
    ("_sql._tcp.db.shop.svc.cluster.local.", iana.SRV),
    ("db-0.db.shop.svc.cluster.local.", iana.A),
    ("cart.shop.svc.cluster.local.shop.svc.cluster.local.", iana.A),
    ("192-0-2-9.shop.pod.cluster.local.", iana.A),
    ("1.2.0.192.in-addr.arpa.", iana.PTR),
    ("1.100.51.198.in-addr.arpa.", iana.PTR),
)
_RD: Final = 0x0100
_OPT: Final = struct.pack("!BHHIH", 0, iana.OPT, 1232, 0, 0)


def rehearse() -> None:
    """Do all of it once. Where it cannot be, that is told to who debugs, and to nobody else.

    Call it in a process that has no loop.
    """
    try:
        asked()
    except (OSError, TimeoutError) as error:
        logging.getLogger("kdns").debug("no rehearsal before the fork: %r", error)


def asked() -> list[list[bytes]]:
    """One life; of each round, two replies to each of _ASKED. Raises OSError, TimeoutError."""
    heard: list[list[bytes]] = []

    async def whole() -> int:
        async with asyncio.timeout(WITHIN):
            await _serve(heard)
        return 0

    threshold = gc.get_threshold()
    try:
        run(whole())
    finally:
        gc.set_threshold(*threshold)
        # A server has the collector leave alone what it lives by: that is over.
        gc.unfreeze()
        gc.collect()
    return heard


async def _serve(heard: list[list[bytes]]) -> None:
    workers: list[asyncio.Task[None]] = []

    def spawn(_: int) -> Ties:
        ours, theirs = tie()
        workers.append(asyncio.create_task(work(theirs, SystemRandom())))
        return ours

    plan = make_plan(_COREFILE, "rehearsal", environ={}, port=0)
    (sockets,) = open_sockets(plan.listeners())
    (place,) = sockets.places()
    (port,) = {
        sock.getsockname()[1] for sock in sockets.at(place) if sock.type is socket.SOCK_DGRAM
    }
    overseer = Overseer(spawn, lambda _: None, plan.written, [sockets])
    try:
        held = Held(lambda _: None)
        held.then = overseer.relay(0, Cluster(time.time, lambda _: None), held)
        _tell(held, Resource.NAMESPACES, _NAMESPACE)
        _tell(held, Resource.SERVICES, _SERVICE)
        _tell(held, Resource.SERVICES, _HEADLESS)
        for resource in Resource:
            held.sweep(resource, set(held.keys(resource)))
        await overseer.start([0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((_HOST, port))
            for number in range(ROUNDS):
                # Each change ends the answers that rest on it, so that they are made again.
                _tell(held, Resource.ENDPOINTSLICES, _SLICE % (number + 2))
                await overseer.answering()
                heard.append(await _ask(client))
        await overseer.totals()
    finally:
        await overseer.stop()
        await asyncio.gather(*workers)


def _tell(held: Held, resource: Resource, text: str) -> None:
    held.apply(resource, decode_object(resource, text.encode()))


async def _ask(client: socket.socket) -> list[bytes]:
    """Ask all, twice: an answer at hand is given otherwise than the first one."""
    loop = asyncio.get_running_loop()
    replies = []
    for number, (qname, qtype) in enumerate(_ASKED * 2):
        opt = number % 2
        head = struct.pack("!HHHHHH", number, _RD, 1, 0, 0, opt)
        question = name.from_text(qname) + struct.pack("!HH", qtype, iana.IN)
        client.send(head + question + _OPT * opt)
        replies.append(await loop.sock_recv(client, 65_535))
    return replies
