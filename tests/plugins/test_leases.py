"""Hot answers of the cache: right while they grow older, ended in time, counted, and bounded."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins import cache, leases, loadbalance
from kdns.plugins.cache import CacheHandler
from kdns.plugins.cache_store import Kept, Store
from kdns.plugins.chain import Handler, Outcome, Request
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.hot import Lease, Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.passed import read_passed
from kdns.wire.reply import Reply, RRset, opt_record, write_reply
from tests.plugins.fakes import FakeParts, addresses, question, settings

CLIENT = Peer("192.0.2.53", 5353, "udp", "192.0.2.10")
QUESTION = question("a.example")
PASSED = read_passed(QUESTION[:2] + bytes((iana.QR >> 8, 0)) + QUESTION[4:])


class Server(FakeParts):
    """A block with loadbalance and cache, before an upstream that says the same again and again."""

    def build(self, said: Reply, text: str = "cache") -> "Server":
        dispatcher = Dispatcher(self.monotonic)
        self.hot = dispatcher.hot
        self.said = said
        self.asked = self.handled = 0
        handler = settings(cache.parse, text).build(self, self._upstream)
        assert isinstance(handler, CacheHandler)
        self.cache = handler
        self.block.handler = self._counted(
            settings(loadbalance.parse, "loadbalance").build(self, handler)
        )
        self.block.counted = True
        dispatcher.serve(self.block)
        self.table = Table("udp", 1)
        self.front = dispatcher.front(self.table)
        return self

    def _counted(self, handler: Handler) -> Handler:
        def counted(request: Request) -> Outcome:
            self.handled += 1
            return handler(request)

        return counted

    def _upstream(self, request: Request) -> Outcome:
        self.asked += 1
        said = self.said
        if len(said.answer) == 1:
            said = replace(said, answer=(said.answer[0]._replace(owner=request.query.qname),))
        return read_passed(write_reply(request.query, said, limit=65535), "forward")

    def forget(self, changed: Iterable[object]) -> None:
        self.hot.forget(changed)

    def renew(self, leases: Sequence[Lease]) -> None:
        self.hot.renew(leases)

    def ask(self, text: str = "a.example", *, opt: bytes = b"") -> dns.message.Message:
        outcome = self.front(question(text, opt=opt), CLIENT)
        assert isinstance(outcome, bytes)
        return dns.message.from_wire(outcome)

    def ttls(self, *, opt: bytes = b"") -> list[int]:
        return [rrset.ttl for rrset in self.ask(opt=opt).answer]

    def heat(self) -> None:
        """Ask, until who asks next is answered from the table."""
        while not self.table.entries:
            self.ask()

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


def found(ttl: int, *last: int) -> Reply:
    return Reply(answer=(addresses("a.example", *(last or (1,)), ttl=ttl),))


def test_an_answer_grows_older_where_it_stands() -> None:
    """RFC 1035, section 3.2.1: a TTL is the time for which a record may be kept."""
    server = Server().build(found(60))
    server.heat()
    handled = server.handled
    shown = []
    for _ in range(50):
        server.wait(1)
        shown += server.ttls()
    assert (shown, server.handled) == (list(range(59, 9, -1)), handled)


def test_each_of_its_records_grows_older() -> None:
    alias = RRset(name.from_text("a.example"), iana.CNAME, 300, (name.from_text("b.example"),))
    server = Server().build(Reply(answer=(alias, addresses("b.example", 1, ttl=20))))
    server.heat()
    server.wait(5)
    assert server.ttls() == [295, 15]


def test_every_part_of_what_is_cut_grows_older() -> None:
    server = Server().build(found(60, *range(200)))
    server.heat()
    handled = server.handled
    server.wait(5)
    replies = [server.ask() for _ in range(100)]
    assert server.handled == handled
    assert {rrset.ttl for reply in replies for rrset in reply.answer} == {55}
    assert len({str(record) for reply in replies for record in reply.answer[0]}) == 200


def test_what_an_opt_has_in_the_place_of_a_ttl_stays() -> None:
    """RFC 6891, section 6.1.3."""
    server = Server().build(found(60))
    opt = opt_record(do=True)
    for _ in range(4):
        server.ask(opt=opt)
        server.wait(2)
    reply = server.ask(opt=opt)
    assert (reply.answer[0].ttl, reply.ednsflags) == (52, iana.DO)


def test_a_record_that_lives_less_than_the_answer_shows_no_negative_time() -> None:
    extra = addresses("ns.example", 9, ttl=300)
    reply = Reply(answer=(addresses("a.example", 1, ttl=3),), additional=(extra,))
    server = Server().build(reply, "cache {\nsuccess 100 3600 60\n}")
    server.heat()
    server.wait(59)
    assert server.ttls() == [1]


@given(
    ttl=st.integers(1, 20),
    stored=st.floats(0, 1),
    waits=st.lists(st.floats(0.01, 3), min_size=1, max_size=40),
    opts=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_ttls_are_right_and_nothing_outlives_them(
    ttl: int, stored: float, waits: list[float], opts: list[bool]
) -> None:
    """However often, and in whichever form, it is asked for: within the second before, and one."""
    server = Server().build(found(ttl))
    server.wait(stored)
    server.ask()
    since, asked = server.clock.time(), server.asked
    for wait, extended in zip(waits, opts, strict=False):
        server.wait(wait)
        for _ in range(3):
            (shown,) = server.ttls(opt=opt_record() if extended else b"")
            if server.asked > asked:
                assert server.clock.time() > since + ttl - 1e-6
                since, asked = server.clock.time(), server.asked
            left = since + ttl - server.clock.time()
            assert left > -1e-6
            assert left - 3 / leases.SLOTS <= shown < left + 2


def test_each_address_has_its_turn_while_they_grow_older() -> None:
    server = Server().build(found(60, 1, 2, 3))
    server.heat()
    firsts = []
    for _ in range(6):
        server.wait(1)
        firsts.append(str(server.ask().answer[0][0]))
    assert firsts == firsts[:3] * 2
    assert len(set(firsts)) == 3


def test_so_has_each_of_more_than_there_are_orders_of() -> None:
    server = Server().build(found(60, *range(1, 71)), "cache")
    opt = opt_record(size=4096)
    server.ask(opt=opt)
    firsts = set()
    for _ in range(70):
        reply = server.ask(opt=opt)
        firsts.add(str(reply.answer[0][0]))
    server.wait(3)
    assert len(firsts) == 70
    assert server.ttls(opt=opt) == [57]


def test_ttls_that_are_to_stay_as_they_came_stay() -> None:
    server = Server().build(found(60), "cache {\nkeepttl\n}")
    server.heat()
    server.wait(30)
    assert server.ttls() == [60]


def test_a_denial_grows_older_too() -> None:
    names = name.from_text("ns.example") + name.from_text("root.example")
    soa = RRset(name.from_text("example"), iana.SOA, 30, (names + bytes(16) + b"\0\0\0\x1e",))
    server = Server().build(Reply(iana.Rcode.NXDOMAIN, authority=(soa,)))
    server.heat()
    server.wait(12)
    assert server.ask().authority[0].ttl == 18


def test_what_is_kept_anew_is_what_is_handed_out_within_a_second() -> None:
    server = Server().build(found(60))
    server.heat()
    server.said = found(60, 2)
    (key,) = [kept.key for kept in server.cache.stores["success"]._held.values()]
    server.cache.stores["success"].drop(key)
    server.wait(1)
    assert str(server.ask().answer[0][0]) == "192.0.2.2"


def test_every_hit_counts_for_fetching_ahead() -> None:
    server = Server().build(found(60), "cache {\nprefetch 20 1m 20%\n}")
    server.heat()
    for _ in range(10):
        server.wait(1)
        for _ in range(2):
            server.ask()
    server.wait(38.5)
    server.ask()
    assert (server.cache.prefetches, server.asked) == (1, 2)


def test_what_was_asked_for_too_rarely_is_not_fetched_ahead() -> None:
    server = Server().build(found(60), "cache {\nprefetch 20 1m 20%\n}")
    server.heat()
    for _ in range(8):
        server.wait(1)
        for _ in range(2):
            server.ask()
    server.wait(40.5)
    server.ask()
    assert (server.cache.prefetches, server.asked) == (0, 1)


def test_letter_case_and_who_had_it_before_count_once_for_fetching_ahead() -> None:
    server = Server().build(found(600), "cache {\nprefetch 1000 10m 20%\n}")
    server.ask()
    server.ask("A.example")
    for _ in range(5):
        server.ask("A.example")
    server.wait(1)
    for _ in range(3):
        server.ask()
    server.wait(1)
    (kept,) = server.cache.stores["success"]._held.values()
    assert kept.hits == 9


def test_what_nobody_asks_for_ends_and_so_do_the_visits() -> None:
    server = Server().build(found(600))
    server.heat()
    server.wait(leases.IDLE - 1)
    assert server.table.entries
    server.wait(2)
    assert (len(server.table.entries), len(server.cache.leases), server.clock.waiting) == (0, 0, 0)


def test_what_is_asked_for_now_and_then_stays() -> None:
    server = Server().build(found(600))
    server.heat()
    handled = server.handled
    for _ in range(10):
        server.wait(leases.IDLE - 2)
        server.ask()
    assert server.handled == handled


def test_an_entry_that_is_asked_for_hot_is_not_the_one_to_make_room() -> None:
    server = Server().build(found(600), "cache {\nsuccess 2\n}")
    server.heat()
    server.ask("b.example")
    server.ask()
    server.wait(1)
    server.ask("c.example")
    server.ask(opt=opt_record())
    assert server.asked == 3


def test_where_each_query_is_watched_nothing_is_visited() -> None:
    server = Server().build(found(600))
    server.block.watches_queries = True
    for _ in range(3):
        server.ask()
    assert (len(server.cache.leases), server.clock.waiting) == (0, 0)


def test_hits_are_counted_exactly() -> None:
    server = Server().build(found(30))
    for _ in range(100):
        server.ask()
        server.wait(0.4)
    server.table.count()
    server.block.counters.settle()
    assert sum(server.block.counters.requests.values()) == 100


def test_who_takes_an_answer_and_puts_more_to_it_has_it_for_a_second() -> None:
    """Not all of it grows older."""
    server = Server().build(found(60))

    def composed(request: Request) -> Outcome:
        reply = server.cache(request)
        assert not isinstance(reply, Pending)
        if reply.depends is not None:
            reply.depends = (*reply.depends, "something else")
        return reply

    server.block.handler = composed
    server.heat()
    server.wait(1)
    assert not server.table.entries
    assert server.ttls() == [59]


# Bounds.


class Ring:
    """Leases alone, on answers that somebody asks for all the time."""

    def __init__(self) -> None:
        self.parts = Visited()
        self.store = {"success": Holds(0)}
        self.leases = leases.Leases(
            self.parts, self.store, lambda kept, times, now: None, still=False
        )
        self.numbers = count()

    def take(self, lasts: float) -> leases.Lease | None:
        now = self.parts.monotonic()
        kept = Kept((b"", next(self.numbers), 1, 0), "success", PASSED, now, lasts)
        return self.leases.take(kept, 0, kept.expires)


class Holds(Store):
    def holds(self, kept: Kept) -> bool:
        return True


class Visited(FakeParts):
    """Notes how many were visited at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: list[int] = []

    def renew(self, leases: Sequence[Lease]) -> None:
        self.visits.append(len(leases))
        for lease in leases:
            lease.uses = 1


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST", 2)
    ring = Ring()
    taken = [ring.take(60) for _ in range(2 * leases.SLOTS + 1)]
    assert [lease is None for lease in taken] == [False] * 2 * leases.SLOTS + [True]


def test_many_of_one_moment_are_visited_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST", 2)
    ring = Ring()
    for _ in range(7):
        ring.take(60)
    ring.parts.clock.advance(1.2)
    assert ring.parts.visits == [2, 2, 2, 1]


def test_and_none_of_them_ends_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST", 2)
    ring = Ring()
    for _ in range(7):
        ring.take(60)
    ring.parts.clock.advance(59.99)
    assert (len(ring.leases), ring.parts.clock.waiting) == (0, 0)


def test_visits_that_a_busy_loop_made_late_are_caught_up_with() -> None:
    ring = Ring()
    for lasts in (60.0, 60.25, 60.5, 1.5):
        ring.take(lasts)
    ring.parts.clock._now += 5
    ring.parts.clock.advance(0)
    assert len(ring.leases) == 3
    ring.parts.clock.advance(1)
    assert sum(ring.parts.visits) == 4 + 3


def test_what_ends_before_the_next_visit_has_none() -> None:
    ring = Ring()
    ring.take(60)
    assert ring.take(0.03) is None
