"""Subjects: each is given the same names on the same terms, or says why it cannot serve them."""

import os
import re
import shutil
import sys
from pathlib import Path

import dns.zone
import pytest

from kdns.plan import make_plan
from perf.cluster import HOME, ZONES, Cluster, Shape, generate
from perf.server import NotServing, Server, free_port, pinned
from perf.share import NoShare, controllers, cpu_share, join
from perf.subjects import CoreDns, Dnsmasq, Echo, Kdns, Knot, Site, Subject, Unbound, all_subjects
from perf.workloads import SPECS, Question, query
from perf.zones import dnsmasq_lines, local_data, zone_file

SHAPE = Shape(services=40, namespaces=3, headless=((20, 1), (30, 1)), abroad=10)
EVERYONE = all_subjects(Path("coredns"))


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return generate(SHAPE, 1)


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    folder = tmp_path / "subject"
    folder.mkdir()
    manifests = (tmp_path / "a.json", tmp_path / "b.json")
    return Site(
        folder, 5301, (5302, 5304), cluster, manifests, "http://127.0.0.1:5303", tail=b"\xab\xcd"
    )


@pytest.mark.parametrize("apex", ZONES)
def test_a_zone_file_holds_the_records_of_its_zone_and_no_others(
    cluster: Cluster, apex: str
) -> None:
    text = "\n".join(zone_file(cluster, apex))
    zone = dns.zone.from_text(text, origin=apex, relativize=False)
    found: dict[tuple[str, str], set[str]] = {}
    for owner, _ttl, rdata in zone.iterate_rdatas():
        found.setdefault((str(owner), rdata.rdtype.name), set()).add(str(rdata))
    for added in ((apex, "SOA"), (apex, "NS"), (f"ns.dns.{HOME}", "A")):
        found.pop(added, None)
    expected = {k: set(v) for k, v in cluster.rrsets.items() if k[0].endswith(f".{apex}")}
    assert found == expected


def test_the_zones_together_hold_every_record(cluster: Cluster) -> None:
    assert all(any(owner.endswith(z) for z in ZONES) for owner, _ in cluster.rrsets)


def test_unbound_gets_what_the_zone_files_hold(cluster: Cluster) -> None:
    lines = list(local_data(cluster))
    data = [m[1] for line in lines if (m := re.fullmatch('local-data: "(.*)"', line))]
    assert data == [line for apex in ZONES for line in zone_file(cluster, apex)]
    assert len(lines) == len(data) + len(ZONES)


def test_dnsmasq_gets_every_address_with_its_name(cluster: Cluster) -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for line in dnsmasq_lines(cluster):
        kind, _, rest = line.partition("=")
        if kind == "host-record":
            host, *given, ttl = rest.split(",")
            assert ttl == "30"
            for address in given:
                rtype = "AAAA" if ":" in address else "A"
                found.setdefault((f"{host}.", rtype), set()).add(address)
    addresses = {k: set(v) for k, v in cluster.rrsets.items() if k[1] in {"A", "AAAA"}}
    assert found == addresses


def test_dnsmasq_names_an_endpoint_before_the_service_that_shares_its_address(
    cluster: Cluster,
) -> None:
    lines = [line for line in dnsmasq_lines(cluster) if line.startswith("host-record")]
    (headless, *_) = cluster.headless
    label, address = headless.endpoints[0]
    first = next(line for line in lines if address in line)
    assert first.startswith(f"host-record={label}.")


def test_kdns_and_coredns_read_a_corefile_that_kdns_understands(site: Site) -> None:
    for subject in (Kdns(), CoreDns(Path("coredns"))):
        subject.command(site)
        text = (site.folder / "Corefile").read_text(encoding="utf-8")
        assert len(make_plan(text, "Corefile", environ={}, port=site.port).blocks) == 1
        assert "forward . 127.0.0.1:5302 127.0.0.1:5304" in text
        assert (f"endpoint {site.api}" in text) is (subject.name == "coredns")


def test_kdns_is_given_every_manifest(site: Site) -> None:
    command = Kdns().command(site)
    assert command[command.index("--manifests") + 1 :] == [str(m) for m in site.manifests]
    assert str(site.port) in command


@pytest.mark.parametrize("subject", [Knot(), Unbound(), Dnsmasq()], ids=lambda s: s.name)
def test_a_peer_listens_on_its_port_of_loopback_alone(subject: Subject, site: Site) -> None:
    command = subject.command(site)
    (conf,) = site.folder.glob("*.conf")
    assert any(str(conf) in word for word in command)
    head = conf.read_text(encoding="utf-8")[:1_500]
    assert "127.0.0.1" in head
    assert str(site.port) in head


def test_unbound_asks_every_upstream(site: Site) -> None:
    Unbound().command(site)
    text = (site.folder / "unbound.conf").read_text(encoding="utf-8")
    assert re.findall(r"forward-addr: (\S+)", text) == ["127.0.0.1@5302", "127.0.0.1@5304"]


def test_knot_and_unbound_have_one_worker(site: Site) -> None:
    Knot().command(site)
    Unbound().command(site)
    knot = (site.folder / "knot.conf").read_text(encoding="utf-8")
    assert "udp-workers: 1\n" in knot
    assert "tcp-workers: 1\n" in knot
    assert "num-threads: 1\n" in (site.folder / "unbound.conf").read_text(encoding="utf-8")


def test_kdns_serves_every_workload() -> None:
    for spec in SPECS.values():
        assert Kdns().cannot(spec, "udp") is None
        assert Kdns().cannot(spec, "tcp") is None


def test_what_a_peer_cannot_do_is_said() -> None:
    forwarding, srv = SPECS["forward-hit"], SPECS["srv"]
    assert Knot().cannot(forwarding, "udp")
    assert Echo().cannot(forwarding, "udp")
    assert Dnsmasq().cannot(srv, "udp")
    assert Dnsmasq().cannot(SPECS["cluster"], "tcp")
    assert Unbound().cannot(forwarding, "tcp") is None


def test_names_of_subjects_are_unique() -> None:
    names = [subject.name for subject in EVERYONE]
    assert len(set(names)) == len(names)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_a, **_k: None)
    for subject in (Knot(), Unbound(), Dnsmasq(), Echo()):
        assert str(subject.missing()).endswith("is not installed")


def test_coredns_is_missing_until_a_program_is_given(tmp_path: Path) -> None:
    assert CoreDns(None).missing() == "no --coredns PATH was given"
    assert CoreDns(tmp_path).missing() is None or CoreDns(tmp_path / "x").missing()
    assert CoreDns(Path(sys.executable)).missing() is None


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_echo_compiles_and_answers_with_its_tail(site: Site, tmp_path: Path) -> None:
    port = free_port()
    command = [*Echo().command(site)[:2], str(port), "c00c000100010000001e00047f000001"]
    asking = query(Question("a.example.", "A", 0, ("127.0.0.1",)), "udp")
    with Server(command, set(os.sched_getaffinity(0)), tmp_path / "log") as server:
        server.wait_ready(port, asking)
        assert server.pid in server.family()
    server.stop()


def test_a_server_that_ends_says_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with (
        Server(command, set(os.sched_getaffinity(0)), tmp_path / "log") as server,
        pytest.raises(NotServing, match="no such luck"),
    ):
        server.wait_ready(free_port(), query(Question("a.", "A", 0, ()), "udp"))


def test_pinning_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with pinned({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


MOUNTS = """\
cgroup2 {root}/unified cgroup2 rw,nosuid 0 0
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup {root}/cpu cgroup rw,cpu 0 0
cgroup {root}/cpuset cgroup rw,cpuset 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS.format(root=tmp_path), encoding="utf-8")
    return path


def test_hierarchies_that_bound_cpu_are_found(mounts: Path, tmp_path: Path) -> None:
    text = mounts.read_text(encoding="utf-8")
    assert list(controllers(text)) == [(2, tmp_path / "unified"), (1, tmp_path / "cpu")]


def test_a_share_is_a_quota_of_a_period(mounts: Path, tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    with cpu_share(25, "kdns", mounts) as group:
        assert (group / "cpu.max").read_text() == "25000 100000"
        join(group, [42])
        assert (group / "cgroup.procs").read_text() == "42"


def test_version_1_will_do(mounts: Path, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    with cpu_share(50, "kdns", mounts) as group:
        assert (group / "cpu.cfs_quota_us").read_text() == "50000"


def test_where_no_group_can_be_made_that_is_said(mounts: Path) -> None:
    with pytest.raises(NoShare, match="no control group for CPU"), cpu_share(25, "kdns", mounts):
        pass
