"""What a text of YAML or JSON holds, what it costs at most, and how its faults are named."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.errors import ObjectError
from kdns.kube.documents import Item, Json, Problem, read_items

DUMP = Path(__file__).parents[1] / "data" / "conformance" / "cluster.json"
HEAD = "apiVersion: v1\nkind: Service\n"


def read(text: str | bytes) -> list[Item | Problem]:
    return list(read_items(text.encode() if isinstance(text, str) else text))


def value_of(body: str) -> Json:
    (item,) = read(f"{HEAD}value: {body}\n")
    assert isinstance(item, Item)
    value = item.value()
    assert isinstance(value, dict)
    return value.get("value")


def problem_of(text: str | bytes) -> Problem:
    (problem,) = read(text)
    assert isinstance(problem, Problem)
    return problem


def summary(text: str | bytes) -> list[tuple[int, str]]:
    return [(i.line, i.kind if isinstance(i, Item) else i.text) for i in read(text)]


def test_each_document_is_an_object_with_the_line_it_starts_on() -> None:
    text = f"# a comment\n{HEAD}---\n# another\n\n{HEAD}--- # on the same line\n{HEAD}"
    assert summary(text) == [(2, "Service"), (7, "Service"), (10, "Service")]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "---\n---\n# only words\n", "~", "\ufeff"])
def test_empty_documents_hold_nothing(text: str) -> None:
    assert read(text) == []


def test_a_directive_belongs_to_the_document_after_it() -> None:
    assert summary(f"%YAML 1.1\n# hello\n---\n{HEAD}") == [(4, "Service")]


def test_line_ends_of_windows_and_a_byte_order_mark_are_fine() -> None:
    text = f"\ufeff{HEAD}---\n{HEAD}".replace("\n", "\r\n")
    assert summary(text) == [(1, "Service"), (4, "Service")]


def test_a_document_that_cannot_be_read_costs_itself() -> None:
    first, wrong, last = read(f"{HEAD}---\na: b\n  c: d: e\n---\n{HEAD}")
    assert isinstance(first, Item)
    assert isinstance(wrong, Problem)
    assert wrong == (5, "mapping values are not allowed in this context, expected YAML")
    assert isinstance(last, Item)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("- a\n", 1, "found a sequence, expected an object with apiVersion and kind"),
        ("\nhello\n", 2, "found 'hello', expected an object"),
        ("kind: Service\n", 1, "found no apiVersion, expected an object"),
        ("apiVersion: v1\n", 1, "found no kind, expected an object"),
        ("a: 'b\n", 2, "found unexpected end of stream while scanning a quoted scalar"),
        ("\na: *b\n", 2, "found the alias *b, expected its anchor before it"),
        ("\na: \x01\n", 2, "found a control character, expected YAML"),
        (b"a: b\nc: \xff\n", 2, "found the byte 0xff, expected UTF-8 text"),
        ('{"a": 1,\n\t"b" 2}', 2, "Expecting ':' delimiter, expected JSON"),
        ("[" * 100_000, 1, "nested too deep, expected at most 100 levels"),
        ("{a: " * 5_000, 1, "nested too deep"),
        ("- " * 5_000, 1, "nested too deep"),
        ('{"kind": ' + "[" * 100_000 + "]" * 100_000 + "}", 1, "nested too deep"),
    ],
)
def test_a_fault_is_named_with_its_line_and_what_was_expected(
    text: str | bytes, line: int, what: str
) -> None:
    problem = problem_of(text)
    assert problem.line == line
    assert what in problem.text


def test_values_are_those_of_json() -> None:
    assert value_of("[1, 0x10, 1_000, 1.5, true, no, ~, 'on', \"1\", x]") == [
        1, 16, 1000, 1.5, True, False, None, "on", "1", "x",
    ]  # fmt: skip


def test_what_json_lacks_is_text() -> None:
    assert value_of("[2026-11-23, 2026-11-23T00:00:00Z, =, !mine word, !!binary aGk=]") == [
        "2026-11-23", "2026-11-23T00:00:00Z", "=", "word", "aGk=",
    ]  # fmt: skip
    assert value_of("!!int word") == "word"
    assert value_of("9" * 5000) == "9" * 5000


def test_keys_are_text_and_nulls_are_absent() -> None:
    assert value_of("{1: a, true: b, ~: c, x: ~, [1]: d}") == {"1": "a", "true": "b", "~": "c"}


def test_aliases_and_merge_keys_stand_for_what_they_name() -> None:
    assert value_of("[&a {x: 1, y: 2}, *a, {<<: *a, y: 3}, {<<: [{y: 4}, *a]}]") == [
        {"x": 1, "y": 2},
        {"x": 1, "y": 2},
        {"x": 1, "y": 3},
        {"x": 1, "y": 4},
    ]


def bomb(link: str) -> str:
    """Nine levels of ten aliases each: a thousand million values in some hundred bytes."""
    levels = "".join(
        f"{chr(c)}: &{chr(c)} {link % ','.join([f'*{chr(c - 1)}'] * 10)}\n" for c in range(98, 107)
    )
    return f"{HEAD}a: &a {link % '{x: 1}'}\n{levels}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (bomb("[%s]"), "aliases expand to more values"),
        (bomb("{<<: [%s]}"), "aliases expand to more values"),
        (f"{HEAD}a: &a [*a]\n", "nested too deep"),
        (f"{HEAD}a: &a {{<<: *a}}\n", "nested too deep"),
    ],
)
def test_aliases_cannot_expand_without_bound(text: str, what: str) -> None:
    (item,) = read(text)
    assert isinstance(item, Item)
    with pytest.raises(ObjectError, match=what):
        item.value()


def test_a_list_that_holds_itself_ends() -> None:
    assert "lists in lists" in problem_of("&a {apiVersion: v1, kind: List, items: [*a, *a]}").text


YAML_LIST = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSliceList
  items:
  - metadata: {}
- 5
- kind: Pod
"""
JSON_LIST = json.dumps(yaml.safe_load(YAML_LIST), indent=1)


def test_lists_are_taken_apart_lists_in_them_too() -> None:
    expected = [
        (4, "Service"),
        (9, "EndpointSlice"),
        (10, "found '5', expected an object with apiVersion and kind"),
        (11, "found no apiVersion, expected an object with apiVersion and kind"),
    ]
    assert summary(YAML_LIST) == expected
    slices = read(YAML_LIST)[1]
    assert isinstance(slices, Item)
    assert slices.api_version == "discovery.k8s.io/v1"


def test_json_lists_are_taken_apart_with_the_lines_of_their_items() -> None:
    lines = JSON_LIST.split("\n")
    assert [line for line, _ in summary(JSON_LIST)] == [
        lines.index("  {") + 1,
        next(n for n, text in enumerate(lines, 1) if text == "    {"),
        lines.index("  5,") + 1,
        len(lines) - 4,
    ]


def test_lists_without_items_hold_nothing() -> None:
    assert read("{apiVersion: v1, kind: List}") == []
    assert read('{"apiVersion": "v1", "kind": "List", "items": null}') == []
    assert summary('{"apiVersion": "v1", "kind": "List", "items": 5}')[0][0] == 1


def test_lists_of_other_kinds_are_left_as_they_are() -> None:
    text = '{"apiVersion": "example.com/v1", "kind": "PriceList", "items": [1, 2]}'
    assert summary(text) == [(1, "PriceList")]


def test_json_in_a_stream_of_documents_is_read() -> None:
    text = '{"apiVersion": "v1", "kind": "A"}\n---\n{apiVersion: v1, kind: B}\n'
    assert summary(text) == [(1, "A"), (3, "B")]


def test_a_dump_of_a_cluster_is_the_same_in_json_and_in_yaml() -> None:
    body = DUMP.read_bytes()
    dumped = yaml.safe_dump(json.loads(body)).encode()
    as_json, as_yaml = read(body), read(dumped)
    assert len(as_json) == 143
    for one, other in zip(as_json, as_yaml, strict=True):
        assert isinstance(one, Item)
        assert isinstance(other, Item)
        assert one.value() == other.value()


json_values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_json_comes_through_unchanged(value: Json) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "Service", "value": value}, indent=1)
    (item,) = read(text)
    assert isinstance(item, Item)
    held = item.value()
    assert isinstance(held, dict)
    assert held["value"] == value


@given(st.text(st.sampled_from("ab:{}[]-&*!#|>'\"\n ,%?~<\t=1")) | st.text() | st.binary())
def test_any_bytes_give_items_or_problems(text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode(errors="replace")
    last = body.count(b"\n") + 1
    for item in read(body):
        assert 1 <= item.line <= last + 1
        if isinstance(item, Item):
            item.value()
