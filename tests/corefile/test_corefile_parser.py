"""How tokens become server blocks: keys, directives, nested blocks, and the errors of each."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, ServerBlock
from kdns.corefile.parser import MAX_NESTING, parse
from tests.corefiles import HELM, KUBEADM

Files = dict[str, str]
Line = tuple[str, list[str], "list[Line] | None"]


def read_corefile(
    text: str, files: Files | None = None, file: str = "Corefile", **environ: str
) -> list[ServerBlock]:
    """Parse with a folder of files that exists only as a dictionary."""

    def read(pattern: str) -> list[tuple[str, str]]:
        known = sorted((files or {}).items())
        return [(name, body) for name, body in known if fnmatchcase(name, pattern)]

    return parse(text, file, environ=environ, read=read)


def outline(directives: tuple[Directive, ...] | None) -> list[Line] | None:
    if directives is None:
        return None
    return [(d.name, [arg.text for arg in d.args], outline(d.block)) for d in directives]


def keys(blocks: list[ServerBlock]) -> list[list[str]]:
    return [[key.text for key in block.keys] for block in blocks]


def names(block: ServerBlock) -> list[str]:
    return [directive.name for directive in block.directives]


# Corefiles of the world.


def test_the_corefile_of_kubeadm() -> None:
    (block,) = read_corefile(KUBEADM)
    assert [key.text for key in block.keys] == [".:53"]
    assert outline(block.directives) == [
        ("errors", [], None),
        ("health", [], [("lameduck", ["5s"], None)]),
        ("ready", [], None),
        (
            "kubernetes",
            ["cluster.local", "in-addr.arpa", "ip6.arpa"],
            [
                ("pods", ["insecure"], None),
                ("fallthrough", ["in-addr.arpa", "ip6.arpa"], None),
                ("ttl", ["30"], None),
            ],
        ),
        ("prometheus", [":9153"], None),
        ("forward", [".", "/etc/resolv.conf"], [("max_concurrent", ["1000"], None)]),
        (
            "cache",
            ["30"],
            [
                ("disable", ["success", "cluster.local"], None),
                ("disable", ["denial", "cluster.local"], None),
            ],
        ),
        ("loop", [], None),
        ("reload", [], None),
        ("loadbalance", [], None),
    ]


def test_the_corefile_of_the_helm_chart() -> None:
    (block,) = read_corefile(HELM)
    assert [str(directive.place) for directive in block.directives][:3] == [
        "Corefile:2",
        "Corefile:3",
        "Corefile:6",
    ]
    assert outline(block.directives[3:5]) == [
        (
            "kubernetes",
            ["cluster.local", "cluster.local", "in-addr.arpa", "ip6.arpa"],
            [
                ("pods", ["insecure"], None),
                ("fallthrough", ["in-addr.arpa", "ip6.arpa"], None),
                ("ttl", ["30"], None),
            ],
        ),
        ("prometheus", ["0.0.0.0:9153"], None),
    ]


AKS = """\
.:53 {
    errors
    import /etc/coredns/custom/*.override
    forward . /etc/resolv.conf
}
import /etc/coredns/custom/*.server
"""


def test_overrides_and_servers_of_a_managed_cluster() -> None:
    """Globs put directives into the block and further blocks behind it, in the files' order."""
    files = {
        "/etc/coredns/custom/a.override": "log\n",
        "/etc/coredns/custom/b.override": "hosts {\n  10.0.0.1 a.org\n  fallthrough\n}",
        "/etc/coredns/custom/corp.server": "corp.local:53 {\n  forward . 10.1.1.1\n}\n",
        "/etc/coredns/custom/lab.server": "lab.local:53 {\n  forward . 10.1.1.2\n}\n",
    }
    blocks = read_corefile(AKS, files, file="/etc/coredns/Corefile")
    assert keys(blocks) == [[".:53"], ["corp.local:53"], ["lab.local:53"]]
    assert names(blocks[0]) == ["errors", "log", "hosts", "forward"]
    assert str(blocks[2].directives[0].place) == "/etc/coredns/custom/lab.server:2"
    assert str(blocks[2].place) == "/etc/coredns/custom/lab.server:1"


def test_globs_that_match_nothing_are_as_if_they_were_not_there() -> None:
    (block,) = read_corefile(AKS)
    assert names(block) == ["errors", "forward"]


# Keys.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nothing\n\n", []),
        ("a.org", [["a.org"]]),
        ("a.org b.org {\n}", [["a.org", "b.org"]]),
        ("a.org, b.org {\n}", [["a.org", "b.org"]]),
        ("a.org,b.org , c.org {\n}", [["a.org", "b.org", "c.org"]]),
        ("a.org,\nb.org,\n\nc.org {\n}", [["a.org", "b.org", "c.org"]]),
        ("a.org\n{\n}", [["a.org"]]),
        ("a.org { }\nb.org {\n}", [["a.org"], ["b.org"]]),
        ("a.org {\n} b.org {\n}", [["a.org"], ["b.org"]]),
        ('"a,b" {\n}', [["a,b"]]),
        ('"" a.org {\n}', [["a.org"]]),
        ("a.org, {$NOT_SET}\nb.org {\n}", [["a.org", "b.org"]]),
        ("{$ZONE}:{$PORT} {\n}", [["example.org:5353"]]),
        ("{$ZONES} {\n}", [["x.org", "y.org"]]),
    ],
)
def test_keys_are_separated_by_commas_and_spaces(text: str, expected: list[list[str]]) -> None:
    blocks = read_corefile(text, ZONE="example.org", PORT="5353", ZONES="x.org,y.org")
    assert keys(blocks) == expected


def test_without_braces_the_rest_of_the_file_is_the_block() -> None:
    (block,) = read_corefile("a.org b.org\nlog\nhealth {\n lameduck 5s\n}\nerrors\n")
    assert names(block) == ["log", "health", "errors"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{\n}", 1, "expected a zone, got '{'"),
        ("a.org {\n}\n{\n}", 3, "expected a zone, got '{'"),
        ("a.org, {\n}", 1, "expected another zone after the comma, got '{'"),
        ("a.org,\n\n", 1, "expected another zone after the comma, got the end of the file"),
        (", {\n}", 1, "expected a zone, got '{'"),
        ("\n{$NOT_SET} {\n}", 2, "expected a zone, got an empty word"),
        ('"" {\n}', 1, "expected a zone, got an empty word"),
        ("a.org {\n}\n}", 3, "unexpected '}': no block is open here"),
        (".:53{\n}", 1, "expected a space before '{' in '.:53{'"),
        (".:53 {}\n", 1, "expected a space before '{' in '{}'"),
    ],
)
def test_what_is_wrong_with_keys(text: str, line: int, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        read_corefile(text)
    assert str(caught.value) == f"Corefile:{line}: {message}"


# Directives and their blocks.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log", [("log", [], None)]),
        ("forward . 8.8.8.8 8.8.4.4", [("forward", [".", "8.8.8.8", "8.8.4.4"], None)]),
        ('log "two\nlines" after', [("log", ["two\nlines", "after"], None)]),
        ("health {\n}", [("health", [], [])]),
        ("a x {\n b {\n  c y\n }\n d\n}", [
            ("a", ["x"], [("b", [], [("c", ["y"], None)]), ("d", [], None)]),
        ]),
        ("health { lameduck 5s }", [("health", [], [("lameduck", ["5s"], None)])]),
        ("health { lameduck 5s\n}", [("health", [], [("lameduck", ["5s"], None)])]),
        ('log "{" "}" import', [("log", ["{", "}", "import"], None)]),
        ('"import" x', [("import", ["x"], None)]),
        ('template {\n "{" x\n}', [("template", [], [("{", ["x"], None)])]),
        ("{$NAME} {$VALUE} {$NOT_SET}", [("cache", ["30 s", ""], None)]),
        ("log {combined}", [("log", ["{combined}"], None)]),
    ],
)  # fmt: skip
def test_a_line_is_a_directive_and_braces_hold_its_lines(text: str, expected: list[Line]) -> None:
    for corefile in (f". {{\n{text}\n}}", f".\n{text}", f". {{ {text} }}"):
        (block,) = read_corefile(corefile, NAME="cache", VALUE="30 s")
        assert outline(block.directives) == expected


def test_an_argument_keeps_its_place_and_its_quotes_through_the_environment() -> None:
    (block,) = read_corefile('.\nlog "{$A}" {$A}', A="a b")
    quoted, bare = block.directives[0].args
    assert (quoted.text, quoted.quoted, str(quoted.place)) == ("a b", True, "Corefile:2")
    assert (bare.text, bare.quoted) == ("a b", False)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (". {\n log\n", 1, "this block is never closed: expected '}'"),
        (". {\n health {\n log\n}\n", 1, "this block is never closed: expected '}'"),
        (".\nlog\nhealth {\n", 3, "this block is never closed: expected '}'"),
        (".\nlog\n}", 3, "unexpected '}': no block is open here"),
        (".\nlog {\n} }", 3, "unexpected '}': no block is open here"),
        (".\nlog {\n} x", 3, "expected the end of the line after '}', got 'x'"),
        (
            ". {\n health\n {\n }\n}",
            3,
            "unexpected '{': it must end the line of the directive that it belongs to",
        ),
        (". {\n health{\n }\n}", 2, "expected a space before '{' in 'health{'"),
        (". {\n {$NOT_SET} x\n}", 2, "expected a directive, got an empty word"),
        ('. {\n ""\n}', 2, "expected a directive, got an empty word"),
        (".\n" + "a {\n" * 80, MAX_NESTING + 1, f"blocks nested deeper than {MAX_NESTING}"),
    ],
)
def test_what_is_wrong_with_directives(text: str, line: int, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        read_corefile(text)
    assert str(caught.value) == f"Corefile:{line}: {message}"


# Any text.

BRACES = ("{", "}", "{}", "x{", "{$A}", "{%A%}")
MARKS = ('"', '""', "#", "\\", ",", "\n", "\n\n", "\r\n", " ", "\ufeff", "\x00")
WORDS = ("import", "(s)", "s", "f", "f*", ".", "a.org,", "log", "ß")
PIECES = st.sampled_from(BRACES + MARKS + WORDS)
TEXTS = st.one_of(
    st.text(), st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES).map(" ".join)
)


@settings(deadline=None, max_examples=400)
@given(text=TEXTS, imported=TEXTS, value=TEXTS)
def test_any_text_gives_blocks_or_an_error_that_names_a_line_within_it(
    text: str, imported: str, value: str
) -> None:
    files = {"f": imported}
    blocks, failure = read_or_fail(text, files, value)
    assert all(block.keys for block in blocks)
    if failure is not None:
        source = {"Corefile": text, **files}[failure.file]
        assert 1 <= failure.line <= source.count("\n") + 1


def read_or_fail(
    text: str, files: Files, value: str
) -> tuple[list[ServerBlock], CorefileError | None]:
    try:
        return read_corefile(text, files, A=value), None
    except CorefileError as error:
        return [], error
