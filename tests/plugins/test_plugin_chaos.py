"""chaos: who and what this server is, in class CH."""

import pytest

import kdns
from kdns.corefile.errors import CorefileError
from kdns.plugins import chaos
from kdns.plugins.chain import Handler
from kdns.wire import iana, rdata
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply
from tests.plugins.fakes import FakeParts, always, ask, reply_now, settings


def built(text: str, parts: FakeParts | None = None) -> Handler:
    return settings(chaos.parse, text).build(parts or FakeParts(), always(Reply(by="next")))


def texts(handler: Handler, qname: str) -> tuple[bytes, ...]:
    reply = reply_now(handler(ask(qname, iana.TXT, qclass=iana.CH)))
    (rrset,) = reply.answer
    assert (rrset.rtype, rrset.rclass, rrset.ttl, reply.by) == (iana.TXT, iana.CH, 0, "chaos")
    return rrset.rdatas


@pytest.mark.parametrize("qname", ["version.bind", "VERSION.Server"])
def test_the_version_is_the_first_argument(qname: str) -> None:
    assert texts(built("chaos me-1"), qname) == (rdata.txt(b"me-1"),)


def test_without_arguments_the_version_is_ours() -> None:
    version = f"kdns-{kdns.__version__}".encode()
    assert texts(built("chaos"), "version.bind") == (rdata.txt(version),)


@pytest.mark.parametrize("qname", ["hostname.bind", "id.server"])
def test_the_host_says_its_name(qname: str) -> None:
    assert texts(built("chaos"), qname) == (rdata.txt(b"node-1"),)


def test_authors_are_given_in_any_order_and_once() -> None:
    found = texts(built("chaos v1 ann bob ann"), "authors.bind")
    assert sorted(found) == [rdata.txt(b"ann"), rdata.txt(b"bob")]


def test_authors_that_are_alike_once_they_are_cut_are_one() -> None:
    long = "x" * 255
    assert texts(built(f"chaos v1 {long}a {long}b"), "authors.bind") == (rdata.txt(long.encode()),)


@pytest.mark.parametrize(
    ("qname", "qtype"),
    [("authors.bind", iana.TXT), ("other.bind", iana.TXT), ("version.bind", iana.A)],
)
def test_everything_else_of_class_ch_is_refused(qname: str, qtype: int) -> None:
    reply = reply_now(built("chaos")(ask(qname, qtype, qclass=iana.CH)))
    assert (reply.rcode, reply.by) == (Rcode.REFUSED, "chaos")


def test_class_in_goes_on_and_the_block_serves_ch() -> None:
    parts = FakeParts()
    handler = built("chaos", parts)
    assert reply_now(handler(ask("version.bind", iana.TXT))).by == "next"
    assert parts.block.classes == {iana.CH}


def test_it_takes_no_block() -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: chaos: expected no block"):
        settings(chaos.parse, "chaos {\n}")


def test_it_explains_itself() -> None:
    assert settings(chaos.parse, "chaos me-1").explain() == "version.bind me-1"
