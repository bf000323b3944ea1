"""A large cluster's objects, what is weighed and judged, and how a sync is told."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from kdns.cluster.objects import Resource, convert_object
from kdns.cluster.state import Cluster
from kdns.cluster.zone import ForwardZone, PodsMode, ReverseZone, ZoneOptions
from kdns.wire import iana, name
from perf.__main__ import _given, _parser
from perf.bare import Decoded, weigh
from perf.certificate import make
from perf.large import Large
from perf.measure import Machine, memory_of
from perf.model import LoadResult
from perf.run import write_objects
from perf.sync import (
    Killed,
    Relisted,
    Result,
    Started,
    Terms,
    alone,
    bounds,
    pss_of,
    render,
    tables,
)
from perf.workloads import Question

SMALL = Large(services=12, endpoints=36, pods=8)
LOAD = LoadResult(1_000, 1_000, 0, 0, 8.0, 125.0, 100.0, 150.0, 300.0, 400.0, 500.0, [])
STARTED = Started(0.8, 0.7, 80 * 1024, 82 * 1024, 60 * 1024, 70 * 1024)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The small one, as kdns holds it."""
    held = Cluster(lambda: 0.0, pytest.fail)
    for resource in Resource:
        for obj in SMALL.objects():
            if obj["kind"] == resource.kind:
                held.apply(resource, convert_object(resource, obj))
    return held


def answers(cluster: Cluster, questions: Iterator[Question]) -> Iterator[tuple[str, ...]]:
    """What kdns has at these names."""
    home, reverse = name.from_text("cluster.local."), name.from_text("in-addr.arpa.")
    options = ZoneOptions(pods=PodsMode.VERIFIED)
    forward = ForwardZone(home, cluster, options)
    backward = ReverseZone(reverse, home, cluster, options)
    for question in questions:
        qname = name.from_text(question.qname)
        node = (forward.node if question.qtype == "A" else backward.node)(qname)
        assert node is not None, question.qname
        (data,) = node.rrsets[iana.A if question.qtype == "A" else iana.PTR].rdatas
        yield (".".join(map(str, data)) if len(data) == 4 else name.to_text(data),)


def test_every_right_answer_is_what_the_objects_call_for(cluster: Cluster) -> None:
    asked = [*SMALL.questions(), *SMALL.pod_questions()]
    assert len(asked) == 2 * 12 + 8
    assert list(answers(cluster, iter(asked))) == [question.rdatas for question in asked]


def test_a_cluster_has_as_much_as_was_asked_for(cluster: Cluster) -> None:
    assert len(cluster.services) == 12
    slices = [s for key in cluster.services for s in cluster.slices_of(key)]
    assert sum(len(held.endpoints) for held in slices) == 36
    assert len({a for held in slices for a in held.addresses}) == 36


def test_another_generation_has_other_endpoints() -> None:
    first = {SMALL.endpoint_address(i, n) for i in range(12) for n in range(3)}
    later = {SMALL.endpoint_address(i, n, 1) for i in range(12) for n in range(3)}
    assert not first & later


def test_more_endpoints_than_a_slice_takes_are_in_several() -> None:
    wide = Large(services=1, endpoints=250)
    sizes = [len(made["endpoints"]) for made in wide.slices(0)]  # type: ignore[arg-type]
    names = {made["metadata"]["name"] for made in wide.slices(0)}  # type: ignore[index]
    assert (sizes, len(names)) == ([100, 100, 50], 3)


@pytest.mark.parametrize("kind", ["endpoint", "service", "pod"])
def test_what_the_state_holds_of_each_is_weighed(kind: str) -> None:
    weight = weigh(kind, Large(services=50, endpoints=1_000, pods=200))
    assert 10 < weight.told < 1_000
    assert 10 < weight.state < 2_000


def test_objects_are_written_in_files_that_are_read_again(tmp_path: Path) -> None:
    paths = write_objects(SMALL.objects(), tmp_path, "small")
    assert [path.name for path in paths] == ["small-0.json"]
    assert paths[0].read_bytes().count(b'"kind":"EndpointSlice"') == 12


def result(**changes: object) -> Result:
    made = Result(
        Terms(),
        Machine("Some CPU", 2, "Linux 6.1", "3.11.1"),
        0.4,
        Decoded(0.1, 37_000_000),
        STARTED,
        Relisted(80 * 1024, 84 * 1024, LOAD),
        STARTED._replace(rss=120 * 1024),
        STARTED._replace(pss=90 * 1024),
        Killed(0.5, LOAD, (100, 100, 200)),
        0.8,
        {},
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # each test says what it changes


def test_all_is_well_within_the_bounds() -> None:
    assert [bound.name for bound in bounds(result()) if not bound.kept] == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"one": STARTED._replace(rss=111 * 1024)}, "memory, settled"),
        ({"one": STARTED._replace(peak=161 * 1024)}, "memory, at its peak"),
        ({"imports": 0.2}, "CPU to ready, beside a bare decoding"),
        ({"pods": STARTED._replace(rss=191 * 1024)}, "memory with the pods, settled"),
        (
            {"workers": STARTED._replace(alone=113 * 1024)},
            "two workers and all, beside one process",
        ),
        (
            {"relisted": Relisted(80 * 1024, 93 * 1024, LOAD)},
            "peak of a relist, beside settled",
        ),
        (
            {"relisted": Relisted(80, 80, replace(LOAD, wrong=1))},
            "answers lost or wrong in a relist",
        ),
        ({"recalled": 1.1}, "start from the snapshot"),
        ({"killed": Killed(2.1, LOAD, (1, 1, 1))}, "a killed worker's clients wait"),
        ({"killed": Killed(1.0, LOAD, (5, 3, 9))}, "totals fall when it is killed by"),
    ],
)
def test_each_bound_is_broken_by_what_it_is_about(changes: dict[str, object], name: str) -> None:
    assert [bound.name for bound in bounds(result(**changes)) if not bound.kept] == [name]


def test_the_tables_show_each_bound() -> None:
    console = Console(file=StringIO(), width=120)
    made = result(weights={"endpoint": weigh("endpoint", SMALL)})
    for shown in tables(made):
        console.print(shown)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    for bound in bounds(made):
        assert bound.name in text
    assert "endpoint" in text


def test_the_page_shows_each_bound_and_says_which_one_is_not_kept() -> None:
    made = result(recalled=1.5, weights={"endpoint": weigh("endpoint", SMALL)})
    text = render(made)
    ET.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert all(escape(bound.name) in text for bound in bounds(made))
    assert "start from the snapshot: 1.50 s; expected at most 1.00 s" in text


def test_the_command_line_says_how_large() -> None:
    args = _parser().parse_args(["sync", "--services", "10", "--endpoints", "200", "--rate", "50"])
    assert _given(Terms(), args) == Terms(services=10, endpoints=200, rate=50.0)


def test_what_processes_share_is_added_up_by_their_shares(tmp_path: Path) -> None:
    for pid, size in ((1, 300), (2, 50)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"Rss: 900 kB\nPss: {size} kB\n")
    assert pss_of([1, 2], tmp_path) == 350


FORKED = """
import os, sys
held = bytearray(b"x" * (8 << 20))

pids = [os.getpid()]
for _ in range(int(sys.argv[1])):
    if (pid := os.fork()) == 0:
        os.read(0, 1)
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
os.read(0, 1)
"""


@contextmanager
def family(others: int) -> Iterator[list[int]]:
    """A process and so many that were forked from it."""
    command = [sys.executable, "-c", FORKED, str(others)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        yield [int(pid) for pid in one.stdout.readline().split()]
        one.communicate("." * (others + 1))


def test_what_processes_have_together_does_not_depend_on_who_else_runs() -> None:
    with family(0) as pids:
        before = alone(pids)
        rss, _ = memory_of(pids)
        # What is not in a file of a path, as the vDSO is not, is nobody's.
        assert rss - 256 <= before <= rss
        with family(0):
            assert abs(alone(pids) - before) < 64


def test_what_forked_processes_share_is_counted_once() -> None:
    with family(2) as pids:
        together = alone(pids)
        each = [alone([pid]) for pid in pids]
        assert max(each) <= together < sum(each)
        # None of them has written into what the first one holds.
        assert together < memory_of(pids[:1])[0] + 4096


def test_a_certificate_is_its_own_authority(tmp_path: Path) -> None:
    import ssl

    pem = make(tmp_path, "127.0.0.1")
    ssl.create_default_context(cafile=str(pem.cert))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem.cert, pem.key)
