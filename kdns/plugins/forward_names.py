"""Upstreams that are named and not numbered: looked up at the start, and again while it runs.

    look_up --A, AAAA of each name--> resolvers, one after the other --> addresses --> changed?
      ^                                                                                  |
      +------------------------------ in 30 seconds, or in one while nothing is known <--+

What was found stays until something else is: a resolver that fails for a while costs nothing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from kdns.plugins.parts import Parts
from kdns.plugins.upstream import UpstreamError, UpstreamExchange, UpstreamSettings
from kdns.wire import iana, name
from kdns.wire.errors import WireError
from kdns.wire.iana import Rcode
from kdns.wire.message import HEADER
from kdns.wire.passed import Passed, read_passed

log = logging.getLogger("kdns.forward")

EVERY = 30.0
"""Seconds between look-ups, as in CoreDNS."""
RETRY = 1.0
"""Seconds until the next while there is nothing to forward to."""
PATIENCE = 2.0
"""Seconds for one resolver."""
FAMILIES = (iana.A, iana.AAAA)


class Lookup:
    """Looks up the hosts of `named` and tells `found` all their addresses when these change.

    resolvers: whom to ask, the next where one fails. most: addresses that are used.
    """

    def __init__(
        self,
        named: Sequence[UpstreamSettings],
        resolvers: Sequence[UpstreamExchange],
        parts: Parts,
        found: Callable[[list[UpstreamSettings]], object],
        most: int,
    ) -> None:
        self._named = named
        self._resolvers = resolvers
        self._parts = parts
        self._found = found
        self._most = most
        self._known: dict[tuple[str, int], list[str]] = {}
        self._told: list[UpstreamSettings] = []
        self._left = 0

    def start(self) -> None:
        """Look all of them up, now and from now on."""
        hosts = list(dict.fromkeys(settings.host for settings in self._named))
        self._left = len(hosts) * len(FAMILIES)
        for host in hosts:
            for qtype in FAMILIES:
                self._ask(host, qtype, 0)

    def _ask(self, host: str, qtype: int, number: int) -> None:
        if number == len(self._resolvers):
            log.warning("upstream %s: nobody says its %s", host, iana.type_text(qtype))
            self._done()
            return
        question = name.from_text(host) + qtype.to_bytes(2, "big") + iana.IN.to_bytes(2, "big")
        wire = HEADER.pack(0, iana.RD, 1, 0, 0, 0) + question
        asked = self._resolvers[number].ask(wire, tcp=False, timeout=PATIENCE)
        asked.when_done(lambda result: self._judge(host, qtype, number, result))

    def _judge(self, host: str, qtype: int, number: int, result: bytes | UpstreamError) -> None:
        if isinstance(result, UpstreamError) and result.failure == "closed":
            return
        reply = _read(result)
        if reply is None or reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            self._ask(host, qtype, number + 1)
            return
        self._known[host, qtype] = [
            str(ip_address(rdata))
            for rrset in reply.answer
            if rrset.rtype == qtype
            for rdata in rrset.rdatas
            if len(rdata) in (4, 16)
        ]
        self._done()

    def _done(self) -> None:
        self._left -= 1
        if self._left:
            return
        addresses = [
            replace(settings, host=address)
            for settings in self._named
            for qtype in FAMILIES
            for address in self._known.get((settings.host, qtype), ())
        ][: self._most]
        if not addresses:
            hosts = ", ".join(settings.host for settings in self._named)
            log.warning("no address is known of upstream %s", hosts)
        elif set(addresses) != set(self._told):
            log.info("upstreams: %s", ", ".join(map(str, addresses)))
            self._told = addresses
            self._found(addresses)
        self._parts.call_later(EVERY if self._told else RETRY, self.start)


def _read(result: bytes | UpstreamError) -> Passed | None:
    if isinstance(result, UpstreamError):
        return None
    try:
        return read_passed(result)
    except WireError:
        return None
