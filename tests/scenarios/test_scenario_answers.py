"""The real program on real sockets: what a person sees who starts it and asks."""

import socket
import subprocess
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest

from tests.serving import command, environment, serving

TWELVE = "\n".join(f"  - {{addresses: [10.1.0.{n}]}}" for n in range(1, 13))
MANIFEST = f"""
apiVersion: v1
kind: Service
metadata: {{name: many, namespace: shop}}
spec: {{clusterIP: None}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: many-1, namespace: shop, labels: {{kubernetes.io/service-name: many}}}}
addressType: IPv4
endpoints:
{TWELVE}
"""


def addresses(port: int, name: str) -> list[str]:
    """The A records, in the order of the reply."""
    query = dns.message.make_query(name, "A")
    reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=10, one_rr_per_rrset=True)
    return [str(rrset[0]) for rrset in reply.answer]


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "many.yaml"
    path.write_text(MANIFEST)
    return path


def corefile(folder: Path, text: str) -> Path:
    path = folder / "Corefile"
    path.write_text(text)
    return path


@pytest.mark.parametrize("balanced", [True, False])
def test_order_differs_under_loadbalance_and_only_there(
    tmp_path: Path, manifests: Path, *, balanced: bool
) -> None:
    directive = "loadbalance" if balanced else ""
    text = f".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local\n {directive}\n}}\n"
    path = corefile(tmp_path, text.replace(":0", ""))
    with serving(path, "--manifests", str(manifests)) as server:
        first = addresses(server.port, "many.shop.svc.cluster.local")
        second = addresses(server.port, "many.shop.svc.cluster.local")
    assert sorted(first) == sorted(second) == sorted(f"10.1.0.{n}" for n in range(1, 13))
    assert (first != second) is balanced


def test_a_wildcard_server_answers_from_the_address_that_was_asked(
    tmp_path: Path, manifests: Path
) -> None:
    path = corefile(tmp_path, ". {\n kubernetes cluster.local\n}\n")
    query = dns.message.make_query("many.shop.svc.cluster.local", "A").to_wire()
    with (
        serving(path, "--manifests", str(manifests)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(10)
        sock.sendto(query, ("127.0.0.2", server.port))
        _, source = sock.recvfrom(4096)
    assert source == ("127.0.0.2", server.port)


def test_a_manifest_that_changes_is_answered_anew(tmp_path: Path, manifests: Path) -> None:
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n")
    with serving(path, "--manifests", str(manifests)) as server:
        assert addresses(server.port, "new.shop.svc.cluster.local") == []
        service = MANIFEST.replace("clusterIP: None", "clusterIP: 10.96.7.7")
        manifests.write_text(service.replace("name: many, namespace", "name: new, namespace"))
        while not (found := addresses(server.port, "new.shop.svc.cluster.local")):
            pass  # each question is answered at once: this waits for the file, not for a clock
    assert found == ["10.96.7.7"]


def test_large_answers_are_whole_over_tcp(tmp_path: Path) -> None:
    count = 2_000
    slices = []
    for start in range(0, count, 1000):
        endpoints = "\n".join(
            f"  - {{addresses: [10.2.{n // 250}.{n % 250}]}}" for n in range(start, start + 1000)
        )
        slices.append(MANIFEST.split("---")[1].replace("many-1", f"many-{start}"))
        slices[-1] = slices[-1].replace(TWELVE, endpoints)
    path = tmp_path / "large.yaml"
    path.write_text("---".join([MANIFEST.split("---", maxsplit=1)[0], *slices]))
    text = ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n"
    with serving(corefile(tmp_path, text), "--manifests", str(path)) as server:
        query = dns.message.make_query("many.shop.svc.cluster.local", "A", use_edns=0)
        reply, tcp = dns.query.udp_with_fallback(query, "127.0.0.1", 10, server.port)
    assert tcp
    assert len(reply.answer[0]) == count


# What goes wrong at the start is one line: what, where, and what to do; exit status 1.


def failing(*args: str) -> str:
    """The only line that `kdns serve` says before it ends with 1."""
    done = subprocess.run(
        command("serve", *args), capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = [x for x in done.stderr.splitlines() if x]
    return line


def test_a_missing_corefile(tmp_path: Path) -> None:
    line = failing("-conf", str(tmp_path / "nowhere"))
    assert line == (
        f"kdns: cannot read {tmp_path}/nowhere: No such file or directory; "
        "expected a Corefile there"
    )


def test_an_unknown_directive_names_file_and_line(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n  errors\n  kubernets cluster.local\n}\n")
    assert failing("-conf", str(path)) == (
        f"kdns: {path}:3: directive 'kubernets' is not known; --lenient leaves it out"
    )


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        path = corefile(tmp_path, ". {\n bind 127.0.0.1\n whoami\n}\n")
        line = failing("-conf", str(path), "-p", str(port))
    assert f"udp 127.0.0.1:{port}" in line
    assert "in use" in line


def test_an_unreadable_kubeconfig(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n")
    missing = str(tmp_path / "kubeconfig")
    line = failing("-conf", str(path), "-p", "0", "--kubeconfig", missing)
    assert line.startswith("kdns: ")
    assert missing in line


def test_no_cluster_at_all_says_what_to_do(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n")
    assert "not in a pod" in failing("-conf", str(path), "-p", "0")


def test_missing_manifests(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n kubernetes cluster.local\n}\n")
    missing = str(tmp_path / "missing")
    assert missing in failing("-conf", str(path), "-p", "0", "--manifests", missing)


def test_lenient_serves_what_it_understands(tmp_path: Path, manifests: Path) -> None:
    text = ". {\n bind 127.0.0.1\n dnssec\n frobnicate\n kubernetes cluster.local\n}\n"
    path = corefile(tmp_path, text)
    with serving(path, "--manifests", str(manifests), "--lenient") as server:
        assert len(addresses(server.port, "many.shop.svc.cluster.local")) == 12
        told = server.stop()
    assert f"[WARNING] {path}:3: directive 'dnssec' of CoreDNS is not supported yet" in told
    assert f"[WARNING] {path}:4: directive 'frobnicate' is not known" in told


def test_check_explains_a_corefile(tmp_path: Path) -> None:
    path = corefile(tmp_path, "example.org:5353 {\n bind 127.0.0.1\n whoami\n reload\n}\n")
    done = subprocess.run(
        command("check", str(path)), capture_output=True, text=True, check=True, env=environment()
    )
    assert "example.org." in done.stdout
    assert "port 5353 on 127.0.0.1" in done.stdout
    assert "read again every 15 to 45 s" in " ".join(done.stdout.split())


def test_check_says_where_the_error_is(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n forward\n}\n")
    done = subprocess.run(
        command("check", str(path)), capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 1
    assert done.stderr == (f"kdns: {path}:2: forward: expected at least 2 arguments, got 0\n")


def test_coredns_command_line_serves(tmp_path: Path) -> None:
    """`-conf FILE` without a command, and no warning with the default Corefile's flags."""
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n whoami\n}\n")
    done = subprocess.run(
        command("-conf", str(path), "-version"),
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.startswith("kdns-")


def test_a_pidfile_that_cannot_be_written_is_told_of_and_costs_no_answer(tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n bind 127.0.0.1\n whoami\n}\n")
    with serving(path, "-pidfile", str(tmp_path / "none" / "pid")) as server:
        told = server.stop()
    assert "cannot write the process ID to " in told
    assert "Traceback" not in told


def test_stops_cleanly_on_sigterm(tmp_path: Path, manifests: Path) -> None:
    text = ". {\n bind 127.0.0.1\n errors\n log\n kubernetes cluster.local\n}\n"
    with serving(corefile(tmp_path, text), "--manifests", str(manifests)) as server:
        addresses(server.port, "many.shop.svc.cluster.local")
        told = server.stop()
        assert server.process.returncode == 0, told
    assert '"A IN many.shop.svc.cluster.local. udp ' in told
    assert "[INFO] SIGTERM: Shutting down servers then terminating\n" in told
    assert "Traceback" not in told
    assert "Warning" not in told
