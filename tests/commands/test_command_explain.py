"""kdns explain, on the example cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdns.cli import UNREAD, main

EXAMPLES = Path(__file__).parents[2] / "examples"


def explain(*args: str) -> int:
    return main(["explain", *args, "--manifests", str(EXAMPLES / "shop")])


def test_a_name_that_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("cart", "--from", "shop") == 0
    assert "service shop/cart" in capsys.readouterr().out


def test_a_name_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("crt.shop.svc.cluster.local") == 1
    told = capsys.readouterr().out
    assert "did you mean cart.shop?" in told
    # What is wrong with the name, and not with what a search list makes of it.
    assert "no service 'local'" not in told


def test_without_from_it_is_asked_as_by_a_pod_of_the_default_namespace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert explain("cart.shop") == 0
    told = capsys.readouterr().out
    assert "cart.shop.default" in told
    assert "as a pod of the namespace default asks" in told


def test_the_name_that_is_nearly_right_is_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    explain("crt.shop")
    told = capsys.readouterr().out
    assert told.index("did you mean cart.shop?") < told.index("'default' has no service")


@pytest.mark.parametrize("name", ["cart.shop.svc.cluster.local.", "10.96.0.10"])
def test_a_name_that_is_whole_is_asked_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(name) == 0
    assert "default" not in capsys.readouterr().out


def test_search_lists_end_in_the_zone_of_the_corefile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(". {\n kubernetes in-addr.arpa corp.test\n}\n")
    assert explain("cart.shop", "-conf", str(corefile), "--json") == 0
    assert json.loads(capsys.readouterr().out)["search"] == [
        "default.svc.corp.test",
        "svc.corp.test",
        "corp.test",
    ]


def test_a_name_that_an_upstream_is_asked_for() -> None:
    assert explain("www.example.test.") == 3


def test_the_corefile_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("cart", "-conf", str(EXAMPLES / "Corefile"), "--from", "a.test, b.test") == 3
    assert "cart.a.test. " in capsys.readouterr().out


def test_names_are_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    explain("cart", "--from", "payments")
    assert "│ cart.payments.svc.cluster.local. │ search list" in capsys.readouterr().out


def test_who_answers_is_told_of_each_name_where_blocks_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text("cluster.local {\n kubernetes\n}\n. {\n forward . 127.0.0.1\n}\n")
    explain("nope", "--from", "shop", "-conf", str(corefile))
    told = capsys.readouterr().out
    assert "by the block" not in told
    assert "kubernetes in" in told


def test_a_machine_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("10.96.0.10", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["type"] == "PTR"
    assert body["tried"][0]["records"][0].endswith("PTR kube-dns.kube-system.svc.cluster.local.")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("web", "B"), "is no type"),
        (("a..b",), "a..b"),
        (("web", "--from", "shpo"), "there is no namespace 'shpo'"),
        (("web", "--from", "shop/x"), "the namespace has no pod 'x'"),
    ],
)
def test_a_question_that_is_none(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(*args) == 2
    assert said in capsys.readouterr().err


def test_a_search_list_is_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("cart", "--from", "a..b,c") == 2
    assert "--from: expected a name, got 'a..b': an empty label" in capsys.readouterr().err


def test_no_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("") == 2
    assert "NAME: expected a name, got nothing" in capsys.readouterr().err


def test_manifests_with_nothing_in_them_explain_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "cart", "--manifests", str(tmp_path)]) == 2
    assert f"kdns: {tmp_path}: nothing of a cluster" in capsys.readouterr().err


def test_a_corefile_or_a_cluster_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("web", "-conf", "nowhere/Corefile") == 2
    assert main(["explain", "web", "--manifests", "nowhere.json"]) == 2
    assert main(["explain", "web", "--kubeconfig", "nowhere/config"]) == 2
    assert "nowhere/config" in capsys.readouterr().err


def test_what_cannot_be_written_is_told() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "kdns", "explain", "web", "--json"]
        ended = subprocess.run(
            [*command, "--manifests", str(EXAMPLES / "shop")],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    told = b"kdns: [Errno 28] No space left on device\n"
    assert (ended.returncode, ended.stderr) == (2, told)


def test_who_reads_only_the_beginning_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "kdns", "explain", "web", "--json"]
    ended = subprocess.run(
        [*command, "--manifests", str(EXAMPLES / "shop")],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (UNREAD, b"")
