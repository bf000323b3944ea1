"""The part of Go's templates that is there; expected texts are what Go makes of them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.patterns import Pattern
from kdns.plugins.template_text import BadTemplate, Failed, Matched, Text
from tests.plugins.fakes import ask

PATTERN = Pattern("^(?P<a>[^.]*)[.](b)?")
OTHER = Pattern("(?P<c>x)(y)(z)")


def rendered(text: str, qname: str = "ff.example", patterns: tuple[Pattern, ...] = ()) -> str:
    request = ask(qname)
    found = PATTERN.search(f"{qname}.")
    assert found is not None
    matched = Matched(request, "example.", f"{qname}.", "IN", "A", PATTERN, found, str.upper)
    return Text(text, (PATTERN, *patterns)).render(matched)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain } text {", "plain } text {"),
        ("{{ .Name }} {{.Zone}} {{ .Class }} {{ .Type }}", "ff.example. example. IN A"),
        ("{{ .Remote }} {{ .Message.Id }} {{ .Regex }}", "10.0.0.1 7 ^(?P<a>[^.]*)[.](b)?"),
        ("{{ .Question.Name }}{{ .Question.Qtype }}{{ .Question.Qclass }}", "ff.example.11"),
        ("{{ index .Match 0 }}|{{ index .Match 1 }}|{{ index .Match 2 }}", "ff.|ff|"),
        ('{{ index .Group "a" }}{{ index .Group `1` }}{{ .Group.a }}', "ffffff"),
        ("{{ parseInt .Group.a 16 8 }}", "255"),
        ("{{ parseInt (index .Match 1) 16 0 }}", "255"),
        ("{{ parseInt `" + 70 * "0" + "ff` 16 8 }}", "255"),
        ("{{ parseInt `0` 2 1 }}{{ parseInt `Zz` 36 64 }}", "01295"),
        ('{{ .Meta "a/b" }}', "A/B"),
        (r'{{ "a\"b\\\n\t" }}{{ `c\` }}{{ 12 }}{{ -3 }}{{ (0) }}', 'a"b\\\n\tc\\12-30'),
        ("{{ `}}` }}", "}}"),
        ("a  {{- `b` -}}  c {{- /* a note */ -}} d {{/* e */}} f", "abcd  f"),
        ("a {{-3}} b", "a -3 b"),
        ("{{ (((.Name))) }}", "ff.example."),
    ],
)  # fmt: skip
def test_a_template_makes_a_text(text: str, expected: str) -> None:
    assert rendered(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ parseInt .Group.a 10 8 }}", "parseInt: no number of base 10 and 8 bits: 'ff'"),
        ("{{ parseInt .Group.a 16 7 }}", "no number of base 16 and 7 bits"),
        ("{{ parseInt `` 16 0 }}", "no number of base 16 and 64 bits: ''"),
        ("{{ parseInt `-1` 10 0 }}", "no number"),
        ("{{ parseInt ` 1` 10 0 }}", "no number"),
        ("{{ parseInt `1_0` 10 0 }}", "no number"),
        ("{{ parseInt `٣` 10 0 }}", "no number"),
        ("{{ parseInt 16 16 8 }}", "expected a text, got the number 16"),
        ("{{ .Meta 5 }}", "expected a text, got the number 5"),
        ("{{ .Group.c }}", "has no group 'c'"),
        ("{{ index .Match 3 }}", "has no group 3"),
        ("{{ index .Group `3` }}", "has no group 3"),
    ],
)
def test_what_cannot_be_made_of_a_query_is_a_failure(text: str, why: str) -> None:
    with pytest.raises(Failed) as raised:
        rendered(text, patterns=(OTHER,))
    assert why in str(raised.value)


def test_a_group_of_another_match_is_empty_by_its_index() -> None:
    assert rendered('<{{ index .Group "c" }}>', patterns=(OTHER,)) == "<>"


@pytest.mark.parametrize(
    "text",
    [
        "{{ if .Name }}x{{ end }}",
        "{{ range .Match }}{{ end }}",
        "{{ with .Name }}{{ end }}",
        "{{ $x := .Name }}",
        "{{ $ }}",
        "{{ . }}",
        "{{ .Match }}",
        "{{ .Group }}",
        "{{ .Group.a.b }}",
        "{{ .Nope }}",
        "{{ .Message }}",
        "{{ .Name | printf }}",
        '{{ printf "%d" 1 }}',
        "{{ .Name .Zone }}",
        "{{ index .Match .Name }}",
        "{{ index .Match -x }}",
        "{{ index .Name 1 }}",
        "{{ index .Group 1 }}",
        "{{ index .Match }}",
        "{{ index }}",
        "{{ parseInt .Name }}",
        "{{ parseInt .Name x y }}",
        "{{ parseInt .Name 0x10 8 }}",
        "{{ .Meta }}",
        "{{ (.Name }}",
        "{{ (.Name .Zone) }}",
        "{{ ) }}",
        "{{ }}",
        "{{}}",
        "{{ 1.5 }}",
        "{{ 0x10 }}",
        r'{{ "\q" }}',
        "{{ /* a */ .Name }}",
        "{{ 'c' }}",
        "{{ /* c */ }}",
        "{{/* c */ }}",
        "{{-  /* c */ -}}",
    ],
)
def test_what_is_not_supported_is_told_with_what_is(text: str) -> None:
    with pytest.raises(BadTemplate) as raised:
        Text(text, (PATTERN,))
    assert "is not supported; expected .Name, .Zone" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ .Name", "'{{' is not closed"),
        ('{{ "a }}', "'{{' is not closed"),
        ("{{ index .Match 3 }}", "expected a group's number from 0 to 2"),
        ("{{ index .Match -1 }}", "expected a group's number from 0 to 2"),
        ('{{ index .Group "9" }}', "expected a group's number from 0 to 2"),
        ('{{ index .Group "x" }}', "no match has a group 'x': (?P<x>…)"),
        ("{{ .Group.x }}", "no match has a group 'x': (?P<x>…)"),
        ("{{ parseInt .Name 37 8 }}", "expected a base from 2 to 36, and 0 to 64 bits"),
        ("{{ parseInt .Name 10 65 }}", "expected a base from 2 to 36, and 0 to 64 bits"),
        ("{{ .Name }}" * 201, "expected at most 100 actions"),
        ("{{ " + "(" * 30 + ".Name" + ")" * 30 + " }}", "expected at most 20 parentheses"),
    ],
)
def test_what_is_wrong_is_told(text: str, why: str) -> None:
    with pytest.raises(BadTemplate) as raised:
        Text(text, (PATTERN,))
    assert why in str(raised.value)


@pytest.mark.parametrize("text", ["a", "", "a {{/* b */}}"])
def test_a_text_without_actions_is_constant(text: str) -> None:
    made = Text(text, (PATTERN,))
    assert made.constant
    assert made.plain() == text.removesuffix("{{/* b */}}")
    assert not Text("{{ .Name }}", (PATTERN,)).constant


PIECES = [*'{}.-"`()|$ 09aN\\/*', ".Name", "index", ".Match", ".Group", "{{", "{{ ", " }}", "}}"]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_is_a_template_or_a_bad_one(text: str) -> None:
    with suppress(BadTemplate, Failed):
        rendered(text)
