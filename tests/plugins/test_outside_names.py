"""Names of others, from question to reply: hot answers, cache and forward together."""

from collections.abc import Iterable

import dns.edns
import dns.flags
import dns.message
import pytest

from kdns.plugins import cache, forward, kubernetes
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.forwarding import DEADLINE, FEWEST
from kdns.plugins.hot import Table
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.plugins.upstream import UpstreamError
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset, opt_record
from tests.plugins.fakes import FakeParts, always, populate, question, says, settings

CLIENT = Peer("10.0.0.1", 4242, "udp", "10.0.0.9")
TIMEOUT = UpstreamError("timeout", "no reply in 2 s")
MANY = tuple(bytes((192, 0, 2, n)) for n in range(60))


def answer(ttl: int = 300, *addresses: bytes, aa: bool = False, ad: bool = False) -> Reply:
    owned = addresses or (bytes((192, 0, 2, 1)),)
    rrset = RRset(name.from_text("a.example"), iana.A, ttl, owned)
    return Reply(answer=(rrset,), aa=aa, ad=ad)


class Server(FakeParts):
    """A server of the cluster that forwards the rest to two upstreams."""

    def build(self, options: str = "") -> "Server":
        dispatcher = Dispatcher(self.monotonic)
        self.hot = dispatcher.hot
        text = "forward . 192.0.2.1 192.0.2.2 {\npolicy sequential\n}"
        self.scripts = [self.scripted(f"192.0.2.{n}").script for n in (1, 2)]
        handler = settings(forward.parse, text).build(self, always(Reply()))
        handler = settings(kubernetes.parse, "kubernetes cluster.local").build(self, handler)
        (cluster,) = self.clusters.values()
        populate(cluster)
        self.block.handler = settings(cache.parse, f"cache {options}").build(self, handler)
        dispatcher.serve(self.block)
        self.front = dispatcher.front(Table("udp", 1))
        return self

    def forget(self, changed: Iterable[object]) -> None:
        self.hot.forget(changed)

    def ask(self, text: str = "a.example", *, flags: int = iana.RD, opt: bytes = b"") -> bytes:
        """The reply, which is there by the deadline."""
        got: list[bytes | None] = []
        outcome = self.front(question(text, flags=flags, opt=opt), CLIENT)
        if isinstance(outcome, Pending):
            outcome.when_done(got.append)
            self.clock.advance(DEADLINE + 0.1)
            (outcome,) = got
        assert outcome is not None
        return outcome

    def flags(self, *, flags: int = iana.RD, opt: bytes = b"") -> int:
        return int.from_bytes(self.ask(flags=flags, opt=opt)[2:4], "big")


@pytest.mark.parametrize("knowing_first", [True, False])
def test_the_ad_bit_is_for_those_who_know_it_whoever_asked_first(knowing_first: bool) -> None:
    """RFC 6840, sections 5.7 and 5.8."""
    server = Server().build()
    server.scripts[0][:] = [says(answer(ad=True))]
    for knows in (knowing_first, not knowing_first) * 3:
        asked = iana.RD | (iana.AD if knows else 0)
        assert bool(server.flags(flags=asked) & iana.AD) is knows
    assert server.flags(opt=opt_record(do=False)) & iana.AD == 0


def test_whoever_asks_gets_their_own_letter_case_and_no_authority_from_the_cache() -> None:
    server = Server().build()
    server.scripts[0][:] = [says(answer(aa=True))]
    server.ask()
    for text in ("A.example", "a.EXAMPLE", "a.example", "A.EXAMPLE"):
        wire = server.ask(text)
        assert wire[12:23] == name.from_text(text)
        assert not wire[2] & iana.AA >> 8


def test_whoever_asks_gets_no_more_than_they_can_take() -> None:
    """RFC 1035, section 4.2.1; RFC 6891, section 6.2.3."""
    server = Server().build()
    server.scripts[0][:] = [says(answer(300, *MANY))]
    large, small = opt_record(size=4096), b""
    for opt, most in ((large, 4096), (small, 512)) * 3:
        wire = server.ask(opt=opt)
        assert len(wire) <= most
        whole = len(dns.message.from_wire(wire).answer[0]) == len(MANY)
        assert whole is (most == 4096)
        assert bool(wire[2] & iana.TC >> 8) is not whole


@pytest.mark.parametrize(
    ("flags", "opt"), [(iana.RD | iana.CD, b""), (iana.RD, opt_record(do=True)), (0, b"")]
)
def test_do_cd_and_rd_are_asked_for_apart(flags: int, opt: bytes) -> None:
    """RFC 4035, section 3.2; RFC 3225, section 3."""
    server = Server().build()
    server.scripts[0][:] = [says(answer()), says(answer(300, bytes(4)))]
    first, second = server.ask(), server.ask(flags=flags, opt=opt)
    assert (first[-4:], bytes(4) in second[-15:]) == (bytes((192, 0, 2, 1)), True)
    assert server.ask()[-4:] == first[-4:]


def test_when_all_upstreams_are_dead_there_is_an_answer_by_the_deadline() -> None:
    """And it says that nobody could be reached: RFC 8914, section 4.24."""
    server = Server().build()
    reply = dns.message.from_wire(server.ask(opt=opt_record()))
    assert int(reply.rcode()) == Rcode.SERVFAIL
    assert [option.code for option in reply.options if isinstance(option, dns.edns.EDEOption)] == [
        23
    ]


@pytest.mark.parametrize("mode", ["immediate", "verify"])
def test_or_what_was_true_before_where_that_is_wanted(mode: str) -> None:
    """RFC 8767, section 4; RFC 8914, section 4.4."""
    server = Server().build(f"{{\nserve_stale 1h {mode}\n}}")
    server.scripts[0][:] = [says(answer(5))]
    server.ask()
    server.clock.advance(6)
    reply = dns.message.from_wire(server.ask(opt=opt_record()))
    assert reply.answer[0].to_text() == "a.example. 5 IN A 192.0.2.1"
    assert [option.code for option in reply.options if isinstance(option, dns.edns.EDEOption)] == [
        3
    ]


def test_names_of_the_cluster_wait_for_nobody() -> None:
    """Also when no more questions can be pending, and those that come fail at once."""
    server = Server().build()
    for _, shrink in server.scarce:
        shrink(0.0)
    failed: list[bytes | None] = []
    for number in range(2 * FEWEST):
        outcome = server.front(question(f"n{number}.example"), CLIENT)
        assert isinstance(outcome, Pending)
        outcome.when_done(failed.append)
    assert [(wire or b"")[3] & 15 for wire in failed] == [Rcode.SERVFAIL] * FEWEST
    made = server.front(question("web.shop.svc.cluster.local"), CLIENT)
    assert isinstance(made, bytes)
    assert dns.message.from_wire(made).answer[0][0].to_text() == "10.96.0.1"
