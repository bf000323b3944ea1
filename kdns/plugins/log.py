"""log: one line for every query answered, in CoreDNS's formats, or as a JSON object."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.block import Block
from kdns.plugins.chain import Handler, Request
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import MIN_UDP_SIZE
from kdns.wire.reply import MAX_TCP_SIZE, Reply

logger = logging.getLogger("kdns.log")

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)
COMBINED = COMMON + ' "{>opcode}"'
CLASSES = ("all", "success", "denial", "error")

Field = Callable[[Request, Reply, int, float], object]
Render = Callable[[Request, Reply, int, float], str]


@dataclass(slots=True)
class Log(Configured):
    """The settings of one log directive."""

    zones: tuple[str, ...]
    template: str = COMMON
    classes: frozenset[str] = frozenset({"all"})
    as_json: bool = False

    def explain(self) -> str:
        told = f"queries of {' '.join(self.zones)}, class {' '.join(sorted(self.classes))}"
        return f"{told}; as JSON" if self.as_json else told

    def build(self, parts: Parts, following: Handler) -> Handler:
        observers = parts.block.observers
        query_log = next((o for o in observers if isinstance(o, QueryLog)), None)
        if query_log is None:
            query_log = QueryLog()
            observers.append(query_log)
        query_log.put_first(self, parts.block)
        parts.block.watches_queries = True
        return following


@dataclass(slots=True, frozen=True)
class Rule:
    """What one log directive asks for."""

    zones: tuple[bytes, ...]
    classes: frozenset[str]
    render: Render
    fields: Callable[[Request, Reply, int, float], dict[str, object]] | None = None


class QueryLog:
    """An observer that writes a line for every reply of the classes asked for.

    One for all log directives of a block: as in CoreDNS the first whose names match has the say.
    """

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def put_first(self, settings: Log, block: Block) -> None:
        """Have these settings looked at before the present ones: the last directive comes first."""
        zones = tuple(name.from_text(zone) for zone in settings.zones)
        render = compile_template(settings.template, block)
        fields = partial(as_fields, block) if settings.as_json else None
        rule = Rule(zones, settings.classes, render, fields)
        self._rules.insert(0, rule)

    def __call__(self, request: Request, reply: Reply, size: int, seconds: float) -> None:
        """See block.Observer."""
        key = request.query.key
        for rule in self._rules:
            if any(name.is_below(key, zone) for zone in rule.zones):
                if "all" in rule.classes or classify(reply) in rule.classes:
                    line = rule.render(request, reply, size, seconds)
                    fields = rule.fields and rule.fields(request, reply, size, seconds)
                    logger.info("%s", line, extra={"fields": fields} if fields else None)
                return


def classify(reply: Reply) -> str:
    """success, denial (no such name, or no data) or error: CoreDNS's response classes.

    No data is what a SOA says (RFC 2308, section 2.2): whoami's empty answers are a success.
    """
    if reply.rcode == Rcode.NXDOMAIN:
        return "denial"
    if reply.rcode != Rcode.NOERROR:
        return "error"
    denied = not reply.answer and any(r.rtype == iana.SOA for r in reply.authority)
    return "denial" if denied else "success"


def compile_template(template: str, block: Block, *, replied: bool = True) -> Render:
    """A function that fills in the fields of a format. Unknown fields become "-", as in CoreDNS.

    replied: whether there is a reply already; if not, its fields are unknown.
    """
    pieces = re.split(r"(\{[^{}]*\})", template)
    known: dict[str, Field] = FIELDS | {">rflags": lambda q, r, n, s: _flags(q, r, block)}
    if not replied:
        known = {field: read for field, read in known.items() if field not in OF_REPLIES}
    fields = [_field(p[1:-1], known, block) if p.startswith("{") else p for p in pieces]

    def render(request: Request, reply: Reply, size: int, seconds: float) -> str:
        texts = [
            piece if isinstance(piece, str) else str(piece(request, reply, size, seconds))
            for piece in fields
        ]
        return "".join(texts)

    return render


def _field(text: str, known: dict[str, Field], block: Block) -> Field:
    if text.startswith("/"):
        return lambda q, r, n, s: block.told(q, r).get(text[1:]) or "-"
    return known.get(text, _unknown)


def as_fields(
    block: Block, request: Request, reply: Reply, size: int, seconds: float
) -> dict[str, object]:
    """What JSON tells of a query: the fields of the formats, and who answered."""
    query, peer = request.query, request.peer
    known = block.told(request, reply)
    return {
        "remote": peer.host,
        "port": peer.port,
        "local": peer.local,
        "id": query.id,
        "type": iana.type_text(query.qtype),
        "qclass": iana.class_text(query.qclass),
        "name": name.to_text(query.key),
        "proto": peer.proto,
        "size": query.size,
        "do": query.do,
        "bufsize": _taken(request),
        "rcode": iana.rcode_text(reply.rcode),
        "rflags": _flags(request, reply, block),
        "rsize": size,
        "duration": round(seconds, 9),
        "class": classify(reply),
        "plugin": reply.by.partition("/")[0],
        **({"error": reply.error} if reply.error else {}),
        **({"metadata": known} if known else {}),
    }


def _unknown(request: Request, reply: Reply, size: int, seconds: float) -> str:
    return "-"


def _flags(request: Request, reply: Reply, block: Block) -> str:
    flags = request.query.flags
    cd = flags & iana.CD if reply.cd is None else reply.cd
    named = [
        ("qr", True),
        ("aa", reply.aa),
        ("tc", reply.tc),
        ("rd", flags & iana.RD),
        ("ra", block.can_forward),
        ("ad", reply.ad),
        ("cd", cd),
    ]
    return ",".join(text for text, is_set in named if is_set)


def _host(text: str) -> str:
    return f"[{text}]" if ":" in text else text


def _taken(request: Request) -> int:
    """What the client can take, octets."""
    if request.peer.proto == "tcp":
        return MAX_TCP_SIZE
    return request.query.edns.size if request.query.edns else MIN_UDP_SIZE


FIELDS: dict[str, Field] = {
    "type": lambda q, r, n, s: iana.type_text(q.query.qtype),
    "name": lambda q, r, n, s: name.to_text(q.query.key),
    "class": lambda q, r, n, s: iana.class_text(q.query.qclass),
    "proto": lambda q, r, n, s: q.peer.proto,
    "remote": lambda q, r, n, s: _host(q.peer.host),
    "local": lambda q, r, n, s: _host(q.peer.local) or "-",
    "port": lambda q, r, n, s: q.peer.port,
    "size": lambda q, r, n, s: q.query.size,
    "rcode": lambda q, r, n, s: iana.rcode_text(r.rcode),
    "rsize": lambda q, r, n, s: n,
    # As Go prints the shortest number: no zeros at the end.
    "duration": lambda q, r, n, s: f"{s:.9f}".rstrip("0").rstrip(".") + "s",
    ">id": lambda q, r, n, s: q.query.id,
    ">opcode": lambda q, r, n, s: q.query.flags >> 11 & 15,
    ">do": lambda q, r, n, s: str(q.query.do).lower(),
    ">bufsize": lambda q, r, n, s: _taken(q),
}
"""CoreDNS's replacer fields, but `>rflags`, which needs the block; sizes in octets."""

OF_REPLIES = ("rcode", "rsize", "duration", ">rflags")


def parse(directive: Directive, zones: tuple[str, ...]) -> Log:
    """See configured.Parse. `log [NAMES…] [FORMAT] { class …; json }`."""
    args = list(directive.args)
    template = COMMON
    if args and ("{" in args[-1].text):
        template = args.pop().text.replace("{common}", COMMON).replace("{combined}", COMBINED)
    named = [zone for arg in args for zone in expand_zone(arg)]
    settings = Log(tuple(dict.fromkeys(named)) or (".",), template)
    chosen: set[str] = set()

    def classes(option: Directive) -> None:
        given: tuple[Token, ...] = values.at_least(option, 1)
        for arg in given:
            if arg.text not in CLASSES:
                expected = ", ".join(CLASSES)
                raise CorefileError.at(arg, f"class: expected one of {expected}, got {arg.text!r}")
            chosen.add(arg.text)
        settings.classes = frozenset(chosen)

    def as_json(option: Directive) -> None:
        settings.as_json = values.flag(option)

    read_options(directive, {"class": classes, "json": as_json})
    return settings
