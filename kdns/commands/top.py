"""kdns top: shows who asks a server what."""

import argparse

from kdns.admin import topview
from kdns.plugins.top import DEFAULT_ADDRESS
from kdns.telemetry.top import SIZE


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    asked = commands.add_parser("top", help="show who asks a server what")
    asked.add_argument(
        "url", metavar="URL", nargs="?", default=DEFAULT_ADDRESS,
        help="what the directive `top` listens on (%(default)s)",
    )  # fmt: skip
    asked.add_argument("--once", action="store_true", help="show it once, and end")
    asked.add_argument(
        "-n", "--number", type=_number, default=10, metavar="N", help="how many of each (10)"
    )
    asked.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show it; the exit status. Raises TopError."""
    url = topview.address(options.url, options.number)
    return topview.show(url, once=options.once)


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= SIZE:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {SIZE}, got {text!r}")
    return int(text)
