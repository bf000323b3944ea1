"""From a Corefile to blocks, the addresses that they listen on, and their directives."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdns import plan as plan_module
from kdns.corefile.address import Place
from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.plan import DEFAULT_COREFILE, Plan, make_plan, read_corefile, read_imports
from kdns.plugins import whoami
from kdns.plugins.configured import Configured, Plugin


def planned(text: str, *, port: int = 53, lenient: bool = False) -> Plan:
    return make_plan(text, "Corefile", environ={"ZONE": "env.example"}, port=port, lenient=lenient)


def blocks(plan: Plan) -> list[tuple[tuple[str, ...], int]]:
    return [(block.zones, block.port) for block in plan.blocks]


# The environment.


def test_a_variable_that_is_not_set_is_a_warning() -> None:
    plan = planned(". {\nwhoami\nchaos {$NAME} {%NAME%} {$ZONE}\n}")
    warning = "Corefile: the environment has no NAME: nothing stands in its place"
    assert plan.warnings == [warning]


def test_an_error_names_the_variables_that_are_not_set() -> None:
    told = r"^Corefile:2: bind: .*, got ''; the environment has no POD_IP$"
    with pytest.raises(CorefileError, match=told):
        planned(". {\nbind {$POD_IP}\n}")


# Blocks and ports.


def test_the_default_corefile_is_whoami_and_log_of_everything() -> None:
    plan = planned(DEFAULT_COREFILE.format(port=1053))
    assert blocks(plan) == [((".",), 1053)]
    assert [known.directive.name for known in plan.blocks[0].directives] == ["log", "whoami"]
    assert plan.warnings == []


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (".", [((".",), 5300)]),
        (".:53", [((".",), 53)]),
        ("dns://Example.Org", [(("example.org.",), 5300)]),
        ("a:1053 b c:1053", [(("a.", "c."), 1053), (("b.",), 5300)]),
        ("a, b", [(("a.", "b."), 5300)]),
        ("a A", [(("a.",), 5300)]),
        ("10.0.0.0/23", [(("0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa."), 5300)]),
        ("{$ZONE}", [(("env.example.",), 5300)]),
    ],
)
def test_keys_are_zones_and_ports(key: str, expected: list[tuple[tuple[str, ...], int]]) -> None:
    assert blocks(planned(f"{key} {{\nwhoami\n}}", port=5300)) == expected


@pytest.mark.parametrize("scheme", ["quic", "grpc", "https", "https3"])
def test_other_transports_are_not_served_yet(scheme: str) -> None:
    message = rf"^Corefile:1: {scheme}:// is not served yet; expected dns://, tls:// or no scheme"
    with pytest.raises(CorefileError, match=message):
        planned(f"{scheme}://. {{\nwhoami\n}}")


TLS = "{\ntls tls.crt tls.key\nwhoami\n}\n"


@pytest.mark.parametrize(
    ("key", "port"), [("tls://.", 853), ("tls://example.org:8853", 8853), ("TLS://10.0.0.0/8", 853)]
)
def test_a_block_of_tls_is_served_on_its_own_port(key: str, port: int) -> None:
    (block,) = planned(f"{key} {TLS}", port=5300).blocks
    assert block.places() == [Place("", port, "tls")]


def test_one_block_may_be_served_both_ways() -> None:
    plan = planned(f"a b tls://a tls://b {TLS}")
    assert [(block.zones, block.places()) for block in plan.blocks] == [
        (("a.", "b."), [Place("", 53)]),
        (("a.", "b."), [Place("", 853, "tls")]),
    ]
    assert plan.warnings == []


def test_a_certificate_without_tls_is_a_warning() -> None:
    message = "Corefile:2: tls has no effect: no zone of this block is of tls://"
    assert planned(f". {TLS}").warnings == [message]


def test_tls_without_a_certificate_is_an_error() -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:1: tls://: expected a directive tls"):
        planned("tls://. {\nwhoami\n}")


def test_one_port_is_not_served_both_ways() -> None:
    message = r"^Corefile:5: every address, port 853: expected tls:// as in the block at Corefile:1"
    with pytest.raises(CorefileError, match=message):
        planned(f"tls://. {TLS}a:853 {{\nwhoami\n}}")


def test_one_port_has_one_certificate() -> None:
    assert len(planned(f"tls://. {TLS}tls://a {TLS}").listeners()) == 1
    message = r"^Corefile:6: every address, port 853: expected the same tls as at Corefile:2"
    with pytest.raises(CorefileError, match=message):
        planned(f"tls://. {TLS}tls://a {TLS.replace('tls.crt', 'other.crt')}")


def test_what_is_spoken_is_part_of_what_is_said() -> None:
    assert planned(f".:853 {TLS}").digest() != planned(f"tls://. {TLS}").digest()


@pytest.mark.parametrize("text", ["", "# nothing\n", "(snippet) {\nlog\n}\n"])
def test_a_corefile_that_serves_nothing_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:1: expected a server block, such as"):
        planned(text)


# Addresses.


def test_a_block_listens_everywhere_or_where_it_is_bound() -> None:
    plan = planned("a {\nwhoami\n}\nb {\nbind 127.0.0.1 ::1\nbind 127.0.0.2\n}")
    assert [block.hosts for block in plan.blocks] == [("",), ("127.0.0.1", "::1", "127.0.0.2")]


def test_blocks_share_listeners() -> None:
    plan = planned("a b:54 {\nbind 127.0.0.1\n}\nc {\nbind 127.0.0.1 ::1\n}\nd {\nlog\n}")
    found = {place: [block.zones for block in blocks] for place, blocks in plan.listeners().items()}
    assert found == {
        Place("127.0.0.1", 53): [("a.",), ("c.",)],
        Place("127.0.0.1", 54): [("b.",)],
        Place("::1", 53): [("c.",)],
        Place("", 53): [("d.",)],
    }


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (". {\nlog\n}\n. {\nlog\n}", r"zone \. on every address, port 53"),
        ("a b {\nlog\n}\nc A {\nlog\n}", r"zone a\. on every address, port 53"),
        (". {\nlog\n}\n.:53 {\nlog\n}", r"zone \. on every address, port 53"),
        (
            ". {\nbind 127.0.0.1\n}\n. {\nbind ::1 127.0.0.1\n}",
            r"zone \. on 127\.0\.0\.1, port 53",
        ),
    ],
)
def test_a_zone_is_served_once_on_one_address_and_port(text: str, where: str) -> None:
    with pytest.raises(CorefileError, match=f"^Corefile:4: {where} is served already by the block"):
        planned(text)


@pytest.mark.parametrize(
    "text",
    [
        ".:53 {\nlog\n}\n.:54 {\nlog\n}",
        "a {\nlog\n}\nb.a {\nlog\n}",
        ". {\nbind 127.0.0.1\n}\n. {\nbind ::1\n}",
    ],
)
def test_other_ports_zones_and_addresses_are_no_repetition(text: str) -> None:
    assert len(planned(text).blocks) == 2


# Directives.


def test_warnings_are_given_once_for_a_block_on_several_ports() -> None:
    plan = planned("a:1 b:2 {\nnosuch\n}\nc {\nneither\n}", lenient=True)
    assert [warning.split()[0] for warning in plan.warnings] == ["Corefile:2:", "Corefile:5:"]


def test_directives_know_the_zones_of_their_port() -> None:
    plan = planned("a:1 b:2 {\nloop\n}")
    told = [block.directives[0].settings.explain() for block in plan.blocks]
    assert ["of a." in told[0], "of b." in told[1]] == [True, True]


def test_unknown_directives_are_errors_unless_lenient() -> None:
    text = ". {\nautopath\nwhoami\n}"
    with pytest.raises(CorefileError, match=r"^Corefile:2: directive 'autopath' of CoreDNS is not"):
        planned(text)
    plan = planned(text, lenient=True)
    assert [known.directive.name for known in plan.blocks[0].directives] == ["whoami"]
    assert len(plan.warnings) == 1


def test_the_directives_that_are_known_may_be_said() -> None:
    def parse(directive: Directive, zones: tuple[str, ...]) -> Configured:
        return whoami.parse(Directive("whoami", "", 0), zones)

    known = (Plugin("theirs", parse),)
    plan = make_plan(". {\ntheirs\n}", "Corefile", environ={}, known=known)
    assert plan.blocks[0].directives[0].plugin.name == "theirs"


# Files.


def test_files_are_imported_from_beside_the_corefile(tmp_path: Path) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "b.server").write_text("b {\nwhoami\n}\n")
    (tmp_path / "custom" / "a.server").write_text("a {\nimport ../common\n}\n")
    (tmp_path / "custom" / "x.server").mkdir()
    (tmp_path / "common").write_text("log\n")
    main = tmp_path / "Corefile"
    main.write_text("import custom/*.server\nimport none/*.server\n. {\nimport common\n}\n")
    plan = make_plan(read_corefile(str(main)), str(main), environ={})
    assert [block.zones for block in plan.blocks] == [("a.",), ("b.",), (".",)]
    assert plan.blocks[0].directives[0].directive.file == str(tmp_path / "common")


def test_an_error_in_an_imported_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "common").write_text("\nodd\n")
    main = tmp_path / "Corefile"
    with pytest.raises(CorefileError) as caught:
        make_plan(". {\nimport common\n}", str(main), environ={})
    assert str(caught.value).startswith(f"{tmp_path}/common:2: directive 'odd' is not known")


def test_imports_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for each in ("c", "a", "b"):
        (tmp_path / each).write_text(each)
    assert [text for _, text in read_imports(str(tmp_path / "[abc]"))] == ["a", "b", "c"]
    assert read_imports(str(tmp_path / "none")) == []
    assert read_imports(str(tmp_path)) == []
    assert read_imports("a\0b") == []


def test_an_import_that_is_not_there_is_told_with_its_place(tmp_path: Path) -> None:
    main = tmp_path / "Corefile"
    with pytest.raises(CorefileError, match=r"Corefile:2: import none: neither a snippet"):
        make_plan(". {\nimport none\n}", str(main), environ={})


def test_an_import_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"log\n\xff")
    with pytest.raises(CorefileError, match=r"binary:2: expected UTF-8"):
        make_plan(". {\nimport binary\n}", str(tmp_path / "Corefile"), environ={})


def bad_bytes(path: Path) -> str:
    path.write_bytes(b". {\n\n\xff\n}")
    return rf"^{path}:3: expected UTF-8: "


def a_folder(path: Path) -> str:
    path.mkdir()
    return rf"^cannot read {path}: Is a directory; expected a file$"


def nothing(path: Path) -> str:
    return rf"^cannot read {path}: No such file or directory; expected a Corefile there$"


@pytest.mark.parametrize("make", [bad_bytes, a_folder, nothing])
def test_a_corefile_that_cannot_be_read_is_told_with_advice(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    path = tmp_path / "Corefile"
    message = make(path)
    with pytest.raises(CorefileError, match=message):
        read_corefile(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_corefile_that_may_not_be_read_is_told_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.touch(mode=0)
    with pytest.raises(CorefileError, match=r"Permission denied; see its mode$"):
        read_corefile(str(path))


def test_a_path_that_is_none_is_an_error_like_any_other() -> None:
    with pytest.raises(CorefileError, match=r"^cannot read 'a\\x00b': embedded null byte"):
        read_corefile("a\0b")


def test_a_corefile_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_COREFILE", 10)
    path = tmp_path / "Corefile"
    path.write_text("#" * 10)
    assert read_corefile(str(path)) == "#" * 10
    path.write_text("#" * 11)
    with pytest.raises(CorefileError, match=r"Corefile:1: expected at most 10 octets"):
        read_corefile(str(path))
