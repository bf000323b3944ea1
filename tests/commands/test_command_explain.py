"""kdns explain, on the example cluster."""

import json
from pathlib import Path

import pytest

from kdns.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def explain(*args: str) -> int:
    return main(["explain", *args, "--manifests", str(EXAMPLES / "shop")])


def test_a_name_that_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("cart", "--from", "shop") == 0
    assert "service shop/cart" in capsys.readouterr().out


def test_a_name_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("crt.shop.svc.cluster.local") == 1
    assert "did you mean cart.shop?" in capsys.readouterr().out


def test_a_name_that_an_upstream_is_asked_for() -> None:
    assert explain("www.example.test.") == 3


def test_the_corefile_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("cart", "-conf", str(EXAMPLES / "Corefile"), "--from", "a.test, b.test") == 3
    assert "search a.test" in capsys.readouterr().out


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


def test_a_corefile_or_a_cluster_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("web", "-conf", "nowhere/Corefile") == 2
    assert main(["explain", "web", "--manifests", "nowhere.json"]) == 2
    assert main(["explain", "web", "--kubeconfig", "nowhere/config"]) == 2
    assert "nowhere/config" in capsys.readouterr().err
