"""UDP in batches: many queries a system call, out of memory that is laid out once, and back.

All that knows C is here. The structures are Linux's on 64 bit machines (recvmmsg(2), sendmmsg(2),
ppoll(2)); the header of every query of a ring is written once, before the run.
"""

import errno
import select
import socket
from collections.abc import Sequence
from typing import Final, Protocol, cast

from cffi import FFI

from perf.ring import PREFIX, Ring

RECEIVED: Final = 128
"""Datagrams read by one system call."""

_BODY: Final = 4096
# Not a power of two: equal parts of many bodies would fall into the same few cache lines.
_STRIDE: Final = _BODY + 64
_SHORTEST: Final = 12
_WANTED_BUFFER: Final = 8 << 20
_PR_SET_TIMERSLACK: Final = 29
# SO_RCVBUFFORCE, from asm-generic/socket.h; the socket module has no name for it.
_SO_RCVBUFFORCE: Final = 33

ffi = FFI()
ffi.cdef(
    """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen;
        struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen;
        int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    struct timespec { long tv_sec; long tv_nsec; };
    struct pollfd { int fd; short events; short revents; };
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, struct timespec *);
    int ppoll(struct pollfd *, unsigned long, struct timespec *, void *);
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);
    """
)


class _Libc(Protocol):
    # What the declarations above give; cffi's own type for a library knows no functions.
    def sendmmsg(self, fd: int, messages: FFI.CData, count: int, flags: int) -> int: ...

    def recvmmsg(
        self, fd: int, messages: FFI.CData, count: int, flags: int, timeout: FFI.CData
    ) -> int: ...

    def ppoll(self, fds: FFI.CData, count: int, time: FFI.CData, mask: FFI.CData) -> int: ...

    def prctl(self, option: int, value: int, third: int, fourth: int, fifth: int) -> int: ...


libc = cast("_Libc", ffi.dlopen(None))


class Headers:
    """The headers with which sendmmsg sends any run of a ring's queries."""

    def __init__(self, ring: Ring) -> None:
        size = len(ring.queries)
        self._frames = ffi.from_buffer(ring.frames)
        self._pieces = ffi.new("struct iovec[]", size)
        self.messages = ffi.new("struct mmsghdr[]", size)
        base = ffi.cast("char *", self._frames) + PREFIX
        for slot, (start, end) in enumerate(zip(ring.offsets, ring.offsets[1:], strict=False)):
            piece = self._pieces + slot
            piece.iov_base = base + start
            piece.iov_len = end - start - PREFIX
            header = self.messages[slot].msg_hdr
            header.msg_iov = piece
            header.msg_iovlen = 1


class Inbox:
    """Where recvmmsg puts datagrams: their IDs in one row, the rest of each in a body of its own.

    What is longer than 4,098 octets is cut off.
    """

    def __init__(self) -> None:
        self._ids = ffi.new("uint16_t[]", RECEIVED)
        self._bodies = ffi.new("char[]", RECEIVED * _STRIDE)
        self._pieces = ffi.new("struct iovec[]", 2 * RECEIVED)
        self._messages = ffi.new("struct mmsghdr[]", RECEIVED)
        self._starts = range(0, RECEIVED * _STRIDE, _STRIDE)
        for number, start in enumerate(self._starts):
            first = self._pieces + 2 * number
            first.iov_base, first.iov_len = self._ids + number, 2
            rest = first + 1
            rest.iov_base, rest.iov_len = self._bodies + start, _BODY
            header = self._messages[number].msg_hdr
            header.msg_iov, header.msg_iovlen = first, 2
        self._id_view = memoryview(ffi.buffer(self._ids)).cast("H")
        self._body_view = ffi.buffer(self._bodies)
        words = memoryview(ffi.buffer(self._messages)).cast("I")
        step = ffi.sizeof("struct mmsghdr") // 4
        self._lengths = words[ffi.offsetof("struct mmsghdr", "msg_len") // 4 :: step]

    def read(self, fd: int) -> tuple[Sequence[int], Sequence[bytes]]:
        """IDs and bodies of what has come, possibly nothing. Raises OSError."""
        count = libc.recvmmsg(fd, self._messages, RECEIVED, socket.MSG_DONTWAIT, ffi.NULL)
        if count <= 0:
            _tolerate(ffi.errno)
            return (), ()
        ids = self._id_view[:count].tolist()
        lengths = self._lengths[:count].tolist()
        view = self._body_view
        bodies = [
            view[start : start + length - 2]
            for start, length in zip(self._starts, lengths, strict=False)
        ]
        if min(lengths) < _SHORTEST:
            whole = [index for index, length in enumerate(lengths) if length >= _SHORTEST]
            return [ids[index] for index in whole], [bodies[index] for index in whole]
        return ids, bodies


class UdpLane:
    """One source port: sends runs of slots, and gives back IDs and bodies of what comes."""

    owes = False

    def __init__(self, host: str, port: int, headers: Headers, inbox: Inbox) -> None:
        self._messages = headers.messages
        self._headers = headers
        self._inbox = inbox
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        _widen(self._socket)
        try:
            self._socket.connect((host, port))
        except OSError:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._fd

    def push(self, first: int, last: int) -> int:
        """Send slots `first` to `last`; how many of them went. Raises OSError."""
        sent = libc.sendmmsg(self._fd, self._messages + first, last - first, socket.MSG_DONTWAIT)
        if sent < 0:
            _tolerate(ffi.errno)
            return 0
        return sent

    def pull(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """IDs and bodies of what has come. Raises OSError."""
        return self._inbox.read(self._fd)

    def reopen(self) -> None:
        """For streams; a datagram socket has nothing to lose."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Poller:
    """Which of the lanes, known by their numbers, have something to read."""

    _FEW: Final = 4

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lanes: dict[int, int] = {}
        self._all: list[int] = []
        awaited = {"fd": self._epoll.fileno(), "events": select.POLLIN}
        self._poll = ffi.new("struct pollfd *", awaited)
        self._time = ffi.new("struct timespec *")
        # The kernel may wake a sleeper 50 µs late to save wake-ups; that would be our own latency.
        libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)

    def watch(self, fd: int, lane: int) -> None:
        """From now on `lane` is read at `fd`; a descriptor it had before is closed by now."""
        self._epoll.register(fd, select.EPOLLIN)
        self._lanes = {known: other for known, other in self._lanes.items() if other != lane}
        self._lanes[fd] = lane
        self._all = list(self._lanes.values())

    def ready(self, nap: float) -> list[int]:
        """The lanes that may have something to read, after at most `nap` seconds without any."""
        if nap:
            self._time[0] = {"tv_sec": int(nap), "tv_nsec": int(nap % 1 * 1e9)}
            libc.ppoll(self._poll, 1, self._time, ffi.NULL)
        # Reading a few in vain is cheaper than asking which.
        if len(self._all) <= self._FEW:
            return self._all
        return [self._lanes[fd] for fd, _ in self._epoll.poll(0)]

    def close(self) -> None:
        """Close what it polls with, not the lanes."""
        self._epoll.close()


def _widen(sock: socket.socket) -> None:
    # An answer that finds our own buffer full would be counted as lost by the server.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WANTED_BUFFER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _WANTED_BUFFER)
    except PermissionError:
        return


def _tolerate(number: int) -> None:
    """Raise an OSError, unless it only means later, or that an earlier query was refused.

    A refused query is lost when its time has come, like any other without an answer.
    """
    if number not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.ENOBUFS):
        raise OSError(number, errno.errorcode.get(number, "unknown error"))
