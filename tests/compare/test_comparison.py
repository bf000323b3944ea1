"""Two replies to one question are the same, or a text says why not, or it is unexpected."""

from typing import Any

import pytest

from kdns.cluster.objects import Object
from kdns.compare.comparison import compare, lines_of, tally
from kdns.compare.questions import Question
from kdns.compare.scene import Json
from tests.cluster.builders import endpoint, made, namespace, service, slice_

ZONES = ("cluster.local.",)
WEB = "web.shop.svc.cluster.local."
SOA = (
    "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. {} 7200 1800 86400 30"
)
OBJECTS: list[Object] = [
    made(tree)[1]
    for tree in (
        namespace("shop"),
        service("web.shop", "10.96.0.7"),
        slice_("stray.shop", "", "10.1.0.4"),
        service("out.shop", "None"),
        slice_("out-1.shop", "out", endpoint("a.example.test"), addressType="FQDN"),
        slice_("s.shop", "web", endpoint("10.1.0.5", pod="a.b")),
    )
]


def reply(qname: str, *answer: str, rcode: str = "NOERROR", serial: int = 1, **other: Any) -> Json:
    """An authoritative reply; a negative one has the SOA."""
    return {
        "rcode": rcode,
        "flags": "QR AA RD",
        "question": [qname],
        "answer": list(answer),
        "authority": [] if answer else [SOA.format(serial)],
        "additional": [],
        "edns": {"version": 0, "payload": 1232, "do": False},
        "size": 100,
        **other,
    }


def kind(qname: str, qtype: str, first: Json, second: Json, *more: tuple[str, str, Json]) -> str:
    """How the first question's replies compare; `more` are answered alike."""
    asked = [(Question(qname, qtype, ""), False)]
    asked += [(Question(other, rtype, ""), False) for other, rtype, _ in more]
    replies = [(first, second), *((same, same) for *_, same in more)]
    return compare(asked, replies, OBJECTS, ZONES)[0].kind


def test_the_order_and_case_of_records_and_the_serial_do_not_matter() -> None:
    first = reply("x.shop.svc.cluster.local.", rcode="NXDOMAIN", serial=1)
    second = reply("x.shop.svc.cluster.local.", rcode="NXDOMAIN", serial=2)
    assert kind("x.shop.svc.cluster.local.", "A", first, second) == "same"


def test_a_ttl_is_told_apart() -> None:
    first, second = reply(WEB, f"{WEB} 12 IN A 10.96.0.7"), reply(WEB, f"{WEB} 30 IN A 10.96.0.7")
    assert kind(WEB, "A", first, second) == "ttl"


def test_the_ttl_of_denials_is_one() -> None:
    absent = "x.shop.svc.cluster.local."
    first, second = reply(absent, rcode="NXDOMAIN"), reply(absent, rcode="NXDOMAIN")
    (soa,) = first["authority"]
    second["authority"] = [f"{soa.rpartition(' ')[0]} 77"]
    assert first != second
    assert kind(absent, "A", first, second) == "ttl"


def test_another_address_is_unexpected() -> None:
    first, second = reply(WEB, f"{WEB} 30 IN A 10.96.0.7"), reply(WEB, f"{WEB} 30 IN A 10.96.0.8")
    assert kind(WEB, "A", first, second) == "unexpected"


def test_a_name_that_only_one_has_is_unexpected() -> None:
    first, second = reply(WEB, f"{WEB} 30 IN A 10.96.0.7"), reply(WEB, rcode="NXDOMAIN")
    assert kind(WEB, "A", first, second) == "unexpected"


def test_what_the_standard_asks_for_is_known() -> None:
    port = f"_http._tcp.{WEB}"
    first, second = reply(port, f"{port} 30 IN A 10.96.0.7"), reply(port)
    assert kind(port, "A", first, second) == "known"


def test_what_contradicts_the_standard_is_unexpected_the_other_way_round() -> None:
    port = f"_http._tcp.{WEB}"
    first, second = reply(port), reply(port, f"{port} 30 IN A 10.96.0.7")
    assert kind(port, "A", first, second) == "unexpected"


def test_an_existing_name_has_no_data() -> None:
    below = f"_http._tcp.{WEB}"
    first, second = reply(f"_tcp.{WEB}", rcode="NXDOMAIN"), reply(f"_tcp.{WEB}")
    shown = reply(below, f"{below} 30 IN SRV 0 100 80 {WEB}")
    assert kind(f"_tcp.{WEB}", "A", first, second, (below, "SRV", shown)) == "known"


def test_silence_about_an_address_of_a_slice_of_no_service_is_known() -> None:
    pointer = "4.0.1.10.in-addr.arpa."
    silence = {"error": "no reply within 2 s"}
    assert kind(pointer, "PTR", silence, reply(pointer, rcode="NXDOMAIN")) == "known"


def test_silence_about_anything_else_is_unexpected() -> None:
    silence = {"error": "no reply within 2 s"}
    assert kind(WEB, "A", silence, reply(WEB, f"{WEB} 30 IN A 10.96.0.7")) == "unexpected"


def test_two_silences_are_not_the_same_answer() -> None:
    silence = {"error": "no reply within 2 s"}
    assert kind(WEB, "A", silence, silence) == "unexpected"


def test_an_endpoint_whose_pods_name_is_no_label_is_named_by_its_address() -> None:
    first = reply(WEB, f"{WEB} 30 IN SRV 0 100 80 a.b.{WEB}")
    second = reply(WEB, f"{WEB} 30 IN SRV 0 100 80 10-1-0-5.{WEB}")
    assert kind(WEB, "SRV", first, second) == "known"


def test_more_addresses_of_a_target_are_known_and_fewer_are_not() -> None:
    answer = f"{WEB} 30 IN SRV 0 100 80 h.{WEB}"
    few, all_ = (
        reply(WEB, answer, additional=[f"h.{WEB} 30 IN A 10.1.0.{n}" for n in range(count)])
        for count in (1, 2)
    )
    assert kind(WEB, "SRV", few, all_) == "known"
    assert kind(WEB, "SRV", all_, few) == "unexpected"


def test_a_refusal_in_the_place_of_no_next_plugin_is_known() -> None:
    name = "x.cluster.local."
    failed = reply(name, rcode="SERVFAIL", flags="QR RD", authority=[])
    assert kind(name, "A", failed, reply(name, rcode="REFUSED", flags="QR RD", authority=[])) == (
        "known"
    )


def test_a_tally_has_every_kind() -> None:
    first = reply(WEB, f"{WEB} 30 IN A 10.96.0.7")
    found = compare([(Question(WEB, "A", ""), True)], [(first, first)], OBJECTS, ZONES)
    assert tally(found) == {"same": 1, "ttl": 0, "known": 0, "unexpected": 0}
    assert found[0].as_json()["transport"] == "tcp"


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"error": "gone"}, ["gone"]),
        (reply(WEB, "record", flags="QR TC"), ["NOERROR TC", "record"]),
        (reply(WEB, serial=7), ["NOERROR", f"authority {SOA.format(7)}"]),
    ],
)
def test_a_reply_in_lines(given: Json, lines: list[str]) -> None:
    assert lines_of(given) == lines


def test_an_alias_beside_addresses_is_left_out() -> None:
    named = "out.shop.svc.cluster.local."
    address, alias = f"{named} 30 IN A 10.1.0.7", f"{named} 30 IN CNAME a.example.test."
    assert kind(named, "A", reply(named, address, alias), reply(named, address)) == "known"
    assert kind(named, "A", reply(named, address, alias), reply(named, alias)) == "unexpected"


def test_an_alias_by_a_slice_is_one_for_every_type() -> None:
    named = "out.shop.svc.cluster.local."
    alias = reply(named, f"{named} 30 IN CNAME a.example.test.")
    assert kind(named, "TXT", reply(named), alias, (named, "A", alias)) == "known"
