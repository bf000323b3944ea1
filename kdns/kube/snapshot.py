"""The state of a cluster on disk, for a start when there is nobody to ask.

    kdns-state 2 | length, header: of what it is, how many objects | objects ... | BLAKE2b of it all
                                                                      resource, length, MessagePack

A file is written beside its place and moved there, so there is always a whole one or none; and it
is believed only when every octet is the one that was written, of the cluster that is asked for.
"""

import os
from collections import Counter
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from threading import Lock

import msgspec

from kdns.cluster.errors import ObjectError
from kdns.cluster.held import Item, decode
from kdns.cluster.objects import Resource

MAGIC = b"kdns-state 2\n"
MAX_OCTETS = 1 << 30
"""Of a file; 5 million endpoints take less."""
_DIGEST = 32
_LENGTH = Struct("!I")
_ITEM = Struct("!BI")
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
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with _WRITING:
        _write(path, beside, header, objects)


def _write(path: Path, beside: Path, header: bytes, objects: dict[Resource, list[bytes]]) -> None:
    digest = blake2b(digest_size=_DIGEST)
    try:
        with beside.open("wb") as file:
            os.chmod(file.fileno(), 0o600)  # what a cluster runs is not everybody's business
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
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def read(path: Path, identity: str) -> list[Item] | None:
    """What `write` put there; None where there is no file.

    Raises SnapshotError for a file that is damaged, of another version, or of something else.
    """
    try:
        size = path.stat().st_size
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
    except (ObjectError, ValueError, IndexError, msgspec.MsgspecError) as error:
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
