"""A kubeconfig gives a connection, or one line that names the file and what is wrong in it."""

import base64
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from kdns.kube.credentials import CredentialsError
from kdns.kube.kubeconfig import kubeconfig


class Certificates(Protocol):
    @property
    def ca(self) -> Path: ...
    @property
    def cert(self) -> Path: ...
    @property
    def key(self) -> Path: ...


def config(tmp_path: Path, user: dict[str, Any], **cluster: object) -> Path:
    """A kubeconfig with the context `dev`, which is the current one, and `other`."""
    path = tmp_path / "config"
    server = {"server": "https://10.0.0.1:6443", **cluster}
    context = {"cluster": "c", "user": "u"}
    document = {
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": name, "context": context} for name in ("dev", "other")],
        "current-context": "dev",
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    path = config(tmp_path, {"token": "t"}, **{"tls-server-name": "kube", "proxy-url": "http://p"})
    connection = await kubeconfig(str(path), "other")
    assert connection.server == "https://10.0.0.1:6443"
    assert (connection.server_hostname, connection.proxy) == ("kube", "http://p")
    assert await connection.authorization(None) == "Bearer t"


async def test_an_empty_file_means_the_environments(tmp_path: Path) -> None:
    path = config(tmp_path, {"token": "t"})
    environ = {"KUBECONFIG": f"{tmp_path / 'missing'}{os.pathsep}{path}"}
    connection = await kubeconfig(environ=environ)
    assert await connection.authorization(None) == "Bearer t"


async def test_embedded_certificates_are_used(tmp_path: Path, certificates: Certificates) -> None:
    user = {
        "client-certificate-data": embedded(certificates.cert.read_bytes()),
        "client-key-data": embedded(certificates.key.read_bytes()),
    }
    authority = {"certificate-authority-data": embedded(certificates.ca.read_bytes())}
    connection = await kubeconfig(str(config(tmp_path, user, **authority)))
    assert connection.ssl is not None
    assert len(connection.ssl.get_ca_certs()) == 1
    assert await connection.authorization(None) == ""


async def test_relative_paths_are_relative_to_the_kubeconfig(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    path = config(tmp_path, {"token": "t"}, **{"certificate-authority": "ca.crt"})
    connection = await kubeconfig(str(path))
    assert connection.ssl is not None
    assert len(connection.ssl.get_ca_certs()) == 1


async def test_skipping_verification_is_obeyed(tmp_path: Path) -> None:
    path = config(tmp_path, {}, **{"insecure-skip-tls-verify": True})
    connection = await kubeconfig(str(path))
    assert connection.ssl is not None
    assert connection.ssl.verify_mode is ssl.CERT_NONE


# What stands within it and is of no use


def embedded(content: bytes) -> str:
    return base64.b64encode(content).decode()


CA, CERT, KEY = "certificate-authority-data", "client-certificate-data", "client-key-data"
BASE64 = r"expected base64 of (PEM certificates|an unencrypted PEM key) \("


@pytest.mark.parametrize("entry", [("cluster 'c'", CA), ("user 'u'", CERT), ("user 'u'", KEY)])
@pytest.mark.parametrize(
    ("held", "why"),
    [
        ("@@@", BASE64),
        ("a", BASE64),
        (" \n", BASE64 + "it is empty"),
        (None, BASE64 + "it is null"),
        (7, BASE64 + "it is no text but int"),
        ("-----BEGIN CERTIFICATE-----\n", BASE64 + "it is PEM itself, not encoded"),
        (embedded(b"nothing of use"), r"expected (PEM certificates|an unencrypted PEM key) \("),
    ],
)
async def test_what_is_embedded_and_of_no_use_is_said_by_entry_and_field(
    tmp_path: Path, certificates: Certificates, entry: tuple[str, str], held: object, why: str
) -> None:
    called, name = entry
    fields: dict[str, object] = {
        CA: embedded(certificates.ca.read_bytes()),
        CERT: embedded(certificates.cert.read_bytes()),
        KEY: embedded(certificates.key.read_bytes()),
    } | {name: held}
    authority = {CA: fields.pop(CA)}
    path = config(tmp_path, fields, **authority)
    told = f"^kubeconfig {path}: {called}, {name}: {why}"
    with pytest.raises(CredentialsError, match=told) as caught:
        await kubeconfig(str(path))
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value).replace(str(path), "")


async def test_what_is_embedded_and_empty_is_as_good_as_none(tmp_path: Path) -> None:
    connection = await kubeconfig(
        str(config(tmp_path, {CERT: "", KEY: "", "token": "t"}, **{CA: ""}))
    )
    assert connection.ssl is not None
    assert await connection.authorization(None) == "Bearer t"


@pytest.mark.parametrize("as_file", [False, True])
async def test_a_key_that_is_not_the_certificates_is_said_to_be(
    tmp_path: Path, certificates: Certificates, as_file: bool
) -> None:
    user = {KEY: embedded(certificates.key.read_bytes())}
    shown = f"client certificate {certificates.ca}" if as_file else f"user 'u', {CERT}"
    if as_file:
        user["client-certificate"] = str(certificates.ca)
    else:
        user[CERT] = embedded(certificates.ca.read_bytes())
    told = f"user 'u', {KEY}: expected the key of {shown}, found that of another certificate$"
    with pytest.raises(CredentialsError, match=told):
        await kubeconfig(str(config(tmp_path, user)))


@pytest.mark.parametrize(("given", "missing"), [(CERT, "key"), (KEY, "certificate")])
async def test_a_certificate_without_a_key_is_said_by_its_field(
    tmp_path: Path, certificates: Certificates, given: str, missing: str
) -> None:
    content = certificates.cert if given == CERT else certificates.key
    path = config(tmp_path, {given: embedded(content.read_bytes())})
    with pytest.raises(CredentialsError, match=f"user 'u', {given} comes without its {missing}$"):
        await kubeconfig(str(path))


async def test_an_entry_of_one_of_several_files_is_said_to_be_of_that_one(tmp_path: Path) -> None:
    path = config(tmp_path, {}, **{CA: "@"})
    empty = tmp_path / "empty"
    empty.write_text("clusters: []")
    with pytest.raises(CredentialsError, match=f"cluster 'c' in {path}, {CA}: expected base64"):
        await kubeconfig(environ={"KUBECONFIG": f"{empty}{os.pathsep}{path}"})


async def test_embedded_text_may_be_wrapped_and_is_not_looked_at_without_tls(
    tmp_path: Path, certificates: Certificates
) -> None:
    text = base64.encodebytes(certificates.ca.read_bytes()).decode()
    connection = await kubeconfig(str(config(tmp_path, {}, **{CA: text})))
    assert connection.ssl is not None
    path = config(tmp_path, {}, server="http://10.0.0.1", **{CA: "@"})
    assert (await kubeconfig(str(path))).ssl is None


async def test_no_error_tells_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The loader has errors that hold an entry as a whole."""
    user = {"exec": {"apiVersion": None, "command": "true"}, "password": "unheard-of"}
    with pytest.raises(CredentialsError, match="exec plugin gave no credentials"):
        await kubeconfig(str(config(tmp_path, user)))
    assert "apiVersion in users[name=u]/user/exec" in caplog.text
    assert "unheard-of" not in caplog.text


def plugin(tmp_path: Path, script: str) -> dict[str, Any]:
    """A user whose exec plugin is a Python script."""
    path = tmp_path / "plugin.py"
    path.write_text(script)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": [str(path)]}}


def credential(status: dict[str, str]) -> str:
    version = "client.authentication.k8s.io/v1"
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


async def test_an_exec_plugin_runs_again_only_after_a_refusal(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text(credential({"token": "one"}))
    user = plugin(tmp_path, f"print(open({str(answer)!r}).read())")
    connection = await kubeconfig(str(config(tmp_path, user)))
    answer.write_text(credential({"token": "two", "expirationTimestamp": "2100-01-01T00:00:00Z"}))
    assert await connection.authorization(None) == "Bearer one"
    assert await connection.authorization("Bearer one") == "Bearer two"
    answer.write_text(credential({"token": "three"}))
    assert await connection.authorization("Bearer one") == "Bearer two", "fresh already"
    assert await connection.authorization("Bearer two") == "Bearer three"


async def test_a_certificate_of_an_exec_plugin_is_shown_and_renewed_after_a_refusal(
    tmp_path: Path, certificates: Certificates
) -> None:
    status = {
        "clientCertificateData": certificates.cert.read_text(),
        "clientKeyData": certificates.key.read_text(),
    }
    answer = tmp_path / "answer"
    answer.write_text(credential(status))
    user = plugin(tmp_path, f"print(open({str(answer)!r}).read())")
    connection = await kubeconfig(str(config(tmp_path, user)))
    before = connection.ssl
    assert await connection.authorization(None) == ""
    assert connection.ssl is before
    assert await connection.authorization("") == ""
    assert connection.ssl is not before, "no connection made with the old certificate is reused"
    answer.write_text(credential(status | {"clientKeyData": "no key"}))
    with pytest.raises(
        CredentialsError, match="exec plugin's clientKeyData: expected an unencrypted PEM key"
    ):
        await connection.authorization("")


async def test_an_exec_plugin_that_fails_is_an_error_of_the_kubeconfig(tmp_path: Path) -> None:
    path = config(tmp_path, plugin(tmp_path, "raise SystemExit(3)"))
    with pytest.raises(CredentialsError, match=r"config: its exec plugin gave no credentials"):
        await kubeconfig(str(path))


async def test_an_exec_plugin_that_does_not_end_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = config(tmp_path, plugin(tmp_path, "import signal; signal.pause()"))
    with pytest.raises(CredentialsError, match=r"config: there are no credentials after 0 s"):
        await kubeconfig(str(path), patience=0)


async def test_a_token_that_would_end_its_header_is_none(tmp_path: Path) -> None:
    script = f"print({credential({'token': 'a' + chr(10) + 'Host: b'})!r})"
    with pytest.raises(CredentialsError, match="its token holds what no token does"):
        await kubeconfig(str(config(tmp_path, plugin(tmp_path, script))))


async def test_an_unknown_context_is_answered_with_those_there_are(tmp_path: Path) -> None:
    path = config(tmp_path, {})
    with pytest.raises(CredentialsError, match="no context 'prod'; its contexts are: dev, other"):
        await kubeconfig(str(path), "prod")


async def test_a_kubeconfig_without_a_current_context_asks_for_one(tmp_path: Path) -> None:
    path = config(tmp_path, {})
    path.write_text(path.read_text().replace("current-context: dev", ""))
    with pytest.raises(CredentialsError, match="name one of its contexts: dev, other"):
        await kubeconfig(str(path))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: b", "{", "\x00", "contexts: 1", "contexts: [{name: dev}]\ncurrent-context: dev"],
)
async def test_what_is_no_kubeconfig_is_one_line_that_names_the_file(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CredentialsError, match=f"^kubeconfig {path}: ") as caught:
        await kubeconfig(str(path))
    assert "\n" not in str(caught.value)


async def test_a_missing_kubeconfig_or_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="missing: no such file"):
        await kubeconfig(str(tmp_path / "missing"))
    path = config(tmp_path, {}, **{"certificate-authority": "none.crt"})
    with pytest.raises(CredentialsError, match=r"none\.crt"):
        await kubeconfig(str(path))


async def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = config(tmp_path, {"tokenFile": str(tmp_path / "token")})
    told = f"^kubeconfig {path}: {tmp_path}/token: No such file or directory$"
    with pytest.raises(CredentialsError, match=told):
        await kubeconfig(str(path))


@pytest.mark.parametrize(
    "server", ["10.0.0.1", "ftp://10.0.0.1", "https://a:66666", "https://a..b"]
)
async def test_a_server_that_is_no_url_is_quoted(tmp_path: Path, server: str) -> None:
    path = config(tmp_path, {}, server=server)
    with pytest.raises(CredentialsError, match=rf"server '{server}': expected an http"):
        await kubeconfig(str(path))


@pytest.mark.parametrize(
    "proxy", ["socks5://u:secret@10.0.0.1:1080", "10.0.0.1:8080", "http://a..b"]
)
async def test_a_proxy_that_cannot_be_asked_is_told_without_its_password(
    tmp_path: Path, proxy: str
) -> None:
    path = config(tmp_path, {}, **{"proxy-url": proxy})
    with pytest.raises(CredentialsError, match=r"cluster proxy-url: expected an http\(s\) URL$"):
        await kubeconfig(str(path))


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64])
async def test_a_name_that_no_certificate_has_is_told(tmp_path: Path, name: str) -> None:
    path = config(tmp_path, {}, **{"tls-server-name": name})
    with pytest.raises(CredentialsError, match=f"tls-server-name '{name}': expected a host name"):
        await kubeconfig(str(path))


# What it costs


def loaded(code: str) -> set[str]:
    """The modules of the kubernetes package that a program has loaded at its end."""
    listing = "print(*(m for m in __import__('sys').modules if m.startswith('kubernetes')))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return set(run.stdout.split())


def test_a_pod_and_an_endpoint_never_import_kubernetes() -> None:
    code = "from kdns.kube import client, credentials; credentials.endpoint('http://x')"
    assert loaded(code) == set()


def test_a_kubeconfig_never_imports_the_generated_client_and_leaves_room_for_it() -> None:
    code = (
        "import asyncio\nfrom kdns.kube.kubeconfig import kubeconfig\n"
        "try: asyncio.run(kubeconfig('/nonexistent'))\n"
        "except Exception as error: assert 'no such file' in str(error), error\n"
    )
    assert loaded(code) == set()
    again = code + "from kubernetes.aio.client import Configuration, CoreV1Api\n"
    assert "kubernetes.aio.client.api.core_v1_api" in loaded(again)


async def test_a_kubernetes_package_that_is_there_already_is_used_as_it_is(
    tmp_path: Path,
) -> None:
    code = (
        "import kubernetes.aio.config, asyncio\nfrom kdns.kube.kubeconfig import kubeconfig\n"
        f"asyncio.run(kubeconfig({str(config(tmp_path, {}))!r}))"
    )
    assert "kubernetes.aio.config.kube_config" in loaded(code)
