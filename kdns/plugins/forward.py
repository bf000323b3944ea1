"""forward: asks other servers for what this one does not know.

The question goes out as the client put it, but for its ID and EDNS; the answer's records come back
as they are, types that we do not know included.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler, Outcome, Request, extended_error
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.forwarding import NAME, Clocked, Forwarding, Rules, Target, rcodes
from kdns.plugins.parts import Parts
from kdns.plugins.upstream import Transport, UpstreamSettings, UpstreamSettingsError
from kdns.telemetry.histogram import SECONDS, Histogram
from kdns.telemetry.meters import Labels
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply

log = logging.getLogger("kdns.query")

MAX_UPSTREAMS = 15
MAX_RESOLV_NAMESERVERS = 3
"""As glibc and musl read of a resolv.conf."""
POLICIES = ("random", "round_robin", "sequential", "fastest")
PORTS = {"dns": 53, "tls": 853, "https": 443}
TRANSPORTS: dict[str, Transport] = {"dns": "dns", "tls": "tls", "https": "https"}
EDE_BLOCKED = 15


@dataclass(slots=True)
class Forward(Configured):
    """The settings of one forward directive."""

    place: Directive
    zones: tuple[str, ...]
    servers: tuple[UpstreamSettings, ...]
    exceptions: tuple[str, ...] = ()
    max_concurrent: int = 0
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    deny_private: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    every: dict[str, Any] = field(default_factory=dict)
    """Settings of all upstreams alike."""
    files: tuple[tuple[Token, str], ...] = ()
    ineffective: tuple[str, ...] = ()

    def explain(self) -> str:
        to = " ".join([*map(str, self.servers), *(path for _, path in self.files)])
        parts = [f"{' '.join(self.zones)} to {to}; {self.rules.policy}"]
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
        targets: list[Target] = []
        for server in servers:
            settings = replace(server, **{**self.every, **_own(server)})
            try:
                targets.append(Target(str(settings), parts.upstream(settings)))
            except UpstreamSettingsError as error:
                raise CorefileError.at(self.place, f"forward: {error}") from error
        handler = ForwardHandler(self, targets, parts, following)
        count(handler, parts)
        parts.block.forwarded.append(handler.takes)
        return handler


def _own(server: UpstreamSettings) -> dict[str, str]:
    """What an upstream's own address says, which goes before what the options say of all."""
    return {"servername": server.servername} if server.servername else {}


class ForwardHandler:
    """Asks the upstreams about the names that are its own, and passes the others on."""

    def __init__(
        self, settings: Forward, targets: list[Target], parts: Clocked, following: Handler
    ) -> None:
        self._settings = settings
        self._zones = tuple(name.from_text(zone) for zone in settings.zones)
        self._exceptions = tuple(name.from_text(zone) for zone in settings.exceptions)
        self._everything = self._zones == (name.ROOT,) and not self._exceptions
        self._following = following
        self._filters = settings.next_rcodes or settings.next_on_nodata or settings.deny_private
        self.forwarding = Forwarding(targets, settings.rules, parts)
        self.rejects = 0

    def takes(self, key: bytes) -> bool:
        """Whether a name, absolute and lower-case, is ours to forward."""
        return self._everything or (
            any(name.is_below(key, zone) for zone in self._zones)
            and not any(name.is_below(key, zone) for zone in self._exceptions)
        )

    def __call__(self, request: Request) -> Outcome:
        """Ask, or pass on."""
        query = request.query
        if not self._everything and not self.takes(query.key):
            return self._following(request)
        limit = self._settings.max_concurrent
        if limit and self.forwarding.waiting >= limit:
            # As CoreDNS: REFUSED sends stub resolvers to their next server at once.
            self.rejects += 1
            return Reply(Rcode.REFUSED, by=NAME, error=f"max_concurrent {limit} reached")
        outcome = self.forwarding.ask(query, tcp=request.peer.proto == "tcp")
        if not self._filters:
            return outcome
        return outcome.then(lambda reply: self._filtered(request, reply))

    def _filtered(self, request: Request, reply: Reply) -> Outcome:
        settings = self._settings
        if reply.rcode in settings.next_rcodes:
            return self._following(request)
        if settings.next_on_nodata and reply.rcode == Rcode.NOERROR and not reply.answer:
            return self._following(request)
        if _is_denied(settings, request.query.key) and _has_private(reply):
            log.warning("%r: the upstream's answer has a private address: left out", request.query)
            return Reply(
                Rcode.NOERROR,
                by=NAME,
                options=(extended_error(EDE_BLOCKED, "private address"),),
            )
        return reply


def _is_denied(settings: Forward, key: bytes) -> bool:
    return any(name.is_below(key, name.from_text(zone)) for zone in settings.deny_private)


def _has_private(reply: Reply) -> bool:
    return any(
        not ip_address(rdata).is_global
        for rrset in (*reply.answer, *reply.additional)
        if rrset.rtype in (iana.A, iana.AAAA)
        for rdata in rrset.rdatas
        if len(rdata) in (4, 16)
    )


def count(handler: ForwardHandler, parts: Parts) -> None:
    """Have what a handler counts among the metrics, under CoreDNS's names where it has one."""
    forwarding, meters = handler.forwarding, parts.meters
    proxied = meters.histogram(
        "coredns_proxy_request_duration_seconds",
        "Seconds from a question to an upstream to its reply.",
        SECONDS,
        ("proxy_name", "to", "rcode"),
    )
    for target in forwarding.targets:
        target.durations = Durations(proxied, target.label)

    def each(read: Callable[[Target], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((target.label,), read(target)) for target in forwarding.targets]

    def proxy(read: Callable[[Target], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((NAME, target.label), read(target)) for target in forwarding.targets]

    def alone(read: Callable[[], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((), read())]

    def answered() -> Iterable[tuple[Labels, float]]:
        for target in forwarding.targets:
            for rcode, histogram in target.durations.items():
                yield (target.label, iana.rcode_text(rcode)), sum(histogram.counts)

    meters.watch(
        "counter",
        "coredns_proxy_healthcheck_failures",
        "Probes of an upstream that were not answered.",
        ("proxy_name", "to"),
        proxy(lambda target: target.probe_failures),
    )
    meters.watch(
        "counter",
        "coredns_forward_healthcheck_failures",
        "Probes of an upstream that were not answered.",
        ("to",),
        each(lambda target: target.probe_failures),
    )
    meters.watch(
        "counter",
        "coredns_forward_requests",
        "Questions to an upstream.",
        ("to",),
        each(lambda target: target.asked),
    )
    meters.watch(
        "counter",
        "coredns_forward_responses",
        "Replies of an upstream.",
        ("to", "rcode"),
        answered,
    )
    for metric, text, read in (
        (
            "coredns_forward_healthcheck_broken",
            "Questions for which every upstream was down.",
            lambda: forwarding.broken,
        ),
        (
            "coredns_forward_max_concurrent_rejects",
            "Questions that were refused because of max_concurrent.",
            lambda: handler.rejects,
        ),
        (
            "kdns_forward_merged",
            "Questions that waited for another client's same question.",
            lambda: forwarding.merged,
        ),
        (
            "kdns_forward_hedged",
            "Second tries, because an upstream took longer than it mostly does.",
            lambda: forwarding.hedged,
        ),
    ):
        meters.watch("counter", metric, text, (), alone(read))


class Durations(dict[int, Histogram]):
    """A target's durations by rcode, each entered among the metrics when it is first there."""

    def __init__(self, proxied: dict[Labels, Histogram], label: str) -> None:
        super().__init__()
        self._proxied = proxied
        self._label = label

    def __setitem__(self, rcode: int, histogram: Histogram) -> None:
        labels = (NAME, self._label, iana.rcode_text(rcode))
        super().__setitem__(rcode, self._proxied.setdefault(labels, histogram))


def read_resolv_conf(token: Token, path: str) -> list[UpstreamSettings]:
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
    found: list[UpstreamSettings] = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(UpstreamSettings(str(ip_address(words[1]))))
            except ValueError:
                continue
    if not found:
        raise CorefileError.at(token, f"forward: {path} names no nameserver")
    return found[:MAX_RESOLV_NAMESERVERS]


def parse(directive: Directive, zones: tuple[str, ...]) -> Forward:
    """See configured.Parse."""
    args = values.at_least(directive, 2)
    bases = tuple(expand_zone(args[0]))
    servers: list[UpstreamSettings] = []
    files: list[tuple[Token, str]] = []
    for arg in args[1:]:
        server = _server(arg)
        if isinstance(server, UpstreamSettings):
            servers.append(server)
        else:
            files.append((arg, server))
    if len(servers) > MAX_UPSTREAMS:
        raise CorefileError.at(
            directive, f"forward: expected at most {MAX_UPSTREAMS} upstreams, got {len(servers)}"
        )
    settings = Forward(directive, bases, tuple(servers), files=tuple(files))
    _read_options(directive, settings)
    return settings


def _server(token: Token) -> UpstreamSettings | str:
    """An address with or without scheme and port, or the path of a resolv.conf."""
    scheme, separator, rest = token.text.partition("://")
    if not separator:
        scheme, rest = "dns", token.text
    if scheme not in PORTS:
        expected = ", ".join(f"{known}://" for known in PORTS)
        raise CorefileError.at(token, f"forward: expected one of {expected}, got {scheme}://")
    path = servername = ""
    if scheme == "https":
        rest, slash, path = rest.partition("/")
        path = slash + path if path else "/dns-query"
    elif scheme == "tls":
        # CoreDNS has the port behind the name: tls://9.9.9.9%dns.example:853.
        rest, _, servername = rest.partition("%")
        servername, colon, after = servername.partition(":")
        rest += colon + after if "[" in rest or ":" not in rest else ""
    text, host, port = rest, rest, PORTS[scheme]
    if text.startswith("[") or text.count(":") == 1:
        host, port = values.listen_address(Token(text, token.file, token.line))
        if not port:
            raise CorefileError.at(token, f"forward: expected a port from 1 to 65535 in {text!r}")
    try:
        host = str(ip_address(host))
    except ValueError:
        if not separator and ("/" in text or host == text):
            return text
        if scheme != "https" or not host:
            raise CorefileError.at(
                token,
                f"forward: expected an IP address, or the path of a resolv.conf, got {text!r}",
            ) from None
        servername = host
    return UpstreamSettings(host, port, TRANSPORTS[scheme], path, servername)


def _read_options(directive: Directive, settings: Forward) -> None:
    rules: dict[str, Any] = {}
    read_options(
        directive,
        {**_names(settings), **_judging(rules, settings), **_connecting(settings)},
    )
    settings.rules = Rules(**rules)


_Options = dict[str, Callable[[Directive], object]]


def _names(settings: Forward) -> _Options:
    """Which names are forwarded, and which answers are taken."""

    def exceptions(option: Directive) -> None:
        named = [zone for arg in values.at_least(option, 1) for zone in expand_zone(arg)]
        settings.exceptions += tuple(named)

    def deny_private(option: Directive) -> None:
        named = [zone for arg in option.args for zone in expand_zone(arg)]
        settings.deny_private += tuple(named) or settings.zones

    def max_concurrent(option: Directive) -> None:
        settings.max_concurrent = _integer(option)

    def next_rcodes(option: Directive) -> None:
        settings.next_rcodes |= _rcodes(option)

    def next_on_nodata(option: Directive) -> None:
        settings.next_on_nodata = values.flag(option)

    return {
        "except": exceptions,
        "deny_private": deny_private,
        "max_concurrent": max_concurrent,
        "next": next_rcodes,
        "next_on_nodata": next_on_nodata,
    }


def _judging(rules: dict[str, Any], settings: Forward) -> _Options:
    """Which upstream is asked, and what becomes of one that fails: see Rules."""

    def rule(field: str, read: Callable[[Directive], object]) -> Callable[[Directive], object]:
        return lambda option: rules.__setitem__(field, read(option))

    def health_check(option: Directive) -> None:
        """`health_check DURATION [no_rec] [domain NAME]`."""
        first, *left = values.at_least(option, 1)
        rules["probe_every"] = values.duration(first, minimum=0.01)
        while left:
            word = left.pop(0)
            if word.text == "domain" and left:
                rules["probe_name"] = name.from_text(values.domain_name(left.pop(0)))
            elif word.text == "no_rec":
                rules["probe_recursive"] = False
            else:
                raise CorefileError.at(
                    word, f"health_check: expected no_rec or domain NAME, got {word.text!r}"
                )

    def resolver(option: Directive) -> None:
        values.at_least(option, 1)
        warning = f"{option.place}: forward: resolver is not in effect yet"
        settings.ineffective += (warning,)

    return {
        "force_tcp": rule("force_tcp", values.flag),
        "prefer_udp": rule("prefer_udp", values.flag),
        "policy": rule("policy", lambda option: _one_of(option, POLICIES)),
        "read_timeout": rule("read_timeout", lambda option: _duration(option, 0.001)),
        "max_fails": rule("max_fails", _integer),
        "max_connect_attempts": rule("max_tries", _integer),
        "failover": rule("failover", _rcodes),
        "failfast_all_unhealthy_upstreams": rule("failfast", values.flag),
        "health_check": health_check,
        "resolver": resolver,
    }


def _connecting(settings: Forward) -> _Options:
    """How to talk to all upstreams: see UpstreamSettings."""
    every = settings.every

    def each(field: str, read: Callable[[Directive], object]) -> Callable[[Directive], object]:
        return lambda option: every.__setitem__(field, read(option))

    def tls(option: Directive) -> None:
        """`tls [CA | CERT KEY [CA]]`."""
        paths = [arg.text for arg in values.at_most(option, 3)]
        if len(paths) in (1, 3):
            every["ca"] = paths.pop()
        if paths:
            every["cert"], every["key"] = paths

    return {
        "tls": tls,
        "tls_servername": each("servername", lambda option: values.exactly(option, 1)[0].text),
        "expire": each("expire", _duration),
        "max_age": each("max_age", _duration),
        "max_idle_conns": each("max_idle_conns", _integer),
        "source_address": each("source_address", _address),
        "doh_method": each("doh_method", lambda option: _one_of(option, ("GET", "POST"))),
        "randomize_case": each("randomize_case", values.flag),
    }


def _address(option: Directive) -> str:
    (arg,) = values.exactly(option, 1)
    try:
        return str(ip_address(arg.text))
    except ValueError:
        raise CorefileError.at(arg, f"expected an IP address, got {arg.text!r}") from None


def _one_of(option: Directive, expected: tuple[str, ...]) -> str:
    (arg,) = values.exactly(option, 1)
    if arg.text not in expected:
        raise CorefileError.at(
            arg, f"{option.name}: expected one of {', '.join(expected)}, got {arg.text!r}"
        )
    return arg.text


def _rcodes(option: Directive) -> frozenset[int]:
    for arg in values.at_least(option, 1):
        if arg.text.upper() not in Rcode.__members__:
            raise CorefileError.at(
                arg, f"{option.name}: expected an rcode such as NXDOMAIN, got {arg.text!r}"
            )
    return rcodes([arg.text for arg in option.args])


def _duration(option: Directive, minimum: float = 0.0) -> float:
    return values.duration(values.exactly(option, 1)[0], minimum=minimum)


def _integer(option: Directive) -> int:
    return values.integer(values.exactly(option, 1)[0])
