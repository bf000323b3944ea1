"""The objects of one manifest file: what it holds of the four kinds, and what is wrong with it.

One object that is wrong costs itself. What we do not read of an object may hold anything; of what
we read only labels, names and the like must be the text that the API asks for.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import structs

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Meta, Object, Resource, convert_object
from kdns.cluster.sink import Key
from kdns.kube.documents import Item, Json, Problem, read_items


class Message(NamedTuple):
    """One line to log, at a level of `logging`."""

    level: int
    text: str


class Found(NamedTuple):
    """An object, where it stands (FILE:LINE), and the fields that field selectors know."""

    resource: Resource
    obj: Object
    origin: str
    fields: Mapping[str, str]

    @property
    def key(self) -> Key:
        """(namespace, name)"""
        return self.obj.metadata.namespace, self.obj.metadata.name


@dataclass(frozen=True, slots=True)
class FileState:
    """What one file held. `digest`: of its bytes; `is_whole`: nothing in it had to be left out."""

    digest: bytes
    found: Sequence[Found] = ()
    messages: Sequence[Message] = ()
    is_whole: bool = True


def parse_file(name: str, body: bytes, digest: bytes) -> FileState:
    """What a file holds; `name` is what messages call it. Raises nothing: errors are messages."""
    found: list[Found] = []
    messages: list[Message] = []
    for item in read_items(body):
        origin = f"{name}:{item.line}"
        if isinstance(item, Problem):
            messages.append(Message(logging.ERROR, f"{origin}: {item.text}"))
            continue
        try:
            found.extend(_found(item, origin))
        except ObjectError as error:
            messages.append(Message(logging.ERROR, f"{origin}: {error}"))
        messages.extend(_remarks(item, origin))
    is_whole = all(message.level < logging.ERROR for message in messages)
    return FileState(digest, found, messages, is_whole)


_KINDS = {(resource.api_version, resource.kind): resource for resource in Resource}
_READ = {
    Resource.SERVICES: frozenset({"spec"}),
    Resource.ENDPOINTSLICES: frozenset({"addressType", "endpoints", "ports"}),
    Resource.NAMESPACES: frozenset[str](),
    Resource.PODS: frozenset({"status"}),
}
_META = frozenset(field.encode_name for field in structs.fields(Meta))


def _remarks(item: Item, origin: str) -> Iterator[Message]:
    """About kinds that people may expect us to read. All others are left out without a word."""
    match item.kind, item.api_version:
        case "EndpointSlice", str(version) if version != Resource.ENDPOINTSLICES.api_version:
            expected = Resource.ENDPOINTSLICES.api_version
            text = f"{origin}: EndpointSlice of {version} left out, expected {expected}"
            yield Message(logging.WARNING, text)
        case "Endpoints", "v1":
            text = f"{origin}: Endpoints left out, expected EndpointSlices instead"
            yield Message(logging.DEBUG, text)


def _found(item: Item, origin: str) -> Iterator[Found]:
    resource = _KINDS.get((item.api_version, item.kind))
    if resource is None:
        return
    value = item.value()
    assert isinstance(value, dict), "an item is an object"
    kept = {key: held for key, held in value.items() if key in _READ[resource]}
    kept["metadata"] = _metadata(resource, value.get("metadata"))
    obj = convert_object(resource, kept)
    yield Found(resource, obj, origin, _fields(resource, value, obj))


def _metadata(resource: Resource, value: Json) -> Json:
    """`metadata` as the API server completes it, without what we do not read."""
    if not isinstance(value, dict):
        return value
    kept = {key: held for key, held in value.items() if key in _META}
    if resource is Resource.NAMESPACES:
        kept.pop("namespace", None)
    else:
        kept["namespace"] = kept.get("namespace") or "default"
    where = filter(None, (kept.get("namespace"), kept.get("name")))
    _check_labels(f"{resource.kind} {'/'.join(map(str, where))}", kept.get("labels", {}))
    annotations = kept.get("annotations")
    if isinstance(annotations, dict):
        kept["annotations"] = dict(_texts(annotations))
    else:
        kept.pop("annotations", None)
    return kept


def _check_labels(name: str, labels: Json) -> None:
    if not isinstance(labels, dict):
        raise ObjectError(f"{name}: labels are {json.dumps(labels)}, expected a mapping")
    for label, value in labels.items():
        if not isinstance(value, str):
            what = f"label {label!r} is {json.dumps(value)}, expected text: write it in quotes"
            raise ObjectError(f"{name}: {what}")


def _texts(annotations: dict[str, Json]) -> Iterator[tuple[str, str]]:
    # An annotation is nobody's reason to lose a Service: what was meant is plain enough.
    for key, value in annotations.items():
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, bool | int | float):
            yield key, json.dumps(value)


def _fields(resource: Resource, value: dict[str, Json], obj: Object) -> dict[str, str]:
    """The fields that an API server selects by, of those that are in use for DNS."""
    meta = obj.metadata
    fields: dict[str, Json] = {"metadata.name": meta.name, "metadata.namespace": meta.namespace}
    if resource is Resource.PODS:
        fields["status.phase"] = _member(value, "status", "phase")
        fields["spec.nodeName"] = _member(value, "spec", "nodeName")
    return {field: text for field, text in fields.items() if isinstance(text, str)}


def _member(value: dict[str, Json], outer: str, inner: str) -> Json:
    held = value.get(outer)
    return held.get(inner) if isinstance(held, dict) else None
