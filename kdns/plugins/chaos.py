"""chaos: says who and what this server is, in class CH (RFC 4892)."""

from dataclasses import dataclass

import kdns
from kdns.corefile import values
from kdns.corefile.model import Directive
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.configured import Configured
from kdns.plugins.parts import Parts
from kdns.wire import iana, name, rdata
from kdns.wire.reply import Reply, RRset

NAME = "chaos"
VERSION = f"kdns-{kdns.__version__}"
_VERSION_NAMES = (name.from_text("version.bind"), name.from_text("version.server"))
_HOST_NAMES = (name.from_text("hostname.bind"), name.from_text("id.server"))
_AUTHORS_NAME = name.from_text("authors.bind")


@dataclass(slots=True, frozen=True)
class Chaos(Configured):
    """The settings of one chaos directive."""

    version: str = VERSION
    authors: tuple[str, ...] = ()

    def explain(self) -> str:
        return f"version.bind {self.version}"

    def build(self, parts: Parts, following: Handler) -> Handler:
        # A template may know what this does not; directives are built last first.
        goes_on = not parts.block.classes.isdisjoint((iana.CH, iana.CLASS_ANY))
        parts.block.classes.add(iana.CH)
        host = parts.hostname

        def handle(request: Request) -> Outcome:
            query = request.query
            if query.qclass != iana.CH:
                return following(request)
            if query.qtype != iana.TXT:
                return following(request) if goes_on else Reply(iana.Rcode.REFUSED, by=NAME)
            if query.key in _VERSION_NAMES:
                return _texts(query.key, (self.version,))
            if query.key in _HOST_NAMES:
                return _texts(query.key, (host,))
            if query.key == _AUTHORS_NAME and self.authors:
                shuffled = parts.rng.sample(self.authors, len(self.authors))
                return _texts(query.key, tuple(shuffled))
            return following(request) if goes_on else Reply(iana.Rcode.REFUSED, by=NAME)

        return handle


def _texts(owner: bytes, texts: tuple[str, ...]) -> Reply:
    # RFC 4892, section 3: nothing that a cache should keep, so a TTL of 0.
    datas = dict.fromkeys(rdata.txt(text.encode()[:255]) for text in texts)
    return Reply(answer=(RRset(owner, iana.TXT, 0, tuple(datas), iana.CH),), aa=True, by=NAME)


def parse(directive: Directive, zones: tuple[str, ...]) -> Chaos:
    """See configured.Parse."""
    values.without_block(directive)
    if not directive.args:
        return Chaos()
    version, *authors = (arg.text for arg in directive.args)
    return Chaos(version, tuple(dict.fromkeys(authors)))
