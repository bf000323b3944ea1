"""Files like /etc/hosts: what is in them, what is left out, and what is said of that."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

import dns.name
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins import hosts_file
from kdns.plugins.hosts_file import Entry, Reading, Table, Wrong, read_line
from kdns.plugins.rereading import BadFile
from kdns.wire import iana, name

FILE = """# of the shop
192.0.2.1\twww.EXAMPLE.org. www2.example.org   # both
192.0.2.2 www.example.org#glued
2001:DB8:0::1 www.example.org six.example.org

192.0.2.1 www.example.org
fe80::1%eth0 router.example.org
::ffff:192.0.2.9 mapped.example.org
192.0.2.14%x odd.example.org\r
192.0.2.10 *.wild.example.org
192.0.2.11 exact.wild.example.org
192.0.2.13 bücher.example.org a_b a\\.b
"""


def table(text: str | bytes, zone: str = ".", *, reverse: bool = True) -> Table:
    octets = text.encode() if isinstance(text, str) else text
    apex = name.from_text(zone)
    entries = [entry for _, entry in Reading(octets, "h")]
    return Table(entries, lambda key: name.is_below(key, apex), reverse=reverse)


def found(known: Table, text: str, rtype: int = iana.A) -> list[str] | None:
    """The data of a name's records as text; None for a name that is not there."""
    owner = known.owner(name.from_text(text).lower())
    if owner is None:
        return None
    rdatas = known.find(owner, rtype)
    show = name.to_text if rtype == iana.PTR else name.address_text
    return [show(rdata) for rdata in rdatas]


@pytest.mark.parametrize(
    ("text", "rtype", "data"),
    [
        ("www.example.org", iana.A, ["192.0.2.1", "192.0.2.2"]),
        ("www.example.org", iana.AAAA, ["2001:db8::1"]),
        ("www.example.org", iana.MX, []),
        ("www2.example.org", iana.A, ["192.0.2.1"]),
        ("six.example.org", iana.A, []),
        ("router.example.org", iana.AAAA, ["fe80::1"]),
        ("mapped.example.org", iana.A, ["192.0.2.9"]),
        ("mapped.example.org", iana.AAAA, []),
        ("odd.example.org", iana.A, ["192.0.2.14"]),
        ("xn--bcher-kva.example.org", iana.A, ["192.0.2.13"]),
        ("a_b", iana.A, ["192.0.2.13"]),
        (r"a\.b", iana.A, ["192.0.2.13"]),
        ("1.2.0.192.in-addr.arpa", iana.PTR, ["www.example.org.", "www2.example.org."]),
        ("1.2.0.192.in-addr.arpa", iana.A, []),
        ("3.2.0.192.in-addr.arpa", iana.PTR, None),
        ("2.0.192.in-addr.arpa", iana.PTR, None),
        ("example.org", iana.A, None),
        (".", iana.A, None),
    ],
)
def test_names_have_addresses_and_addresses_have_names(
    text: str, rtype: int, data: list[str] | None
) -> None:
    assert found(table(FILE), text, rtype) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("x.wild.example.org", ["192.0.2.10"]),
        ("*.wild.example.org", ["192.0.2.10"]),
        ("exact.wild.example.org", ["192.0.2.11"]),
        ("wild.example.org", None),
        ("x.y.wild.example.org", None),
    ],
)
def test_a_wildcard_is_each_name_one_label_below(text: str, data: list[str] | None) -> None:
    assert found(table(FILE), text) == data


def test_a_name_that_is_there_has_nothing_of_a_wildcard() -> None:
    known = table("::1 *.a\n192.0.2.1 b.a\n")
    assert found(known, "b.a", iana.AAAA) == []
    assert found(known, "c.a", iana.AAAA) == ["::1"]


def test_no_address_has_a_wildcard_for_its_name() -> None:
    known = table("192.0.2.1 *.a\n192.0.2.2 *.a b.a\n192.0.2.3 *\n")
    assert found(known, "1.2.0.192.in-addr.arpa", iana.PTR) is None
    assert found(known, "2.2.0.192.in-addr.arpa", iana.PTR) == ["b.a."]
    assert found(known, "anything") == ["192.0.2.3"]
    assert found(known, ".") is None


def test_names_of_other_zones_are_not_there_nor_are_they_what_an_address_is_called() -> None:
    known = table("192.0.2.1 www.a www.b\n192.0.2.2 www.b\n", "a")
    assert found(known, "www.a") == ["192.0.2.1"]
    assert found(known, "www.b") is None
    assert found(known, "1.2.0.192.in-addr.arpa", iana.PTR) == ["www.a."]
    assert found(known, "2.2.0.192.in-addr.arpa", iana.PTR) is None
    assert known.size == 2


def test_without_reverse_addresses_have_no_names() -> None:
    known = table("192.0.2.1 www.a\n", reverse=False)
    assert found(known, "1.2.0.192.in-addr.arpa", iana.PTR) is None
    assert known.size == 1


def test_what_changes_is_told_by_name() -> None:
    before, after = table("1.1.1.1 a b\n2.2.2.2 c\n"), table("1.1.1.1 b a\n2.2.2.3 c\n::1 a\n")
    changed = {name.to_text(key) for key in after.changes(before)}
    reverse = {"1.1.1.1", "2.2.2.2", "2.2.2.3", "::1"}
    pointers = {name.to_text(name.reverse(ip_address(one).packed)) for one in reverse}
    # The order of a set is a part of it: clients that are not told another one keep to the first.
    assert changed == {"a.", "c."} | pointers
    assert before.changes(before) == set()
    assert after.changes(before) == before.changes(after)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bad line", "expected an IP address, got 'bad'"),
        ("192.0.2.01 a", "expected an IP address, got '192.0.2.01'"),
        ("192.0.2 a", "expected an IP address, got '192.0.2'"),
        ("%eth0 a", "expected an IP address, got '%eth0'"),
        ("\ufffd a", "expected an IP address, got '\ufffd'"),
        (500 * "9" + " a", f"expected an IP address, got '{80 * '9'}'"),
        ("192.0.2.1", "expected a name behind the address 192.0.2.1"),
        ("fe80::1%a # b", "expected a name behind the address fe80::1%a"),
        ("::1 a..b", "expected a domain name, got 'a..b': an empty label"),
        ("::1 " + 64 * "a", f"expected a domain name, got '{64 * 'a'}': label of 64 octets"),
        ("::1 " + 9999 * "a", f"expected a domain name, got '{80 * 'a'}': longer than 255 octets"),
        ("::1 \ufffd", "expected a domain name, got '\ufffd': "),
        ("::1 a\\", "expected a domain name, got 'a\\\\': ends in a backslash"),
    ],
)
def test_what_is_wrong_is_left_out_and_told(line: str, message: str) -> None:
    entry, (wrong,) = read_line(line)
    assert entry is None
    assert wrong.startswith(message)


def test_one_bad_name_costs_no_other() -> None:
    entry, wrong = read_line("192.0.2.1 a b..c d")
    assert entry == Entry(bytes((192, 0, 2, 1)), (b"\x01a\0", b"\x01d\0"))
    assert len(wrong) == 1
    assert entry.text == "192.0.2.1 a d"


@pytest.mark.parametrize("line", ["", " \t", "#", "# 192.0.2.1 a", "  #b"])
def test_lines_that_say_nothing_are_not_wrong(line: str) -> None:
    assert read_line(line) == (None, [])


def test_what_is_wrong_has_its_line_and_there_is_an_end_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts_file, "MAX_TOLD", 2)
    reading = Reading(b"\xef\xbb\xbf1.1.1.1 a\n\xff b\n\n2.2.2.2\nc\nd\n3.3.3.3 e\n", "h")
    assert [line for line, _ in reading] == [1, 7]
    assert reading.wrong == [
        Wrong(2, "expected an IP address, got '\ufffd'"),
        Wrong(4, "expected a name behind the address 2.2.2.2"),
    ]
    assert reading.untold == 2


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_file, "MAX_ENTRIES", 3)
    assert len(list(Reading(b"::1 a b\n::2 a\n", "h"))) == 2
    with pytest.raises(BadFile, match=r"^h:3: expected at most 3 names in all$"):
        list(Reading(b"::1 a b\n::2 a\n::3 a\n", "h"))


# Any text.

addresses = st.sampled_from(("192.0.2.1", "::1", "fe80::2%e", "::ffff:1.2.3.4", "1.2.3"))
words = (
    addresses
    | st.sampled_from(("a", "B.a", "*.a", "c..d", "#", "#a"))
    | st.text("a1.:*\\% é", max_size=6)
)
lines = st.lists(words, max_size=5).map(" ".join)
texts = st.lists(lines, max_size=8).map("\n".join)


def model(text: str) -> tuple[dict[tuple[str, str], list[str]], set[int]]:
    """What a file of ASCII says, by dnspython and the standard library: the data by name and type;
    and the lines of which something is left out."""
    said: dict[tuple[str, str], list[str]] = {}
    wrong: set[int] = set()

    def add(owner: dns.name.Name, rtype: str, data: str) -> None:
        held = said.setdefault((owner.to_text().lower(), rtype), [])
        if data not in held:
            held.append(data)

    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        try:
            address = ip_address(fields[0].split("%")[0])
        except ValueError:
            wrong.add(number)
            continue
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if len(fields) == 1:
            wrong.add(number)
        for word in fields[1:]:
            try:
                owner = dns.name.from_text(word)
            except dns.exception.DNSException:
                wrong.add(number)
                continue
            add(owner, "A" if address.version == 4 else "AAAA", str(address))
            if owner.labels[0] != b"*":
                reverse = dns.reversename.from_address(str(address))
                add(reverse, "PTR", owner.to_text().lower())
    return said, wrong


def said_by(known: Table, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    numbers = {text: number for number, text in iana.TYPE_NAMES.items()}
    said: dict[tuple[str, str], list[str]] = {}
    for text, rtype in keys:
        key = dns.name.from_text(text).to_wire() or b""
        show = _shown if rtype == "PTR" else name.address_text
        said[text, rtype] = [show(rdata) for rdata in known.find(key, numbers[rtype])]
    return said


def _shown(rdata: bytes) -> str:
    return dns.name.from_wire(rdata, 0)[0].to_text()


@given(texts)
def test_it_is_read_as_a_naive_reader_would(text: str) -> None:
    ascii_only = text.encode("ascii", "replace").decode()
    reading = Reading(ascii_only.encode(), "h")
    known = Table([entry for _, entry in reading], lambda key: True, reverse=True)
    said, wrong = model(ascii_only)
    assert said_by(known, list(said)) == said
    assert known.size == sum(map(len, said.values()))
    assert {line for line, _ in reading.wrong} == wrong


@given(st.binary(max_size=80) | texts.map(str.encode))
def test_any_octets_are_entries_or_told_of(octets: bytes) -> None:
    reading = Reading(octets, "h")
    told = {line for line, _ in reading}
    wrong = {line for line, _ in reading.wrong}
    text = octets.decode("utf-8-sig", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        assert bool(line.split("#")[0].split()) == (number in told | wrong)
