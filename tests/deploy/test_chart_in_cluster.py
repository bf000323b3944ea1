"""What the chart makes of the cluster that it is installed into: it looks at what is there."""

from pathlib import Path

import pytest

from tests.deploy.cluster import cluster
from tests.deploy.described import CHART
from tests.deploy.rendered import Object, Refused, documents, helm, needs_helm, only

pytestmark = needs_helm

KUBE_DNS: Object = {
    "kind": "Service",
    "metadata": {"name": "kube-dns", "namespace": "kube-system"},
    "spec": {"clusterIP": "10.96.0.10"},
}
COREFILE: Object = {
    "kind": "ConfigMap",
    "metadata": {"name": "coredns", "namespace": "kube-system"},
    "data": {
        "Corefile": ".:53 {\n    kubernetes cluster.local {\n        pods verified\n    }\n}\n"
    },
}
BUDGET: Object = {
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "coredns-pdb", "namespace": "kube-system"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
}


def install(folder: Path, there: list[Object], *arguments: str) -> str:
    """What `helm install` would do, and says, in a cluster that has these objects."""
    with cluster(folder, there) as kubeconfig:
        return helm(
            "install", "kdns", str(CHART), "--namespace=kube-system", "--dry-run=server",
            "--disable-openapi-validation", f"--kubeconfig={kubeconfig}", *arguments,
        )  # fmt: skip


def objects(said: str) -> list[Object]:
    """The manifest in it."""
    return documents(said.partition("MANIFEST:\n")[2].partition("\nNOTES:\n")[0])


def notes(said: str) -> str:
    return said.partition("\nNOTES:\n")[2]


def test_kube_dns_keeps_the_address_that_pods_were_told(tmp_path: Path) -> None:
    said = install(tmp_path, [KUBE_DNS], "--set=mode=replace", "--take-ownership")
    assert only(objects(said), "Service")["spec"]["clusterIP"] == "10.96.0.10"


def test_kube_dns_is_not_taken_from_whoever_made_it_unless_told(tmp_path: Path) -> None:
    with pytest.raises(Refused, match='Service "kube-dns" in namespace "kube-system" exists'):
        install(tmp_path, [KUBE_DNS], "--set=mode=replace")


def test_nothing_that_exists_is_in_the_way_of_pods_behind_kube_dns(tmp_path: Path) -> None:
    there = [KUBE_DNS, COREFILE]
    said = install(
        tmp_path, there, "--set=mode=replace,existingConfigMap=coredns,service.create=false"
    )
    assert "STATUS: pending-install" in said


def test_pods_are_listed_if_the_corefile_that_is_there_verifies_them(tmp_path: Path) -> None:
    said = install(tmp_path, [COREFILE], "--set=existingConfigMap=coredns")
    rules = only(objects(said), "ClusterRole")["rules"]
    assert rules[0]["resources"] == ["namespaces", "pods", "services"]


def test_no_second_budget_covers_the_pods_for_then_none_can_be_evicted(tmp_path: Path) -> None:
    said = install(tmp_path, [BUDGET], "--set=mode=replace,service.create=false")
    assert [found for found in objects(said) if found["kind"] == "PodDisruptionBudget"] == []


def test_a_budget_of_others_does_not_count(tmp_path: Path) -> None:
    other = BUDGET | {"spec": {"selector": {"matchLabels": {"app": "other"}}}}
    said = install(tmp_path, [other], "--set=mode=replace,service.create=false")
    assert only(objects(said), "PodDisruptionBudget")["metadata"]["name"] == "kdns"


def test_its_own_budget_stays_over_an_upgrade(tmp_path: Path) -> None:
    own = BUDGET | {"metadata": {"name": "kdns", "namespace": "kube-system"}}
    said = install(tmp_path, [own], "--set=mode=replace,service.create=false", "--take-ownership")
    assert only(objects(said), "PodDisruptionBudget")["metadata"]["name"] == "kdns"


def test_the_notes_say_how_to_take_coredns_away_and_back(tmp_path: Path) -> None:
    said = install(tmp_path, [], "--set=mode=replace,service.create=false")
    assert [line.strip() for line in notes(said).splitlines() if " scale " in line] == [
        "kubectl --namespace kube-system scale deployment coredns --replicas=0",
        "kubectl --namespace kube-system scale deployment coredns --replicas=2",
    ]


def test_the_notes_say_which_image_is_run_instead_of_coredns_s(tmp_path: Path) -> None:
    said = install(tmp_path, [], "--set=image.repository=coredns/coredns")
    assert "CoreDNS's image: kdns:0.1.0 is used" in notes(said)


def test_the_notes_say_that_a_policy_that_is_no_more_has_no_effect(tmp_path: Path) -> None:
    said = install(tmp_path, [], "--set=rbac.pspEnable=true")
    assert "rbac.pspEnable has no effect" in notes(said)
