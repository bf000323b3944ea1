"""What `kubectl -l` and `--field-selector` select, and how their texts are refused."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.selectors import (
    FieldSelector,
    FieldTerm,
    LabelSelector,
    Operator,
    Requirement,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)

GOLD = {"tier": "gold", "weight": "10", "example.com/team": "web"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        (" \t\n", True),
        ("tier=gold", True),
        ("tier==gold", True),
        ("tier = gold", True),
        ("tier=silver", False),
        ("tier=", False),
        ("absent=", False),
        ("tier!=silver", True),
        ("tier!=gold", False),
        ("absent!=x", True),
        ("tier in (gold,silver)", True),
        ("tier in(gold)", True),
        ("tier in ( silver , bronze )", False),
        ("absent in (x)", False),
        ("absent in ()", False),
        ("tier notin (gold)", False),
        ("tier notin (silver)", True),
        ("absent notin (x)", True),
        ("tier", True),
        ("absent", False),
        ("!tier", False),
        ("! absent", True),
        ("example.com/team=web", True),
        ("weight>9", True),
        ("weight>10", False),
        ("weight<11", True),
        ("weight < 10", False),
        ("absent>1", False),
        ("absent<1", False),
        ("tier>1", False),
        ("tier=gold,weight>9,!absent", True),
        ("tier=gold,absent", False),
    ],
)
def test_a_label_selector_selects_what_kubernetes_selects(text: str, selected: bool) -> None:
    assert parse_label_selector(text).matches(GOLD) is selected


def test_labels_may_be_missing_altogether() -> None:
    assert parse_label_selector("").matches(None)
    assert parse_label_selector("a!=b,!c").matches(None)
    assert not parse_label_selector("a").matches(None)


def test_the_words_in_and_notin_are_also_keys_and_values() -> None:
    selector = parse_label_selector("in in (in,notin),notin")
    assert selector.matches({"in": "notin", "notin": ""})
    assert not selector.matches({"in": "in"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a in ()", {""}),
        ("a in (,)", {""}),
        ("a in (b,)", {"b", ""}),
        ("a in (,b)", {"b", ""}),
        ("a in (b,,c)", {"b", "", "c"}),
    ],
)
def test_a_value_of_a_list_may_be_empty(text: str, values: set[str]) -> None:
    (requirement,) = parse_label_selector(text).requirements
    assert requirement.values == values


@pytest.mark.parametrize("value", ["x", "1_0", "1.5", "9" * 19, "9" * 200, "٣"])
def test_a_label_that_is_no_64_bit_integer_is_neither_greater_nor_less(value: str) -> None:
    assert not parse_label_selector("a>1").matches({"a": value})
    assert not parse_label_selector("a<9").matches({"a": value})


def test_the_canonical_text_is_sorted_by_key_and_has_one_spelling() -> None:
    text = "z==1 , !y,x  notin(c,a,b),w,v>3,u!=k,t<4,s in (b)"
    assert str(parse_label_selector(text)) == ("s in (b),t<4,u!=k,v>3,w,x notin (a,b,c),!y,z=1")
    assert str(parse_label_selector(" ")) == ""


def test_only_a_selector_that_restricts_something_is_true() -> None:
    assert parse_label_selector("a")
    assert not parse_label_selector("")
    assert parse_field_selector("a=b")
    assert not parse_field_selector(" ")


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        (",a", 1, "found ',', expected a label key or '!'"),
        ("a,", 3, "found the end, expected a label key or '!'"),
        ("a,,b", 3, "found ',', expected a label key or '!'"),
        ("a b", 3, "found 'b', expected one of = == != in notin > < or ','"),
        ("a=b c", 5, "found 'c', expected ',' or the end of the selector"),
        ("a=b=c", 4, "found '=', expected ',' or the end"),
        ("a===b", 4, "found '=', expected a label value"),
        ("a=(b)", 3, "found '(', expected a label value"),
        ("!", 2, "found the end, expected a label key after '!'"),
        ("!!a", 2, "found '!', expected a label key after '!'"),
        ("!a=b", 3, "found '=', expected ',' or the end"),
        ("a in b", 6, "found 'b', expected '('"),
        ("a in", 5, "found the end, expected '('"),
        ("a in (b", 8, "found the end, expected ',' or ')'"),
        ("a in (b c)", 9, "found 'c', expected ',' or ')'"),
        ("a in (b))", 9, "found ')', expected ',' or the end"),
        ("a>", 3, "found the end, expected an integer"),
        ("a>x", 3, "found 'x', expected an integer"),
        ("a>1.5", 3, "found '1.5', expected an integer"),
        ("a>-1", 3, "found '-1', expected an integer"),
        ("a<9223372036854775808", 3, "expected an integer"),
        ("a=-b", 3, "found '-b', expected a label value"),
        ("a=" + "b" * 64, 3, "expected a label value: up to 63"),
        ("a" * 64, 1, "expected a label key"),
        ("-a", 1, "expected a label key"),
        ("Example.com/a", 1, "expected a label key"),
        ("/a", 1, "expected a label key"),
        ("a/b/c=d", 1, "expected a label key"),
        ("a/=b", 1, "expected a label key"),
        ("x" * 254 + "/a", 1, "expected a label key"),
        ("a=b;c=d", 3, "found 'b;c', expected a label value"),
        ("é", 1, "expected a label key"),
    ],
)
def test_a_label_selector_that_cannot_be_read_names_column_and_expectation(
    text: str, column: int, what: str
) -> None:
    with pytest.raises(SelectorError, match=re.escape(what)) as refused:
        parse_label_selector(text)
    assert refused.value.column == column
    assert f"column {column}:" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("status.phase=Running", True),
        ("status.phase==Running", True),
        ("status.phase!=Running", False),
        ("status.phase!=Succeeded,status.phase!=Failed,metadata.name=x", True),
        ("status.phase!=Succeeded,metadata.name=y", False),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        ("spec.nodeName!=n1", True),
        (" metadata.name = x , status.phase = Running ", True),
        ("metadata.name=x,", True),
    ],
)
def test_a_field_selector_selects_and_an_absent_field_is_empty(text: str, selected: bool) -> None:
    fields = {"status.phase": "Running", "metadata.name": "x"}
    assert parse_field_selector(text).matches(fields) is selected


def test_a_field_value_may_hold_escaped_separators() -> None:
    selector = parse_field_selector(r"a=b\,c\=d\\e,f!=g")
    assert selector.terms == (FieldTerm("a", r"b,c=d\e"), FieldTerm("f", "g", negated=True))
    assert str(selector) == r"a=b\,c\=d\\e,f!=g"


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("status.phase", 1, "found 'status.phase', expected FIELD=VALUE"),
        ("a=b, c", 6, "found 'c', expected FIELD=VALUE"),
        ("a=b,=c", 5, "found '=', expected a field first"),
        ("a=b=c", 4, "found '=c', expected a value"),
        ("a===b", 4, "found '=b', expected a value"),
        ("a!==b", 4, "found '=b', expected a value"),
        ("a>b", 1, "expected FIELD=VALUE"),
        ("a!b", 1, "expected FIELD=VALUE"),
        (r"a=b\c", 4, "expected a value"),
        ("a=b\\", 4, "expected a value"),
    ],
)
def test_a_field_selector_that_cannot_be_read_names_column_and_expectation(
    text: str, column: int, what: str
) -> None:
    with pytest.raises(SelectorError, match=re.escape(what)) as refused:
        parse_field_selector(text)
    assert refused.value.column == column


names = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
keys = st.one_of(names, st.builds("{}/{}".format, st.sampled_from(["k8s.io", "a.b-c.d"]), names))
values = st.one_of(st.just(""), names)
integers = st.integers(0, 2**63 - 1).map(str)
requirements = st.one_of(
    st.builds(Requirement, keys, st.sampled_from([Operator.EXISTS, Operator.ABSENT])),
    st.builds(
        Requirement,
        keys,
        st.sampled_from([Operator.EQUALS, Operator.NOT_EQUALS]),
        values.map(lambda v: frozenset({v})),
    ),
    st.builds(
        Requirement,
        keys,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.frozensets(values, min_size=1, max_size=4),
    ),
    st.builds(
        Requirement,
        keys,
        st.sampled_from([Operator.GREATER, Operator.LESS]),
        integers.map(lambda v: frozenset({v})),
    ),
)


@given(st.lists(requirements, max_size=5))
def test_the_text_of_a_label_selector_reads_back_as_itself(wanted: list[Requirement]) -> None:
    selector = parse_label_selector(str(LabelSelector(tuple(wanted))))
    assert sorted(map(str, selector.requirements)) == sorted(map(str, wanted))
    assert set(selector.requirements) == set(wanted)
    assert parse_label_selector(str(selector)) == selector


@given(requirements, st.dictionaries(keys, values, max_size=3))
def test_a_requirement_and_its_opposite_split_all_objects(
    requirement: Requirement, labels: dict[str, str]
) -> None:
    opposite = {
        Operator.EQUALS: Operator.NOT_EQUALS,
        Operator.IN: Operator.NOT_IN,
        Operator.EXISTS: Operator.ABSENT,
    }
    flipped = opposite.get(requirement.operator)
    if flipped is not None:
        other = Requirement(requirement.key, flipped, requirement.values)
        for held in (labels, labels | {requirement.key: min(requirement.values, default="")}):
            assert requirement.matches(held) is not other.matches(held)


fields = st.from_regex(r"[a-zA-Z][a-zA-Z.\[\]']{0,20}", fullmatch=True)
field_values = st.text(max_size=10).filter(lambda v: v == v.strip())
terms = st.builds(FieldTerm, fields, field_values, st.booleans())


@given(st.lists(terms, max_size=4))
def test_the_text_of_a_field_selector_reads_back_as_itself(wanted: list[FieldTerm]) -> None:
    selector = FieldSelector(tuple(wanted))
    assert parse_field_selector(str(selector)) == selector


@given(st.text(alphabet=st.sampled_from("ab=!<>(),/ \\1in.-_é"), max_size=20) | st.text())
def test_any_text_gives_a_selector_or_a_selector_error(text: str) -> None:
    for parse in (parse_label_selector, parse_field_selector):
        with contextlib.suppress(SelectorError):
            selector = parse(text)
            assert parse(str(selector)) == selector
