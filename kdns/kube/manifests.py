"""A cluster from files: the objects of manifests, as an API server would hold and list them.

    paths --folders--> files --files--> found --together--> objects --what changed--> Sink

What only all files together tell: which of two objects of one name holds, the namespaces that
nobody declared, the cluster IPs that nobody stated.

Read again, a file that cannot be read whole keeps the objects it had: it may have been caught
half-written, and its next change heals it. What reading has to say is said on the logger
"kdns.kube", and once as long as it stays the same.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import cast

from msgspec import structs

from kdns.cluster.assign import (
    CIDRError,
    ServiceCIDRs,
    assign_cluster_ips,
    parse_service_cidrs,
)
from kdns.cluster.objects import Meta, Namespace, Object, Resource, Service
from kdns.cluster.selectors import FieldSelector, LabelSelector
from kdns.cluster.sink import Key, Sink
from kdns.kube import folders
from kdns.kube.files import FileState, Found, Message, parse_file
from kdns.kube.folders import ManifestError

__all__ = ["ManifestError", "Manifests", "Selectors", "load"]

Selectors = Mapping[Resource, tuple[LabelSelector, FieldSelector]]
Objects = dict[tuple[Resource, Key], Object]
_Together = dict[tuple[Resource, Key], Found]

MAX_FILE_BYTES = 64 * 1024 * 1024
_MIB = 1024 * 1024
# The API server labels every namespace with its name, so selectors may count on it.
_NAME_LABEL = "kubernetes.io/metadata.name"
# Namespaces first: whoever is told of an object can know where it lives.
_ORDER = (Resource.NAMESPACES, Resource.SERVICES, Resource.ENDPOINTSLICES, Resource.PODS)

log = logging.getLogger("kdns.kube")


def load(
    paths: Sequence[str | Path], *, service_cidrs: Sequence[str] = ()
) -> list[tuple[Resource, Object]]:
    """The objects of files and folders, namespaces first.

    Raises ManifestError for a bad path, and where there is not one object.
    """
    objects = Manifests(paths, service_cidrs=service_cidrs).read()
    if not objects:
        raise ManifestError(_none_in(paths))
    return [(resource, obj) for (resource, _), obj in objects.items()]


class Manifests:
    """Files and folders as a source of objects.

    A folder stands for all *.yaml, *.yml and *.json below it but hidden ones. Of two objects of one
    name the later holds: paths count in the order they are given, files of a folder in that of
    their names. `service_cidrs` are the ranges for cluster IPs that are not stated; `selectors`
    leave objects out, as a list of the API server would.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        service_cidrs: Sequence[str] = (),
        selectors: Selectors | None = None,
        resources: AbstractSet[Resource] = frozenset(Resource),
    ) -> None:
        self._paths = paths
        self._selectors = selectors or {}
        self._resources = [resource for resource in _ORDER if resource in resources]
        try:
            self._service_cidrs = parse_service_cidrs(",".join(service_cidrs))
        except CIDRError as error:
            raise ManifestError(str(error)) from error
        self._tree: folders.Tree | None = None
        self._files: dict[str, FileState] = {}
        self._said: frozenset[Message] = frozenset()
        self._read: Objects = {}
        self._told: Objects = {}

    def read(self) -> Objects:
        """All objects, from the files that changed since the last time and the others' memory.

        Reads files, so keep it off an event loop. Raises ManifestError: the first time for a path
        that is not there, later only for too many files; then everything stays as it was.
        """
        tree = folders.find(self._paths)
        if self._tree is None and tree.missing:
            raise ManifestError(next(iter(tree.missing.values())))
        files = dict(_under(tree.missing, self._files))
        files.update((path, _read_file(path, self._files.get(path))) for path in tree.files)
        if self._tree is not None and _same(files, self._files):
            troubles = (tree.missing, tree.unreadable)
            if troubles == (self._tree.missing, self._tree.unreadable):
                self._tree = tree
                return self._read
        self._tree, self._files = tree, files
        together, messages = _join(files.values())
        _imply_namespaces(together)
        messages += _assign(together, self._service_cidrs)
        messages += map(_error, (*tree.missing.values(), *tree.unreadable))
        self._say([*(m for file in files.values() for m in file.messages), *messages])
        self._read = dict(self._selected(together))
        return self._read

    def apply_to(self, sink: Sink) -> None:
        """Read, and tell `sink` everything: `apply` of each object, `sweep` of each resource.

        Raises ManifestError as `read` does.
        """
        objects = self.read()
        if not objects and not self._said:
            log.warning("%s; waiting for some", _none_in(self._paths))
        self._told = {}
        self._tell(sink, objects)

    async def watch(self, sink: Sink, stop: asyncio.Event) -> None:
        """Tell `sink` what is new or changed, once now and at every change, until `stop` is set.

        Each time ends with a `sweep` of each resource. Raises ManifestError as `read` does, when
        nothing was read before.
        """
        if self._tree is None:
            await asyncio.to_thread(self.read)
        try:
            async with contextlib.aclosing(folders.changes(self._look, stop)) as changes:
                async for _ in changes:
                    await self._reload(sink)
        except OSError as error:
            log.warning("manifests cannot be watched, a change needs a restart: %s", error)
            await stop.wait()

    def _look(self) -> folders.Tree:
        assert self._tree is not None, "read before watched"
        return self._tree

    async def _reload(self, sink: Sink) -> None:
        try:
            objects = await asyncio.to_thread(self.read)
        except ManifestError as error:
            log.warning("%s: kept what was read before", error)
        else:
            if objects is not self._told:
                log.info("manifests were read again: %d objects", len(objects))
            self._tell(sink, objects)

    def _tell(self, sink: Sink, objects: Objects) -> None:
        told, self._told = self._told, objects
        if told is not objects:
            for (resource, key), obj in objects.items():
                if told.get((resource, key)) != obj:
                    sink.apply(resource, obj)
        for resource in self._resources:
            sink.sweep(resource, {key for held, key in objects if held is resource})

    def _say(self, messages: Sequence[Message]) -> None:
        for message in dict.fromkeys(messages):
            if message not in self._said:
                log.log(message.level, "%s", message.text)
        self._said = frozenset(messages)

    def _selected(self, together: _Together) -> Iterator[tuple[tuple[Resource, Key], Object]]:
        for resource in self._resources:
            labels, fields = self._selectors.get(resource, (LabelSelector(), FieldSelector()))
            for key, found in together.items():
                held = found.obj.metadata.labels
                if key[0] is resource and labels.matches(held) and fields.matches(found.fields):
                    yield key, found.obj


def _none_in(paths: Sequence[str | Path]) -> str:
    return (
        f"{', '.join(map(str, paths))}: nothing of a cluster; expected what kubectl get -o json or "
        "-o yaml writes of services, endpointslices, namespaces or pods"
    )


def _under(
    missing: Iterable[str], files: Mapping[str, FileState]
) -> Iterator[tuple[str, FileState]]:
    """The files at or below paths that are gone: the paths were given, so they should come back."""
    for path, state in files.items():
        if any(path == root or path.startswith(root.rstrip("/") + "/") for root in missing):
            yield path, state


def _same(files: dict[str, FileState], before: dict[str, FileState]) -> bool:
    """Whether no file was read anew; a file of the same octets keeps the state it had."""
    return files.keys() == before.keys() and all(files[p] is before[p] for p in files)


def _read_file(path: str, old: FileState | None) -> FileState:
    """What the file holds now; what it held before where it cannot be read whole."""
    try:
        with open(path, "rb") as file:
            body = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _kept(_unread(b"", f"{path}: {error.strerror}, expected a file"), path, old)
    digest = _digest(body)
    if old is not None and old.digest == digest:
        return old
    if len(body) > MAX_FILE_BYTES:
        size = f"{os.path.getsize(path) / _MIB:.0f} MiB"
        what = f"{path}: {size}, expected at most {MAX_FILE_BYTES // _MIB} MiB"
        return _kept(_unread(digest, what), path, old)
    return _kept(parse_file(path, body, digest), path, old)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


_EMPTY = _digest(b"")


def _kept(new: FileState, path: str, old: FileState | None) -> FileState:
    """The new state of a file; with what it held before, when the new one may be half-written."""
    if old is None or not old.found or (new.is_whole and new.digest != _EMPTY):
        return new
    why = "is empty now; delete it if that is meant" if new.is_whole else "cannot be read whole"
    text = f"{path}: {why}: kept the {len(old.found)} objects it held before"
    return FileState(new.digest, old.found, [*new.messages, Message(logging.WARNING, text)], False)


def _unread(digest: bytes, text: str) -> FileState:
    return FileState(digest, messages=[_error(text)], is_whole=False)


def _error(text: str) -> Message:
    return Message(logging.ERROR, text)


def _join(files: Iterable[FileState]) -> tuple[_Together, list[Message]]:
    """All objects by resource and key, the later one of two that are the same."""
    together: _Together = {}
    messages = []
    for found in (found for file in files for found in file.found):
        place = found.resource, found.key
        before = together.get(place)
        if before is not None:
            name = "/".join(filter(None, found.key))
            what = f"{found.resource.kind} {name} is also at {before.origin}: the later one holds"
            messages.append(Message(logging.WARNING, f"{found.origin}: {what}"))
        together[place] = found
    return together, messages


def _imply_namespaces(together: _Together) -> None:
    """Declare every namespace that an object names, and label all with their names.

    `kubectl apply` would refuse what lives in a namespace that nobody made; folders of manifests
    rarely hold Namespace objects, because somebody made them long ago.
    """
    named = {found.key[0]: found.origin for found in together.values() if found.key[0]}
    for name, origin in named.items():
        fields = {"metadata.name": name}
        implied = Found(Resource.NAMESPACES, Namespace(Meta(name=name)), origin, fields)
        together.setdefault((Resource.NAMESPACES, ("", name)), implied)
    for place, found in together.items():
        if found.resource is Resource.NAMESPACES:
            meta = found.obj.metadata
            labels = {**(meta.labels or {}), _NAME_LABEL: meta.name}
            obj = structs.replace(found.obj, metadata=structs.replace(meta, labels=labels))
            together[place] = found._replace(obj=obj)


def _assign(together: _Together, cidrs: ServiceCIDRs) -> list[Message]:
    """Give the services their cluster IPs; what cannot have one stays without, and is told."""
    places = [place for place in together if place[0] is Resource.SERVICES]
    services = [cast("Service", together[place].obj) for place in places]
    assigned = assign_cluster_ips(services, cidrs)
    for place, service in zip(places, assigned.services, strict=True):
        together[place] = together[place]._replace(obj=service)
    errors = ((together[Resource.SERVICES, key], error) for key, error in assigned.errors.items())
    return [_error(f"{found.origin}: {error}") for found, error in errors]
