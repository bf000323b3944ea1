"""How a Corefile names the upstreams of `forward`: addresses, names, and resolv.conf files."""

from dataclasses import replace
from ipaddress import ip_address
from os.path import isfile
from typing import Any

from kdns.corefile import values
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Token
from kdns.plugins.upstream import Transport, UpstreamSettings

MAX_UPSTREAMS = 15
MAX_RESOLV_NAMESERVERS = 3
"""As glibc and musl read of a resolv.conf."""
PORTS = {"dns": 53, "tls": 853, "https": 443}
TRANSPORTS: dict[str, Transport] = {"dns": "dns", "tls": "tls", "https": "https"}
SYSTEM = "/etc/resolv.conf"


def read_upstream(token: Token) -> UpstreamSettings | str:
    """What an upstream is reached by; or a text, the path of a file or else a name.

    Its host may be a name, which is to be looked up but for https. Raises CorefileError.
    """
    if not token.text:
        raise CorefileError.at(token, "forward: expected an upstream, got nothing")
    scheme, separator, rest = token.text.partition("://")
    if not separator:
        scheme, rest = "dns", token.text
    if scheme not in PORTS:
        expected = ", ".join(f"{known}://" for known in PORTS)
        raise CorefileError.at(token, f"forward: expected one of {expected}, got {scheme}://")
    path = servername = ""
    if scheme == "https":
        rest, slash, path = rest.partition("/")
        path = slash + path if path else "/dns-query"
    elif scheme == "tls":
        # CoreDNS has the port behind the name: tls://9.9.9.9%dns.example:853.
        rest, _, servername = rest.partition("%")
        servername, colon, after = servername.partition(":")
        rest += colon + after if "[" in rest or ":" not in rest else ""
    text, host, port = rest, rest, PORTS[scheme]
    if text.startswith("[") or text.count(":") == 1:
        host, port = values.listen_address(Token(text, token.file, token.line))
        if not port:
            raise CorefileError.at(token, f"forward: expected a port from 1 to 65535 in {text!r}")
    try:
        host = str(ip_address(host))
    except ValueError:
        if not separator and ("/" in text or host == text):
            return text
        if scheme != "https":
            host = values.domain_name(Token(host, token.file, token.line))
        elif not host:
            raise CorefileError.at(token, "forward: expected a host after https://") from None
        else:
            servername = host
    return UpstreamSettings(host, port, TRANSPORTS[scheme], path, servername)


def is_named(settings: UpstreamSettings) -> bool:
    """Whether the host must be looked up before it can be asked."""
    if settings.transport == "https":
        return False
    try:
        ip_address(settings.host)
    except ValueError:
        return True
    return False


def read_file_or_name(token: Token, text: str) -> list[UpstreamSettings]:
    """The upstreams that a resolv.conf names; or one that is to be looked up.

    Only what is no file and holds no slash can be a name. Raises CorefileError.
    """
    if "/" in text or "\0" in text or isfile(text):
        return read_resolv_conf(token, text)
    return [UpstreamSettings(values.domain_name(Token(text, token.file, token.line)))]


def read_resolv_conf(token: Token, path: str) -> list[UpstreamSettings]:
    """The nameservers of a resolv.conf (resolv.conf(5)). Raises CorefileError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CorefileError.at(
            token,
            f"forward: expected an IP address or the path of a resolv.conf, got {path!r}: {reason}",
        ) from error
    found: list[UpstreamSettings] = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(UpstreamSettings(str(ip_address(words[1]))))
            except ValueError:
                continue
    if not found:
        raise CorefileError.at(token, f"forward: {path} names no nameserver")
    return found[:MAX_RESOLV_NAMESERVERS]


def read_resolver(token: Token) -> UpstreamSettings:
    """`IP[:PORT]` of whom names are asked from. Raises CorefileError."""
    found = read_upstream(token)
    if isinstance(found, str) or is_named(found) or found.transport != "dns":
        raise CorefileError.at(token, f"resolver: expected IP or IP:PORT, got {token.text!r}")
    return found


def own_settings(server: UpstreamSettings, every: dict[str, Any]) -> UpstreamSettings:
    """One upstream with what is said of all; what its own address says goes before that."""
    named = server.host.removesuffix(".") if is_named(server) else ""
    servername = server.servername or every.get("servername") or named
    return replace(server, **{**every, "servername": servername})
