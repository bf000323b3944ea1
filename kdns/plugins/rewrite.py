"""rewrite: a query is asked as another one, and its reply is what the client asked for.

    client's question --rules--> another question --> cache, kubernetes, forward
    client's question <--reply-- what rules do to replies <-- its reply

Each directive is one rule, and all of a block are one handler, in the order of the file. What a
rule does depends on the question alone, so answers stay hot under the client's own question, and
rest on what the answers to the other one rest on.
"""

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins import cache, forwarding
from kdns.plugins.chain import MAX_ALIASES, Handler, Outcome, Request, Withheld, failure
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.plugins.patterns import BadPattern, Pattern, shown
from kdns.plugins.pending import after
from kdns.plugins.rewrite_options import option_rule
from kdns.plugins.rewrite_rules import (
    Asked,
    Bounds,
    ClassRule,
    CnameRule,
    Exact,
    Expression,
    Mend,
    NameRule,
    Names,
    Prefix,
    Recode,
    Renaming,
    Replaced,
    ReplyRule,
    Retarget,
    Rewritten,
    Rule,
    Substring,
    Suffix,
    TypeRule,
    mend_reply,
    rewritten,
)
from kdns.wire import iana, name
from kdns.wire.errors import BadName
from kdns.wire.iana import Rcode
from kdns.wire.message import Query
from kdns.wire.passed import Passed
from kdns.wire.reply import Reply, RRset

NAME = "rewrite"
KINDS = ("exact", "prefix", "suffix", "substring", "regex")
MAX_TTL = 2**31 - 1
"""Seconds (RFC 2181, section 8)."""
_MODES = {"stop": False, "continue": True}
_HANDED_ON = (forwarding.NAME, cache.NAME)
"""Who answers by what upstreams say."""


@dataclass(slots=True, frozen=True)
class Rewrite(Configured):
    """One rewrite directive: one rule."""

    rule: Rule
    place: Directive = field(compare=False)

    def explain(self) -> str:
        text = self.rule.explain()
        return f"{text}; then the next rule" if self.rule.goes_on else text

    def build(self, parts: Parts, following: Handler) -> Handler:
        if not isinstance(following, Rewriter):
            # What the directives behind take is known, for they are built first.
            classes = {iana.IN, *parts.block.classes}
            following = Rewriter(following, classes, parts)
        # The last rule comes first.
        following.rules.insert(0, self.rule)
        if isinstance(self.rule, ClassRule):
            parts.block.classes.add(self.rule.old)
        return following


class Rewriter:
    """Asks by the rules of a block, and mends what comes back.

    classes: those that directives behind it answer; ANY is all of them.
    """

    def __init__(self, following: Handler, classes: AbstractSet[int], parts: Parts) -> None:
        self.rules: list[Rule] = []
        self._following = following
        self._resolve = parts.resolve
        self._block = parts.block
        self._classes = classes

    def __call__(self, request: Request) -> Outcome:
        """Pass on what the rules make of it."""
        query = request.query
        asked = Asked(query.key, query.qtype, query.qclass, request, self._block)
        try:
            made = rewritten(self.rules, asked)
        except BadName as error:
            return failure(str(error), NAME)
        if self._classes.isdisjoint((asked.qclass, iana.CLASS_ANY)):
            # Most data is of class IN.
            return Reply(Rcode.REFUSED, by=NAME)
        renamed = asked.key != query.key
        sent = query.sent if asked.options is None else tuple(asked.sent.items())
        if (
            renamed
            or asked.qtype != query.qtype
            or asked.qclass != query.qclass
            or sent != query.sent
        ):
            other = _instead(query, asked, sent, renamed=renamed)
            request = request._replace(query=other)
        elif not (made.mends or asked.varies or asked.forks):
            return self._following(request)
        outcome = self._following(request)
        return after(outcome, partial(self._came, request, made, renamed))

    def _came(self, request: Request, made: Rewritten, renamed: bool, reply: Reply) -> Outcome:
        if type(reply) is Withheld:
            return reply
        asked = made.asked
        if asked.forks or (asked.varies and reply.by.partition("/")[0] in _HANDED_ON):
            # Who asks the same may be told something else.
            reply.depends = None
        if renamed:
            if type(reply) is Passed:
                # Its octets count from a question that is another one.
                reply.take_apart()
            if reply.error:
                reply.error = f"{reply.error} (asked as {asked.text})"
        return self._mended(request, made.mends, reply) if made.mends else reply

    def _mended(self, request: Request, mends: tuple[Mend, ...], reply: Reply) -> Outcome:
        """What the rules make of a reply to `request`, the last one first."""
        last = max([n for n, mend in enumerate(mends) if type(mend) is Retarget], default=-1)
        mend_reply(reply, mends[last + 1 :])
        if last < 0:
            return reply
        rest = mends[:last]
        retarget = mends[last]
        assert isinstance(retarget, Retarget)
        chain = retarget.aliases(reply)
        if not chain:
            return self._mended(request, rest, reply)
        if request.query.qtype in (iana.CNAME, iana.ANY):
            reply.answer = chain
            return self._mended(request, rest, reply)
        if request.aliases >= MAX_ALIASES:
            return failure(f"aliases lead through more than {MAX_ALIASES} names", NAME)
        target = self._resolve(request.instead(chain[-1].rdatas[0]))
        return after(
            target, lambda found: self._mended(request, rest, _followed(reply, chain, found))
        )


def _followed(reply: Reply, chain: tuple[RRset, ...], found: Reply) -> Reply:
    """A reply whose aliases lead elsewhere, with what is found there.

    RFC 6604, section 3: the rcode is that of the last name of the chain.
    """
    rcode, error = found.rcode, found.error
    if rcode == Rcode.REFUSED and not found.by:
        # Nobody here serves the target: the alias alone is the whole of our answer.
        rcode, error = Rcode.NOERROR, ""
    depends = None
    if reply.depends is not None and found.depends is not None:
        depends = tuple(dict.fromkeys((*reply.depends, *found.depends)))
    return Reply(
        rcode,
        (*chain, *found.answer),
        found.authority,
        found.additional,
        aa=reply.aa,
        tc=found.tc,
        by=reply.by,
        error=error,
        options=found.options,
        depends=depends,
        upstream=found.upstream or reply.upstream,
    )


def _instead(
    query: Query, asked: Asked, sent: tuple[tuple[int, bytes], ...], *, renamed: bool
) -> Query:
    """What is asked on behalf of the same client."""
    return Query(
        asked.key if renamed else query.qname,
        asked.qtype,
        asked.qclass,
        id=query.id,
        flags=query.flags,
        edns=query.edns,
        size=query.size,
        sent=sent,
    )


# The Corefile.


class _Words:
    """The words of a rule, whether they stand in one line or in a block."""

    def __init__(self, directive: Directive) -> None:
        self.directive = directive
        self.words = list(directive.args)
        if directive.block is not None:
            if len(self.words) > 1:
                raise CorefileError.at(
                    directive, "rewrite: expected the rule in one line or in a block, got both"
                )
            for line in directive.block:
                values.without_block(line)
                self.words += [Token(line.name, line.file, line.line), *line.args]
        self._at = 0

    @property
    def left(self) -> int:
        """How many there are."""
        return len(self.words) - self._at

    def peek(self) -> str:
        """The next one, or nothing."""
        return self.words[self._at].text if self.left else ""

    def take(self, expected: str) -> Token:
        """The next one. Raises CorefileError, saying what was expected, where there is none."""
        if not self.left:
            place = self.words[-1] if self.words else self.directive
            raise CorefileError.at(place, f"rewrite: expected {expected} behind what is there")
        self._at += 1
        return self.words[self._at - 1]

    def rest(self) -> list[Token]:
        """All that are left."""
        left, self._at = self.words[self._at :], len(self.words)
        return left

    def end(self) -> None:
        """Raises CorefileError where there is one more."""
        if self.left:
            token = self.words[self._at]
            hint = ""
            if token.text.lower() in _FIELDS:
                hint = ": each rule has a rewrite of its own"
            raise CorefileError.at(
                token, f"rewrite: expected the rule's end, got {token.text!r}{hint}"
            )


def parse(directive: Directive, zones: tuple[str, ...]) -> Rewrite:
    """See configured.Parse. `rewrite [continue|stop] FIELD …`, or with what follows in a block."""
    words = _Words(directive)
    goes_on = False
    if words.peek().lower() in _MODES:
        goes_on = _MODES[words.take("").text.lower()]
    fields = ", ".join(_FIELDS)
    token = words.take(f"one of {fields}")
    wanted = token.text.lower()
    if wanted == "answer":
        raise CorefileError.at(token, "rewrite: expected a name rule before answer")
    if wanted not in _FIELDS:
        raise CorefileError.at(token, f"rewrite: expected one of {fields}, got {token.text!r}")
    return Rewrite(_FIELDS[wanted](words, goes_on), directive)


def _name_rule(words: _Words, goes_on: bool) -> Rule:
    # Options take a kind before FROM; without one, two names are all.
    kind = "exact"
    if words.left > 2:
        kind = _kind(words, "name")
    old, new = words.take("FROM"), words.take("TO")
    about = _about(kind, old, new)
    auto, mends = _answers(words)
    return NameRule(goes_on, about, auto or kind == "exact", mends)


def _kind(words: _Words, field_: str) -> str:
    token = words.take("a kind")
    kind = token.text.lower()
    if kind not in KINDS:
        raise CorefileError.at(
            token,
            f"rewrite: {field_}: expected {', '.join(KINDS)} before so many words, "
            f"got {token.text!r}",
        )
    return kind


def _about(kind: str, old: Token, new: Token | None = None, *, dotted: bool = True) -> Names:
    match kind:
        case "exact":
            return Exact(_whole(old), "" if new is None else _whole(new))
        case "prefix":
            return Prefix(*_parts(old, new, dotted=dotted))
        case "suffix":
            return Suffix(*_parts(old, new, dotted=dotted))
        case "substring":
            return Substring(*_parts(old, new, dotted=dotted))
    return _expression(old, new, dotted=dotted)


def _whole(token: Token) -> str:
    return shown(name.from_text(values.domain_name(token)))


def _parts(old: Token, new: Token | None, *, dotted: bool) -> tuple[str, str]:
    """Parts of names, as CoreDNS takes them: in lower case, and mostly with a dot at the end."""
    return _part(old, dotted=dotted), "" if new is None else _part(new, dotted=dotted)


def _part(token: Token, *, dotted: bool = True) -> str:
    text = token.text.lower()
    if not text or not text.isascii() or any(character <= " " for character in text):
        raise CorefileError.at(token, f"rewrite: expected a part of a name, got {token.text!r}")
    return text if text.endswith(".") or not dotted else f"{text}."


_GROUP = re.compile(r"\{([0-9]{1,3})\}")


def _expression(old: Token, new: Token | None, *, dotted: bool = True) -> Expression:
    try:
        pattern = Pattern(old.text)
    except BadPattern as error:
        raise CorefileError.at(
            old, f"rewrite: expected a regular expression, got {old.text!r}: {error}"
        ) from error
    if new is None:
        return Expression(pattern)
    template: list[str | int] = []
    for index, piece in enumerate(_GROUP.split(_part(new, dotted=dotted))):
        if index % 2 == 0:
            template.append(piece)
        elif int(piece) > pattern.groups:
            has = f"{pattern.groups} group{'' if pattern.groups == 1 else 's'}"
            raise CorefileError.at(new, f"rewrite: {{{piece}}}: {old.text} has {has}")
        else:
            template.append(int(piece))
    return Expression(pattern, tuple(piece for piece in template if piece != ""))


def _answers(words: _Words) -> tuple[bool, tuple[Mend, ...]]:
    """`answer auto|name FROM TO|value FROM TO …`, the word answer once at least."""
    auto: Token | None = None
    owners: Token | None = None
    mends: list[Mend] = []
    begun = False
    while words.left:
        if words.peek() == "answer":
            words.take("")
            begun = True
        elif not begun:
            words.end()
        token = words.take("auto, name or value")
        if token.text == "auto":
            auto = token
        elif token.text == "name" and _is_auto(words):
            auto = words.take("")
        elif token.text in ("name", "value"):
            owners = token if token.text == "name" else owners
            found = _expression(words.take("FROM"), words.take("TO"))
            is_name = token.text == "name"
            mends.append(Renaming(Replaced(found), owners=is_name, values=not is_name))
        else:
            raise CorefileError.at(
                token, f"rewrite: answer: expected auto, name or value, got {token.text!r}"
            )
    if auto is not None and owners is not None:
        raise CorefileError.at(owners, "rewrite: answer auto and answer name exclude each other")
    return auto is not None, tuple(mends)


def _is_auto(words: _Words) -> bool:
    """Whether `answer name auto` stands there, as an example of CoreDNS's own has it."""
    following = [word.text for word in words.words[-words.left :][:2]] if words.left else []
    return following[:1] == ["auto"] and following[1:] in ([], ["answer"])


def _type_rule(words: _Words, goes_on: bool) -> Rule:
    old, new = _type(words.take("FROM")), _type(words.take("TO"))
    words.end()
    return TypeRule(goes_on, old, new)


_NUMBERED = re.compile(r"TYPE([0-9]{1,5})")
_TRANSFERS = (iana.AXFR, iana.IXFR)


def _type(token: Token) -> int:
    text = token.text.upper()
    known = {of: number for number, of in iana.TYPE_NAMES.items()}
    found = _NUMBERED.fullmatch(text)
    number = known.get(text, 0) if found is None else int(found[1])
    if not 0 < number < 1 << 16:
        raise CorefileError.at(
            token, f"rewrite: type: expected a type such as A or TYPE65, got {token.text!r}"
        )
    if number in _TRANSFERS:
        raise CorefileError.at(token, f"rewrite: type: {text}: no zones are transferred here")
    return number


def _class_rule(words: _Words, goes_on: bool) -> Rule:
    old, new = _class(words.take("FROM")), _class(words.take("TO"))
    words.end()
    return ClassRule(goes_on, old, new)


_CLASSES = {"CS": 2} | {text: number for number, text in iana.CLASS_NAMES.items()}


def _class(token: Token) -> int:
    number = _CLASSES.get(token.text.upper())
    if number is None:
        raise CorefileError.at(
            token, f"rewrite: class: expected {', '.join(_CLASSES)}, got {token.text!r}"
        )
    return number


def _cname_rule(words: _Words, goes_on: bool) -> Rule:
    kind = _kind(words, "cname") if words.left > 2 else "exact"
    old, new = words.take("FROM"), words.take("TO")
    words.end()
    if kind == "regex":
        # CoreDNS looks at these in lower case.
        old = replace(old, text=f"(?i){old.text}")
    return CnameRule(goes_on, _about(kind, old, new, dotted=kind in ("exact", "suffix")))


def _option_rule(words: _Words, goes_on: bool) -> Rule:
    behind = words.rest()
    return option_rule(behind, (behind or words.words)[-1], goes_on=goes_on)


def _ttl_rule(words: _Words, goes_on: bool) -> Rule:
    about = _names(words, "ttl", 1)
    token = words.take("SECONDS, MIN-MAX, -MAX or MIN-")
    words.end()
    least, most = _bounds(token)
    what = f"TTLs are {least} s" if least == most else f"TTLs are {least} to {most} s"
    return ReplyRule(goes_on, about, Bounds(least, most), what)


def _names(words: _Words, field_: str, behind: int) -> Names:
    """Which names a rule for replies is about; `behind` words follow."""
    kind = _kind(words, field_) if words.left > behind + 1 else "exact"
    return _about(kind, words.take("a name"))


_RANGE = re.compile(r"([0-9]*)(-?)([0-9]*)")


def _bounds(token: Token) -> tuple[int, int]:
    found = _RANGE.fullmatch(token.text)
    if found is None or not (found[1] or found[3]) or len(token.text) > 32:
        _no_bounds(token)
    least = int(found[1] or 0)
    most = int(found[3] or MAX_TTL) if found[2] else least
    if not least <= most <= MAX_TTL:
        _no_bounds(token)
    return least, most


def _no_bounds(token: Token) -> NoReturn:
    expected = f"expected SECONDS, MIN-MAX, -MAX or MIN-, of 0 to {MAX_TTL}"
    raise CorefileError.at(token, f"rewrite: ttl: {expected}, got {token.text!r}")


def _rcode_rule(words: _Words, goes_on: bool) -> Rule:
    about = _names(words, "rcode", 2)
    (old, old_text), (new, new_text) = _rcode(words.take("FROM")), _rcode(words.take("TO"))
    words.end()
    return ReplyRule(goes_on, about, Recode(old, new), f"{old_text} becomes {new_text}")


_RCODES = {text: number for number, text in iana.RCODE_NAMES.items()} | {
    "NOTIMPL": 4, "BADSIG": 16, "BADKEY": 17, "BADTIME": 18, "BADMODE": 19, "BADNAME": 20,
    "BADALG": 21, "BADTRUNC": 22,
}  # fmt: skip
_MOST_RCODE = 23


def _rcode(token: Token) -> tuple[int, str]:
    number = _RCODES.get(token.text.upper())
    if number is None and token.text.isascii() and token.text.isdecimal():
        given = int(token.text[:9])
        number = given if given <= _MOST_RCODE else None
    if number is None:
        raise CorefileError.at(
            token, f"rewrite: rcode: expected a code such as NXDOMAIN or 3, got {token.text!r}"
        )
    return number, iana.rcode_text(number)


_FIELDS: dict[str, Callable[[_Words, bool], Rule]] = {
    "name": _name_rule,
    "type": _type_rule,
    "class": _class_rule,
    "cname": _cname_rule,
    "edns0": _option_rule,
    "ttl": _ttl_rule,
    "rcode": _rcode_rule,
}
