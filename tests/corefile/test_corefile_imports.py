"""Snippets and imports: what they put where, and how they are kept from having no end."""

from collections.abc import Callable

import pytest

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, ServerBlock
from kdns.corefile.parser import MAX_IMPORTS, MAX_TOKENS, parse


def reader(files: dict[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Only exact paths; a path that ends in * matches what begins alike."""

    def read(pattern: str) -> list[tuple[str, str]]:
        if pattern.endswith("*"):
            return [(n, t) for n, t in sorted(files.items()) if n.startswith(pattern[:-1])]
        return [(pattern, files[pattern])] if pattern in files else []

    return read


def read_corefile(
    text: str, files: dict[str, str] | None = None, **environ: str
) -> list[ServerBlock]:
    return parse(text, "/etc/kdns/Corefile", environ=environ, read=reader(files or {}))


def error_of(text: str, files: dict[str, str] | None = None) -> str:
    with pytest.raises(CorefileError) as caught:
        read_corefile(text, files)
    return str(caught.value)


def lines(directives: tuple[Directive, ...]) -> list[str]:
    return [" ".join([d.name, *(arg.text for arg in d.args)]) for d in directives]


# Snippets.


def test_a_snippet_stands_wherever_it_is_imported() -> None:
    blocks = read_corefile(
        "(common) {\n errors\n cache 30\n}\n"
        "a.org {\n log\n import common\n loop\n}\n"
        "b.org {\n import common\n import common\n}\n"
    )
    assert lines(blocks[0].directives) == ["log", "errors", "cache 30", "loop"]
    assert lines(blocks[1].directives) == ["errors", "cache 30", "errors", "cache 30"]
    assert blocks[1].directives[0].line == 2


def test_a_snippet_may_hold_blocks_and_be_imported_into_one() -> None:
    (block,) = read_corefile(
        "(drop) {\n lameduck 5s\n deep {\n  x\n }\n}\n. {\n health {\n  import drop\n }\n}"
    )
    (health,) = block.directives
    assert health.block is not None
    assert lines(health.block) == ["lameduck 5s", "deep"]


def test_a_snippet_of_one_line_imported_twice_gives_two_lines() -> None:
    (block,) = read_corefile("(s) { log a }\n.\nimport s\nimport s")
    assert lines(block.directives) == ["log a", "log a"]


def test_a_snippet_of_whole_server_blocks_may_be_imported_between_blocks() -> None:
    blocks = read_corefile("(zones) {\n a.org {\n  log\n }\n b.org {\n }\n}\nimport zones\n")
    assert [block.keys[0].text for block in blocks] == ["a.org", "b.org"]


def test_a_snippet_may_import_another_and_may_be_empty() -> None:
    (block,) = read_corefile(
        "(none)\n{\n}\n(inner) {\n log\n}\n"
        "(outer) {\n import inner\n import none\n}\n.\nimport outer"
    )
    assert lines(block.directives) == ["log"]


def test_a_snippet_defined_in_one_file_is_known_in_the_next() -> None:
    files = {
        "/etc/kdns/lib": "(common) {\n log\n}",
        "/etc/kdns/zones": "a.org {\n import common\n}",
    }
    (block,) = read_corefile("import lib\nimport zones", files)
    assert lines(block.directives) == ["log"]


def test_the_environment_may_name_the_snippet() -> None:
    (block,) = read_corefile("(x) {\n log\n}\n.\nimport {$WHICH}", WHICH="x")
    assert lines(block.directives) == ["log"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(s) {\n log\n", ":1: this block is never closed: expected '}'"),
        ("(s) {\n log {\n }\n", ":1: this block is never closed: expected '}'"),
        ("(s)\nlog", ":1: snippet 's': expected '{' after (s)"),
        ("(s)", ":1: snippet 's': expected '{' after (s)"),
        ("() {\n}", ":1: expected a snippet's name between ( and )"),
        ("(s) {\n}\n(s) {\n}", ":3: snippet 's' is already defined"),
    ],
)
def test_what_is_wrong_with_snippets(text: str, expected: str) -> None:
    assert error_of(text) == "/etc/kdns/Corefile" + expected


# Files.


@pytest.mark.parametrize("name", ["custom/one", "/etc/kdns/custom/one", "./custom/../custom/one"])
def test_a_path_is_relative_to_the_file_that_imports_it(name: str) -> None:
    files = {"/etc/kdns/custom/one": "import two", "/etc/kdns/custom/two": "log\n"}
    (block,) = read_corefile(f". {{\n import {name}\n}}", files)
    (directive,) = block.directives
    assert str(directive.place) == "/etc/kdns/custom/two:1"


def test_the_last_line_of_a_file_ends_with_the_file() -> None:
    (block,) = read_corefile(".\nimport a\nerrors", {"/etc/kdns/a": "\n\n\nlog x"})
    assert lines(block.directives) == ["log x", "errors"]


def test_a_file_without_braces_is_continued_by_the_file_that_imports_it() -> None:
    (block,) = read_corefile("import host\nlog\n", {"/etc/kdns/host": "a.org\nerrors"})
    assert lines(block.directives) == ["errors", "log"]


def test_keys_may_come_from_a_file() -> None:
    (block,) = read_corefile("a.org,\nimport more\nlog", {"/etc/kdns/more": "b.org, c.org"})
    assert [key.text for key in block.keys] == ["a.org", "b.org", "c.org"]
    assert lines(block.directives) == ["log"]


def test_import_means_something_only_where_a_line_begins() -> None:
    (block,) = read_corefile(".\nrewrite import x")
    assert lines(block.directives) == ["rewrite import x"]


@pytest.mark.parametrize(
    "text", [".\nimport", ".\nimport\nx", ".\nimport {", ".\nimport {$NOT_SET}"]
)
def test_an_import_needs_a_name(text: str) -> None:
    expected = "/etc/kdns/Corefile:2: import: expected a snippet, a file or a pattern"
    assert error_of(text) == expected


def test_an_import_takes_one_name() -> None:
    expected = "/etc/kdns/Corefile:2: expected the end of the line after import a, got 'b'"
    assert error_of(".\nimport a b") == expected


def test_what_is_neither_snippet_nor_file_is_an_error() -> None:
    assert error_of(".\n\nimport nothing") == (
        "/etc/kdns/Corefile:3: import nothing: neither a snippet defined above nor a file "
        "(/etc/kdns/nothing)"
    )


def test_a_brace_missing_or_left_over_in_a_file_does_not_reach_into_another() -> None:
    over = {"/etc/kdns/custom.override": "log\n}\n"}
    assert error_of(". {\n import custom*\n}", over) == (
        "/etc/kdns/custom.override:2: '}' closes the block opened at /etc/kdns/Corefile:1: "
        "expected it in that file"
    )
    missing = {"/etc/kdns/custom.override": "\nhosts {\n"}
    assert error_of(". {\n import custom*\n}", missing) == (
        "/etc/kdns/Corefile:3: '}' closes the block opened at /etc/kdns/custom.override:2: "
        "expected it in that file"
    )
    snippet = {"/etc/kdns/s": "(s) {\n"}
    assert "closes the block opened at /etc/kdns/s:1" in error_of("import s\n}", snippet)


@pytest.mark.parametrize("failure", [PermissionError("not allowed"), UnicodeError("not UTF-8")])
def test_a_file_that_cannot_be_read_is_an_error_of_its_import(failure: Exception) -> None:
    def read(_: str) -> list[tuple[str, str]]:
        raise failure

    with pytest.raises(CorefileError) as caught:
        parse("\nimport a", "Corefile", environ={}, read=read)
    assert str(caught.value) == f"Corefile:2: import a: {failure}"


def test_an_error_within_a_file_names_that_file() -> None:
    assert error_of("import a", {"/etc/kdns/a": '.\nlog "x'}).startswith("/etc/kdns/a:2: ")


# Without end.


def test_a_snippet_that_imports_itself_is_an_error() -> None:
    text = "(a) {\n import b\n}\n(b) {\n log\n import a\n}\n. {\n import a\n}"
    assert error_of(text) == "/etc/kdns/Corefile:6: import of itself: (a) -> (b) -> (a)"


def test_a_file_that_imports_itself_is_an_error() -> None:
    files = {"/etc/kdns/a": "import b", "/etc/kdns/b": "\nimport ../kdns/a"}
    assert error_of("import a", files) == (
        "/etc/kdns/b:2: import of itself: /etc/kdns/a -> /etc/kdns/b -> /etc/kdns/a"
    )
    own = {"/etc/kdns/Corefile": "."}
    assert "import of itself" in error_of("import /etc/kdns/*", own)


def test_imports_are_bounded_in_number() -> None:
    text = "(s) {\n log\n}\n.\n" + "import s\n" * MAX_IMPORTS
    (block,) = read_corefile(text)
    assert len(block.directives) == MAX_IMPORTS
    last = 4 + MAX_IMPORTS + 1
    assert error_of(text + "import s\n") == (
        f"/etc/kdns/Corefile:{last}: more than {MAX_IMPORTS} imports"
    )


def test_imports_are_bounded_in_size() -> None:
    expected = f"/etc/kdns/Corefile:1: more than {MAX_TOKENS} words, imports included"
    assert error_of("import big", {"/etc/kdns/big": "a " * MAX_TOKENS}) == expected
