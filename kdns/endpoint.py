"""One address and port that is answered on: its listeners, and the dispatcher that they ask.

It outlives the blocks that it serves: they change with the Corefile, while the sockets, and what is
queued in them, stay.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable

from kdns.corefile.address import Place
from kdns.net import batch
from kdns.net.tcp import IDLE, MAX_CONNECTIONS, TcpListener
from kdns.net.tls import HANDSHAKE, Outcome
from kdns.net.udp import UdpListener
from kdns.plugins.block import Block, Timeouts
from kdns.plugins.dispatch import Dispatcher, FamilyFront
from kdns.plugins.hot import Table
from kdns.plugins.peer import Proto
from kdns.totals import Totals, totals


class Endpoint:
    """Make it in a running loop.

    place: with the port that it has. sockets: what this process answers on there, which it takes
    over; none for a process that only oversees others. busy: whether UDP has to wait, here or
    elsewhere.
    """

    def __init__(
        self, place: Place, sockets: list[socket.socket], busy: Callable[[], bool]
    ) -> None:
        self.place = place
        self.dispatcher = Dispatcher(time.monotonic)
        self.dispatcher.nobody.label = label_of(place)
        self._udp: list[UdpListener] = []
        self._tcp: list[TcpListener] = []
        self._answering = False
        self.shed_label = ""
        """Of the block that has what is dropped counted under CoreDNS's name; "" for none."""
        for sock in sockets:
            if sock.type == socket.SOCK_STREAM:
                self._tcp.append(TcpListener(sock, self._both_families("tcp")))
            else:
                self._udp.append(self._udp_listener(sock))
        for tcp in self._tcp:
            tcp.busy = busy

    def serve(self, blocks: list[Block]) -> None:
        """Ask these blocks from now on, and no others."""
        self.dispatcher.replace(blocks)
        # Names of no zone are counted where those of the others are.
        self.dispatcher.nobody.counted = any(block.counted for block in blocks)
        asked = next((block.asked for block in blocks if block.asked is not None), None)
        for udp in self._batched():
            udp.sample = None if asked is None else asked.client
            udp.admission.ours(self.dispatcher.own_zones(), self.dispatcher.passing())
        self.shed_label = next((block.label for block in blocks if block.sheds), "")
        said = next((block.timeouts for block in blocks if block.timeouts is not None), Timeouts())
        for tcp in self._tcp:
            tcp.idle = said.idle or IDLE
            tcp.read, tcp.write, tcp.questions = said.read, said.write, said.questions
            tcp.handshake = said.read or HANDSHAKE
            if self.place.transport == "tls":
                tcp.certificates = blocks[0].certificates

    def bound(self, connections: int) -> None:
        """Have at most so many connections."""
        for tcp in self._tcp:
            tcp.limit = min(connections, MAX_CONNECTIONS)

    async def start(self) -> None:
        """Answer what has come in, and what comes. Twice is harmless."""
        if self._answering:
            return
        self._answering = True
        for udp in self._udp:
            udp.start()
        for tcp in self._tcp:
            await tcp.start()

    async def close(self, grace: float) -> None:
        """Take no more questions, wait at most `grace` seconds for pending replies, and close."""
        for udp in self._udp:
            await udp.close(grace)
        for tcp in self._tcp:
            await tcp.close(grace)

    def dismiss(self) -> None:
        """Have clients over TCP go, and ask over new connections."""
        for tcp in self._tcp:
            tcp.dismiss()

    def abort(self) -> None:
        """Close at once."""
        for udp in self._udp:
            udp.abort()
        for tcp in self._tcp:
            tcp.abort()

    def totals(self) -> Totals:
        """What was asked about no zone. What was answered hot is in its blocks' counters then."""
        for table in self.dispatcher.tables:
            table.count()
        return totals([self.dispatcher.nobody], [])

    def shrink(self, part: float) -> None:
        """Have room for a part of the answers at hand."""
        self.dispatcher.shrink(part)

    def connections(self) -> int:
        """How many are open."""
        return sum(tcp.connections for tcp in self._tcp)

    def closed_connections(self) -> tuple[int, int]:
        """Connections that were closed to make room for others, and for what they held."""
        return sum(tcp.evicted for tcp in self._tcp), sum(tcp.expelled for tcp in self._tcp)

    def handshakes(self) -> Counter[Outcome]:
        """Of TLS, by what they came to."""
        return sum((tcp.handshakes for tcp in self._tcp), Counter())

    def kernel_drops(self) -> int:
        """Datagrams that the kernel dropped because a socket's queue was full."""
        return sum(udp.kernel_drops() for udp in self._batched())

    def turned_away(self) -> tuple[int, int]:
        """Queries without an answer because there was too much to do: outside names, and of greedy
        clients."""
        each = [udp.admission for udp in self._batched()]
        return sum(one.outside for one in each), sum(one.greedy for one in each)

    def unsent(self) -> int:
        """Datagrams that could not be sent, or not be read."""
        return sum(udp.dropped for udp in self._udp)

    def shedding(self) -> int:
        """How many sockets turn new outside names away now."""
        return sum(udp.admission.shedding for udp in self._batched())

    def _batched(self) -> list[batch.BatchedUdpListener]:
        return [udp for udp in self._udp if isinstance(udp, batch.BatchedUdpListener)]

    def _udp_listener(self, sock: socket.socket) -> UdpListener:
        v6 = sock.family == socket.AF_INET6
        if v6 and _takes_ipv4(sock):
            return UdpListener(sock, self._both_families("udp"))
        family = 2 if v6 else 1
        if not batch.available():
            return UdpListener(sock, self.dispatcher.front(Table("udp", family)))
        table = Table("udp", family, batch.pin)
        return batch.BatchedUdpListener(sock, self.dispatcher.front(table), table)

    def _both_families(self, proto: Proto) -> FamilyFront:
        fronts = [self.dispatcher.front(Table(proto, family)) for family in (1, 2)]
        return FamilyFront(*fronts)


def _takes_ipv4(sock: socket.socket) -> bool:
    """Whether IPv4 comes in here too. Nothing of ours is like that, but somebody else's may be."""
    only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return not only and sock.getsockname()[0] == "::"


def label_of(place: Place) -> str:
    """How metrics name a server; "" is every address."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{place.transport}://{host}:{place.port}"
