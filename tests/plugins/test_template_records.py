"""A record from its text, and what is none; the data is what dnspython makes of the same text."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.template_records import MAX_TEXT, BadRecord, Record, read
from kdns.wire import iana, name
from tests.strategies import names


@pytest.mark.parametrize(
    ("rtype", "data"),
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("AAAA", "::ffff:192.0.2.1"),
        ("NS", "ns.example."),
        ("CNAME", r"a\.b\032c.Example."),
        ("PTR", "."),
        ("DNAME", "a."),
        ("MX", "10 mail.example."),
        ("AFSDB", "1 a."),
        ("RP", "a. b."),
        ("SRV", "0 5 65535 a.example."),
        ("TXT", '"a b" c "d;(\\"e\\000\\255" ""'),
        ("TXT", "é"),
        ("SPF", "x"),
        ("SOA", "ns. host. 4294967295 1h 2m30s 3W 4D"),
        ("SOA", "ns. host. ( 1 2\n3 4 ; a note\n5 )"),
        ("HINFO", '"a b" c'),
        ("CAA", '0 issue "ca.example; x=y"'),
        ("NAPTR", '100 10 "S" "SIP" "" _sip._udp.example.'),
        ("HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.1"),
        ("SVCB", "0 a.example."),
        ("TLSA", "3 1 1 " + "ab" * 32),
        ("SSHFP", "1 1 " + "ab" * 20),
        ("DS", "1 8 2 " + "ab" * 32),
        ("TYPE65400", r"\# 3 01 02 03"),
        ("TYPE65400", r"\# 0"),
        ("HTTPS", '65535 a.example. key65000=x alpn="h2,h3" port="8443"'),
        ("HTTPS", "1 a.b. mandatory=alpn alpn=h2 no-default-alpn ipv6hint=2001:db8::1,::2"),
    ],
)
def test_the_data_of_a_record(rtype: str, data: str) -> None:
    found = read(f"a.example. 60 IN {rtype} {data}")
    expected = dns.rdata.from_text("IN", rtype, data.replace("\n", " ").replace("; a note", ""))
    wire = expected.to_wire()
    assert wire is not None
    number = dns.rdatatype.from_text(rtype)
    assert found == Record(name.from_text("a.example"), number, iana.IN, 60, wire)


def test_the_key_of_a_client_hello_has_its_newer_name() -> None:
    assert read("a. HTTPS 1 . ech=AEX+DQ==").data == bytes.fromhex("0001 00 0005 0004 0045fe0d")


@pytest.mark.parametrize(
    ("text", "ttl", "rclass"),
    [
        ("a. A 192.0.2.1", 3600, iana.IN),
        ("a A 192.0.2.1", 3600, iana.IN),
        ("a. 60 A 192.0.2.1", 60, iana.IN),
        ("a. IN 60 a 192.0.2.1", 60, iana.IN),
        ("a. 1h30m in A 192.0.2.1", 5400, iana.IN),
        ("a. CH A 192.0.2.1", 3600, iana.CH),
        (" \n;x\n ; y\na. 0 IN A 192.0.2.1 ; a note\n\n", 0, iana.IN),
        ("a. 2147483647 IN A 192.0.2.1", 2**31 - 1, iana.IN),
    ],
)
def test_ttl_and_class_in_either_order_or_not_at_all(text: str, ttl: int, rclass: int) -> None:
    found = read(text)
    assert (found.owner, found.ttl, found.rclass) == (b"\x01a\x00", ttl, rclass)


@pytest.mark.parametrize(
    ("owner", "expected"),
    [("@", b"\0"), (".", b"\0"), ("*.a", b"\x01*\x01a\0"), (r"a\.b.", b"\x03a.b\0")],
)
def test_names_are_absolute(owner: str, expected: bytes) -> None:
    assert read(f"{owner} A 192.0.2.1").owner == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected a record such as"),
        (" ; a note", "expected a record such as"),
        (" a. A 192.0.2.1", "expected a name at the beginning, got blanks"),
        ("\n\tIN A 192.0.2.1", "expected a name at the beginning, got blanks"),
        ('"a." A 192.0.2.1', "expected a record such as"),
        ("a.", "expected a type, got the end"),
        ("a. 60 IN", "expected a type, got the end"),
        ("a. 60 IN NOPE x", "expected a type of records, got 'NOPE'"),
        ("a. 60 60 A x", "expected a type of records, got '60'"),
        ("a. IN IN A x", "expected a type of records, got 'IN'"),
        ("a. ANY A x", "expected a type of records, got 'ANY'"),
        ("a. OPT x", "expected a type of records"),
        ("a. TYPE255 \\# 0", "expected a type of records"),
        ("a. TYPE65536 \\# 0", "expected a type of records"),
        ("a. 2147483648 A 192.0.2.1", "expected seconds up to 2147483647"),
        ("a. 5x A 192.0.2.1", "expected seconds up to"),
        ("a.. A 192.0.2.1", "expected a domain name, got 'a..'"),
        ("a" * 64 + " A 192.0.2.1", "expected a domain name"),
        ("a\\256 A 192.0.2.1", "expected a domain name"),
        ("a. A 192.0.2.256", "expected an IPv4 address"),
        ("a. A 192.0.2.01", "expected an IPv4 address"),
        ("a. A", "A: expected 1 fields of data"),
        ("a. A 192.0.2.1 192.0.2.2", "A: expected 1 fields of data"),
        ("a. AAAA 192.0.2.1", "expected an IPv6 address"),
        ("a. AAAA fe80::1%eth0", "without a scope"),
        ("a. A \\# 4 c0000201", "A: expected its own form of data"),
        ("a. TXT \\# 0", "TXT: expected its own form of data"),
        ("a. MX 65536 a.", "expected a number up to 65535"),
        ("a. MX -1 a.", "expected a number up to 65535"),
        ('a. NS "b."', "expected a domain name"),
        ("a. TXT", "TXT: expected a text"),
        ("a. TXT " + "x" * 256, "at most 255 octets, got 256"),
        ("a. TXT \\256", "expected \\000 to \\255"),
        ("a. TXT (a", "parentheses in pairs"),
        ("a. TXT a)", "parentheses in pairs"),
        ("a. TXT ((a))", "parentheses in pairs"),
        ('a. TXT "a', "expected a word"),
        ("a. TXT a\nb. TXT c", "expected one record, got two lines"),
        ("a. TXT a\\", "expected a word"),
        ("a. TXT " + "x" * MAX_TEXT, "expected at most 16384 characters"),
        ("a. SOA a. b. 1 2 3 4 x", "expected seconds"),
        ("a. NAPTR 1", "NAPTR: expected 6 fields of data"),
        ("a. TYPE65400 x", "TYPE65400: expected \\# LENGTH"),
        ("a. TYPE65400 \\# 2 01", "expected \\# 1 before"),
        ("a. TYPE65400 \\# 1 0x", "expected octets in hexadecimal"),
        ("a. TYPE65400 \\#", "expected \\# 0 before"),
        ("a. TYPE65400", "TYPE65400: expected \\# LENGTH"),
        ("a. LOC 51 30 0 N 0 7 0 W 10m", "LOC: expected \\# LENGTH"),
        ("a. TLSA 3 1 1", "TLSA: expected 3 numbers and octets"),
        ("a. TLSA 3 1 1 xy", "expected octets in hexadecimal, got 'xy'"),
        ("a. HTTPS 1", "HTTPS: expected a priority and a target"),
        ("a. HTTPS x .", "expected a number up to 65535"),
        ("a. HTTPS 1 . nope=1", "HTTPS: expected a parameter, got nope=1"),
        ("a. HTTPS 1 . port=x", "HTTPS: expected a parameter, got port=x"),
        ("a. HTTPS 1 . ipv4hint=300.1.1.1", "HTTPS: expected a parameter"),
        ("a. HTTPS 1 . key70000=x", "HTTPS: expected a parameter"),
        ("a. HTTPS 1 . é=1", "HTTPS: expected a parameter"),
        ("a. HTTPS 1 . alpn=h2 alpn=h3", "HTTPS: alpn stands twice"),
    ],
)
def test_what_is_no_record_is_told(text: str, why: str) -> None:
    with pytest.raises(BadRecord) as raised:
        read(text)
    assert why in str(raised.value)


@given(names())
def test_a_name_in_presentation_form_is_read_back(key: bytes) -> None:
    assert read(f"{name.to_text(key)} NS {name.to_text(key)}").data == key


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["a.", "60", "IN", *iana.TYPE_NAMES.values(), "\\#", "(", ")", '"', "1"]
            ),
            st.text(st.characters(codec="utf-8"), max_size=5),
        ),
        max_size=9,
    ).map(" ".join)
)
def test_any_text_is_a_record_or_a_bad_one(text: str) -> None:
    try:
        found = read(text)
    except BadRecord:
        return
    assert len(found.data) <= 65_535
