"""kdns compare A B: both servers are asked every name of the cluster, and what differs is shown."""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kdns.cluster.objects import Object, Resource
from kdns.commands import options as values
from kdns.commands.asking import Asker, AskingError, Pace, Place, ask_both, read_place
from kdns.commands.clusters import Found, add_source, read_cluster
from kdns.compare.comparison import KINDS, Compared, Kind, compare, lines_of, row, tally
from kdns.compare.questions import Question, questions
from kdns.compare.scene import Json

RATE = 500.0
CONCURRENCY = 16
MAX_QUESTIONS = 200_000
SHOWN = 50
"""Unexpected differences on the terminal; --json has all."""
_COLOURS: dict[Kind, str] = {"same": "green", "ttl": "green", "known": "cyan", "unexpected": "red"}
_MEANINGS: dict[Kind, str] = {
    "same": "the same answer",
    "ttl": "the same answer, other TTLs: a cache, or another ttl",
    "known": "the standard asks for what B says",
    "unexpected": "no text says why",
}

Asked = list[tuple[Question, bool]]


@dataclass(slots=True, frozen=True)
class Outcome:
    """Everything that was found. left: questions that the bound left out."""

    found: list[Compared]
    left: int


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    parser = commands.add_parser(
        "compare", help="ask two servers the names of a cluster, and show what differs"
    )
    parser.add_argument("first", metavar="A", help="CoreDNS: ADDRESS[:PORT]")
    parser.add_argument("second", metavar="B", help="kdns: ADDRESS[:PORT]")
    add_source(parser)
    parser.add_argument(
        "--zone", action="append", type=values.zone, metavar="ZONE",
        help="the cluster's; may stand several times (cluster.local)",
    )  # fmt: skip
    parser.add_argument(
        "--transport", choices=("udp", "tcp", "both"), default="both",
        help="over what to ask (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=values.rate, default=RATE, metavar="N",
        help="questions a second to each server (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--concurrency", type=values.count, default=CONCURRENCY, metavar="N",
        help="questions in flight to each server (%(default)d)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=values.count, default=MAX_QUESTIONS, metavar="N",
        help="questions at most (%(default)d)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="everything, for a machine")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 when nothing is unexpected, 1 when something is.

    Raises AskingError, ManifestError, CredentialsError, ReadingError.
    """
    places = read_place(options.first), read_place(options.second)
    zones = tuple(f"{zone}." for zone in options.zone or ("cluster.local",))
    found, outcome = asyncio.run(_compare(options, places, zones))
    for reason in found.left_out:
        print(f"kdns: left out: {reason}", file=sys.stderr)
    if options.json:
        sys.stdout.write(f"{_as_json(outcome)}\n")
    else:
        _show(Console(), options, outcome)
    return int(any(one.kind == "unexpected" for one in outcome.found))


async def _compare(
    options: argparse.Namespace, places: tuple[Place, Place], zones: tuple[str, ...]
) -> tuple[Found, Outcome]:
    for place in places:
        await _is_there(place, zones[0])
    cluster = await read_cluster(options, list(Resource))
    every = questions(cluster.objects, zones)
    asked = [(question, tcp) for question in every for tcp in _transports(options.transport)]
    left = max(0, len(asked) - options.limit)
    del asked[options.limit :]
    pace = Pace(options.rate, time.monotonic)
    found = await _ask(asked, places, pace, options.concurrency, cluster.objects, zones)
    # A cluster changes while it is asked: what is only between two states is gone the second time.
    doubtful = [index for index, one in enumerate(found) if one.kind == "unexpected"]
    if doubtful:
        again = [asked[index] for index in doubtful]
        rows = [row(question, tcp=tcp) for question, tcp in again]
        replies = await ask_both(
            places, rows, pace, random.SystemRandom(), concurrency=options.concurrency
        )
        latest = [(one.first, one.second) for one in found]
        for index, pair in zip(doubtful, replies, strict=True):
            latest[index] = pair
        found = compare(asked, latest, cluster.objects, zones)
    return cluster, Outcome(found, left)


async def _is_there(place: Place, zone: str) -> None:
    """Raises AskingError when nobody answers: better than to ask everything and be told nothing."""
    asker = Asker(place, random.SystemRandom())
    try:
        reply = await asker.ask({"name": zone, "type": "SOA"})
    finally:
        asker.close()
    if "error" in reply:
        raise AskingError(f"{place}: {reply['error']}; expected a DNS server there, over UDP")


def _transports(text: str) -> tuple[bool, ...]:
    return {"udp": (False,), "tcp": (True,), "both": (False, True)}[text]


async def _ask(
    asked: Asked,
    places: tuple[Place, Place],
    pace: Pace,
    concurrency: int,
    objects: list[Object],
    zones: tuple[str, ...],
) -> list[Compared]:
    rows = [row(question, tcp=tcp) for question, tcp in asked]
    console = Console(stderr=True)
    columns = (TextColumn("asking both"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("asking", total=len(rows))
        replies = await ask_both(
            places,
            rows,
            pace,
            random.SystemRandom(),
            concurrency=concurrency,
            told=lambda done: bar.update(task, completed=done),
        )
    return compare(asked, replies, objects, zones)


def _as_json(outcome: Outcome) -> str:
    body: Json = {
        "tally": tally(outcome.found),
        "left_out": outcome.left,
        "differences": [one.as_json() for one in outcome.found if one.kind != "same"],
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode()


def _show(console: Console, options: argparse.Namespace, outcome: Outcome) -> None:
    counted = tally(outcome.found)
    summary = Table(title=f"A {options.first}   B {options.second}", title_justify="left")
    summary.add_column("answers")
    summary.add_column("how many", justify="right")
    summary.add_column("what that means", style="dim")
    for kind in KINDS:
        colour = _COLOURS[kind] if counted[kind] else "dim"
        summary.add_row(f"[{colour}]{kind}[/]", str(counted[kind]), _MEANINGS[kind])
    console.print(summary)
    if outcome.left:
        console.print(f"{outcome.left} more questions were not asked: --limit {options.limit}")
    _show_known(console, outcome.found)
    _show_unexpected(console, outcome.found)


def _show_known(console: Console, found: Sequence[Compared]) -> None:
    texts: dict[str, list[Compared]] = {}
    for one in found:
        if one.kind == "known":
            texts.setdefault(one.why, []).append(one)
    if not texts:
        return
    table = Table(
        title="known: B follows the text; all are in docs/differences.md", title_justify="left"
    )
    table.add_column("text")
    table.add_column("answers", justify="right")
    table.add_column("such as", style="cyan", overflow="fold")
    for text, ones in sorted(texts.items(), key=lambda item: -len(item[1])):
        example = ones[0].question
        table.add_row(text, str(len(ones)), f"{example.name} {example.type}")
    console.print(table)


def _show_unexpected(console: Console, found: Sequence[Compared]) -> None:
    ones = [one for one in found if one.kind == "unexpected"]
    if not ones:
        return
    alike: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for one in ones:
        asked = f"{one.question.name} {one.question.type}"
        sides = tuple(lines_of(one.first)), tuple(lines_of(one.second))
        transports = alike.setdefault((asked, one.question.about, *sides), [])
        transports.append("TCP" if one.tcp else "UDP")
    console.print("unexpected", style="italic red")
    for (asked, about, first, second), transports in list(alike.items())[:SHOWN]:
        over = " and ".join(transports)
        console.print(Text.assemble((asked, "bold"), f", over {over}: {about}"))
        lines = Table.grid(padding=(0, 1))
        for line in first:
            if line in second:
                lines.add_row("   ", Text(line, "dim"))
        for side, own, other, colour in (
            ("A", first, second, "red"),
            ("B", second, first, "green"),
        ):
            for line in own:
                if line not in other:
                    lines.add_row(f"  {side}", Text(line, colour))
        console.print(lines)
    if len(alike) > SHOWN:
        console.print(f"and {len(alike) - SHOWN} more: --json has all of them")
