"""Runs the real program for scenarios: `kdns serve` in a process of its own, on free ports."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LISTENING = re.compile(r"listening on .*:([0-9]+) \(UDP and TCP\)")


class Server:
    """A running `kdns serve`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, output: list[str]) -> None:
        self.process = process
        self.port = port
        self.output = output

    def wait_for(self, text: str) -> None:
        """Read what it writes until a line with this text has come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if text in line:
                return
        raise AssertionError(f"kdns ended without {text!r}:\n" + "".join(self.output))

    def stop(self) -> str:
        """Tell it to stop; everything that it wrote."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=60)
        return "".join(self.output) + rest


def command(*args: str) -> list[str]:
    """The command line of kdns with these arguments."""
    return [sys.executable, "-m", "kdns", *args]


def environment(**extra: str) -> dict[str, str]:
    """Our environment with a few changes; asyncio's debug mode is for unit tests."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"}
    return {**kept, "PYTHONWARNINGS": "error", **extra}


@contextmanager
def serving(corefile: Path, *args: str, wait: bool = True, **extra: str) -> Iterator[Server]:
    """Serve a Corefile whose zones name no port, until the block ends.

    wait: until it listens; its port is 0 otherwise.
    """
    process = subprocess.Popen(
        command("serve", "-conf", str(corefile), "-dns.port", "0", *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**extra),
    )
    output: list[str] = []
    try:
        yield Server(process, _port(process, output) if wait else 0, output)
    finally:
        process.kill()
        process.communicate()


def _port(process: "subprocess.Popen[str]", output: Sequence[str]) -> int:
    assert process.stdout is not None
    assert isinstance(output, list)
    for line in process.stdout:
        output.append(line)
        if found := LISTENING.search(line):
            return int(found[1])
    raise AssertionError("kdns ended before it listened:\n" + "".join(output))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def counted(port: int, metric: str) -> int:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    return int(sum(map(float, re.findall(rf"^{metric}{{.*}} (.*)$", text, re.MULTILINE))))
