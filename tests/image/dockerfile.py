"""A Dockerfile as the list of its stages and instructions: of the language, what ours uses.

Read are comments, continued lines, ARG before and after FROM, ENV, and the JSON and shell forms of
RUN and ENTRYPOINT. Whatever else it meets is an error, so that no line can be passed over.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath

KNOWN = {"ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class DockerfileError(Exception):
    """A line that is not understood: which one, and why."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    line: int
    name: str
    text: str

    @property
    def argv(self) -> list[str]:
        """What RUN or ENTRYPOINT starts: the JSON form itself, or the shell with the text."""
        if self.text.startswith("["):
            parsed: list[str] = json.loads(self.text)
            return parsed
        return ["/bin/sh", "-c", self.text]

    def pairs(self) -> dict[str, str]:
        """ENV, LABEL and ARG as names and values."""
        words = [word.partition("=") for word in shlex.split(self.text)]
        return {name: value for name, _, value in words}


@dataclass(slots=True)
class Stage:
    """What is between one FROM and the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Its instructions of one name."""
        return [found for found in self.instructions if found.name == name]


def read(text: str) -> list[Stage]:
    """The stages of a Dockerfile, FROM's variables filled in with their defaults.

    Raises DockerfileError.
    """
    defaults: dict[str, str] = {}
    stages: list[Stage] = []
    for found in _instructions(text):
        if found.name not in KNOWN:
            raise DockerfileError(f"line {found.line}: {found.name} is not read here")
        if found.name == "FROM":
            base, _, name = expand(found.text, defaults).partition(" AS ")
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].instructions.append(found)
        elif found.name == "ARG":
            defaults |= found.pairs()
        else:
            raise DockerfileError(f"line {found.line}: expected FROM before {found.name}")
    return stages


def expand(text: str, variables: dict[str, str]) -> str:
    """${NAME} and $NAME replaced; an unknown name is empty, as in Docker."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)


def _instructions(text: str) -> list[Instruction]:
    found: list[Instruction] = []
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not parts and not line.strip()):
            continue
        begun = begun or number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            found.append(Instruction(begun, name, rest.strip()))
            begun, parts = 0, []
    if parts:
        raise DockerfileError(f"line {begun}: expected more lines after the last \\")
    return found


def sent(path: PurePosixPath, ignore: str) -> bool:
    """Whether a file of the folder is sent to the build, by the text of .dockerignore.

    As in Docker the last pattern decides that matches the path or a folder that it is in.
    """
    places = [path, *path.parents][:-1]
    decided = True
    for line in ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        back = pattern.startswith("!")
        if any(_matches(place, pattern.removeprefix("!")) for place in places):
            decided = back
    return decided


def _matches(place: PurePosixPath, pattern: str) -> bool:
    anywhere = pattern.startswith("**/")
    if anywhere:
        return fnmatch(place.name, pattern.removeprefix("**/"))
    wanted = pattern.split("/")
    return len(wanted) == len(place.parts) and all(map(fnmatch, place.parts, wanted))
