"""A file is read again by its contents; what is wrong with it is said once, and changes nothing."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kdns.plugins import rereading
from kdns.plugins.rereading import BadFile, Rereader, UnreadableFile, read_octets
from tests.plugins.fakes import FakeParts


@dataclass
class Followed:
    """A file that is looked at every five seconds, and what was taken from it."""

    path: Path
    seconds: float = 5.0
    parts: FakeParts = field(default_factory=FakeParts)
    taken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rereader = Rereader(
            str(self.path), self.read, self.taken.append, self.seconds, self.parts, "hosts"
        )

    def read(self, octets: bytes) -> str:
        if octets.startswith(b"bad"):
            raise BadFile(f"file:1: expected good, got {octets.decode()}")
        return octets.decode()

    def look(self) -> None:
        self.parts.clock.advance(self.seconds)


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    path = tmp_path / "file"
    path.write_text("one")
    return Followed(path)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return said


def test_it_is_taken_first_and_then_whenever_it_says_something_else(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kdns.files")
    followed.rereader.first()
    assert followed.taken == ["one"]
    followed.rereader.start()
    followed.look()
    assert (followed.taken, told(caplog)) == (["one"], [])
    before = followed.path.stat()
    followed.path.write_text("two")
    # Of the same size, and within one tick of the disk's clock.
    os.utime(followed.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    followed.look()
    assert followed.taken == ["one", "two"]
    assert told(caplog) == [("INFO", f"hosts: read {followed.path} again")]


def test_when_what_was_taken_was_written_is_known(followed: Followed) -> None:
    assert followed.rereader.modified == 0.0
    os.utime(followed.path, (0, 1_700_000_000))
    followed.rereader.first()
    assert followed.rereader.modified == 1_700_000_000.0
    # It says the same: it is not what was taken.
    os.utime(followed.path, (0, 1_800_000_000))
    followed.rereader.first()
    assert followed.rereader.modified == 1_700_000_000.0


def test_what_is_wrong_is_said_once_and_what_was_taken_stays(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kdns.files")
    followed.rereader.first()
    followed.rereader.start()
    for text in ("bad", "bad", "bad too"):
        followed.path.write_text(text)
        followed.look()
    followed.path.unlink()
    followed.look()
    followed.look()
    goes_on = "; what it said before goes on"
    assert told(caplog) == [
        ("WARNING", f"hosts: file:1: expected good, got bad{goes_on}"),
        ("WARNING", f"hosts: file:1: expected good, got bad too{goes_on}"),
        (
            "WARNING",
            f"hosts: {followed.path}: No such file or directory; expected a file{goes_on}",
        ),
    ]
    # As it was before: nothing to take, but good to know.
    followed.path.write_text("one")
    followed.look()
    followed.look()
    assert followed.taken == ["one"]
    assert told(caplog) == [("INFO", f"hosts: read {followed.path} again")]


def test_a_fault_of_the_reader_ends_no_looks(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.rereader.first()
    followed.rereader.start()
    followed.path.write_bytes(b"\xff")
    followed.look()
    assert "codec can't decode" in told(caplog)[0][1]
    followed.path.write_text("three")
    followed.look()
    assert followed.taken == ["one", "three"]


def test_an_error_without_words_is_said_by_its_name(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.rereader.excuse(MemoryError(), "nothing is known")
    followed.rereader.excuse(MemoryError(), "nothing is known")
    followed.rereader.excuse(BadFile("a"), "nothing is known", say=False)
    followed.rereader.excuse(BadFile("a"), "nothing is known")
    assert told(caplog) == [("WARNING", "hosts: MemoryError; nothing is known")]


def test_the_first_time_raises_what_is_wrong(followed: Followed) -> None:
    followed.path.write_text("bad")
    with pytest.raises(BadFile, match="expected good"):
        followed.rereader.first()
    assert followed.taken == []


def test_without_seconds_it_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    followed = Followed(path, seconds=0.0)
    followed.rereader.first()
    followed.rereader.start()
    followed.rereader.stop()
    assert followed.parts.clock.waiting == 0


def test_it_stops_when_told(followed: Followed) -> None:
    followed.rereader.start()
    assert followed.parts.clock.waiting == 1
    followed.rereader.stop()
    assert followed.parts.clock.waiting == 0
    # A look that was under way then begins no other.
    followed.rereader._again()
    assert followed.parts.clock.waiting == 0


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="expected a file, got a directory"):
        read_octets(str(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadFile, match=r"pipe: expected a file$"):
        read_octets(str(pipe))
    with pytest.raises(BadFile, match="null"):
        read_octets("a\0b")
    with pytest.raises(UnreadableFile, match=r"none: No such file or directory; expected a file$"):
        read_octets(str(tmp_path / "none"))


def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rereading, "MAX_OCTETS", 4)
    path = tmp_path / "file"
    path.write_text("four")
    assert read_octets(str(path)) == b"four"
    path.write_text("fives")
    with pytest.raises(BadFile, match=r"file: expected at most 4 octets$"):
        read_octets(str(path))
    assert read_octets(str(path), 5) == b"fives"
    with pytest.raises(BadFile, match=r"file: expected at most 3 octets$"):
        read_octets(str(path), 3)
