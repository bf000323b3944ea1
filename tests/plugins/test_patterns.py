"""Regular expressions as RE2 reads them, in bounded time; what is expected is what Go finds."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.patterns import (
    MAX_PATTERN,
    MAX_TEXT,
    MAX_WAYS,
    BadPattern,
    Pattern,
    shown,
    ways,
)
from kdns.plugins.patterns_machine import Machine
from kdns.plugins.patterns_syntax import read
from kdns.wire import name
from tests.strategies import names


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        # As CoreDNS's documentation has them.
        (
            r"(^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)[.]example[.]$",
            "x.ip-10-7.example.",
            (".ip-10-7.example.", ".", "10", "7"),
        ),
        (
            r"example\.com\.(dc1\.example\.com\.)$",
            "a.example.com.dc1.example.com.",
            ("example.com.dc1.example.com.", "dc1.example.com."),
        ),
        (r"^ip0a(?P<b>[a-f0-9]{2})[.]example[.]$", "ip0a7b.example.", ("ip0a7b.example.", "7b")),
        (".*", "a.example.", ("a.example.",)),
        # The leftmost, and there the first way; what takes no part is empty.
        ("b|ab", "ab", ("ab",)),
        ("(a)|(b)", "b", ("b", "", "b")),
        ("a??b*?", "aab", ("",)),
        ("(?U)a+", "aa", ("a",)),
        ("(?U)a+?", "aa", ("aa",)),
        ("(a*)*", "b", ("", "")),
        ("(a*)+", "b", ("", "")),
        ("(|a)*", "aa", ("", "")),
        ("(a|ab)(c|bcd)(d*)", "abcd", ("abcd", "a", "bcd", "")),
        ("(?:a|b){2}c", "abc", ("abc",)),
        ("a{0}b", "ab", ("b",)),
        ("(a{2,3}){1,2}", "aaaaa", ("aaaaa", "aa")),
        # Where Python reads something else.
        ("a{,2}", "a{,2}", ("a{,2}",)),
        ("a{01}", "aa{01}", ("a{01}",)),
        ("a{", "a{", ("a{",)),
        (r"\Qa.b\E+", "a.bbb", ("a.bbb",)),
        (r"\Qa.", "a.", ("a.",)),
        (r"\Q\Ea*", "aa", ("aa",)),
        (r"a\z", "ba", ("a",)),
        (r"\Aa$", "a", ("a",)),
        (r"\x61\x{62}\141\-\_", "aba-_", ("aba-_",)),
        (r"\a\f\t\n\r\v", "\a\f\t\n\r\v", ("\a\f\t\n\r\v",)),
        (r"[[:alpha:]]+[[:^digit:]]", "1ab-", ("ab-",)),
        (r"[]a]+", "x]a", ("]a",)),
        (r"[^]a]+", "]xa", ("x",)),
        (r"[a\-c]+", "-ac", ("-ac",)),
        (r"[a-]+[\d-a]+", "a-1-a", ("a-1-a",)),
        (r"[[:x]+", "x:[", ("x:[",)),
        (r"[+--]+", "+,-.", ("+,-",)),
        (r"[\x41-\x{1F600}]+", "@AZz", ("AZz",)),
        (r"\d\D\s\S\w\W", "1a b_.", ("1a b_.",)),
        (r"\s", "\v", None),
        ("(?i)Ab[C-D]", "aBc", ("aBc",)),
        ("(?i:a)b", "AB", None),
        ("((?i)a)b", "Ab", ("Ab", "A")),
        ("(?i)a(?-i)b|c", "AC", None),
        ("(?i-s:.)(?s).", "\n.", None),
        ("(?s).", "\n", ("\n",)),
        ("(?m)^a$", "a", ("a",)),
        ("(?:)(?)", "", ("",)),
        ("()", "", ("", "")),
        (r"\B", "", ("",)),
        (r"a\b-\Bx?", "a-", ("a-",)),
        (r"\ba\B", "ab", ("a",)),
        ("é", "e", None),
        ("[é]", "e", None),
        ("[^é]", "e", ("e",)),
        (r"[\x80-\x{ff}]", "e", None),
        ("^*a", "ba", ("a",)),
        ("a(?i)*", "aaA", ("aa",)),
        ("(?<x>a)", "a", ("a", "a")),
    ],
)
def test_a_pattern_fits_as_for_re2(
    pattern: str, text: str, expected: tuple[str, ...] | None
) -> None:
    assert Pattern(pattern).search(text) == expected
    assert stepwise(pattern, text) == expected


def stepwise(pattern: str, text: str) -> tuple[str, ...] | None:
    """What the machine finds, whichever of the two a Pattern takes."""
    spans = Machine(read(pattern)).search(text)
    if spans is None:
        return None
    return tuple([text[a:b] if a >= 0 else "" for a, b in spans])


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "a parenthesis is not closed, at character 2"),
        ("a)", "a parenthesis is closed that was not opened, at character 2"),
        ("[a", "a class is not closed"),
        ("[", "a class is not closed"),
        ("[b-a]", "ends before it begins"),
        ("[a-\\d]", "unknown escape"),
        ("[[:nope:]]", "unknown class [:nope:]"),
        ("*a", "nothing to repeat before '*'"),
        ("a|+", "nothing to repeat before '+'"),
        ("{2}", "nothing to repeat before '{'"),
        ("(?i)*", "nothing to repeat"),
        ("a**", "a repetition is repeated"),
        ("a*+", "a repetition is repeated"),
        ("a{2}{3}", "a repetition is repeated"),
        ("a{1001}", "expected {LEAST,MOST} up to 1000"),
        ("a{2,1}", "expected {LEAST,MOST} up to 1000"),
        ("a{" + "9" * 500 + "}", "expected {LEAST,MOST} up to 1000"),
        ("(a{100}){11}", "repeated more than 1000 times"),
        ("\\", "an escape is not closed"),
        (r"\Z", r"unknown escape \Z"),
        (r"\e", r"unknown escape \e"),
        ("\\é", "unknown escape"),
        (r"\8", r"unknown escape \8"),
        (r"(a)\1", "references back"),
        (r"\x6", r"expected \x7f"),
        (r"\x{}", r"expected \x7f"),
        (r"\x{110000}", r"at most \x{10FFFF}"),
        (r"\pL", "names are ASCII"),
        (r"[\p{Greek}]", "names are ASCII"),
        ("(?=a)", "expected (?:…), (?P<name>…) or flags"),
        ("(?!a)", "expected (?:…)"),
        ("(?<=a)", "expected (?:…)"),
        ("(?P=a)", "expected (?:…)"),
        ("(?x)a", "expected (?:…)"),
        ("(?i-)a", "expected (?:…)"),
        ("(?i", "expected (?:…)"),
        ("(?P<>a)", "expected a group's name"),
        ("(?P<a-b>a)", "expected a group's name"),
        ("(?P<a", "expected a group's name"),
        ("(" * 200 + ")" * 200, "more than 100 parentheses"),
        ("a" * (MAX_PATTERN + 1), "at most 1024 characters, got 1025"),
        ("((a?){30}){30}", "too long for what it repeats"),
    ],
)
def test_what_re2_does_not_know_is_told(pattern: str, why: str) -> None:
    with pytest.raises(BadPattern) as raised:
        Pattern(pattern)
    assert why in str(raised.value)


def test_groups_have_numbers_and_may_have_names() -> None:
    pattern = Pattern("(?P<a>x)(y)(?P<b>z)(?P<a>w)")
    assert (pattern.groups, pattern.names) == (4, {"a": 4, "b": 3})
    assert repr(pattern) == "Pattern('(?P<a>x)(y)(?P<b>z)(?P<a>w)')"


@pytest.mark.parametrize(
    "pattern",
    [
        "(a*)*b",
        "(a|a)*b",
        "(a|ab)*c",
        "(a?){60}b",
        "(.*)[.](.*)[.](.*)b",
        "(?:[a-z]+[.]?)*1",
        ".*.*.*b",
    ],
)
def test_what_would_take_for_ever_is_matched_in_steps(pattern: str) -> None:
    """With Python's own engine each of these would go on until the end of the test run."""
    assert Pattern(pattern).search("a" * MAX_TEXT) is None
    assert Pattern(pattern).search("a." * 100 + "abc1") == stepwise(pattern, "a." * 100 + "abc1")


ATOMS = ["a", "b", "[.]", ".", "[^a]", "[a-c]", r"\d", r"\b", r"\B", "^", "$", "(?:)", "(?i)A"]


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeated = ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,2}?", "{2,}"]
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(repeated)).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        inner.map(lambda body: f"({body})"),
    )


@given(
    st.recursive(st.sampled_from(ATOMS), larger, max_leaves=8),
    st.text("ab.1-A", max_size=12),
)
def test_both_ways_of_matching_agree(pattern: str, text: str) -> None:
    assert Pattern(pattern).search(text) == stepwise(pattern, text)


@given(st.text(st.sampled_from(r"ab(){}[]|*+?^$\.-,12QEiPU<>:=x"), max_size=20), st.text("ab.1"))
def test_any_text_is_a_pattern_or_a_bad_one(pattern: str, text: str) -> None:
    try:
        found = Pattern(pattern).search(text)
    except BadPattern:
        return
    assert found == stepwise(pattern, text)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([b"a", b"b-1"], "a.b-1."),
        ([b"a.b", b"c d"], "a\\.b.c\\ d."),
        ([b"\x00\xff", b"(@;)'\"\\$"], "\\000\\255.\\(\\@\\;\\)\\'\\\"\\\\$."),
        ([], "."),
    ],
)
def test_a_name_is_shown_as_coredns_shows_it(labels: list[bytes], expected: str) -> None:
    assert shown(name.from_labels(labels)) == expected


@given(names())
def test_what_is_shown_is_the_name(key: bytes) -> None:
    text = shown(key)
    assert len(text) <= MAX_TEXT
    assert text.isascii()
    assert dns.name.from_text(text).to_wire() == key


@pytest.mark.parametrize(
    ("pattern", "few"),
    [
        (r"(.*)\.corp\.example", True),
        (r"(.*)-(.*)\.corp$", True),
        (r"([a-z0-9-]+)\.([a-z]+)\.corp", True),
        (r"^(.*)-([^.]+)\.corp", True),
        # A third, or one more to walk along, or to begin with, would be a cube of the text.
        (r"(.*)-(.*)-(.*)\.corp", False),
        (r"^(.*)-(.*)-[^.]*\.corp", False),
        (r"[^.]*-[^.]*\.corp", False),
        (r"[^b]*[^b]*b", False),
        (r"(a*)*b", False),
        (r"(a|a)+b", False),
    ],
)
def test_what_backtracking_would_take_long_for_is_not_left_to_it(pattern: str, few: bool) -> None:
    assert (ways(read(pattern)) <= MAX_WAYS) is few


def test_what_takes_all_before_it_is_searched_for_at_the_beginning_alone() -> None:
    assert Pattern(r"(.*)\.b").search("a.b.b.c") == ("a.b.b", "a.b")
    assert Pattern(r"(.*?)\.b").search("a.b.b.c") == ("a.b", "a")
    assert Pattern(r"(?:.*|^a)b").search("cab") == ("cab",)
    assert Pattern(r"([^a]*)b").search("aab") == ("b", "")
