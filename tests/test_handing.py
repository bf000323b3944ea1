"""Listening sockets handed from one process to another: the same sockets, with what is in them."""

import os
import socket

import msgspec
import pytest

from kdns.corefile.address import Place
from kdns.handing import HandingError, hand_all, pair, take_all
from kdns.net.listen import ListenError
from kdns.sockets import Sockets, open_sockets

HOST = "127.0.0.1"


def opened(*places: Place) -> Sockets:
    (sockets,) = open_sockets(places)
    return sockets


def test_what_is_taken_are_the_same_places_and_ports() -> None:
    here, there = pair()
    sockets = opened(Place(HOST, 0), Place("127.0.0.2", 0))
    with here, there:
        taken = take_all(there, hand_all(here, sockets))
    assert taken.ports() == sockets.ports()
    sockets.close()
    taken.close()


def test_what_waits_in_a_socket_is_there_for_who_takes_it() -> None:
    here, there = pair()
    sockets = opened(Place(HOST, 0))
    port = sockets.ports()[Place(HOST, 0)]
    with here, there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"question", (HOST, port))
        count = hand_all(here, sockets)
        sockets.close()
        taken = take_all(there, count)
        (udp, _) = taken.at(Place(HOST, 0))
        assert udp.recv(100) == b"question"
        taken.close()


def test_more_than_one_message_holds_are_handed_in_several() -> None:
    here, there = pair()
    sockets = Sockets()
    for number in range(150):
        sockets.put(Place(str(number), 53), [socket.socket()])
    with here, there:
        taken = take_all(there, hand_all(here, sockets))
    assert taken.places() == sockets.places()
    sockets.close()
    taken.close()


def test_a_server_that_knows_nothing_of_tls_can_be_handed_to_and_hand_over() -> None:
    """What it knows is the host and the port of a place, and no more."""
    here, there = pair()
    sockets = opened(Place(HOST, 0))
    with here, there:
        hand_all(here, sockets)
        note, fds, _, _ = socket.recv_fds(there, 65_536, 8)
        assert msgspec.msgpack.decode(note) == [[[HOST, 0], 2]]
        socket.send_fds(here, [note], fds)
        taken = take_all(there, 1)
        for fd in fds:
            os.close(fd)
    assert taken.places() == [Place(HOST, 0)]
    sockets.close()
    taken.close()


def test_where_tls_is_spoken_one_socket_is_opened_and_handed() -> None:
    place = Place(HOST, 0, "tls")
    here, there = pair()
    for sockets in open_sockets([place], 2):
        taken = take_all(there, hand_all(here, sockets))
        assert [sock.type for sock in taken.at(place)] == [socket.SOCK_STREAM]
        sockets.close()
        taken.close()
    here.close()
    there.close()


def test_nothing_is_handed_where_there_is_nothing() -> None:
    here, there = pair()
    with here, there:
        assert hand_all(here, Sockets()) == 0
        assert take_all(there, 0).places() == []


@pytest.mark.parametrize("note", [b"\x91", b"nonsense"])
def test_what_is_no_note_of_sockets_is_refused(note: bytes) -> None:
    here, there = pair()
    with here, there:
        here.send(note)
        with pytest.raises(HandingError, match="expected the sockets of another place"):
            take_all(there, 1)


def test_an_end_in_the_middle_is_told() -> None:
    here, there = pair()
    sockets = opened(Place(HOST, 0))
    with there:
        with here:
            hand_all(here, sockets)
        with pytest.raises(HandingError, match="there are no more"):
            take_all(there, 2)
    sockets.close()


# Opening them.


def test_each_process_has_sockets_of_its_own_on_the_same_port() -> None:
    both = open_sockets([Place(HOST, 0)], 2)
    one, other = (sockets.ports() for sockets in both)
    assert one == other
    for sockets in both:
        sockets.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_that_another_has_is_an_error_and_nothing_stays_open(processes: int) -> None:
    taken = opened(Place(HOST, 0))
    port = taken.ports()[Place(HOST, 0)]
    with pytest.raises(ListenError, match="address already in use"):
        open_sockets([Place("127.0.0.2", port), Place(HOST, port)], processes)
    opened(Place("127.0.0.2", port)).close()
    taken.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_every_address_can_become_one_address_with_no_time_between(processes: int) -> None:
    before = open_sockets([Place("", 0)], processes)
    port = before[0].ports()[Place("", 0)]
    after = open_sockets([Place(HOST, port)], processes, ours=before)
    assert after[0].ports() == {Place(HOST, port): port}
    for sockets in (*before, *after):
        sockets.close()
