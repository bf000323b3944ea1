"""An exec plugin is asked as the loader asks it, and cannot take more than it may."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kdns.kube import execplugin as module
from kdns.kube.execplugin import Plugin

VERSION = "client.authentication.k8s.io/v1"


@dataclass
class Given:
    """The entry `exec` of a user whose plugin is a Python script."""

    script: str
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    api_version: str = VERSION

    @property
    def args(self) -> Sequence[str]:
        return [sys.executable, "-c", self.script]


def printing(**more: object) -> str:
    fields = {"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": "t"}, **more}
    return f"print({json.dumps(fields)!r})"


async def test_what_it_prints_is_understood() -> None:
    assert await Plugin(Given(printing())).run() == {"token": "t"}


async def test_it_is_told_what_is_wanted_and_has_nobody_to_ask() -> None:
    script = (
        "import os, sys, json; assert sys.stdin.read() == ''\n"
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "print(json.dumps({**asked, 'status': asked['spec']}))"
    )
    assert await Plugin(Given(script)).run() == {"interactive": False}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; print('no  money', file=sys.stderr); sys.exit(3)", "ended with 3: no money$"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9: $"),
        ("print('<html>')", "expected an ExecCredential"),
        ("print('[' * 100_000)", "expected an ExecCredential"),
        ("import os; os.write(1, b'\\xff')", "expected an ExecCredential"),
        (printing(status=None), "expected an ExecCredential"),
        (printing(apiVersion="v0"), f"speaks 'v0'; expected '{VERSION}'"),
    ],
)
async def test_anything_else_is_told(script: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await Plugin(Given(script)).run()


async def test_what_it_prints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT", 10)
    with pytest.raises(ValueError, match="prints more than 10 octets"):
        await Plugin(Given("print('x' * 1_000_000)")).run()


async def test_it_may_complain_at_length_before_it_prints() -> None:
    script = f"import sys; sys.stderr.write('x' * 1_000_000); sys.stderr.flush(); {printing()}"
    assert await Plugin(Given(script)).run() == {"token": "t"}


async def test_when_nobody_waits_any_more_it_is_ended_and_what_it_has_started(
    tmp_path: Path,
) -> None:
    """A FIFO is at its end when nobody has it open for writing."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = f"import signal; f = open({str(fifo)!r}, 'wb', 0); f.write(b'x'); signal.pause()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    waiting = asyncio.create_task(Plugin(Given(script)).run())
    with await asyncio.to_thread(fifo.open, "rb", 0) as reader:
        assert await asyncio.to_thread(reader.read, 1) == b"x"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(reader.read, 1) == b""
