"""The exec plugin of a kubeconfig is a program of somebody else's, so what it may take is bounded.

The loader of the `kubernetes` package knows what it is to be asked; but it reads its output without
a bound, and one after the other what it prints and what it complains of, so that a plugin which
complains at length waits for ever; it hands it our standard input; and it leaves it running when
nobody waits for it any more.
"""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

MAX_OUTPUT = 1 << 20
"""Octets that a plugin may print."""
_MAX_COMPLAINT = 4096
_CHUNK = 1 << 16
_PARTING = 1.0
"""Seconds in which what was killed is gone."""


class Provider(Protocol):
    """What the loader makes of the entry `exec` of a user."""

    @property
    def args(self) -> Sequence[str]:
        """The command and its arguments."""

    @property
    def env(self) -> Mapping[str, str]:
        """Its environment, whole."""

    @property
    def api_version(self) -> str:
        """Of the ExecCredential that is expected."""


class Plugin:
    """Takes the place of the loader's own `ExecProvider`, of which it has the command."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def run(self) -> Mapping[str, object]:
        """The `status` of the ExecCredential that it prints. Raises ValueError, OSError.

        Whoever is cancelled here ends the plugin, and whatever it has started.
        """
        version = self._provider.api_version
        asked = {
            "apiVersion": version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        process = await asyncio.create_subprocess_exec(
            *self._provider.args,
            env={**self._provider.env, "KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.TaskGroup() as both:
                printed = both.create_task(_read(process.stdout, MAX_OUTPUT + 1))
                complained = both.create_task(_read(process.stderr, _MAX_COMPLAINT))
            code = await process.wait()
        except BaseException:
            await _end(process)
            raise
        if code:
            complaint = " ".join(complained.result().decode(errors="replace").split())
            raise ValueError(f"exec: the plugin ended with {code}: {complaint}")
        return _status(printed.result(), version)


def replace(theirs: Callable[[object], Provider]) -> Callable[[object], Plugin]:
    """What to put in the place of the loader's class."""
    return lambda config: Plugin(theirs(config))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and its group, and let go of its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # who has left the group may have them still
        async with asyncio.timeout(_PARTING):
            await process.communicate()


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    """The first octets; the rest is read all the same, so that nobody waits to write it."""
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: limit - len(kept)]
    return kept


def _status(printed: bytes, version: str) -> Mapping[str, object]:
    """Raises ValueError."""
    if len(printed) > MAX_OUTPUT:
        raise ValueError(f"exec: the plugin prints more than {MAX_OUTPUT} octets")
    try:
        credential = msgspec.json.decode(printed, type=_Credential)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"exec: expected an ExecCredential: {error}") from error
    if credential.api_version != version:
        theirs = credential.api_version
        raise ValueError(f"exec: the plugin speaks {theirs!r}; expected {version!r}")
    return credential.status


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: dict[str, object]
