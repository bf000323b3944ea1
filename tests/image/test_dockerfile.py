"""The Dockerfile: what must hold of it before anybody builds it, and that all of it is understood.

That its lines work is shown by `make image-check`, which needs root and a package index.
"""

import tomllib
from pathlib import PurePosixPath

import pytest

from tests.image.dockerfile import DockerfileError, Stage, expand, read, sent
from tests.image.stand_in import SOURCE

IGNORE = (SOURCE / ".dockerignore").read_text()


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return read((SOURCE / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def last(stages: list[Stage]) -> Stage:
    return stages[-1]


def test_every_stage_stands_on_the_base_that_is_given(stages: list[Stage]) -> None:
    assert {stage.base for stage in stages} == {"python:3.13-slim-bookworm"}


def test_a_container_s_own_arguments_are_those_of_serve(last: Stage) -> None:
    assert [found.argv for found in last.all("ENTRYPOINT")] == [["kdns", "serve"]]


def test_the_user_is_a_number_so_that_run_as_non_root_can_be_checked(last: Stage) -> None:
    assert [found.text for found in last.all("USER")] == ["65532:65532"]


def test_the_last_stage_runs_nothing_by_a_shell(last: Stage) -> None:
    assert {found.argv[0] for found in last.all("RUN")} == {"python3"}


def test_the_last_stage_takes_no_file_from_the_folder(last: Stage) -> None:
    assert all(found.text.startswith("--from=build ") for found in last.all("COPY"))


def test_only_one_line_asks_a_package_index_and_it_wants_hashes(stages: list[Stage]) -> None:
    lines = [found.text for found in stages[0].all("RUN") if "/pip " in found.text]
    asking = [line for line in lines if "--no-index" not in line]
    assert [line.split()[1:6] for line in asking] == [
        ["wheel", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes"]
    ]


def test_the_image_says_the_version_of_the_package(last: Stage) -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert last.all("ARG")[0].pairs() == {"VERSION": project["version"]}


def test_what_is_copied_is_sent(stages: list[Stage]) -> None:
    words = [found.text.split()[:-1] for found in stages[0].all("COPY")]
    missing = [
        name for names in words for name in names if not sent(PurePosixPath(name) / "x", IGNORE)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("kdns/wire/name.py", True),
        ("requirements/run.txt", True),
        ("requirements/dev.txt", False),
        ("kdns/wire/__pycache__/name.cpython-313.pyc", False),
        (".git/config", False),
        ("tests/conftest.py", False),
    ],
)
def test_only_what_is_built_is_sent(path: str, wanted: bool) -> None:
    assert sent(PurePosixPath(path), IGNORE) is wanted


def test_a_continued_line_is_one_instruction() -> None:
    [stage] = read('FROM base\nLABEL a="1" \\\n      b="2 3"\n')
    assert stage.instructions[0].pairs() == {"a": "1", "b": "2 3"}


def test_a_default_before_from_names_the_base() -> None:
    [stage] = read("ARG BASE=python:3\nFROM ${BASE} AS build\n")
    assert (stage.base, stage.name) == ("python:3", "build")


def test_a_variable_without_a_value_is_empty() -> None:
    assert expand("a${B}c$D", {"D": "e"}) == "ace"


def test_an_instruction_that_is_not_known_is_named_with_its_line() -> None:
    with pytest.raises(DockerfileError, match="line 2: HEALTHCHECK"):
        read("FROM base\nHEALTHCHECK NONE\n")


def test_a_file_that_ends_in_mid_line_is_an_error() -> None:
    with pytest.raises(DockerfileError, match="line 2: expected more lines"):
        read("FROM base\nRUN a \\\n")


def test_what_stands_before_from_can_only_be_an_argument() -> None:
    with pytest.raises(DockerfileError, match="line 1: expected FROM before RUN"):
        read("RUN true\nFROM base\n")
