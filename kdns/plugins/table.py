"""The directives, in the order in which a query passes them, whatever the order in the Corefile.

The order is CoreDNS's. A third party's directives come by the entry point group `kdns.plugins`:
each names a configured.Plugin, which says before which directive it stands.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, ServerBlock
from kdns.plugins import (
    any,  # noqa: A004 - a module is named after its directive
    bind,
    bufsize,
    cache,
    chaos,
    debug,
    dnstap,
    errors,
    forward,
    health,
    hosts,
    kubernetes,
    loadbalance,
    log,
    loop,
    metadata,
    minimal,
    multisocket,
    nsid,
    pprof,
    prometheus,
    ready,
    reload,
    rewrite,
    rrl,
    shed,
    template,
    timeouts,
    tls,
    top,
    whoami,
)
from kdns.plugins.configured import Configured, Plugin

ENTRY_POINTS = "kdns.plugins"

BUILT_IN = (
    Plugin("metadata", metadata.parse),
    Plugin("timeouts", timeouts.parse),
    Plugin("multisocket", multisocket.parse),
    Plugin("reload", reload.parse),
    Plugin("nsid", nsid.parse),
    Plugin("bufsize", bufsize.parse),
    Plugin("bind", bind.parse, repeatable=True),
    Plugin("debug", debug.parse),
    Plugin("ready", ready.parse),
    Plugin("health", health.parse),
    Plugin("pprof", pprof.parse),
    Plugin("shed", shed.parse),
    Plugin("prometheus", prometheus.parse),
    Plugin("top", top.parse),
    Plugin("errors", errors.parse),
    Plugin("log", log.parse, repeatable=True),
    Plugin("dnstap", dnstap.parse, repeatable=True),
    Plugin("rrl", rrl.parse),
    Plugin("any", any.parse),
    Plugin("chaos", chaos.parse),
    Plugin("loadbalance", loadbalance.parse),
    Plugin("rewrite", rewrite.parse, repeatable=True),
    Plugin("cache", cache.parse),
    Plugin("tls", tls.parse),
    Plugin("minimal", minimal.parse),
    Plugin("template", template.parse, repeatable=True),
    Plugin("hosts", hosts.parse),
    Plugin("kubernetes", kubernetes.parse),
    Plugin("loop", loop.parse),
    Plugin("forward", forward.parse, repeatable=True),
    Plugin("whoami", whoami.parse),
)

WITHOUT_HANDLER = frozenset(
    {"multisocket", "reload", "bind", "debug", "ready", "health", "pprof", "tls", "timeouts", "top"}
)
"""Directives that no query passes in CoreDNS either: `coredns_plugin_enabled` is about others."""

OF_COREDNS = [
    "root",
    "geoip",
    "cancel",
    "proxyproto",
    "quic",
    "grpc_server",
    "https",
    "https3",
    "trace",
    "local",
    "dns64",
    "tsig",
    "autopath",
    "acl",
    "header",
    "dnssec",
    "transfer",
    "route53",
    "azure",
    "clouddns",
    "k8s_external",
    "file",
    "auto",
    "secondary",
    "etcd",
    "grpc",
    "erratic",
    "on",
    "sign",
    "view",
    "nomad",
]
"""Directives that CoreDNS has and kdns has not: they get a kinder error than a misspelling."""


@dataclass(frozen=True, slots=True)
class Known:
    """A directive of a block, understood."""

    plugin: Plugin
    directive: Directive
    settings: Configured


def plugins() -> tuple[Plugin, ...]:
    """Every directive in its order, those of installed packages included.

    Raises CorefileError, which names the entry point, for a package that cannot be used.
    """
    ordered = list(BUILT_IN)
    waiting = [(entry, _load(entry)) for entry in sorted(installed(), key=lambda e: e.name)]
    while waiting:
        names = [known.name for known in ordered]
        # One package's directive may stand before another's.
        placed = [e for e in waiting if e[1].before is None or e[1].before in names]
        if not placed:
            entry, plugin = waiting[0]
            raise _unusable(entry, f"before={plugin.before!r} names no directive")
        entry, plugin = placed[0]
        if plugin.name in names:
            raise _unusable(entry, f"there is a directive {plugin.name!r} already")
        ordered.insert(names.index(plugin.before) if plugin.before else 0, plugin)
        waiting.remove(placed[0])
    return tuple(ordered)


@functools.cache
def installed() -> tuple[EntryPoint, ...]:
    """What packages have. Looked for once: what comes later is for the next start."""
    return tuple(entry_points(group=ENTRY_POINTS))


def _load(entry: EntryPoint) -> Plugin:
    try:
        plugin: object = entry.load()
    except Exception as error:
        raise _unusable(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(plugin, Plugin):
        raise _unusable(entry, f"expected a kdns.plugins.configured.Plugin, got {plugin!r}")
    return plugin


def _unusable(entry: EntryPoint, reason: str) -> CorefileError:
    place = f"entry point {entry.name} = {entry.value} of group {ENTRY_POINTS}"
    return CorefileError(f"{place}: {reason}", "", 0)


def understand(
    block: ServerBlock,
    zones: tuple[str, ...],
    known: Iterable[Plugin],
    *,
    lenient: bool = False,
) -> tuple[list[Known], list[str]]:
    """The directives of a block in the table's order, and warnings. Raises CorefileError.

    lenient: a directive that is not known is a warning, and left out.
    """
    by_name = {plugin.name: plugin for plugin in known}
    order = {name: index for index, name in enumerate(by_name)}
    found: list[Known] = []
    warnings: list[str] = []
    for directive in block.directives:
        plugin = by_name.get(directive.name)
        if plugin is None:
            unknown = _unknown(directive)
            if not lenient:
                raise CorefileError.at(directive, f"{unknown}; --lenient leaves it out")
            warnings.append(f"{directive.place}: {unknown}: left out")
            continue
        if not plugin.repeatable and any_of(found, plugin):
            raise CorefileError.at(
                directive, f"{directive.name} stands twice in one block; expected once"
            )
        settings = plugin.parse(directive, zones)
        warnings += settings.warnings()
        found.append(Known(plugin, directive, settings))
    found.sort(key=lambda known: order[known.plugin.name])
    return found, warnings


def any_of(found: list[Known], plugin: Plugin) -> bool:
    """Whether a directive of this plugin is among those found."""
    return plugin in [known.plugin for known in found]


def _unknown(directive: Directive) -> str:
    if directive.name in OF_COREDNS:
        return f"directive {directive.name!r} of CoreDNS is not supported yet"
    return f"directive {directive.name!r} is not known"
