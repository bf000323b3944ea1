"""Flame graphs: where the time of a Python server goes while it is asked, as py-spy sees it.

the loop ------------------------------- all looks, wide as the picture
  _on_readable -------------  _read ----   who is called stands below who calls
    _answer_batch ---  _send_slots         and is as wide as its share of the looks
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

_RATE: Final = 500
"""Looks a second."""
_SLACK: Final = 30.0
_WIDTH: Final = 1000
_ROW: Final = 18
_TOP: Final = 44
_LETTER: Final = 6.3
"""Pixels of a letter, or a little more, in the size that frames are written in."""
_LEAST: Final = 0.5
"""Pixels of a frame that is drawn."""
_OURS: Final = ("#f6c9bd", "#f3d6b8", "#f7e0b5", "#f2c4cf")
_OTHERS: Final = "#dde3e8"
_INK: Final = "#1f2933"
_LOOP: Final = "asyncio/runners.py"
"""All of a server is below it; what is above says nothing."""


class NotDrawn(Exception):
    """py-spy could not look, and why."""


@dataclass(slots=True)
class Frame:
    """A function as it was called from one place: in so many looks, with what it called."""

    label: str
    looks: int = 0
    called: dict[str, Frame] = field(default_factory=dict)


@contextmanager
def drawn(pid: int, picture: Path, seconds: float, title: str) -> Iterator[None]:
    """Look at a process, without stopping it, while the block runs; write an SVG file.

    seconds: of looking, which should be no longer than the block takes. Raises NotDrawn.
    """
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder:
        stacks = Path(folder) / "stacks"
        command = [_program(), "record", "--nonblocking", "--function", "--format", "raw"]
        command += ["--rate", f"{_RATE}", "--pid", f"{pid}", "--output", str(stacks)]
        command += ["--duration", f"{max(1, round(seconds))}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            yield
            _, said = process.communicate(timeout=seconds + _SLACK)
        except subprocess.TimeoutExpired as error:
            raise NotDrawn(f"py-spy did not end within {seconds + _SLACK:.0f} s") from error
        finally:
            process.kill()
            process.wait()
        if process.returncode or not stacks.exists():
            raise NotDrawn(f"py-spy: {said.decode(errors='replace').strip()[-300:]}")
        root = merged(stacks.read_text(encoding="utf-8").splitlines())
    picture.write_text(draw(root, title), encoding="utf-8")


def merged(stacks: Iterable[str]) -> Frame:
    """The calls of all stacks as one tree. A line is frames from the outermost on, `;` between
    them, and how often that was seen: `main (a.py:1);run (b.py:2) 17`. Raises ValueError.
    """
    root = Frame("all")
    for line in stacks:
        frames, _, looks = line.rpartition(" ")
        if not looks.isdecimal():
            raise ValueError(f"{line!r}: expected frames and a number of looks")
        names = frames.split(";")
        loop = [place for place, name in enumerate(names) if _LOOP in name]
        here = root
        here.looks += int(looks)
        for name in names[loop[-1] + 1 :] if loop else names:
            here = here.called.setdefault(name, Frame(name))
            here.looks += int(looks)
    return root


def draw(root: Frame, title: str) -> str:
    """The tree as an SVG picture: no script, and every frame says in full what it is."""
    depth = _depth(root)
    height = _TOP + _ROW * depth + 8
    size = f'width="{_WIDTH}" height="{height}"'
    font = f'font-family="system-ui, sans-serif" font-size="11" fill="{_INK}"'
    about = (
        f"{root.looks:,} looks at {_RATE} a second; kdns in colour, libraries in grey; "
        "hold the pointer over a frame for its file"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {size} {font}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="4" y="18" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="4" y="35">{about}</text>',
        *_drawn(root, root, 0.0, 0),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _drawn(frame: Frame, root: Frame, x: float, row: int) -> Iterator[str]:
    share = frame.looks / root.looks if root.looks else 0.0
    width = _WIDTH * share
    if width < _LEAST:
        return
    y = _TOP + _ROW * row
    said = f"{frame.label}: {frame.looks:,} looks, {share:.1%}"
    colour = _OURS[row % len(_OURS)] if "(kdns/" in frame.label else _OTHERS
    yield (
        f"<g><title>{escape(said)}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}" fill="{colour}" '
        'stroke="#fff" stroke-width="0.5"/>'
    )
    letters = int((width - 6) / _LETTER)
    if letters >= 4:
        name = frame.label.partition(" (")[0]
        text = f"{name} {share:.0%}"
        shown = text if len(text) <= letters else name[: letters - 1] + "…"
        yield f'<text x="{x + 3:.1f}" y="{y + 13}">{escape(shown)}</text>'
    yield "</g>"
    for called in sorted(frame.called.values(), key=lambda each: -each.looks):
        yield from _drawn(called, root, x, row + 1)
        x += _WIDTH * called.looks / root.looks


def _depth(frame: Frame) -> int:
    return 1 + max(map(_depth, frame.called.values()), default=0)


def _program() -> str:
    return str(Path(sys.executable).with_name("py-spy"))
