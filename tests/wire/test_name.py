"""Names: the bounds of RFC 1035, the case rules of RFC 4343, the text that dnspython reads too."""

from ipaddress import IPv4Address, IPv6Address

import dns.exception
import dns.name
import dns.reversename
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kdns.wire import name
from kdns.wire.errors import BadName, WireError
from tests import strategies as some

HEADER = bytes(12)
WWW = b"\x03www\x07example\x00"


def theirs(wire: bytes) -> dns.name.Name:
    return dns.name.from_wire(wire, 0)[0]


# Text: RFC 1035, section 5.1.


@given(some.names())
def test_text_and_bytes_say_the_same_and_dnspython_agrees(found: bytes) -> None:
    text = name.to_text(found)
    assert text == theirs(found).to_text()
    assert name.from_text(text) == found
    assert dns.name.from_text(text).to_wire() == found


@given(st.text(st.characters(max_codepoint=126), max_size=30) | st.text("ab.\\019", max_size=12))
@example("a" * 64)
@example(".".join(["a" * 63] * 4))
def test_any_ascii_text_is_read_or_refused_as_dnspython_does(text: str) -> None:
    # dnspython takes a lone @ for the origin of a zone file.
    try:
        expected = dns.name.from_text(text).to_wire() if text != "@" else b"\x01@\x00"
    except dns.exception.DNSException:
        with pytest.raises(BadName):
            name.from_text(text)
    else:
        assert name.from_text(text) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_bad_name(text: str) -> None:
    try:
        found = name.from_text(text)
    except BadName:
        return
    assert name.from_labels(name.split(found)) == found


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (".", b"\x00"),
        ("", b"\x00"),
        ("www.example.", WWW),
        ("www.example", WWW),
        (r"a\.b.c", b"\x03a.b\x01c\x00"),
        (r"a\032b\000", b"\x04a b\x00\x00"),
        ("\\\\", b"\x01\\\x00"),
        ("bücher.example", b"\x0dxn--bcher-kva\x07example\x00"),
    ],
)
def test_presentation_form(text: str, wire: bytes) -> None:
    assert name.from_text(text) == wire


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a..b", "an empty label"),
        (".a", "an empty label"),
        ("..", "an empty label"),
        ("a" * 64, "label of 64 octets.*at most 63"),
        (".".join(["a" * 63] * 4), "name of 257 octets; at most 255"),
        ("a\\", "ends in a backslash"),
        (r"a\256", r"expected \\000 to \\255, got \\256"),
        (r"a\1b", r"expected \\000 to \\255, got \\1b"),
        (r"a\12", r"expected \\000 to \\255, got \\12"),
        ("ü" * 70, "not a domain name"),
        ("\ud800", "not a domain name"),
    ],
)
def test_what_is_no_name_is_refused_with_its_bound(text: str, complaint: str) -> None:
    with pytest.raises(BadName, match=complaint):
        name.from_text(text)


def test_255_octets_are_a_name_and_256_are_not() -> None:
    assert len(name.from_labels([b"x" * 63, b"x" * 63, b"x" * 63, b"x" * 61])) == 255
    with pytest.raises(BadName, match="256"):
        name.from_labels([b"x" * 63, b"x" * 63, b"x" * 63, b"x" * 62])


# Letter case: RFC 4343.


@given(some.names())
def test_folding_a_name_folds_its_letters_and_nothing_else(found: bytes) -> None:
    assert theirs(found.lower()) == theirs(found)
    assert name.split(found.lower()) == [label.lower() for label in name.split(found)]


# The tree.


@given(some.names())
def test_suffixes_go_up_to_the_root_parent_by_parent(found: bytes) -> None:
    suffixes = name.suffixes(found)
    assert suffixes[0] == found
    assert suffixes[1:] == [name.parent(suffix) for suffix in suffixes[:-1]]
    assert suffixes[-1] == name.ROOT
    assert name.parent(name.ROOT) == name.ROOT


@given(some.names().flatmap(lambda of: st.tuples(some.names_near(of), some.names_near(of))))
@example((b"\x02aa\x01b\x00", b"\x01b\x00"))
@example((b"\x04a\x01b\x00\x00", b"\x01b\x00\x00"))
@example((b"\x03x\x01b\x00", b"\x01b\x00"))
def test_below_means_that_the_labels_end_alike(pair: tuple[bytes, bytes]) -> None:
    """Octets may end alike in the middle of a label: that is not below."""
    one, other = (found.lower() for found in pair)
    labels, above = name.split(one), name.split(other)
    expected = labels[len(labels) - len(above) :] == above if len(labels) >= len(above) else False
    assert name.is_below(one, other) == expected == theirs(one).is_subdomain(theirs(other))


# Reading from a message: RFC 1035, section 4.1.4.


@given(some.names(), st.binary(max_size=10), st.binary(max_size=10))
def test_a_name_is_read_where_it_stands(found: bytes, before: bytes, after: bytes) -> None:
    wire = before + found + after
    assert name.read(wire, len(before)) == (found, len(before) + len(found))


def test_a_pointer_stands_for_the_name_it_leads_to() -> None:
    wire = HEADER + WWW + b"\x04mail\xc0\x10" + b"\xc0\x19" + b"!"
    mail = b"\x04mail\x07example\x00"
    assert name.read(wire, 25) == (mail, 32)
    assert name.read(wire, 32) == (mail, 34), "a pointer to a name that ends in one"


def test_a_pointer_may_lead_to_the_root() -> None:
    assert name.read(HEADER + b"\x00\xc0\x0c", 13) == (name.ROOT, 15)


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        (b"\xc0\x0c", "at 12 leads to no prior name"),
        (b"\x01a\xc0\x0c", "at 14 leads to no prior name"),
        (b"\xc0\x0e\xc0\x0c", "at 12 leads to no prior name"),
        (b"\xc0\x20", "at 12 leads to no prior name"),
        (b"\xff\xff", "at 12 leads to no prior name"),
        (b"\xc0\x00", "at 12 leads to no prior name"),
        (b"\x40a\x00", "label type 01 at 12 is unknown"),
        (b"\x80a\x00", "label type 10 at 12 is unknown"),
        (b"", "past the end"),
        (b"\x03ab", "past the end"),
        (b"\x03abc", "past the end"),
        (b"\xc0", "past the end"),
        (b"\x01a" * 127 + b"\x01a\x00", "longer than 255"),
    ],
)
def test_loops_long_names_and_unknown_labels_are_refused(rest: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        name.read(HEADER + rest, 12)


def test_a_pointer_leads_behind_the_header_and_before_its_own_labels() -> None:
    """What it leads to must be a *prior* name: neither the header's octets nor itself."""
    wire = HEADER + b"\x01a\x00\x01b"
    assert name.read(wire + b"\xc0\x0c", 15)[0] == b"\x01b\x01a\x00"
    for target in (b"\xc0\x0b", b"\xc0\x0f", b"\xc0\x11"):
        with pytest.raises(WireError, match="no prior name"):
            name.read(wire + target, 15)


@pytest.mark.parametrize("rest", [b"\x03a\xc0\x0c\x00", b"\xc0\xc0\x0c\x00"])
def test_what_a_pointer_leads_to_ends_before_the_pointer(rest: bytes) -> None:
    """A label, or a pointer, that the pointer's own octets are part of is not a prior name."""
    with pytest.raises(WireError):
        name.read(HEADER + rest, 12 + rest.index(b"\xc0\x0c"))


def test_pointers_count_towards_the_255_octets() -> None:
    wire = HEADER + b"\x3f" + b"x" * 63 + (b"\x3f" + b"y" * 63) * 2 + b"\x00"
    assert len(name.read(wire + b"\x3c" + b"z" * 60 + b"\xc0\x0c", len(wire))[0]) == 254
    assert len(name.read(wire + b"\x3d" + b"z" * 61 + b"\xc0\x0c", len(wire))[0]) == 255
    with pytest.raises(WireError, match="longer than 255"):
        name.read(wire + b"\x3e" + b"z" * 62 + b"\xc0\x0c", len(wire))


def test_pointers_to_pointers_end_at_a_bound() -> None:
    """Else one message of 64 KiB, each record's owner a chain of thousands, costs seconds."""
    wire = HEADER + b"\x00\xc0\x0c"
    for place in range(13, 13 + 2 * name.MAX_POINTERS, 2):
        wire += (0xC000 | place).to_bytes(2, "big")
    assert name.read(wire, len(wire) - 4) == (name.ROOT, len(wire) - 2)
    with pytest.raises(WireError, match="no prior name"):
        name.read(wire, len(wire) - 2)


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from(b"\x00\x01a\xc0\x0c\x0e"), max_size=60).map(bytes)
)
def test_any_bytes_are_a_name_or_a_wire_error(rest: bytes) -> None:
    """And what is read is a name that dnspython reads there too, ending in the same place."""
    wire = HEADER + rest
    for position in range(12, len(wire) + 1):
        try:
            found, end = name.read(wire, position)
        except WireError:
            continue
        assert len(found) <= name.MAX_NAME
        expected, used = dns.name.from_wire(wire, position)
        assert (found, end) == (expected.to_wire(), position + used)


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from(b"\x00\x01a\xc0\x0c\x0e\x10"), max_size=60).map(bytes)
)
def test_names_of_one_message_are_the_same_read_together_as_read_alone(rest: bytes) -> None:
    wire = HEADER + rest
    known: dict[int, bytes] = {}
    for position in range(12, len(wire) + 1):
        try:
            alone = name.read(wire, position)
        except WireError:
            continue
        assert name.read(wire, position, known) == alone
    assert all(dns.name.from_wire(wire, at)[0].to_wire() == found for at, found in known.items())


def test_a_known_name_counts_towards_the_255_octets_too() -> None:
    wire = HEADER + b"\x3f" + b"x" * 63 + (b"\x3f" + b"y" * 63) * 2 + b"\x00\xc0\x0c"
    known: dict[int, bytes] = {}
    name.read(wire, len(wire) - 2, known)
    with pytest.raises(WireError, match="longer than 255"):
        name.read(wire + b"\x3e" + b"z" * 62 + b"\xc0\x0c", len(wire), known)


# Addresses: RFC 1035, section 3.5; RFC 3596, section 2.5.


@given(st.ip_addresses())
def test_the_reverse_name_is_the_one_that_dnspython_makes(
    address: IPv4Address | IPv6Address,
) -> None:
    # dnspython writes a v4-mapped address as IPv4, which it is not on the wire.
    assume(isinstance(address, IPv4Address) or address.ipv4_mapped is None)
    assert name.reverse(address.packed) == dns.reversename.from_address(str(address)).to_wire()
    assert name.address_text(address.packed) == str(address)


def test_reverse_names_in_full() -> None:
    assert name.to_text(name.reverse(bytes((192, 0, 2, 1)))) == "1.2.0.192.in-addr.arpa."
    assert name.to_text(name.reverse(bytes.fromhex("20010db8" + "00" * 11 + "5a"))) == (
        "a.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
    )
