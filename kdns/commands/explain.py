"""kdns explain NAME: why a name resolves, or does not, and what to do about it."""

import argparse
import asyncio
import os
import sys

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from kdns.cluster import objects
from kdns.cluster.objects import Resource
from kdns.commands import options as values
from kdns.commands.clusters import Found, add_source, read_cluster
from kdns.explain.explanation import Ending, Explainer, Explanation, Tried, address_of
from kdns.explain.search import NDOTS, candidates, search_list
from kdns.plan import Plan, make_plan, read_corefile
from kdns.plugins.kubernetes import Kubernetes
from kdns.plugins.rereading import read_octets
from kdns.wire import iana, name
from kdns.wire.errors import BadName

COREFILE = """.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . /etc/resolv.conf
}
"""
"""What kubeadm's says of names, for when no Corefile is named."""
NAMESPACE = "default"
"""Of the pod that asks where nobody says which; kubectl's too."""
_AS_WHOM = (
    f"as a pod of the namespace {NAMESPACE} asks; --from NAMESPACE[/POD] for another, and a dot at "
    "the end for this name alone"
)
OPEN = 3
_COLOURS = {Ending.ANSWER: "green", Ending.UPSTREAM: "yellow"}


class ExplainError(Exception):
    """A question that cannot be explained: one line, with what was expected."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    parser = commands.add_parser("explain", help="say why a name resolves, or does not")
    parser.add_argument("name", metavar="NAME", help="a name, or an address for its PTR")
    parser.add_argument(
        "type",
        metavar="TYPE",
        nargs="?",
        default="",
        help="of records (A; PTR or SRV by the form of the name)",
    )
    parser.add_argument(
        "--from", dest="place", metavar="NAMESPACE[/POD]", default="",
        help="who asks (a pod of the namespace default); or a search list, with commas",
    )  # fmt: skip
    parser.add_argument(
        "--ndots",
        type=values.count,
        default=NDOTS,
        metavar="N",
        help="of its resolver (%(default)d)",
    )
    parser.add_argument(
        "-conf", "--conf", metavar="FILE", help="the Corefile (what kubeadm's says)"
    )
    parser.add_argument(
        "--zone", type=values.zone, default="", help="of search lists (the Corefile's)"
    )
    parser.add_argument("--lenient", action="store_true", help="leave unknown directives out")
    parser.add_argument("--json", action="store_true", help="for a machine")
    add_source(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 when the name is answered, 1 when it is not, OPEN when an upstream has the last word.

    Raises ExplainError, CorefileError, ManifestError, CredentialsError, ReadingError.
    """
    text = address_of(options.name)
    rtype = _type(options.type, text)
    _check(text, "NAME")
    plan = _plan(options)
    cluster = asyncio.run(read_cluster(options, list(Resource)))
    for reason in cluster.left_out:
        print(f"kdns: left out: {reason}", file=sys.stderr)
    zone = options.zone or _zone(plan)
    search = _search(options.place, zone, cluster)
    explainer = Explainer(plan, cluster.objects, read_octets)
    explanation = explainer.explain(candidates(text, search, options.ndots), rtype)
    if options.json:
        sys.stdout.write(
            msgspec.json.format(msgspec.json.encode(_json(explanation, search)), indent=2).decode()
        )
        sys.stdout.write("\n")
    else:
        console = Console()
        _show(console, explanation, f"{text}." if f".{text}".endswith(f".{zone}") else "")
        if not options.place and not text.endswith("."):
            console.print(_AS_WHOM, style="dim", markup=False)
    endings = {tried.ending for tried in explanation.tried}
    if Ending.ANSWER in endings:
        return 0
    return OPEN if Ending.UPSTREAM in endings else 1


def _check(text: str, where: str) -> None:
    """Raises ExplainError for what is no name; `where` it was given."""
    try:
        name.from_text(text)
    except BadName as error:
        raise ExplainError(f"{where}: expected a name, got {text!r}: {error}") from error
    if not text:
        raise ExplainError(f"{where}: expected a name, got nothing")


def _type(given: str, text: str) -> str:
    if given:
        if given.upper() not in iana.TYPE_NAMES.values():
            raise ExplainError(f"{given!r} is no type: expected A, AAAA, SRV, PTR, ...")
        return given.upper()
    if text.endswith(".arpa."):
        return "PTR"
    return "SRV" if text.startswith("_") else "A"


def _plan(options: argparse.Namespace) -> Plan:
    if options.conf is None:
        return make_plan(COREFILE, "kubeadm's Corefile", environ=os.environ)
    return make_plan(
        read_corefile(options.conf), options.conf, environ=os.environ, lenient=options.lenient
    )


def _search(place: str, zone: str, cluster: Found) -> tuple[str, ...]:
    """The search list of who asks. Raises ExplainError."""
    if "," in place or "." in place:
        search = tuple(part.strip() for part in place.split(",") if part.strip())
        for suffix in search:
            _check(suffix, "--from")
        return search
    namespace, _, pod = place.partition("/")
    if not place:
        # What nobody says of a pod is so of every pod: it has some search list.
        return search_list(NAMESPACE, zone)
    spaces = {o.metadata.name for o in cluster.objects if isinstance(o, objects.Namespace)}
    if namespace not in spaces:
        raise ExplainError(f"--from {place}: there is no namespace {namespace!r}")
    pods = {
        (o.metadata.namespace, o.metadata.name)
        for o in cluster.objects
        if isinstance(o, objects.Pod)
    }
    if pod and (namespace, pod) not in pods:
        raise ExplainError(f"--from {place}: the namespace has no pod {pod!r}")
    return search_list(namespace, zone)


def _zone(plan: Plan) -> str:
    """The zone that pods search: the first that a kubernetes directive has for names."""
    found = (known.settings for block in plan.blocks for known in block.directives)
    zones = [one.primary for one in found if isinstance(one, Kubernetes)]
    return zones[0].rstrip(".") if zones else "cluster.local"


def _json(explanation: Explanation, search: tuple[str, ...]) -> object:
    return {
        "type": explanation.type,
        "search": search,
        "answered": explanation.answer is not None,
        "tried": [
            {
                "name": one.name,
                "asked_as": one.asked,
                "why": one.why,
                "ending": one.ending.name.lower(),
                "block": one.block,
                "directive": one.directive,
                "records": one.records,
                "rests_on": one.reasons.rests_on,
                "missing": one.reasons.missing,
                "next": one.reasons.next,
                "not_followed": one.open,
                "notes": one.notes,
            }
            for one in explanation.tried
        ],
        "left": [candidate.name for candidate in explanation.left],
    }


def _show(console: Console, explanation: Explanation, whole: str) -> None:
    """whole: the name as it was given, where it is one of the cluster's: the one that is meant."""
    blocks = {one.block for one in explanation.tried}
    title = f"{explanation.type}, in the order of the resolver"
    if len(blocks) == 1 and blocks != {""}:
        # Said once, so that there is room for the names.
        title += f", by the block {escape(blocks.pop())}"
    table = Table(title=title, title_justify="left")
    names = [one.name for one in explanation.tried] + [one.name for one in explanation.left]
    fits = max(map(len, names)) <= console.width // 2
    table.add_column("asked for", overflow="fold", no_wrap=fits)
    for header in ("because", "by", "ends"):
        table.add_column(header, overflow="fold")
    for one in explanation.tried:
        colour = _COLOURS.get(one.ending, "red")
        by = one.directive or "-"
        if one.block in blocks and one.block:
            by += f" in {one.block}"
        table.add_row(
            escape(one.name), _because(one.why), escape(by), f"[{colour}]{one.ending.value}[/]"
        )
    for candidate in explanation.left:
        table.add_row(
            escape(candidate.name), _because(candidate.why), "", "[dim]not asked any more[/]"
        )
    console.print(table)
    answer = explanation.answer
    meant = [one for one in explanation.tried if one.name == whole] or explanation.tried
    # Where a name is alike, that is mostly the one that was meant.
    for one in [answer] if answer else sorted(meant, key=lambda one: not _suggests(one)):
        _show_one(console, one)


def _suggests(tried: Tried) -> bool:
    return any(then.startswith("did you mean") for then in tried.reasons.next)


def _because(why: str) -> str:
    """The name shows already what of the search list it ends in."""
    return "search list" if why.startswith("search ") else escape(why)


def _show_one(console: Console, tried: Tried) -> None:
    colour = _COLOURS.get(tried.ending, "red")
    tree = Tree(f"[{colour}]{escape(tried.name)}[/]: {tried.ending.value}", highlight=False)
    parts = (
        ("answer", tried.records, "green"),
        ("rests on", tried.reasons.rests_on, "cyan"),
        ("missing", tried.reasons.missing, "red"),
        ("next", tried.reasons.next, "yellow"),
        ("may answer otherwise, and is not followed here", tried.open, "magenta"),
        ("note", tried.notes, "dim"),
    )
    for title, lines, style in parts:
        if lines:
            branch = tree.add(f"[bold]{title}[/]")
            for line in dict.fromkeys(lines):
                branch.add(f"[{style}]{escape(line)}[/]")
    console.print(tree)
