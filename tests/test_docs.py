"""The pages and the program say the same: links, options, directives and metrics are all there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdns.cli import main
from kdns.corefile.errors import CorefileError
from kdns.plan import make_plan
from kdns.plugins.table import BUILT_IN

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").glob("*.md")])
TOLD = "\n".join(page.read_text() for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"```.*?^```|`[^`\n]+`|^    \S.*$", re.DOTALL | re.MULTILINE)
SHOWN = "\n".join(CODE.findall(TOLD))
"""Only what stands as code: a word of a sentence documents no option."""
METRIC = re.compile(r"\b(?:coredns|kdns)_[a-z_]+[a-z]")
NEEDED = {
    "forward": " . 127.0.0.1",
    "dnstap": " /run/tap.sock",
    "bind": " 127.0.0.1",
    "template": " IN A",
    "rewrite": " name a b",
}
"""What must stand after a directive before its options are looked at."""
BEFORE = {"hosts": "fallthrough"}
"""What must stand in its block before what is no option is known to be none."""
NO_OPTION = "no-option-at-all"


def anchors(page: Path) -> Iterator[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for path, anchor in LINK.findall(page.read_text()):
        there = (page.parent / path) if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(f"{path}#{anchor}")
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            links = LINK.findall(page.read_text())
            waiting += [(page.parent / path).resolve() for path, _ in links if path]
    assert set(DOCS.rglob("*.md")) - reached == set()


def test_every_directive_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)", (DOCS / "corefile.md").read_text(), flags=re.MULTILINE)
    table = rows[-len(BUILT_IN) :]
    assert table == [plugin.name for plugin in BUILT_IN]


def test_the_readme_names_every_directive() -> None:
    (named,) = re.findall(r"^\| directives \| `([^`]+)`", TOLD, flags=re.MULTILINE)
    assert named.split() == sorted(plugin.name for plugin in BUILT_IN)


def options_of(directive: str) -> list[str]:
    """The options of a directive's block, from the error about one that is none."""
    lines = f"{BEFORE.get(directive, '')}\n{NO_OPTION}"
    text = f". {{\n{directive}{NEEDED.get(directive, '')} {{\n{lines}\n}}\n}}\n"
    try:
        make_plan(text, "Corefile", environ={})
    except CorefileError as error:
        _, _, expected = str(error).partition("expected ")
        return expected.split(", ") if NO_OPTION in str(error) else []
    raise AssertionError(f"{directive} takes any option")


@pytest.mark.parametrize("directive", [plugin.name for plugin in BUILT_IN])
def test_every_option_of_a_directive_is_told(directive: str) -> None:
    told = [re.search(rf"\b{re.escape(option)}\b", SHOWN) for option in options_of(directive)]
    assert None not in told, options_of(directive)


def test_options_are_found() -> None:
    assert {"pods", "ttl", "fallthrough"} <= set(options_of("kubernetes"))
    assert options_of("health") == ["lameduck"]


def options_in_help(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = re.findall(r"^  (-.*?)(?:  |$)", capsys.readouterr().out, flags=re.MULTILINE)
    return {one for line in listed for one in re.findall(r"(?<!\S)--?[a-z][\w.-]*", line)}


COMMANDS = ("serve", "check", "compare", "explain", "top")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_told(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_in_help(command, capsys) - {"-h", "--help"}
    # Spellings of one option need not all be told: --conf is -conf with another dash.
    told = {option for option in options if re.search(rf"(?<![\w-]){option}(?![\w-])", SHOWN)}
    untold = {option.lstrip("-") for option in options - told}
    assert untold <= {option.lstrip("-") for option in told} | {"n", "number", "namespace"}


def test_every_option_that_is_told_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    there = set().union(*(options_in_help(command, capsys) for command in COMMANDS))
    shown = re.findall(rf"^\s*kdns (?:{'|'.join(COMMANDS)}) .*$", SHOWN, flags=re.MULTILINE)
    told = {one for line in shown for one in re.findall(r"(?<!\S)--[a-z][\w-]*", line)}
    assert told
    assert told - there == set()


def metrics_of_the_program() -> set[str]:
    """Names of metrics as the sources have them: whole, but for `_total`, or their beginnings."""
    sources = "\n".join(path.read_text() for path in (ROOT / "kdns").rglob("*.py"))
    return set(re.findall(r'"((?:coredns|kdns)_[a-z_]+)"', sources))


def test_every_metric_is_told() -> None:
    told = METRIC.findall((DOCS / "metrics.md").read_text())
    untold = [one for one in metrics_of_the_program() if not any(t.startswith(one) for t in told)]
    assert untold == []


def test_every_metric_that_is_told_is_there() -> None:
    there = metrics_of_the_program()
    told = {re.sub(r"_(total|bucket|count|sum)$", "", one) for one in METRIC.findall(TOLD)}
    assert [one for one in told if not any(one.startswith(t) for t in there)] == []
