"""Every name that the objects own is asked for, and those next to it."""

import pytest

from kdns.compare.questions import ABSENT, Question, questions
from tests.cluster.builders import Tree, endpoint, external, made, namespace, pod, service, slice_

ZONES = ("cluster.local.",)
TREES: tuple[Tree, ...] = (
    namespace("shop"),
    service("web.shop", "10.96.0.7", "fd00::7"),
    service("db.shop", "None"),
    slice_("db-1.shop", "db", endpoint("10.1.0.1", pod="db-0", hostname="h"), "10.1.0.2"),
    slice_("dead.shop", "db", endpoint("10.1.0.3", ready=False)),
    slice_("stray.shop", "", "10.1.0.4"),
    external("out.shop", "www.example.test"),
    pod("web-0.shop", "10.2.0.1", "fd00:2::1"),
)


def asked(*trees: Tree) -> set[tuple[str, str]]:
    found = questions([made(tree)[1] for tree in trees], ZONES)
    return {(question.name.removesuffix(".cluster.local."), question.type) for question in found}


@pytest.mark.parametrize(
    "question",
    [
        ("cluster.local.", "SOA"),
        ("dns-version", "TXT"),
        (ABSENT, "A"),
        ("shop.svc", "A"),
        (f"{ABSENT}.shop.svc", "A"),
        ("web.shop.svc", "A"),
        ("web.shop.svc", "AAAA"),
        ("web.shop.svc", "SRV"),
        ("_http._tcp.web.shop.svc", "SRV"),
        ("_tcp.web.shop.svc", "A"),
        (f"_{ABSENT}._tcp.web.shop.svc", "SRV"),
        (f"{ABSENT}.web.shop.svc", "A"),
        ("7.0.96.10.in-addr.arpa.", "PTR"),
        ("h.db.shop.svc", "A"),
        ("db-0.db.shop.svc", "A"),
        ("10-1-0-2.db.shop.svc", "SRV"),
        ("10-1-0-3.db.shop.svc", "A"),
        ("3.0.1.10.in-addr.arpa.", "PTR"),
        ("4.0.1.10.in-addr.arpa.", "PTR"),
        ("out.shop.svc", "CNAME"),
        ("10-2-0-1.shop.pod", "A"),
        ("fd00-2--1.shop.pod", "AAAA"),
    ],
)
def test_is_asked(question: tuple[str, str]) -> None:
    assert question in asked(*TREES)


def test_each_question_is_asked_once() -> None:
    found = questions([made(tree)[1] for tree in TREES], ZONES)
    assert len(found) == len(set(found))


def test_says_for_what_it_asks() -> None:
    found = questions([made(TREES[1])[1]], ZONES)
    about = {question.name: question.about for question in found}
    assert about["_http._tcp.web.shop.svc.cluster.local."] == "service shop/web, port http"


def test_a_name_that_cannot_exist_is_not_asked() -> None:
    long = "x" * 63
    deep = slice_(f"s.{long}", long, endpoint("10.1.0.1", hostname=long))
    found = questions([made(deep)[1]], (f"{long}.cluster.local.",))
    assert Question(f"{long}.{long}.{long}.svc.{long}.cluster.local.", "A", "") not in found


def test_what_is_no_address_has_no_reverse_name() -> None:
    found = asked(slice_("s.shop", "db", "bad"))
    assert not [name for name, _ in found if name.endswith(".arpa.")]
