"""hosts: answers A, AAAA and PTR from a file like /etc/hosts, and from lines of the Corefile.

there, as an address or a name   -> its records, or no data: the name is ours, whatever the type
not there, asked for its PTR     -> the next directive
not there, in none of our zones  -> the next directive
not there, below a fallthrough   -> the next directive
not there                        -> SERVFAIL: there is no SOA that a denial could be kept by

The file is read again from time to time. What was answered before and is otherwise now is
forgotten at once, name by name, be it an answer of ours or what others said in the place of one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from kdns.corefile import values
from kdns.corefile.address import expand_zone
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Place, Token
from kdns.plugins.chain import Handler, Outcome, Request, extended_error
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.hosts_file import (
    MAX_OCTETS,
    Entry,
    Reading,
    Table,
    Wrong,
    read_line,
    wildcard_of,
)
from kdns.plugins.parts import Parts
from kdns.plugins.rereading import BadFile, Rereader
from kdns.telemetry.meters import Labels
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset

log = logging.getLogger("kdns.files")

NAME = "hosts"
FILE = "/etc/hosts"
TTL = 3600
"""Seconds, as in CoreDNS."""
MAX_TTL = 65_535
RELOAD = 5.0
"""Seconds between two looks at the file, as in CoreDNS."""
SHORTEST = 0.1
"""Seconds: what is asked for more often is looked at so often."""
EDE_OTHER = 0
"""RFC 8914, section 4.1."""
_REVERSE = (name.IN_ADDR_ARPA, name.IP6_ARPA)
_NO_ENTRY = extended_error(EDE_OTHER, "no entry in hosts, and no fallthrough")


class Inline(NamedTuple):
    """An entry in the Corefile, and where it stands."""

    place: Place
    entry: Entry


class Known(NamedTuple):
    """A file, read: its records and those of the Corefile, what is wrong with it, and which names
    have other records than before."""

    table: Table
    wrong: tuple[Wrong, ...]
    untold: int
    changed: frozenset[bytes]


@dataclass(slots=True)
class Hosts(Configured):
    """The settings of one hosts directive. wrong: what is wrong with its lines in the Corefile."""

    path: str
    zones: tuple[str, ...]
    inline: tuple[Inline, ...] = ()
    ttl: int = TTL
    seconds: float = RELOAD
    reverse: bool = True
    fallthrough: tuple[str, ...] | None = None
    wrong: tuple[str, ...] = ()

    def explain(self) -> str:
        often = f"read every {self.seconds:g} s" if self.seconds else "read once"
        names = sum(len(inline.entry.names) for inline in self.inline)
        here = f", and {names} name{'s' * (names > 1)} from here" if names else ""
        parts = [f"{self.path}, {often}{here}"]
        parts.append(f"ttl {self.ttl}")
        if not self.reverse:
            parts.append("no names of addresses")
        others = f"other names of {' '.join(self.zones)}"
        if self.fallthrough is None:
            parts.append(f"{others} get SERVFAIL")
        elif self.fallthrough == (".",):
            parts.append(f"{others} go on")
        else:
            falls = " ".join(self.fallthrough)
            parts.append(f"{others} go on below {falls}, and get SERVFAIL elsewhere")
        return "; ".join(parts)

    def warnings(self) -> tuple[str, ...]:
        return self.wrong

    def table(self, reading: Iterable[tuple[int, Entry]]) -> Table:
        """The records of a file, and those of the Corefile behind them. Raises BadFile."""
        of_file = (entry for _, entry in reading)
        here = (entry for _, entry in self.inline)
        return Table(chain(of_file, here), below(self.zones), reverse=self.reverse)

    def places(self, reading: Iterable[tuple[int, Entry]]) -> Iterator[tuple[Place, Entry]]:
        """The same entries, each with where it stands."""
        for line, entry in reading:
            yield Place(self.path, line), entry
        yield from self.inline

    def build(self, parts: Parts, following: Handler) -> Handler:
        handler = HostsHandler(self, parts, following)
        rereader = Rereader(
            self.path, handler.read, handler.take, self.seconds, parts, NAME, MAX_OCTETS
        )
        try:
            rereader.first()
        except BadFile as error:
            until = "until it is good, " if self.seconds else ""
            # Who has judged it has said so.
            rereader.excuse(error, f"{until}nothing of it is known", say=not parts.judged)
        _count(self.path, handler, rereader, parts)
        parts.block.taken.append(handler.knows)
        for zone in map(name.from_text, self.zones):
            if not any(_overlap(zone, name.from_text(falls)) for falls in self.fallthrough or ()):
                parts.block.own_zones.append(zone)
                # Those whose PTR is asked for go on all the same.
                parts.block.passing.append((zone, handler.knows))

        def start() -> None:
            handler.begun = True
            rereader.start()

        parts.when_started(start)
        parts.when_stopped(rereader.stop)
        return handler


def below(zones: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a name, in lower case, is in one of these zones."""
    apexes = tuple(map(name.from_text, zones))
    if name.ROOT in apexes:
        return lambda key: True
    return lambda key: any(name.is_below(key, apex) for apex in apexes)


def _overlap(one: bytes, other: bytes) -> bool:
    return name.is_below(one, other) or name.is_below(other, one)


class HostsHandler:
    """Answers from `table`, which is replaced whole; see the module's picture.

    begun: whether clients are answered from it.
    """

    def __init__(self, settings: Hosts, parts: Parts, following: Handler) -> None:
        self.table = settings.table(())
        self.begun = False
        self._settings = settings
        self._ttl = settings.ttl
        self._changes = settings.seconds > 0
        self._reverse = settings.reverse
        self._ours = below(settings.zones)
        self._falls = below(settings.fallthrough or ())
        self._parts = parts
        self._following = following
        self._tag = b"%d " % id(self)
        self._told: set[str] = set()

    def __call__(self, request: Request) -> Outcome:
        """Answer, or pass on."""
        query = request.query
        key = query.key
        ours = self._ours(key)
        if not ours and not (self._reverse and key.endswith(_REVERSE)):
            return self._following(request)
        depends = self._depends(key)
        owner = self.table.owner(key)
        if owner is not None:
            rdatas = self.table.find(owner, query.qtype)
            # No data: RFC 2308, section 2.2, of its type 3, for there is no SOA to be had.
            answer = (RRset(key, query.qtype, self._ttl, rdatas),) if rdatas else ()
            return Reply(answer=answer, aa=True, by=NAME, depends=depends)
        if ours and query.qtype != iana.PTR and not self._falls(key):
            return Reply(Rcode.SERVFAIL, by=NAME, options=(_NO_ENTRY,))
        passed = self._following(request)
        if isinstance(passed, Reply) and passed.depends is not None:
            # What others say of a name counts only while we do not have it.
            passed.depends += depends
        return passed

    def knows(self, key: bytes) -> bool:
        """Whether a name, in lower case, is answered from here."""
        return self.table.owner(key) is not None

    def read(self, octets: bytes) -> Known:
        """What the file says, and what changes by that. Raises BadFile."""
        reading = Reading(octets, self._settings.path)
        table = self._settings.table(reading)
        changed = table.changes(self.table)
        return Known(table, tuple(reading.wrong), reading.untold, frozenset(changed))

    def take(self, known: Known) -> None:
        """Answer from these records from now on."""
        self.table = known.table
        self._tell(known)
        if self.begun:
            tag = self._tag
            self._parts.forget([tag + key for key in known.changed])
            for told in self._parts.block.when_taken:
                told()

    def _tell(self, known: Known) -> None:
        """What is wrong in the file and was not wrong in it before, a line each."""
        before, self._told = self._told, {what for _, what in known.wrong}
        if self._parts.judged and not self.begun:
            return
        for line, what in known.wrong:
            if what not in before:
                log.warning("hosts: %s:%d: %s; left out", self._settings.path, line, what)
        if known.untold:
            log.warning("hosts: %s: %d more of that kind", self._settings.path, known.untold)

    def _depends(self, key: bytes) -> tuple[bytes, ...]:
        """What an answer about a name rests on: its entries, and those of a wildcard."""
        if not self._changes:
            return ()
        if len(key) == 1:
            return (self._tag + key,)
        return (self._tag + key, self._tag + wildcard_of(key))


def _count(path: str, handler: HostsHandler, rereader: Rereader[Known], parts: Parts) -> None:
    """Have what is known among the metrics, under CoreDNS's names.

    Only where clients are answered: an overseer of workers reads the file once, to judge it.
    """
    metrics: tuple[tuple[str, str, Labels, Callable[[], tuple[Labels, float]]], ...] = (
        (
            "coredns_hosts_entries",
            "Records of a hosts file, and of the Corefile's lines beside it.",
            ("hostsfile",),
            lambda: ((path,), handler.table.size),
        ),
        (
            "coredns_hosts_reload_timestamp_seconds",
            "When the hosts file that was read last was written, seconds since 1970.",
            (),
            lambda: ((), rereader.modified),
        ),
    )
    for metric, text, labels, read in metrics:
        parts.meters.watch("peak", metric, text, labels, _while_begun(handler, read))


def _while_begun(
    handler: HostsHandler, read: Callable[[], tuple[Labels, float]]
) -> Callable[[], Iterable[tuple[Labels, float]]]:
    return lambda: [read()] if handler.begun else []


def parse(directive: Directive, zones: tuple[str, ...]) -> Hosts:
    """See configured.Parse. `hosts [FILE [ZONES…]] { ADDRESS NAME… … }`."""
    file, *named = directive.args or (Token(FILE, directive.file, directive.line),)
    if not file.text:
        raise CorefileError.at(file, "hosts: expected a file, got an empty word")
    ours = dict.fromkeys(zone for arg in named for zone in expand_zone(arg))
    settings = Hosts(file.text, tuple(ours) or zones)

    def ttl(option: Directive) -> None:
        (arg,) = values.exactly(option, 1)
        settings.ttl = values.integer(arg, minimum=1, maximum=MAX_TTL)

    def reload(option: Directive) -> None:
        wanted = values.duration(values.exactly(option, 1)[0])
        settings.seconds = wanted and max(wanted, SHORTEST)

    def no_reverse(option: Directive) -> None:
        settings.reverse = not values.flag(option)

    def fallthrough(option: Directive) -> None:
        falls = dict.fromkeys(zone for arg in option.args for zone in expand_zone(arg))
        settings.fallthrough = tuple(falls) or (".",)

    inline: list[Inline] = []
    wrong: list[str] = []
    options: dict[str, Callable[[Directive], object]] = {
        "ttl": ttl,
        "reload": reload,
        "no_reverse": no_reverse,
        "fallthrough": fallthrough,
    }
    for line in directive.block or ():
        if line.name not in options and settings.fallthrough is None:
            entry, told = _read_inline(line, settings.zones)
            inline += [] if entry is None else [Inline(line.place, entry)]
            wrong += told
            continue
        if line.name not in options and read_line(line.name + " a")[0] is not None:
            message = f"hosts: expected the entries before fallthrough, got {line.name} behind it"
            raise CorefileError.at(line, message)
        read_options(replace(directive, block=(line,)), options)
    settings.inline, settings.wrong = tuple(inline), tuple(wrong)
    return settings


def _read_inline(line: Directive, zones: tuple[str, ...]) -> tuple[Entry | None, list[str]]:
    """One entry, and warnings. What is wrong is no error: CoreDNS, which many a Corefile was
    written for, says nothing of it."""
    values.without_block(line)
    entry, wrong = read_line(" ".join([line.name, *(arg.text for arg in line.args)]))
    if entry is not None:
        outside = [key for key in entry.names if not below(zones)(key)]
        wrong += [f"{name.to_text(key)} is in none of {' '.join(zones)}" for key in outside]
    return entry, [f"{line.place}: hosts: {what}; left out" for what in wrong]
