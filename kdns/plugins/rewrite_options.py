"""The edns0 rules of rewrite: EDNS options for the servers that are asked, and what they hold.

edns0 local ACTION CODE DATA    text, 0x and hexadecimal digits, or {client_ip} and the like
edns0 nsid ACTION               nothing: a question for the server's (RFC 5001, section 2.1)
edns0 subnet ACTION V4 V6       the client's network, so many bits (RFC 7871, section 6)
"""

import re
from collections.abc import Callable, Sequence

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Token
from kdns.plugins.block import Block
from kdns.plugins.chain import Request
from kdns.plugins.peer import packed
from kdns.plugins.rewrite_rules import MAX_DATA, Asked, Datum, OptionRule
from kdns.wire import iana
from kdns.wire.reply import Reply

ACTIONS = ("set", "append", "replace", "unset")
KINDS = ("local", "nsid", "subnet")
_SUBNET = 8
_V4, _V6 = 1, 2
"""Families (RFC 7871, section 6, by IANA's address family numbers)."""
_CODE = re.compile(r"0[xX][0-9a-fA-F]{1,4}|[1-9][0-9]{0,4}|0", re.ASCII)
_HEX = re.compile(r"0x((?:[0-9a-fA-F]{2})*)", re.ASCII)
_LABEL = re.compile(r"\{([^{}/]+/[^{}]+)\}")


def option_rule(words: Sequence[Token], place: Token, *, goes_on: bool) -> OptionRule:
    """Of the words behind `edns0`. Raises CorefileError; at `place` where one is missing."""
    texts = [word.text for word in words]
    kinds, actions = ", ".join(KINDS), ", ".join(ACTIONS)
    for index, known in enumerate((KINDS, ACTIONS)):
        expected = f"edns0: expected one of {(kinds, actions)[index]}"
        if len(texts) <= index:
            raise CorefileError.at(place, f"rewrite: {expected}")
        if texts[index].lower() not in known:
            raise CorefileError.at(words[index], f"rewrite: {expected}, got {texts[index]!r}")
    kind, action = texts[0].lower(), texts[1].lower()
    rest = list(words[2:])
    if action != "unset" and texts[-1] == "revert" and rest:
        # Replies never hold what upstreams were sent.
        rest.pop()
    wanted = {"local": ["CODE", "DATA"], "nsid": [], "subnet": ["V4", "V6"]}[kind]
    if action == "unset":
        wanted = wanted[:1] if kind == "local" else []
    if len(rest) != len(wanted):
        shown = " ".join(["edns0", kind, action, *wanted])
        raise CorefileError.at(place, f"rewrite: expected {shown}, got {len(rest)} words behind")
    if kind == "nsid":
        return OptionRule(goes_on, action, iana.EDNS_NSID, _nothing, True, "NSID, empty")
    if kind == "subnet":
        data: Datum = _nothing
        what = ""
        if rest:
            v4, v6 = (values.integer(w, maximum=m) for w, m in zip(rest, (32, 128), strict=True))
            data, what = _network(v4, v6), f"the client's network, /{v4} or /{v6}"
        return OptionRule(goes_on, action, _SUBNET, data, False, what)
    code = _code(rest[0])
    if action == "unset":
        return OptionRule(goes_on, action, code, _nothing, True, "")
    data, alike = _data(rest[1])
    return OptionRule(goes_on, action, code, data, alike, rest[1].text)


def _code(token: Token) -> int:
    code = int(token.text, 0) if _CODE.fullmatch(token.text) else 1 << 16
    if code >= 1 << 16:
        raise CorefileError.at(
            token, f"rewrite: edns0: expected a code such as 0xffee or 65518, got {token.text!r}"
        )
    return code


def _data(token: Token) -> tuple[Datum, bool]:
    """The data that a text stands for, and whether they are the same for all who ask the same."""
    text = token.text
    if text.startswith("{") and text.endswith("}"):
        if text in _OF_QUESTIONS:
            return _OF_QUESTIONS[text], True
        if text in _OF_CLIENTS:
            return _client(_OF_CLIENTS[text]), False
        if _LABEL.fullmatch(text):
            return _client(lambda request, block: _label(request, block, text[1:-1])), False
        known = " ".join((*_OF_QUESTIONS, *_OF_CLIENTS))
        raise CorefileError.at(
            token, f"rewrite: edns0: expected one of {known}, or {{a/label}}, got {text!r}"
        )
    if text.startswith("0x"):
        found = _HEX.fullmatch(text)
        if found is None:
            raise CorefileError.at(
                token, f"rewrite: edns0: expected pairs of hexadecimal digits, got {text!r}"
            )
        octets = bytes.fromhex(found[1])
    else:
        octets = text.encode()
    if len(octets) > MAX_DATA:
        raise CorefileError.at(token, f"rewrite: edns0: expected at most {MAX_DATA} octets of data")
    return (lambda asked: octets), True


def _nothing(asked: Asked) -> bytes | None:
    return b""


_OF_QUESTIONS: dict[str, Datum] = {
    "{qname}": lambda asked: asked.text.encode()[:MAX_DATA],
    "{qtype}": lambda asked: asked.qtype.to_bytes(2, "big"),
}


def _client(told: Callable[[Request, Block | None], bytes]) -> Datum:
    def datum(asked: Asked) -> bytes | None:
        if asked.request is None:
            return None
        return told(asked.request, asked.block)[:MAX_DATA] or None

    return datum


def _address(host: str) -> bytes:
    return packed(host) if host else b""


def _port(block: Block | None) -> bytes:
    port = "" if block is None else block.label.rpartition(":")[2]
    return int(port).to_bytes(2, "big") if port.isdecimal() else b""


def _label(request: Request, block: Block | None, label: str) -> bytes:
    """What directives know of the query, where the metadata directive wants that."""
    return b"" if block is None else block.told(request, Reply()).get(label, "").encode()


_OF_CLIENTS: dict[str, Callable[[Request, Block | None], bytes]] = {
    "{client_ip}": lambda request, block: _address(request.peer.host),
    "{client_port}": lambda request, block: request.peer.port.to_bytes(2, "big"),
    "{protocol}": lambda request, block: request.peer.proto.encode(),
    "{server_ip}": lambda request, block: _address(request.peer.local),
    "{server_port}": lambda request, block: _port(block),
}


def _network(v4: int, v6: int) -> Datum:
    def datum(asked: Asked) -> bytes | None:
        address = b"" if asked.request is None else _address(asked.request.peer.host)
        if not address:
            return None
        family, bits = (_V4, v4) if len(address) == 4 else (_V6, v6)
        # RFC 7871, section 6: as many octets as the prefix takes, zero behind it, and a scope of 0.
        octets = bytearray(address[: (bits + 7) // 8])
        if bits % 8:
            octets[-1] &= 0xFF00 >> bits % 8
        return family.to_bytes(2, "big") + bytes((bits, 0)) + octets

    return datum
