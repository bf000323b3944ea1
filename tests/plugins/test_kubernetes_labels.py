"""What a name asks for, in CoreDNS's words for it; and who asks."""

import pytest

from kdns.plugins.kubernetes_labels import asked_for, client
from kdns.wire import name

APEX = name.from_text("cluster.local")
ERROR = {"parse-error": "invalid query name"}


@pytest.mark.parametrize(
    ("qname", "said"),
    [
        ("", {}),
        ("svc.", {"kind": "svc"}),
        ("shop.svc.", {"kind": "svc", "namespace": "shop"}),
        ("cart.shop.svc.", {"kind": "svc", "namespace": "shop", "service": "cart"}),
        (
            "10-1-0-1.shop.pod.",
            {"kind": "pod", "namespace": "shop", "service": "10-1-0-1"},
        ),
        (
            "db-0.db.shop.svc.",
            {"kind": "svc", "namespace": "shop", "service": "db", "endpoint": "db-0"},
        ),
        (
            "_http._tcp.web.shop.svc.",
            {
                "kind": "svc",
                "namespace": "shop",
                "service": "web",
                "port-name": "http",
                "protocol": "tcp",
            },
        ),
        (r"a\.b.shop.svc.", {"kind": "svc", "namespace": "shop", "service": r"a\.b"}),
        ("cart.shop.", ERROR),
        ("a.b.c.cart.shop.svc.", ERROR),
    ],
)
def test_a_name_says_what_is_asked_for(qname: str, said: dict[str, str]) -> None:
    key = name.from_text(f"{qname}cluster.local.")
    assert asked_for(key, APEX) == {f"kubernetes/{part}": text for part, text in said.items()}


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ((), {}),
        (("shop/a",), {"client-namespace": "shop", "client-pod-name": "a"}),
        (("shop/a", "shop/b"), {"client-namespace": "shop"}),
        (("other/b", "shop/a"), {}),
    ],
)
def test_of_a_client_is_said_what_only_one_has(pods: tuple[str, ...], said: dict[str, str]) -> None:
    found = client(bytes(4), lambda address: pods)
    assert found == {f"kubernetes/{part}": text for part, text in said.items()}
