"""Log lines: CoreDNS's format or JSON, written by a thread, dropped where nobody takes them."""

import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from kdns.telemetry import lines
from kdns.telemetry.lines import JsonLines, LineHandler, TextLines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def record(text: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("kdns.log", logging.WARNING, __file__, 1, text, (), None)
    made.__dict__.update(extra)
    made.created, made.msecs = 1700000000.25, 250.0
    return made


def failure() -> logging.LogRecord:
    made = record("failed")
    try:
        raise ValueError("odd")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_text_is_coredns_s_line() -> None:
    assert TextLines().format(record("hello")) == "[WARNING] hello"


def test_text_ends_with_the_traceback() -> None:
    assert TextLines().format(failure()).endswith("ValueError: odd")


def test_json_is_an_object_with_time_level_logger_and_message() -> None:
    assert json.loads(JsonLines().format(record("hello"))) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "kdns.log",
        "message": "hello",
    }


def test_json_has_the_traceback_in_a_field() -> None:
    assert json.loads(JsonLines().format(failure()))["traceback"].endswith("ValueError: odd")


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_a_record_with_fields_is_an_object_in_either_format(formatter: logging.Formatter) -> None:
    told = json.loads(formatter.format(record("hello", fields={"name": "a."})))
    assert told["name"] == "a."
    assert "message" not in told


def test_lines_come_out_in_their_order(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = LineHandler(write)
    for number in range(1000):
        handler.emit(record(f"line {number:04d}"))
    handler.flush()
    written = os.read(read, 65536).decode().splitlines()
    assert written == [f"[WARNING] line {number:04d}" for number in range(1000)]


def test_the_json_handler_writes_objects(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = LineHandler(write, "json")
    handler.emit(record("hello"))
    handler.flush()
    assert json.loads(os.read(read, 65536))["message"] == "hello"


def test_who_logs_does_not_wait_for_a_pipe_that_nobody_reads(pipe: tuple[int, int]) -> None:
    read, write = pipe
    _fill(write)
    handler = LineHandler(write, backlog=200)
    for _ in range(100):
        handler.emit(record("x" * 40))
    assert handler.dropped == 100 - 200 // len("[WARNING] " + "x" * 40 + "\n")
    _drain(read)
    handler.flush()
    assert os.read(read, 65536).count(b"\n") == 100 - handler.dropped


def test_lines_for_a_pipe_that_is_closed_are_dropped() -> None:
    read, write = os.pipe()
    os.close(read)
    handler = LineHandler(write)
    handler.emit(record("hello"))
    handler.flush()
    os.close(write)
    assert handler.dropped == 1


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    read, write = pipe
    _fill(write)
    os.set_blocking(write, False)
    handler = LineHandler(write)
    handler.emit(record("hello"))
    _drain(read)
    handler.flush()
    assert os.read(read, 100) == b"[WARNING] hello\n"


def test_a_long_record_is_cut(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = LineHandler(write)
    handler.emit(record("x" * 100_000))
    handler.flush()
    written = os.read(read, 200_000)
    assert len(written) == lines.MAX_LINE
    assert written.endswith(b"x...\n")


def test_a_record_that_cannot_be_written_down_is_dropped(pipe: tuple[int, int]) -> None:
    handler = LineHandler(pipe[1])
    made = record("%d")
    made.args = ("no number",)
    handler.emit(made)
    assert handler.dropped == 1


def test_a_forked_process_has_a_thread_of_its_own(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = LineHandler(write)
    handler.emit(record("parent"))
    handler.flush()
    handler._begin()  # what a fork does in the child
    handler.emit(record("child"))
    handler.flush()
    assert os.read(read, 100) == b"[WARNING] parent\n[WARNING] child\n"


def test_what_the_handlers_of_a_process_drop_is_added_up(pipe: tuple[int, int]) -> None:
    handler = LineHandler(pipe[1])
    handler.dropped = 3
    logging.getLogger().addHandler(handler)
    try:
        assert lines.dropped() == 3
    finally:
        logging.getLogger().removeHandler(handler)


def _fill(write: int) -> None:
    os.set_blocking(write, False)
    try:
        while os.write(write, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)


def _drain(read: int) -> None:
    """Read the 64 KiB of zeros that a pipe takes."""
    left = 65536
    while left:
        left -= len(os.read(read, left))


def test_a_text_can_be_said_without_a_level(pipe: tuple[int, int]) -> None:
    handler = LineHandler(pipe[1])
    handler.say(".:53")
    handler.flush()
    assert os.read(pipe[0], 100) == b".:53\n"
