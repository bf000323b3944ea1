"""The state on disk: read back as it was written, or refused with the reason."""

import os
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.cluster.held import Held
from kdns.cluster.objects import Resource
from kdns.kube.snapshot import LEFT_BEHIND, MAGIC, SnapshotError, read, write
from tests.cluster.builders import made, namespace, service

IDENTITY = "https://10.0.0.1, services; services [] []"


def ignore(_: str) -> None:
    """There is nothing malformed here."""


def shop() -> dict[Resource, list[bytes]]:
    held = Held(ignore)
    for tree in (namespace("shop"), service("cart.shop", "10.0.0.1"), service("till.shop")):
        held.apply(*made(tree))
    return {
        resource: [body for _, body in held.objects(resource)]
        for resource in (Resource.SERVICES, Resource.NAMESPACES)
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "cluster-0.state"
    write(place, IDENTITY, shop())
    return place


def test_what_is_written_is_read(path: Path) -> None:
    items = read(path, IDENTITY)
    assert items is not None
    assert {r: [i.body for i in items if i.resource is r] for r in shop()} == shop()


def test_nothing_else_is_left_and_nobody_else_may_read_it(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_where_there_is_no_file_there_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none", IDENTITY) is None


def test_a_state_of_something_else_is_refused(path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"it is of https://10.0.0.1, .*; expected other"):
        read(path, "other")


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_bytes(b"something else")
    with pytest.raises(SnapshotError, match="expected a file that begins with 'kdns-state 2'"):
        read(path, IDENTITY)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="expected a file"):
        read(tmp_path, IDENTITY)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SnapshotError, match="expected a file"):
        read(tmp_path / "fifo", IDENTITY)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SnapshotError, match=r"loop: Too many levels"):
        read(tmp_path / "loop", IDENTITY)


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"\0\0\0\x09"])
def test_what_was_sealed_by_who_knows_no_better_is_refused(path: Path, content: bytes) -> None:
    whole = MAGIC + content
    path.write_bytes(whole + blake2b(whole, digest_size=32).digest())
    with pytest.raises(SnapshotError, match=str(path)):
        read(path, IDENTITY)


def test_a_file_that_is_too_large_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdns.kube.snapshot.MAX_OCTETS", 10)
    with pytest.raises(SnapshotError, match="octets; expected at most 10"):
        read(path, IDENTITY)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_of_any_octet_and_any_cut_is_noticed(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from((whole[:at], whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]))
    )
    other = path.with_name("damaged")
    other.write_bytes(damaged)
    with pytest.raises(SnapshotError, match=r"damaged: "):
        read(other, IDENTITY)


@pytest.mark.parametrize("body", [b"\xc1", b"\x80"])
def test_an_object_that_is_none_is_refused(path: Path, body: bytes) -> None:
    write(path, IDENTITY, {Resource.SERVICES: [body]})
    with pytest.raises(SnapshotError, match="expected a Service in MessagePack"):
        read(path, IDENTITY)


def test_an_object_twice_is_refused(path: Path) -> None:
    body = shop()[Resource.SERVICES][0]
    write(path, IDENTITY, {Resource.SERVICES: [body, body]})
    with pytest.raises(SnapshotError, match=r"it holds .*; expected \{'services': 2\}"):
        read(path, IDENTITY)


class Slow(list[bytes]):
    """Objects that are written down only when told to."""

    def __init__(self, bodies: list[bytes]) -> None:
        super().__init__(bodies)
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self.begun.set()
        self.go.wait()
        return super().__iter__()


def test_who_writes_while_another_does_comes_after_it(path: Path) -> None:
    slow = Slow(shop()[Resource.SERVICES])
    first = threading.Thread(target=write, args=(path, IDENTITY, {Resource.SERVICES: slow}))
    second = threading.Thread(target=write, args=(path, IDENTITY, shop()))
    first.start()
    slow.begun.wait()
    second.start()
    slow.go.set()
    for thread in (first, second):
        thread.join()
    assert len(read(path, IDENTITY) or ()) == 3
    assert list(path.parent.iterdir()) == [path]


def test_what_was_left_by_who_was_killed_is_cleared_away_in_time(path: Path) -> None:
    left, begun, other = (
        path.with_name(name)
        for name in (".cluster-0.state.7", ".cluster-0.state.8", ".cluster-1.state.7")
    )
    now = path.stat().st_mtime
    for each in (left, begun, other):
        each.write_bytes(b"half of it")
        os.utime(each, (now, now - LEFT_BEHIND - (1 if each is not begun else -1)))
    write(path, IDENTITY, shop())
    assert sorted(path.parent.iterdir()) == sorted([path, begun, other])


def test_two_that_share_a_volume_do_not_write_in_one_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a container of its own, where each is process 1 and waits for nobody."""
    services = shop()[Resource.SERVICES]
    slow = Slow(services)
    first = threading.Thread(target=write, args=(path, IDENTITY, {Resource.SERVICES: slow}))
    first.start()
    slow.begun.wait()
    monkeypatch.setattr("kdns.kube.snapshot._WRITING", threading.Lock())
    write(path, IDENTITY, shop())
    assert len(read(path, IDENTITY) or ()) == 3
    slow.go.set()
    first.join()
    assert len(read(path, IDENTITY) or ()) == len(services)


def test_a_failed_writing_leaves_the_file_that_was_there(path: Path) -> None:
    before = path.read_bytes()
    path.with_name("folder").mkdir()
    with pytest.raises(OSError, match=r"folder"):
        write(path.with_name("folder"), IDENTITY, shop())
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["cluster-0.state", "folder"]
    assert before.startswith(MAGIC)
