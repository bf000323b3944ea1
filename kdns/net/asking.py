"""An Answerer promises not to raise; the sockets hold it to that, whatever it does."""

import logging

from kdns.plugins.peer import Answerer, Peer
from kdns.plugins.pending import Pending

_log = logging.getLogger("kdns.net")


class Asking:
    """Asks one Answerer. A message that makes it raise is dropped and counted in `failures`.

    Only the first failure is logged, with its traceback: a message that fails once can be sent a
    million times.
    """

    __slots__ = ("_answer", "failures")

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self.failures = 0

    def __call__(self, wire: bytes, peer: Peer) -> bytes | Pending[bytes | None] | None:
        """What the Answerer says; silence (None) where it raises."""
        try:
            return self._answer(wire, peer)
        except Exception:  # noqa: BLE001 - the one place where nothing may escape
            self.failures += 1
            if self.failures == 1:
                _log.exception(
                    "answering %d octets from %s:%d (%s) failed, and further failures are only "
                    "counted; no reply is sent",
                    len(wire),
                    peer.host,
                    peer.port,
                    peer.proto,
                )
            return None
