"""top: the block's answers are counted, hot or not."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import top
from kdns.plugins.block import Block
from kdns.plugins.chain import refuse
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Table
from kdns.plugins.peer import Peer
from kdns.telemetry.top import Searched, Top
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, addresses, always, question, settings

PEER = Peer("2001:db8::1", 4242, "tcp", "2001:db8::9")
FOUND = Reply(answer=(addresses("a.example", 1),), depends=())
SOA = RRset(name.from_text("example"), iana.SOA, 30, (bytes(22),))
DENIED = Reply(Rcode.NXDOMAIN, authority=(SOA,), depends=())


@pytest.mark.parametrize(("text", "address"), [("top", "localhost:9154"), ("top :9154", ":9154")])
def test_it_is_served_where_it_is_told_to(text: str, address: str) -> None:
    parts = FakeParts()
    configured = settings(top.parse, text)
    assert configured.build(parts, refuse) is refuse
    assert list(parts.routes) == [(address, "/top")]
    assert parts.block.asked is parts.seen
    assert configured.explain() == f"who asks what, at http://{address}/top"


def test_clusters_of_the_block_are_known_once() -> None:
    parts = FakeParts()
    parts.block.searched.append(Searched(name.from_text("cluster.local"), {b"\x04shop"}))
    parts.block.places.append(lambda addresses: {})
    for _ in range(2):
        settings(top.parse, "top").build(parts, refuse)
    assert (parts.seen.searched, parts.seen.places) == (parts.block.searched, parts.block.places)


@pytest.mark.parametrize(("reply", "kinds"), [(FOUND, ("names",)), (DENIED, ("names", "denied"))])
def test_each_answer_counts_once_cold_or_hot(reply: Reply, kinds: tuple[str, ...]) -> None:
    counting = Top(lambda: 1000.0)
    block = Block((".",), handler=always(reply), asked=counting)
    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(block)
    table = Table("tcp", 2)
    front = dispatcher.front(table)
    for text in ("a.example", "A.example", "a.example", "a.example", "a.example"):
        front(question(text), PEER)
    table.count()
    window = counting.read()
    for kind in kinds:
        assert window.sketches[kind].most(9) == [(name.from_text("a.example"), 5, 0)]
    # Over TCP, clients are those whose answers were made for them.
    assert window.sketches["clients"].total == 1


def test_who_was_gone_before_its_address_was_known_is_no_client() -> None:
    """It is answered like anybody: what it is told is still counted."""
    counting = Top(lambda: 1000.0)
    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(Block((".",), handler=always(FOUND), asked=counting))
    assert dispatcher(question("a.example"), Peer("", 0, "tcp", "")) is not None
    window = counting.read()
    assert [window.sketches[kind].total for kind in ("names", "clients")] == [1, 0]


def test_what_is_dropped_from_a_table_was_counted() -> None:
    counting = Top(lambda: 1000.0)
    block = Block((".",), handler=always(FOUND), asked=counting)
    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(block)
    table = Table("tcp", 2)
    front = dispatcher.front(table)
    for _ in range(5):
        front(question("a.example"), PEER)
    table.drop(question("a.example")[2:])
    assert counting.read().sketches["names"].total == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top a b", r"^Corefile:2: top: expected at most 1 argument"),
        ("top 9154", r"^Corefile:2: expected HOST:PORT"),
        ("top {\nx\n}", r"^Corefile:2: top"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(top.parse, text)
