"""bind: which addresses a server block listens on."""

import socket
from dataclasses import dataclass
from ipaddress import ip_address

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive, Token
from kdns.plugins.chain import Handler
from kdns.plugins.configured import Configured, read_options
from kdns.plugins.interfaces import interface_addresses
from kdns.plugins.parts import Parts


@dataclass(slots=True)
class Bind(Configured):
    """The settings of one bind directive.

    addresses: IP addresses, or names of network interfaces, whose addresses are all meant.
    """

    addresses: tuple[str, ...]
    exceptions: tuple[str, ...] = ()

    def explain(self) -> str:
        text = "listens on " + " ".join(self.addresses)
        return text + (f", not {' '.join(self.exceptions)}" if self.exceptions else "")

    def hosts(self) -> tuple[str, ...]:
        """The addresses to listen on, those of named interfaces included."""
        excepted = {host for text in self.exceptions for host in _hosts(text)}
        hosts = dict.fromkeys(host for text in self.addresses for host in _hosts(text))
        return tuple(host for host in hosts if host not in excepted)

    def build(self, parts: Parts, following: Handler) -> Handler:
        # Sockets are opened before anything is built; app.py reads the addresses from here.
        return following


def parse(directive: Directive, zones: tuple[str, ...]) -> Bind:
    """See configured.Parse."""
    addresses = tuple(_address(arg) for arg in values.at_least(directive, 1))
    settings = Bind(addresses)

    def exceptions(option: Directive) -> None:
        settings.exceptions += tuple(_address(arg) for arg in values.at_least(option, 1))

    read_options(directive, {"except": exceptions})
    return settings


def _hosts(text: str) -> tuple[str, ...]:
    try:
        return (str(ip_address(text)),)
    except ValueError:
        return interface_addresses(text)


def _address(token: Token) -> str:
    try:
        return str(ip_address(token.text))
    except ValueError:
        pass
    if token.text in {name for _, name in socket.if_nameindex()}:
        return token.text
    raise CorefileError.at(
        token, f"bind: expected an IP address or a network interface, got {token.text!r}"
    )
