"""From a Corefile to what is to be built: blocks, the addresses they listen on, their directives.

Nothing is opened here but the Corefile and what it imports, so `kdns check` and `kdns serve` see
the same plan, and a Corefile that can be planned is one that can be served.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from os.path import isfile

from kdns.corefile.address import normalize
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import ServerBlock
from kdns.corefile.parser import parse
from kdns.plugins.bind import Bind
from kdns.plugins.configured import Plugin
from kdns.plugins.table import Known, plugins, understand

DEFAULT_COREFILE = ".:{port} {{\n    whoami\n    log\n}}\n"
"""What CoreDNS serves when there is no Corefile and none was named."""
MAX_COREFILE = 16 << 20
"""Octets of one file; a ConfigMap holds 1 MiB."""


@dataclass(slots=True)
class PlannedBlock:
    """One server block on one port. hosts: where it listens; "" is every address."""

    zones: tuple[str, ...]
    port: int
    hosts: tuple[str, ...]
    directives: list[Known]
    source: ServerBlock


@dataclass(slots=True)
class Plan:
    """A whole Corefile, understood."""

    blocks: list[PlannedBlock] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def listeners(self) -> dict[tuple[str, int], list[PlannedBlock]]:
        """The blocks by (host, port), in the order of the Corefile."""
        found: dict[tuple[str, int], list[PlannedBlock]] = {}
        for block in self.blocks:
            for host in block.hosts:
                found.setdefault((host, block.port), []).append(block)
        return found


def read_corefile(path: str) -> str:
    """The text of a Corefile. Raises CorefileError."""
    try:
        return _read(path)
    except OSError as error:
        advice = _ADVICE.get(type(error), "expected a file")
        raise CorefileError(f"cannot read {path}: {error.strerror}; {advice}", "", 0) from error


_ADVICE: dict[type[OSError], str] = {
    FileNotFoundError: "name one with -conf",
    PermissionError: "see its mode",
}


def _read(path: str) -> str:
    """Raises OSError and CorefileError."""
    try:
        # Read and then judged, for the size of a pipe is not known before.
        with open(path, "rb") as file:
            data = file.read(MAX_COREFILE + 1)
    except ValueError as error:
        raise CorefileError(f"cannot read {path!r}: {error}", "", 0) from error
    if len(data) > MAX_COREFILE:
        raise CorefileError(f"expected at most {MAX_COREFILE} octets", path, 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorefileError(f"expected UTF-8: {error}", path, line) from error


def make_plan(
    text: str,
    file: str,
    *,
    environ: Mapping[str, str],
    port: int = 53,
    lenient: bool = False,
    known: tuple[Plugin, ...] | None = None,
) -> Plan:
    """Understand a Corefile. Raises CorefileError, for one that serves nothing as well.

    port: for zones that name none (`-dns.port`).
    """
    plan = Plan()
    known = plugins() if known is None else known
    for block in parse(text, file, environ=environ, read=read_imports):
        _plan_block(plan, block, port, known, lenient=lenient)
    if not plan.blocks:
        raise CorefileError("expected a server block, such as '. { whoami }'", file, 1)
    _check_unique(plan)
    return plan


def read_imports(pattern: str) -> list[tuple[str, str]]:
    """The files that an `import` names, in the order of their names.

    Raises OSError and CorefileError for those that are there and cannot be read.
    """
    paths = sorted(glob(pattern)) if has_magic(pattern) else [pattern]
    return [(path, _read(path)) for path in paths if isfile(path)]


def _plan_block(
    plan: Plan, block: ServerBlock, port: int, known: tuple[Plugin, ...], *, lenient: bool
) -> None:
    zones: dict[int, list[str]] = {}
    for key in block.keys:
        for address in normalize(key, port):
            if address.transport != "dns":
                raise CorefileError.at(
                    key, f"{address.transport}:// is not served yet; expected dns:// or no scheme"
                )
            if address.zone not in zones.setdefault(address.port, []):
                zones[address.port].append(address.zone)
    for number, (on_port, names) in enumerate(zones.items()):
        directives, warnings = understand(block, tuple(names), known, lenient=lenient)
        plan.warnings += warnings if number == 0 else []
        hosts = _hosts(directives)
        plan.blocks.append(PlannedBlock(tuple(names), on_port, hosts, directives, block))


def _hosts(directives: list[Known]) -> tuple[str, ...]:
    """The addresses of the block's bind directives; "" when it has none."""
    hosts: dict[str, None] = {}
    for known in directives:
        if isinstance(known.settings, Bind):
            hosts.update(dict.fromkeys(known.settings.hosts()))
    return tuple(hosts) or ("",)


def _check_unique(plan: Plan) -> None:
    """As CoreDNS: a zone is served once on one address and port."""
    seen: dict[tuple[str, str, int], PlannedBlock] = {}
    for block in plan.blocks:
        for host in block.hosts:
            for zone in block.zones:
                other = seen.setdefault((zone, host, block.port), block)
                if other is not block:
                    place = other.source.place
                    where = f"{host or 'every address'}, port {block.port}"
                    raise CorefileError.at(
                        block.source.place,
                        f"zone {zone} on {where} is served already by the block at {place}",
                    )
