"""What would change in the clusters of each distribution, and what stands in the way."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kdns.commands.surveying import survey
from kdns.migration.findings import Finding, Report, report
from tests.migration import shapes
from tests.migration.shapes import SHAPES, Objects, Tree, kubeadm

Change = Callable[[dict[str, Any]], object]


def reported(trees: list[Tree]) -> Report:
    return report(asyncio.run(survey(Objects(trees), "kube-system")), {})


def changed(**changes: Change) -> list[Tree]:
    """kubeadm's objects, with one of a kind changed."""
    trees = kubeadm()
    for tree in trees:
        change = changes.get(tree["kind"])
        if change is not None:
            change(tree)
    return trees


def container(tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = tree["spec"]["template"]["spec"]["containers"][0]
    return found


def with_corefile(text: str) -> list[Tree]:
    return changed(ConfigMap=lambda tree: tree["data"].update(Corefile=text))


def of(found: Report, part: str) -> list[Finding]:
    return [finding for finding in found.findings if finding.part == part]


@pytest.mark.parametrize("name", SHAPES)
def test_a_distribution_is_known_by_its_marks(name: str) -> None:
    assert reported(SHAPES[name]()).flavour == name


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "GKE"])
def test_nothing_stops_kdns_in_what_distributions_ship(name: str) -> None:
    stops = [finding for finding in reported(SHAPES[name]()).findings if finding.weight == "stops"]
    assert stops == []


def test_kube_dns_has_no_corefile_and_its_stub_domains_are_named() -> None:
    found = reported(SHAPES["GKE"]())
    assert found.stops
    assert of(found, "Corefile")[0].there == "ConfigMap kube-dns: stubDomains"


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("kubeadm", "nobody puts CoreDNS back"),
        ("k3s", "--disable coredns"),
        ("EKS", "remove the add-on"),
        ("AKS", "beside it"),
        ("GKE", "scale its autoscaler"),
        ("RKE2", "disable rke2-coredns"),
    ],
)
def test_who_would_put_coredns_back_is_told(name: str, then: str) -> None:
    assert then in of(reported(SHAPES[name]()), "cluster")[0].then


def test_each_block_says_what_its_directives_do() -> None:
    found = of(reported(kubeadm()), "block .:53")
    assert "kubernetes" in [finding.there for finding in found]
    assert {finding.weight for finding in found} == {"keeps"}


@pytest.mark.parametrize("name", ["k3s", "AKS"])
def test_imports_are_read_from_the_configmaps_that_are_mounted(name: str) -> None:
    found = reported(SHAPES[name]())
    assert [finding.there for finding in of(found, "block lab.test.:53")] == ["forward"]
    assert "log" in [finding.there for finding in of(found, "block .:53")]


def test_a_directive_that_is_not_known_stops_it() -> None:
    found = reported(with_corefile(".:53 {\n    frobnicate\n    whoami\n}\n"))
    assert any(
        "frobnicate" in finding.there and finding.weight == "stops" for finding in found.findings
    )


def test_a_corefile_that_cannot_be_read_stops_it_with_its_place() -> None:
    found = reported(with_corefile(".:53 {\n    kubernetes {\n        bogus\n    }\n}\n"))
    (stop,) = of(found, "Corefile")
    assert stop.there.startswith("/etc/coredns/Corefile:3")


def test_no_corefile_stops_it() -> None:
    trees = [tree for tree in kubeadm() if tree["kind"] != "ConfigMap"]
    assert of(reported(trees), "Corefile")[0].there == "no ConfigMap with a Corefile"


@pytest.mark.parametrize(
    ("args", "weight"),
    [
        (["-conf", "/etc/coredns/Corefile"], "keeps"),
        (["-conf=/etc/coredns/Corefile", "-dns.port=53", "-quiet"], "keeps"),
        (["-conf", "/etc/coredns/Corefile", "-localip", "169.254.20.10"], "stops"),
    ],
)
def test_arguments(args: list[str], weight: str) -> None:
    found = reported(changed(Deployment=lambda tree: container(tree).update(args=args)))
    assert of(found, "arguments")[0].weight == weight


@pytest.mark.parametrize(
    ("port", "weight"), [(8080, "keeps"), (8081, "stops"), ("http", "stops"), ("metrics", "stops")]
)
def test_a_probe_must_ask_where_the_corefile_answers(port: object, weight: str) -> None:
    probe = {"httpGet": {"path": "/health", "port": port}}
    found = reported(changed(Deployment=lambda tree: container(tree).update(livenessProbe=probe)))
    assert of(found, "probes")[0].weight == weight


def test_a_probe_that_is_not_there_is_looked_at() -> None:
    found = reported(changed(Deployment=lambda tree: container(tree).pop("readinessProbe")))
    assert "no readinessProbe" in [finding.there for finding in of(found, "probes")]


def test_what_is_served_without_a_container_port_is_told() -> None:
    found = reported(changed(Deployment=lambda tree: container(tree).update(ports=[])))
    assert [finding.there for finding in of(found, "ports")] == ["no containerPort 53"]


def test_a_limit_that_is_missing_and_capabilities_are_looked_at() -> None:
    found = reported(
        changed(Deployment=lambda tree: container(tree).update(resources={}, securityContext={}))
    )
    assert of(found, "memory")[0].weight == of(found, "security")[0].weight == "look"


def test_rights_that_are_missing_stop_it_with_the_rule() -> None:
    trees = [tree for tree in kubeadm() if tree["kind"] != "ClusterRole"]
    found = of(reported([*trees, shapes.role("services", "namespaces")]), "rights")
    assert found[0].weight == "stops"
    assert found[0].then == (
        'apiGroups: ["discovery.k8s.io"], resources: [endpointslices], verbs: [list, watch]'
    )


def test_rights_that_are_not_needed_are_told() -> None:
    found = of(reported(kubeadm()), "rights")
    assert found[0].weight == "keeps"
    assert "may read endpoints, pods" in found[1].there


def test_a_role_of_another_account_does_not_count() -> None:
    trees = [tree for tree in kubeadm() if tree["kind"] != "ClusterRoleBinding"]
    assert of(reported([*trees, shapes.binding("default")]), "rights")[0].weight == "stops"


def test_everything_allowed_is_enough() -> None:
    trees = [tree for tree in kubeadm() if tree["kind"] != "ClusterRole"]
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    admin = {"kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": [rule]}
    assert of(reported([*trees, admin]), "rights")[0].weight == "keeps"


@pytest.mark.parametrize(
    ("kind", "part", "there"),
    [
        ("configmaps", "reading", "configmaps"),
        ("clusterrolebindings", "rights", "ClusterRoles of coredns could not be read"),
        ("nodes", "reading", "nodes"),
    ],
)
def test_what_may_not_be_read_is_told(kind: str, part: str, there: str) -> None:
    class Refusing(Objects):
        def find(self, plural: str, name: str = "", selector: str = "") -> list[Tree]:
            from kdns.kube.reading import ReadingError

            try:
                return super().find(plural, name, selector)
            except PermissionError as error:
                raise ReadingError(f"{error} is forbidden", 403) from error

    found = report(asyncio.run(survey(Refusing(kubeadm(), (kind,)), "kube-system")), {})
    assert any(there in finding.there for finding in of(found, part))


def test_the_service_keeps_its_address() -> None:
    found = of(reported(kubeadm()), "service")
    assert [finding.there for finding in found] == [
        "kube-dns 10.96.0.10", "selector k8s-app=kube-dns"
    ]  # fmt: skip


def test_a_service_that_selects_nothing_is_looked_at() -> None:
    found = reported(changed(Service=lambda tree: tree["spec"].update(selector={"app": "x"})))
    assert of(found, "service")[1].weight == "look"


def test_a_cache_on_every_node_is_told() -> None:
    labels = {"k8s-app": "node-local-dns"}
    cache = {"kind": "DaemonSet", "metadata": {"name": "node-local-dns", "labels": labels}}
    assert "DaemonSet node-local-dns" in of(reported([*kubeadm(), cache]), "cluster")[1].there


def test_a_cluster_without_any_of_it_is_told() -> None:
    found = reported([])
    assert {finding.weight for finding in of(found, "cluster") + of(found, "service")} == {"look"}


@pytest.mark.parametrize("labels", [{"app.kubernetes.io/name": "coredns"}, {}])
def test_dns_is_found_by_the_chart_s_label_and_by_its_name(labels: dict[str, str]) -> None:
    trees = changed(Deployment=lambda tree: tree["metadata"].update(labels=labels))
    assert of(reported(trees), "image")
