"""The files below some paths, and the moments at which they change.

Hidden files and folders are left out, and what is reached by two ways is one file. That is what
makes a mounted ConfigMap come out right: its visible files are links through the hidden link
`..data` to a hidden folder of the current version.

A change is looked for in folders and never in a file itself, for editors and the kubelet do not
write into a file, they move another one to its name. Watched are: every folder with files of ours,
the folder above each path, and the folders that links lead to.
"""

import asyncio
import contextlib
import itertools
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles import Change, awatch

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILES = 100_000


class ManifestError(ValueError):
    """Paths that cannot be manifests; the message is one line that names the path."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What the paths hold now. Two trees are equal when they are to be watched alike.

    `files` are in the order of the paths, and sorted below each of them. `missing` has a line about
    each path that is not there, `unreadable` about folders below that cannot be read. `folders`
    maps each folder to watch to its identity (device, inode): another folder that took its name is
    another one. `inside` are those of them where every change matters; in the others those of the
    given `names` do.
    """

    files: tuple[str, ...] = field(compare=False)
    missing: Mapping[str, str] = field(compare=False)
    unreadable: tuple[str, ...] = field(compare=False)
    folders: Mapping[str, tuple[int, int]]
    inside: frozenset[str]
    names: frozenset[str]

    def concerns(self, _change: Change, path: str) -> bool:
        """Whether a change at `path`, in one of the watched folders, is to be looked at."""
        folder, name = os.path.split(path)
        # Names that begin with two dots are those that the kubelet moves its links with.
        return folder in self.inside or name in self.names or name.startswith("..")


def find(paths: Sequence[str | Path]) -> Tree:
    """The files of the paths: files as they are named, folders with all below them.

    Raises ManifestError when there are more than MAX_FILES.
    """
    roots = [os.path.abspath(path) for path in paths]
    missing: dict[str, str] = {}
    unreadable: list[str] = []
    inside: dict[str, str] = {}
    files: dict[str, str] = {}
    for root in roots:
        if (problem := _problem(root)) is not None:
            missing[root] = problem
            continue
        for path in _walk(root, inside, unreadable):
            files.setdefault(os.path.realpath(path), path)
            if len(files) > MAX_FILES:
                raise ManifestError(f"{root}: more than {MAX_FILES} files")
    above = [_existing(os.path.dirname(root)) for root in roots]
    behind = [os.path.dirname(real) for real in files]
    folders = _identities((*inside.values(), *above, *behind))
    parts = (Path(path).parts for path in (*roots, *files))
    names = frozenset(itertools.chain.from_iterable(parts))
    watched = folders, frozenset(inside.values()), names
    return Tree(tuple(files.values()), missing, tuple(unreadable), *watched)


def _problem(root: str) -> str | None:
    try:
        mode = os.stat(root).st_mode
    except OSError as error:
        return f"{root}: {error.strerror}, expected a file or a folder"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return f"{root}: neither a file nor a folder, expected one of them"


def _walk(root: str, seen: dict[str, str], unreadable: list[str]) -> list[str]:
    """The files at or below a path, sorted; `seen` gets each folder once, by its real path."""
    if os.path.isfile(root):
        return [root]
    if seen.setdefault(os.path.realpath(root), root) != root:
        return []

    def failed(error: OSError) -> None:
        unreadable.append(f"{error.filename}: {error.strerror}, left out")

    found: list[str] = []
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=failed):
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(folder, name, seen)]
        found += (os.path.join(folder, name) for name in names if _is_manifest(name))
    return sorted(filter(os.path.isfile, found))


def _existing(folder: str) -> str:
    """The folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _is_new(folder: str, name: str, seen: dict[str, str]) -> bool:
    path = os.path.join(folder, name)
    return not name.startswith(".") and seen.setdefault(os.path.realpath(path), path) == path


def _is_manifest(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _identities(folders: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Each folder once, under the first of its names: the system would report one of them only."""
    named: dict[tuple[int, int], str] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            status = os.stat(folder)
            named.setdefault((status.st_dev, status.st_ino), folder)
    return {folder: identity for identity, folder in named.items()}


class _Stop(asyncio.Event):
    """Set when `stop` is, or by itself; so whoever ends one watch does not stop everything."""

    def __init__(self, stop: asyncio.Event) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        return super().is_set() or self._stop.is_set()


async def changes(look: Callable[[], Tree], stop: asyncio.Event) -> AsyncGenerator[None, None]:
    """One item when watching has begun, and one after each burst of changes, until `stop` is set.

    The first one is to look again at what may have changed before. `look` tells the tree as last
    read; when it is another one than before, watching begins anew. Raises OSError when the system
    cannot watch. Close it (`contextlib.aclosing`) when leaving early.
    """
    while not stop.is_set():
        tree = look()
        own_stop = _Stop(stop)
        bursts = awatch(
            *tree.folders,
            watch_filter=tree.concerns,
            stop_event=own_stop,
            recursive=False,
            ignore_permission_denied=True,
        )
        burst = asyncio.ensure_future(anext(bursts, None))
        try:
            # The task's first step tells the system what to watch; only the next one waits.
            await asyncio.sleep(0)
            yield
            while look() == tree:
                # Shielded, because its thread ends by `own_stop` and not by being cancelled.
                if await asyncio.shield(burst) is None:
                    break
                yield
                burst = asyncio.ensure_future(anext(bursts, None))
        except FileNotFoundError:
            # A folder went between the look and the watch, which the caller has seen by now.
            continue
        finally:
            own_stop.set()
            await asyncio.gather(burst, return_exceptions=True)
            await bursts.aclose()
