"""Asks our own HTTP server, as a probe would: what it takes is what probes wait for."""

import asyncio

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
_MOST = 64 << 10


async def says_ok(
    address: str,
    port: int,
    path: str,
    seconds: float,
) -> bool:
    """Whether `path` at `address` ("host:port"), on the port it really has, is 200 in time."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(_WILDCARDS.get(host, host), port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii"))
                answer = await reader.read(_MOST)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.split(b" ", 2)[1:2] == [b"200"]
