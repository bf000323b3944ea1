"""Flame graphs: where the time of a Python server goes while it is asked, drawn by py-spy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_RATE: Final = 500
"""Looks a second."""
_SLACK: Final = 30.0
_TITLE: Final = re.compile(r'(<text id="title"[^>]*>)[^<]*')


class NotDrawn(Exception):
    """py-spy could not look, and why."""


@contextmanager
def drawn(pid: int, picture: Path, seconds: float, title: str) -> Iterator[None]:
    """Look at a process, without stopping it, while the block runs; write an SVG file.

    seconds: of looking, which should be no longer than the block takes. Raises NotDrawn.
    """
    command = [_program(), "record", "--nonblocking", "--rate", f"{_RATE}", "--pid", f"{pid}"]
    command += ["--duration", f"{max(1, round(seconds))}", "--output", str(picture)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield
        _, said = process.communicate(timeout=seconds + _SLACK)
    except subprocess.TimeoutExpired as error:
        raise NotDrawn(f"py-spy did not end within {seconds + _SLACK:.0f} s") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode or not picture.exists():
        raise NotDrawn(f"py-spy: {said.decode(errors='replace').strip()[-300:]}")
    picture.write_text(titled(picture.read_text(encoding="utf-8"), title), encoding="utf-8")


def titled(svg: str, title: str) -> str:
    """The picture under another title than the command line that drew it, which holds paths."""
    return _TITLE.sub(lambda found: found[1] + title, svg)


def _program() -> str:
    return str(Path(sys.executable).with_name("py-spy"))
