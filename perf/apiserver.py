"""An API server for subjects that need one: `python -m perf.apiserver MANIFEST...`.

It says its URL on standard output and serves until it is told to end. Once a subject has listed and
watches, it has nothing to do, until an order comes as a line on standard input:

    relist        makes every version too old and ends all watches: 410 to whoever goes on
    churn JSON    changes slices as a perf.rollout.Order says, and tells the Outcome
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import ssl
import sys
from pathlib import Path

import msgspec
import uvloop

from kdns.testing.apiserver import ApiServer
from perf.cluster import Json
from perf.rollout import Order, roll_out


class _List(msgspec.Struct):
    items: list[Json]


async def serve(manifests: list[Path], tls: ssl.SSLContext | None) -> None:
    """Serve the objects of these files, lists as JSON. Raises OSError and msgspec's errors."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with ApiServer(tls=tls) as api:
        for path in manifests:
            api.load(msgspec.json.decode(path.read_bytes(), type=_List).items)
        # Walking all of it again and again would be a pause of ours in what others are timed by.
        gc.collect()
        gc.freeze()
        _say(api.url)
        orders = asyncio.create_task(_obey(api))
        await ended.wait()
        orders.cancel()


async def _obey(api: ApiServer) -> None:
    """Do what standard input says, a line at a time."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        order, _, rest = line.decode().strip().partition(" ")
        if order == "relist":
            api.compact()
            api.close_watches()
            _say("relist done")
        elif order == "churn":
            outcome = await roll_out(api, msgspec.json.decode(rest, type=Order))
            _say(f"churned {msgspec.json.encode(outcome).decode()}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.apiserver")
    parser.add_argument("manifests", nargs="*", type=Path)
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    tls = None
    if options.cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.cert, options.key)
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(serve(options.manifests, tls))


if __name__ == "__main__":
    _main()
