"""forward: asks other servers for what this one does not know.

The question goes out as the client put it, but for its ID and EDNS; the answer's records come back
as they are, types that we do not know included.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler, Outcome, Request, extended_error
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.forward_families import BY, Families
from kdns.plugins.forward_names import Lookup
from kdns.plugins.forward_upstreams import (
    MAX_UPSTREAMS,
    SYSTEM,
    is_named,
    own_settings,
    read_file_or_name,
    read_resolv_conf,
    read_resolver,
    read_upstream,
)
from kdns.plugins.forwarding import NAME, Clocked, Forwarding, Rules, Target, rcodes
from kdns.plugins.parts import Parts
from kdns.plugins.private import has_private
from kdns.plugins.upstream import UpstreamSettings, UpstreamSettingsError
from kdns.telemetry.histogram import SECONDS, Histogram
from kdns.telemetry.meters import Labels
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply

log = logging.getLogger("kdns.query")

POLICIES = ("random", "round_robin", "sequential", "fastest")
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
    single_stack: bool = False
    rules: Rules = field(default_factory=Rules)
    every: dict[str, Any] = field(default_factory=dict)
    """Settings of all upstreams alike."""
    files: tuple[tuple[Token, str], ...] = ()
    """Paths of resolv.conf files; where there is no such file, names."""
    resolvers: tuple[UpstreamSettings, ...] = ()
    """Of whom names of upstreams are asked; where there are none, of those that `system` names."""
    system: str = SYSTEM

    def explain(self) -> str:
        to = " ".join([*map(str, self.servers), *(path for _, path in self.files)])
        parts = [f"{' '.join(self.zones)} to {to}; policy {self.rules.policy}"]
        if self.exceptions:
            parts.append("not " + " ".join(self.exceptions))
        if self.max_concurrent:
            parts.append(f"at most {self.max_concurrent} at a time")
        if self.rules.failover:
            parts.append(f"the next upstream after {_texts(self.rules.failover)}")
        if passed := _texts(self.next_rcodes) + " NODATA" * self.next_on_nodata:
            parts.append(f"the next directive after {passed.strip()}")
        if self.deny_private:
            parts.append(f"no private addresses for {' '.join(self.deny_private)}")
        if self.single_stack:
            parts.append("no addresses of a family that the cluster has none of")
        return "; ".join(parts)

    def build(self, parts: Parts, following: Handler) -> Handler:
        parts.block.can_forward = True
        if _upstream not in parts.block.labels:
            parts.block.labels.append(_upstream)
        servers = list(self.servers)
        for token, path in self.files:
            servers += read_file_or_name(token, path)
        if len(servers) > MAX_UPSTREAMS:
            raise CorefileError.at(
                self.files[-1][0],
                f"forward: expected at most {MAX_UPSTREAMS} upstreams, got {len(servers)}",
            )
        servers = [own_settings(server, self.every) for server in servers]
        named = [server for server in servers if is_named(server)]
        try:
            targets = [
                Target(str(server), parts.upstream(server))
                for server in servers
                if server not in named
            ]
        except UpstreamSettingsError as error:
            raise CorefileError.at(self.place, f"forward: {error}") from error
        handler = ForwardHandler(self, targets, parts, following)
        handler.forwarding.taps = parts.block.taps
        if self.single_stack:
            handler.families = Families(parts)
        parts.when_short("pending", handler.forwarding.shrink)
        count(handler, parts)
        parts.block.forwarded.append(handler.takes)
        if named:
            self._look_up(named, handler, parts)
        return handler

    def _look_up(
        self, named: list[UpstreamSettings], handler: "ForwardHandler", parts: Parts
    ) -> None:
        system = Token(self.system, self.place.file, self.place.line)
        resolvers = self.resolvers or read_resolv_conf(system, self.system)
        lookup = Lookup(
            named,
            [parts.upstream(resolver) for resolver in resolvers],
            parts,
            lambda addresses: handler.renew(addresses, parts),
            MAX_UPSTREAMS - len(handler.forwarding.targets),
        )
        parts.when_started(lookup.start)


def _texts(rcodes: frozenset[int]) -> str:
    return " ".join(iana.rcode_text(rcode) for rcode in sorted(rcodes))


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
        self._numbered = tuple(targets)
        self._named: dict[UpstreamSettings, Target] = {}
        self.enter: Callable[[Target], object] = lambda target: None
        """Has a target counted."""
        self.rejects = 0
        self.families: Families | None = None

    def takes(self, key: bytes) -> bool:
        """Whether a name, absolute and lower-case, is ours to forward."""
        return self._everything or (
            any(name.is_below(key, zone) for zone in self._zones)
            and not any(name.is_below(key, zone) for zone in self._exceptions)
        )

    def renew(self, addresses: list[UpstreamSettings], parts: Parts) -> None:
        """Upstreams that are named have these addresses from now on."""
        before, self._named = self._named, {}
        for settings in addresses:
            target = before.pop(settings, None)
            if target is None:
                target = Target(str(settings), parts.upstream(settings))
                self.enter(target)
            self._named[settings] = target
        self.forwarding.replace([*self._numbered, *self._named.values()])
        for settings in before:
            parts.release(settings)

    def __call__(self, request: Request) -> Outcome:
        """Ask, or pass on."""
        query = request.query
        if not self._everything and not self.takes(query.key):
            return self._following(request)
        if self.families is not None:
            answer = self.families.answer(query.qtype)
            if answer is not None:
                return answer
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
        if _is_denied(settings, request.query.key) and has_private(reply):
            log.warning("%r: the upstream's answer has a private address: left out", request.query)
            return Reply(
                Rcode.NOERROR,
                by=NAME,
                options=(extended_error(EDE_BLOCKED, "private address"),),
            )
        return reply


def _is_denied(settings: Forward, key: bytes) -> bool:
    return any(name.is_below(key, name.from_text(zone)) for zone in settings.deny_private)


def count(handler: ForwardHandler, parts: Parts) -> None:
    """Have what a handler counts among the metrics, under CoreDNS's names where it has one."""
    forwarding, meters = handler.forwarding, parts.meters
    # Not the block's attribute: where workers answer, that is replaced by a sum of theirs.
    counted = tuple(parts.block.by_zone)
    proxied = meters.histogram(
        "coredns_proxy_request_duration_seconds",
        "Seconds from a question to an upstream to its reply.",
        SECONDS,
        ("proxy_name", "to", "rcode"),
    )
    # CoreDNS has it no more, but there are alerts that ask for it.
    before = meters.histogram(
        "coredns_forward_request_duration_seconds",
        "As coredns_proxy_request_duration_seconds: its name before CoreDNS 1.11.",
        SECONDS,
        ("to", "rcode"),
    )

    def enter(target: Target) -> None:
        target.durations = Durations(proxied, before, target.label)

    handler.enter = enter
    for target in forwarding.targets:
        enter(target)

    def each(read: Callable[[Target], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((target.label,), read(target)) for target in forwarding.targets]

    def proxy(read: Callable[[Target], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((NAME, target.label), read(target)) for target in forwarding.targets]

    def alone(read: Callable[[], int]) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((), read())]

    def answered() -> Iterable[tuple[Labels, float]]:
        for target in forwarding.targets:
            for rcode, count in target.replies.items():
                yield (target.label, iana.rcode_label(rcode)), count

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
        (
            "kdns_forward_single_stack",
            "Questions for addresses of a family that the cluster has not, answered here.",
            lambda: sum(
                times
                for counters in counted
                for (_, by), times in counters.responses.items()
                if by == BY
            ),
        ),
    ):
        meters.watch("counter", metric, text, (), alone(read))


class Durations(dict[int, Histogram]):
    """A target's durations by rcode, each entered among the metrics when it is first there."""

    def __init__(
        self, proxied: dict[Labels, Histogram], before: dict[Labels, Histogram], label: str
    ) -> None:
        super().__init__()
        self._proxied = proxied
        self._before = before
        self._label = label

    def __setitem__(self, rcode: int, histogram: Histogram) -> None:
        text = iana.rcode_label(rcode)
        held = self._proxied.setdefault((NAME, self._label, text), histogram)
        super().__setitem__(rcode, self._before.setdefault((self._label, text), held))


def parse(directive: Directive, zones: tuple[str, ...]) -> Forward:
    """See configured.Parse."""
    args = values.at_least(directive, 2)
    bases = tuple(expand_zone(args[0]))
    servers: list[UpstreamSettings] = []
    files: list[tuple[Token, str]] = []
    for arg in args[1:]:
        server = read_upstream(arg)
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

    def single_stack(option: Directive) -> None:
        settings.single_stack = values.flag(option)

    def next_on_nodata(option: Directive) -> None:
        settings.next_on_nodata = values.flag(option)

    return {
        "except": exceptions,
        "deny_private": deny_private,
        "max_concurrent": max_concurrent,
        "next": next_rcodes,
        "next_on_nodata": next_on_nodata,
        "single_stack": single_stack,
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
        settings.resolvers += tuple(map(read_resolver, values.at_least(option, 1)))

    def failover(option: Directive) -> None:
        rules["failover"] = _rcodes(option)
        if Rcode.NOERROR in rules["failover"]:
            raise CorefileError.at(option, "failover: expected an rcode of a failure, got NOERROR")

    return {
        "force_tcp": rule("force_tcp", values.flag),
        "prefer_udp": rule("prefer_udp", values.flag),
        "policy": rule("policy", lambda option: _one_of(option, POLICIES)),
        "read_timeout": rule("read_timeout", lambda option: _duration(option, 0.001)),
        "max_fails": rule("max_fails", _integer),
        "max_connect_attempts": rule("max_tries", _integer),
        "failover": failover,
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
        "cookies": each("cookies", lambda option: _one_of(option, ("on", "off")) == "on"),
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


def _upstream(request: Request, reply: Reply) -> dict[str, str]:
    """See Block.labels. What comes out of a cache was not asked of anybody now."""
    return {"forward/upstream": reply.upstream} if reply.by == NAME else {}
