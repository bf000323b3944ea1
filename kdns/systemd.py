"""What a service manager gives, and wants to hear: sd_listen_fds(3), sd_notify(3).

    LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES   sockets that are open already, from descriptor 3 on
    NOTIFY_SOCKET                            where READY=1, RELOADING=1, STOPPING=1 are told
    WATCHDOG_USEC, WATCHDOG_PID              how often WATCHDOG=1 is wanted

Sockets of the manager's stay open over a restart: what comes in meanwhile waits in them.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from kdns.corefile.address import Place
from kdns.net.address import endpoint, numeric_host, socket_address
from kdns.net.listen import ListenError
from kdns.sockets import Sockets

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

log = logging.getLogger("kdns")


@dataclass(frozen=True, slots=True)
class Given:
    """A socket that was given, and what its unit calls it."""

    sock: socket.socket
    name: str

    def __str__(self) -> str:
        kind = "tcp" if self.sock.type == socket.SOCK_STREAM else "udp"
        host, port = self.sock.getsockname()[:2]
        return f"{self.name} ({kind} {endpoint(host, port)})"


def given_sockets(environ: MutableMapping[str, str], pid: int) -> list[Given]:
    """The sockets that this process was given. The variables are taken away: they are not for
    children.

    Raises ListenError for what is no listening or datagram socket of IPv4 or IPv6.
    """
    told = {name: environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")}
    if told["PID"] != str(pid) or not told["FDS"].isdecimal():
        return []
    count = int(told["FDS"])
    names = told["FDNAMES"].split(":") if told["FDNAMES"] else []
    names += ["unknown"] * (count - len(names))
    return [_given(FIRST_FD + number, names[number]) for number in range(count)]


def _given(fd: int, name: str) -> Given:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        expected = "expected a socket that listens"
        raise ListenError(error.errno, f"descriptor {fd} ({name}): {expected}: {error}") from error
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise ListenError(
            errno.EAFNOSUPPORT, f"descriptor {fd} ({name}): expected a socket of IPv4 or IPv6"
        )
    sock.setblocking(False)
    return Given(sock, name)


def sort_out(given: Iterable[Given], places: Iterable[Place]) -> tuple[Sockets, list[Given]]:
    """The sockets of the places that they fit, and those that fit none.

    Raises ListenError where a place has sockets for one of UDP and TCP alone, or, where TLS is
    spoken, for UDP at all.
    """
    rest = list(given)
    sorted_out = Sockets()
    for place in places:
        fitting = [one for one in rest if fits(one.sock, place.host, place.port)]
        if not fitting:
            continue
        rest = [one for one in rest if one not in fitting]
        kinds = {one.sock.type for one in fitting}
        if place.transport == "tls":
            if socket.SOCK_DGRAM in kinds:
                raise ListenError(
                    errno.EINVAL,
                    f"{', '.join(map(str, fitting))}: expected sockets for TCP alone, for TLS is "
                    "spoken there; take ListenDatagram out of the unit",
                )
        elif len(kinds) == 1:
            lacks = "ListenDatagram" if socket.SOCK_STREAM in kinds else "ListenStream"
            raise ListenError(
                errno.EINVAL,
                f"{', '.join(map(str, fitting))}: expected sockets for both UDP and TCP; "
                f"add {lacks} to the unit",
            )
        sorted_out.put(place, [one.sock for one in fitting])
    return sorted_out, rest


def fits(sock: socket.socket, host: str, port: int) -> bool:
    """Whether a socket is bound to this host (numeric; "" is every address) and port."""
    bound_host, bound_port = sock.getsockname()[:2]
    if bound_port != port:
        return False
    if not host:
        return bound_host in _ANY
    try:
        _, address = socket_address(host, port)
    except ValueError:
        return False
    return numeric_host(bound_host) == numeric_host(address[0])


class Manager:
    """Who is told how the process does; nobody, where there is no NOTIFY_SOCKET.

    monotonic: seconds of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        pid: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._pid = pid
        self._monotonic = monotonic
        wanted = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog = int(wanted) / 2e6 if self._address and wanted.isdecimal() and mine else 0.0
        """Seconds between two signs of life: half of what is allowed; 0 for none."""

    def ready(self) -> None:
        """It answers, with the Corefile that it has now."""
        self._tell(f"READY=1\nMAINPID={self._pid}")

    def reloading(self) -> None:
        """It is changing over to another Corefile; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic() * 1e6)}")

    def stopping(self) -> None:
        """It was told to stop."""
        self._tell("STOPPING=1")

    def left_to(self, pid: int) -> None:
        """Another process of the service answers now, and goes on when this one ends."""
        self._tell(f"MAINPID={pid}")

    def alive(self) -> None:
        """The loop turns."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # "@" stands for the octet 0 of an abstract address.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as error:
            log.warning("the service manager at %s was not told %s: %s", self._address, text, error)
