"""The upstreams of a run: as many as the workload wants, near or far, alive or not."""

import os
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from perf import upstreams
from perf.plan import Settings, stages
from perf.server import Server, free_port
from perf.subjects import HOST, compile_echo
from perf.workloads import SPECS, Question, UpstreamKind, query

QUERY = query(Question("a.example.", "A", 0, ("192.0.2.1",)), "udp")
CPUS = set(os.sched_getaffinity(0))

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@needs_cc
@pytest.mark.parametrize(("kind", "count"), [("near", 1), ("slow", 1), ("three", 3), ("dead", 3)])
def test_there_are_as_many_as_the_kind_says(kind: UpstreamKind, count: int, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = upstreams.start(kind, free_port, CPUS, tmp_path, stack)
        assert len(set(ports)) == count


@needs_cc
def test_a_black_hole_takes_everything_and_says_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        _, hole, _ = upstreams.start("dead", free_port, CPUS, tmp_path, stack)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((HOST, hole))
            sock.setblocking(False)
            for _ in range(2):  # no error comes back, as it would from a port that is closed
                sock.send(QUERY.wire)
            with pytest.raises(BlockingIOError):
                sock.recv(512)
        with socket.create_connection((HOST, hole)):
            pass


@needs_cc
@pytest.mark.parametrize(("delay", "loss"), [(0, 3), (20, 3)])
def test_one_question_in_so_many_gets_no_answer(delay: int, loss: int, tmp_path: Path) -> None:
    port = free_port()
    command = [str(compile_echo(tmp_path)), HOST, str(port), "", str(delay), str(loss)]
    with (
        Server(command, CPUS, tmp_path / "log") as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        server.wait_ready(port, query(Question("a.example.", "A", 0, ()), "udp"))
        sock.connect((HOST, port))
        for number in range(2 * loss):
            sock.send(bytes((0, number)) + QUERY.wire[2:])
        answered = [sock.recv(512)[1] for _ in range(2 * loss - 2)]
    first, second = sorted(set(range(2 * loss)) - set(answered))
    assert second - first == loss


def test_a_stage_has_upstreams_of_one_kind() -> None:
    names = ("cluster", "forward-hit", "forward-slow", "forward-dead", "forward-three")
    planned = stages(Settings(names, ("kdns",), repeat=1))
    found = {cell.workload: stage.upstream for stage in planned for cell in stage.cells}
    assert found == {name: SPECS[name].upstream for name in names}
