"""Where worker processes come from: a small process that forks another one whenever it is told.

    overseer --(number, the far ends of a link and of a hand)--> nursery --fork--> worker
       |     --(number alone: end it)                                                 ^
       +------------ link: messages; hand: the sockets that it listens on ------------+

It is forked before there is an event loop, a thread or a state, so what it forks is clean, whatever
has become of the overseer since. A worker knows nothing when it is born: what it serves, and on
which sockets, it is told, at first as at any later change.
"""

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from kdns.handing import pair

log = logging.getLogger("kdns")

_NUMBER = 2
"""Octets of a worker's number."""


class Ties(NamedTuple):
    """One end of what ties an overseer and a worker."""

    link: socket.socket
    """For messages."""
    hand: socket.socket
    """For sockets: what is sent there is received whole, and in order."""

    def close(self) -> None:
        """Let go."""
        self.link.close()
        self.hand.close()


Bear = Callable[[int, Ties], int]
"""The life of worker N at its end of the ties, in a process of its own; its exit status."""


_FOR_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Nursery:
    """The overseer's side."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def spawn(self, number: int) -> Ties:
        """Have worker `number` come to life; our end of the ties to it. Raises OSError."""
        link, far_link = socket.socketpair()
        hand, far_hand = pair()
        with far_link, far_hand:
            told = number.to_bytes(_NUMBER, "big")
            socket.send_fds(self._control, [told], [far_link.fileno(), far_hand.fileno()])
        return Ties(link, hand)

    def end(self, number: int) -> None:
        """End worker `number` at once, if it is still there. Raises OSError."""
        self._control.sendall(number.to_bytes(_NUMBER, "big"))

    def close(self) -> None:
        """Have no more of them. Those that live go on."""
        self._control.close()


def plant(bear: Bear) -> Nursery:
    """Fork the nursery. In the nursery and in its children this never returns."""
    control, theirs = socket.socketpair()
    # What is there now is shared by all, as long as nobody writes on it; and the collector of
    # cycles writes on all that it looks at.
    gc.collect()
    gc.freeze()
    if os.fork():
        theirs.close()
        return Nursery(control)
    control.close()
    _tend(theirs, bear)
    os._exit(0)


def _fork() -> int:
    """As os.fork; -1 where there is no room: whoever holds the other ends sees these closed."""
    try:
        return os.fork()
    except OSError as error:
        log.critical("no worker can be started: %s", error.strerror)
        return -1


def _tend(control: socket.socket, bear: Bear) -> None:
    """Bear workers until the overseer is gone."""
    # What is meant for all, as a terminal's Ctrl-C is, only the overseer decides about.
    for meant in (*_FOR_ALL, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(meant, signal.SIG_IGN)
    # Who has started us may have had no use for how children end; we wait for each.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    living: dict[int, int] = {}
    while True:
        told, ends, _, _ = socket.recv_fds(control, _NUMBER, 2)
        if not told:
            for pid in living.values():
                os.waitpid(pid, os.WNOHANG)
            return
        number = int.from_bytes(told, "big")
        # One that the overseer wants no more may be there all the same, stopped or hanging.
        _end(living.pop(number, None))
        if not ends:
            continue
        ties = Ties(*[socket.socket(fileno=end) for end in ends])
        pid = _fork()
        if pid == 0:
            control.close()
            status = 1
            try:
                status = bear(number, ties)
            finally:
                logging.shutdown()
                os._exit(status)  # what is left of the parent's stack is not ours to unwind
        if pid > 0:
            living[number] = pid
        ties.close()


def _end(pid: int | None) -> None:
    """Be rid of a child. Until it is waited for, nobody else has its number."""
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
