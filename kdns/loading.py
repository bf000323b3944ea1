"""The Corefile that a command line asks for, at the start and at any later time."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from kdns.corefile.errors import CorefileError
from kdns.plan import DEFAULT_COREFILE, Plan, make_plan, read_corefile

STDIN: Final = "stdin"
DEFAULT: Final = "default"


def load(options: argparse.Namespace) -> Plan:
    """What the command line names, or ./Corefile, or what CoreDNS serves without one.

    Raises CorefileError.
    """
    if options.conf == STDIN:
        text, file = sys.stdin.read(), STDIN
    elif options.conf is None and not Path("Corefile").exists():
        text, file = DEFAULT_COREFILE.format(port=options.port), DEFAULT
    else:
        file = options.conf or "Corefile"
        text = read_corefile(file)
    plan = make_plan(text, file, environ=os.environ, port=options.port, lenient=options.lenient)
    if file == DEFAULT:
        plan.warnings.append(
            "there is no file Corefile here, and -conf names none: serving what CoreDNS serves "
            "then, whoami, which tells each client its own address"
        )
    return plan


def load_again(options: argparse.Namespace) -> Plan:
    """The same at a later time. Raises CorefileError."""
    if options.conf == STDIN:
        raise CorefileError("standard input cannot be read twice; expected a file", STDIN, 1)
    return load(options)
