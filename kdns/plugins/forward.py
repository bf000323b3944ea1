"""forward: asks other servers for what this one does not know.

The question goes out as the client put it, but for its ID and EDNS; the answer's records come back
as they are, types that we do not know included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from typing import Protocol

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import (
    EDE_NETWORK_ERROR,
    Handler,
    Outcome,
    Request,
    extended_error,
    failure,
)
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.parts import Parts
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError, UpstreamExchange
from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import HEADER, Edns, Query, Record, read_response
from kdns.wire.reply import OUR_UDP_SIZE, Reply, RRset, opt_record

NAME = "forward"
_RRSIG = 46
MAX_UPSTREAMS = 15
MAX_RESOLV_NAMESERVERS = 3
"""As glibc and musl read of a resolv.conf."""
DEADLINE = 5.0
"""Seconds for one question, all tries together."""
DEFAULT_READ_TIMEOUT = 2.0
POLICIES = ("random", "round_robin", "sequential")
ROUNDS = 2
"""How often each upstream is tried for one question: a datagram may get lost once."""


@dataclass(slots=True, frozen=True)
class Server:
    """The address of one upstream."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Forward(Configured):
    """The settings of one forward directive."""

    zones: tuple[str, ...]
    servers: tuple[Server, ...]
    exceptions: tuple[str, ...] = ()
    force_tcp: bool = False
    prefer_udp: bool = False
    policy: str = "random"
    read_timeout: float = DEFAULT_READ_TIMEOUT
    max_concurrent: int = 0
    files: tuple[tuple[Token, str], ...] = ()
    ineffective: tuple[str, ...] = ()

    def explain(self) -> str:
        to = " ".join([*map(str, self.servers), *(path for _, path in self.files)])
        parts = [f"{' '.join(self.zones)} to {to}; {self.policy}"]
        if self.exceptions:
            parts.append("not " + " ".join(self.exceptions))
        if self.max_concurrent:
            parts.append(f"at most {self.max_concurrent} at a time")
        return "; ".join(parts)

    def warnings(self) -> tuple[str, ...]:
        return self.ineffective

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.can_forward = True
        servers = list(self.servers)
        for token, path in self.files:
            servers += read_resolv_conf(token, path)
        if len(servers) > MAX_UPSTREAMS:
            raise CorefileError.at(
                self.files[-1][0],
                f"forward: expected at most {MAX_UPSTREAMS} upstreams, got {len(servers)}",
            )
        upstreams = [parts.upstream(server.host, server.port) for server in servers]
        handler = ForwardHandler(self, upstreams, parts, following)
        parts.block.forwarded.append(handler.takes)
        return handler


class Clocked(Protocol):
    """What the handler needs of the world."""

    @property
    def rng(self) -> Random:
        """Chance."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""


class ForwardHandler:
    """Asks the upstreams in turn, ROUNDS times, until one answers or the deadline has passed."""

    def __init__(
        self,
        settings: Forward,
        upstreams: list[UpstreamExchange],
        parts: Clocked,
        following: Handler,
    ) -> None:
        self._settings = settings
        self._zones = tuple(name.from_text(zone) for zone in settings.zones)
        self._exceptions = tuple(name.from_text(zone) for zone in settings.exceptions)
        self._upstreams = upstreams
        self._parts = parts
        self._following = following
        self._turn = 0
        self._pending = 0

    def takes(self, key: bytes) -> bool:
        """Whether a name, absolute and lower-case, is ours to forward."""
        return any(name.is_below(key, zone) for zone in self._zones) and not any(
            name.is_below(key, zone) for zone in self._exceptions
        )

    def __call__(self, request: Request) -> Outcome:
        """Ask, or pass on."""
        if not self.takes(request.query.key):
            return self._following(request)
        limit = self._settings.max_concurrent
        if limit and self._pending >= limit:
            # As CoreDNS: REFUSED sends stub resolvers to their next server at once.
            return Reply(Rcode.REFUSED, by=NAME, error=f"max_concurrent {limit} reached")
        wire = write_question(request.query)
        deadline = self._parts.monotonic() + DEADLINE
        outcome = self._try(request, wire, self._order() * ROUNDS, deadline, "")
        self._pending += 1
        return outcome.then(self._finished, self._failed)

    def _finished(self, reply: Reply) -> Reply:
        self._pending -= 1
        return reply

    def _failed(self, error: Exception) -> Reply:
        self._pending -= 1
        raise error

    def _order(self) -> list[UpstreamExchange]:
        count = len(self._upstreams)
        match self._settings.policy:
            case "sequential":
                start = 0
            case "round_robin":
                start = self._turn
                self._turn = (self._turn + 1) % count
            case _:
                start = self._parts.rng.randrange(count)
        return self._upstreams[start:] + self._upstreams[:start]

    def _try(
        self,
        request: Request,
        wire: bytes,
        left: list[UpstreamExchange],
        deadline: float,
        reason: str,
    ) -> Pending[Reply]:
        seconds = min(self._settings.read_timeout, deadline - self._parts.monotonic())
        if not left or seconds <= 0:
            unreachable = extended_error(EDE_NETWORK_ERROR)
            reply = failure(reason or "no upstream in time", NAME, options=(unreachable,))
            return _done(reply)
        tcp = self._settings.force_tcp or (
            request.peer.proto == "tcp" and not self._settings.prefer_udp
        )

        def judge(result: bytes | UpstreamError) -> Reply | Pending[Reply]:
            if isinstance(result, UpstreamError):
                return self._try(request, wire, left[1:], deadline, str(result))
            try:
                return read_reply(result)
            except WireError as error:
                return self._try(request, wire, left[1:], deadline, f"unreadable reply: {error}")

        return left[0].ask(wire, tcp=tcp, timeout=seconds).then(judge)


def _done(reply: Reply) -> Pending[Reply]:
    pending: Pending[Reply] = Pending()
    pending.resolve(reply)
    return pending


def write_question(query: Query) -> bytes:
    """The client's question for an upstream: its flags and letter case, our EDNS.

    EDNS goes out when the client spoke it, with our own size; options are between two neighbours
    (RFC 6891, section 6.2.6) and are not passed on.
    """
    flags = query.flags & (iana.RD | iana.CD | iana.AD)
    edns: Edns | None = query.edns
    opt = opt_record(do=edns.do, size=OUR_UDP_SIZE) if edns is not None else b""
    tail = query.qtype.to_bytes(2, "big") + query.qclass.to_bytes(2, "big")
    return HEADER.pack(query.id, flags, 1, 0, 0, int(bool(opt))) + query.qname + tail + opt


def read_reply(wire: bytes) -> Reply:
    """An upstream's reply as ours. Raises WireError."""
    response = read_response(wire)
    return Reply(
        response.rcode,
        _sets(response.answer),
        _sets(response.authority),
        _sets(response.additional),
        aa=bool(response.flags & iana.AA),
        tc=bool(response.flags & iana.TC),
        ad=bool(response.flags & iana.AD),
        cd=bool(response.flags & iana.CD),
        by=NAME,
    )


def _sets(records: tuple[Record, ...]) -> tuple[RRset, ...]:
    """Records to record sets, in the order of their first records, none twice.

    RFC 2181, section 5.2: the records of a set have one TTL; where they come with several, the
    lowest. But for signatures, whose TTLs are those of what they sign (RFC 4034, section 3).
    """
    sets: dict[tuple[bytes, int, int, int], tuple[bytes, int, dict[bytes, None]]] = {}
    for record in records:
        apart = record.ttl if record.rtype == _RRSIG else 0
        key = (record.owner.lower(), record.rtype, record.rclass, apart)
        owner, ttl, datas = sets.get(key, (record.owner, record.ttl, {}))
        datas[record.rdata] = None
        sets[key] = (owner, min(ttl, record.ttl), datas)
    return tuple(
        RRset(owner, rtype, ttl, tuple(datas), rclass)
        for (_, rtype, rclass, _), (owner, ttl, datas) in sets.items()
    )


def read_resolv_conf(token: Token, path: str) -> list[Server]:
    """The nameservers of a resolv.conf (resolv.conf(5)). Raises CorefileError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CorefileError.at(
            token,
            f"forward: expected an IP address or the path of a resolv.conf, got {path!r}: {reason}",
        ) from error
    found: list[Server] = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(Server(str(ip_address(words[1])), 53))
            except ValueError:
                continue
    if not found:
        raise CorefileError.at(token, f"forward: {path} names no nameserver")
    return found[:MAX_RESOLV_NAMESERVERS]


def parse(directive: Directive, zones: tuple[str, ...]) -> Forward:
    """See configured.Parse."""
    args = values.at_least(directive, 2)
    bases = tuple(expand_zone(args[0]))
    servers: list[Server] = []
    files: list[tuple[Token, str]] = []
    for arg in args[1:]:
        server = _server(arg)
        if isinstance(server, Server):
            servers.append(server)
        else:
            files.append((arg, server))
    if len(servers) > MAX_UPSTREAMS:
        raise CorefileError.at(
            directive, f"forward: expected at most {MAX_UPSTREAMS} upstreams, got {len(servers)}"
        )
    settings = Forward(bases, tuple(servers), files=tuple(files))
    _read_options(directive, settings)
    return settings


def _server(token: Token) -> Server | str:
    """An address with or without a port, or the path of a resolv.conf."""
    text = token.text
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "dns":
        raise CorefileError.at(token, f"forward: {scheme}:// upstreams are not supported yet")
    text = rest if separator else text
    host, port = text, 53
    if text.startswith("[") or text.count(":") == 1:
        host, port = values.listen_address(Token(text, token.file, token.line))
        if not port:
            raise CorefileError.at(token, f"forward: expected a port from 1 to 65535 in {text!r}")
    try:
        return Server(str(ip_address(host)), port)
    except ValueError:
        if "/" in text or host == text:
            return text
        raise CorefileError.at(
            token, f"forward: expected an IP address, or the path of a resolv.conf, got {text!r}"
        ) from None


def _read_options(directive: Directive, settings: Forward) -> None:
    def exceptions(option: Directive) -> None:
        named = [zone for arg in values.at_least(option, 1) for zone in expand_zone(arg)]
        settings.exceptions += tuple(named)

    def policy(option: Directive) -> None:
        (arg,) = values.exactly(option, 1)
        if arg.text not in POLICIES:
            expected = ", ".join(POLICIES)
            raise CorefileError.at(arg, f"policy: expected one of {expected}, got {arg.text!r}")
        settings.policy = arg.text

    def read_timeout(option: Directive) -> None:
        settings.read_timeout = values.duration(values.exactly(option, 1)[0], minimum=0.001)

    def max_concurrent(option: Directive) -> None:
        settings.max_concurrent = values.integer(values.exactly(option, 1)[0])

    def later(check: Callable[[Directive], object]) -> Callable[[Directive], object]:
        def read(option: Directive) -> None:
            check(option)
            warning = f"{option.place}: forward: {option.name} is not in effect yet"
            settings.ineffective += (warning,)

        return read

    def flag(attribute: str) -> Callable[[Directive], object]:
        return lambda option: setattr(settings, attribute, values.flag(option))

    read_options(
        directive,
        {
            "except": exceptions,
            "force_tcp": flag("force_tcp"),
            "prefer_udp": flag("prefer_udp"),
            "policy": policy,
            "read_timeout": read_timeout,
            "max_concurrent": max_concurrent,
            **{option: later(check) for option, check in LATER.items()},
        },
    )


def _health_check(option: Directive) -> None:
    """`health_check DURATION [no_rec] [domain NAME]`."""
    first, *left = values.at_least(option, 1)
    values.duration(first)
    while left:
        word = left.pop(0)
        if word.text == "domain" and left:
            values.domain_name(left.pop(0))
        elif word.text != "no_rec":
            raise CorefileError.at(
                word, f"health_check: expected no_rec or domain NAME, got {word.text!r}"
            )


def _rcodes(option: Directive) -> None:
    for arg in values.at_least(option, 1):
        if arg.text.upper() not in Rcode.__members__:
            raise CorefileError.at(
                arg, f"{option.name}: expected an rcode such as NXDOMAIN, got {arg.text!r}"
            )


def _address(token: Token) -> None:
    try:
        ip_address(token.text)
    except ValueError:
        raise CorefileError.at(token, f"expected an IP address, got {token.text!r}") from None


def _method(option: Directive) -> None:
    (arg,) = values.exactly(option, 1)
    if arg.text not in ("GET", "POST"):
        raise CorefileError.at(arg, f"doh_method: expected GET or POST, got {arg.text!r}")


def _one_duration(option: Directive) -> None:
    values.duration(values.exactly(option, 1)[0])


def _one_integer(option: Directive) -> None:
    values.integer(values.exactly(option, 1)[0])


LATER: dict[str, Callable[[Directive], object]] = {
    "tls": lambda option: values.at_most(option, 3),
    "tls_servername": lambda option: values.exactly(option, 1),
    "expire": _one_duration,
    "max_age": _one_duration,
    "max_idle_conns": _one_integer,
    "max_fails": _one_integer,
    "max_connect_attempts": _one_integer,
    "health_check": _health_check,
    "next": _rcodes,
    "next_on_nodata": values.flag,
    "failover": _rcodes,
    "failfast_all_unhealthy_upstreams": values.flag,
    "source_address": lambda option: _address(values.exactly(option, 1)[0]),
    "doh_method": _method,
    "resolver": lambda option: values.at_least(option, 1),
}
"""Options of CoreDNS that are read and have no effect yet, and how each is checked."""
