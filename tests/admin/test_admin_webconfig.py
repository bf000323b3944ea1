"""Metrics over TLS: what the file says, whom it lets in, and certificates that are renewed."""

import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from kdns.admin.http import AdminServer
from kdns.admin.webconfig import Secured, read_web_config
from kdns.plugins.parts import HttpReply, Routes, WebConfigError
from tests.certificates import Certificates

ADDRESS = "127.0.0.1:0"
ROUTES: Routes = {ADDRESS: {"/metrics": lambda: HttpReply(200, b"x 1\n")}}
VERIFY = "client_auth_type: RequireAndVerifyClientCert"
CERTIFICATE = "  cert_file: tls.crt\n  key_file: tls.key\n"


@pytest.fixture
def folder(certificates: Certificates, tmp_path: Path) -> Path:
    """With a certificate, its key, and CAs."""
    for path in (certificates.ca, certificates.cert, certificates.key, certificates.other_ca):
        shutil.copy(path, tmp_path)
    return tmp_path


def web_config(folder: Path, *lines: str) -> Secured:
    path = folder / "web.yml"
    path.write_text("tls_server_config:\n" + CERTIFICATE + "".join(f"  {line}\n" for line in lines))
    return read_web_config(path)


@pytest.fixture
async def server() -> AsyncIterator[AdminServer]:
    made = AdminServer()
    await made.open(ROUTES)
    yield made
    await made.close()


async def got(server: AdminServer, context: ssl.SSLContext | None) -> bytes:
    """What it says, over a connection of its own; over HTTP without a context."""
    scheme = "http" if context is None else "https"
    url = f"{scheme}://127.0.0.1:{server.ports[ADDRESS]}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context or False) as reply:
        return await reply.read()


def trusting(certificates: Certificates, *, own: bool = False) -> ssl.SSLContext:
    context = certificates.client_context()
    if own:
        context.load_cert_chain(certificates.cert, certificates.key)
    return context


async def test_metrics_are_served_over_tls(
    server: AdminServer, folder: Path, certificates: Certificates
) -> None:
    await server.renew(ROUTES, {ADDRESS: web_config(folder)})
    assert await got(server, trusting(certificates)) == b"x 1\n"


async def test_who_speaks_http_there_gets_nothing(server: AdminServer, folder: Path) -> None:
    await server.renew(ROUTES, {ADDRESS: web_config(folder)})
    with pytest.raises(aiohttp.ClientError):
        await got(server, None)


async def test_clients_may_need_a_certificate(
    server: AdminServer, folder: Path, certificates: Certificates
) -> None:
    await server.renew(ROUTES, {ADDRESS: web_config(folder, VERIFY, "client_ca_file: ca.crt")})
    assert await got(server, trusting(certificates, own=True)) == b"x 1\n"
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await got(server, trusting(certificates))


async def test_versions_are_those_that_the_file_says(
    server: AdminServer, folder: Path, certificates: Certificates
) -> None:
    await server.renew(ROUTES, {ADDRESS: web_config(folder, "min_version: TLS13")})
    old = trusting(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await got(server, old)


async def test_an_address_changes_to_tls_and_back_on_the_same_port(
    server: AdminServer, folder: Path, certificates: Certificates
) -> None:
    await server.renew(ROUTES)
    assert await got(server, None) == b"x 1\n"
    port = server.ports[ADDRESS]
    await server.renew(ROUTES, {ADDRESS: web_config(folder)})
    assert await got(server, trusting(certificates)) == b"x 1\n"
    await server.renew(ROUTES)
    assert (await got(server, None), server.ports[ADDRESS]) == (b"x 1\n", port)


async def test_a_certificate_that_was_renewed_on_the_disk_is_the_next_handshakes(
    server: AdminServer, folder: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    await server.renew(ROUTES, {ADDRESS: web_config(folder)})
    key = (folder / "tls.key").read_bytes()
    (folder / "tls.key").write_bytes(b"half of it")
    assert await got(server, trusting(certificates)) == b"x 1\n"
    assert "expected a certificate and its key" in caplog.text
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.crt").unlink()
    assert await got(server, trusting(certificates)) == b"x 1\n"
    shutil.copy(certificates.other_ca, folder / "tls.crt")
    shutil.copy(certificates.cert, folder / "tls.crt")
    assert await got(server, trusting(certificates)) == b"x 1\n"


def test_files_that_say_the_same_are_alike(folder: Path) -> None:
    assert web_config(folder) == web_config(folder, "min_version: TLS12")
    assert web_config(folder) != web_config(folder, "min_version: TLS13")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected tls_server_config with cert_file and key_file"),
        ("- a", "expected tls_server_config with"),
        ("a: [", "expected YAML: "),
        ("tls_server_config:\n  cert_file: tls.crt\n", "expected tls_server_config.key_file"),
        (
            "tls_server_config: {}\nbasic_auth_users: {}\n",
            "basic_auth_users: kdns has not this; expected tls_server_config",
        ),
        (
            "tls_server_config:\n  cipher_suites: [x]\n",
            "tls_server_config.cipher_suites: kdns has not this; expected cert_file, key_file, ",
        ),
        ("tls_server_config:\n  cert_file: 1\n", "tls_server_config.cert_file: expected a text"),
        (
            f"tls_server_config:\n{CERTIFICATE}  min_version: TLS10\n",
            "tls_server_config.min_version: expected one of TLS12, TLS13, got 'TLS10'",
        ),
        (
            f"tls_server_config:\n{CERTIFICATE}  client_ca_file: ca.crt\n",
            "expected both or none of tls_server_config.client_ca_file and a client_auth_type",
        ),
        ("tls_server_config:\n  cert_file: tls.crt\n  key_file: no.key\n", "No such file"),
        ("tls_server_config:\n  cert_file: tls.key\n  key_file: tls.crt\n", "expected a certif"),
        (
            f"tls_server_config:\n{CERTIFICATE}  client_ca_file: tls.key\n  {VERIFY}\n",
            "client_ca_file: expected CAs in PEM: ",
        ),
    ],
)
def test_what_cannot_be_is_told(folder: Path, text: str, reason: str) -> None:
    path = folder / "web.yml"
    path.write_text(text)
    with pytest.raises(WebConfigError) as caught:
        read_web_config(path)
    assert reason in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(WebConfigError, match=r"none\.yml: No such file or directory; expected a"):
        read_web_config(tmp_path / "none.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff")
    with pytest.raises(WebConfigError, match=r"web\.yml: expected UTF-8"):
        read_web_config(tmp_path / "web.yml")
