"""The registries: mnemonics are those that dnspython knows, unknown numbers have a form too."""

import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from kdns.wire import iana


@pytest.mark.parametrize("rtype", iana.TYPE_NAMES)
def test_types_are_called_as_everywhere(rtype: int) -> None:
    assert iana.type_text(rtype) == dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))


@pytest.mark.parametrize("rclass", iana.CLASS_NAMES)
def test_classes_are_called_as_everywhere(rclass: int) -> None:
    assert iana.class_text(rclass) == dns.rdataclass.to_text(dns.rdataclass.RdataClass.make(rclass))


@pytest.mark.parametrize("rcode", iana.Rcode)
def test_rcodes_are_called_as_everywhere(rcode: iana.Rcode) -> None:
    assert iana.rcode_text(rcode) == dns.rcode.to_text(dns.rcode.Rcode.make(rcode))


def test_what_has_no_mnemonic_has_its_number() -> None:
    """RFC 3597, section 5."""
    assert iana.type_text(64_999) == "TYPE64999"
    assert iana.type_text(0) == "TYPE0"
    assert iana.class_text(77) == "CLASS77"
    assert iana.rcode_text(99) == "RCODE99"


def test_rcodes_that_nobody_assigned_are_one_label() -> None:
    assert {iana.rcode_label(rcode) for rcode in (24, 99, 4095)} == {"other"}
    assert iana.rcode_label(3) == "NXDOMAIN"
