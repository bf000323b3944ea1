"""tls: what a block of tls:// shows, and whom it lets in."""

from pathlib import Path

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import tls
from kdns.plugins.chain import refuse
from kdns.plugins.encryption import ServerTls
from kdns.plugins.tls import Tls
from tests.certificates import Certificates
from tests.plugins.fakes import FakeParts, settings

FILES = "tls.crt tls.key"


def read(text: str) -> Tls:
    configured = settings(tls.parse, text)
    assert isinstance(configured, Tls)
    return configured


@pytest.mark.parametrize(
    ("text", "server", "said"),
    [
        (f"tls {FILES}", ServerTls("tls.crt", "tls.key"), ""),
        (f"tls {FILES} ca.crt", ServerTls("tls.crt", "tls.key", "ca.crt"), ""),
        (
            f"tls {FILES} {{\n client_auth nocert\n}}",
            ServerTls("tls.crt", "tls.key"),
            "",
        ),
        (
            f"tls {FILES} {{\n client_auth request\n}}",
            ServerTls("tls.crt", "tls.key"),
            "",
        ),
        (
            f"tls {FILES} ca.crt {{\n client_auth verify_if_given\n}}",
            ServerTls("tls.crt", "tls.key", "ca.crt", "verify_if_given"),
            "; a client's certificate, if it has one, must be of ca.crt",
        ),
        (
            f"tls {FILES} {{\n client_auth require_and_verify\n}}",
            ServerTls("tls.crt", "tls.key", "", "require_and_verify"),
            "; for clients with a certificate of a CA that this host trusts",
        ),
    ],
)
def test_files_and_clients_are_as_written(text: str, server: ServerTls, said: str) -> None:
    configured = read(text)
    assert configured.server == server
    assert configured.explain() == f"over TLS with the certificate tls.crt{said}"


def test_certificates_that_nobody_would_look_at_are_told_not_to_be_asked_for() -> None:
    (warning,) = read(f"tls {FILES} {{\n client_auth request\n}}").warnings()
    assert warning.startswith("Corefile:2: client_auth request has no effect")
    assert read(f"tls {FILES}").warnings() == ()


def test_a_block_has_the_certificate_of_the_files(certificates: Certificates) -> None:
    parts = FakeParts()
    configured = read(f"tls {certificates.cert} {certificates.key}")
    assert configured.build(parts, refuse) is refuse
    assert parts.block.certificates is not None


def test_a_file_that_cannot_be_used_is_told_with_the_directive(tmp_path: Path) -> None:
    missing = tmp_path / "tls.crt"
    told = f"^Corefile:2: tls: {missing}: No such file or directory; expected a file$"
    with pytest.raises(CorefileError, match=told):
        read(f"tls {missing} {missing}").build(FakeParts(), refuse)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls", r"^Corefile:2: tls: expected 2 to 3 arguments, got 0"),
        ("tls tls.crt", r"^Corefile:2: tls: expected 2 to 3 arguments, got 1"),
        ("tls a b c d", r"^Corefile:2: tls: expected 2 to 3 arguments, got 4"),
        ("tls a b {\n frobnicate\n}", r"^Corefile:3: tls: unknown option 'frobnicate'"),
        ("tls a b {\n client_auth\n}", r"^Corefile:3: client_auth: expected 1 argument"),
        ("tls a b {\n client_auth no yes\n}", r"^Corefile:3: client_auth: expected 1 argument"),
        ("tls a b {\n client_auth some\n}", r"^Corefile:3: client_auth: expected one of nocert, "),
        ("tls a b {\n client_auth require\n}", r"^Corefile:3: .* expected require_and_verify"),
        (
            "tls a b {\n client_auth nocert\n client_auth nocert\n}",
            r"^Corefile:4: client_auth stands twice",
        ),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(tls.parse, text)
