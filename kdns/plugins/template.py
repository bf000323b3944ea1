"""template: answers made of the question, by patterns on its name and records that are templates.

class, type and zone are others -> the next directive
no pattern fits                 -> fallthrough, or SERVFAIL
fits: records from their texts  -> answered; an alias is followed by the server
      one that is no record     -> SERVFAIL, counted

Several in a block are tried in the order of the Corefile: each is the next directive of the one
before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.block import Block
from kdns.plugins.chain import (
    MAX_ALIASES,
    Handler,
    Outcome,
    Request,
    extended_error,
    failure,
    refuse,
)
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.hot import Lease
from kdns.plugins.parts import Parts
from kdns.plugins.patterns import BadPattern, Pattern, shown
from kdns.plugins.pending import after
from kdns.plugins.template_records import BadRecord, Record, read
from kdns.plugins.template_text import BadTemplate, Failed, Matched, Text
from kdns.telemetry.meters import Labels, Values
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Query
from kdns.wire.reply import Reply, RRset

NAME = "template"
SECTIONS = ("answer", "additional", "authority")
_LABELS = ("server", "zone", "view", "class", "type")
_TYPES = {text: number for number, text in iana.TYPE_NAMES.items()}
_CLASSES = {text: number for number, text in iana.CLASS_NAMES.items()}
RCODES = {text: number for number, text in iana.RCODE_NAMES.items()} | {
    "NOTIMPL": 4, "DSOTYPENI": 11, "BADSIG": 16, "BADKEY": 17, "BADTIME": 18, "BADMODE": 19,
    "BADNAME": 20, "BADALG": 21, "BADTRUNC": 22,
}  # fmt: skip
"""By the names that CoreDNS knows; BADSIG and BADVERS are one."""


class NoRecord(Exception):
    """A record that cannot be made of a query.

    rendered: whether the template made a text, which then was no record.
    """

    def __init__(self, section: str, text: Text, reason: str, *, rendered: bool) -> None:
        super().__init__(f"{section} {text.text!r}: {reason}")
        self.section = section
        self.text = text.text
        self.rendered = rendered


@dataclass(slots=True, frozen=True)
class Template(Configured):
    """The settings of one template directive.

    qclass, qtype: ANY for all. patterns: one at least. records: by section. fallthrough: None where
    names that no pattern fits do not go on.
    """

    place: Directive = field(compare=False)
    qclass: int
    qtype: int
    zones: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    records: dict[str, tuple[Text, ...]]
    rcode: int = Rcode.NOERROR
    extended: tuple[int, str] | None = None
    fallthrough: tuple[str, ...] | None = None
    ineffective: tuple[str, ...] = ()

    def explain(self) -> str:
        kind = f"{iana.class_text(self.qclass)} {iana.type_text(self.qtype)}"
        parts = [f"{kind} of {' '.join(self.zones)}"]
        if [pattern.text for pattern in self.patterns] != [EVERYTHING]:
            parts.append("names that fit " + " or ".join(p.text for p in self.patterns))
        made = [
            f"{count} {section} record{'' if count == 1 else 's'}"
            for section in SECTIONS
            if (count := len(self.records[section]))
        ]
        if self.rcode != Rcode.NOERROR:
            made.insert(0, _rcode_text(self.rcode))
        parts.append("answered with " + (", ".join(made) or "no data"))
        if self.fallthrough is not None:
            parts.append("others of " + " ".join(self.fallthrough) + " go on")
        return "; ".join(parts)

    def warnings(self) -> tuple[str, ...]:
        return self.ineffective

    def build(self, parts: Parts, following: Handler) -> Handler:
        if self.qclass != iana.IN:
            parts.block.classes.add(self.qclass)
        if self.qtype == iana.ANY and self.fallthrough is None:
            # Nothing of these zones is asked of anybody else.
            parts.block.own_zones += [name.from_text(zone) for zone in self.zones]
        if not isinstance(following, TemplateHandler):
            _count(parts)
        return TemplateHandler(self, parts, following)


EVERYTHING = ".*"
"""The pattern where there is none."""


class Judge:
    """Which queries a template answers, and with what: pure, but for what directives know."""

    def __init__(self, settings: Template) -> None:
        self.settings = settings
        zones = [(name.from_text(zone), zone) for zone in settings.zones]
        self._zones = sorted(zones, key=lambda zone: -len(zone[0]))
        self._fallthrough = [name.from_text(zone) for zone in settings.fallthrough or ()]
        self._constant = {
            text.text: read(text.plain())
            for texts in settings.records.values()
            for text in texts
            if text.constant
        }
        self.own = any(text.own for texts in settings.records.values() for text in texts)
        """Whether an answer may be another for the next who asks the same."""

    def zone_of(self, query: Query) -> str | None:
        """The zone that a question is in, where its class and type are ours too."""
        settings = self.settings
        if settings.qtype not in (iana.ANY, query.qtype) and query.qtype != iana.ANY:
            return None
        if settings.qclass not in (iana.CLASS_ANY, query.qclass) and query.qclass != iana.CLASS_ANY:
            return None
        for apex, zone in self._zones:
            if name.is_below(query.key, apex):
                return zone
        return None

    def passes(self, key: bytes) -> bool:
        """Whether a name goes on where no pattern fits it."""
        return any(name.is_below(key, apex) for apex in self._fallthrough)

    def fit(self, request: Request, zone: str, block: Block) -> Matched | None:
        """The first pattern that fits; None where none does."""
        query, settings = request.query, self.settings
        text = shown(query.key)
        for pattern in settings.patterns:
            found = pattern.search(text)
            if found is None:
                continue
            qclass = settings.qclass if query.qclass == iana.CLASS_ANY else query.qclass
            qtype = settings.qtype if query.qtype == iana.ANY else query.qtype

            def meta(label: str) -> str:
                return block.told(request, Reply()).get(label, "")

            # What has no name there has none in CoreDNS's templates and metrics either.
            return Matched(
                request,
                zone,
                text,
                iana.CLASS_NAMES.get(qclass, ""),
                iana.TYPE_NAMES.get(qtype, ""),
                pattern,
                found,
                meta,
            )
        return None

    def reply(self, matched: Matched) -> Reply:
        """The reply, its alias not followed. Raises NoRecord."""
        settings = self.settings
        rcode = settings.rcode
        if rcode == Rcode.SERVFAIL:
            # As in CoreDNS: a failure has no records.
            reply = Reply(rcode)
        else:
            answer, additional, authority = [self._records(s, matched) for s in SECTIONS]
            reply = Reply(rcode, answer, authority, additional, aa=True)
        if settings.extended is not None:
            reply.options = (extended_error(*settings.extended),)
        if not self.own:
            reply.depends = ()
        return reply

    def _records(self, section: str, matched: Matched) -> tuple[RRset, ...]:
        return grouped([self._record(section, t, matched) for t in self.settings.records[section]])

    def _record(self, section: str, text: Text, matched: Matched) -> Record:
        record = self._constant.get(text.text)
        if record is not None:
            return record
        try:
            rendered = text.render(matched)
        except Failed as error:
            raise NoRecord(section, text, str(error), rendered=False) from error
        try:
            return read(rendered)
        except BadRecord as error:
            raise NoRecord(section, text, str(error), rendered=True) from error


class TemplateHandler:
    """Answers what its template is about; see the module's picture."""

    def __init__(self, settings: Template, parts: Parts, following: Handler) -> None:
        self._judge = Judge(settings)
        self._block = parts.block
        self._resolve = parts.resolve
        self._following = following
        self._is_last = not isinstance(following, TemplateHandler)
        label = (*_LABELS, "section", "template")
        self._failures: Values = parts.meters.counter(
            "coredns_template_template_failures", "Templates that made no text.", label
        )
        self._rr_failures: Values = parts.meters.counter(
            "coredns_template_rr_failures", "Texts of templates that were no records.", label
        )

    def __call__(self, request: Request) -> Outcome:
        """Answer, or pass on."""
        query = request.query
        zone = self._judge.zone_of(query)
        if zone is None:
            return self._pass_on(request)
        matched = self._judge.fit(request, zone, self._block)
        if matched is None:
            if self._judge.passes(query.key):
                return self._pass_on(request)
            return failure("no match of the template fits, and no fallthrough", NAME)
        by = f"{NAME}/{zone} {matched.qclass} {matched.qtype}"
        try:
            reply = self._judge.reply(matched)
        except NoRecord as error:
            counted = self._failures if not error.rendered else self._rr_failures
            labels = (self._block.label, zone, "", matched.qclass, matched.qtype)
            counted[*labels, error.section, error.text] += 1
            return failure(str(error), by)
        reply.by = by
        return self._followed(request, reply)

    def _pass_on(self, request: Request) -> Outcome:
        # Of other classes than IN nobody behind has anything.
        if self._is_last and request.query.qclass != iana.IN:
            return refuse(request)
        return self._following(request)

    def _followed(self, request: Request, reply: Reply) -> Outcome:
        """RFC 1034, section 3.6.2: the alias, then what its target has of the type asked for."""
        target = alias(request.query, reply)
        if target is None or request.aliases >= MAX_ALIASES:
            return reply
        outcome = self._resolve(request.instead(target))
        return after(outcome, lambda further: joined(reply, further))


def alias(query: Query, reply: Reply) -> bytes | None:
    """The name that the aliases of an answer lead to, where it says nothing of that itself."""
    if query.qtype in (iana.CNAME, iana.ANY) or reply.rcode != Rcode.NOERROR:
        return None
    targets = {
        rrset.owner.lower(): rrset.rdatas[0] for rrset in reply.answer if rrset.rtype == iana.CNAME
    }
    there = {rrset.owner.lower() for rrset in reply.answer if rrset.rtype == query.qtype}
    at, seen = query.key, {query.key}
    while at in targets and at not in there:
        at = targets[at].lower()
        if at in seen:
            return None
        seen.add(at)
    return None if at == query.key or at in there else at


def joined(ours: Reply, further: Reply) -> Reply:
    """An alias of ours, and what the server found at its end.

    RFC 6604, section 3: the rcode is that of the last name of the chain.
    """
    if further.rcode == Rcode.REFUSED and not further.by:
        # Nobody here serves the target: the alias alone is the whole of our answer.
        return ours
    if further.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        ours.rcode = Rcode.SERVFAIL
        ours.error = further.error or f"the alias's target: {iana.rcode_text(further.rcode)}"
        ours.depends = None
        return ours
    held = {(rrset.owner.lower(), rrset.rtype) for rrset in ours.answer}
    answer = further.answer
    new = tuple([r for r in answer if (r.owner.lower(), r.rtype) not in held])
    ours.rcode = further.rcode
    ours.answer += new
    ours.tc = further.tc
    rests_on = further.depends
    if len(new) < len(answer) or (rests_on and any(type(one) is Lease for one in rests_on)):
        # What is counted down is not all of it.
        rests_on = None
    ours.depends = None if ours.depends is None else rests_on
    if new:
        ours.rotated, ours.runs, ours.drawn = further.rotated, further.runs, further.drawn
    return ours


def grouped(records: Iterable[Record]) -> tuple[RRset, ...]:
    """Record sets, in the order of their first records.

    RFC 2181, section 5: no record twice in a set, and one TTL for all of it, the least.
    """
    sets: dict[tuple[bytes, int, int], tuple[bytes, int, dict[bytes, None]]] = {}
    for owner, rtype, rclass, ttl, data in records:
        key = (owner.lower(), rtype, rclass)
        first, least, datas = sets.get(key, (owner, ttl, {}))
        sets[key] = (first, min(least, ttl), {**datas, data: None})
    return tuple(
        [
            RRset(owner, rtype, ttl, tuple(datas), rclass)
            for (_, rtype, rclass), (owner, ttl, datas) in sets.items()
        ]
    )


def _count(parts: Parts) -> None:
    """Have the matches of a block's templates among the metrics: its answers say whose they are,
    and hot ones are counted there as well."""
    block = parts.block
    # Not the block's attribute: where workers answer, that is replaced by a sum of theirs.
    counted = tuple(block.by_zone)
    before = f"{NAME}/"

    def read_matches() -> list[tuple[Labels, float]]:
        matches: dict[Labels, int] = {}
        for counters in counted:
            for (_, by), times in counters.responses.items():
                if by.startswith(before):
                    zone, qclass, qtype = by.removeprefix(before).split(" ")
                    labels = (block.label, zone, "", qclass, qtype)
                    matches[labels] = matches.get(labels, 0) + times
        return list(matches.items())

    parts.meters.watch(
        "counter",
        "coredns_template_matches",
        "Questions that a template answered.",
        _LABELS,
        read_matches,
    )


def parse(directive: Directive, zones: tuple[str, ...]) -> Template:
    """See configured.Parse. `template CLASS TYPE [ZONES…] { … }`."""
    qclass, qtype, *named = values.at_least(directive, 2)
    patterns: list[Pattern] = []
    texts: dict[str, list[Token]] = {section: [] for section in SECTIONS}
    rcode = [int(Rcode.NOERROR)]
    extended: list[tuple[int, str]] = []
    fallthrough: list[tuple[str, ...]] = []
    ineffective: list[str] = []

    def match(option: Directive) -> None:
        patterns.extend(map(_pattern, values.at_least(option, 1)))

    def records(option: Directive) -> None:
        texts[option.name] += values.at_least(option, 1)

    def read_rcode(option: Directive) -> None:
        rcode[0] = _known(values.exactly(option, 1)[0], RCODES, "rcode: expected an rcode")

    def ederror(option: Directive) -> None:
        code, *text = values.between(option, 1, 2)
        # RFC 8914, section 2: INFO-CODE has 16 bits.
        number = values.integer(code, maximum=65_535)
        extended[:] = [(number, text[0].text if text else "")]

    def fall(option: Directive) -> None:
        fallthrough[:] = [tuple(z for arg in option.args for z in expand_zone(arg)) or (".",)]

    def upstream(option: Directive) -> None:
        ineffective.append(
            f"{option.place}: upstream has no effect: aliases are always followed by this server"
        )

    read_options(
        directive,
        {
            "match": match,
            **dict.fromkeys(SECTIONS, records),
            "rcode": read_rcode,
            "ederror": ederror,
            "fallthrough": fall,
            "upstream": upstream,
        },
    )
    patterns = patterns or [Pattern(EVERYTHING)]
    within = tuple(zone for arg in named for zone in expand_zone(arg))
    return Template(
        directive,
        _known(qclass, _CLASSES, "template: expected a class"),
        _known(qtype, _TYPES, "template: expected a type"),
        tuple(dict.fromkeys(within or zones)),
        tuple(patterns),
        {
            section: tuple(_text(t, section, patterns) for t in texts[section])
            for section in SECTIONS
        },
        rcode[0],
        extended[0] if extended else None,
        fallthrough[0] if fallthrough else None,
        tuple(ineffective),
    )


def _known(token: Token, known: dict[str, int], expected: str) -> int:
    number = known.get(token.text)
    if number is None:
        some = ", ".join(list(known)[:3])
        raise CorefileError.at(token, f"{expected} such as {some}, got {token.text!r}")
    return number


def _pattern(token: Token) -> Pattern:
    try:
        return Pattern(token.text)
    except BadPattern as error:
        raise CorefileError.at(
            token, f"match: expected a regular expression of RE2, got {token.text[:300]!r}: {error}"
        ) from error


def _text(token: Token, section: str, patterns: list[Pattern]) -> Text:
    try:
        text = Text(token.text, patterns)
        if text.constant:
            read(text.plain())
    except (BadTemplate, BadRecord) as error:
        hint = "" if token.quoted else "; a record stands in quotes"
        raise CorefileError.at(token, f"{section}: {token.text[:300]!r}: {error}{hint}") from error
    return text


def _rcode_text(rcode: int) -> str:
    return next(text for text, number in RCODES.items() if number == rcode)
