"""Any bytes to a server like kubeadm's give a reply to them, or silence."""

import logging
from collections.abc import Iterator

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile.parser import parse
from kdns.plugins.chain import Handler
from kdns.plugins.dispatch import Dispatcher
from kdns.plugins.peer import Peer
from kdns.plugins.pending import Pending
from kdns.plugins.table import BUILT_IN, understand
from kdns.wire import iana
from kdns.wire.iana import Rcode
from kdns.wire.reply import Reply, opt_record
from tests.plugins.fakes import FakeParts, always, populate, question

KUBEADM = """. {
    nsid
    bufsize
    prometheus
    errors
    log
    any
    chaos
    loadbalance
    minimal
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    loop
    whoami
}
"""


def kubeadm_like() -> tuple[Dispatcher, FakeParts]:
    (text,) = parse(KUBEADM, "Corefile", environ={}, read=lambda path: [])
    parts = FakeParts()
    found, _ = understand(text, (".",), BUILT_IN)
    handler: Handler = always(Reply(Rcode.REFUSED))
    for known in reversed(found):
        handler = known.settings.build(parts, handler)
    parts.block.handler = handler
    dispatcher = Dispatcher(lambda: 5.0)
    dispatcher.serve(parts.block)
    parts.resolver = dispatcher.resolve
    (cluster,) = parts.clusters.values()
    populate(cluster)
    return dispatcher, parts


SERVER, PARTS = kubeadm_like()
NAMES = st.sampled_from(
    [
        "web.shop.svc.cluster.local",
        "ext.shop.svc.cluster.local",
        "ring.shop.svc.cluster.local",
        "_http._tcp.web.shop.svc.cluster.local",
        "1.0.96.10.in-addr.arpa",
        "96.10.in-addr.arpa",
        "10-1-2-3.shop.pod.cluster.local",
        "cluster.local",
        "version.bind",
        ".",
    ]
)
TYPES = st.sampled_from([*iana.TYPE_NAMES, 0, 65535])
PEERS = st.builds(
    Peer,
    st.sampled_from(["10.0.0.1", "2001:db8::1"]),
    st.integers(0, 65535),
    st.sampled_from(["udp", "tcp"]),
    st.just("10.0.0.9"),
)
OPTS = st.one_of(
    st.just(b""),
    st.builds(
        opt_record,
        rcode=st.integers(0, 4095),
        do=st.booleans(),
        size=st.integers(0, 65535),
        options=st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=4),
    ),
)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    logger = logging.getLogger("kdns.log")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def check(wire: bytes, peer: Peer) -> None:
    got = SERVER(wire, peer)
    assert not isinstance(got, Pending)
    if got is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    reply = dns.message.from_wire(got)
    assert got[:2] == wire[:2]
    assert reply.flags & dns.flags.QR
    assert len(got) <= (4096 if peer.proto == "udp" else 65535)
    if reply.question:
        assert got[12:][: len(reply.question[0].name.to_wire() or b"") + 4] in wire
    assert PARTS.block.counters.panics == 0


@given(st.binary(max_size=600), PEERS)
def test_any_bytes_give_a_reply_or_silence(wire: bytes, peer: Peer) -> None:
    check(wire, peer)


@given(
    NAMES,
    TYPES,
    st.integers(0, 65535),
    st.sampled_from([iana.IN, iana.CH, iana.CLASS_ANY, 7]),
    st.integers(0, 65535),
    OPTS,
    PEERS,
)
def test_any_question_gives_a_reply_to_it(
    qname: str, qtype: int, id_: int, qclass: int, flags: int, opt: bytes, peer: Peer
) -> None:
    check(question(qname, qtype, id=id_, qclass=qclass, flags=flags, opt=opt), peer)


@given(NAMES, TYPES, OPTS, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255))), PEERS)
def test_any_damage_to_a_question_gives_a_reply_or_silence(
    qname: str, qtype: int, opt: bytes, damage: list[tuple[int, int]], peer: Peer
) -> None:
    wire = bytearray(question(qname, qtype, opt=opt))
    for position, octet in damage:
        wire[position % len(wire)] = octet
    check(bytes(wire), peer)
