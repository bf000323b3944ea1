"""bind: addresses and interfaces to listen on."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import bind
from kdns.plugins.bind import Bind
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


def parsed(text: str) -> Bind:
    configured = settings(bind.parse, text)
    assert isinstance(configured, Bind)
    return configured


def test_addresses_are_listened_on_in_their_order_and_once() -> None:
    assert parsed("bind 127.0.0.2 ::1 127.0.0.2").hosts() == ("127.0.0.2", "::1")


def test_addresses_are_written_in_one_way() -> None:
    assert parsed("bind 0:0::1").hosts() == ("::1",)


def test_an_interface_stands_for_its_addresses() -> None:
    assert "127.0.0.1" in parsed("bind lo").hosts()


def test_exceptions_are_left_out() -> None:
    configured = parsed("bind lo 127.0.0.9 {\nexcept 127.0.0.1\n}")
    assert "127.0.0.1" not in configured.hosts()
    assert "127.0.0.9" in configured.hosts()
    assert configured.explain() == "listens on lo 127.0.0.9, not 127.0.0.1"
    assert parsed("bind 127.0.0.9").explain() == "listens on 127.0.0.9"


def test_an_excepted_interface_takes_all_its_addresses_out() -> None:
    assert parsed("bind 127.0.0.1 127.0.0.9 {\nexcept lo\n}").hosts() == ("127.0.0.9",)


def test_it_does_nothing_per_query() -> None:
    assert parsed("bind 127.0.0.1").build(FakeParts(), refuse) is refuse


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bind", r"^Corefile:2: bind: expected at least 1 argument"),
        (
            "bind 127.0.0.1 nosuch0",
            r"^Corefile:2: bind: expected an IP address or a network interface, got 'nosuch0'",
        ),
        ("bind 127.0.0.1 {\nexcept\n}", r"^Corefile:3: except: expected at least 1 argument"),
        ("bind 127.0.0.1 {\nexcept nosuch0\n}", r"^Corefile:3: bind: expected an IP address"),
        ("bind 127.0.0.1 {\nonly lo\n}", r"^Corefile:3: bind: unknown option 'only'; expected ex"),
        ("bind 127.0.0.1 {\nexcept lo {\n}\n}", r"^Corefile:3: except: expected no block"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(bind.parse, text)
