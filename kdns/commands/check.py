"""kdns check: what a Corefile means, block by block; or what would change in a cluster."""

import argparse
import asyncio
import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kdns.commands.clusters import add_connection, connect
from kdns.commands.options import port
from kdns.commands.surveying import survey
from kdns.kube.reading import Reader
from kdns.migration.findings import WEIGHTS, Report, Weight, report
from kdns.migration.survey import Survey
from kdns.net.certificates import FileCertificates
from kdns.plan import Plan, make_plan, read_corefile
from kdns.plugins.tls import Tls

_COLOURS: dict[Weight, str] = {
    "keeps": "green",
    "changes": "cyan",
    "look": "yellow",
    "stops": "red",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    parser = commands.add_parser(
        "check", help="read a Corefile and say what it means, or what would change in a cluster"
    )
    parser.add_argument("corefile", metavar="COREFILE", nargs="?", help="the file to read")
    parser.add_argument(
        "--from-cluster",
        action="store_true",
        help="read the cluster's own ConfigMap, Service, Deployment and rights instead",
    )
    add_connection(parser)
    parser.add_argument("-n", "--namespace", default="kube-system", help="of its DNS (%(default)s)")
    parser.add_argument(
        "-dns.port", "--dns.port", "-p", "--port", dest="port", type=port, default=53,
        metavar="PORT", help="the port of zones that name none (%(default)d)",
    )  # fmt: skip
    parser.add_argument("--lenient", action="store_true", help="leave unknown directives out")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Explain; 1 when the Corefile cannot be served, or something of the cluster stops kdns.

    Raises CorefileError, CredentialsError, ReadingError.
    """
    if options.from_cluster == (options.corefile is not None):
        options.parser.error("expected a COREFILE, or --from-cluster")
    if options.from_cluster:
        found = report(asyncio.run(_survey(options)), dict(os.environ))
        show_report(Console(), found)
        return int(found.stops)
    text, file = read_corefile(options.corefile), options.corefile
    plan = make_plan(text, file, environ=os.environ, port=options.port, lenient=options.lenient)
    examine(plan)
    show(Console(), plan)
    return 0


async def _survey(options: argparse.Namespace) -> Survey:
    async with Reader(await connect(options)) as reader:
        return await survey(reader, options.namespace)


def show_report(console: Console, found: Report) -> None:
    """A table on a terminal; a line for each finding, parted by tabs, elsewhere."""
    if not console.is_terminal:
        for one in found.findings:
            print("\t".join((one.weight, one.part, _flat(one.there), _flat(one.then))))
        return
    table = Table(title=f"what kdns makes of this cluster ({found.flavour})", title_justify="left")
    for header in ("", "of", "there is", "with kdns"):
        table.add_column(header, overflow="fold")
    part = ""
    for one in found.findings:
        if one.part != part:
            table.add_section()
        mark = f"[{_COLOURS[one.weight]}]{one.weight}[/]"
        shown = escape(one.part) if one.part != part else ""
        table.add_row(mark, shown, escape(one.there), escape(one.then))
        part = one.part
    console.print(table)
    counts = {weight: sum(one.weight == weight for one in found.findings) for weight in WEIGHTS}
    console.print(", ".join(f"{count} {weight}" for weight, count in counts.items()))
    if found.stops:
        console.print("[red]mend what stops it first[/]")


def _flat(text: str) -> str:
    return " ".join(text.split())


def examine(plan: Plan) -> None:
    """Whether certificates can be used that blocks have. Raises CorefileError."""
    for block in plan.blocks:
        for known in block.directives:
            if isinstance(known.settings, Tls):
                known.settings.load(FileCertificates)


def show(console: Console, plan: Plan) -> None:
    """A table for each block, and the warnings."""
    for block in plan.blocks:
        hosts = ", ".join(host or "every address" for host in block.hosts)
        spoken = "" if block.transport == "dns" else f"{block.transport}, "
        table = Table(
            title=f"{' '.join(block.zones)}\n{spoken}port {block.port} on {hosts}",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("directive", style="cyan", no_wrap=True)
        table.add_column("what it does", overflow="fold")
        table.add_column("where", style="dim", no_wrap=True)
        for known in block.directives:
            place = f"{Path(known.directive.file).name}:{known.directive.line}"
            table.add_row(known.directive.name, escape(known.settings.explain()), place)
        console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
