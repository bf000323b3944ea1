"""Record data that kdns makes: dnspython reads the same fields back."""

import dns.rdata
import pytest
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.TXT import TXT
from hypothesis import given
from hypothesis import strategies as st

from kdns.wire import iana, name, rdata
from tests import strategies as some

short = st.integers(0, 0xFFFF)
long = st.integers(0, 0xFFFFFFFF)


def parsed(rtype: int, data: bytes) -> str:
    """The data in presentation form."""
    kind = RdataType.make(rtype)
    return dns.rdata.from_wire(RdataClass.IN, kind, data, 0, len(data)).to_text()


@given(short, short, short, some.names())
def test_srv(priority: int, weight: int, port: int, target: bytes) -> None:
    """RFC 2782."""
    data = rdata.srv(priority, weight, port, target)
    assert parsed(iana.SRV, data) == f"{priority} {weight} {port} {name.to_text(target)}"
    assert rdata.srv_target(data) == target


@given(some.names(), some.names(), st.lists(long, min_size=5, max_size=5))
def test_soa(mname: bytes, rname: bytes, times: list[int]) -> None:
    """RFC 1035, section 3.3.13."""
    data = rdata.soa(mname, rname, times[0], times[1], times[2], times[3], times[4])
    numbers = " ".join(map(str, times))
    assert parsed(iana.SOA, data) == f"{name.to_text(mname)} {name.to_text(rname)} {numbers}"


def test_a_serial_wraps_at_32_bits() -> None:
    """RFC 1982: it is counted modulo 2^32."""
    data = rdata.soa(name.ROOT, name.ROOT, 2**32 + 7, 1, 2, 3, 4)
    assert parsed(iana.SOA, data) == ". . 7 1 2 3 4"


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=4))
def test_txt_is_one_string_for_each_text(texts: list[bytes]) -> None:
    """RFC 1035, section 3.3.14."""
    data = rdata.txt(*texts)
    found = dns.rdata.from_wire(RdataClass.IN, RdataType.TXT, data, 0, len(data))
    assert isinstance(found, TXT)
    assert found.strings == tuple(texts)


def test_txt_over_255_octets_goes_on_in_a_second_string() -> None:
    assert rdata.txt(b"a" * 256) == b"\xff" + b"a" * 255 + b"\x01a"
    assert rdata.txt(b"a" * 255) == b"\xff" + b"a" * 255


def test_txt_has_at_least_one_string() -> None:
    assert rdata.txt() == rdata.txt(b"") == b"\x00"


def test_hinfo_is_two_strings() -> None:
    """RFC 1035, section 3.3.2."""
    assert parsed(iana.HINFO, rdata.hinfo(b"ANY obsoleted", b"")) == '"ANY obsoleted" ""'
    with pytest.raises(ValueError, match="256"):
        rdata.hinfo(b"x" * 256, b"")
