"""A second opinion: DNS-OARC's dnsperf asks the same, as fast as it is answered."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perf.server import pinned
from perf.subjects import HOST
from perf.workloads import Question

_SLACK: Final = 60.0
_FIELDS: Final = {
    "sent": r"Queries sent:\s+(\d+)",
    "answered": r"Queries completed:\s+(\d+)",
    "qps": r"Queries per second:\s+([0-9.]+)",
}


class NotMeasured(Exception):
    """dnsperf could not be run, or said what nobody understands."""


@dataclass(frozen=True, slots=True)
class Second:
    """One run of dnsperf: queries sent and answered, answers a second, and the server's CPU in µs
    per answer."""

    subject: str
    workload: str
    repetition: int
    sent: int
    answered: int
    qps: float
    cpu_us: float = 0.0


def available() -> bool:
    """Whether it is installed."""
    return shutil.which("dnsperf") is not None


def write_questions(questions: Iterable[Question], path: Path) -> None:
    """The questions as dnsperf reads them: a name and a type on each line."""
    lines = (f"{question.qname} {question.qtype}\n" for question in questions)
    path.write_text("".join(lines), encoding="utf-8")


def ask(port: int, questions: Path, seconds: float, core: int) -> tuple[int, int, float]:
    """Queries sent, answered, and answers a second. Raises NotMeasured."""
    command = ["dnsperf", "-s", HOST, "-p", str(port), "-d", str(questions)]
    command += ["-l", f"{max(1, round(seconds))}", "-c", "16", "-q", "256", "-S", "0"]
    try:
        with pinned({core}):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + _SLACK, check=False
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"dnsperf: {error}") from error
    return parse(done.stdout if not done.returncode else done.stderr)


def parse(text: str) -> tuple[int, int, float]:
    """What dnsperf prints at its end. Raises NotMeasured."""
    found = {name: re.search(pattern, text) for name, pattern in _FIELDS.items()}
    if not all(found.values()):
        raise NotMeasured(f"dnsperf: expected its statistics, got {text.strip()[-200:]!r}")
    sent, answered, qps = (float(match[1]) for match in found.values() if match)
    return int(sent), int(answered), qps
