"""The servers under test: what each is given, so that all hold the same names on the same terms.

One worker or thread, one core, no log of queries, no rate limit, and otherwise the defaults that
its packagers chose; kdns and CoreDNS read kubeadm's Corefile. A subject that is not installed is
left out, with a word about it, and so is a workload that it cannot serve.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from perf.cluster import ABROAD, HOME, REVERSE_4, REVERSE_6, TTL, ZONES, Cluster
from perf.model import Transport
from perf.workloads import PLAIN_SIZE, SPECS, Question, Spec
from perf.zones import dnsmasq_lines, local_data, zone_file

HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 64
"""TCP connections that every server must allow."""
_SOURCE: Final = Path(__file__).with_name("echo.c")
_NEVER: Final = "never asks another server"


@dataclass(frozen=True, slots=True)
class Site:
    """What a subject is set up with: a folder of its own, ports on HOST, and the names.
    `upstreams` are ports too.

    manifests: files of Kubernetes objects. api: URL of an API server, or empty. workers: processes
    or threads, for the one subject that may have more than one. tail: what echo says. metrics: the
    port where those who count what they are asked tell of it.
    """

    folder: Path
    port: int
    upstreams: tuple[int, ...]
    cluster: Cluster
    manifests: tuple[Path, ...] = ()
    api: str = ""
    workers: int = 1
    tail: bytes = b""
    metrics: int = 0


class Subject(Protocol):
    """A server that can be started."""

    name: str
    counts: bool
    """Whether it has metrics of its own."""
    every_run: bool
    """Whether it is started anew for every run."""
    many: bool
    """Whether it gets every core but the generator's."""

    def missing(self) -> str | None:
        """Why it cannot be started here, if so."""

    def version(self) -> str:
        """Its version, in its own words."""

    def command(self, site: Site) -> list[str]:
        """Write what it reads into the site's folder; the command that starts it, in foreground."""

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        """Why it cannot serve a workload over a transport, if so."""


class Kdns:
    """kdns from this tree, by the Python that runs the harness."""

    counts = True
    every_run = False

    def __init__(self, *, many: bool = False) -> None:
        self.many = many
        self.name = "kdns-workers" if many else "kdns"

    def missing(self) -> str | None:
        if not self.many:
            return None
        if "--workers" not in _kdns_help():
            return "this kdns has no --workers"
        return None if len(os.sched_getaffinity(0)) > 2 else "takes three cores or more"

    def version(self) -> str:
        from kdns import __version__

        return f"kdns {__version__}"

    def command(self, site: Site) -> list[str]:
        corefile = site.folder / "Corefile"
        corefile.write_text(_corefile(site, ""), encoding="utf-8")
        command = [sys.executable, "-m", "kdns", "serve", "-conf", str(corefile)]
        command += ["-dns.port", str(site.port), "-quiet"]
        if "--workers" in _kdns_help():
            command += ["--workers", str(site.workers)]
        return [*command, "--manifests", *map(str, site.manifests)]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        return None


class CoreDns:
    """A CoreDNS binary, against an API server that serves the same objects."""

    name = "coredns"
    counts = True
    every_run = False
    many = False

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def missing(self) -> str | None:
        if self._path is None:
            return "no --coredns PATH was given"
        return None if os.access(self._path, os.X_OK) else "the path given is no program"

    def version(self) -> str:
        return _first_line(str(self._path), "-version")

    def command(self, site: Site) -> list[str]:
        corefile = site.folder / "Corefile"
        corefile.write_text(_corefile(site, f"endpoint {site.api}"), encoding="utf-8")
        command = ["env", f"GOMAXPROCS={site.workers}", str(self._path), "-conf", str(corefile)]
        return [*command, "-dns.port", str(site.port), "-quiet"]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        return None


class Knot:
    """Knot DNS with a zone file for each zone."""

    name = "knot"
    counts = False
    every_run = False
    many = False

    def missing(self) -> str | None:
        return _absent("knotd")

    def version(self) -> str:
        return _first_line("knotd", "--version")

    def command(self, site: Site) -> list[str]:
        for apex in ZONES:
            _write(site.folder / f"{apex}zone", zone_file(site.cluster, apex))
        conf = site.folder / "knot.conf"
        _write(conf, _knot_conf(site))
        return ["knotd", "--config", str(conf)]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        return _NEVER if spec.forwards else None


class Unbound:
    """Unbound with local data."""

    name = "unbound"
    counts = False
    every_run = False
    many = False

    def missing(self) -> str | None:
        return _absent("unbound")

    def version(self) -> str:
        return "unbound " + _first_line("unbound", "-V").removeprefix("Version ")

    def command(self, site: Site) -> list[str]:
        conf = site.folder / "unbound.conf"
        _write(conf, _unbound_conf(site))
        return ["unbound", "-d", "-c", str(conf)]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        return None


class Dnsmasq:
    """dnsmasq with host records."""

    name = "dnsmasq"
    counts = False
    every_run = False
    many = False

    def missing(self) -> str | None:
        return _absent("dnsmasq")

    def version(self) -> str:
        found = re.match(r"Dnsmasq version \S+", _first_line("dnsmasq", "--version"))
        return found[0].lower().replace("version ", "") if found else "dnsmasq"

    def command(self, site: Site) -> list[str]:
        conf = site.folder / "dnsmasq.conf"
        _write(conf, [*_dnsmasq_conf(site), *dnsmasq_lines(site.cluster)])
        return ["dnsmasq", "--keep-in-foreground", f"--conf-file={conf}"]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        if transport == "tcp":
            return "closes a connection after 100 questions"
        # With all of them it would go through them for every name that it does not find.
        return "keeps SRV records in a list: given a few only" if spec is SPECS["srv"] else None


class Echo:
    """The echo in C: what the sockets cost, and nothing else. Its answers are never right."""

    name = "echo"
    counts = False
    every_run = True
    many = False

    def missing(self) -> str | None:
        return _absent("cc")

    def version(self) -> str:
        return "echo in C, " + _first_line("cc", "--version")

    def command(self, site: Site) -> list[str]:
        program = compile_echo(site.folder.parent)
        return [str(program), HOST, str(site.port), site.tail.hex()]

    def cannot(self, spec: Spec, transport: Transport) -> str | None:
        return "asks nobody: see cluster" if spec.forwards else None


def all_subjects(coredns: Path | None) -> list[Subject]:
    """Every subject there is, installed or not."""
    peers: list[Subject] = [CoreDns(coredns), Knot(), Unbound(), Dnsmasq(), Echo()]
    return [Kdns(), Kdns(many=True), *peers]


def compile_echo(folder: Path) -> Path:
    """The echo, compiled into a folder if it is not there. Raises CalledProcessError, OSError."""
    program = folder / "echo-in-c"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", str(program), str(_SOURCE)], check=True)
    return program


def tail(questions: Iterable[Question], transport: Transport) -> bytes:
    """A record that makes an echo's answer as long as the mean answer of kdns to the questions.

    It is of type NULL (RFC 1035, 3.3.10) and owned by the question's name.
    """
    sizes = [_size(question, transport) for question in questions]
    mean = round(sum(sizes) / len(sizes)) if sizes else 0
    return null_record(max(mean, 12))


def null_record(size: int) -> bytes:
    """A record of type NULL of `size` octets, 12 or more, owned by the question's name."""
    length = size - 12
    return bytes.fromhex("c00c 000a 0001 0000001e") + length.to_bytes(2, "big") + bytes(length)


def _size(question: Question, transport: Transport) -> int:
    """The octets that follow the question in kdns's answer."""
    if not question.rdatas:
        return 54  # the zone's SOA, its names compressed
    match question.qtype:
        case "A":
            size = len(question.rdatas) * 16
        case "AAAA":
            size = len(question.rdatas) * 28
        case "SRV":
            # Targets are not compressed (RFC 2782), and their addresses come with them.
            size = sum(12 + 6 + len(text.split()[-1]) + 1 + 16 for text in question.rdatas)
        case _:
            size = sum(12 + len(text) + 1 for text in question.rdatas)
    asked = 12 + len(question.qname) + 1 + 4
    return min(size, PLAIN_SIZE - asked) if transport == "udp" else size


def _corefile(site: Site, option: str) -> str:
    """kubeadm's, with our zones and without what opens fixed ports or shuffles answers."""
    zones = " ".join(zone.rstrip(".") for zone in (HOME, ABROAD, REVERSE_4, REVERSE_6))
    return f""". {{
    bind {HOST}
    errors
    prometheus {HOST}:{site.metrics}
    kubernetes {zones} {{
        pods insecure
        ttl {TTL}
        {option}
    }}
    forward . {" ".join(f"{HOST}:{port}" for port in site.upstreams)}
    cache 30 {{
        disable success {HOME.rstrip(".")}
        disable denial {HOME.rstrip(".")}
    }}
}}
"""


def _knot_conf(site: Site) -> Iterable[str]:
    yield f"""server:
    listen: {HOST}@{site.port}
    rundir: {site.folder}
    udp-workers: {site.workers}
    tcp-workers: {site.workers}
    background-workers: 1
log:
  - target: stderr
    any: error
database:
    storage: {site.folder}/db
template:
  - id: default
    storage: {site.folder}
    file: "%s.zone"
    journal-content: none
    zonefile-sync: -1
zone:"""
    for apex in ZONES:
        yield f"  - domain: {apex}"


def _unbound_conf(site: Site) -> Iterable[str]:
    yield f"""server:
    interface: {HOST}
    port: {site.port}
    num-threads: {site.workers}
    username: ""
    chroot: ""
    directory: "{site.folder}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    rrset-roundrobin: no
    incoming-num-tcp: {CONNECTIONS}
remote-control:
    control-enable: no
forward-zone:
    name: "."
"""
    for port in site.upstreams:
        yield f"    forward-addr: {HOST}@{port}"
    yield "server:"
    for line in local_data(site.cluster):
        yield f"    {line}"


def _dnsmasq_conf(site: Site) -> Iterable[str]:
    yield from (
        f"port={site.port}",
        f"listen-address={HOST}",
        "bind-interfaces",
        "no-resolv",
        "no-hosts",
        "no-poll",
        "pid-file",
        *(f"server={HOST}#{port}" for port in site.upstreams),
        "cache-size=10000",
        "dns-forward-max=10000",
        f"local-ttl={TTL}",
    )
    if os.geteuid() == 0:
        yield "user=root"  # the default user may not read a folder of ours


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _absent(program: str) -> str | None:
    return None if _which(program) else f"{program} is not installed"


def _which(program: str) -> str | None:
    # Debian keeps servers out of a user's PATH.
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def executable(program: str) -> str:
    """Where a program is; its own name when it is nowhere."""
    return _which(program) or program


@cache
def _kdns_help() -> str:
    command = [sys.executable, "-m", "kdns", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _first_line(program: str, option: str) -> str:
    command = [executable(program), option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else program
