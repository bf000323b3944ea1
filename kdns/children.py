"""Where worker processes come from: the first ones are forked, those after them started anew.

    overseer --fork, before there is a loop, a thread or a state-----> worker
       |     --a new process of the same command line, at any time---> worker in the place of one
       |                                                                 ^    that is no more
       +--- link: messages; hand: the sockets that it listens on --------+

Those that are forked share with the overseer what was imported. What is forked later would be of a
process with threads and a loop; and a process that stood by for it, with nothing to do, would be
left with each page of memory that all the others have copied, which is more than a new start takes
unless workers die often. A worker knows nothing when it is born: what it serves, and on which
sockets, it is told, at first as at any later change.
"""

import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import kdns
from kdns.handing import pair
from kdns.memory import give_back
from kdns.telemetry.lines import Format

BORN: Final = "--born"
"""Not for people: what the Birth of a worker stands behind on its command line."""
OTHER_VERSION: Final = 78
"""The status of who is to be a worker of another version's overseer (EX_CONFIG of sysexits.h)."""

_FOR_ALL: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_FOR_ONE: Final = (signal.SIGUSR1, signal.SIGUSR2)


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


class Birth(NamedTuple):
    """What a worker that is started anew is told on its command line.

    link, hand: descriptors. memory: octets that it may have; 0 for any number. log: the format of
    its log. version: of kdns.
    """

    link: int
    hand: int
    memory: int
    log: Format
    version: str

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def read(cls, text: str) -> "Birth":
        """From what `str` made of one. Raises ValueError."""
        link, hand, memory, form, version = text.split(",", 4)
        return cls(int(link), int(hand), int(memory), "json" if form == "json" else "text", version)

    @property
    def is_ours(self) -> bool:
        """Whether who started us is what we are: programs are replaced while they run."""
        return self.version == kdns.__version__

    def ties(self) -> Ties:
        """The worker's end. Raises OSError."""
        return Ties(socket.socket(fileno=self.link), socket.socket(fileno=self.hand))


Bear = Callable[[Ties], int]
"""The life of a worker at its end of the ties, in a process of its own; its exit status."""


class Children:
    """The overseer's side, as `fork` makes it.

    born: those that were forked, by number, and our end of the ties to each. again: how another
    one is started.
    """

    def __init__(self, born: Mapping[int, tuple[int, Ties]], again: "Again") -> None:
        self._living = {number: pid for number, (pid, _) in born.items()}
        self._waiting = {number: ties for number, (_, ties) in born.items()}
        self._count = len(born)
        self._again = again
        self._ended: set[int] = set()

    @property
    def count(self) -> int:
        """How many there are at first."""
        return self._count

    def spawn(self, number: int) -> Ties:
        """Have worker `number` come to life; our end of the ties to it. Raises OSError.

        One that has that number, and is not wanted any more, is ended first. ENOEXEC where it has
        said that what is installed by now is another version than we are.
        """
        if (waiting := self._waiting.pop(number, None)) is not None:
            return waiting
        if self.end(number) == OTHER_VERSION:
            reason = f"kdns {kdns.__version__} runs, and another version is installed by now"
            raise OSError(errno.ENOEXEC, reason)
        ours, theirs = tie()
        with theirs.link, theirs.hand:
            try:
                self._living[number] = self._start(theirs)
            except BaseException:
                ours.close()
                raise
        return ours

    def end(self, number: int) -> int | None:
        """End worker `number` at once, if it is still there; its status, if that is known by now.

        Whoever has ended, and was not waited for, keeps its process number, so that nobody else is
        ended in its place. Raises OSError.
        """
        status = None
        if (pid := self._living.pop(number, None)) is not None:
            status = _exited(pid)
            if status is None:
                os.kill(pid, signal.SIGKILL)
                self._ended.add(pid)
        # Not waited for in the usual sense: one that the kernel cannot end would hold us up.
        self._ended = {pid for pid in self._ended if _exited(pid) is None}
        return status

    def close(self) -> None:
        """Let those go that nobody has asked for. Those that live go on."""
        for ties in self._waiting.values():
            ties.close()
        self._waiting.clear()

    def _start(self, theirs: Ties) -> int:
        command, environ, memory, form = self._again
        link, hand = theirs.link.fileno(), theirs.hand.fileno()
        for descriptor in (link, hand):
            os.set_inheritable(descriptor, True)
        birth = Birth(link, hand, memory or 0, form, kdns.__version__)
        return os.posix_spawn(command[0], [*command, BORN, str(birth)], environ)


class Again(NamedTuple):
    """How a worker is started anew.

    command: what we were started by. memory: octets that it may have; None for any number. log: the
    format of its log.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    memory: int | None = None
    log: Format = "text"


def fork(count: int, bear: Bear, again: Again) -> Children:
    """Fork so many workers, which wait to be told. In them this never returns. Raises OSError.

    again: how those are started that take the place of one of them.
    """
    # Who has started us may have had no use for how children end; we wait for each.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What is there now is shared by all, as long as nobody writes on it; and the collector of
    # cycles writes on all that it looks at.
    gc.collect()
    gc.freeze()
    # What is free is not to be kept by those who do not come to use it.
    give_back()
    born: dict[int, tuple[int, Ties]] = {}
    try:
        for number in range(count):
            ours, theirs = tie()
            with theirs.link, theirs.hand:
                if (pid := os.fork()) == 0:
                    # Who keeps an end of the overseer's keeps the others from hearing that it ends.
                    for _, ties in born.values():
                        ties.close()
                    ours.close()
                    _live(bear, theirs)
            born[number] = (pid, ours)
    except BaseException:
        for _, ties in born.values():
            ties.close()
        raise
    return Children(born, again)


def leave_to_the_overseer() -> None:
    """Ignore what is meant for all, as a terminal's Ctrl-C is: only the overseer decides of it."""
    for meant in (*_FOR_ALL, *_FOR_ONE):
        signal.signal(meant, signal.SIG_IGN)


def _live(bear: Bear, ties: Ties) -> None:
    status = 1
    try:
        leave_to_the_overseer()
        status = bear(ties)
    finally:
        logging.shutdown()
        os._exit(status)  # what is left of the parent's stack is not ours to unwind


def tie() -> tuple[Ties, Ties]:
    """Both ends: the overseer's, and the worker's. Raises OSError."""
    links = socket.socketpair()
    try:
        hands = pair()
    except OSError:
        for link in links:
            link.close()
        raise
    return Ties(links[0], hands[0]), Ties(links[1], hands[1])


def _exited(pid: int) -> int | None:
    """The status of a child that has ended, negative for a signal; None while it is there."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None
