"""What can be wrong with a message, and what its sender is to be told.

An error carries its consequence: `rcode` is what the reply says. Only `NotAQuery` gets no reply:
what is not a query is met with silence.
"""

from kdns.wire.iana import Rcode


class WireError(ValueError):
    """Bytes that are no DNS message, or one that the standard says to refuse."""

    rcode: Rcode = Rcode.FORMERR


class NotAQuery(WireError):
    """Shorter than a header, or a response: answering would invite loops, so nobody answers."""


class NotImplementedOpcode(WireError):
    """RFC 1035 4.1.1: an opcode that this server does not implement gets NOTIMP."""

    rcode = Rcode.NOTIMP


class BadName(ValueError):
    """Text that is no domain name; says which label or length breaks which bound."""
