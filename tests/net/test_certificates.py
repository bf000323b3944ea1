"""Certificates of listeners: which files are of use, when they are read, and whom they let in."""

import logging
import os
import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from kdns.net.certificates import FileCertificates, server_context
from kdns.plugins.encryption import CertificateError, ClientAuth, ServerTls
from kdns.plugins.rereading import MAX_OCTETS
from tests.certificates import Certificates


def of(certificates: Certificates, **changed: str) -> ServerTls:
    names = {"cert": str(certificates.cert), "key": str(certificates.key)} | changed
    return ServerTls(names["cert"], names["key"], names.get("ca", ""))


class Client:
    """A client in memory."""

    def __init__(self, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="kubernetes", session=session
        )

    def shake_hands(self, server: ssl.SSLContext) -> ssl.SSLObject:
        """The server's side, once both are done. Raises ssl.SSLError, whoever gives up."""
        there = server.wrap_bio(self.outgoing, self.incoming, server_side=True)
        waiting = {self.tls, there}
        while waiting:
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    continue
        return there


def shown(certificates: Certificates, context: ssl.SSLContext | None) -> bytes:
    """The certificate that a client gets to see."""
    assert context is not None
    client = Client(certificates.client_context())
    client.shake_hands(context)
    return client.tls.getpeercert(binary_form=True) or b""


def held(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


# What is offered.


@pytest.mark.parametrize(
    ("offered", "chosen"), [([], None), (["dot"], "dot"), (["h2", "dot"], "dot"), (["h2"], None)]
)
def test_dns_over_tls_is_offered_by_name_and_not_demanded(
    certificates: Certificates, offered: list[str], chosen: str | None
) -> None:
    """RFC 7301, section 3.2; RFC 7858, section 3.1."""
    context = certificates.client_context()
    if offered:
        context.set_alpn_protocols(offered)
    client = Client(context)
    client.shake_hands(server_context(of(certificates)))
    assert client.tls.selected_alpn_protocol() == chosen


def test_nothing_older_than_tls_1_2_is_spoken_and_nothing_renegotiated(
    certificates: Certificates,
) -> None:
    context = server_context(of(certificates))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_session_is_resumed(certificates: Certificates) -> None:
    """RFC 7858, section 3.4. In TLS 1.2, where the ticket is part of the handshake."""
    server, context = server_context(of(certificates)), certificates.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Client(context)
    first.shake_hands(server)
    again = Client(context, session=first.tls.session)
    again.shake_hands(server)
    assert (first.tls.session_reused, again.tls.session_reused) == (False, True)


# Clients.


@pytest.mark.parametrize(
    ("auth", "shows", "let_in"),
    [
        ("nocert", "nothing", True),
        ("nocert", "other", True),
        ("verify_if_given", "nothing", True),
        ("verify_if_given", "ours", True),
        ("verify_if_given", "other", False),
        ("require_and_verify", "nothing", False),
        ("require_and_verify", "ours", True),
        ("require_and_verify", "other", False),
    ],
)
def test_clients_are_let_in_by_their_certificates(
    certificates: Certificates, auth: ClientAuth, shows: str, let_in: bool
) -> None:
    settings = of(certificates, ca=str(certificates.ca))
    server = server_context(replace(settings, client_auth=auth))
    context = certificates.client_context()
    if shows == "ours":
        context.load_cert_chain(certificates.new_cert, certificates.new_key)
    elif shows == "other":
        context.load_cert_chain(certificates.other_ca, certificates.other_key)
    try:
        Client(context).shake_hands(server)
    except ssl.SSLError:
        assert not let_in
    else:
        assert let_in


def test_what_the_file_of_cas_has_is_believed_itself(certificates: Certificates) -> None:
    """As in CoreDNS: whoever has signed it need not be there."""
    settings = of(certificates, ca=str(certificates.new_cert))
    server = server_context(replace(settings, client_auth="require_and_verify"))
    context = certificates.client_context()
    context.load_cert_chain(certificates.new_cert, certificates.new_key)
    Client(context).shake_hands(server)


def test_without_a_file_of_cas_those_of_the_system_are_believed(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    settings = ServerTls(str(certificates.cert), str(certificates.key), "", "require_and_verify")
    context = certificates.client_context()
    context.load_cert_chain(certificates.new_cert, certificates.new_key)
    Client(context).shake_hands(server_context(settings))


# Files.


@pytest.mark.parametrize("which", ["cert", "key", "ca"])
def test_a_file_that_is_missing_is_named(certificates: Certificates, which: str) -> None:
    told = "^/no/file: No such file or directory; expected a file$"
    with pytest.raises(CertificateError, match=told):
        server_context(of(certificates, **{which: "/no/file"}))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("cert", "expected a certificate in PEM"),
        ("key", r"expected the key of .*tls\.crt, in PEM and without a password"),
        ("ca", "expected certificates of CAs in PEM"),
    ],
)
def test_a_file_that_is_damaged_is_named(
    certificates: Certificates, tmp_path: Path, which: str, expected: str
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(certificates.cert.read_bytes()[:100])
    with pytest.raises(CertificateError, match=f"^{damaged}: {expected}$"):
        server_context(of(certificates, **{which: str(damaged)}))


def test_a_key_with_a_password_is_told_and_nobody_is_asked_for_it(
    certificates: Certificates, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    secret = tmp_path / "secret.key"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    told = rf"^{secret}: expected the key of .*, in PEM and without a password"
    with pytest.raises(CertificateError, match=told):
        server_context(of(certificates, key=str(secret)))


def test_a_key_of_another_certificate_is_told(certificates: Certificates) -> None:
    told = r"new\.key: expected the key of .*tls\.crt, .*: key values mismatch$"
    with pytest.raises(CertificateError, match=told):
        server_context(of(certificates, key=str(certificates.new_key)))


def test_a_file_is_read_no_further_than_the_bound(
    certificates: Certificates, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_OCTETS + 1)
    with pytest.raises(CertificateError, match=f"^{large}: expected at most {MAX_OCTETS} octets"):
        server_context(of(certificates, cert=str(large)))


@pytest.mark.parametrize("name", ["", "\0", "/"])
def test_what_names_no_file_is_an_error_too(certificates: Certificates, name: str) -> None:
    with pytest.raises(CertificateError, match=r"expected a file|null byte"):
        FileCertificates(of(certificates, cert=name))


def test_a_pipe_is_not_waited_for(certificates: Certificates, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CertificateError, match=f"^{pipe}: expected a file$"):
        server_context(of(certificates, key=str(pipe)))


# Renewal.


class Mounted:
    """A folder as the kubelet mounts a secret: names lead through a link that is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def put(self, cert: Path, key: Path) -> None:
        """All at once."""
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        shutil.copy(cert, version / "tls.crt")
        shutil.copy(key, version / "tls.key")
        link = self.folder / "..new"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")

    @property
    def settings(self) -> ServerTls:
        return ServerTls(str(self.folder / "tls.crt"), str(self.folder / "tls.key"))


@pytest.fixture
def mounted(tmp_path: Path, certificates: Certificates) -> Mounted:
    made = Mounted(tmp_path)
    made.put(certificates.cert, certificates.key)
    return made


def test_a_certificate_that_is_renewed_is_shown_from_the_next_handshake_on(
    certificates: Certificates, mounted: Mounted
) -> None:
    files = FileCertificates(mounted.settings)
    assert shown(certificates, files.context()) == held(certificates.cert)
    mounted.put(certificates.new_cert, certificates.new_key)
    assert shown(certificates, files.context()) == held(certificates.new_cert)


def test_files_that_have_not_changed_are_not_read_again(mounted: Mounted) -> None:
    files = FileCertificates(mounted.settings)
    assert files.context() is files.context()


def test_what_is_half_written_or_gone_leaves_the_certificate_before(
    certificates: Certificates, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kdns.tls")
    files = FileCertificates(mounted.settings)
    mounted.put(certificates.new_cert, certificates.key)
    for _ in range(3):
        assert shown(certificates, files.context()) == held(certificates.cert)
    (mounted.folder / "..data").unlink()
    for _ in range(3):
        assert shown(certificates, files.context()) == held(certificates.cert)
    mounted.put(certificates.new_cert, certificates.new_key)
    assert shown(certificates, files.context()) == held(certificates.new_cert)
    assert all(message.endswith("; the one before goes on") for message in caplog.messages[:2])
    assert caplog.messages[2:] == [f"{mounted.folder}/tls.crt has changed: read again"]


def test_where_another_process_has_judged_the_files_they_may_come_later(
    certificates: Certificates, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is started anew must answer over all else meanwhile."""
    mounted.put(certificates.new_cert, certificates.key)
    files = FileCertificates(mounted.settings, judged=True)
    assert files.context() is None
    assert caplog.messages[0].endswith("; nobody is answered over TLS until it changes")
    mounted.put(certificates.new_cert, certificates.new_key)
    assert shown(certificates, files.context()) == held(certificates.new_cert)
