"""kubernetes: answers for the cluster's names from the state of the cluster.

name in none of our zones        -> the next directive
not in sync yet                  -> SERVFAIL, never "no such name"
found, no data                   -> answered, with authority
alias                            -> followed: inside these zones here, elsewhere by the server
no such name                     -> fallthrough, or NXDOMAIN with the zone's SOA
"""

import re
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import cast

from kdns.cluster import model
from kdns.cluster.dependence import of_change, of_forward_name, of_reverse_name
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.selectors import (
    FieldSelector,
    LabelSelector,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from kdns.cluster.state import Change
from kdns.cluster.zone import ForwardZone, PodsMode, ReverseZone, ZoneOptions
from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import (
    EDE_NOT_READY,
    MAX_ALIASES,
    Handler,
    Outcome,
    Request,
    extended_error,
    failure,
)
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.kubernetes_labels import asked_for, client
from kdns.plugins.parts import Parts, SourceSettings
from kdns.plugins.peer import packed
from kdns.plugins.pending import after
from kdns.plugins.programming import measure
from kdns.telemetry.top import Searched
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset
from kdns.zone.node import End, Lookup, look

NAME = "kubernetes"
REMEMBERED_TTL = 5
"""Seconds; of answers from before a restart, until the API server has told how it is now."""
EDE_STALE = 3
"""RFC 8914, section 4.4."""
ENDED_PODS = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
"""Pods that have ended own no names, though their objects remain."""
DEFAULT_TTL = 5
MAX_APEX = 244
"""Octets of a zone's name that leave room for hostmaster below it."""
MAX_TTL = 3600
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")

Zone = ForwardZone | ReverseZone
Depends = tuple[object, ...] | None
"""See Reply.depends."""


@dataclass(slots=True)
class Kubernetes(Configured):
    """The settings of one kubernetes directive."""

    zones: tuple[str, ...]
    ttl: int = DEFAULT_TTL
    pods: PodsMode = PodsMode.DISABLED
    endpoint_pod_names: bool = False
    no_endpoints: bool = False
    ignore_empty_service: bool = False
    namespaces: tuple[str, ...] = ()
    namespace_labels: LabelSelector | None = None
    labels: LabelSelector | None = None
    fallthrough: tuple[str, ...] | None = None
    endpoint: str | None = None
    other_endpoints: tuple[str, ...] = ()
    tls: tuple[str, str, str] | None = None
    kubeconfig: tuple[str, str] | None = None
    ineffective: list[str] = field(default_factory=list)

    @property
    def primary(self) -> str:
        """The zone that PTR records point into: the first that is no reverse zone."""
        return next(zone for zone in self.zones if not is_reverse(zone))

    def explain(self) -> str:
        parts = [f"{' '.join(self.zones)}; ttl {self.ttl}; pods {self.pods.value}"]
        if self.fallthrough is not None:
            parts.append("unknown names of " + " ".join(self.fallthrough) + " go on")
        if self.namespaces:
            parts.append("only namespaces " + " ".join(self.namespaces))
        if self.namespace_labels is not None:
            parts.append(f"only namespaces with {self.namespace_labels}")
        if self.labels is not None:
            parts.append(f"only objects with {self.labels}")
        return "; ".join(parts)

    def warnings(self) -> tuple[str, ...]:
        return tuple(self.ineffective)

    def source(self) -> SourceSettings:
        """Which objects are needed, and where they come from."""
        resources = {Resource.SERVICES, Resource.NAMESPACES}
        if not self.no_endpoints:
            resources.add(Resource.ENDPOINTSLICES)
        if self.pods is PodsMode.VERIFIED:
            resources.add(Resource.PODS)
        anything, any_field = parse_label_selector(""), parse_field_selector("")
        labelled = self.labels or anything
        selectors: list[tuple[Resource, LabelSelector, FieldSelector]] = [
            (Resource.SERVICES, labelled, any_field),
            (Resource.ENDPOINTSLICES, labelled, any_field),
            (Resource.NAMESPACES, self.namespace_labels or anything, any_field),
            (Resource.PODS, labelled, parse_field_selector(ENDED_PODS)),
        ]
        return SourceSettings(
            resources=frozenset(resources),
            selectors=tuple(s for s in selectors if s[0] in resources),
            endpoint=self.endpoint,
            other_endpoints=self.other_endpoints,
            tls=self.tls,
            kubeconfig=self.kubeconfig,
            pod_names=self.endpoint_pod_names,
        )

    def shown_namespaces(self) -> frozenset[bytes] | None:
        """Wire labels of the only namespaces that exist; None for all."""
        if not self.namespaces:
            return None
        return frozenset(model.label(namespace, "namespaces") for namespace in self.namespaces)

    def build(self, parts: Parts, following: Handler) -> Handler:
        source = self.source()
        cluster = parts.cluster(source)
        options = ZoneOptions(
            ttl=self.ttl,
            pods=self.pods,
            endpoint_pod_names=self.endpoint_pod_names,
            ignore_empty_service=self.ignore_empty_service,
            namespaces=self.shown_namespaces(),
            local_addresses=parts.local_addresses(),
        )
        primary = name.from_text(self.primary)
        zones: list[Zone] = []
        for text in self.zones:
            apex = name.from_text(text)
            if is_reverse(text):
                zones.append(ReverseZone(apex, primary, cluster, options))
            else:
                zones.append(ForwardZone(apex, cluster, options))
                parts.block.searched.append(Searched(apex, cluster.namespaces))
            parts.block.own_zones.append(apex)
        fallthrough = tuple(name.from_text(zone) for zone in self.fallthrough or ())
        if self.pods is PodsMode.VERIFIED:
            parts.block.places.append(cluster.namespaces_of)

        def in_sync() -> bool:
            return source.resources <= cluster.synced

        parts.when_ready(NAME, in_sync)
        handler = KubernetesHandler(zones, fallthrough, in_sync, parts.resolve, following)
        handler.assumed = cluster.assumed
        parts.block.labels.append(handler.describe)
        if self.pods is PodsMode.VERIFIED:
            parts.block.labels.append(
                lambda request, _: client(packed(request.peer.host), cluster.pods_at)
            )
        for zone in zones:
            if any(_overlap(zone.apex, apex) for apex in fallthrough):
                parts.block.passing.append((zone.apex, handler.stays))
        measure(cluster, parts.meters, time.time)
        # After the zones' own listening: what they remember is gone before answers are forgotten.
        cluster.listen(lambda change: parts.forget(handler.touched(change)))
        return handler


def _overlap(one: bytes, other: bytes) -> bool:
    return name.is_below(one, other) or name.is_below(other, one)


def _remembered(reply: Reply) -> Reply:
    """A reply from what the cluster once was: soon to be asked again, and said to be stale."""
    if reply.by != NAME or reply.rcode == Rcode.SERVFAIL:
        return reply
    reply.depends = None
    reply.options = (*reply.options, extended_error(EDE_STALE, "the API server is not there"))
    reply.answer = _short(reply.answer)
    reply.authority = _short(reply.authority)
    reply.additional = _short(reply.additional)
    return reply


def _short(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
    return tuple([rrset._replace(ttl=min(rrset.ttl, REMEMBERED_TTL)) for rrset in rrsets])


def is_reverse(zone: str) -> bool:
    """Whether a zone (absolute, lower-case) belongs to one of the reverse trees."""
    return f".{zone}".endswith((".in-addr.arpa.", ".ip6.arpa."))


class KubernetesHandler:
    """Answers from zones, longest apex first; see the module's picture."""

    def __init__(
        self,
        zones: list[Zone],
        fallthrough: tuple[bytes, ...],
        in_sync: Callable[[], bool],
        resolve: Handler,
        following: Handler,
    ) -> None:
        self._zones = sorted(((z.apex, z) for z in zones), key=lambda z: -len(z[0]))
        self._fallthrough = fallthrough
        self._in_sync = in_sync
        self._synced = False
        self._resolve = resolve
        self._following = following
        self._tag = b"%d " % id(self)
        self.assumed: AbstractSet[Resource] = frozenset()
        """What of the cluster is only remembered; answers that rest on it say so."""

    def __call__(self, request: Request) -> Outcome:
        """Answer, or pass on."""
        if not self.assumed or self._zone_of(request.query.key) is None:
            return self._answer(request)
        return after(self._answer(request), _remembered)

    def _answer(self, request: Request) -> Outcome:
        query = request.query
        zone = self._zone_of(query.key)
        if zone is None:
            return self._following(request)
        if not self._synced:
            self._synced = self._in_sync()
            if not self._synced:
                not_ready = extended_error(EDE_NOT_READY, "the cluster's state is not known yet")
                return failure("not in sync with the cluster yet", NAME, options=(not_ready,))
        found = _look(zone, query.key, query.qtype)
        depends = self._depends(zone, query.key)
        match found.end:
            case End.FOUND:
                answer = (found.rrset,) if found.rrset else ()
                additional = found.additional
                return Reply(
                    answer=answer, additional=additional, aa=True, by=NAME, depends=depends
                )
            case End.ALIAS:
                return self._follow(request, cast("RRset", found.rrset), depends)
            case End.NODATA:
                return Reply(authority=(zone.soa(),), aa=True, by=NAME, depends=depends)
            case End.NXDOMAIN:
                if any(name.is_below(query.key, apex) for apex in self._fallthrough):
                    passed = self._following(request)
                    if isinstance(passed, Reply):
                        # What others say of a name counts only while we do not have it.
                        passed.depends = _union(passed.depends, depends)
                    return passed
                authority = (zone.soa(),)
                return Reply(Rcode.NXDOMAIN, authority=authority, aa=True, by=NAME, depends=depends)

    def stays(self, key: bytes) -> bool:
        """Whether a name is answered from these zones, and never by the next directive."""
        zone = self._zone_of(key)
        if zone is None:
            return False
        falls = any(name.is_below(key, apex) for apex in self._fallthrough)
        return not falls or not self._in_sync() or zone.node(key) is not None

    def describe(self, request: Request, reply: Reply) -> dict[str, str]:
        """See Block.labels."""
        zone = self._zone_of(request.query.key)
        return {} if zone is None else asked_for(request.query.key, zone.apex)

    def touched(self, change: Change) -> Iterable[bytes]:
        """What answers of this directive may rest on and `change` touches."""
        return of_change(change, self._tag)

    def _depends(self, zone: Zone, key: bytes) -> Depends:
        """What an answer about `key` rests on, told apart from that of other clusters."""
        if isinstance(zone, ReverseZone):
            return of_reverse_name(key, zone.apex, self._tag)
        return of_forward_name(key[: len(key) - len(zone.apex)], self._tag)

    def _zone_of(self, key: bytes) -> Zone | None:
        for apex, zone in self._zones:
            if key.endswith(apex) and name.is_below(key, apex):
                return zone
        return None

    def _follow(self, request: Request, alias: RRset, depends: Depends) -> Outcome:
        """RFC 1034, section 3.6.2: the CNAME, then whatever its target has of the type asked for.

        RFC 6604, section 3: the rcode is that of the last name of the chain.
        """
        chain = [alias]
        seen = {request.query.key}
        target = alias.rdatas[0]
        while len(chain) + request.aliases < MAX_ALIASES and target not in seen:
            seen.add(target)
            zone = self._zone_of(target)
            if zone is None:
                outside = request.instead(target)
                return after(self._resolve(outside), lambda reply: _joined(chain, reply))
            found = _look(zone, target, request.query.qtype)
            depends = _union(depends, self._depends(zone, target))
            if found.rrset is not None:
                chain.append(found.rrset)
            if found.end is not End.ALIAS:
                rcode = Rcode.NXDOMAIN if found.end is End.NXDOMAIN else Rcode.NOERROR
                authority = () if found.end is End.FOUND else (zone.soa(),)
                return Reply(
                    rcode,
                    tuple(chain),
                    authority,
                    found.additional,
                    aa=True,
                    by=NAME,
                    depends=depends,
                )
            target = cast("RRset", found.rrset).rdatas[0]
        # A loop, or a chain without end: what there is of it, and the client may go on.
        return Reply(answer=tuple(chain), aa=True, by=NAME, depends=depends)


def _union(one: Depends, other: Depends) -> Depends:
    return None if one is None or other is None else tuple(dict.fromkeys(one + other))


def _look(zone: Zone, key: bytes, qtype: int) -> Lookup:
    """The look-up, with what CoreDNS does in reverse zones where clients rely on it.

    SOA at any name below a reverse apex says where the zone begins, and never "no such name"; TXT
    is not looked up there at all, so that service discovery by TXT (RFC 6763, section 11) goes on
    to who may know. See docs/decisions.
    """
    node = zone.node(key)
    if isinstance(zone, ReverseZone) and (node is None or iana.PTR not in node.rrsets):
        if qtype == iana.SOA and node is None:
            return Lookup(End.NODATA)
        if qtype == iana.TXT and (node is None or node.rrsets):
            return Lookup(End.NXDOMAIN)
    if isinstance(zone, ReverseZone) and qtype == iana.ANY and key != zone.apex:
        return Lookup(End.NXDOMAIN)
    if qtype == iana.ANY and node is not None:
        # RFC 8482, section 4: an answer to ANY need not be complete; `any` answers it better.
        return Lookup(End.NODATA)
    return look(node, qtype)


def _joined(chain: list[RRset], reply: Reply) -> Reply:
    """Our aliases and what the rest of the server found at their end."""
    answer = (*chain, *reply.answer)
    if reply.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return Reply(reply.rcode, answer, aa=True, tc=reply.tc, by=NAME)
    if reply.rcode == Rcode.REFUSED and not reply.by:
        # Nobody here serves the target: the alias alone is the whole of our answer.
        return Reply(answer=tuple(chain), aa=True, by=NAME)
    error = reply.error or f"the alias's target: {iana.rcode_text(reply.rcode)}"
    return Reply(Rcode.SERVFAIL, tuple(chain), aa=True, by=NAME, error=error)


def parse(directive: Directive, zones: tuple[str, ...]) -> Kubernetes:
    """See configured.Parse."""
    named = [zone for arg in directive.args for zone in expand_zone(arg)]
    settings = Kubernetes(tuple(dict.fromkeys(named)) or zones)
    for zone in settings.zones:
        if len(name.from_text(zone)) > MAX_APEX:
            message = f"kubernetes: zone {zone} is too long for names below it"
            raise CorefileError.at(directive, message)
    if all(is_reverse(zone) for zone in settings.zones):
        raise CorefileError.at(
            directive, "kubernetes: expected at least one zone that is no reverse zone"
        )
    _read_options(directive, settings)
    if settings.namespaces and settings.namespace_labels is not None:
        raise CorefileError.at(
            directive, "kubernetes: namespaces and namespace_labels exclude each other"
        )
    if settings.tls is not None and settings.endpoint is None:
        settings.ineffective.append(f"{directive.place}: tls has no effect without an endpoint")
    return settings


def _read_options(directive: Directive, settings: Kubernetes) -> None:
    def put(attribute: str, read: Callable[[Directive], object]) -> Callable[[Directive], object]:
        return lambda option: setattr(settings, attribute, read(option))

    def ineffective(option: Directive) -> None:
        _rate(option)
        settings.ineffective.append(f"{option.place}: {option.name} has no effect")

    def startup_timeout(option: Directive) -> None:
        values.duration(values.exactly(option, 1)[0])
        settings.ineffective.append(
            f"{option.place}: startup_timeout has no effect: kdns answers SERVFAIL until in sync"
        )

    def endpoint(option: Directive) -> None:
        settings.endpoint, *others = _endpoints(option)
        settings.other_endpoints = tuple(others)

    def namespaces(option: Directive) -> None:
        settings.namespaces += _namespaces(option)

    read_options(
        directive,
        {
            "endpoint": endpoint,
            "tls": put("tls", _tls),
            "kubeconfig": put("kubeconfig", _kubeconfig),
            "namespaces": namespaces,
            "namespace_labels": put("namespace_labels", _selector),
            "labels": put("labels", _selector),
            "pods": put("pods", _pods),
            "endpoint_pod_names": put("endpoint_pod_names", values.flag),
            "ttl": put("ttl", _ttl),
            "noendpoints": put("no_endpoints", values.flag),
            "fallthrough": put("fallthrough", _fallthrough),
            "ignore": put("ignore_empty_service", _ignore),
            "startup_timeout": startup_timeout,
            "apiserver_qps": ineffective,
            "apiserver_burst": ineffective,
            "apiserver_max_inflight": ineffective,
            "multicluster": _not_yet,
            "zonal": _not_yet,
        },
    )


def _not_yet(option: Directive) -> None:
    raise CorefileError.at(
        option, f"kubernetes: {option.name} is an option of CoreDNS that kdns does not have yet"
    )


def _rate(option: Directive) -> None:
    """A number that is not negative; CoreDNS takes fractions for apiserver_qps alone."""
    (arg,) = values.exactly(option, 1)
    if option.name != "apiserver_qps":
        values.integer(arg)
    elif not _DECIMAL.fullmatch(arg.text):
        raise CorefileError.at(arg, f"{option.name}: expected a number, got {arg.text!r}")


def _endpoints(option: Directive) -> list[str]:
    """URLs of one API. CoreDNS takes several for old Corefiles' sake, and uses the first."""
    urls = values.at_least(option, 1)
    for url in urls:
        if not url.text.lower().startswith(("http://", "https://")):
            expected = "expected http://HOST[:PORT] or https://HOST[:PORT]"
            raise CorefileError.at(url, f"endpoint: {expected}, got {url.text!r}")
    return list(dict.fromkeys(url.text for url in urls))


def _kubeconfig(option: Directive) -> tuple[str, str]:
    args = values.between(option, 1, 2)
    return (args[0].text, args[1].text if len(args) > 1 else "")


def _tls(option: Directive) -> tuple[str, str, str]:
    cert, key, ca = values.exactly(option, 3)
    return (cert.text, key.text, ca.text)


def _namespaces(option: Directive) -> tuple[str, ...]:
    for arg in values.at_least(option, 1):
        try:
            model.label(arg.text, "namespaces")
        except ObjectError as error:
            raise CorefileError.at(arg, str(error)) from error
    return tuple(arg.text for arg in option.args)


def _pods(option: Directive) -> PodsMode:
    (arg,) = values.exactly(option, 1)
    try:
        return PodsMode(arg.text)
    except ValueError:
        message = f"pods: expected disabled, insecure or verified, got {arg.text!r}"
        raise CorefileError.at(arg, message) from None


def _ttl(option: Directive) -> int:
    return values.integer(values.exactly(option, 1)[0], minimum=0, maximum=MAX_TTL)


def _fallthrough(option: Directive) -> tuple[str, ...]:
    return tuple(zone for arg in option.args for zone in expand_zone(arg)) or (".",)


def _ignore(option: Directive) -> bool:
    (arg,) = values.exactly(option, 1)
    if arg.text != "empty_service":
        raise CorefileError.at(arg, f"ignore: expected empty_service, got {arg.text!r}")
    return True


def _selector(option: Directive) -> LabelSelector:
    """CoreDNS takes the rest of the line as one selector, blanks included."""
    args: tuple[Token, ...] = values.at_least(option, 1)
    try:
        return parse_label_selector(" ".join(arg.text for arg in args))
    except SelectorError as error:
        raise CorefileError.at(option, f"{option.name}: {error}") from error
