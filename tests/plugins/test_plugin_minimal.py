"""minimal: positive answers without Authority and Additional."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import minimal
from kdns.plugins.pending import Pending
from kdns.wire import iana, name
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, RRset
from tests.plugins.fakes import FakeParts, addresses, always, ask, later, reply_now, settings

SOA = RRset(name.from_text("example"), iana.SOA, 30, (b"",))
ANSWER = (addresses("a.example", 1),)
MORE = (addresses("b.example", 2),)


def stripped(reply: Reply) -> Reply:
    handler = settings(minimal.parse, "minimal").build(FakeParts(), always(reply))
    return reply_now(handler(ask("a.example")))


def test_an_answer_stands_alone() -> None:
    assert stripped(Reply(answer=ANSWER, authority=MORE, additional=MORE)) == Reply(answer=ANSWER)


@pytest.mark.parametrize("rcode", [Rcode.NOERROR, Rcode.NXDOMAIN])
def test_a_denial_keeps_what_says_how_long_it_holds(rcode: Rcode) -> None:
    assert stripped(Reply(rcode, authority=(SOA,))).authority == (SOA,)


def test_a_reply_that_comes_later_is_stripped_when_it_comes() -> None:
    pending: Pending[Reply] = Pending()
    handler = settings(minimal.parse, "minimal").build(FakeParts(), later(pending))
    outcome = handler(ask("a.example"))
    pending.resolve(Reply(answer=ANSWER, additional=MORE))
    assert reply_now(outcome).additional == ()


@pytest.mark.parametrize("text", ["minimal x", "minimal {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: minimal: expected"):
        settings(minimal.parse, text)


def test_it_explains_itself() -> None:
    told = settings(minimal.parse, "minimal").explain()
    assert told == "positive answers without Authority and Additional"
