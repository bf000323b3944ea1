"""What the nursery has borne is ended when the overseer wants it no more, whatever it does."""

import subprocess
import sys

# In a process of its own, which has no threads and nothing that two must not have.
SCRIPT = """
import os, signal, sys
from kdns.nursery import plant

def bear(number, ties):
    ties.link.send(b"born")
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0

nursery = plant(bear)
ties = nursery.spawn(7)
ties.link.recv(4)
if sys.argv[1] == "end":
    nursery.end(7)
else:
    nursery.spawn(7).link.recv(4)
print(ties.link.recv(1))
nursery.end(7)
"""


def said(what: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, check=True, timeout=60
    )
    return done.stdout


def test_a_worker_that_is_stopped_can_be_ended() -> None:
    assert said("end") == b"b''\n"


def test_who_is_born_in_its_place_ends_it() -> None:
    assert said("another") == b"b''\n"
