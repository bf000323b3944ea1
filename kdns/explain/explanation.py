"""What becomes of a name: the candidates of the search list, each through its block's directives.

    name --search list--> candidates --longest zone--> block --in order--> hosts: looked up
                                                                            kubernetes: looked up
                                                                            forward: would be asked
                                                                            others: named, not run

The cluster's part is the zones of the server itself, so what is said of an answer is what would be
answered; files of hosts are those of where this runs. Upstreams are never asked: what they would
say is open, and said to be.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from dnslib import QTYPE, RR, DNSRecord

from kdns.cluster import model, objects
from kdns.cluster.errors import ObjectError
from kdns.cluster.objects import Resource
from kdns.cluster.state import Cluster
from kdns.cluster.zone import ForwardZone, ReverseZone, ZoneOptions, reverse_span
from kdns.explain.reasons import Reasons, of_forward, of_reverse
from kdns.explain.search import Candidate
from kdns.explain.world import World
from kdns.plan import Plan, PlannedBlock
from kdns.plugins.block import Block
from kdns.plugins.chain import MAX_ALIASES, Request
from kdns.plugins.forward import Forward
from kdns.plugins.hosts import NAME as HOSTS
from kdns.plugins.hosts import Hosts, below
from kdns.plugins.hosts_file import MAX_OCTETS, Reading
from kdns.plugins.kubernetes import Kubernetes, is_reverse
from kdns.plugins.loadbalance import LoadBalance
from kdns.plugins.peer import Peer
from kdns.plugins.rereading import BadFile
from kdns.plugins.rewrite import Rewrite
from kdns.plugins.rewrite_rules import Asked, Mend, mend_reply, retargeted, rewritten
from kdns.plugins.template import Judge, NoRecord, Template, alias
from kdns.wire import iana, name
from kdns.wire.errors import BadName
from kdns.wire.message import Query
from kdns.wire.reply import Reply, RRset, write_reply
from kdns.zone.node import End, look

SILENT = frozenset((
    "any", "bind", "bufsize", "cache", "chaos", "debug", "dnstap", "errors", "header", "health",
    "loadbalance", "local", "log", "loop", "metadata", "minimal", "multisocket", "nsid", "pprof",
    "prometheus", "ready", "reload", "rewrite", "root", "shed", "timeouts", "tls", "trace",
))  # fmt: skip
"""Directives that never change which of the cluster's names there are; and one that is looked at
before the others."""


class Ending(Enum):
    """How a candidate ends; the value says it to people."""

    ANSWER = "answered"
    NODATA = "the name exists, without this type"
    NXDOMAIN = "no such name"
    UPSTREAM = "asked of an upstream"
    REFUSED = "refused: nobody here serves it"
    FAILED = "SERVFAIL"


@dataclass(slots=True)
class Tried:
    """One candidate, and what becomes of it.

    asked: the name that it is looked up by, another one where rewrite says so. block, directive:
    which one answers. records: the answer, as text. open: directives on the way that may answer
    otherwise, and are not followed here.
    """

    name: str
    why: str
    ending: Ending = Ending.REFUSED
    block: str = ""
    directive: str = ""
    records: list[str] = field(default_factory=list)
    reasons: Reasons = field(default_factory=Reasons)
    open: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    asked: str = ""

    def __post_init__(self) -> None:
        self.asked = self.name


@dataclass(slots=True)
class Explanation:
    """The candidates in their order, up to the one that ends the search."""

    type: str
    tried: list[Tried]
    left: list[Candidate]
    """Candidates that are not asked for any more."""

    @property
    def answer(self) -> Tried | None:
        """The candidate that is answered, or None."""
        last = self.tried[-1] if self.tried else None
        return last if last is not None and last.ending is Ending.ANSWER else None


class Explainer:
    """Explains names from a plan and the objects of a cluster, all of them, filtered or not.

    read: gives a file, at most so many octets of it, or raises BadFile.
    """

    def __init__(
        self, plan: Plan, items: Iterable[objects.Object], read: Callable[[str, int], bytes]
    ) -> None:
        self._plan = plan
        self._items = list(items)
        self._read = read
        self._files: dict[str, bytes | BadFile] = {}
        self._shown: dict[int, _Shown] = {}
        self._judges: dict[int, Judge] = {}

    def explain(self, candidates: Sequence[Candidate], rtype: str) -> Explanation:
        """Try the candidates until one is answered, as a resolver does."""
        tried: list[Tried] = []
        for index, candidate in enumerate(candidates):
            one = self.follow(candidate.name, rtype, candidate.why)
            tried.append(one)
            if one.ending is Ending.ANSWER:
                return Explanation(rtype, tried, list(candidates[index + 1 :]))
        return Explanation(rtype, tried, [])

    def follow(self, text: str, rtype: str, why: str = "", depth: int = 0) -> Tried:
        """One absolute name through the server."""
        tried = Tried(text, why)
        block = self._block_of(name.from_text(text).lower())
        if block is None:
            zones = " ".join(zone for one in self._plan.blocks for zone in one.zones)
            tried.notes.append(f"no server block has this name; they have {zones}")
            return tried
        place = block.source.place
        tried.block = f"{' '.join(block.zones)} ({place.file}:{place.line})"
        made = _rewritten(tried, block, rtype)
        if made is None:
            return tried
        rtype, mends = made
        for known in block.directives:
            settings = known.settings
            match settings:
                case LoadBalance() if settings.chooses:
                    tried.notes.append(f"loadbalance: {settings.explain()}")
                case Template():
                    if self._by_template(tried, settings, rtype, depth, mends):
                        tried.ending = _recoded(tried.ending, mends)
                        return tried
                case Hosts():
                    if self._in_hosts(tried, settings, rtype, mends):
                        tried.ending = _recoded(tried.ending, mends)
                        return tried
                case Kubernetes():
                    if self._in_cluster(tried, settings, rtype, depth, mends):
                        tried.ending = _recoded(tried.ending, mends)
                        return tried
                case Forward():
                    if _forwards(settings, tried.asked):
                        tried.ending, tried.directive = Ending.UPSTREAM, "forward"
                        tried.notes.append(settings.explain())
                        return tried
                case _ if known.plugin.name not in SILENT:
                    tried.open.append(f"{known.plugin.name}: {settings.explain()}")
        return tried

    def _block_of(self, key: bytes) -> PlannedBlock | None:
        """The block of the longest zone, as the dispatcher chooses it."""
        found: tuple[int, PlannedBlock] | None = None
        for block in self._plan.blocks:
            for zone in block.zones:
                apex = name.from_text(zone).lower()
                if name.is_below(key, apex) and (found is None or len(apex) > found[0]):
                    found = len(apex), block
        return found[1] if found else None

    def _in_hosts(self, tried: Tried, settings: Hosts, rtype: str, mends: tuple[Mend, ...]) -> bool:
        """Whether `hosts` answers; False passes the question on."""
        octets = self._file(settings.path)
        try:
            if isinstance(octets, BadFile):
                raise octets
            table = settings.table(Reading(octets, settings.path))
        except BadFile as error:
            # It may be there where the server runs.
            tried.open.append(f"{HOSTS}: {error}")
            octets, table = b"", settings.table(())
        key = name.from_text(tried.asked).lower()
        owner = table.owner(key)
        if owner is not None:
            tried.directive = HOSTS
            rdatas = table.find(owner, _number(rtype))
            tried.ending = Ending.ANSWER if rdatas else Ending.NODATA
            if rdatas:
                tried.records = _texts(RRset(key, _number(rtype), settings.ttl, rdatas), mends)
            named = table.find(owner, iana.PTR)
            tried.reasons.rests_on += [
                f"{place}: {entry.text}"
                for place, entry in settings.places(Reading(octets, settings.path))
                if entry.gives(owner, named)
            ]
            return True
        if rtype == "PTR" or not below(settings.zones)(key):
            return False
        if below(settings.fallthrough or ())(key):
            return False
        tried.directive, tried.ending = HOSTS, Ending.FAILED
        tried.reasons.stop(
            "hosts has no entry of this name, and does not pass it on",
            "add an entry, or say fallthrough in its block",
        )
        return True

    def _file(self, path: str) -> bytes | BadFile:
        if path not in self._files:
            try:
                self._files[path] = self._read(path, MAX_OCTETS)
            except BadFile as error:
                self._files[path] = error
        return self._files[path]

    def _by_template(
        self, tried: Tried, settings: Template, rtype: str, depth: int, mends: tuple[Mend, ...]
    ) -> bool:
        """Whether a `template` answers; False passes the question on."""
        judge = self._judges.setdefault(id(settings), Judge(settings))
        query = Query(name.from_text(tried.asked), _number(rtype))
        zone = judge.zone_of(query)
        if zone is None:
            return False
        this = f"template ({settings.place.place})"
        matched = judge.fit(Request(query, _NOBODY), zone, Block((zone,)))
        if matched is None and judge.passes(query.key):
            tried.notes.append(f"{this}: no match fits, and the name goes on")
            return False
        tried.directive = "template"
        if matched is None:
            tried.ending = Ending.FAILED
            tried.reasons.stop(f"no match of {this} fits", "fallthrough lets other names go on")
            return True
        tried.notes.append(f"{this}: {matched.pattern.text} fits")
        if judge.own:
            # What it would say of nobody's question is said of no question.
            texts = settings.records["answer"]
            tried.notes.append("each query has an answer of its own")
            tried.records = [text.text for text in texts]
            tried.ending = _ending(tried, settings.rcode, has_answer=bool(texts))
            return True
        try:
            reply = judge.reply(matched)
        except NoRecord as error:
            tried.ending = Ending.FAILED
            tried.reasons.stop(f"{this} makes no record of it: {error}")
            return True
        reply.answer = tuple(retargeted(rrset, mends) for rrset in reply.answer)
        tried.records = [line for rrset in reply.answer for line in _texts(rrset, mends)]
        tried.ending = _ending(tried, reply.rcode, has_answer=bool(reply.answer))
        target = alias(query, reply)
        if target is not None:
            self._follow_target(tried, name.to_text(target), rtype, "the template", depth)
        return True

    def _in_cluster(
        self, tried: Tried, settings: Kubernetes, rtype: str, depth: int, mends: tuple[Mend, ...]
    ) -> bool:
        """Whether `kubernetes` answers; False passes the question on."""
        shown = self._shown.setdefault(id(settings), _Shown(settings, self._items))
        key = name.from_text(tried.asked).lower()
        zone = shown.zone_of(key)
        if zone is None:
            return False
        tried.directive = "kubernetes"
        tried.reasons = shown.reasons(key, zone, rtype)
        found = look(zone.node(key), _number(rtype))
        match found.end:
            case End.FOUND:
                tried.ending = Ending.ANSWER
                tried.records = _texts(cast("RRset", found.rrset), mends)
            case End.ALIAS:
                self._follow_alias(tried, cast("RRset", found.rrset), rtype, depth, mends)
            case End.NODATA:
                tried.ending = Ending.NODATA
            case End.NXDOMAIN:
                tried.ending = Ending.NXDOMAIN
                zones = [name.from_text(text).lower() for text in settings.fallthrough or ()]
                if any(name.is_below(key, apex) for apex in zones):
                    tried.notes.append("fallthrough: kubernetes passes it on")
                    tried.ending, tried.directive = Ending.REFUSED, ""
                    return False
        return True

    def _follow_alias(
        self, tried: Tried, found: RRset, rtype: str, depth: int, mends: tuple[Mend, ...]
    ) -> None:
        found = retargeted(found, mends)
        tried.records += _texts(found, mends)
        tried.ending = Ending.ANSWER
        if rtype == "CNAME":
            return
        self._follow_target(tried, name.to_text(found.rdatas[0]), rtype, "externalName", depth)

    def _follow_target(self, tried: Tried, target: str, rtype: str, by: str, depth: int) -> None:
        """by: what leads there, and may be made to lead elsewhere."""
        if depth >= MAX_ALIASES or target.lower() == tried.asked.lower():
            tried.ending = Ending.FAILED
            tried.reasons.stop(
                f"the aliases lead in a circle, or through more than {MAX_ALIASES} names: {target}",
                f"let {by} lead to a name that has addresses",
            )
            return
        further = self.follow(target, rtype, by, depth + 1)
        tried.records += further.records
        tried.reasons.rests_on += further.reasons.rests_on
        tried.open += further.open
        if further.ending is Ending.ANSWER:
            return
        if further.ending is Ending.UPSTREAM:
            tried.notes.append(
                f"its target {target} is asked of an upstream: what that says counts"
            )
            tried.notes += further.notes
            return
        tried.ending = further.ending
        tried.reasons.stop(f"the alias's target {target}: {further.ending.value}")
        tried.reasons.missing += further.reasons.missing
        tried.reasons.next += further.reasons.next


class _Shown:
    """The zones of one `kubernetes` directive, of the objects that it sees."""

    def __init__(self, settings: Kubernetes, items: list[objects.Object]) -> None:
        self._settings = settings
        self._world = World(items, settings)
        self.left_out: list[str] = []
        cluster = Cluster(lambda: 0, self.left_out.append)
        source = settings.source()
        selectors = {resource: (labels, fields) for resource, labels, fields in source.selectors}
        for item in items:
            resource = _RESOURCES[type(item)]
            if resource not in source.resources:
                continue
            labels, fields = selectors[resource]
            phase = (item.status.phase or "") if isinstance(item, objects.Pod) else ""
            if labels.matches(item.metadata.labels) and fields.matches({"status.phase": phase}):
                cluster.apply(resource, item)
        options = ZoneOptions(
            ttl=settings.ttl,
            pods=settings.pods,
            endpoint_pod_names=settings.endpoint_pod_names,
            ignore_empty_service=settings.ignore_empty_service,
            namespaces=settings.shown_namespaces(),
        )
        primary = name.from_text(settings.primary)
        self._zones: list[ForwardZone | ReverseZone] = []
        for text in settings.zones:
            apex = name.from_text(text)
            if is_reverse(text):
                self._zones.append(ReverseZone(apex, primary, cluster, options))
            else:
                self._zones.append(ForwardZone(apex, cluster, options))

    def zone_of(self, key: bytes) -> ForwardZone | ReverseZone | None:
        """The zone of the longest apex that has the name."""
        fitting = [zone for zone in self._zones if name.is_below(key, zone.apex)]
        return max(fitting, key=lambda zone: len(zone.apex), default=None)

    def reasons(self, key: bytes, zone: ForwardZone | ReverseZone, rtype: str) -> Reasons:
        """What the answer rests on, and what is missing."""
        if isinstance(zone, ForwardZone):
            below = name.to_text(key[: len(key) - len(zone.apex)] + b"\0").rstrip(".")
            labels = below.split(".") if below else []
            return of_forward(self._world, labels, rtype, name.to_text(zone.apex).rstrip("."))
        span = reverse_span(key)
        if span is None or span[0] != span[1]:
            return Reasons()
        return of_reverse(self._world, name.address_text(span[0]))


_RESOURCES: dict[type[objects.Object], Resource] = {
    resource.type: resource for resource in Resource
}


_NOBODY = Peer("", 0, "udp", "")


def _ending(tried: Tried, rcode: int, *, has_answer: bool) -> Ending:
    """What a template's rcode is for who asks."""
    if rcode == iana.Rcode.NXDOMAIN:
        return Ending.NXDOMAIN
    if rcode == iana.Rcode.NOERROR:
        return Ending.ANSWER if has_answer else Ending.NODATA
    tried.reasons.stop(f"the template answers {iana.rcode_text(rcode)}")
    return Ending.FAILED


def _rewritten(
    tried: Tried, block: PlannedBlock, rtype: str
) -> tuple[str, tuple[Mend, ...]] | None:
    """The type that is asked for by the block's rules, and what they do to the reply; what becomes
    of the name is said in `tried`. None: it ends there."""
    found = [one.settings for one in block.directives if isinstance(one.settings, Rewrite)]
    places = {id(one.rule): f"{one.place.file}:{one.place.line}" for one in found}
    asked = Asked(name.from_text(tried.name).lower(), _number(rtype))
    try:
        made = rewritten([one.rule for one in found], asked)
    except BadName as error:
        tried.ending, tried.directive = Ending.FAILED, "rewrite"
        tried.reasons.stop(str(error), "let the rule make shorter names, or match fewer")
        return None
    tried.notes += [f"rewrite ({places[id(rule)]}): {rule.explain()}" for rule in made.used]
    if asked.text != tried.name.lower():
        tried.asked = asked.text
        tried.notes.append(f"it is asked for as {asked.text}")
    if asked.qclass != iana.IN:
        tried.ending, tried.directive = Ending.REFUSED, "rewrite"
        return None
    return iana.type_text(asked.qtype), made.mends


_CODES = {
    Ending.NXDOMAIN: iana.Rcode.NXDOMAIN,
    Ending.NODATA: iana.Rcode.NOERROR,
    Ending.FAILED: iana.Rcode.SERVFAIL,
    Ending.REFUSED: iana.Rcode.REFUSED,
}


def _recoded(ending: Ending, mends: tuple[Mend, ...]) -> Ending:
    """How it ends once rules of rewrite have had their say."""
    reply = Reply(_CODES.get(ending, iana.Rcode.NOERROR))
    before = reply.rcode
    mend_reply(reply, mends)
    if reply.rcode == before:
        return ending
    return next((e for e, code in _CODES.items() if code == reply.rcode), Ending.FAILED)


def _forwards(settings: Forward, text: str) -> bool:
    key = name.from_text(text).lower()

    def within(zones: Iterable[str]) -> bool:
        return any(name.is_below(key, name.from_text(zone).lower()) for zone in zones)

    return within(settings.zones) and not within(settings.exceptions)


def _number(rtype: str) -> int:
    if rtype.startswith("TYPE"):
        return int(rtype[4:])
    return next(number for number, text in iana.TYPE_NAMES.items() if text == rtype)


def _texts(rrset: RRset, mends: tuple[Mend, ...] = ()) -> list[str]:
    """The records in a line each, as rules of rewrite have left them."""
    reply = Reply(answer=(rrset,))
    mend_reply(reply, mends)
    query = Query(rrset.owner, rrset.rtype)
    wire = write_reply(query, reply, limit=65535)
    records: list[RR] = DNSRecord.parse(wire).rr
    return [f"{rr.rname} {rr.ttl} IN {QTYPE.get(rr.rtype)} {rr.rdata}" for rr in records]


def address_of(text: str) -> str:
    """The reverse name of what is an address, absolute; else the text itself."""
    try:
        return name.to_text(name.reverse(model.address(text, "")))
    except ObjectError:
        return text
