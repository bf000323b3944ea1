"""kdns check: what a Corefile means, block by block."""

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdns.commands.options import port
from kdns.plan import Plan, make_plan, read_corefile


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    parser = commands.add_parser("check", help="read a Corefile and say what it means")
    parser.add_argument("corefile", metavar="COREFILE")
    parser.add_argument("-dns.port", "-p", "--port", dest="port", type=port, default=53)
    parser.add_argument("--lenient", action="store_true")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Explain a Corefile. Raises CorefileError, with the place, for one that cannot be served."""
    text, file = read_corefile(options.corefile), options.corefile
    plan = make_plan(text, file, environ=os.environ, port=options.port, lenient=options.lenient)
    show(Console(), plan)
    return 0


def show(console: Console, plan: Plan) -> None:
    """A table for each block, and the warnings."""
    for block in plan.blocks:
        hosts = ", ".join(host or "every address" for host in block.hosts)
        table = Table(
            title=f"{' '.join(block.zones)}\nport {block.port} on {hosts}",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("directive", style="cyan", no_wrap=True)
        table.add_column("what it does")
        table.add_column("where", style="dim", no_wrap=True)
        for known in block.directives:
            place = f"{Path(known.directive.file).name}:{known.directive.line}"
            table.add_row(known.directive.name, known.settings.explain(), place)
        console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)
