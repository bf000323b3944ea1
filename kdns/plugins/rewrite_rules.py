"""What rules of rewrite make of a question, and of what is answered to it.

    Asked --rule--> Asked --rule--> ... the next directive is asked this
              | Mend          | Mend
    reply <---+------<--------+-------- the reply to it: the last rule's are done first

Rules see names as text, absolute and in lower case, as CoreDNS's do: `suffix ld.example.` ends
"old.example." too. What comes of it is a name, or the question fails.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kdns.plugins.block import Block
from kdns.plugins.chain import Request
from kdns.plugins.hot import Lease
from kdns.plugins.patterns import Pattern, shown
from kdns.wire import iana, name
from kdns.wire.errors import BadName
from kdns.wire.message import naptr_replacement
from kdns.wire.reply import Reply, RRset


class Asked:
    """A question, as far as rules change it. key: the name in lower case. request, block: who asks
    it, and where, if anybody does.

    options: EDNS options as rules see them, the client's and those that rules have put there; sent:
    the latter alone. varies: whether clients who ask alike may get different options; forks:
    whether other rules may be for them too.
    """

    __slots__ = (
        "_text",
        "block",
        "forks",
        "key",
        "options",
        "qclass",
        "qtype",
        "request",
        "sent",
        "varies",
    )

    def __init__(
        self,
        key: bytes,
        qtype: int,
        qclass: int = iana.IN,
        request: Request | None = None,
        block: Block | None = None,
    ) -> None:
        self.key = key
        self.qtype = qtype
        self.qclass = qclass
        self.request = request
        self.block = block
        self.options: dict[int, bytes] | None = None
        self.sent: dict[int, bytes] = {}
        self.varies = False
        self.forks = False
        self._text = ""

    @property
    def text(self) -> str:
        """The name as text."""
        if not self._text:
            self._text = shown(self.key)
        return self._text

    def rename(self, key: bytes) -> None:
        """Ask for another name."""
        self.key = key
        self._text = ""


# Names.


class Names(ABC):
    """Which names, and what stands in their place."""

    @abstractmethod
    def replaced(self, text: str) -> str | None:
        """What becomes of a name; None: it is another's."""

    @abstractmethod
    def explain(self) -> str:
        """For people: which names."""

    def matches(self, text: str) -> bool:
        """Whether it is one of these."""
        return self.replaced(text) is not None


@dataclass(frozen=True, slots=True)
class Exact(Names):
    """One name."""

    old: str
    new: str = ""

    def replaced(self, text: str) -> str | None:
        return self.new if text == self.old else None

    def explain(self) -> str:
        return self.old


@dataclass(frozen=True, slots=True)
class Prefix(Names):
    """Names that begin so."""

    old: str
    new: str = ""

    def replaced(self, text: str) -> str | None:
        return self.new + text[len(self.old) :] if text.startswith(self.old) else None

    def explain(self) -> str:
        return f"{self.old}*"


@dataclass(frozen=True, slots=True)
class Suffix(Names):
    """Names that end so."""

    old: str
    new: str = ""

    def replaced(self, text: str) -> str | None:
        return text.removesuffix(self.old) + self.new if text.endswith(self.old) else None

    def explain(self) -> str:
        return f"*{self.old}"


@dataclass(frozen=True, slots=True)
class Substring(Names):
    """Names in which it stands somewhere; it is replaced wherever it does."""

    old: str
    new: str = ""

    def replaced(self, text: str) -> str | None:
        return text.replace(self.old, self.new) if self.old in text else None

    def explain(self) -> str:
        return f"*{self.old}*"


@dataclass(frozen=True, slots=True)
class Expression(Names):
    """Names that a regular expression finds something in. What is found replaces the whole.

    template: text, and in the place of {1} the number of a group.
    """

    pattern: Pattern
    template: tuple[str | int, ...] = ()

    def replaced(self, text: str) -> str | None:
        found = self.pattern.search(text)
        if found is None:
            return None
        return "".join([found[p] if isinstance(p, int) else p for p in self.template])

    def explain(self) -> str:
        return f"/{self.pattern.text}/"


# What is done to replies.


class Mend:
    """What a rule does to the reply."""

    def sets(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        """A section of it."""
        return rrsets

    def finish(self, reply: Reply) -> None:
        """The whole of it, once its sections are done."""


Rename = Callable[[bytes], bytes]
"""A name to the name in its place, or to itself. Never raises."""


@dataclass(frozen=True, slots=True)
class Renaming(Mend):
    """Names in the reply: owners, or those that records lead to, or both."""

    rename: Rename
    owners: bool
    values: bool

    def sets(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(map(self._set, rrsets))

    def _set(self, rrset: RRset) -> RRset:
        owner = self.rename(rrset.owner) if self.owners else rrset.owner
        rdatas = rrset.rdatas
        if self.values and rrset.rtype in _TARGET_AT:
            rdatas = tuple([self._data(rrset.rtype, rdata) for rdata in rdatas])
        if owner is rrset.owner and rdatas == rrset.rdatas:
            return rrset
        return rrset._replace(owner=owner, rdatas=tuple(dict.fromkeys(rdatas)))

    def _data(self, rtype: int, rdata: bytes) -> bytes:
        at = _TARGET_AT[rtype]
        if at < 0:
            at = naptr_replacement(rdata)
        target, end = name.read(rdata, at)
        return rdata[:at] + self.rename(target) + rdata[end:]


_NAPTR: Final = 35
_TARGET_AT: Final = {
    iana.NS: 0, iana.CNAME: 0, iana.SOA: 0, iana.PTR: 0, iana.MX: 2, iana.SRV: 6, _NAPTR: -1,
    iana.DNAME: 0,
}  # fmt: skip
"""Where the name stands in the data that CoreDNS's rules for values change; of a SOA, its primary
server. -1: behind strings."""


@dataclass(frozen=True, slots=True)
class Back:
    """One name, and all below it, to another."""

    old: bytes
    new: bytes

    def __call__(self, owner: bytes) -> bytes:
        """See Rename."""
        if not name.is_below(owner.lower(), self.old):
            return owner
        renamed = owner[: len(owner) - len(self.old)] + self.new
        return renamed if len(renamed) <= name.MAX_NAME else owner


@dataclass(frozen=True, slots=True)
class Replaced:
    """Names with others in their place; what would be no name stays as it is."""

    names: Names

    def __call__(self, owner: bytes) -> bytes:
        """See Rename."""
        key = owner.lower()
        replaced = self.names.replaced(shown(key))
        if replaced is None:
            return owner
        try:
            renamed = name.from_text(replaced)
        except BadName:
            return owner
        return owner if renamed == key else renamed


@dataclass(frozen=True, slots=True)
class Bounds(Mend):
    """TTLs between two bounds, seconds."""

    least: int
    most: int

    def sets(self, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple([r._replace(ttl=max(self.least, min(r.ttl, self.most))) for r in rrsets])

    def finish(self, reply: Reply) -> None:
        # What rests on a lease alone counts down where it stands, and is not to go below a bound.
        if reply.depends is not None and any(isinstance(one, Lease) for one in reply.depends):
            reply.depends = (*reply.depends, "rewrite ttl")


@dataclass(frozen=True, slots=True)
class Recode(Mend):
    """One rcode in the place of another."""

    old: int
    new: int

    def finish(self, reply: Reply) -> None:
        if reply.rcode == self.old:
            reply.rcode = self.new


@dataclass(frozen=True, slots=True)
class Retarget(Mend):
    """Aliases in the answer lead to another name, which is looked up: see aliases."""

    names: Names

    def aliases(self, reply: Reply) -> tuple[RRset, ...]:
        """The chain of aliases up to the first one whose target is among these names, and that
        leads to the other one; empty where there is none, or where that would be no name."""
        chain: list[RRset] = []
        for rrset in reply.answer:
            if rrset.rtype not in _ALIASES:
                continue
            chain.append(rrset)
            if rrset.rtype == iana.CNAME:
                target = Replaced(self.names)(rrset.rdatas[0])
                if target is not rrset.rdatas[0]:
                    chain[-1] = rrset._replace(rdatas=(target,))
                    return tuple(chain)
        return ()


_ALIASES: Final = (iana.CNAME, iana.DNAME)


# Rules.


class Rule(ABC):
    """One rule. goes_on: whether the next one is looked at after it."""

    goes_on: bool

    @abstractmethod
    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        """Change what is asked; what it does to the reply. None: the rule is for others.

        Raises BadName.
        """

    @abstractmethod
    def explain(self) -> str:
        """For people: what it does."""


@dataclass(frozen=True, slots=True)
class NameRule(Rule):
    """Asks for another name.

    auto: names in the reply are put back: the name itself and those below it, or, where it is a
    suffix that was replaced, whatever ends in the new one. mends: what else is done to names there.
    """

    goes_on: bool
    names: Names
    auto: bool = False
    mends: tuple[Mend, ...] = ()

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        new = self.names.replaced(asked.text)
        if new is None:
            return None
        old = asked.key
        try:
            asked.rename(name.from_text(new))
        except BadName as error:
            raise BadName(f"invalid name after rewrite: {new}: {error}") from error
        if not self.auto:
            return self.mends
        back: Rename = Back(asked.key, old)
        if isinstance(self.names, Suffix):
            back = Replaced(Suffix(self.names.new, self.names.old))
        return (Renaming(back, owners=True, values=True), *self.mends)

    def explain(self) -> str:
        text = f"{self.names.explain()} is asked for as {new_name(self.names)}"
        if self.auto:
            text += ", and answered under its own name"
        for mend in self.mends:
            assert isinstance(mend, Renaming)
            what = "owners" if mend.owners else "targets"
            assert isinstance(mend.rename, Replaced)
            text += f"; {what} in answers by {mend.rename.names.explain()}"
        return text


@dataclass(frozen=True, slots=True)
class TypeRule(Rule):
    """Asks for another type."""

    goes_on: bool
    old: int
    new: int

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        if asked.qtype != self.old:
            return None
        asked.qtype = self.new
        return ()

    def explain(self) -> str:
        return f"{iana.type_text(self.old)} is asked for as {iana.type_text(self.new)}"


@dataclass(frozen=True, slots=True)
class ClassRule(Rule):
    """Asks in another class."""

    goes_on: bool
    old: int
    new: int

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        if asked.qclass != self.old:
            return None
        asked.qclass = self.new
        return ()

    def explain(self) -> str:
        old, new = iana.class_text(self.old), iana.class_text(self.new)
        return f"class {old} is asked for as {new}"


@dataclass(frozen=True, slots=True)
class ReplyRule(Rule):
    """Leaves the question, and does something to the reply. what: for people."""

    goes_on: bool
    names: Names
    mend: Mend
    what: str

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        return (self.mend,) if self.names.matches(asked.text) else None

    def explain(self) -> str:
        return f"{self.names.explain()}: {self.what}"


@dataclass(frozen=True, slots=True)
class CnameRule(Rule):
    """Has aliases lead elsewhere. It is for every question, as CoreDNS's."""

    goes_on: bool
    names: Names

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        return (Retarget(self.names),)

    def explain(self) -> str:
        return f"aliases of {self.names.explain()} lead to {new_name(self.names)}"


def new_name(names: Names) -> str:
    """For people: what stands in the place of these names."""
    if isinstance(names, Expression):
        return "".join(f"{{{p}}}" if isinstance(p, int) else p for p in names.template)
    assert isinstance(names, Exact | Prefix | Suffix | Substring)
    return type(names)(names.new).explain()


MAX_DATA: Final = 256
"""Octets of an EDNS option that upstreams are sent."""
Datum = Callable[[Asked], bytes | None]
"""The data of an EDNS option; None: nothing is known of it."""


@dataclass(frozen=True, slots=True)
class OptionRule(Rule):
    """Puts an EDNS option into what upstreams are asked, or takes it out.

    action: set, append (where there is none: else the client's own goes there), replace (where
    there is one), unset.
    alike: whether the data are the same for all who ask the same. what: for people.
    """

    goes_on: bool
    action: str
    code: int
    data: Datum
    alike: bool
    what: str

    def apply(self, asked: Asked) -> tuple[Mend, ...] | None:
        if asked.options is None:
            asked.options = {}
            if asked.request is not None:
                query = asked.request.query
                theirs = query.edns.options if query.edns is not None else ()
                asked.sent.update(query.sent)
                asked.options.update((*theirs, *query.sent))
        there = self.code in asked.options
        if self.action in ("append", "replace"):
            asked.varies = True
            # Whether it ends here is by what the client has sent.
            asked.forks |= not self.goes_on
        if self.action == "unset":
            asked.options.pop(self.code, None)
            asked.sent.pop(self.code, None)
            return ()
        if self.action == "append" and there:
            if len(asked.options[self.code]) <= MAX_DATA:
                asked.sent[self.code] = asked.options[self.code]
            return None
        if self.action == "replace" and not there:
            return None
        asked.varies |= not self.alike
        data = self.data(asked)
        if asked.request is None:
            return ()
        if data is None:
            asked.forks |= not self.goes_on
            return None
        asked.options[self.code] = asked.sent[self.code] = data
        return ()

    def explain(self) -> str:
        if self.action == "unset":
            return f"upstreams are not sent EDNS option {self.code}"
        when = {"append": ", where there is none", "replace": ", where there is one"}
        text = f"upstreams are sent EDNS option {self.code}: {self.what}"
        return text + when.get(self.action, "")


class Rewritten(NamedTuple):
    """What comes of a question. used: the rules that were for it."""

    asked: Asked
    mends: tuple[Mend, ...]
    used: tuple[Rule, ...]


def rewritten(rules: Iterable[Rule], asked: Asked) -> Rewritten:
    """What the rules make of a question, one after the other. Raises BadName."""
    mends: list[Mend] = []
    used: list[Rule] = []
    for rule in rules:
        made = rule.apply(asked)
        if made is None:
            continue
        mends += made
        used.append(rule)
        if not rule.goes_on:
            break
    return Rewritten(asked, tuple(mends), tuple(used))


def retargeted(alias: RRset, mends: Sequence[Mend]) -> RRset:
    """An alias as rules have it lead; any other set is left as it is."""
    for mend in reversed(mends):
        if isinstance(mend, Retarget):
            (alias,) = mend.aliases(Reply(answer=(alias,))) or (alias,)
    return alias


def mend_reply(reply: Reply, mends: Sequence[Mend]) -> None:
    """Do to a reply what the rules want, the last one's first."""
    if any(type(mend) is not Recode for mend in mends):
        sections = before = (reply.answer, reply.authority, reply.additional)
        for mend in reversed(mends):
            answer, authority, additional = sections
            sections = (mend.sets(answer), mend.sets(authority), mend.sets(additional))
        if sections != before:
            reply.answer, reply.authority, reply.additional = map(_joined, sections)
    for mend in reversed(mends):
        mend.finish(reply)


def _joined(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
    """Sets that have come to be one name's, as one: no record twice, and one TTL (RFC 2181, 5)."""
    together: dict[object, RRset] = {}
    for rrset in rrsets:
        # Signatures have the TTL of what they sign (RFC 4034, section 3).
        apart = rrset.ttl if rrset.rtype == _RRSIG else 0
        key = (rrset.owner.lower(), rrset.rtype, rrset.rclass, apart)
        first = together.get(key)
        if first is None:
            together[key] = rrset
            continue
        datas = tuple(dict.fromkeys(first.rdatas + rrset.rdatas))
        together[key] = first._replace(ttl=min(first.ttl, rrset.ttl), rdatas=datas)
    return tuple(together.values())


_RRSIG: Final = 46
