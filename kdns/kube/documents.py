"""The objects that a text of YAML or JSON holds, each with its line and not yet converted.

    text --split at "---"--> documents --parse--> nodes --lists taken apart--> Items
                                     \\-msgspec-> raw JSON --lists taken apart--> Items

A document that cannot be read costs itself: it becomes a Problem, and the others stay. Only items
whose value somebody asks for are built, as the JSON that an API server would have stored: mappings
with text keys, no nulls, and no types that JSON lacks (a timestamp is text, a tag of somebody's own
is not there). What a value may cost is bounded: how deep it is nested, and how far aliases and
merge keys expand it.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import yaml
from yaml import events
from yaml.constructor import SafeConstructor
from yaml.nodes import ScalarNode
from yaml.reader import ReaderError
from yaml.resolver import Resolver

from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource

Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

_MAX_DEPTH = 100
_MAX_LISTS_IN_LISTS = 16
# A text has no more values than characters but by aliases; this many more are theirs.
_ALIAS_ALLOWANCE = 1_000_000
_EXPECTED = "expected an object with apiVersion and kind"


class Item(NamedTuple):
    """One object: where it starts (line from 1), what it is, and its value.

    `value()` raises ObjectError when the value is deeper or larger than we build.
    """

    line: int
    api_version: str
    kind: str
    value: Callable[[], Json]


class Problem(NamedTuple):
    """What could not be read, on which line, and what was expected there."""

    line: int
    text: str


def read_items(body: bytes) -> Iterator[Item | Problem]:
    """Every object of a text, those inside of lists too, and what could not be read: in order."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        yield Problem(line, f"found the byte {body[error.start]:#04x}, expected UTF-8 text")
        return
    budget = _Budget(len(text) + _ALIAS_ALLOWANCE)
    for first_line, document in _documents(text):
        yield from _items(first_line, document, budget)


# What may stand before "---" and belongs to the document after it: directives and comments.
# "---" at the start of a line ends a document wherever it stands (YAML 1.1 section 4.1.3).
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_CONTENT = re.compile(r"^\s*[^\s#%]", re.MULTILINE)


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """(line from 1, text) of each document: split by hand, for the parser ends at an error."""
    starts = [0, *(m.start() for m in _SEPARATOR.finditer(text) if m.start()), len(text)]
    if _is_preamble(text[: starts[1]]):
        del starts[1]
    line = 1
    for start, end in itertools.pairwise(starts):
        document = text[start:end]
        yield line, document
        line += document.count("\n")


def _is_preamble(text: str) -> bool:
    return _DIRECTIVE.search(text) is not None and _CONTENT.search(text) is None


class _Budget:
    """How many more values one text may expand to."""

    def __init__(self, values: int) -> None:
        self._left = values

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ObjectError("aliases expand to more values than any cluster has")


class _Parent(NamedTuple):
    """The list that items stand in: what they are when they do not say it themselves."""

    api_version: str
    kind: str
    depth: int = 0

    def inside(self, api_version: str, kind: str) -> "_Parent | None":
        """The parent of the items of an object, when that is a list whose items concern us."""
        if kind not in _LISTS:
            return None
        if self.depth == _MAX_LISTS_IN_LISTS:
            raise ObjectError(f"lists in lists, expected at most {_MAX_LISTS_IN_LISTS} levels")
        if kind == "List":
            return _Parent("", "", self.depth + 1)
        return _Parent(api_version, kind.removesuffix("List"), self.depth + 1)


_LISTS = frozenset({"List", *(f"{resource.kind}List" for resource in Resource)})
_TOP = _Parent("", "")


# --- JSON ---------------------------------------------------------------------------------------


class _Head(msgspec.Struct, rename="camel"):
    """What tells an object's kind; a list's items stay bytes."""

    api_version: str = ""
    kind: str = ""
    items: msgspec.Raw = msgspec.Raw(b"null")


_head = msgspec.json.Decoder(_Head)
_raw_items = msgspec.json.Decoder(list[msgspec.Raw] | None)
_UNREADABLE = (msgspec.MsgspecError, RecursionError)


def _items(line: int, document: str, budget: _Budget) -> Iterator[Item | Problem]:
    """The items of one document: by the JSON reader if it can, which is quicker, else as YAML."""
    if document.lstrip().startswith("{"):
        body = document.encode()
        with contextlib.suppress(*_UNREADABLE):
            _head.decode(body)
            yield from _json_parts(line, body, _TOP)
            return
    yield from _yaml_items(line, document, budget)


def _json_parts(line: int, body: bytes, parent: _Parent) -> Iterator[Item | Problem]:
    line += body[: len(body) - len(body.lstrip())].count(b"\n")
    try:
        head = _head.decode(body)
        api_version, kind = head.api_version or parent.api_version, head.kind or parent.kind
        inner = parent.inside(api_version, kind)
        items = _raw_items.decode(head.items) if inner else None
    except ObjectError as error:
        yield Problem(line, str(error))
        return
    except _UNREADABLE as error:
        yield Problem(line, f"{error}, {_EXPECTED}")
        return
    if inner is None:
        yield _item(line, api_version, kind, lambda: _without_nulls(msgspec.json.decode(body)))
        return
    at = 0
    for item in map(bytes, items or ()):
        # The items are in the text as they are, in this order, with little between them.
        start = body.find(item, at)
        line += body.count(b"\n", at, start)
        yield from _json_parts(line, item, inner)
        at = start + len(item)
        line += item.count(b"\n")


def _item(line: int, api_version: str, kind: str, value: Callable[[], Json]) -> Item | Problem:
    if not kind or not api_version:
        return Problem(line, f"found no {'apiVersion' if kind else 'kind'}, {_EXPECTED}")
    return Item(line, api_version, kind, value)


def _without_nulls(value: Json) -> Json:
    """In mappings a null says what an absent field says. The reader has bounded the depth."""
    if isinstance(value, dict):
        return {key: _without_nulls(held) for key, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_without_nulls(held) for held in value]
    return value


# --- YAML ---------------------------------------------------------------------------------------


class _Scalar(NamedTuple):
    line: int
    text: str
    tag: str | None
    plain: bool


class _Sequence(NamedTuple):
    line: int
    items: "list[_Node]"


class _Mapping(NamedTuple):
    line: int
    items: "list[_Node]"
    """Keys and values in turns."""

    def pairs(self) -> "Iterator[tuple[_Scalar, _Node]]":
        """The entries whose key is a scalar: JSON has no others."""
        for key, value in zip(self.items[::2], self.items[1::2], strict=True):
            if isinstance(key, _Scalar):
                yield key, value


_Node = _Scalar | _Sequence | _Mapping

_Loader = getattr(yaml, "CLoader", yaml.Loader)
_scalars = SafeConstructor()
_tags = Resolver()
_MERGE = "<<"
_TRUE = frozenset({"yes", "true", "on"})


class _NotYAML(Exception):
    """What the parser lets pass and we do not; it ends as a Problem."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(line, text)
        self.line = line
        self.text = text


def _yaml_items(line: int, document: str, budget: _Budget) -> Iterator[Item | Problem]:
    try:
        for root in _compose(line, document):
            yield from _yaml_parts(root, _TOP, budget)
    except yaml.YAMLError as error:
        yield _problem(line, document, error)
    except _NotYAML as error:
        yield Problem(error.line, error.text)
    except ObjectError as error:
        yield Problem(line, str(error))


def _problem(line: int, document: str, error: yaml.YAMLError) -> Problem:
    """A YAML error in our form. What begins as JSON was meant as JSON, and is judged as such."""
    if re.match(r'\s*\{\s*"', document):
        try:
            json.loads(document)
        except json.JSONDecodeError as found:
            return Problem(line + found.lineno - 1, f"{found.msg}, expected JSON")
        except RecursionError:
            pass
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        where = f" {error.context}" if error.context else ""
        return Problem(line + error.problem_mark.line, f"{error.problem}{where}, expected YAML")
    if isinstance(error, ReaderError):
        before = document.encode()[: error.position].count(b"\n")
        return Problem(line + before, f"found a control character, expected YAML: {error.reason}")
    return Problem(line, f"{error}, expected YAML")


def _compose(line: int, document: str) -> Iterator[_Node]:
    """The root of each document. By a stack and not by recursion, so no nesting can exhaust us."""
    open_nodes: list[_Sequence | _Mapping] = []
    anchors: dict[str, _Node] = {}
    roots: list[_Node] = []
    for event in yaml.parse(document, Loader=_Loader):
        here = line + (event.start_mark.line if event.start_mark else 0)
        if isinstance(event, events.CollectionEndEvent):
            open_nodes.pop()
        elif isinstance(event, events.DocumentEndEvent):
            yield roots.pop()
            anchors.clear()
        elif isinstance(event, events.NodeEvent):
            node = _node(here, event, anchors)
            (open_nodes[-1].items if open_nodes else roots).append(node)
            if isinstance(event, events.CollectionStartEvent):
                assert not isinstance(node, _Scalar)
                open_nodes.append(node)
        if len(open_nodes) > _MAX_DEPTH:
            raise _NotYAML(here, f"nested too deep, expected at most {_MAX_DEPTH} levels")


def _node(line: int, event: events.NodeEvent, anchors: dict[str, _Node]) -> _Node:
    node: _Node
    match event:
        case events.AliasEvent():
            if event.anchor not in anchors:
                what = f"found the alias *{event.anchor}, expected its anchor before it"
                raise _NotYAML(line, what)
            return anchors[event.anchor]
        case events.ScalarEvent():
            node = _Scalar(line, event.value, event.tag, event.implicit[0])
        case events.SequenceStartEvent():
            node = _Sequence(line, [])
        case _:
            node = _Mapping(line, [])
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _yaml_parts(node: _Node, parent: _Parent, budget: _Budget) -> Iterator[Item | Problem]:
    budget.spend()
    if isinstance(node, _Scalar) and _scalar(node) in {None, ""}:
        return
    if not isinstance(node, _Mapping):
        found = "a sequence" if isinstance(node, _Sequence) else f"{node.text[:40]!r}"
        yield Problem(node.line, f"found {found}, {_EXPECTED}")
        return
    fields = {key.text: value for key, value in node.pairs()}
    api_version = _text(fields.get("apiVersion")) or parent.api_version
    kind = _text(fields.get("kind")) or parent.kind
    inner, items = parent.inside(api_version, kind), fields.get("items")
    if inner is None:
        yield _item(node.line, api_version, kind, lambda: _build(node, budget))
    elif isinstance(items, _Sequence):
        for item in items.items:
            yield from _yaml_parts(item, inner, budget)


def _text(node: _Node | None) -> str:
    return node.text if isinstance(node, _Scalar) else ""


def _build(node: _Node, budget: _Budget, depth: int = 0) -> Json:
    """The value of a node, its aliases and merge keys expanded. Raises ObjectError."""
    budget.spend()
    if depth > _MAX_DEPTH:
        raise ObjectError(f"nested too deep, expected at most {_MAX_DEPTH} levels")
    match node:
        case _Scalar():
            return _scalar(node)
        case _Sequence():
            return [_build(item, budget, depth + 1) for item in node.items]
        case _Mapping():
            return _build_mapping(node, budget, depth + 1)


def _build_mapping(node: _Mapping, budget: _Budget, depth: int) -> dict[str, Json]:
    built: dict[str, Json] = {}
    own: dict[str, Json] = {}
    for key, value in node.pairs():
        made = _build(value, budget, depth)
        if key.plain and key.text == _MERGE:
            # What is merged gives way to the mapping's own entries, a later one to an earlier one.
            for merged in reversed(made if isinstance(made, list) else [made]):
                built.update(merged if isinstance(merged, dict) else {})
        else:
            own[key.text] = made
    return {key: value for key, value in (built | own).items() if value is not None}


def _implied_tag(text: str) -> str:
    # A method that its stubs leave without types.
    tag: str = _tags.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag


def _scalar(node: _Scalar) -> Json:
    """What the text means in JSON; the types that JSON lacks are text."""
    tag = node.tag or (_implied_tag(node.text) if node.plain else "")
    try:
        match tag:
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:bool":
                return node.text.lower() in _TRUE
            case "tag:yaml.org,2002:int":
                return int(_scalars.construct_yaml_int(ScalarNode(tag, node.text)))
            case "tag:yaml.org,2002:float":
                return float(_scalars.construct_yaml_float(ScalarNode(tag, node.text)))
    except (ValueError, IndexError):
        pass  # Tagged as a number and none, or longer than Python reads: text it is.
    return node.text
