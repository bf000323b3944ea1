"""What makes an answer the right one: its question, its rcode and the set of its answer rdatas.

The order of records, TTLs, compression and what else a server adds differ from server to server and
from answer to answer, and none of it makes an answer wrong. Answers are not judged while the load
runs: they are counted by their bytes, and each different one is judged once, afterwards.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from kdns.wire.errors import WireError
from kdns.wire.message import Response, read_query, read_response
from perf.model import Query

_SIZE: Final = 16
_REMEMBERED: Final = 100_000


def digest(rcode: int, answers: Iterable[tuple[int, bytes]]) -> bytes:
    """The `Query.expect` of an answer with this rcode and these records.

    answers: (type, rdata) of each record of the answer section, names in rdata uncompressed; order
    and repetition do not matter.
    """
    sum_ = hashlib.blake2b(rcode.to_bytes(2, "big"), digest_size=_SIZE)
    for rtype, rdata in sorted(set(answers)):
        sum_.update(rtype.to_bytes(2, "big") + len(rdata).to_bytes(2, "big") + rdata)
    return sum_.digest()


def digest_of(reply: bytes) -> bytes:
    """The `Query.expect` that a whole DNS response meets. Raises WireError when it is none."""
    return _digest(read_response(reply))


def matches(query: Query, reply: bytes) -> bool:
    """Whether `reply`, a whole message under any ID, is a right answer to `query`.

    Always true of a query that expects nothing; never of bytes that are not a DNS response.
    """
    if query.expect is None:
        return True
    try:
        asked = read_query(query.wire)
        response = read_response(reply)
    except WireError:
        return False
    question = (asked.key, asked.qtype, asked.qclass)
    name, rtype, rclass = response.question
    return (name.lower(), rtype, rclass) == question and _digest(response) == query.expect


def _digest(response: Response) -> bytes:
    return digest(response.rcode, ((record.rtype, record.rdata) for record in response.answer))


class Tally:
    """How often which answer came to which query, of at most `remembered` different answers.

    `seen[i]` counts the answers to query i by their bytes after the ID. What no longer fits in is
    judged at once: slower, but just as right.
    """

    def __init__(self, queries: Sequence[Query], remembered: int = _REMEMBERED) -> None:
        self.seen: list[dict[bytes, int]] = [{} for _ in queries]
        self._queries = queries
        self._room = remembered
        self._wrong = 0

    def first(self, index: int, body: bytes) -> None:
        """Count an answer to query `index` that is not in `seen[index]`."""
        if self._room:
            self._room -= 1
            self.seen[index][body] = 1
        elif not self._right(index, body):
            self._wrong += 1

    def wrong(self) -> int:
        """How many of the answers were wrong."""
        return self._wrong + sum(
            count
            for index, answers in enumerate(self.seen)
            for body, count in answers.items()
            if not self._right(index, body)
        )

    def _right(self, index: int, body: bytes) -> bool:
        return matches(self._queries[index], b"\0\0" + body)
