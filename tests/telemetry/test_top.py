"""Who asks what: names, names that do not exist, what search paths waste, clients, namespaces."""

import msgspec
import pytest

from kdns.telemetry import top
from kdns.telemetry.top import Searched, Top, Window, meant
from kdns.wire import name
from kdns.wire.iana import Rcode

CLUSTER = Searched(name.from_text("cluster.local"), {b"\x04shop", b"\x07default"})


class Counting:
    """A Top with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.top = Top(lambda: self.now)
        self.top.searched.append(CLUSTER)

    def hear(self, text: str, times: int = 1, rcode: int = Rcode.NOERROR) -> None:
        self.top.heard(times, name.from_text(text), rcode)

    def most(self, kind: str) -> list[tuple[str, int]]:
        return [
            (name.to_text(key), count) for key, count, _ in self.top.read().sketches[kind].most(10)
        ]


def test_names_are_counted_whatever_the_answer() -> None:
    counting = Counting()
    counting.hear("a.example", 3)
    counting.hear("b.example", 2, Rcode.NXDOMAIN)
    counting.hear("a.example", 1, Rcode.SERVFAIL)
    assert counting.most("names") == [("a.example.", 4), ("b.example.", 2)]


def test_names_that_do_not_exist_are_counted_apart() -> None:
    counting = Counting()
    counting.hear("a.example", 3)
    counting.hear("b.example", 2, Rcode.NXDOMAIN)
    assert counting.most("denied") == [("b.example.", 2)]


def test_what_a_search_path_wastes_is_counted_under_the_name_that_was_meant() -> None:
    counting = Counting()
    for path in ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"):
        counting.hear(f"api.example.com.{path}", 5, Rcode.NXDOMAIN)
    counting.hear("api.example.com", 5)
    assert counting.most("wasted") == [("api.example.com.", 15)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("api.example.com.shop.svc.cluster.local", "api.example.com."),
        ("api.example.com.svc.cluster.local", "api.example.com."),
        ("api.example.com.cluster.local", "api.example.com."),
        ("cart.shop.svc.cluster.local.default.svc.cluster.local", "cart.shop.svc.cluster.local."),
        ("cart.shop.default.svc.cluster.local", "cart.shop."),
        ("nothing.shop.svc.cluster.local", ""),
        ("shop.svc.cluster.local", ""),
        ("svc.cluster.local", ""),
        ("nothing.cluster.local", ""),
        ("cluster.local", ""),
        ("_http._tcp.nothing.shop.svc.cluster.local", ""),
    ],
)
def test_which_name_was_meant(text: str, wanted: str) -> None:
    found = meant(name.from_text(text), CLUSTER)
    assert (name.to_text(found) if found else "") == wanted


def test_names_elsewhere_are_no_waste() -> None:
    counting = Counting()
    counting.hear("a.b.example", 1, Rcode.NXDOMAIN)
    assert counting.most("wasted") == []


def test_clients_stand_for_as_many_queries_as_are_told() -> None:
    counting = Counting()
    counting.top.client(bytes((10, 0, 0, 1)), 64)
    counting.top.client(bytes((10, 0, 0, 2)), 1)
    counting.top.client(bytes((10, 0, 0, 1)), 1)
    sketch = counting.top.read().sketches["clients"]
    assert sketch.most(2) == [(bytes((10, 0, 0, 1)), 65, 0), (bytes((10, 0, 0, 2)), 1, 0)]


def test_namespaces_are_the_sums_of_their_clients() -> None:
    counting = Counting()
    known = {bytes((10, 0, 0, 1)): b"\x04shop", bytes((10, 0, 0, 2)): b"\x04shop"}
    counting.top.places.append(lambda addresses: {a: known[a] for a in addresses if a in known})
    for last in (1, 2, 3):
        counting.top.client(bytes((10, 0, 0, last)), last)
    assert counting.top.read().namespaces == {"shop": 3}


def test_what_is_told_is_of_this_window_and_the_one_before() -> None:
    counting = Counting()
    counting.hear("old")
    counting.top.read()
    for text in ("middle", "new"):
        counting.now += top.WINDOW
        counting.hear(text)
        counting.top.read()
    told = counting.top.read()
    assert {key for key, _, _ in told.sketches["names"].most(10)} == {b"\x06middle\0", b"\x03new\0"}
    assert told.began == 1000.0 + top.WINDOW


def test_what_is_told_is_the_reader_s_own() -> None:
    counting = Counting()
    counting.hear("a")
    counting.top.read().sketches["names"].add(b"\x01a\0", 100)
    assert counting.most("names") == [("a.", 1)]


@pytest.mark.parametrize("kind", ["names", "clients"])
def test_more_than_fits_is_sorted_in_on_the_way(kind: str) -> None:
    counting = Counting()
    for number in range(top.BATCH + 10):
        if kind == "names":
            counting.hear(f"n{number}")
        else:
            counting.top.client(number.to_bytes(4, "big"), 1)
    assert counting.top.read().sketches[kind].total == top.BATCH + 10


def test_windows_of_several_processes_are_one() -> None:
    one, other = Counting(), Counting()
    one.hear("a", 2)
    other.now = 900.0
    other.top = Top(lambda: other.now)
    other.hear("a", 3)
    merged = one.top.read()
    theirs = other.top.read()
    theirs.namespaces["shop"] = 4
    merged.merge(msgspec.msgpack.decode(msgspec.msgpack.encode(theirs), type=Window))
    assert merged.sketches["names"].most(1) == [(b"\x01a\0", 5, 0)]
    assert (merged.began, merged.namespaces) == (900.0, {"shop": 4})
