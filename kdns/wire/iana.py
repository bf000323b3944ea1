"""The registries of the DNS parameters page that kdns speaks: types, classes, rcodes, options."""

import enum
from typing import Final


class Rcode(enum.IntEnum):
    """RFC 1035 4.1.1, RFC 2136, RFC 6891: the ones that kdns sends or tells apart."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    BADVERS = 16
    BADCOOKIE = 23


class Opcode(enum.IntEnum):
    """RFC 1035 4.1.1 and its successors."""

    QUERY = 0
    IQUERY = 1
    STATUS = 2
    NOTIFY = 4
    UPDATE = 5
    DSO = 6


# Plain integers, for they are compared on every query.
A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
HINFO: Final = 13
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
DNAME: Final = 39
OPT: Final = 41
DS: Final = 43
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

IN: Final = 1
CH: Final = 3
CLASS_ANY: Final = 255

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
OPCODE_MASK: Final = 0x7800
DO: Final = 0x8000

EDNS_NSID: Final = 3
EDNS_COOKIE: Final = 10
EDNS_EDE: Final = 15

TYPE_NAMES: Final[dict[int, str]] = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT",
    17: "RP", 18: "AFSDB", 24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR",
    37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY",
    46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA",
    53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD",
    64: "SVCB", 65: "HTTPS", 99: "SPF", 108: "EUI48", 109: "EUI64", 249: "TKEY", 250: "TSIG",
    251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY", 256: "URI", 257: "CAA",
}  # fmt: skip
CLASS_NAMES: Final[dict[int, str]] = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
RCODE_NAMES: Final[dict[int, str]] = {int(r): r.name for r in Rcode}


def type_text(rtype: int) -> str:
    """The mnemonic of a type, or TYPE123 (RFC 3597, section 5)."""
    return TYPE_NAMES.get(rtype) or f"TYPE{rtype}"


def class_text(rclass: int) -> str:
    """The mnemonic of a class, or CLASS123 (RFC 3597, section 5)."""
    return CLASS_NAMES.get(rclass) or f"CLASS{rclass}"


def rcode_text(rcode: int) -> str:
    """The mnemonic of an rcode, or RCODE123."""
    return RCODE_NAMES.get(rcode) or f"RCODE{rcode}"


def rcode_label(rcode: int) -> str:
    """For metrics: the mnemonic, or "other", so that nobody can make many by sending odd ones."""
    return RCODE_NAMES.get(rcode, "other")
