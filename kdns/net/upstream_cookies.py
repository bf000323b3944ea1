"""DNS cookies towards one server: 64 bits more for a forger to guess, where the server takes part.

    unknown --one question carries ours--> it comes back: given --> every reply must have it
       ^                                     |  it does not, or nothing comes
       +---------- after RETRY --------------+

RFC 7873 and RFC 9018, for the client's side. The server's own part is sent back to it, so that it
knows us too. Where clients speak no EDNS the option goes in an OPT of ours; a server that does not
take that is asked again without.
"""

import enum
from random import Random
from typing import Final

from kdns.net.clock import Clock
from kdns.net.exchange import HEADER, Exchange
from kdns.wire import iana
from kdns.wire.reply import opt_record

CLIENT: Final = 8
"""Octets of our part, and 8 to 32 of the server's (RFC 7873, section 4)."""
SERVER: Final = range(8, 33)
RETRY: Final = 3600.0
"""Seconds after which a server that gave no cookies is tried again."""
LOST: Final = 3
"""Replies in a row without our cookie after which a server is taken to give none any more."""
_OPT_SIZE: Final = 11
_OPTION: Final = iana.EDNS_COOKIE.to_bytes(2, "big")
_RCODE: Final = 0x0F
_BADCOOKIE: Final = 23 & _RCODE
"""Its lower bits; as an rcode of their own they are of UPDATE, and no reply to a question."""
_NO_EDNS: Final = (1, 4)
"""FORMERR, NOTIMP: what RFC 6891, section 7 has of servers that know no OPT."""


class Verdict(enum.Enum):
    """What to do with a reply over UDP."""

    TAKE = enum.auto()
    AGAIN = enum.auto()
    """Ask once more over UDP: the server wants the cookie that it has just given."""
    PLAIN = enum.auto()
    """Ask once more without EDNS of ours."""
    ELSEWHERE = enum.auto()
    """Ask over TCP: it may be forged."""


class Cookies:
    """Our cookie for one server, and its cookie for us."""

    def __init__(self, rng: Random, clock: Clock) -> None:
        self._rng = rng
        self._clock = clock
        self._client = b""
        self._server = b""
        self._given = False
        self._trying = False
        self._again = 0.0
        self._lost = 0

    @property
    def given(self) -> bool:
        """Whether the server takes part."""
        return self._given

    def dress(self, exchange: Exchange) -> None:
        """Put the option into a question that goes out over UDP, if it is to have one."""
        if not self._given:
            if self._trying or self._clock.time() < self._again:
                return
            self._client = self._rng.randbytes(CLIENT)
            self._server = b""
        plain = exchange.query
        option = (iana.EDNS_COOKIE, self._client + self._server)
        if plain[10:12] == b"\0\0" and len(plain) == HEADER + len(exchange.question):
            dressed = plain[:11] + b"\1" + plain[HEADER:] + opt_record(options=(option,))
        elif plain[10:12] == b"\0\1" and plain[-2:] == b"\0\0" and _is_bare_opt(exchange):
            value = option[1]
            size = (4 + len(value)).to_bytes(2, "big")
            dressed = plain[:-2] + size + _OPTION + len(value).to_bytes(2, "big") + value
        else:
            return
        exchange.plain, exchange.query = plain, dressed
        exchange.cookie = self._client
        self._trying = not self._given

    def judge(self, exchange: Exchange, reply: bytes) -> Verdict:
        """What to do with a reply, of which everything but the cookie is right."""
        if not exchange.cookie:
            return Verdict.TAKE
        server = _server_part(reply, exchange.cookie)
        if server is None:
            return self._without(exchange, reply)
        self._given = True
        self._trying = False
        self._lost = 0
        if exchange.cookie == self._client:
            self._server = server
        if reply[3] & _RCODE != _BADCOOKIE:
            return Verdict.TAKE
        # RFC 7873, section 5.3: again with what was just given; over TCP where that is no good.
        if exchange.retried:
            return Verdict.ELSEWHERE
        exchange.retried = True
        return Verdict.AGAIN

    def overdue(self, exchange: Exchange) -> None:
        """No reply came: there are servers that drop what has an option that they do not know."""
        if exchange.cookie and not self._given:
            self._stop()

    def unsent(self, exchange: Exchange) -> None:
        """It did not reach the server, which says nothing of cookies: the next one may tell."""
        if exchange.cookie:
            self._trying = False

    def _without(self, exchange: Exchange, reply: bytes) -> Verdict:
        if not self._given:
            self._stop()
            added = exchange.plain[10:12] == b"\0\0"
            unread = added and reply[3] & _RCODE in _NO_EDNS
            return Verdict.PLAIN if unread else Verdict.TAKE
        self._lost += 1
        if self._lost >= LOST:
            self._given = False
            self._stop()
        return Verdict.ELSEWHERE

    def _stop(self) -> None:
        self._trying = False
        self._lost = 0
        self._again = self._clock.time() + RETRY


def _is_bare_opt(exchange: Exchange) -> bool:
    """Whether what follows the question is an OPT without options, as forward writes it."""
    start = HEADER + len(exchange.question)
    return len(exchange.query) == start + _OPT_SIZE and exchange.query[start : start + 3] == _OPT


_OPT: Final = b"\0" + iana.OPT.to_bytes(2, "big")


def _server_part(reply: bytes, client: bytes) -> bytes | None:
    """The server's part of the option that begins with our own; None where there is none.

    Nobody who has not seen it can write our part, wherever it stands, so it need only be found.
    """
    at = reply.rfind(client)
    if at < HEADER or reply[at - 4 : at - 2] != _OPTION:
        return None
    size = int.from_bytes(reply[at - 2 : at], "big") - CLIENT
    server = reply[at + CLIENT : at + CLIENT + size] if size > 0 else b""
    return server if len(server) in SERVER else b""
