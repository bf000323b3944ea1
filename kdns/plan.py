"""From a Corefile to what is to be built: blocks, the addresses they listen on, their directives.

Nothing is opened here but the Corefile and what it imports, so `kdns check` and `kdns serve` see
the same plan, and a Corefile that can be planned is one that can be served.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from hashlib import sha512
from os.path import isfile

from kdns.corefile.address import Place, Transport, normalize
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, ServerBlock
from kdns.corefile.parser import Read, parse
from kdns.plugins.bind import Bind
from kdns.plugins.configured import Plugin
from kdns.plugins.table import Known, plugins, understand
from kdns.plugins.tls import Tls

DEFAULT_COREFILE = ".:{port} {{\n    whoami\n    log\n}}\n"
"""What CoreDNS serves when there is no Corefile and none was named."""
SERVED: frozenset[Transport] = frozenset(("dns", "tls"))
MAX_COREFILE = 16 << 20
"""Octets of one file; a ConfigMap holds 1 MiB."""


@dataclass(slots=True)
class PlannedBlock:
    """One server block on one port. hosts: where it listens; "" is every address.

    tls: what is spoken there is encrypted so; None where it is not.
    """

    zones: tuple[str, ...]
    port: int
    hosts: tuple[str, ...]
    directives: list[Known]
    source: ServerBlock
    tls: Tls | None = None

    @property
    def transport(self) -> Transport:
        """What is spoken there."""
        return "dns" if self.tls is None else "tls"

    def places(self) -> list[Place]:
        """Where it listens."""
        return [Place(host, self.port, self.transport) for host in self.hosts]


@dataclass(frozen=True, slots=True)
class Written:
    """All that was read to make a plan: it can be told to others, who make the same of it.

    port, lenient: see make_plan. imports: by pattern, in order: files, each with its text.
    """

    text: str
    file: str
    port: int
    lenient: bool
    imports: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

    def plan(self, environ: Mapping[str, str]) -> "Plan":
        """The plan, with nothing read again. Raises CorefileError."""
        imports = {pattern: list(files) for pattern, files in self.imports}
        return make_plan(
            self.text,
            self.file,
            environ=environ,
            port=self.port,
            lenient=self.lenient,
            read=lambda pattern: imports[pattern],
        )


@dataclass(slots=True)
class Plan:
    """A whole Corefile, understood."""

    blocks: list[PlannedBlock] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    written: Written = field(default_factory=lambda: Written("", "", 53, False, ()))

    def digest(self) -> str:
        """SHA-512, in hexadecimal, of what is said: the same for other blanks and comments."""
        said = [
            (block.transport, block.zones, block.port, *map(_said, block.source.directives))
            for block in self.blocks
        ]
        return sha512(repr(said).encode()).hexdigest()

    def listeners(self) -> dict[Place, list[PlannedBlock]]:
        """The blocks by where they listen, in the order of the Corefile."""
        found: dict[Place, list[PlannedBlock]] = {}
        for block in self.blocks:
            for place in block.places():
                found.setdefault(place, []).append(block)
        return found


def read_corefile(path: str) -> str:
    """The text of a Corefile. Raises CorefileError."""
    try:
        return _read(path)
    except OSError as error:
        advice = _ADVICE.get(type(error), "expected a file")
        raise CorefileError(f"cannot read {path}: {error.strerror}; {advice}", "", 0) from error


_ADVICE: dict[type[OSError], str] = {
    FileNotFoundError: "expected a Corefile there",
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
    read: Read | None = None,
) -> Plan:
    """Understand a Corefile. Raises CorefileError, for one that serves nothing as well.

    port: for zones that name none (`-dns.port`). read: what imports are read by; `read_imports`.
    """
    asked = _Environment(environ)
    try:
        plan = _plan(text, file, asked, port, lenient=lenient, known=known, read=read)
    except CorefileError as error:
        if not asked.missing:
            raise
        message = f"{error.message}; the environment has no {', '.join(asked.missing)}"
        raise CorefileError(message, error.file, error.line) from error
    for name in asked.missing:
        plan.warnings.append(f"{file}: the environment has no {name}: nothing stands in its place")
    return plan


class _Environment(Mapping[str, str]):
    """An environment that remembers what it was asked for, and had not."""

    def __init__(self, held: Mapping[str, str]) -> None:
        self._held = held
        self.missing: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._held:
            self.missing[name] = None
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def _plan(
    text: str,
    file: str,
    environ: Mapping[str, str],
    port: int,
    *,
    lenient: bool,
    known: tuple[Plugin, ...] | None,
    read: Read | None,
) -> Plan:
    plan = Plan()
    known = plugins() if known is None else known
    imports: dict[str, tuple[tuple[str, str], ...]] = {}

    def recorded(pattern: str) -> list[tuple[str, str]]:
        if pattern not in imports:
            imports[pattern] = tuple((read or read_imports)(pattern))
        return list(imports[pattern])

    blocks = parse(text, file, environ=environ, read=recorded)
    plan.written = Written(text, file, port, lenient, tuple(imports.items()))
    for block in blocks:
        _plan_block(plan, block, port, known, lenient=lenient)
    if not plan.blocks:
        raise CorefileError("expected a server block, such as '. { whoami }'", file, 1)
    _check_unique(plan)
    _check_shared(plan)
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
    zones: dict[tuple[int, Transport], list[str]] = {}
    for key in block.keys:
        for address in normalize(key, port):
            if address.transport not in SERVED:
                raise CorefileError.at(
                    key,
                    f"{address.transport}:// is not served yet; "
                    "expected dns://, tls:// or no scheme",
                )
            names = zones.setdefault((address.port, address.transport), [])
            if address.zone not in names:
                names.append(address.zone)
    encrypted = any(transport == "tls" for _, transport in zones)
    for number, ((on_port, transport), names) in enumerate(zones.items()):
        directives, warnings = understand(block, tuple(names), known, lenient=lenient)
        tls = next((one.settings for one in directives if isinstance(one.settings, Tls)), None)
        if number == 0:
            plan.warnings += warnings
            if tls is not None and not encrypted:
                plan.warnings.append(
                    f"{tls.directive.place}: tls has no effect: no zone of this block is of tls://"
                )
        if transport == "tls" and tls is None:
            # CoreDNS serves such a block in the clear; who wrote tls:// cannot have meant that.
            raise CorefileError.at(block.place, "tls://: expected a directive tls CERT KEY [CA]")
        hosts = _hosts(directives)
        over = tls if transport == "tls" else None
        plan.blocks.append(PlannedBlock(tuple(names), on_port, hosts, directives, block, over))


def _said(directive: Directive) -> tuple[object, ...]:
    block = None if directive.block is None else list(map(_said, directive.block))
    return directive.name, [arg.text for arg in directive.args], block


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


def _check_shared(plan: Plan) -> None:
    """On one address and port one thing is spoken, with one certificate, for the client has not
    said which name it asks for when that is shown. Raises CorefileError."""
    seen: dict[tuple[str, int], PlannedBlock] = {}
    for block in plan.blocks:
        for host in block.hosts:
            other = seen.setdefault((host, block.port), block)
            where = f"{host or 'every address'}, port {block.port}"
            if other.transport != block.transport:
                raise CorefileError.at(
                    block.source.place,
                    f"{where}: expected {other.transport}:// as in the block at "
                    f"{other.source.place}, or another port",
                )
            if block.tls and other.tls and block.tls.server != other.tls.server:
                raise CorefileError.at(
                    block.tls.directive,
                    f"{where}: expected the same tls as at {other.tls.directive.place}",
                )
