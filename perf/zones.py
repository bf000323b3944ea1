"""The records of a cluster in the words of servers that know nothing of Kubernetes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from perf.cluster import HOME, TTL, ZONES, Cluster

_SOA = f"ns.dns.{HOME} hostmaster.{HOME} 1 7200 1800 86400 {TTL}"
"""kdns's and CoreDNS's numbers; the last is how long "no such name" may be kept."""


def zone_file(cluster: Cluster, apex: str) -> Iterator[str]:
    """The lines of the master file (RFC 1035, 5) of one of `perf.cluster.ZONES`."""
    yield f"{apex} {TTL} IN SOA {_SOA}"
    yield f"{apex} {TTL} IN NS ns.dns.{HOME}"
    if apex == HOME:
        yield f"ns.dns.{HOME} {TTL} IN A 127.0.0.1"
    for (owner, rtype), rdatas in cluster.rrsets.items():
        if owner.endswith(f".{apex}"):
            for rdata in rdatas:
                yield f"{owner} {TTL} IN {rtype} {rdata}"


def local_data(cluster: Cluster) -> Iterator[str]:
    """The lines of unbound's `server:` clause: a static local zone for each, and its data."""
    for apex in ZONES:
        yield f'local-zone: "{apex}" static'
        for line in zone_file(cluster, apex):
            yield f'local-data: "{line}"'


def dnsmasq_lines(cluster: Cluster) -> Iterator[str]:
    """The lines of dnsmasq's configuration; it makes the PTR of a host-record by itself.

    It searches SRV records one after the other, also for names that are none, so it gets only those
    of `Cluster.ported`.
    """
    for apex in ZONES:
        # It has no zones to be authoritative for without an interface: what it does not know
        # below these, it denies by itself, without an SOA record.
        yield f"local=/{apex.rstrip('.')}/"
    for service in cluster.ported:
        owner = f"_http._tcp.{service.host()}"
        yield from (_srv_host(owner, rdata) for rdata in cluster.rrsets[owner, "SRV"])
    addresses: defaultdict[str, list[str]] = defaultdict(list)
    for (owner, rtype), rdatas in cluster.rrsets.items():
        if rtype in {"A", "AAAA"}:
            addresses[owner.rstrip(".")].extend(rdatas)
    yield from _host_records(addresses)


def _srv_host(owner: str, rdata: str) -> str:
    priority, weight, port, target = rdata.split()
    return f"srv-host={owner.rstrip('.')},{target.rstrip('.')},{port},{priority},{weight}"


def _host_records(addresses: dict[str, list[str]]) -> Iterator[str]:
    # The first name that has an address gets its PTR: endpoints before their headless service.
    for host, owned in sorted(addresses.items(), key=lambda item: len(item[1]) > 2):
        four = [a for a in owned if ":" not in a]
        six = [a for a in owned if ":" in a]
        for index in range(max(len(four), len(six))):
            pair = four[index : index + 1] + six[index : index + 1]
            yield f"host-record={','.join([host, *pair, str(TTL)])}"
