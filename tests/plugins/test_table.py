"""The directives' order is CoreDNS's; others come by packages, and none is overlooked."""

import re
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from kdns.corefile.errors import CorefileError
from kdns.corefile.model import Directive
from kdns.corefile.parser import parse
from kdns.plugins import table, whoami
from kdns.plugins.configured import Configured, Plugin
from kdns.plugins.table import BUILT_IN, OF_COREDNS, Known, plugins, understand
from tests.corefiles import HELM, KUBEADM

COREDNS_ORDER = re.findall(
    r"\S+",
    "root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket "
    "reload nsid bufsize bind debug trace ready health pprof shed prometheus errors log dnstap "
    "local dns64 any chaos loadbalance tsig rewrite autopath acl cache header dnssec tls minimal "
    "template transfer hosts route53 azure clouddns k8s_external kubernetes file auto secondary "
    "etcd loop forward grpc erratic whoami on sign view nomad",
)
OUR_OWN = {"top", "rrl"}


def understood(
    text: str, known: tuple[Plugin, ...] = BUILT_IN, *, lenient: bool = False
) -> tuple[list[Known], list[str]]:
    (block,) = parse(text, "Corefile", environ={}, read=lambda path: [])
    return understand(block, (".",), known, lenient=lenient)


def test_the_order_is_coredns_s() -> None:
    names = [plugin.name for plugin in BUILT_IN if plugin.name not in OUR_OWN]
    assert names == [name for name in COREDNS_ORDER if name in names]


def test_every_directive_of_coredns_is_known_or_known_to_be_missing() -> None:
    ours = {plugin.name for plugin in BUILT_IN} - OUR_OWN
    assert ours | set(OF_COREDNS) == set(COREDNS_ORDER)
    assert not ours & set(OF_COREDNS)


@pytest.mark.parametrize("text", [KUBEADM, HELM])
def test_default_corefiles_are_understood(text: str) -> None:
    found, warnings = understood(text)
    assert [known.directive.name for known in found] == [
        "reload",
        "ready",
        "health",
        "prometheus",
        "errors",
        "loadbalance",
        "cache",
        "kubernetes",
        "loop",
        "forward",
    ]
    assert warnings == []


def test_the_order_in_the_corefile_does_not_matter_but_among_equals() -> None:
    found, _ = understood(". {\nforward b 10.0.0.1\nlog\nforward a 10.0.0.1\nerrors\n}")
    shown = [(k.directive.name, k.directive.line) for k in found]
    assert shown == [("errors", 5), ("log", 3), ("forward", 2), ("forward", 4)]


@pytest.mark.parametrize("name", ["log", "bind", "forward"])
def test_some_directives_may_be_repeated(name: str) -> None:
    argument = {"log": ".", "bind": "127.0.0.1", "forward": ". 10.0.0.1"}[name]
    found, _ = understood(f". {{\n{name} {argument}\n{name} {argument}\n}}")
    assert len(found) == 2


def test_others_stand_once_in_a_block() -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3: errors stands twice in one block"):
        understood(". {\nerrors\nerrors\n}")


def test_an_unknown_directive_is_an_error_with_its_place() -> None:
    with pytest.raises(CorefileError) as caught:
        understood(". {\nlog\nfrward . 1.1.1.1\n}")
    expected = "Corefile:3: directive 'frward' is not known; --lenient leaves it out"
    assert str(caught.value) == expected


def test_a_directive_of_coredns_is_told_apart_from_a_misspelling() -> None:
    with pytest.raises(CorefileError, match=r"'etcd' of CoreDNS is not supported yet; --lenient"):
        understood(". {\netcd\n}")


def test_lenient_leaves_out_what_is_not_known_and_says_so() -> None:
    found, warnings = understood(". {\netcd {\nfallthrough\n}\nodd\nlog\n}", lenient=True)
    assert [known.directive.name for known in found] == ["log"]
    assert warnings == [
        "Corefile:2: directive 'etcd' of CoreDNS is not supported yet: left out",
        "Corefile:5: directive 'odd' is not known: left out",
    ]


def test_lenient_forgives_no_bad_arguments() -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:3: log: unknown option"):
        understood(". {\nlog {\nodd\n}\n}", lenient=True)


# Other people's directives.


def parse_theirs(directive: Directive, zones: tuple[str, ...]) -> Configured:
    return whoami.parse(directive, zones)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that packages may name; what stands in it is the test's to say."""
    module = ModuleType("their_package")
    monkeypatch.setitem(__import__("sys").modules, "their_package", module)
    return module


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    entries = [EntryPoint(name, f"their_package:{name}", table.ENTRY_POINTS) for name in names]
    monkeypatch.setattr(table, "installed", lambda: entries)


def test_a_package_adds_a_directive_before_another(
    monkeypatch: pytest.MonkeyPatch, theirs: ModuleType
) -> None:
    theirs.__dict__["blocklist"] = Plugin("blocklist", parse_theirs, before="forward")
    theirs.__dict__["audit"] = Plugin("audit", parse_theirs)
    install(monkeypatch, "blocklist", "audit")
    names = [plugin.name for plugin in plugins()]
    assert names[0] == "audit"
    assert names.index("blocklist") == names.index("forward") - 1
    found, _ = understood(". {\nforward . 10.0.0.1\nblocklist\naudit\nloop\n}", plugins())
    assert [known.directive.name for known in found] == ["audit", "loop", "blocklist", "forward"]


def test_one_package_may_stand_before_another(
    monkeypatch: pytest.MonkeyPatch, theirs: ModuleType
) -> None:
    theirs.__dict__["a"] = Plugin("a", parse_theirs, before="b")
    theirs.__dict__["b"] = Plugin("b", parse_theirs, before="log")
    install(monkeypatch, "a", "b")
    names = [plugin.name for plugin in plugins()]
    assert names[names.index("a") :][:3] == ["a", "b", "log"]


def test_without_packages_there_are_our_own() -> None:
    assert plugins() == BUILT_IN


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (Plugin("log", parse_theirs), "there is a directive 'log' already"),
        (Plugin("x", parse_theirs, before="nothing"), "before='nothing' names no directive"),
        (whoami, "expected a kdns.plugins.configured.Plugin, got <module"),
        (None, "AttributeError: module 'their_package' has no attribute 'x'"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, theirs: ModuleType, what: object, reason: str
) -> None:
    if what is not None:
        theirs.__dict__["x"] = what
    install(monkeypatch, "x")
    with pytest.raises(CorefileError) as caught:
        plugins()
    place = "entry point x = their_package:x of group kdns.plugins"
    assert str(caught.value).startswith(f"{place}: {reason}")
