"""whoami: the client's own address and port."""

from ipaddress import ip_address

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import whoami
from kdns.plugins.chain import refuse
from kdns.plugins.peer import Proto
from kdns.wire import iana, name, rdata
from tests.plugins.fakes import FakeParts, ask, reply_now, settings


@pytest.mark.parametrize(
    ("host", "rtype"),
    [("192.0.2.1", iana.A), ("2001:db8::1", iana.AAAA), ("fe80::1%eth0", iana.AAAA)],
)
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_the_answer_is_in_additional(host: str, rtype: int, proto: Proto) -> None:
    handler = settings(whoami.parse, "whoami").build(FakeParts(), refuse)
    reply = reply_now(handler(ask("a.example", iana.MX, host=host, proto=proto)))
    address, port = reply.additional
    assert (reply.answer, reply.aa, reply.by) == ((), True, "whoami")
    packed = ip_address(host.partition("%")[0]).packed
    assert (address.owner, address.rtype, address.ttl) == (name.from_text("a.example"), rtype, 0)
    assert address.rdatas == (packed,)
    assert port.owner == name.from_text(f"_{proto}.a.example")
    assert port.rdatas == (rdata.srv(0, 0, 4242, name.ROOT),)


def test_the_port_is_left_out_where_its_owner_would_be_too_long() -> None:
    longest = ".".join(["x" * 63] * 3 + ["y" * 58])
    handler = settings(whoami.parse, "whoami").build(FakeParts(), refuse)
    assert len(reply_now(handler(ask(longest))).additional) == 1


@pytest.mark.parametrize("text", ["whoami x", "whoami {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: whoami: expected"):
        settings(whoami.parse, text)


def test_it_explains_itself() -> None:
    assert "client's own address" in settings(whoami.parse, "whoami").explain()
