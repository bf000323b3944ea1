"""Records of well-known servers, as dig shows them, come through forward unchanged.

Knot DNS is the authority of a zone; Unbound has the same records as local data, asks Knot for its
zone, and speaks TLS too. Whoever has not installed them skips this:

    apt-get install unbound knot bind9-dnsutils
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdns.net.listen import bind_pair
from tests.certificates import Certificates
from tests.serving import Server, environment, serving

PROGRAMS = ("unbound", "knotd", "dig")
PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
FOUND = {program: shutil.which(program, path=PATH) or "" for program in PROGRAMS}
MISSING = [program for program, path in FOUND.items() if not path]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

RECORDS = {
    ("plain", "A"): ["192.0.2.1", "192.0.2.2"],
    ("plain", "AAAA"): ["2001:db8::1"],
    ("alias", "CNAME"): ["plain.ZONE"],
    ("mail", "MX"): ["10 plain.ZONE", "20 mail.elsewhere.example."],
    ("_sip._udp", "SRV"): ["1 2 5060 plain.ZONE"],
    ("odd", "TYPE65400"): [r"\# 5 0102030405"],
    ("web", "HTTPS"): ["1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1"],
    ("svc", "SVCB"): ["16 plain.ZONE alpn=dot", "0 elsewhere.example."],
    ("web", "CAA"): ['0 issue "ca.example"', '128 iodef "mailto:ca@example"'],
    ("big", "TXT"): [f'"{number:04}{"x" * 200}"' for number in range(20)],
}
ASKED = [*RECORDS, ("alias", "A"), ("none", "A"), ("plain", "TXT"), ("MiXeD.plain", "A")]
AFTER = ["NOERROR", "NXDOMAIN", "NOERROR", "NXDOMAIN"]
"""The statuses of what is asked behind RECORDS."""


def lines(zone: str) -> list[str]:
    return [
        f"{owner}.{zone} 300 IN {rtype} {rdata.replace('ZONE', zone)}"
        for (owner, rtype), rdatas in RECORDS.items()
        for rdata in rdatas
    ]


def soa(zone: str) -> str:
    return f"{zone} 300 IN SOA ns.{zone} root.{zone} 1 7200 1800 86400 60"


@contextmanager
def started(command: list[str], ready: str) -> Iterator[None]:
    """A program in the foreground, once it has said that it is ready."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if re.search(ready, line):
                break
        else:
            raise AssertionError(f"{command[0]} ended:\n{''.join(said)}")
        yield
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    udp, tcp = bind_pair("127.0.0.1")
    port = int(udp.getsockname()[1])
    udp.close()
    tcp.close()
    return port


@dataclass
class Peers:
    """Where the servers answer on 127.0.0.1. The zone that each has of its own is in `zones`."""

    knot: int
    unbound: int
    unbound_tls: int


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Peers]:
    folder = tmp_path_factory.mktemp("peers")
    made = Peers(free_port(), free_port(), free_port())
    with ExitStack() as stack:
        knot = [FOUND["knotd"], "--config", str(_knot(folder, made))]
        stack.enter_context(started(knot, r"server started"))
        unbound = [FOUND["unbound"], "-d", "-c", str(_unbound(folder, made, certificates))]
        stack.enter_context(started(unbound, r"start of service"))
        yield made


def _knot(folder: Path, peers: Peers) -> Path:
    zone = folder / "knot.test.zone"
    zone.write_text("\n".join([soa("knot.test."), *lines("knot.test."), ""]))
    conf = folder / "knot.conf"
    conf.write_text(f"""
server:
    listen: 127.0.0.1@{peers.knot}
    rundir: {folder}
log:
  - target: stderr
    any: info
database:
    storage: {folder}/db
zone:
  - domain: knot.test.
    storage: {folder}
    file: knot.test.zone
    journal-content: none
    zonefile-sync: -1
""")
    return conf


def _unbound(folder: Path, peers: Peers, certificates: Certificates) -> Path:
    conf = folder / "unbound.conf"
    data = "\n".join(
        f"    local-data: '{line}'" for line in [soa("local.test."), *lines("local.test.")]
    )
    conf.write_text(f"""
server:
    interface: 127.0.0.1@{peers.unbound}
    interface: 127.0.0.1@{peers.unbound_tls}
    tls-port: {peers.unbound_tls}
    tls-service-key: {certificates.key}
    tls-service-pem: {certificates.cert}
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    logfile: ""
    use-syslog: no
    verbosity: 1
    do-daemonize: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    rrset-roundrobin: no
    local-zone: "test." nodefault
    local-zone: "local.test." static
{data}
remote-control:
    control-enable: no
forward-zone:
    name: "knot.test."
    forward-addr: 127.0.0.1@{peers.knot}
""")
    return conf


Shown = tuple[str, list[str]]
"""A status, and the lines of records."""


def dig(port: int, zone: str, *options: str) -> list[Shown]:
    """What dig shows for each of ASKED: answer and authority, sorted, TTLs left out."""
    command = [FOUND["dig"], "@127.0.0.1", "-p", str(port), "+nottlid", "+noall", "+comments"]
    command += ["+answer", "+authority", "+time=10", "+tries=1", *options]
    for owner, rtype in ASKED:
        command += [f"{owner}.{zone}", rtype]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, *parts = re.split(r"status: (\w+),.*", said)
    return [
        (status, sorted(line for line in text.splitlines() if line and line[0] != ";"))
        for status, text in zip(parts[::2], parts[1::2], strict=True)
    ]


@contextmanager
def before(folder: Path, to: str, options: str = "") -> Iterator[Server]:
    """kdns, forwarding everything."""
    corefile = folder / "Corefile"
    corefile.write_text(f". {{\n bind 127.0.0.1\n forward . {to} {{\n{options}\n}}\n}}\n")
    with serving(corefile) as server:
        yield server


def compare(server: Server, port: int, zone: str, *options: str) -> None:
    """Every record that was asked of the peer itself, and of kdns before it."""
    # The peer may fail once, which is its business; we may not.
    ours, theirs = dig(server.port, zone, *options), dig(port, zone, *options, "+tries=3")
    assert ours == theirs
    assert [len(shown) for _, shown in ours[: len(RECORDS)]] == list(map(len, RECORDS.values()))
    assert [status for status, _ in ours[len(RECORDS) :]] == AFTER


@pytest.mark.parametrize("option", ["+notcp", "+tcp", "+noedns", "+dnssec"])
def test_knots_records_come_through(peers: Peers, tmp_path: Path, option: str) -> None:
    with before(tmp_path, f"127.0.0.1:{peers.knot}") as server:
        compare(server, peers.knot, "knot.test.", option)


@pytest.mark.parametrize("zone", ["local.test.", "knot.test."])
@pytest.mark.parametrize("option", ["+notcp", "+tcp"])
def test_unbounds_records_come_through(
    peers: Peers, tmp_path: Path, zone: str, option: str
) -> None:
    with before(tmp_path, f"127.0.0.1:{peers.unbound}") as server:
        compare(server, peers.unbound, zone, option)


def test_unbounds_records_come_through_over_tls(
    peers: Peers, tmp_path: Path, certificates: Certificates
) -> None:
    options = f"tls {certificates.ca}\ntls_servername kubernetes"
    with before(tmp_path, f"tls://127.0.0.1:{peers.unbound_tls}", options) as server:
        for zone in ("local.test.", "knot.test."):
            compare(server, peers.unbound, zone)


def test_over_tcp_alone_where_the_corefile_says_so(peers: Peers, tmp_path: Path) -> None:
    with before(tmp_path, f"127.0.0.1:{peers.unbound}", "force_tcp") as server:
        compare(server, peers.unbound, "local.test.")


def test_the_ttls_are_the_peers(peers: Peers, tmp_path: Path) -> None:
    with before(tmp_path, f"127.0.0.1:{peers.knot}") as server:
        command = [FOUND["dig"], "@127.0.0.1", "-p", str(server.port), "odd.knot.test", "TYPE65400"]
        said = subprocess.run(
            [*command, "+noall", "+answer"], capture_output=True, text=True, check=True
        ).stdout
    assert said.split() == ["odd.knot.test.", "300", "IN", "TYPE65400", r"\#", "5", "0102030405"]
