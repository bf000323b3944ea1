"""Asks a recorded query of a running server, and puts the reply in the recording's form."""

import random
import socket
import struct
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Json = dict[str, Any]
"""A row of the recording; its shape is documented in README.md beside the data."""
OPCODES = {"IQUERY": 1, "STATUS": 2, "NOTIFY": 4, "UPDATE": 5}
TIMEOUT = 10.0


def build(q: Json) -> dns.message.Message:
    """The message that was asked; `case` is the seed of its mixed letter case."""
    name: str = q["name"]
    if "case" in q:
        chance = random.Random(q["case"])
        name = "".join(c.upper() if chance.random() < 0.5 else c.lower() for c in name)
    message = dns.message.make_query(
        name,
        q["type"],
        rdclass=q.get("class", "IN"),
        use_edns=-1 if "edns" not in q else q.get("edns_version", 0),
        payload=q.get("edns", 1232),
        want_dnssec=q.get("do", False),
        options=[dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")] if q.get("nsid") else None,
    )
    if not q.get("rd", True):
        message.flags &= ~dns.flags.RD
    if q.get("cd"):
        message.flags |= dns.flags.CD
    if "opcode" in q:
        message.set_opcode(dns.opcode.Opcode(OPCODES[q["opcode"]]))
    return message


def exchange(host: str, port: int, wire: bytes, *, tcp: bool) -> bytes:
    """The bytes of the reply. Raises OSError."""
    if tcp:
        with socket.create_connection((host, port), TIMEOUT) as sock:
            sock.sendall(struct.pack("!H", len(wire)) + wire)
            with sock.makefile("rb") as stream:
                (length,) = struct.unpack("!H", stream.read(2))
                return stream.read(length)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((host, port))
        sock.send(wire)
        return sock.recv(65535)


def section(rrsets: list[dns.rrset.RRset]) -> list[str]:
    """Records as "name ttl class type rdata", sorted."""
    return sorted(
        f"{s.name} {s.ttl} {dns.rdataclass.to_text(s.rdclass)} "
        f"{dns.rdatatype.to_text(s.rdtype)} {rdata}"
        for s in rrsets
        for rdata in s
    )


def ask(host: str, port: int, q: Json) -> Json:
    """The server's reply to a recorded query."""
    message = build(q)
    wire = message.to_wire()
    try:
        data = exchange(host, port, wire, tcp=q.get("tcp", False))
        if "opcode" in q:
            same_id = data[:2] == wire[:2]
            return {"rcode": data[3] & 15, "opcode": data[2] >> 3 & 15, "id_ok": same_id}
        reply = dns.message.from_wire(data, one_rr_per_rrset=True)
    except (OSError, struct.error) as error:
        return {"error": type(error).__name__}
    except dns.exception.DNSException as error:
        return {"error": f"unreadable: {type(error).__name__}"}
    if not message.is_response(reply):
        return {"error": "not a reply to this query"}
    edns = None
    if reply.edns >= 0:
        do = bool(reply.ednsflags & dns.flags.DO)
        edns = {"version": reply.edns, "payload": reply.payload, "do": do}
    got: Json = {
        "rcode": dns.rcode.to_text(reply.rcode()),
        "flags": dns.flags.to_text(reply.flags),
        "question": [str(question.name) for question in reply.question],
        "answer": section(reply.answer),
        "authority": section(reply.authority),
        "additional": section(reply.additional),
        "edns": edns,
        "size": len(data),
    }
    if q.get("nsid"):
        nsids = [o for o in reply.options if o.otype == dns.edns.OptionType.NSID]
        got["nsid"] = nsids[0].to_wire().decode("latin1") if nsids else None
    return got
