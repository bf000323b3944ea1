"""How a Corefile's text falls into tokens, and what the environment puts into them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.corefile.lexer import expand_environment, tokenize
from kdns.corefile.model import Place, Token


def words(text: str) -> list[str]:
    return [token.text for token in tokenize(text, "Corefile")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n\r\n ", []),
        ("a b\tc\nd", ["a", "b", "c", "d"]),
        ("a\u00a0b\u3000c\u2028d", ["a", "b", "c", "d"]),
        ("a\x1cb", ["a\x1cb"]),
        ("{a} { } {}", ["{a}", "{", "}", "{}"]),
        ("a;b", ["a;b"]),
        ("`a b`", ["`a", "b`"]),
        ("a \\\nb", ["a", "\\", "b"]),
    ],
)
def test_white_space_and_nothing_else_separates_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a b" c', ["a b", "c"]),
        ('""', [""]),
        (r'"say \"hello\""', ['say "hello"']),
        (r'"a\.b\\" c', [r"a\.b\\", "c"]),
        ('"two\nlines"', ["two\nlines"]),
        ('"not # a comment"', ["not # a comment"]),
        ('"a"b"c"', ["a", 'b"c"']),
        ('a"b c"', ['a"b', 'c"']),
    ],
)
def test_a_word_that_begins_with_a_quote_ends_at_the_next(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# all of it", []),
        ("a # b c\nd", ["a", "d"]),
        ("#\n#\na", ["a"]),
        ('# "never closed\na', ["a"]),
    ],
)
def test_a_hash_before_a_word_hides_the_rest_of_the_line(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_hash_within_a_word_hides_the_rest_of_the_word_as_in_coredns() -> None:
    assert words("8.8.8.8#53 9.9.9.9#\na") == ["8.8.8.8", "9.9.9.9", "a"]


def test_a_byte_order_mark_and_carriage_returns_are_as_if_they_were_not_there() -> None:
    tokens = list(tokenize("\ufeffa b\r\nc\r\n", "Corefile"))
    assert [(token.text, token.line) for token in tokens] == [("a", 1), ("b", 1), ("c", 2)]


def test_a_token_knows_its_file_the_line_where_it_begins_and_whether_it_was_quoted() -> None:
    assert list(tokenize('a\n"b\n\nc" d', "dir/Corefile")) == [
        Token("a", "dir/Corefile", 1),
        Token("b\n\nc", "dir/Corefile", 2, quoted=True),
        Token("d", "dir/Corefile", 4),
    ]


def test_a_place_is_written_file_and_line() -> None:
    (token,) = tokenize("\n\na", "dir/Corefile")
    assert token.place == Place("dir/Corefile", 3)
    assert str(token.place) == "dir/Corefile:3"


@pytest.mark.parametrize("text", ['a\n"b', 'a\n"', 'a\n"b\\"\n\n', 'a\n"b\\'])
def test_a_quote_that_is_never_closed_is_an_error_where_it_opens(text: str) -> None:
    with pytest.raises(CorefileError, match=r'^Corefile:2: .*expected another "'):
        list(tokenize(text, "Corefile"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{$HOST}", "example.org"),
        ("{%HOST%}", "example.org"),
        ("{$HOST}:{%PORT%}", "example.org:5353"),
        ("a{$NOT_SET}b{%NOT_SET%}c", "abc"),
        ("{$PORT$}", ""),
        ("{$LOOP}", "{$LOOP}"),
        ("{%HOST}", "{%HOST}"),
        ("{$HOST", "{$HOST"),
        ("{$} {%} {$$} {%%}", "{$} {%}  {%%}"),
        ("{{ .Name }} 60 IN A {$HOST}", "{{ .Name }} 60 IN A example.org"),
        ("$HOST %HOST% {HOST}", "$HOST %HOST% {HOST}"),
    ],
)
def test_references_to_the_environment(text: str, expected: str) -> None:
    """Both spellings are known, what is not set is empty, and what is no reference stays."""
    environ = {"HOST": "example.org", "PORT": "5353", "LOOP": "{$LOOP}"}
    assert expand_environment(text, environ) == expected


@settings(deadline=None)
@given(st.lists(st.from_regex(r'[^\s#"\x1c-\x1f\x85]+', fullmatch=True)))
def test_words_joined_by_spaces_are_the_same_words_again(expected: list[str]) -> None:
    assert words(" " + " ".join(expected)) == expected


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    r"""Only quotes need escaping; an odd number of backslashes before one cannot be written."""
    text = text.replace("\\", "/")
    (token,) = tokenize('"' + text.replace('"', '\\"') + '"', "Corefile")
    assert token.text == text
