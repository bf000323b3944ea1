"""kdns check, of a Corefile and of a cluster's own objects over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kdns.cli import main
from tests.certificates import Certificates
from tests.corefiles import KUBEADM_BEFORE
from tests.migration.shapes import Objects, kubeadm


class Server:
    """An API server of these objects."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        named = parts[-2] in dict(Objects.PLURALS).values()
        plural, name = (parts[-2], parts[-1]) if named else (parts[-1], "")
        try:
            found = self.objects.find(plural, name, request.query.get("labelSelector", ""))
        except PermissionError:
            return self._status(403, f"{plural} is forbidden")
        if not named:
            return web.json_response({"kind": "List", "metadata": {}, "items": found})
        return web.json_response(found[0]) if found else self._status(404, "not found")

    def _status(self, code: int, message: str) -> web.Response:
        body = {"kind": "Status", "code": code, "message": message}
        return web.json_response(body, status=code)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(Objects(kubeadm()))
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def kubeconfig(folder: Path, url: str) -> str:
    file = folder / "config"
    context = {"name": "here", "context": {"cluster": "one", "user": "me"}}
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [context],
                "clusters": [{"name": "one", "cluster": {"server": url}}],
                "users": [{"name": "me", "user": {}}],
            }
        )
    )
    return str(file)


async def check(folder: Path, url: str, *args: str) -> int:
    line = ["check", "--from-cluster", "--kubeconfig", kubeconfig(folder, url), *args]
    return await asyncio.to_thread(main, line)


async def test_a_cluster_that_kdns_can_take_over(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await check(tmp_path, server.url) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(line) for line in lines} == {4}
    assert ["keeps", "service", "kube-dns 10.96.0.10"] in [line[:3] for line in lines]


async def test_a_cluster_that_must_be_mended_first(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = kubeadm()
    trees[2]["data"]["Corefile"] = KUBEADM_BEFORE.replace("loop", "frobnicate")
    server.objects = Objects(trees)
    assert await check(tmp_path, server.url) == 1
    assert "stops\tCorefile" in capsys.readouterr().out


async def test_a_cluster_that_may_not_be_read(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.objects.forbidden = ("deployments",)
    assert await check(tmp_path, server.url) == 2
    assert "deployments is forbidden" in capsys.readouterr().err


async def test_an_api_server_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await check(tmp_path, "http://127.0.0.1:1") == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_corefile_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "Corefile"
    file.write_text(KUBEADM_BEFORE)
    assert main(["check", str(file)]) == 0
    assert "pods insecure" in capsys.readouterr().out


def test_brackets_of_a_corefile_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Corefile"
    file.write_text(". {\n    template IN A {\n    match ^[a-z]+\n    }\n}\n")
    assert main(["check", str(file)]) == 0
    assert "^[a-z]+" in capsys.readouterr().out


def test_a_corefile_that_cannot_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Corefile"
    file.write_text(". {\n    frobnicate\n}\n")
    assert main(["check", str(file)]) == 1
    assert "Corefile:2" in capsys.readouterr().err


def test_a_certificate_that_cannot_be_used_is_found(
    tmp_path: Path, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Corefile"
    text = "tls://. {{\n    tls {cert} {key}\n}}\n"
    file.write_text(text.format(cert=certificates.cert, key=certificates.key))
    assert main(["check", str(file)]) == 0
    assert "tls, port 853 on every address" in " ".join(capsys.readouterr().out.split())
    file.write_text(text.format(cert=certificates.cert, key=tmp_path / "none"))
    assert main(["check", str(file)]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    told = f"tls: {tmp_path}/none: No such file or directory; expected a file"
    assert said.endswith(f"Corefile:2: {told}")


@pytest.mark.parametrize("args", [(), ("Corefile", "--from-cluster")])
def test_one_of_both_is_expected(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", *args])
    assert "expected a COREFILE, or --from-cluster" in capsys.readouterr().err
