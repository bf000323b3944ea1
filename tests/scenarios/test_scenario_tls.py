"""DNS over TLS (RFC 7858) by the real program: asked, renewed, reloaded, handed over."""

import os
import shutil
import signal
import socket
import ssl
import struct
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.certificates import Certificates
from tests.scenarios.test_scenario_answers import MANIFEST
from tests.scenarios.test_scenario_reload import reload
from tests.scenarios.test_scenario_workers import children
from tests.serving import Server, free_port, serving

HOST = "127.0.0.1"
NAMES = ("many.shop.svc.cluster.local", "none.shop.svc.cluster.local", "example.org")
workers = pytest.mark.parametrize("workers", ["1", "2"])


class Written:
    """A Corefile with a plain block, and mostly one of TLS with files that can be replaced."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.path = folder / "Corefile"
        self.manifest = folder / "many.yaml"
        self.manifest.write_text(MANIFEST)
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.certificates = certificates
        self.port, self.metrics = free_port(), free_port()
        self.show(certificates.cert, certificates.key)

    def show(self, cert: Path, key: Path) -> None:
        """Have these take the place of the certificate and the key that there are."""
        for source, target in ((cert, self.cert), (key, self.key)):
            beside = target.with_suffix(".beside")
            shutil.copy(source, beside)
            beside.replace(target)

    def write(self, *, keys: str = ". tls://.:{port}", more: str = "", tls: str = "") -> "Written":
        files = f"tls {self.cert} {self.key} {tls}" if "tls://" in keys else ""
        self.path.write_text(
            f"{keys.format(port=self.port)} {{\n bind {HOST}\n prometheus {HOST}:{self.metrics}\n"
            f" kubernetes cluster.local\n {files}\n}}\n{more}"
        )
        return self

    def ask(
        self, name: str = NAMES[0], context: ssl.SSLContext | None = None
    ) -> dns.message.Message:
        """Over a new connection. Raises ssl.SSLError and OSError."""
        return dns.query.tls(
            dns.message.make_query(name, "A", use_edns=True),
            HOST,
            port=self.port,
            timeout=20,
            ssl_context=context or self.certificates.client_context(),
            server_hostname="kubernetes",
        )

    def connect(self) -> ssl.SSLSocket:
        """A new connection."""
        sock = socket.create_connection((HOST, self.port), timeout=20)
        context = self.certificates.client_context()
        return context.wrap_socket(sock, server_hostname="kubernetes")

    def shown(self) -> bytes:
        """The certificate that a new connection gets to see."""
        with self.connect() as sock:
            return sock.getpeercert(binary_form=True) or b""


@pytest.fixture
def written(tmp_path: Path, certificates: Certificates) -> Written:
    return Written(tmp_path, certificates)


def answers(message: dns.message.Message) -> tuple[int, set[str], int]:
    """What it says; the order of addresses is another each time."""
    records = {text for rrset in message.answer for text in rrset.to_text().splitlines()}
    return message.rcode(), records, message.flags


def held(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def serve(written: Written, *args: str) -> AbstractContextManager[Server]:
    return serving(written.path, "--manifests", str(written.manifest), *args)


@workers
def test_the_same_is_answered_as_over_tcp(written: Written, workers: str) -> None:
    with serve(written.write(), "--workers", workers) as server:
        for name in NAMES:
            query = dns.message.make_query(name, "A", use_edns=True)
            plain = dns.query.tcp(query, HOST, port=server.port, timeout=20)
            assert answers(written.ask(name)) == answers(plain)
        # Where TLS is spoken, nothing is over UDP.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((HOST, written.port))
        with urllib.request.urlopen(f"http://{HOST}:{written.metrics}/metrics") as page:
            told = page.read().decode()
        of = f'family="1",proto="tcp",server="tls://{HOST}:{written.port}",type="A"'
        for metric in (
            f'coredns_dns_requests_total{{{of},view="",zone="."}} 3.0',
            'kdns_tls_handshakes_total{outcome="done"} 3.0',
        ):
            assert metric in told
        assert f"tls://.:{written.port}\n" in server.stop()


def test_many_questions_are_in_flight_on_one_connection(written: Written) -> None:
    with serve(written.write()), written.connect() as sock:
        queries = [dns.message.make_query(NAMES[n % 3], "A", id=n).to_wire() for n in range(100)]
        sock.sendall(b"".join(struct.pack("!H", len(query)) + query for query in queries))
        stream = sock.makefile("rb")
        ids = []
        for _ in queries:
            (size,) = struct.unpack("!H", stream.read(2))
            ids.append(dns.message.from_wire(stream.read(size)).id)
        assert sorted(ids) == list(range(100))


def test_what_is_no_tls_is_not_answered_and_costs_nobody_else(written: Written) -> None:
    with serve(written.write()) as server:
        with pytest.raises((EOFError, ConnectionError, dns.exception.DNSException)):
            dns.query.tcp(dns.message.make_query("a", "A"), HOST, port=written.port, timeout=20)
        assert written.ask().rcode() == dns.rcode.NOERROR
        assert "Traceback" not in server.stop()


@workers
def test_clients_without_a_certificate_are_turned_away_where_one_is_demanded(
    written: Written, workers: str
) -> None:
    ca = written.certificates.ca
    written.write(tls=f"{ca} {{\n client_auth require_and_verify\n }}")
    ours = written.certificates.client_context()
    ours.load_cert_chain(written.certificates.new_cert, written.certificates.new_key)
    other = written.certificates.client_context()
    other.load_cert_chain(written.certificates.other_ca, written.certificates.other_key)
    with serve(written, "--workers", workers):
        assert written.ask(context=ours).rcode() == dns.rcode.NOERROR
        for context in (None, other):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                written.ask(context=context)


@workers
def test_a_certificate_that_is_renewed_is_shown_without_being_told(
    written: Written, workers: str
) -> None:
    with serve(written.write(), "--workers", workers):
        assert written.shown() == held(written.certificates.cert)
        written.show(written.certificates.new_cert, written.certificates.new_key)
        # Whichever worker it is that a connection comes to.
        for _ in range(10):
            assert written.shown() == held(written.certificates.new_cert)
            assert written.ask().rcode() == dns.rcode.NOERROR


@workers
def test_tls_comes_and_goes_with_the_corefile(written: Written, workers: str) -> None:
    with serve(written.write(keys="."), "--workers", workers) as server:
        with pytest.raises(ConnectionRefusedError):
            written.ask()
        written.write()
        reload(server)
        assert written.ask().rcode() == dns.rcode.NOERROR
        written.write(keys=".")
        reload(server)
        assert closed(written) == "refused"
        query = dns.message.make_query(NAMES[0], "A")
        assert dns.query.udp(query, HOST, port=server.port, timeout=20).rcode() == 0
        assert "Traceback" not in server.stop()


def closed(written: Written) -> str:
    """Ask until nobody listens there any more: what is gone goes after what is new has come."""
    while True:
        try:
            written.ask()
        except ConnectionRefusedError:
            return "refused"
        except (OSError, EOFError):
            continue


@workers
def test_a_port_may_change_from_plain_to_tls_and_back(written: Written, workers: str) -> None:
    plain = f"elsewhere:{written.port} {{\n bind {HOST}\n whoami\n}}\n"
    query = dns.message.make_query("elsewhere", "A")
    with serve(written.write(keys=".", more=plain), "--workers", workers) as server:
        assert dns.query.udp(query, HOST, port=written.port, timeout=20).rcode() == 0
        written.write()
        reload(server)
        assert tls_at_last(written) == dns.rcode.NOERROR
        written.write(keys=".", more=plain)
        reload(server)
        assert dns.query.udp(query, HOST, port=written.port, timeout=20).rcode() == 0
        assert "Traceback" not in server.stop()


def tls_at_last(written: Written) -> int:
    """Who connected while both were there may have come to the one that goes."""
    while True:
        try:
            return written.ask().rcode()
        except (OSError, EOFError):
            continue


@workers
def test_a_certificate_that_cannot_be_used_leaves_the_present_corefile(
    written: Written, workers: str
) -> None:
    with serve(written.write(), "--workers", workers) as server:
        written.write(tls=str(written.path))
        reload(server, "reload failed")
        assert f"tls: {written.path}: expected certificates of CAs in PEM" in server.output[-1]
        assert written.ask().rcode() == dns.rcode.NOERROR


def test_a_certificate_that_cannot_be_used_is_told_at_the_start(written: Written) -> None:
    written.cert.unlink()
    with serving(written.write().path, wait=False) as server:
        said, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 1
        told = f"Corefile:5: tls: {written.cert}: No such file or directory; expected a file"
        assert told in said.splitlines()[-1]


def test_a_worker_that_finds_no_certificate_answers_over_all_else(written: Written) -> None:
    with serve(written.write(), "--workers", "2") as server:
        written.show(written.certificates.new_cert, written.certificates.key)
        os.kill(children(server.process.pid)[0], signal.SIGKILL)
        server.wait_for("nobody is answered over TLS until it changes")
        query = dns.message.make_query(NAMES[0], "A")
        for _ in range(10):
            assert dns.query.udp(query, HOST, port=server.port, timeout=20).rcode() == 0
        written.show(written.certificates.new_cert, written.certificates.new_key)
        for _ in range(10):
            assert written.ask().rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "1")])
def test_one_takes_the_place_of_another(written: Written, first: str, second: str) -> None:
    control = str(written.path.parent / "control")
    with serve(written.write(), "--takeover", control, "--workers", first) as before:
        asked = written.connect()  # accepted, or about to be
        with serve(written, "--takeover", control, "--workers", second) as after:
            assert before.process.wait(timeout=60) == 0
            assert after.port == before.port
            for _ in range(10):
                assert written.ask().rcode() == dns.rcode.NOERROR
            assert "Traceback" not in after.stop()
        asked.close()


def test_who_asks_over_tls_when_told_to_stop_is_answered(written: Written) -> None:
    with serve(written.write()) as server, written.connect() as sock:
        query = dns.message.make_query(NAMES[0], "A").to_wire()
        server.process.send_signal(signal.SIGTERM)
        sock.sendall(struct.pack("!H", len(query)) + query)
        stream = sock.makefile("rb")
        (size,) = struct.unpack("!H", stream.read(2))
        assert dns.message.from_wire(stream.read(size)).rcode() == dns.rcode.NOERROR
        # With a close_notify: a reader that is cut off would raise.
        assert stream.read() == b""
        assert server.process.wait(timeout=60) == 0
