"""Who may have CAP_NET_BIND_SERVICE binds low ports; who may not is told what is needed."""

import os
import subprocess
import sys

import pytest

from kdns.net.privilege import take_low_ports

PORT = 853
# Root's capabilities stay permitted over the change of user, if told so, but not in effect.
# Python's own files may be root's alone: what is needed of them is imported before.
BIND = """
import ctypes, encodings.idna, os, sys
from kdns.net.listen import ListenError, bind_udp
ctypes.CDLL(None).prctl(8, int(sys.argv[1]), 0, 0, 0)
os.setresuid(65532, 65532, 65532)
try:
    print(bind_udp("0.0.0.0", int(sys.argv[2])).getsockname()[1])
except ListenError as error:
    print(error)
"""


def bound_by_a_user(*, permitted: bool) -> str:
    """What a user without privileges gets who binds a low port, in a network of its own."""
    words = ["unshare", "--net", sys.executable, "-c", BIND, str(int(permitted)), str(PORT)]
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )
    if "unshare" in done.stderr:
        pytest.skip("no network of its own here")
    return (done.stdout + done.stderr).strip()


needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to give its powers up"
)


@needs_root
def test_what_is_permitted_is_taken_for_a_low_port() -> None:
    assert bound_by_a_user(permitted=True) == str(PORT)


@needs_root
def test_what_is_not_permitted_is_asked_for_in_one_line() -> None:
    said = bound_by_a_user(permitted=False)
    assert said.startswith("udp 0.0.0.0:853: permission denied; ports below 1024 need root")


@needs_root
def test_what_is_in_effect_is_not_taken_again() -> None:
    assert take_low_ports() is False


def test_elsewhere_than_on_linux_there_is_nothing_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert take_low_ports() is False
