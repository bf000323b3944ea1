"""Batched UDP: up to 64 datagrams for one system call, and answers sent from where they lie.

recvmmsg and sendmmsg are called through cffi on memory that is laid out once:

    names     one socket address for each slot, written by the kernel, read by the kernel
    controls  one IP_PKTINFO for each slot of a wildcard socket: the address that was asked
    inbox     one buffer for each slot
    outgoing  two pieces for each slot: the ID where it lies in the inbox, and an answer anywhere

A hot answer is never copied: its address is put into the slot's second piece. What is not hot is
asked of the Answerer, one by one, by the same rules as plain sockets; udp.py is this module's twin
and its base. Per datagram this file does one slice, one look-up, and two stores: keep it so.
"""

import errno
import socket
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, cast

import cffi

from kdns.net import sieve
from kdns.net.address import numeric_host
from kdns.net.admission import Admission
from kdns.net.datagrams import Back, Control, source_of
from kdns.net.listen import DATAGRAM, deepen
from kdns.net.udp import UdpListener
from kdns.plugins.hot import Entry, Table
from kdns.plugins.peer import Answerer, Peer
from kdns.plugins.pending import Pending
from kdns.telemetry.histogram import SECONDS

SLOTS: Final = 64
_BATCHES: Final = 4
"""Full batches in a row before the rest of the process has its turn."""
_INBOX: Final = 4096
"""Octets of a query; no query is longer, and a longer datagram is cut and found malformed."""
_SO_MEMINFO: Final = 55
_MEMINFO_QUEUED: Final = 0
_MEMINFO_ROOM: Final = 1
_MEMINFO_DROPS: Final = 8
_MAPPED: Final = bytes(10) + b"\xff\xff"

_ffi = cffi.FFI()
_ffi.cdef(
    """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen;
        struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen;
        int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
    """
)


def available() -> bool:
    """Whether this system has the calls, and the layout of memory that this module relies on."""
    linux = sys.platform == "linux" and _ffi.sizeof("struct mmsghdr") == 64
    return linux and sys.implementation.name == "cpython"


def pin(body: bytes) -> tuple[int, object]:
    """The address of an answer's octets. See hot.Pin."""
    return id(body) + _OCTETS_AT, body


def _octets_at() -> int:
    """Where the octets of a bytes object stand, from its id, which is its address.

    CPython lays out all objects of a type alike and never moves one, so octets stay where they are
    for as long as their object lives. This is a fifth of the time that asking cffi takes.
    """
    sample = bytes(100)
    return int(_ffi.cast("uintptr_t", _ffi.from_buffer(sample))) - id(sample)


_OCTETS_AT: Final = _octets_at()


class BatchedUdpListener(UdpListener):
    """UdpListener, many datagrams at a time. `table` holds the hot answers of this socket.

    `batches` counts the calls that brought something; `hits` the datagrams answered hot.
    """

    def __init__(self, sock: socket.socket, answer: Answerer, table: Table) -> None:
        super().__init__(sock, answer)
        self._lib: Any = _ffi.dlopen(None)
        self._seconds = table.seconds
        self._get = table.entries.get
        # The same, for a batch that is all hot: None is looked for once, not at each datagram.
        self._look = cast("Callable[[bytes], Entry]", self._get)
        self._fd = sock.fileno()
        self._sock = sock
        self._memory = _Memory(sock)
        self.admission = Admission(self, self._loop)
        self.hits = 0
        self.batches = 0
        self.sample: Callable[[bytes, int], object] | None = None
        """Told of one client of each batch, 4 or 16 octets, which stands for so many."""

    def start(self) -> None:
        """See UdpListener. Who had the socket before may have died while it held clients back."""
        # The one may be held without the other: the program may have been refused, or gone first.
        self.thin((), 1.0, {})
        self.hold(None)
        super().start()

    def passed(self) -> int:
        """See admission.Gate."""
        return self.received

    def missed(self) -> int:
        """See admission.Gate."""
        return self._kernel_says(_MEMINFO_DROPS)

    def waiting(self) -> int:
        """See admission.Gate."""
        return self._kernel_says(_MEMINFO_QUEUED) // DATAGRAM

    def room(self) -> int:
        """See admission.Gate."""
        return self._kernel_says(_MEMINFO_ROOM) // DATAGRAM

    def clients(self) -> list[bytes]:
        """See admission.Gate."""
        return [self._memory.client(slot) for slot in range(SLOTS)] if self.received else []

    def thin(self, zones: Sequence[bytes], keep: float, clients: Mapping[bytes, float]) -> bool:
        """See admission.Gate."""
        try:
            sieve.sift(self._sock, zones, keep, clients)
        except (OSError, sieve.TooLong):
            return False
        return True

    def hold(self, datagrams: int | None) -> None:
        """See admission.Gate."""
        # The kernel doubles what it is told, for its own needs.
        deepen(self._sock, None if datagrams is None else datagrams * DATAGRAM // 2)

    def abort(self) -> None:
        """See UdpListener."""
        self.admission.close()
        super().abort()

    def kernel_drops(self) -> int:
        """Datagrams that the kernel dropped because this socket's queue was full."""
        return self._kernel_says(_MEMINFO_DROPS)

    def _kernel_says(self, field: int) -> int:
        """One of the numbers of SO_MEMINFO; 0 where they cannot be had."""
        try:
            info = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * 9)
        except OSError:
            return 0
        return array("I", info)[field] if len(info) >= 36 else 0

    def _on_readable(self) -> None:
        for _ in range(_BATCHES):
            if not self._reading:
                return
            count = self._lib.recvmmsg(self._fd, self._memory.incoming, SLOTS, 0, _ffi.NULL)
            if count <= 0:
                self.admission.emptied = True
                # An ICMP error about an earlier reply, say; the next read is fine.
                self.dropped += _ffi.errno not in (errno.EAGAIN, errno.EINTR)
                return
            began = perf_counter()
            hot = self.hits
            self._answer_batch(count)
            if self.sample is not None:
                self.sample(self._memory.client(self.batches % count), count)
            # All of a batch come and go together: each of its answers took as long as the batch.
            self._seconds.observe(SECONDS, perf_counter() - began, self.hits - hot)
            if count < SLOTS:
                self.admission.emptied = True
                return
        self.admission.full()

    def _answer_batch(self, count: int) -> None:
        memory = self._memory
        memory.tidy(count)
        inbox = memory.inbox
        self.received += count
        self.batches += 1
        # Each key is what follows the ID: a datagram of less than two octets has an empty one. An
        # entry keeps its octets in place, and so do `entries` and `kept` until all are sent.
        lengths = memory.lengths[0 : 16 * count : 16].tolist()
        keys = [
            inbox[start : start + size - 2]
            for start, size in zip(memory.starts, lengths, strict=False)
        ]
        entries: list[Entry] = list(map(self._look, keys))
        if None in entries:
            self._answer_mixed(keys, lengths)
            return
        addresses: list[int] = []
        sizes: list[int] = []
        for entry in entries:
            entry.hits += 1
            if entry.orders:
                entry.turn()
            addresses.append(entry.address)
            sizes.append(entry.size)
        memory.pieces[2 : 4 * count : 4] = array("Q", addresses)
        memory.pieces[3 : 4 * count : 4] = array("Q", sizes)
        self.hits += count
        self._send_slots(0, count)

    def _answer_mixed(self, keys: list[bytes], lengths: list[int]) -> None:
        """A batch in which not everything is hot: slots that stay silent part the sending."""
        pieces = self._memory.pieces
        kept: list[object] = []
        first = 0
        admits = self.admission.admits if self.admission.shedding else None
        for slot, key in enumerate(keys):
            # An earlier slot of this batch may have made it hot, or no longer so.
            entry = self._get(key)
            if entry is not None:
                entry.hits += 1
                if entry.orders:
                    entry.turn()
                self.hits += 1
                pieces[4 * slot + 2] = entry.address
                pieces[4 * slot + 3] = entry.size
                kept.append(entry)
                continue
            if admits is not None and not admits(key, self._memory.client(slot)):
                reply = None
            else:
                reply = self._ask(slot, lengths[slot])
            if reply is None:
                self._send_slots(first, slot)
                first = slot + 1
                continue
            address, keeper = pin(reply)
            kept.append(keeper)
            pieces[4 * slot + 2] = address + 2
            pieces[4 * slot + 3] = len(reply) - 2
        self._send_slots(first, len(keys))

    def _ask(self, slot: int, size: int) -> bytes | None:
        """The reply to what is in a slot; None where there is none, or it is not sent from here."""
        start = slot * _INBOX
        peer, back = self._memory.origin(slot)
        wire = self._memory.inbox[start : start + size]
        reply = self._asking(wire, peer)
        if isinstance(reply, Pending):
            self._wait(reply, back)
            return None
        if reply is not None and (reply[:2] != wire[:2] or len(reply) < 2):
            # The ID is sent from where the query has it; no reply of DNS has another.
            self._send(reply, back)
            return None
        return reply

    def _send_slots(self, first: int, end: int) -> None:
        memory = self._memory
        if self._closed:
            # An Answerer closed us; another file may have our descriptor by now.
            self.dropped += end - first
            return
        while first < end:
            sent = self._lib.sendmmsg(self._fd, memory.outgoing + first, end - first, 0)
            if sent > 0:
                self.sent += sent
                first += sent
            elif _ffi.errno in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS):
                # The socket is full: the rest waits in the bounded queue of plain sending.
                for slot in range(first, end):
                    _, back = memory.origin(slot)
                    self._send(memory.reply(slot), back)
                return
            else:
                # Refused, unreachable, forbidden or too long: this client's loss alone.
                self.dropped += 1
                first += 1


class _Memory:
    """What the two calls read and write; see the module's picture."""

    def __init__(self, sock: socket.socket) -> None:
        self._v6 = sock.family == socket.AF_INET6
        host = str(sock.getsockname()[0])
        self._wildcard = host in {"::", "0.0.0.0"}  # noqa: S104 - compared, not bound
        self._local = "" if self._wildcard else numeric_host(host)
        self._name_size = 28 if self._v6 else 16
        # CMSG_SPACE of in6_pktinfo and in_pktinfo: a header of 16 octets, and 20 or 12, aligned.
        self._control_size = (40 if self._v6 else 32) if self._wildcard else 0
        self._held = [
            _ffi.new("char[]", SLOTS * _INBOX),
            _ffi.new("char[]", SLOTS * self._name_size),
            _ffi.new("char[]", SLOTS * max(1, self._control_size)),
            _ffi.new("struct iovec[]", SLOTS),
            _ffi.new("struct iovec[]", 2 * SLOTS),
        ]
        inbox, names, controls, in_pieces, out_pieces = self._held
        self.incoming = _ffi.new("struct mmsghdr[]", SLOTS)
        self.outgoing = _ffi.new("struct mmsghdr[]", SLOTS)
        self.inbox = _ffi.buffer(inbox)
        self._names = _ffi.buffer(names)
        self._controls = _ffi.buffer(controls)
        self.starts = [slot * _INBOX + 2 for slot in range(SLOTS)]
        self.pieces = memoryview(_ffi.buffer(out_pieces)).cast("B").cast("Q")
        self._headers = memoryview(_ffi.buffer(self.incoming)).cast("B").cast("Q")
        self.lengths = memoryview(_ffi.buffer(self.incoming)).cast("B").cast("I")[14:]
        for slot in range(SLOTS):
            in_pieces[slot].iov_base = inbox + slot * _INBOX
            in_pieces[slot].iov_len = _INBOX
            out_pieces[2 * slot].iov_base = inbox + slot * _INBOX
            out_pieces[2 * slot].iov_len = 2
            for messages, pieces, count in (
                (self.incoming, in_pieces + slot, 1),
                (self.outgoing, out_pieces + 2 * slot, 2),
            ):
                header = messages[slot].msg_hdr
                header.msg_name = names + slot * self._name_size
                header.msg_namelen = self._name_size
                header.msg_iov = pieces
                header.msg_iovlen = count
                if self._control_size:
                    header.msg_control = controls + slot * self._control_size
                    header.msg_controllen = self._control_size
        self._control_sizes = array("Q", [self._control_size] * SLOTS)
        self._zeros = array("I", [0] * SLOTS)
        self._control_words = memoryview(self._controls).cast("B")
        if self._control_size:
            self._control_words = self._control_words.cast("I")

    def tidy(self, count: int) -> None:
        """After a batch was received: what the kernel wrote, made fit for sending and receiving.

        The interface of a reply is left to the routes, for it need not leave where the question
        came in; a link-local address alone means something on one interface only.
        """
        if not self._control_size:
            return
        self._headers[5 : 8 * count : 8] = self._control_sizes[:count]
        if not self._v6:
            self._control_words[4 : 8 * count : 8] = self._zeros[:count]
            return
        for slot in range(count):
            if self._controls[40 * slot + 16] != b"\xfe":
                self._control_words[10 * slot + 8] = 0

    def client(self, slot: int) -> bytes:
        """The address of who sent what is in a slot, as octets; 4 where IPv6 carries IPv4."""
        start = slot * self._name_size
        if not self._v6:
            return bytes(self._names[start + 4 : start + 8])
        address = bytes(self._names[start + 8 : start + 24])
        return address[12:] if address.startswith(_MAPPED) else address

    def origin(self, slot: int) -> tuple[Peer, Back]:
        """Who sent what is in a slot, and the way back."""
        start = slot * self._name_size
        name = self._names[start : start + self._name_size]
        port = int.from_bytes(name[2:4], "big")
        address: tuple[str, int] | tuple[str, int, int, int]
        if self._v6:
            host = socket.inet_ntop(socket.AF_INET6, name[8:24])
            scope = int.from_bytes(name[24:28], sys.byteorder)
            address = (host, port, int.from_bytes(name[4:8], "big"), scope)
            host = numeric_host(host)
        else:
            host = socket.inet_ntop(socket.AF_INET, name[4:8])
            address = (host, port)
        local = self._local
        control: Control = []
        if self._control_size:
            begin = slot * self._control_size + 16
            data = self._controls[begin : begin + (20 if self._v6 else 12)]
            local, control = source_of(data)
        return Peer(host, port, "udp", local), Back(address, control)

    def reply(self, slot: int) -> bytes:
        """A copy of the reply that stands in a slot's two pieces."""
        start = slot * _INBOX
        address, size = self.pieces[4 * slot + 2], self.pieces[4 * slot + 3]
        body = _ffi.buffer(_ffi.cast("char *", address), size)[:]
        return bytes(self.inbox[start : start + 2]) + bytes(body)
