"""any: ANY gets one small record, everything else goes on."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import any as any_plugin
from kdns.plugins.chain import refuse
from kdns.wire import iana, rdata
from kdns.wire.iana import Rcode
from tests.plugins.fakes import FakeParts, ask, reply_now, settings


def test_any_is_answered_with_the_hinfo_of_rfc_8482() -> None:
    handler = settings(any_plugin.parse, "any").build(FakeParts(), refuse)
    reply = reply_now(handler(ask("Example.org", iana.ANY)))
    (rrset,) = reply.answer
    assert (rrset.rtype, rrset.ttl, reply.by) == (iana.HINFO, 8482, "any")
    assert rrset.rdatas == (rdata.hinfo(b"ANY obsoleted", b"See RFC 8482"),)


def test_other_types_go_on() -> None:
    handler = settings(any_plugin.parse, "any").build(FakeParts(), refuse)
    assert reply_now(handler(ask("example.org"))).rcode == Rcode.REFUSED


@pytest.mark.parametrize("text", ["any x", "any {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: any: expected"):
        settings(any_plugin.parse, text)


def test_it_explains_itself() -> None:
    configured = settings(any_plugin.parse, "any")
    assert configured.explain() == "ANY is answered with HINFO"
    assert configured.warnings() == ()
