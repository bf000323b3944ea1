"""Files of weights: what is in them, and what is said of those that are wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins import loadbalance_weights
from kdns.plugins.loadbalance_weights import MAX_WEIGHT, ByName, read_weights, weights_of
from kdns.plugins.rereading import BadFile
from kdns.wire import name

FILE = """# of the shop
www.EXAMPLE
192.0.2.1 3
   192.0.2.2\t255

   # and of its other family
2001:DB8:0::1 002
192.0.2.1 9
empty.example.

::ffff:192.0.2.9 7
www.example.\r
192.0.2.3 4
"""
WWW = name.from_text("www.example")


def test_names_have_addresses_and_those_have_weights() -> None:
    """A name that comes again goes on; an address that does has its first weight."""
    assert read_weights(FILE.encode(), "w") == {
        WWW: {
            bytes((192, 0, 2, 1)): 3,
            bytes((192, 0, 2, 2)): 255,
            bytes.fromhex("20010db8000000000000000000000001"): 2,
            bytes((192, 0, 2, 3)): 4,
        },
        name.from_text("empty.example"): {bytes((192, 0, 2, 9)): 7},
    }
    assert read_weights(b"", "w") == {}


def test_what_has_no_weight_has_one_and_letter_case_is_nothing() -> None:
    by_name = read_weights(FILE.encode(), "w")
    asked = (bytes((192, 0, 2, 2)), bytes((192, 0, 2, 7)))
    assert weights_of(by_name, name.from_text("WWW.example"), asked) == [255, 1]
    assert weights_of(by_name, name.from_text("else.example"), asked) == [1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\n1.1.1.1 0", "w:3: expected a weight from 1 to 255, got '0'"),
        ("a\n1.1.1.1 256", "w:2: expected a weight from 1 to 255, got '256'"),
        ("a\n1.1.1.1 +3", "w:2: expected a weight from 1 to 255, got '+3'"),
        ("a\n1.1.1.1 3.5", "w:2: expected a weight from 1 to 255, got '3.5'"),
        ("a\n1.1.1.1 ٣", "w:2: expected a weight from 1 to 255, got '٣'"),
        ("a\n1.1.1.1 " + 5000 * "9", f"w:2: expected a weight from 1 to 255, got '{80 * '9'}'"),
        ("a\n1.1.1.1", "w:2: expected a weight behind the address 1.1.1.1"),
        ("1.1.1.1 3\na", "w:1: expected a name before its addresses, got 1.1.1.1"),
        ("a\nb 3", "w:2: expected an IP address, got 'b'"),
        ("a\n1.1.1.01 3", "w:2: expected an IP address, got '1.1.1.01'"),
        ("a\nfe80::1%eth0 3", "w:2: expected an IP address, got 'fe80::1%eth0'"),
        (
            "a\n1.1.1.1 3 # third",
            "w:2: expected a name, or an address and its weight, got '1.1.1.1 3 # third'",
        ),
        ("a..b", "w:1: expected a domain name, got 'a..b': "),
        ("\xff", "w:1: expected a domain name, got '\N{REPLACEMENT CHARACTER}': "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    octets = b"\xff" if text == "\xff" else text.encode()
    with pytest.raises(BadFile) as raised:
        read_weights(octets, "w")
    assert str(raised.value).startswith(message)


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadbalance_weights, "MAX_NAMES", 2)
    read_weights(b"a\nb\na\n", "w")
    with pytest.raises(BadFile, match=r"^w:3: expected at most 2 names"):
        read_weights(b"a\nb\nc\n", "w")


@given(st.binary(max_size=80) | st.text("a1.:# \n%9", max_size=60).map(str.encode))
def test_any_octets_are_read_or_refused_with_a_line(octets: bytes) -> None:
    refused = ""
    by_name: ByName = {}
    try:
        by_name = read_weights(octets, "w")
    except BadFile as error:
        refused = str(error)
    assert re.match(r"w:[1-9]|$", refused)
    weights = [weight for given in by_name.values() for weight in given.values()]
    assert all(1 <= weight <= MAX_WEIGHT for weight in weights)
