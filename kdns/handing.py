"""Listening sockets, handed from one process to another over a unix socket (SCM_RIGHTS).

What is handed is the socket itself, not another one on the same port: what waits in it unread is
there for whoever reads first, and connections that nobody has accepted yet are not refused.
"""

import os
import socket

import msgspec

from kdns.corefile.address import Place
from kdns.sockets import Sockets

_MAX_FDS = 128
"""In one message; the kernel takes 253."""
_MAX_NOTE = 65_536
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[tuple[Place, int]])


class HandingError(OSError):
    """What came is not what the other side of this protocol sends."""

    def __str__(self) -> str:
        return str(self.args[0])


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends between which sockets can be handed: each message is received as it was sent."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def hand_all(to: socket.socket, sockets: Sockets) -> int:
    """Send all that are held; how many places that were. Raises OSError."""
    notes: list[tuple[tuple[str | int, ...], int]] = []
    fds: list[int] = []
    places = sockets.places()
    for place in places:
        held = sockets.at(place)
        if len(fds) + len(held) > _MAX_FDS:
            socket.send_fds(to, [_encode(notes)], fds)
            notes, fds = [], []
        # A server that knows nothing of TLS has to read of the others only: no third word there.
        notes.append((place[:2] if place.transport == "dns" else place, len(held)))
        fds += [sock.fileno() for sock in held]
    if fds:
        socket.send_fds(to, [_encode(notes)], fds)
    return len(places)


def take_all(source: socket.socket, count: int) -> Sockets:
    """Receive so many places. Waits. Raises OSError."""
    taken = Sockets()
    try:
        while len(taken.places()) < count:
            _take(source, taken)
    except BaseException:
        taken.close()
        raise
    return taken


def _take(source: socket.socket, taken: Sockets) -> None:
    note, fds, flags, _ = socket.recv_fds(source, _MAX_NOTE, _MAX_FDS)
    held: list[socket.socket] = []
    try:
        for fd in fds:
            held.append(socket.socket(fileno=fd))  # noqa: PERF401 - closed below if one is none
    except OSError:
        for sock in held:
            sock.close()
        for fd in fds[len(held) :]:
            os.close(fd)
        raise
    try:
        notes = _decoder.decode(note)
    except msgspec.MsgspecError as error:
        notes, flags = [], socket.MSG_TRUNC
        reason = str(error) if note else "there are no more"
    else:
        reason = "they did not come whole"
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or sum(n for _, n in notes) != len(held):
        for sock in held:
            sock.close()
        raise HandingError(f"expected the sockets of another place: {reason}")
    for place, number in notes:
        for sock in held[:number]:
            sock.setblocking(False)
        taken.put(place, held[:number])
        held = held[number:]
