"""cache: how long what is kept, for whom, and what is handed out after its time."""

from collections.abc import Callable

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import cache
from kdns.plugins.cache import Cache, CacheHandler
from kdns.plugins.chain import Outcome, Request
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.message import Edns, read_response
from kdns.wire.passed import read_passed
from kdns.wire.reply import Reply, RRset, write_reply
from tests.plugins.fakes import FakeParts, addresses, ask, reply_now, settings


def address(ttl: int, *last: int, owner: str = "a.example") -> RRset:
    datas = tuple(bytes((192, 0, 2, n)) for n in last or (1,))
    return RRset(name.from_text(owner), iana.A, ttl, datas)


def soa(ttl: int, minimum: int) -> RRset:
    names = name.from_text("ns.example") + name.from_text("root.example")
    data = names + bytes(16) + minimum.to_bytes(4, "big")
    return RRset(name.from_text("example"), iana.SOA, ttl, (data,))


class Kept:
    """A cache before an upstream that gives the replies of `script`, then the last one again."""

    def __init__(self, text: str = "cache", *script: Reply) -> None:
        self.parts = FakeParts()
        configured = settings(cache.parse, text)
        assert isinstance(configured, Cache)
        handler = configured.build(self.parts, self._upstream)
        assert isinstance(handler, CacheHandler)
        self.handler = handler
        self.script = list(script)
        self.asked: list[Request] = []
        self.held: list[Pending[Reply]] = []
        self.holding = False

    def _upstream(self, request: Request) -> Outcome:
        self.asked.append(request)
        if self.holding:
            self.held.append(Pending())
            return self.held[-1]
        return self.reply(request)

    def reply(self, request: Request) -> Reply:
        """What the upstream says now."""
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if said.by:
            return said
        wire = write_reply(request.query, said, limit=65535)
        return read_passed(wire, "forward")

    def ask(
        self,
        text: str = "a.example",
        qtype: int = iana.A,
        *,
        flags: int = iana.RD,
        do: bool = False,
    ) -> Reply:
        edns = Edns(1232, 0, do=True) if do else None
        return reply_now(self.handler(ask(text, qtype, flags=flags, edns=edns)))

    def wait(self, seconds: float) -> None:
        self.parts.clock.advance(seconds)

    def numbers(self, metric: str) -> dict[tuple[str, ...], float]:
        samples = {sample.name: dict(sample.numbers) for sample in self.parts.meters.sample()}
        return samples[metric]


FOUND = Reply(answer=(address(60),), aa=True)
NXDOMAIN = Reply(Rcode.NXDOMAIN, authority=(soa(900, 30),))
NODATA = Reply(authority=(soa(20, 600),))


# Time to live.


def test_an_answer_is_kept_and_its_ttl_counts_down() -> None:
    """RFC 1035, section 3.2.1: a TTL is the time for which a record may be kept."""
    kept = Kept("cache", FOUND)
    kept.ask()
    kept.wait(12.9)
    reply = kept.ask()
    assert reply.answer == (address(48),)
    assert len(kept.asked) == 1
    kept.wait(47.2)
    kept.ask()
    assert len(kept.asked) == 2


def test_each_record_keeps_its_own_ttl() -> None:
    alias = RRset(name.from_text("a.example"), iana.CNAME, 300, (name.from_text("b.example"),))
    kept = Kept("cache", Reply(answer=(alias, address(20, owner="b.example"))))
    kept.ask()
    kept.wait(5)
    assert [rrset.ttl for rrset in kept.ask().answer] == [295, 15]
    kept.wait(15)
    kept.ask()
    assert len(kept.asked) == 2


@pytest.mark.parametrize(("ttl", "asked"), [(0, 3), (1, 1)])
def test_short_ttls_are_respected(ttl: int, asked: int) -> None:
    """RFC 1035, section 3.2.1: a TTL of zero is for the transaction in progress alone."""
    kept = Kept("cache", Reply(answer=(address(ttl),)))
    for _ in range(3):
        assert kept.ask().answer == (address(ttl),)
    assert len(kept.asked) == asked


def test_unless_a_least_time_is_asked_for() -> None:
    kept = Kept("cache {\nsuccess 100 3600 5\n}", Reply(answer=(address(0),)))
    assert kept.ask().answer == (address(5),)
    kept.wait(4)
    assert kept.ask().answer == (address(1),)
    assert len(kept.asked) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cache", 3600),
        ("cache 30", 30),
        ("cache 30 example", 30),
        ("cache {\nsuccess 10 90\n}", 90),
        ("cache 30 other.test", 86400),
    ],
)
def test_times_have_a_bound(text: str, shown: int) -> None:
    kept = Kept(text, Reply(answer=(address(86400),)))
    assert kept.ask().answer[0].ttl == shown


def test_keepttl_shows_the_ttl_as_it_came() -> None:
    kept = Kept("cache {\nkeepttl\n}", FOUND)
    kept.ask()
    kept.wait(40)
    assert kept.ask().answer == (address(60),)
    kept.wait(20)
    kept.ask()
    assert len(kept.asked) == 2


# Denials.


@pytest.mark.parametrize(("denial", "lasts"), [(NXDOMAIN, 30), (NODATA, 20)])
def test_a_denial_lasts_as_long_as_its_soa_says(denial: Reply, lasts: int) -> None:
    """RFC 2308, section 5: the lesser of the SOA's TTL and its MINIMUM."""
    kept = Kept("cache", denial)
    assert kept.ask().authority[0].ttl == lasts
    kept.wait(lasts - 1)
    reply = kept.ask()
    assert (reply.rcode, reply.authority[0].ttl) == (denial.rcode, 1)
    kept.wait(1)
    kept.ask()
    assert len(kept.asked) == 2


@pytest.mark.parametrize("rcode", [Rcode.NXDOMAIN, Rcode.NOERROR])
def test_a_denial_without_a_soa_is_not_kept(rcode: Rcode) -> None:
    """RFC 2308, section 5."""
    kept = Kept("cache", Reply(rcode))
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


def test_an_alias_that_leads_to_nothing_is_a_denial() -> None:
    """RFC 2308, section 2.2: NODATA with the alias in the answer."""
    alias = RRset(name.from_text("a.example"), iana.CNAME, 300, (name.from_text("b.example"),))
    kept = Kept("cache", Reply(answer=(alias,), authority=(soa(9, 9),)))
    kept.ask()
    kept.wait(8)
    kept.ask()
    kept.wait(2)
    kept.ask()
    assert len(kept.asked) == 2
    only = Kept("cache", Reply(answer=(alias,), authority=(soa(9, 9),)))
    only.ask(qtype=iana.CNAME)
    assert dict(only.numbers("coredns_cache_entries"))["dns://:53", "success", ".", ""] == 1


def test_a_denial_of_no_duration_is_not_kept() -> None:
    kept = Kept("cache", Reply(Rcode.NXDOMAIN, authority=(soa(0, 30),)))
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


def test_nodata_and_no_such_name_stay_apart() -> None:
    """A stub resolver goes on with its search list after NXDOMAIN, and musl after nothing else."""
    kept = Kept("cache", NODATA, NXDOMAIN)
    kept.ask(qtype=iana.AAAA)
    kept.ask("b.example")
    assert kept.ask(qtype=iana.AAAA).rcode == Rcode.NOERROR
    assert kept.ask("b.example").rcode == Rcode.NXDOMAIN


def test_nothing_exists_below_what_does_not_exist_if_so_told() -> None:
    """RFC 8020, section 2."""
    kept = Kept("cache {\nnxdomain_cut\n}", NXDOMAIN)
    kept.ask("a.example")
    assert kept.ask("x.y.a.example", iana.AAAA).rcode == Rcode.NXDOMAIN
    assert len(kept.asked) == 1
    kept.ask("ba.example")
    assert len(kept.asked) == 2
    kept.wait(10)
    assert kept.ask("longer.a.example").authority == (soa(20, 30),)
    kept.wait(21)
    kept.ask("x.y.a.example")
    assert len(kept.asked) == 3
    plain = Kept("cache", NXDOMAIN)
    plain.ask("a.example")
    plain.ask("x.a.example")
    assert len(plain.asked) == 2


def test_a_denial_of_what_is_below_can_be_read_by_who_asked() -> None:
    """It was written for a shorter name, and its pointers count from there."""
    kept = Kept("cache {\nnxdomain_cut\nkeepttl\n}", NXDOMAIN)
    kept.ask("a.example")
    kept.wait(10)
    request = ask("some-longer-name.a.example")
    wire = write_reply(request.query, reply_now(kept.handler(request)), limit=512)
    assert read_response(wire).authority[0].owner == name.from_text("example")
    assert read_response(wire).authority[0].ttl == 30


def test_behind_an_alias_it_is_the_target_that_does_not_exist() -> None:
    """RFC 6604, section 3."""
    alias = RRset(name.from_text("a.example"), iana.CNAME, 300, (name.from_text("b.example"),))
    text = "cache {\nnxdomain_cut\n}"
    kept = Kept(text, Reply(Rcode.NXDOMAIN, (alias,), authority=(soa(9, 9),)))
    kept.ask("a.example")
    kept.ask("x.a.example")
    assert len(kept.asked) == 2


@pytest.mark.parametrize(
    ("text", "seconds", "asked"),
    [("cache", 4.9, 1), ("cache", 5, 2), ("cache {\nservfail 1s\n}", 1, 2)],
)
def test_failures_are_kept_for_a_short_time(text: str, seconds: float, asked: int) -> None:
    """RFC 2308, section 7.1."""
    kept = Kept(text, Reply(Rcode.SERVFAIL))
    kept.ask()
    kept.wait(seconds)
    assert kept.ask().rcode == Rcode.SERVFAIL
    assert len(kept.asked) == asked


def test_failures_are_not_kept_where_they_are_not_to_be() -> None:
    kept = Kept("cache {\nservfail 0s\n}", Reply(Rcode.SERVFAIL))
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


# What is not kept.


@pytest.mark.parametrize(
    "reply",
    [
        Reply(Rcode.REFUSED),
        Reply(tc=True, answer=(address(60),)),
        Reply(answer=(addresses("a.example", 1),), by="kubernetes", aa=True),
        Reply(Rcode.SERVFAIL, by="forward", error="no upstream in time"),
    ],
)
def test_what_is_not_somebody_elses_whole_answer_is_not_kept(reply: Reply) -> None:
    kept = Kept("cache", reply)
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


def test_names_of_other_zones_pass_by() -> None:
    kept = Kept("cache 30 other.test", FOUND)
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


@pytest.mark.parametrize(
    ("text", "reply", "asked"),
    [
        ("disable success", FOUND, 2),
        ("disable success example", FOUND, 2),
        ("disable success other.test", FOUND, 1),
        ("disable denial", FOUND, 1),
        ("disable denial", NXDOMAIN, 2),
    ],
)
def test_a_kind_of_entries_can_be_switched_off(text: str, reply: Reply, asked: int) -> None:
    kept = Kept(f"cache {{\n{text}\n}}", reply)
    kept.ask()
    kept.ask()
    assert len(kept.asked) == asked


# For whom.


@pytest.mark.parametrize(
    ("other", "asked"),
    [
        (lambda kept: kept.ask("A.Example"), 1),
        (lambda kept: kept.ask(qtype=iana.AAAA), 2),
        (lambda kept: kept.ask(do=True), 2),
        (lambda kept: kept.ask(flags=iana.RD | iana.CD), 2),
        (lambda kept: kept.ask(flags=0), 2),
    ],
)
def test_what_an_answer_depends_on_keeps_entries_apart(
    other: Callable[[Kept], Reply], asked: int
) -> None:
    """RFC 4035, section 3.2.2 for CD, RFC 3225 for DO."""
    kept = Kept("cache", FOUND)
    kept.ask()
    other(kept)
    assert len(kept.asked) == asked


def test_what_others_said_does_not_hide_a_name_that_came_to_be() -> None:
    """A zone of a cluster with fallthrough: what is new there is asked for at once."""
    ours: set[bytes] = set()
    kept = Kept("cache", NXDOMAIN, FOUND)
    kept.parts.block.passing.append((name.from_text("example"), ours.__contains__))
    assert [kept.ask().rcode, kept.ask().rcode] == [Rcode.NXDOMAIN] * 2
    assert len(kept.asked) == 1
    ours.add(name.from_text("a.example"))
    assert kept.ask().rcode == Rcode.NOERROR


def test_nor_is_a_denial_of_it_hot_where_nothing_would_end_that() -> None:
    kept = Kept("cache", NXDOMAIN)
    kept.parts.block.passing.append((name.from_text("example"), lambda _: False))
    kept.ask()
    assert kept.ask().depends is None


def test_the_letter_case_is_of_who_asks_now() -> None:
    kept = Kept("cache", FOUND)
    kept.ask("A.EXAMPLE")
    request = ask("a.eXample")
    wire = write_reply(request.query, reply_now(kept.handler(request)), limit=512)
    assert name.from_text("a.eXample") in wire
    assert b"EXAMPLE" not in wire


def test_a_cache_has_no_authority() -> None:
    """RFC 1035, section 4.1.1."""
    kept = Kept("cache", FOUND)
    assert kept.ask().aa
    assert not kept.ask().aa


def test_what_a_directive_writes_on_a_reply_is_not_kept() -> None:
    kept = Kept("cache", FOUND)
    kept.ask().answer = ()
    kept.ask().answer = ()
    assert kept.ask().answer == (address(60),)


# Hot answers: see test_leases.


def test_each_answer_rests_on_something_of_its_own() -> None:
    kept = Kept("cache", FOUND)
    kept.ask()
    first, second = kept.ask(), kept.ask()
    assert first.depends
    assert second.depends
    assert first.depends != second.depends


def test_what_is_about_to_end_is_not_hot() -> None:
    kept = Kept("cache", Reply(answer=(address(1),)))
    kept.ask()
    kept.wait(0.97)
    assert kept.ask().depends is None


def test_no_timer_runs_while_nobody_asks() -> None:
    kept = Kept("cache", FOUND)
    kept.ask()
    kept.ask()
    kept.wait(1.1)
    assert kept.parts.clock.waiting == 0


# After their time.


STALE = "cache {\nserve_stale 1h\n}"


def stale(reply: Reply) -> bool:
    return reply.options[:1] == ((iana.EDNS_EDE, (3).to_bytes(2, "big")),)


def test_stale_answers_are_handed_out_at_once_and_asked_again() -> None:
    """RFC 8767, section 5; RFC 8914, section 4.4."""
    kept = Kept(STALE, FOUND, Reply(answer=(address(60, 2),)))
    kept.ask()
    kept.wait(61)
    reply = kept.ask()
    assert stale(reply)
    assert reply.answer == (address(30),)
    assert len(kept.asked) == 2
    assert kept.ask().answer == (address(60, 2),)
    assert kept.numbers("coredns_cache_served_stale") == {("dns://:53", ".", ""): 1}


def test_stale_answers_end_too() -> None:
    kept = Kept(STALE, FOUND)
    kept.ask()
    kept.wait(60 + 3600)
    assert not stale(kept.ask())


def test_only_one_asks_again() -> None:
    kept = Kept(STALE, FOUND)
    kept.ask()
    kept.wait(61)
    kept.holding = True
    assert stale(kept.ask())
    assert stale(kept.ask())
    assert len(kept.held) == 1
    kept.held[0].fail(ValueError("odd"))
    assert stale(kept.ask())
    assert len(kept.held) == 2


FAILURES = [Reply(Rcode.SERVFAIL), Reply(Rcode.REFUSED), Reply(answer=(address(60),), tc=True)]


@pytest.mark.parametrize("mode", ["immediate", "verify 1s"])
@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failure_nobody_asks_again_for_a_time(mode: str, failure: Reply) -> None:
    """RFC 8767, section 5: a failure recheck timer, 30 seconds."""
    kept = Kept(f"cache {{\nserve_stale 1h {mode}\n}}", FOUND, failure, failure)
    kept.ask()
    kept.wait(61)
    assert [stale(kept.ask()) for _ in range(3)] == [True] * 3
    assert len(kept.asked) == 2
    kept.wait(30)
    kept.ask()
    assert len(kept.asked) == 3


def test_the_ttl_of_what_is_stale_and_the_time_between_tries_can_be_told() -> None:
    kept = Kept("cache {\nserve_stale 1h verify 1s 5s 2s\n}", FOUND, Reply(Rcode.SERVFAIL))
    kept.ask()
    kept.wait(61)
    assert kept.ask().answer == (address(5),)
    kept.wait(2)
    kept.ask()
    assert len(kept.asked) == 3


def test_a_stale_denial_says_so() -> None:
    """RFC 8914, section 4.20."""
    kept = Kept(STALE, NXDOMAIN)
    kept.ask()
    kept.wait(31)
    assert kept.ask().options == ((iana.EDNS_EDE, (19).to_bytes(2, "big")),)


def test_failures_are_never_stale() -> None:
    kept = Kept(STALE, Reply(Rcode.SERVFAIL), FOUND)
    kept.ask()
    kept.wait(6)
    assert kept.ask().answer == FOUND.answer


VERIFY = "cache {\nserve_stale 1h verify 500ms\n}"


def test_verify_asks_first() -> None:
    kept = Kept(VERIFY, FOUND, Reply(answer=(address(60, 2),)))
    kept.ask()
    kept.wait(61)
    assert kept.ask().answer == (address(60, 2),)


@pytest.mark.parametrize("rcode", [Rcode.SERVFAIL, Rcode.REFUSED])
def test_verify_hands_out_what_is_stale_when_asking_fails(rcode: Rcode) -> None:
    kept = Kept(VERIFY, FOUND, Reply(rcode, by="forward"))
    kept.ask()
    kept.wait(61)
    assert stale(kept.ask())


def verifying() -> tuple[Kept, list[Reply]]:
    """A client waits for what is stale and being verified."""
    kept = Kept(VERIFY, FOUND)
    kept.ask()
    kept.wait(61)
    kept.holding = True
    outcome = kept.handler(ask("a.example"))
    assert isinstance(outcome, Pending)
    got: list[Reply] = []
    outcome.when_done(got.append)
    return kept, got


def test_verify_does_not_wait_for_ever() -> None:
    """RFC 8767, section 5: a client response timer."""
    kept, got = verifying()
    kept.wait(0.5)
    assert [stale(reply) for reply in got] == [True]
    kept.held[0].resolve(kept.reply(kept.asked[-1]))
    assert len(got) == 1
    assert not stale(kept.ask())


def test_verify_takes_what_comes_in_time() -> None:
    kept, got = verifying()
    kept.held[0].resolve(kept.reply(kept.asked[-1]))
    assert [stale(reply) for reply in got] == [False]
    assert kept.parts.clock.waiting == 0


def test_verify_survives_what_fails_within() -> None:
    kept, got = verifying()
    kept.held[0].fail(ValueError("odd"))
    assert [stale(reply) for reply in got] == [True]
    late, got = verifying()
    late.wait(0.5)
    late.held[0].fail(ValueError("odd"))
    assert len(got) == 1


def test_prefer_positive_keeps_a_stale_answer_before_a_new_denial() -> None:
    text = "cache {\nserve_stale 1h verify\nserve_stale_policy prefer_positive\n}"
    kept = Kept(text, FOUND, NXDOMAIN)
    kept.ask()
    kept.wait(61)
    assert stale(kept.ask())


# Ahead of time.


def test_what_is_asked_for_often_is_fetched_before_it_ends() -> None:
    kept = Kept("cache {\nprefetch 3 1m 20%\n}", FOUND)
    kept.ask()
    for _ in range(3):
        kept.wait(10)
        kept.ask()
    assert len(kept.asked) == 1
    kept.wait(18)
    assert kept.ask().answer == (address(12),)
    assert len(kept.asked) == 2
    assert kept.ask().answer == (address(60),)
    assert kept.numbers("coredns_cache_prefetch") == {("dns://:53", ".", ""): 1}


def test_what_is_asked_for_often_stays_so_when_it_was_fetched_anew() -> None:
    kept = Kept("cache {\nprefetch 3 1m 20%\n}", FOUND)
    kept.ask()
    for _ in range(3):
        kept.wait(10)
        kept.ask()
    kept.wait(20)
    kept.ask()
    kept.wait(50)
    kept.ask()
    assert kept.numbers("coredns_cache_prefetch") == {("dns://:53", ".", ""): 2}


@pytest.mark.parametrize(("gap", "asked"), [(5, 2), (11, 1)])
def test_what_is_asked_for_rarely_is_not(gap: float, asked: int) -> None:
    kept = Kept("cache {\nprefetch 3 10s 90%\n}", FOUND)
    kept.ask()
    for _ in range(3):
        kept.wait(gap)
        kept.ask()
    assert len(kept.asked) == asked


# Bounds.


def test_the_entry_that_was_not_used_for_longest_makes_room() -> None:
    kept = Kept("cache {\nsuccess 2\n}", FOUND)
    for text in ("a.example", "b.example", "a.example", "c.example"):
        kept.script = [Reply(answer=(address(60, owner=text),))]
        kept.ask(text)
    assert len(kept.asked) == 3
    kept.ask("a.example")
    assert len(kept.asked) == 3
    kept.script = [Reply(answer=(address(60, owner="b.example"),))]
    kept.ask("b.example")
    assert len(kept.asked) == 4
    assert kept.numbers("coredns_cache_entries")["dns://:53", "success", ".", ""] == 2
    assert kept.numbers("coredns_cache_evictions")["dns://:53", "success", ".", ""] == 2


def test_a_capacity_of_zero_keeps_nothing() -> None:
    kept = Kept("cache {\nsuccess 0\n}", FOUND)
    kept.ask()
    kept.ask()
    assert len(kept.asked) == 2


def test_octets_are_bounded_over_both_kinds() -> None:
    datas = tuple(b"\xff" + bytes((n,)) * 255 for n in range(90))
    kept = Kept("cache {\nmax_octets 65536\n}")
    for number in range(20):
        owner = name.from_text(f"n{number}.example")
        kept.script = [Reply(answer=(RRset(owner, iana.TXT, 60, datas),))]
        kept.ask(f"n{number}.example", iana.TXT)
    octets = kept.numbers("kdns_cache_octets")
    assert sum(octets.values()) <= 65536
    assert kept.numbers("coredns_cache_entries")["dns://:53", "success", ".", ""] == 2


def test_an_answer_takes_the_place_of_a_denial_and_the_other_way() -> None:
    kept = Kept("cache", NXDOMAIN, FOUND)
    kept.ask()
    kept.wait(31)
    kept.ask()
    entries = kept.numbers("coredns_cache_entries")
    assert entries == {("dns://:53", "success", ".", ""): 1, ("dns://:53", "denial", ".", ""): 0}


# Metrics.


def test_hits_and_misses_are_counted_by_kind_hot_ones_too() -> None:
    kept = Kept("cache", FOUND)
    kept.ask()
    responses = kept.parts.block.counters.responses
    responses[0, kept.ask().by] = 7
    kept.script = [NXDOMAIN]
    kept.ask("b.example")
    responses[3, kept.ask("b.example").by] = 2
    place = ("dns://:53", ".", "")
    assert kept.numbers("coredns_cache_hits") == {
        ("dns://:53", "success", ".", ""): 7,
        ("dns://:53", "denial", ".", ""): 2,
    }
    assert kept.numbers("coredns_cache_misses") == {place: 2}
    assert kept.numbers("coredns_cache_requests") == {place: 11}


# The Corefile.


@pytest.mark.parametrize(
    "text",
    [
        "cache",
        "cache 30",
        "cache example.org 10.0.0.0/8",
        "cache 30 example.org",
        "cache 30 {\ndisable success cluster.local\ndisable denial cluster.local\n}",
        "cache {\nsuccess 9984 30\ndenial 9984 5 1\nprefetch 10 1m 10%\nkeepttl\nservfail 1s\n}",
        "cache {\nserve_stale\nprefetch 10\n}",
        "cache {\nserve_stale 1h verify 100ms\nserve_stale_policy prefer_positive\n}",
        "cache {\nserve_stale immediate\n}",
        "cache {\nserve_stale 1h immediate 30s 30s\n}",
        "cache {\nserve_stale 1h verify 100ms 30s 5m\n}",
        "cache {\nserve_stale 1h\n}",
    ],
)
def test_caches_are_read(text: str) -> None:
    assert settings(cache.parse, text).warnings() == ()


def test_it_explains_itself() -> None:
    text = "cache 30 {\nserve_stale 1h verify\nprefetch 5\n}"
    assert settings(cache.parse, text).explain() == (
        ".: answers for 30 s at most; denials for 30 s; stale ones for 3600 s more, "
        "after asking first; fetched ahead from 5 hits on"
    )
    assert "at once" in settings(cache.parse, "cache {\nserve_stale\n}").explain()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache 0", r"^Corefile:2: expected a number from 1"),
        ("cache -5", r"^Corefile:2: expected a number from 1"),
        ("cache 30 a..b", r"^Corefile:2: expected a domain name"),
        ("cache {\nsuccess\n}", r"^Corefile:3: success: expected 1 to 3 arguments"),
        ("cache {\nsuccess 10 0\n}", r"^Corefile:3: expected a number from 1"),
        ("cache {\ndenial many\n}", r"^Corefile:3: expected a number"),
        ("cache {\nprefetch 1 2\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nprefetch 1 2s 95%\n}", r"^Corefile:3: expected a percentage .* got '95%'"),
        ("cache {\nserve_stale soon\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nserve_stale 1h later\n}", r"^Corefile:3: expected immediate or verify"),
        ("cache {\nserve_stale 1h verify x\n}", r"^Corefile:3: expected a duration"),
        ("cache {\nserve_stale 1 2 3 4 5 6\n}", r"^Corefile:3: serve_stale: expected at most 5"),
        ("cache {\nserve_stale 1h immediate 1s 2s 3s\n}", r"^Corefile:3: .*unexpected '3s'"),
        ("cache {\nserve_stale immediate 1s 6m\n}", r"^Corefile:3: expected a duration from 0s"),
        ("cache {\nserve_stale_policy x\n}", r"^Corefile:3: expected prefer_positive, got 'x'"),
        ("cache {\nservfail 6m\n}", r"^Corefile:3: expected a duration from 0s to 300s"),
        ("cache {\ndisable\n}", r"^Corefile:3: disable: expected at least 1 argument"),
        ("cache {\ndisable all\n}", r"^Corefile:3: expected success or denial, got 'all'"),
        ("cache {\ndisable denial a..b\n}", r"^Corefile:3: expected a domain name"),
        ("cache {\nkeepttl x\n}", r"^Corefile:3: keepttl: expected 0 arguments"),
        ("cache {\nsize 5\n}", r"^Corefile:3: cache: unknown option 'size'; expected denial"),
        ("cache {\nmax_octets 1\n}", r"^Corefile:3: expected a number from 65536"),
    ],
)
def test_bad_caches_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(cache.parse, text)


# When memory is short.


def asked_for(kept: Kept, *texts: str) -> None:
    """Each is asked for, and found where it is not kept."""
    for text in texts:
        kept.script = [Reply(answer=(address(60, 1, owner=text),), aa=True)]
        kept.ask(text)


def shrunk(kept: Kept, part: float) -> None:
    ((kind, shrink),) = kept.parts.scarce
    assert kind == "kept"
    shrink(part)


def test_when_memory_is_short_entries_that_were_not_used_for_longest_go() -> None:
    kept = Kept("cache {\n success 4\n}", FOUND)
    asked_for(kept, "a.example", "b.example", "c.example", "d.example", "a.example")
    shrunk(kept, 0.5)
    asked_for(kept, "a.example", "d.example")
    assert len(kept.asked) == 4
    asked_for(kept, "b.example")
    assert len(kept.asked) == 5


def test_so_do_their_octets() -> None:
    kept = Kept("cache", FOUND)
    asked_for(kept, *[f"n{number}.example" for number in range(20)])
    held = sum(store.octets for store in kept.handler.stores.values())
    part = held / 2 / kept.handler.options.octets
    shrunk(kept, part * 1.001)
    assert sum(store.octets for store in kept.handler.stores.values()) <= held / 2 * 1.001


def test_and_there_is_room_again_afterwards() -> None:
    kept = Kept("cache {\n success 4\n}", FOUND)
    for part in (0.0, 1.0):
        shrunk(kept, part)
    asked_for(kept, "a.example", "b.example", "a.example", "b.example")
    assert len(kept.asked) == 2
