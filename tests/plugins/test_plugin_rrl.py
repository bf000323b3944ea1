"""rrl: answers above a rate are withheld, or slip out truncated; time is the test's."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import rrl
from kdns.plugins.chain import Outcome, Request, Withheld
from kdns.plugins.peer import Peer, Proto
from kdns.plugins.pending import Pending
from kdns.plugins.rrl import Settings
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Query
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, reply_now, settings

ADDRESS = RRset(name.from_text("a.example"), iana.A, 5, (bytes(4),))
SOA = RRset(name.from_text("Example"), iana.SOA, 5, (bytes(22),))
NS = RRset(name.from_text("sub.example"), iana.NS, 5, (b"\0",))
FOUND = Reply(answer=(ADDRESS,), aa=True, by="test")
DENIED = Reply(Rcode.NXDOMAIN, authority=(SOA,))
NODATA = Reply(authority=(SOA,))
REFERRED = Reply(authority=(NS,))
FAILED = Reply(Rcode.SERVFAIL)


class Limited:
    """A block with the directive, before something that says what the test wants."""

    def __init__(self, *lines: str, zones: str = "") -> None:
        self.parts = FakeParts()
        body = "".join(f" {line}\n" for line in lines)
        self.settings = settings(rrl.parse, f"rrl {zones} {{\n{body}}}")
        self.reply: Outcome = FOUND
        self.asked = 0
        self.handler = self.settings.build(self.parts, self._following)

    def _following(self, request: Request) -> Outcome:
        self.asked += 1
        return self.reply

    def ask(
        self,
        text: str = "a.example",
        host: str = "10.0.0.1",
        *,
        proto: Proto = "udp",
        qtype: int = iana.A,
        aliases: int = 0,
    ) -> Reply:
        query = Query(name.from_text(text), qtype)
        return reply_now(self.handler(Request(query, Peer(host, 4242, proto, ""), aliases)))

    def answers(self, times: int, text: str = "a.example", host: str = "10.0.0.1") -> int:
        """How many of so many questions get the whole answer."""
        return sum(self.ask(text, host) is self.reply for _ in range(times))

    def numbers(self, metric: str) -> dict[tuple[str, ...], float]:
        return {s.name: dict(s.numbers) for s in self.parts.meters.sample()}[metric]


def test_so_many_answers_a_second_are_sent() -> None:
    limited = Limited("responses-per-second 5", "slip-ratio 0")
    assert limited.answers(20) == 5
    limited.parts.clock.advance(60.0)
    assert limited.answers(20) == 5


def test_who_goes_on_asking_owes_more_but_no_more_than_a_window() -> None:
    limited = Limited("responses-per-second 5", "slip-ratio 0", "window 2")
    limited.answers(1000)
    limited.parts.clock.advance(1.9)
    assert limited.answers(1) == 0
    limited.parts.clock.advance(0.6)
    assert limited.answers(1) == 1


def test_one_in_some_slips_out_truncated_so_that_tcp_is_tried() -> None:
    limited = Limited("responses-per-second 1", "slip-ratio 3")
    replies = [limited.ask() for _ in range(7)]
    slipped = [reply for reply in replies if reply.tc]
    assert [(reply.answer, reply.aa) for reply in slipped] == [((), True)] * 2
    assert sum(type(reply) is Withheld for reply in replies) == 4
    assert limited.numbers("kdns_dropped") == {("rrl",): 4}


def test_over_tcp_there_is_no_limit() -> None:
    limited = Limited("responses-per-second 1")
    assert all(limited.ask(proto="tcp") is FOUND for _ in range(9))


def test_who_follows_an_alias_is_not_limited_for_it() -> None:
    limited = Limited("responses-per-second 1")
    assert all(limited.ask(aliases=1) is FOUND for _ in range(9))


@pytest.mark.parametrize(
    ("hosts", "sent"),
    [
        (("10.0.0.1", "10.0.0.200"), 3),
        (("10.0.0.1", "10.0.1.1"), 6),
        (("fd00:0:0:1::1", "fd00:0:0:2::1"), 3),
        (("fd00:0:0:100::1", "fd00:0:0:200::1"), 6),
        (("10.0.0.1", "fd00::1"), 6),
    ],
)
def test_an_account_is_of_a_network(hosts: tuple[str, str], sent: int) -> None:
    limited = Limited("responses-per-second 3", "slip-ratio 0")
    assert sum(limited.answers(3, host=host) for host in hosts) == sent


def test_the_length_of_a_prefix_can_be_said() -> None:
    limited = Limited("responses-per-second 3", "slip-ratio 0", "ipv4-prefix-length 32")
    assert sum(limited.answers(3, host=f"10.0.0.{last}") for last in (1, 2)) == 6


@pytest.mark.parametrize(
    ("reply", "apart"),
    [(FOUND, True), (NODATA, True), (DENIED, False), (REFERRED, False), (FAILED, False)],
)
def test_names_have_accounts_of_their_own_only_where_they_exist(
    reply: Reply, *, apart: bool
) -> None:
    limited = Limited("responses-per-second 3", "slip-ratio 0")
    limited.reply = reply
    sent = limited.answers(3, "a.example") + limited.answers(3, "b.example")
    assert sent == (6 if apart else 3)


@pytest.mark.parametrize(
    ("option", "reply"),
    [
        ("nodata-per-second", NODATA),
        ("nxdomains-per-second", DENIED),
        ("referrals-per-second", REFERRED),
        ("errors-per-second", FAILED),
    ],
)
def test_each_kind_has_a_rate_of_its_own(option: str, reply: Reply) -> None:
    limited = Limited("responses-per-second 7", f"{option} 2", "slip-ratio 0")
    limited.reply = reply
    assert limited.answers(20) == 2
    limited.reply = FOUND
    assert limited.answers(20) == 7


def test_a_rate_of_0_is_no_limit() -> None:
    limited = Limited("responses-per-second 2", "nxdomains-per-second 0")
    limited.reply = DENIED
    assert limited.answers(100) == 100


def test_questions_can_be_limited_before_they_cost_anything() -> None:
    limited = Limited("requests-per-second 4")
    assert limited.answers(10) == limited.asked == 4
    assert type(limited.ask()) is Withheld


def test_what_it_would_do_can_be_seen_without_doing_it() -> None:
    limited = Limited("responses-per-second 2", "requests-per-second 5", "report-only")
    assert limited.answers(10) == 10
    assert limited.numbers("kdns_rrl_exceeded") == {
        ("dns://:53", "drop"): 0,
        ("dns://:53", "slip"): 0,
        ("dns://:53", "report"): 8 + 5,
    }


def test_other_zones_are_not_limited() -> None:
    limited = Limited("responses-per-second 1", zones="b.example")
    assert limited.answers(9, "a.example") == 9
    assert limited.answers(9, "w.b.example") == 1


def test_the_table_is_bounded_and_who_was_not_heard_of_for_longest_goes() -> None:
    limited = Limited("responses-per-second 1", "slip-ratio 0", "max-table-size 2")
    for text in ("a.example", "b.example", "c.example"):
        limited.answers(1, text)
    assert limited.answers(1, "c.example") == 0
    assert limited.answers(1, "a.example") == 1


def test_an_answer_that_comes_later_is_limited_too() -> None:
    limited = Limited("responses-per-second 1", "slip-ratio 0")
    made: list[Reply] = []
    for _ in range(2):
        pending: Pending[Reply] = Pending()
        limited.reply = pending
        query = Query(name.from_text("a.example"), iana.A)
        outcome = limited.handler(Request(query, Peer("10.0.0.1", 1, "udp", "")))
        assert isinstance(outcome, Pending)
        outcome.when_done(made.append)
        pending.resolve(FOUND)
    assert [type(reply) for reply in made] == [Reply, Withheld]


def test_its_block_answers_nothing_hot() -> None:
    assert Limited("responses-per-second 1").parts.block.watches_queries


def test_it_says_what_it_does() -> None:
    limited = Limited("responses-per-second 5", "errors-per-second 0", "report-only")
    assert limited.settings.explain() == (
        ".: a second, for each client network: 5 response, 5 nodata, 5 nxdomain, 5 referral; "
        "only counted"
    )
    assert limited.settings.warnings() == ()


def test_without_a_rate_it_warns() -> None:
    assert Settings((".",)).warnings() == ("rrl without a rate limits nothing",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rrl {\n responses-per-second\n}", r"^Corefile:3: responses-per-second: expected 1"),
        ("rrl {\n responses-per-second -1\n}", r"^Corefile:3: .*'-1'"),
        ("rrl {\n window 0\n}", r"^Corefile:3: .*'0'"),
        ("rrl {\n ipv4-prefix-length 33\n}", r"^Corefile:3: .*'33'"),
        ("rrl {\n slip-ratio 11\n}", r"^Corefile:3: .*'11'"),
        ("rrl {\n report-only yes\n}", r"^Corefile:3: report-only: expected 0 arguments"),
        ("rrl {\n burst 5\n}", r"^Corefile:3: rrl: unknown option 'burst'"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(rrl.parse, text)
