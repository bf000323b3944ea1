"""What a service manager gives, and what it is told."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdns.corefile.address import Place
from kdns.net.listen import ListenError, bind_all, bind_pair
from kdns.systemd import Given, Manager, given_sockets, sort_out


@pytest.fixture
def pair() -> Iterator[tuple[int, list[Given]]]:
    """A UDP and a TCP socket on one port of 127.0.0.1."""
    sockets = bind_pair("127.0.0.1")
    yield sockets[0].getsockname()[1], [Given(sock, "dns") for sock in sockets]
    for sock in sockets:
        sock.close()


def test_sockets_fit_the_address_that_they_are_bound_to(pair: tuple[int, list[Given]]) -> None:
    port, given = pair
    sockets, rest = sort_out(given, [Place("127.0.0.2", port), Place("127.0.0.1", port)])
    assert sockets.at(Place("127.0.0.1", port)) == [one.sock for one in given]
    assert rest == []


def test_what_fits_nothing_is_left(pair: tuple[int, list[Given]]) -> None:
    port, given = pair
    sockets, rest = sort_out(
        given, [Place("", port), Place("not an address", port), Place("127.0.0.1", port + 1)]
    )
    assert (sockets.places(), rest) == ([], given)


def test_every_address_is_what_is_bound_to_none() -> None:
    bound = bind_all("")
    port = bound[0].getsockname()[1]
    sockets, rest = sort_out([Given(sock, "dns") for sock in bound], [Place("", port)])
    assert (sockets.at(Place("", port)), rest) == (bound, [])
    sockets.close()


@pytest.mark.parametrize(("which", "lacks"), [(0, "ListenStream"), (1, "ListenDatagram")])
def test_one_kind_without_the_other_is_an_error_that_says_what_to_add(
    pair: tuple[int, list[Given]], which: int, lacks: str
) -> None:
    port, given = pair
    kind = "udp" if which == 0 else "tcp"
    message = rf"^dns \({kind} 127.0.0.1:{port}\): expected .* UDP and TCP; add {lacks}"
    with pytest.raises(ListenError, match=message):
        sort_out([given[which]], [Place("127.0.0.1", port)])


def test_where_tls_is_spoken_tcp_is_enough_and_udp_an_error(
    pair: tuple[int, list[Given]],
) -> None:
    port, given = pair
    place = Place("127.0.0.1", port, "tls")
    sockets, _ = sort_out(given[1:], [place])
    assert sockets.at(place) == [given[1].sock]
    with pytest.raises(ListenError, match="expected sockets for TCP alone"):
        sort_out(given, [place])


# The variables.


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "8", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "many"},
        {"LISTEN_FDS": "1"},
    ],
)
def test_what_is_for_another_process_is_not_ours(environ: dict[str, str]) -> None:
    assert given_sockets(environ, 7) == []


def test_the_variables_are_not_for_children() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "0", "LISTEN_FDNAMES": "", "PATH": "/bin"}
    given_sockets(environ, 7)
    assert environ == {"PATH": "/bin"}


# What is told.


class Listener:
    """A service manager that listens at an address."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.settimeout(10)

    def heard(self) -> str:
        return self.sock.recv(4096).decode()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.sock.close()


def manager(tmp_path: Path, **environ: str) -> Manager:
    return Manager({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}, 7, lambda: 1.5)


def test_it_is_told_each_state(tmp_path: Path, listener: Listener) -> None:
    told = manager(tmp_path)
    heard = []
    for say in (told.ready, told.reloading, told.stopping, told.alive):
        say()
        heard.append(listener.heard())
    assert heard == [
        "READY=1\nMAINPID=7",
        "RELOADING=1\nMONOTONIC_USEC=1500000",
        "STOPPING=1",
        "WATCHDOG=1",
    ]


def test_an_abstract_address_begins_with_an_at() -> None:
    name = f"kdns-test-{os.getpid()}"
    listening = Listener(f"\0{name}")
    with listening.sock:
        Manager({"NOTIFY_SOCKET": f"@{name}"}, 7).stopping()
        assert listening.heard() == "STOPPING=1"


def test_nobody_is_told_where_nobody_asks() -> None:
    Manager({}, 7).ready()


def test_who_does_not_listen_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager(tmp_path).ready()
    assert "was not told" in caplog.text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_signs_of_life_come_twice_as_often_as_wanted(
    tmp_path: Path, environ: dict[str, str], expected: float
) -> None:
    assert manager(tmp_path, **environ).watchdog == expected
