"""kdns compare, against running servers of the example cluster."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdns.cli import main
from tests.serving import serving

SHOP = str(Path(__file__).parents[2] / "examples" / "shop")
COREFILE = """. {
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 30
    }
}
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server of the example cluster."""
    corefile = tmp_path_factory.mktemp("compare") / "Corefile"
    corefile.write_text(COREFILE)
    with serving(corefile, "--manifests", SHOP) as server:
        yield server.port


def compare(one: int, other: int, *args: str) -> int:
    return main(["compare", f"127.0.0.1:{one}", f"127.0.0.1:{other}", "--rate", "100000", *args])


def test_two_servers_of_one_cluster_are_alike(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(port, port, "--manifests", SHOP) == 0
    assert "unexpected" in capsys.readouterr().out


def test_a_service_that_one_server_does_not_know_is_found(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(COREFILE.replace("pods insecure", "namespaces kube-system"))
    with serving(corefile, "--manifests", SHOP) as server:
        status = compare(port, server.port, "--manifests", SHOP, "--transport", "udp", "--json")
        body = json.loads(capsys.readouterr().out)
        compare(port, server.port, "--manifests", SHOP)
        shown = capsys.readouterr().out
    assert "\npayments.svc.cluster.local. A, over UDP and TCP: namespace payments\n" in shown
    assert "\n  A NOERROR" in shown
    assert "\n  B NXDOMAIN" in shown
    unexpected = {one["name"] for one in body["differences"] if one["kind"] == "unexpected"}
    assert status == 1
    assert "cart.shop.svc.cluster.local." in unexpected
    assert body["tally"]["unexpected"] == len(
        [one for one in body["differences"] if one["kind"] == "unexpected"]
    )


def test_questions_beyond_the_limit_are_told(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(port, port, "--manifests", SHOP, "--limit", "10") == 0
    assert "more questions were not asked: --limit 10" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_told_at_once(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert compare(port, held.getsockname()[1], "--manifests", SHOP) == 2
    assert "expected a DNS server there" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["[::1", "[::1]53"])
def test_brackets_stand_around_an_address(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", place, "127.0.0.1", "--manifests", SHOP]) == 2
    assert "expected [ADDRESS] or [ADDRESS]:PORT" in capsys.readouterr().err


def test_a_zone_that_is_no_domain_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "127.0.0.1", "127.0.0.1", "--zone", "cluster..local"])
    assert "--zone: expected a domain: an empty label" in capsys.readouterr().err


def test_a_place_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "coredns", "127.0.0.1", "--manifests", SHOP]) == 2
    assert "expected an IP address" in capsys.readouterr().err
