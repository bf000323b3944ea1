"""pprof: on demand, a profile of where the CPU time goes, and what tasks there are.

The paths are those of Go's net/http/pprof, and so is the format: `go tool pprof URL` reads it. What
Go alone has (heap, block, mutex, trace) is not there.
"""

import asyncio
import gzip
from dataclasses import dataclass
from io import StringIO

from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import HttpReply, HttpRequest, Page, Parts
from kdns.telemetry.profiler import ProfilingError, collapsed, pprof

DEFAULT_ADDRESS = "localhost:6053"
ROOT = "/debug/pprof"
SECONDS = 30.0
MAX_SECONDS = 300.0
MAX_TASKS = 1_000
INDEX = b"""<!doctype html>
<title>/debug/pprof</title>
<h1>/debug/pprof</h1>
<ul>
<li><a href="/debug/pprof/profile?seconds=10">profile</a>: where the CPU time goes, for
<code>go tool pprof</code>; <code>seconds=N</code>
<li><a href="/debug/pprof/profile?seconds=10&amp;format=collapsed">profile as text</a>: collapsed
stacks, for flame graphs and speedscope
<li><a href="/debug/pprof/goroutine">tasks</a>: what asyncio is at
</ul>
"""


@dataclass(slots=True)
class Pprof(Configured):
    """The settings of one pprof directive."""

    address: str = DEFAULT_ADDRESS
    ineffective: tuple[str, ...] = ()

    def explain(self) -> str:
        return f"http://{self.address}{ROOT}"

    def warnings(self) -> tuple[str, ...]:
        return self.ineffective

    def build(self, parts: Parts, following: Handler) -> Handler:
        index = HttpReply(200, INDEX, "text/html; charset=utf-8")
        for path in (ROOT, f"{ROOT}/"):
            parts.route(self.address, path, lambda: index)
        parts.route(self.address, f"{ROOT}/profile", Page(lambda request: profile(parts, request)))
        parts.route(self.address, f"{ROOT}/goroutine", tasks)
        return following


async def profile(parts: Parts, request: HttpRequest) -> HttpReply:
    """A profile of `seconds`, as `format` says: pprof or collapsed."""
    form = request.query.get("format", "pprof")
    try:
        seconds = float(request.query.get("seconds", SECONDS))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS or form not in ("pprof", "collapsed"):
        expected = f"expected seconds=N, at most {MAX_SECONDS:g}, and format=pprof or collapsed\n"
        return HttpReply(400, expected.encode())
    began = parts.now()
    try:
        taken = await parts.profile(seconds)
    except ProfilingError as error:
        return HttpReply(409, f"{error}\n".encode())
    if form == "collapsed":
        return HttpReply(200, collapsed(taken).encode())
    # As Go does it: the file is compressed, and not the transfer.
    return HttpReply(200, gzip.compress(pprof(taken, began)), "application/octet-stream")


def tasks() -> HttpReply:
    """The stacks of the tasks of this process: the nearest thing to Go's goroutines."""
    everything = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    told = StringIO()
    told.write(f"{len(everything)} tasks\n")
    for task in everything[:MAX_TASKS]:
        told.write("\n")
        task.print_stack(file=told)
    return HttpReply(200, told.getvalue().encode())


def parse(directive: Directive, zones: tuple[str, ...]) -> Pprof:
    """See configured.Parse. `pprof [ADDRESS] { block [RATE] }`."""
    settings = Pprof()
    for arg in values.at_most(directive, 1):
        settings.address = str(values.listen_address(arg))

    def block(option: Directive) -> None:
        for arg in values.at_most(option, 1):
            values.integer(arg)
        warning = f"{option.place}: pprof: block has no effect: nothing here blocks"
        settings.ineffective = (warning,)

    read_options(directive, {"block": block})
    return settings
