"""The state of a cluster on disk, for a start when there is nobody to ask.

    kdns-state 2 | length, header: of what it is, how many objects | objects ... | BLAKE2b of it all
                                                                      resource, length, MessagePack

A file is written beside its place and moved there, so there is always a whole one or none; and it
is believed only when every octet is the one that was written, of the cluster that is asked for.
"""

import os
import stat
import struct
import tempfile
from collections import Counter
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import msgspec

from kdns.cluster.errors import ObjectError
from kdns.cluster.held import Item, decode
from kdns.cluster.objects import Resource

MAGIC = b"kdns-state 2\n"
MAX_OCTETS = 1 << 30
"""Of a file; 5 million endpoints take less."""
LEFT_BEHIND = 3600.0
"""Seconds by which a file that was begun is older than ours, and nobody is at it any more."""
_DIGEST = 32
_LENGTH = struct.Struct("!I")
_ITEM = struct.Struct("!BI")
_RESOURCES = tuple(Resource)
_WRITING = Lock()
"""One after the other: the end may come, and write, while a thread is still at it."""


class SnapshotError(ValueError):
    """Why a file is not used, and what was expected; `str` begins with its path."""


class _Header(msgspec.Struct, frozen=True):
    """identity: of the objects' source and of what was selected; counts: objects by resource."""

    identity: str
    counts: dict[str, int]


def write(path: Path, identity: str, objects: dict[Resource, list[bytes]]) -> None:
    """Put the objects there, encoded by cluster.held, in the place of what was. Raises OSError."""
    counts = {resource.value: len(bodies) for resource, bodies in objects.items()}
    header = msgspec.msgpack.encode(_Header(identity, counts))
    with _WRITING:
        _write(path, header, objects)


def _write(path: Path, header: bytes, objects: dict[Resource, list[bytes]]) -> None:
    digest = blake2b(digest_size=_DIGEST)
    # A name of its own: in two containers that share a volume, process IDs are the same.
    number, name = tempfile.mkstemp(prefix=_beginning(path), dir=path.parent)
    beside = Path(name)
    try:
        # Only its owner may read it: what a cluster runs is not everybody's business.
        with open(number, "wb") as file:
            for piece in (MAGIC, _LENGTH.pack(len(header)), header):
                digest.update(piece)
                file.write(piece)
            for resource, bodies in objects.items():
                number = _RESOURCES.index(resource)
                for body in bodies:
                    head = _ITEM.pack(number, len(body))
                    digest.update(head)
                    digest.update(body)
                    file.write(head)
                    file.write(body)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
            written = os.fstat(file.fileno()).st_mtime
        _clear(path, written - LEFT_BEHIND)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def _beginning(path: Path) -> str:
    return f".{path.name}."


def _clear(path: Path, before: float) -> None:
    """Take away what was begun before that, by who was killed at it."""
    with suppress(OSError):
        for each in path.parent.iterdir():
            if each.name.startswith(_beginning(path)) and each.stat().st_mtime < before:
                each.unlink()


def read(path: Path, identity: str) -> list[Item] | None:
    """What `write` put there; None where there is no file.

    Raises SnapshotError for a file that is damaged, of another version, or of something else.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise SnapshotError(f"{path}: expected a file, found something else of that name")
        size = found.st_size
        if size > MAX_OCTETS:
            raise SnapshotError(f"{path}: {size} octets; expected at most {MAX_OCTETS}")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror or error}") from error
    if not data.startswith(MAGIC):
        raise SnapshotError(f"{path}: expected a file that begins with {MAGIC.decode().strip()!r}")
    content, digest = data[:-_DIGEST], data[-_DIGEST:]
    if blake2b(content, digest_size=_DIGEST).digest() != digest:
        raise SnapshotError(f"{path}: damaged: its checksum is not that of its content")
    try:
        return _unpack(content, identity)
    except (ObjectError, ValueError, IndexError, struct.error, msgspec.MsgspecError) as error:
        raise SnapshotError(f"{path}: {error}") from error


def _unpack(content: bytes, identity: str) -> list[Item]:
    start = len(MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(content, len(MAGIC))
    position = start + length
    header = msgspec.msgpack.decode(content[start:position], type=_Header)
    if header.identity != identity:
        raise ValueError(f"it is of {header.identity}; expected {identity}")
    items: list[Item] = []
    while position < len(content):
        number, length = _ITEM.unpack_from(content, position)
        position += _ITEM.size
        body = content[position : position + length]
        position += length
        items.append(decode(_RESOURCES[number], body))
    counts = Counter(resource.value for resource, _ in {(i.resource, i.key) for i in items})
    if counts != Counter(header.counts):
        raise ValueError(f"it holds {dict(counts)}; expected {header.counts}")
    return items
