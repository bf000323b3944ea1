"""The addresses of this host, as its kernel tells them."""

import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from kdns.plugins import interfaces
from kdns.plugins.interfaces import host_addresses, interface_addresses


def test_the_loopback_interface_has_the_loopback_address() -> None:
    assert "127.0.0.1" in interface_addresses("lo")


def test_an_interface_that_is_not_there_has_none() -> None:
    assert interface_addresses("nosuch0") == ()


def test_the_hosts_addresses_can_be_bound_and_are_not_link_local() -> None:
    for packed in host_addresses():
        address = ip_address(packed)
        assert not address.is_link_local
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))


def tables(
    monkeypatch: pytest.MonkeyPatch, v4: list[tuple[str, str]], v6: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(interfaces, "_ipv4", lambda: v4)
    monkeypatch.setattr(interfaces, "_ipv6", lambda: v6)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])


def test_all_addresses_of_an_interface_count_but_link_local_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    v4 = [("eth0", "192.0.2.1"), ("eth0", "192.0.2.2"), ("eth0", "169.254.1.1"), ("x", "10.0.0.1")]
    tables(monkeypatch, v4, [("eth0", "fe80::1"), ("eth0", "2001:db8::1")])
    assert interface_addresses("eth0") == ("192.0.2.1", "192.0.2.2", "2001:db8::1")


def test_loopback_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    tables(monkeypatch, [("lo", "127.0.0.1"), ("eth0", "192.0.2.1")], [("lo", "::1")])
    assert host_addresses() == (bytes((192, 0, 2, 1)),)
    tables(monkeypatch, [("lo", "127.0.0.1")], [])
    assert host_addresses() == (bytes((127, 0, 0, 1)),)


def test_a_host_without_ipv6_has_no_table_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(interfaces, "IF_INET6", tmp_path / "none")
    assert all(":" not in address for address in interface_addresses("lo"))


def test_ipv6_addresses_are_read_from_the_kernels_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "if_inet6"
    table.write_text("20010db8000000000000000000000001 02 40 00 80     eth9\n")
    monkeypatch.setattr(interfaces, "IF_INET6", table)
    assert interface_addresses("eth9") == ("2001:db8::1",)


def test_a_kernel_that_does_not_tell_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "SIOCGIFCONF", 0xFFFF)
    assert "127.0.0.1" not in interface_addresses("lo")


def test_a_system_without_ioctl_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert "127.0.0.1" not in interface_addresses("lo")


def test_labels_of_further_addresses_belong_to_their_interface() -> None:
    assert interfaces._label(b"eth0:1\0\0\0\0\0\0\0\0\0\0rest") == "eth0"
