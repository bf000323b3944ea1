"""The listening sockets of a process, by the address and port that the Corefile names.

    places --open_sockets--> Sockets of each process --> endpoints
                                 ^
    handed on by a process before us, or by a service manager

Sockets that somebody else opened are taken where their address fits; only the rest is bound.
"""

import socket
from collections.abc import Iterable

from kdns.corefile.address import Place
from kdns.net.listen import bind_all, bind_tcp


class Sockets:
    """What one process listens on."""

    def __init__(self) -> None:
        self._held: dict[Place, list[socket.socket]] = {}

    def __contains__(self, place: Place) -> bool:
        return place in self._held

    def put(self, place: Place, sockets: list[socket.socket]) -> None:
        """Hold the UDP sockets and the TCP sockets of one place."""
        self._held[place] = sockets

    def at(self, place: Place) -> list[socket.socket]:
        """The sockets of a place. Raises KeyError."""
        return self._held[place]

    def places(self) -> list[Place]:
        """What there are sockets for."""
        return list(self._held)

    def ports(self) -> dict[Place, int]:
        """The port that each place got: another than the plan's where that is 0."""
        return {place: int(held[-1].getsockname()[1]) for place, held in self._held.items()}

    def adopt(self, others: "Sockets") -> None:
        """Hold what others held."""
        self._held |= others._held
        others._held = {}

    def close(self, places: Iterable[Place] | None = None) -> None:
        """Close the sockets of these places, or all. Twice is harmless."""
        for place in list(self._held if places is None else places):
            for sock in self._held.pop(place, ()):
                sock.close()


def open_sockets(
    places: Iterable[Place], processes: int = 1, *, ours: Iterable[Sockets] = ()
) -> list[Sockets]:
    """The sockets of each process, all on the ports of `places`. Raises ListenError.

    ours: what we listen on already. A port of ours may be bound once more, at another address.
    """
    opened = [Sockets() for _ in range(processes)]
    ours = list(ours)
    try:
        for place in places:
            shared = _share(ours, place.port)
            if processes == 1:
                opened[0].put(place, _bind(place, place.port, reuse_port=shared))
                continue
            bound = place.port if shared else _free(place)
            for sockets in opened:
                sockets.put(place, _bind(place, bound, reuse_port=True))
    except BaseException:
        for sockets in opened:
            sockets.close()
        raise
    return opened


def _bind(place: Place, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """UDP and TCP; where TLS is spoken, TCP alone (RFC 7858, section 3.1). Raises ListenError."""
    if place.transport == "tls":
        return [bind_tcp(place.host, port, reuse_port=reuse_port)]
    return bind_all(place.host, port, reuse_port=reuse_port)


def _free(place: Place) -> int:
    """A port that nobody has, maybe any. Raises ListenError.

    Sockets that share a port would share it with another server too: so see first that nobody
    has it.
    """
    probe = _bind(place, place.port, reuse_port=False)
    bound = int(probe[-1].getsockname()[1])
    for sock in probe:
        sock.close()
    return bound


def _share(ours: list[Sockets], port: int) -> bool:
    """Have sockets of ours on this port let others beside them; whether there are any.

    So "every address" can become one address, or the other way round, and neither is without a
    socket in between. The system asks both the old and the new socket.
    """
    beside = [
        sock
        for sockets in ours
        for place, bound in sockets.ports().items()
        if port and bound == port
        for sock in sockets.at(place)
    ]
    for sock in beside:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return bool(beside)
