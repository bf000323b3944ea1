"""Each source of credentials gives a connection, or one line that says what is wrong."""

import ssl
from pathlib import Path
from typing import Protocol

import pytest

from kdns.kube.credentials import (
    TOKEN_LIFE,
    Connection,
    CredentialsError,
    anonymous,
    endpoint,
    in_cluster,
)


class Certificates(Protocol):
    @property
    def ca(self) -> Path: ...
    @property
    def cert(self) -> Path: ...
    @property
    def key(self) -> Path: ...


class Clock:
    """Seconds that pass only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path, certificates: Certificates) -> Path:
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    return tmp_path


# The service account of a pod


async def test_in_a_cluster_server_and_token_are_the_pods(account: Path) -> None:
    connection = in_cluster(ENVIRON, account, Clock())
    assert connection.server == "https://10.96.0.1:443"
    assert await connection.authorization(None) == "Bearer one"
    assert connection.ssl is not None
    assert [ca["subject"] for ca in connection.ssl.get_ca_certs()] == [
        ((("commonName", "kubernetes"),),)
    ]


def test_an_ipv6_service_address_is_bracketed(account: Path) -> None:
    connection = in_cluster(ENVIRON | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, account, Clock())
    assert connection.server == "https://[fd00::1]:443"


async def test_the_token_is_read_again_after_a_minute_and_not_before(account: Path) -> None:
    clock = Clock()
    connection = in_cluster(ENVIRON, account, clock)
    (account / "token").write_text("two")
    clock.now = TOKEN_LIFE - 1
    assert await connection.authorization(None) == "Bearer one"
    clock.now = TOKEN_LIFE
    assert await connection.authorization(None) == "Bearer two"


async def test_a_refused_token_is_read_again_at_once(account: Path) -> None:
    connection = in_cluster(ENVIRON, account, Clock())
    (account / "token").write_text("two")
    assert await connection.authorization("Bearer one") == "Bearer two"
    (account / "token").write_text("three")
    assert await connection.authorization("Bearer one") == "Bearer two", "fresh already"


async def test_a_token_file_gone_for_a_moment_does_not_lose_a_token_that_works(
    account: Path,
) -> None:
    clock = Clock()
    connection = in_cluster(ENVIRON, account, clock)
    (account / "token").unlink()
    clock.now = TOKEN_LIFE
    assert await connection.authorization(None) == "Bearer one"
    with pytest.raises(CredentialsError, match="token: No such file"):
        await connection.authorization("Bearer one")


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "\u00e9"])
def test_what_is_no_token_is_not_sent_as_one(account: Path, text: str) -> None:
    (account / "token").write_text(text)
    with pytest.raises(CredentialsError, match=r"service account token .*automount"):
        in_cluster(ENVIRON, account, Clock())


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_missing_file_of_the_account_is_named(account: Path, missing: str) -> None:
    (account / missing).unlink()
    with pytest.raises(CredentialsError, match=f"{account / missing}: No such file"):
        in_cluster(ENVIRON, account, Clock())


def test_outside_a_pod_the_error_says_what_to_use_instead(account: Path) -> None:
    with pytest.raises(CredentialsError, match="`endpoint` or a `kubeconfig`"):
        in_cluster({}, account, Clock())


# An explicit endpoint


def test_an_endpoint_without_files_is_anonymous() -> None:
    assert endpoint("http://127.0.0.1:8080/") == Connection("http://127.0.0.1:8080")
    secure = endpoint("https://10.0.0.1:6443")
    assert secure.authorization is anonymous
    assert secure.ssl is not None
    assert secure.ssl.verify_mode is ssl.CERT_REQUIRED


def test_an_endpoint_shows_its_certificate_and_trusts_only_its_ca(
    certificates: Certificates,
) -> None:
    files = (str(certificates.cert), str(certificates.key), str(certificates.ca))
    connection = endpoint("https://127.0.0.1:6443", *files)
    assert connection.ssl is not None
    assert len(connection.ssl.get_ca_certs()) == 1


@pytest.mark.parametrize(
    "url", ["", "10.0.0.1:6443", "ftp://x", "https://", "http://x:port", "http://[::1"]
)
def test_an_endpoint_that_is_no_url_is_quoted(url: str) -> None:
    with pytest.raises(CredentialsError, match=r"endpoint .*expected http"):
        endpoint(url)


@pytest.mark.parametrize(
    ("cert", "key", "ca", "message"),
    [
        ("none", "tls.key", "ca.crt", "client certificate .*none: No such file"),
        ("tls.crt", "", "ca.crt", "tls.crt comes without its key"),
        ("", "tls.key", "ca.crt", "tls.key comes without its certificate"),
        ("tls.key", "tls.crt", "ca.crt", "client certificate .*tls.key: expected PEM certificates"),
        ("tls.crt", "ca.crt", "ca.crt", "client key .*ca.crt: expected an unencrypted PEM key"),
        (
            "ca.crt",
            "tls.key",
            "ca.crt",
            "client key .*tls.key: expected the key of .*ca.crt, found",
        ),
        ("tls.crt", "tls.key", "tls.key", "CA certificate .*tls.key: expected PEM certificates"),
        ("tls.crt", "tls.key", "none", "CA certificate .*none: No such file"),
    ],
)
def test_bad_certificate_files_are_named(
    certificates: Certificates, cert: str, key: str, ca: str, message: str
) -> None:
    folder = certificates.ca.parent
    files = (str(folder / name) if name else "" for name in (cert, key, ca))
    with pytest.raises(CredentialsError, match=message) as caught:
        endpoint("https://10.0.0.1", *files)
    assert "\n" not in str(caught.value)
