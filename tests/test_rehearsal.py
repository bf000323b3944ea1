"""A rehearsal goes through all of a server's life, and leaves nothing of it behind."""

import subprocess
import sys

# In a process of its own: what it is about is what a process has.
SCRIPT = """
import gc, logging, os, socket, sys, threading
from kdns.rehearsal import rehearse

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(message)s")
logging.getLogger("asyncio").setLevel(logging.WARNING)

def sockets():
    found = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
    return sorted(target for target in found if target.startswith("socket"))

before = sockets(), threading.active_count(), gc.get_threshold()
"""
LEFT = """
assert (sockets(), threading.active_count(), gc.get_threshold()) == before
"""


def said(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", SCRIPT + script],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_nothing_of_it_stays_and_nobody_hears_of_it() -> None:
    assert said("rehearse()\n" + LEFT) == []
    assert said("rehearse()\nrehearse()\n" + LEFT) == []


def test_every_question_is_answered() -> None:
    told = said("""
from kdns.rehearsal import ROUNDS, asked
heard = asked()
print(len(heard) == ROUNDS, *{bytes(reply[3] & 15 for reply in replies) for replies in heard})
""")
    nobody_is_there = 3
    rcodes = bytes([0, 0, 0, 0, 0, nobody_is_there, 0, 0, 0])
    assert told == [f"True {rcodes * 2!r}"]


def test_where_it_cannot_be_the_start_goes_on_without() -> None:
    told = said(
        """
def nothing(*_):
    raise PermissionError(1, "Operation not permitted")
socket.socket.bind = nothing
rehearse()
"""
        + LEFT
    )
    (line,) = told
    assert line.startswith("no rehearsal before the fork: ListenError(")
