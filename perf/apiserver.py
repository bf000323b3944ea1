"""An API server for subjects that need one: `python -m perf.apiserver MANIFEST...`.

It says its URL on standard output and serves until it is told to end. Once a subject has listed and
watches, it has nothing to do.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from kdns.testing.apiserver import ApiServer
from perf.cluster import Json


class _List(msgspec.Struct):
    items: list[Json]


async def serve(manifests: list[Path]) -> None:
    """Serve the objects of these files, lists as JSON. Raises OSError and msgspec's errors."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with ApiServer() as api:
        for path in manifests:
            api.load(msgspec.json.decode(path.read_bytes(), type=_List).items)
        sys.stdout.write(f"{api.url}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve([Path(argument) for argument in sys.argv[1:]]))
