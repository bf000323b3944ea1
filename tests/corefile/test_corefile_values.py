"""Arguments of directives as values."""

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.corefile.values import (
    ListenAddress,
    at_least,
    at_most,
    between,
    boolean,
    domain_name,
    duration,
    exactly,
    flag,
    integer,
    listen_address,
    without_block,
)


def token(text: str) -> Token:
    return Token(text, "Corefile", 3)


def directive(*args: str, block: tuple[Directive, ...] | None = None) -> Directive:
    return Directive("cache", "Corefile", 3, tuple(token(arg) for arg in args), block)


# Errors.


def test_an_error_is_written_with_its_place_and_survives_pickling() -> None:
    error = CorefileError("expected this", "dir/Corefile", 12)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.message, each.file, each.line) == ("expected this", "dir/Corefile", 12)
        assert str(each) == "dir/Corefile:12: expected this"


def test_text_that_comes_from_no_file_has_errors_without_a_place() -> None:
    with pytest.raises(CorefileError, match=r"^expected a number from 0 to 9, got 'x'$"):
        integer("x", maximum=9)


# Durations.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("+0", 0.0),
        ("-0", 0.0),
        ("5s", 5.0),
        ("+5s", 5.0),
        ("1h30m", 5400.0),
        ("1h1m1s1ms", 3661.001),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1.s", 1.0),
        (".5s", 0.5),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
        ("3ns", 3e-9),
        ("2562047h", 2562047 * 3600.0),
    ],
)
def test_a_duration_is_written_as_in_go(text: str, seconds: float) -> None:
    assert duration(token(text)) == seconds
    assert duration(text, plain_seconds=True) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "00",
        "s",
        "5d",
        "5 s",
        "5S",
        ".s",
        "1.2.3s",
        "1e3s",
        "--5s",
        "s5",
        "٥s",
        "2562048h",
        "9" * 70 + "s",
    ],
)
def test_what_is_no_duration_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3: expected a duration such as 500ms, 30s"):
        duration(token(text))


def test_plain_seconds_are_for_those_who_ask() -> None:
    assert duration("30", plain_seconds=True) == 30.0
    with pytest.raises(CorefileError, match="such as 30, 30s or 1h30m, got '3 0'"):
        duration("3 0", plain_seconds=True)


def test_the_bounds_of_a_duration_are_allowed_and_what_is_beyond_is_not() -> None:
    assert duration("2s", minimum=2) == 2.0
    assert duration("1m", maximum=60) == 60.0
    assert duration("-1s", minimum=-1) == -1.0
    with pytest.raises(CorefileError, match=r"^expected a duration from 0s, got '-1s'$"):
        duration("-1s")
    with pytest.raises(CorefileError, match=r"^expected a duration from 2s to 60s, got '61s'$"):
        duration("61s", minimum=2, maximum=60)


# Numbers and booleans.


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("30", 30), ("+5", 5), ("007", 7)])
def test_a_number(text: str, number: int) -> None:
    assert integer(token(text), maximum=30) == number


@pytest.mark.parametrize("text", ["", "x", "1.0", "-1", "31", "1_0", " 1", "٣", "9" * 5000])
def test_what_is_no_number_within_the_bounds_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3: expected a number from 0 to 30, got "):
        integer(token(text), maximum=30)


def test_a_number_below_zero_where_that_is_allowed() -> None:
    assert integer("-5", minimum=-5) == -5


def test_booleans() -> None:
    assert [boolean(text) for text in ("true", "True", "1", "t")] == [True] * 4
    assert [boolean(text) for text in ("false", "FALSE", "0", "F")] == [False] * 4
    with pytest.raises(CorefileError, match=r"^Corefile:3: expected true or false, got 'yes'$"):
        boolean(token("yes"))


def test_a_flag_is_true_by_being_there_and_has_nothing_else() -> None:
    assert flag(directive()) is True
    with pytest.raises(CorefileError, match=r"^Corefile:3: cache: expected 0 arguments, got 1$"):
        flag(directive("x"))
    with pytest.raises(CorefileError, match=r"^Corefile:3: cache: expected no block$"):
        flag(directive(block=()))


# Listen addresses.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":9153", ListenAddress("", 9153)),
        ("0.0.0.0:9153", ListenAddress("0.0.0.0", 9153)),
        ("localhost:8080", ListenAddress("localhost", 8080)),
        ("[::1]:8080", ListenAddress("::1", 8080)),
        ("[fe80::1%eth0]:53", ListenAddress("fe80::1%eth0", 53)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        (":65535", ListenAddress("", 65535)),
    ],
)
def test_a_listen_address(text: str, expected: ListenAddress) -> None:
    assert listen_address(token(text)) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "localhost:", "::1:8080", "[::1]", "[]:80", "[x]:80", ":http", "a/b:80"],
)
def test_what_is_no_listen_address_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=r'^Corefile:3: expected HOST:PORT, such as ":8080"'):
        listen_address(token(text))


def test_a_port_alone_is_an_error_that_says_how_to_write_it() -> None:
    with pytest.raises(CorefileError, match=r"""got '8080'; write ":8080"$"""):
        listen_address("8080")


def test_a_port_ends_at_65535() -> None:
    with pytest.raises(CorefileError, match="expected a port from 0 to 65535, got 65536"):
        listen_address(":65536")


# Names.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", "."),
        ("Cluster.Local", "cluster.local."),
        ("example.org.", "example.org."),
        ("bücher.example", "xn--bcher-kva.example."),
        ("*.example.org", "*.example.org."),
        ("a" * 63, "a" * 63 + "."),
    ],
)
def test_a_name_is_absolute_and_in_lower_case(text: str, expected: str) -> None:
    assert domain_name(token(text)) == expected


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a b", "a\tb", "a\x00b", "a" * 64, "a." * 128])
def test_what_is_no_name_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3: expected a domain name, got "):
        domain_name(token(text))


@settings(deadline=None)
@given(st.text())
@pytest.mark.parametrize("read", [duration, integer, boolean, listen_address, domain_name])
def test_any_text_is_a_value_or_an_error(read: Callable[[Token], object], text: str) -> None:
    try:
        outcome = read(token(text))
    except CorefileError as error:
        outcome = error
    assert not isinstance(outcome, CorefileError) or outcome.file == "Corefile"
    assert not isinstance(outcome, CorefileError) or "expected" in outcome.message


# Counts.


def test_arguments_are_counted() -> None:
    none, one, two = directive(), directive("a"), directive("a", "b")
    assert exactly(none, 0) == ()
    assert [arg.text for arg in exactly(two, 2)] == ["a", "b"]
    assert at_least(two, 1) == two.args
    assert at_most(none, 1) == ()
    assert between(one, 1, 2) == one.args


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (lambda: exactly(directive(), 1), "expected 1 argument, got 0"),
        (lambda: exactly(directive("a", "b", "c"), 2), "expected 2 arguments, got 3"),
        (lambda: at_least(directive("a"), 2), "expected at least 2 arguments, got 1"),
        (lambda: at_most(directive("a", "b"), 1), "expected at most 1 argument, got 2"),
        (lambda: between(directive(), 1, 2), "expected 1 to 2 arguments, got 0"),
    ],
)
def test_a_wrong_count_names_directive_and_both_numbers(
    count: Callable[[], object], expected: str
) -> None:
    with pytest.raises(CorefileError) as caught:
        count()
    assert str(caught.value) == f"Corefile:3: cache: {expected}"


def test_a_block_where_there_should_be_none() -> None:
    without_block(directive("a"))
    with pytest.raises(CorefileError, match=r"^Corefile:3: cache: expected no block$"):
        without_block(directive("a", block=()))
