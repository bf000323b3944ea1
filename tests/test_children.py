"""Workers come to life and are ended when the overseer wants them no more, whatever they do."""

import errno
import os
import subprocess
import sys

import pytest

import kdns
from kdns.children import OTHER_VERSION, Birth

# In a process of its own, which has no threads and nothing that two must not have. What it starts
# anew is the same as what it forks: one that says how it was born, and stops.
SCRIPT = """
import os, signal, sys
from kdns.children import Again, fork

def bear(ties, how=b"forked"):
    ties.link.send(how)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0

ANEW = '''
import os, signal, sys
from kdns.children import Birth
birth = Birth.read(sys.argv[2])
assert birth.is_ours and birth[2:4] == (1234, 'json'), birth
birth.ties().link.send(b"anew")
os.kill(os.getpid(), signal.SIGSTOP)
'''

def children(count=2, command=(sys.executable, "-c", ANEW)):
    return fork(count, bear, Again(command, os.environ, 1234, "json"))

def left():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()
"""


def said(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_the_first_are_forked_and_those_in_their_place_started_anew() -> None:
    told = said("""
family = children()
ties = [family.spawn(number) for number in (0, 1)]
print(*[each.link.recv(9) for each in ties])
another = family.spawn(1)
print(another.link.recv(9), ties[1].link.recv(9))
print(family.spawn(1).link.recv(9), another.link.recv(9))
family.end(0), family.end(1)
""")
    assert told == ["b'forked' b'forked'", "b'anew' b''", "b'anew' b''"]


def test_one_that_is_stopped_can_be_ended() -> None:
    told = said("""
family = children()
ties = family.spawn(1)
ties.link.recv(9)
print(family.end(1), ties.link.recv(9), family.end(1))
family.end(0)
""")
    assert told == ["None b'' None"]


def test_those_that_nobody_asked_for_end_with_the_overseer_and_when_it_wants_no_more() -> None:
    waits = """
def heard(ties):
    os.write(1, b"%d heard\\n" % len(ties.link.recv(9)))
    return 0
family = fork(2, heard, Again((), os.environ))
"""
    gone = "[os.waitpid(-1, 0) for _ in range(2)]\n"
    assert said(waits) == ["0 heard", "0 heard"]
    assert said(waits + "family.close()\n" + gone) == ["0 heard", "0 heard"]
    # No worker keeps the overseer's end of another one.
    one_goes = "ties = family.spawn(0)\nfamily.close()\nos.waitpid(-1, 0)\n"
    assert said(waits + one_goes) == ["0 heard", "0 heard"]


def test_who_has_ended_is_waited_for() -> None:
    told = said("""
family = children()
for _ in range(3):
    family.spawn(0).link.recv(9)
os.waitid(os.P_PID, int(left()[-1]), os.WSTOPPED)
family.end(0)
family.end(1)
while left():
    family.end(0)
print("none")
""")
    assert told == ["none"]


def test_nobody_is_started_in_the_place_of_one_who_found_another_version() -> None:
    told = said(f"""
family = children(1, (sys.executable, "-c", "raise SystemExit({OTHER_VERSION})"))
family.spawn(0).link.recv(9)
assert family.spawn(0).link.recv(9) == b""
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
try:
    while True:
        family.spawn(0).link.recv(9)
except OSError as error:
    print(error.errno, error.strerror)
""")
    assert told == [
        f"{errno.ENOEXEC} kdns {kdns.__version__} runs, and another version is installed by now"
    ]


def test_where_nothing_can_be_started_it_is_told_and_nothing_stays_open() -> None:
    told = said("""
family = children(1, ("/nonexistent/python",))
family.spawn(0).link.recv(9)
before = os.listdir("/proc/self/fd")
for _ in range(3):
    try:
        family.spawn(0)
    except FileNotFoundError as error:
        print(error.strerror)
print(os.listdir("/proc/self/fd") == before)
""")
    assert told == ["No such file or directory"] * 3 + ["True"]


def test_a_birth_is_read_as_it_was_written() -> None:
    birth = Birth(5, 6, 1 << 30, "json", "1.0,rc1")
    assert Birth.read(str(birth)) == birth
    assert not birth.is_ours
    assert birth._replace(version=kdns.__version__).is_ours
    for text in ("", "5,6,7,text", "5,six,7,text,1.0"):
        with pytest.raises(ValueError, match=r"unpack|int"):
            Birth.read(text)


@pytest.mark.parametrize(
    "told",
    [
        str(Birth(5, 6, 0, "text", f"{kdns.__version__}.before")),
        "as another version may say it",
    ],
)
def test_one_of_another_version_ends_at_once_and_says_so_by_its_status(told: str) -> None:
    command = [sys.executable, "-m", "kdns", "serve", "--born", told]
    done = subprocess.run(command, capture_output=True, timeout=60, env=os.environ, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (OTHER_VERSION, b"", b"")


def test_one_that_is_started_anew_imports_no_more_than_answering_needs() -> None:
    script = "import sys, kdns.entry, kdns.worker; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()}
    assert "kdns" in imported
    assert not imported & {"aiohttp", "kubernetes", "argparse", "rich"}
