"""One question to an upstream server on its way, and which replies are its own.

A reply is believed when its ID, its QR bit and its question are right, besides having come to the
right socket from the right address (RFC 5452, 9.1). Letter case of the name is not compared: not
every server keeps it.
"""

import errno
from random import Random
from typing import Final

from kdns.net.clock import Timer
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError

HEADER: Final = 12
_QR: Final = 0x80
_TC: Final = 0x02
_RCODE: Final = 0x0F
_ID_LENGTH: Final = 2
_QUESTIONS: Final = 4
_ANSWERS: Final = 6
_NOTHING: Final = bytes(8)
_UNREAD: Final = (1, 4, 5)
"""FORMERR, NOTIMP, REFUSED: what may be said of a question that was not read."""
_ONE: Final = b"\x00\x01"
_LETTERS: Final = frozenset(range(0x61, 0x7B))
_SHORT: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}
"""Files, memory, and (connect(2)) ports."""
_LABEL: Final = 63  # RFC 1035, 2.3.4


class Exchange:
    """A question asked and not answered: an entry in the table of the socket it went out on."""

    __slots__ = (
        "cookie",
        "ident",
        "pending",
        "plain",
        "query",
        "question",
        "retried",
        "table",
        "timer",
        "truncated",
    )

    def __init__(self, query: bytes, question: bytes) -> None:
        self.query = query
        self.question = question
        self.pending: Pending[bytes | UpstreamError] = Pending()
        self.timer: Timer | None = None
        self.table: dict[int, Exchange] | None = None
        self.ident = 0
        self.retried = False
        self.truncated: bytes | None = None
        self.cookie = b""
        """Our own, where the query has one; `plain` is then the query without."""
        self.plain = b""

    def enter(self, table: "dict[int, Exchange]", ident: int) -> bytes:
        """Become entry `ident` of `table`; the query as it goes out under that ID."""
        self.table = table
        self.ident = ident
        table[ident] = self
        return ident.to_bytes(_ID_LENGTH, "big") + self.query[_ID_LENGTH:]

    def leave(self) -> None:
        """Leave the table it is in, if any."""
        if self.table is not None:
            del self.table[self.ident]
            self.table = None

    def own(self, reply: bytes) -> bytes:
        """`reply` under the ID of the query, and with its question."""
        if len(reply) == HEADER:
            asked = self.query[HEADER : HEADER + len(self.question)]
            reply = reply[:4] + _ONE + bytes(6) + asked
        return self.query[:_ID_LENGTH] + reply[_ID_LENGTH:]


def match(table: dict[int, Exchange], reply: bytes) -> Exchange | None:
    """The exchange of `table` that `reply` answers; None when it answers none of them.

    RFC 1035, section 4.1.1: who cannot read a question says FORMERR, and what it could not read it
    cannot repeat. So such an error that is a header and nothing else is an answer too.
    """
    if len(reply) < HEADER or not reply[2] & _QR:
        return None
    exchange = table.get(int.from_bytes(reply[:_ID_LENGTH], "big"))
    if exchange is None:
        return None
    if reply[_QUESTIONS:] == _NOTHING and reply[3] & _RCODE in _UNREAD:
        return exchange
    # To the octet but for letter case, so that the end of the name need not be looked for.
    question = exchange.question
    name_end = HEADER + len(question) - 4
    if (
        reply[_QUESTIONS:_ANSWERS] == _ONE
        and reply[HEADER:name_end].lower() == question[:-4]
        and reply[name_end : name_end + 4] == question[-4:]
    ):
        return exchange
    return None


def is_ours(error: BaseException | None) -> bool:
    """Whether it is this process or host that has no more of something, and not the upstream."""
    return isinstance(error, OSError) and error.errno in _SHORT


def no_way(error: BaseException | None) -> UpstreamError:
    """Why a socket to an upstream could not be had."""
    return UpstreamError("busy" if is_ours(error) else "refused", words_of(error))


def words_of(error: BaseException | None) -> str:
    """What the system says, without its number and as CoreDNS's log has it: in small letters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def is_truncated(reply: bytes) -> bool:
    """Whether the TC bit is set (RFC 1035, 4.1.1)."""
    return bool(reply[2] & _TC)


def question_of(message: bytes) -> bytes | None:
    """Name in lower case, type and class of a message's one question; None when it has not one.

    A name in the question section is never compressed: there is nothing before it to point to.
    """
    if len(message) < HEADER or message[4:6] != b"\x00\x01":
        return None
    end = HEADER
    while end < len(message) and (length := message[end]):
        if length > _LABEL:
            return None
        end += length + 1
    end += 1
    if end + 4 > len(message):
        return None
    return message[HEADER:end].lower() + message[end : end + 4]


def scrambled(query: bytes, size: int, rng: Random) -> bytes:
    """The query with each letter of its name in lower or upper case, as chance has it.

    size: octets of the question. A length octet is no letter: it is below 64.
    """
    end = HEADER + size - 4
    bits = rng.getrandbits(size)
    name = bytes(
        octet ^ 0x20 if bits >> index & 1 and (octet | 0x20) in _LETTERS else octet
        for index, octet in enumerate(query[HEADER:end])
    )
    return query[:HEADER] + name + query[end:]
