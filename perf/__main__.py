"""`python -m perf`: what kdns costs, beside its peers.

python -m perf                    everything, in about forty minutes
python -m perf --quick            the commonest questions, in less than three minutes
python -m perf compare OLD NEW    two records, by ratios to a peer; status 1 if kdns became worse
python -m perf workers            whether two workers answer twice what one does
python -m perf overload           kdns on part of a core, asked for too much; status 1 if not well
python -m perf faults [NAME...]   answers while the API server misbehaves; status 1 if not well
python -m perf sync               memory and CPU of a large cluster; status 1 if it takes too much
python -m perf churn              answers while endpoints change; status 1 if late, wrong or slow
python -m perf restarts           20 new processes in a row, and not one question lost
python -m perf reloads            20 new Corefiles in a row, the same
python -m perf dead               cluster names while all upstreams are dead; status 1 if not well
python -m perf idle-tcp           what 10,000 idle connections cost those who ask over UDP
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar, cast, get_args

from kdns import missing

try:
    from rich.console import Console

    from perf import changes, churn, compare, dead, fault_run, idle_tcp, overload, scale, sync
    from perf.model import Transport
    from perf.plan import SUBJECTS, Settings, full, quick
    from perf.record import RecordError, save
    from perf.report import render
    from perf.run import Session
    from perf.server import NotServing
    from perf.subjects import all_subjects
    from perf.view import View
    from perf.workloads import SPECS
except ModuleNotFoundError as error:
    sys.exit(missing.words("perf", error))

_INTERRUPTED = 130
T = TypeVar("T", overload.Terms, idle_tcp.Terms, dead.Terms, sync.Terms, churn.Terms, changes.Terms)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit status."""
    args = _parser().parse_args(argv)
    console = Console()
    try:
        if args.command == "compare":
            return compare.main(args.old, args.new, console)
        if args.command == "overload":
            return _tidily(
                lambda: overload.main(_given(overload.Terms(), args), args.json, console)
            )
        if args.command == "workers":
            with tempfile.TemporaryDirectory(prefix="kdns-workers-") as folder:
                return scale.main(args, Path(folder), console)
        if args.command == "faults":
            with tempfile.TemporaryDirectory(prefix="kdns-faults-") as folder:
                return fault_run.main(args.names, args.json, args.html, Path(folder), console)
        if args.command in changes.KINDS:
            return changes.main(args.command, _given(changes.Terms(), args), console)
        if args.command == "idle-tcp":
            return _tidily(lambda: idle_tcp.main(_given(idle_tcp.Terms(), args), console))
        if args.command == "dead":
            return _tidily(lambda: dead.main(_given(dead.Terms(), args), console))
        if args.command == "sync":
            return sync.main(_given(sync.Terms(), args), args.json, args.html, console)
        if args.command == "churn":
            return churn.main(_given(churn.Terms(), args), args.json, args.html, console)
        return _measure(args, console)
    except RecordError as error:
        Console(stderr=True).print(str(error), markup=False, style="red")
        return 2


def settings_of(args: argparse.Namespace) -> Settings:
    """What the command line says, over what `--quick` or its absence says."""
    made = quick() if args.quick else full()
    if args.workload:
        made = dataclasses.replace(made, workloads=tuple(args.workload))
    if args.subject:
        made = dataclasses.replace(made, subjects=tuple(args.subject))
    if args.transport:
        made = dataclasses.replace(made, transports=(cast("Transport", args.transport),))
    if args.workload or args.subject or args.transport:
        made = dataclasses.replace(made, focused=False, second_opinion=False)
    if args.rate is not None:
        made = dataclasses.replace(made, rate=args.rate, sweep=())
    given = {n: getattr(args, n) for n in ("seconds", "repeat", "seed", "cpu_share")}
    return dataclasses.replace(made, **{n: v for n, v in given.items() if v is not None})


def _measure(args: argparse.Namespace, console: Console) -> int:
    settings = settings_of(args)
    subjects = [s for s in all_subjects(args.coredns) if s.name in settings.subjects]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    status = 0
    with tempfile.TemporaryDirectory(prefix="kdns-perf-") as folder:
        with View(console) as view:
            session = Session(settings, subjects, view, Path(folder), args.flame)
            try:
                session.run()
            except KeyboardInterrupt:
                view.note("interrupted: what was measured is kept")
                status = _INTERRUPTED
            except NotServing as error:
                view.note(str(error))
                status = 1
        record = session.record()
    if args.json is not None:
        save(record, args.json)
    if args.html is not None:
        args.html.write_text(render(record), encoding="utf-8")
    return status if record.runs or status else 1


def _tidily(run: Callable[[], int]) -> int:
    """Run it; who is told to end leaves no server and no control group behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # The second one would come while the servers are being stopped, and leave some.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument(
        "--workload",
        choices=SPECS,
        action="append",
        metavar="NAME",
        help=f"only this; may be repeated: {', '.join(SPECS)}",
    )
    parser.add_argument(
        "--subject",
        choices=SUBJECTS,
        action="append",
        metavar="NAME",
        help=f"only this; may be repeated: {', '.join(SUBJECTS)}",
    )
    parser.add_argument("--transport", choices=get_args(Transport), help="only this")
    parser.add_argument("--rate", type=_positive, metavar="N", help="queries a second (10,000)")
    parser.add_argument("--seconds", type=_positive, metavar="N", help="length of each run")
    parser.add_argument("--repeat", type=_count, metavar="N", help="rounds (6)")
    parser.add_argument("--seed", type=int, metavar="N", help="of names and their order (1)")
    parser.add_argument("--coredns", type=Path, metavar="PATH", help="a CoreDNS to measure too")
    parser.add_argument(
        "--cpu-share",
        type=_percent,
        metavar="PERCENT",
        help="hold each server to part of a core by a control group",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--flame", type=Path, metavar="DIR", help="draw flame graphs of kdns there; it costs time"
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    scaling = commands.add_parser("workers", help="whether two workers answer twice what one does")
    scale.add_arguments(scaling)
    faulty = commands.add_parser("faults", help="answer while the API server misbehaves")
    fault_run.add_arguments(faulty)
    for kind in changes.KINDS:
        changes.add_arguments(commands.add_parser(kind, help=f"20 {kind}, and nothing lost"))
    comparing = commands.add_parser("compare", help="judge a record by an older one")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    flooding = commands.add_parser("overload", help="ask kdns for more than it can answer")
    _add_overload(flooding)
    syncing = commands.add_parser("sync", help="follow a large cluster")
    syncing.add_argument("--services", type=_count, metavar="N", help="how many (5,000)")
    syncing.add_argument("--endpoints", type=_count, metavar="N", help="of them all (100,000)")
    syncing.add_argument("--pods", type=_count, metavar="N", help="beside them (100,000)")
    syncing.add_argument("--rate", type=_positive, default=argparse.SUPPRESS, help="q/s (2,000)")
    for kind in ("--json", "--html"):
        syncing.add_argument(kind, type=Path, metavar="FILE", default=argparse.SUPPRESS)
    churning = commands.add_parser("churn", help="ask while endpoints change")
    churning.add_argument(
        "--updates", dest="rates", type=_rates, metavar="N[,N]", help="a second (100,1000,5000)"
    )
    churning.add_argument("--rate", type=_positive, default=argparse.SUPPRESS, help="q/s (5,000)")
    churning.add_argument(
        "--seconds", type=_positive, default=argparse.SUPPRESS, help="for each (60)"
    )
    churning.add_argument("--rounds", type=_count, metavar="N", help="at full speed (5)")
    for kind in ("--json", "--html"):
        churning.add_argument(kind, type=Path, metavar="FILE", default=argparse.SUPPRESS)
    idling = commands.add_parser("idle-tcp", help="ask over UDP beside idle connections")
    idling.add_argument("--connections", type=_count, metavar="N", help="how many (10,000)")
    idling.add_argument("--rate", type=_positive, default=argparse.SUPPRESS, help="q/s (5,000)")
    idling.add_argument("--seconds", type=_positive, default=argparse.SUPPRESS, help="a run (2)")
    idling.add_argument("--repeat", type=_count, default=argparse.SUPPRESS, help="rounds (11)")
    dying = commands.add_parser("dead", help="ask while all upstreams are dead")
    dying.add_argument("--rate", type=_positive, default=argparse.SUPPRESS, help="q/s (2,000)")
    dying.add_argument("--outside", type=_positive, metavar="RATE", help="q/s (500)")
    dying.add_argument("--seconds", type=_positive, default=argparse.SUPPRESS, help="a run (3)")
    dying.add_argument("--repeat", type=_count, default=argparse.SUPPRESS, help="rounds (5)")
    return parser


def _add_overload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cpu-share", dest="share", type=_percent, metavar="PERCENT", help="of a core (25)"
    )
    parser.add_argument("--memory", type=_count, metavar="MIB", help="memory (160)")
    parser.add_argument("--factor", type=_positive, metavar="N", help="times the capacity (3)")
    parser.add_argument(
        "--seconds", type=_positive, default=argparse.SUPPRESS, help="of each overload (60)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", default=argparse.SUPPRESS)


def _given(terms: T, args: argparse.Namespace) -> T:
    """The terms, but for what the command line says."""
    names = [field.name for field in dataclasses.fields(terms)]
    given = {name: getattr(args, name, None) for name in names}
    return dataclasses.replace(
        terms, **{n: value for n, value in given.items() if value is not None}
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _rates(text: str) -> tuple[float, ...]:
    return tuple(map(_positive, text.split(",")))


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def _percent(text: str) -> int:
    value = int(text.removesuffix("%"))
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100 percent of a core, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
