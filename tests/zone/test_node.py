"""How a look-up ends, by what stands at the name."""

import pytest

from kdns.wire import iana, name
from kdns.wire.reply import RRset
from kdns.zone.node import EMPTY, End, Node, Targets, look

OWNER = name.from_text("web.shop.svc.cluster.local.")
A = RRset(OWNER, iana.A, 5, (b"\x0a\x00\x00\x01",))
SRV = RRset(OWNER, iana.SRV, 5, (b"\x00\x00\x00\x64\x00\x50" + OWNER,))
NS = RRset(OWNER, iana.NS, 5, (OWNER,))
CNAME = RRset(OWNER, iana.CNAME, 5, (name.from_text("example.test."),))


def test_a_name_where_nothing_stands_does_not_exist() -> None:
    assert look(None, iana.A).end is End.NXDOMAIN


def test_an_empty_non_terminal_exists_and_has_no_data() -> None:
    """RFC 8020."""
    assert look(EMPTY, iana.A).end is End.NODATA


def test_the_record_set_of_the_type_is_found_and_another_type_has_no_data() -> None:
    node = Node({iana.A: A})
    assert look(node, iana.A).rrset is A
    assert look(node, iana.AAAA).end is End.NODATA


@pytest.mark.parametrize("rrset", [SRV, NS])
def test_what_points_at_hosts_brings_their_addresses(rrset: RRset) -> None:
    assert look(Node({rrset.rtype: rrset, iana.A: A}, (A,)), rrset.rtype).additional == (A,)


def test_an_address_brings_nothing_with_it() -> None:
    assert look(Node({iana.A: A, iana.SRV: SRV}, (A,)), iana.A).additional == ()


@pytest.mark.parametrize("qtype", [iana.A, iana.SRV, iana.TXT])
def test_an_alias_is_followed_whatever_is_asked(qtype: int) -> None:
    """RFC 1034, section 3.6.2."""
    found = look(Node({iana.CNAME: CNAME}), qtype)
    assert (found.end, found.rrset) == (End.ALIAS, CNAME)


def test_an_alias_itself_can_be_asked_for() -> None:
    found = look(Node({iana.CNAME: CNAME}), iana.CNAME)
    assert (found.end, found.rrset) == (End.FOUND, CNAME)


def srv_of(made: list[int]) -> Targets:
    def srv() -> tuple[RRset, tuple[RRset, ...]]:
        made.append(1)
        return SRV, (A,)

    return srv


@pytest.mark.parametrize("qtype", [iana.A, iana.AAAA, iana.TXT])
def test_who_asks_for_addresses_has_no_srv_made(qtype: int) -> None:
    made: list[int] = []
    look(Node({iana.A: A}, srv=srv_of(made)), qtype)
    assert not made


def test_srv_is_made_once_and_brings_its_addresses() -> None:
    made: list[int] = []
    node = Node({iana.A: A}, srv=srv_of(made))
    assert [look(node, iana.SRV)[1:] for _ in range(2)] == [(SRV, (A,))] * 2
    assert len(made) == 1


def test_all_that_stands_at_a_name_is_told_with_srv() -> None:
    assert dict(Node({iana.A: A}, srv=srv_of([])).rrsets) == {iana.A: A, iana.SRV: SRV}


def test_where_there_is_nothing_to_point_at_there_is_no_srv() -> None:
    assert look(Node(srv=lambda: (None, ())), iana.SRV).end is End.NODATA
