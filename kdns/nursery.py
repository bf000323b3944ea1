"""Where worker processes come from: a small process that forks another one whenever it is told.

    overseer --(number, one end of a link)--> nursery --fork--> worker
       |                                         holds the listening sockets of all workers
       +------------------ link --------------------^

It is forked before there is an event loop, a thread or a state, so what it forks is clean, whatever
has become of the overseer since. The sockets of a worker that died stay open here: what comes in
waits in the kernel for the next worker, and nobody is told that a connection was refused.
"""

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable

_NUMBER = 2
"""Octets of a worker's number."""

Bear = Callable[[int, socket.socket], int]
"""The life of worker N at its end of a link, in a process of its own; its exit status."""


class Nursery:
    """The overseer's side."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def spawn(self, number: int) -> socket.socket:
        """Have worker `number` come to life; our end of the link to it. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [number.to_bytes(_NUMBER, "big")], [theirs.fileno()])
        return ours

    def close(self) -> None:
        """Have no more of them. Those that live go on."""
        self._control.close()


def plant(bear: Bear) -> Nursery:
    """Fork the nursery. In the nursery and in its children this never returns."""
    control, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return Nursery(control)
    control.close()
    _tend(theirs, bear)
    os._exit(0)


def _tend(control: socket.socket, bear: Bear) -> None:
    """Bear workers until the overseer is gone."""
    # The terminal's Ctrl-C goes to all; only the overseer decides when a worker ends.
    for told in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(told, signal.SIG_IGN)
    # Nobody asks how a worker ended: the overseer sees that its link did.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is there now is shared by all, as long as nobody writes on it.
    gc.collect()
    gc.freeze()
    while True:
        number, links, _, _ = socket.recv_fds(control, _NUMBER, 1)
        if not number:
            return
        link = socket.socket(fileno=links[0])
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status = 1
            try:
                status = bear(int.from_bytes(number, "big"), link)
            finally:
                logging.shutdown()
                os._exit(status)  # what is left of the parent's stack is not ours to unwind
        link.close()
