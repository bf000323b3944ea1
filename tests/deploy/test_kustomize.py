"""deploy/kustomize: what `kubectl apply -k` would apply."""

import subprocess

import pytest
import yaml

from kdns.plan import make_plan
from tests.deploy.described import SOURCE
from tests.deploy.rendered import OVERLAYS, complaints, needs_kubectl, only, overlay, pods
from tests.deploy.restricted import violations

pytestmark = needs_kubectl


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_cluster_takes_every_object(name: str) -> None:
    assert complaints(overlay(name)) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pods_pass_the_restricted_standard(name: str) -> None:
    [template] = pods(overlay(name))
    assert violations(template) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_is_in_the_namespace_of_the_cluster_s_dns(name: str) -> None:
    places = {found["metadata"].get("namespace", "none") for found in overlay(name)}
    assert places == {"kube-system", "none"}


@pytest.mark.parametrize("name", ["replace", "nodelocal", "kind"])
def test_the_pods_stand_behind_kube_dns_with_the_corefile_of_coredns(name: str) -> None:
    [template] = pods(overlay(name))
    config = template["spec"]["volumes"][0]["configMap"]["name"]
    assert (template["metadata"]["labels"]["k8s-app"], config) == ("kube-dns", "coredns")


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_that_a_cluster_has_is_among_the_objects(name: str) -> None:
    """Else `kubectl delete -k` would take it away."""
    assert {found["metadata"]["name"] for found in overlay(name)} == {"kdns", "system:kdns"}


def test_beside_is_not_behind_kube_dns() -> None:
    [template] = pods(overlay("beside"))
    assert template["metadata"]["labels"]["k8s-app"] == "kdns"


def test_nodelocal_is_a_daemon_set_on_every_node() -> None:
    spec = only(overlay("nodelocal"), "DaemonSet")["spec"]["template"]["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_nodelocal_asks_the_same_node() -> None:
    assert only(overlay("nodelocal"), "Service")["spec"]["trafficDistribution"] == "PreferSameNode"


def test_an_update_of_nodelocal_starts_the_new_pod_first() -> None:
    update = only(overlay("nodelocal"), "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}


def test_kind_takes_the_image_that_was_loaded() -> None:
    [template] = pods(overlay("kind"))
    container = template["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("kdns:e2e", "Never")


def test_the_corefile_is_one_that_kdns_serves() -> None:
    text = only(overlay("beside"), "ConfigMap")["data"]["Corefile"]
    plan = make_plan(text, "Corefile", environ={}, port=53, lenient=False)
    assert [block.zones for block in plan.blocks] == [(".",)]


def test_the_component_adds_pods_to_what_is_listed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A kustomization names others by relative paths only, and below itself or beside.
    folder = SOURCE / "deploy/kustomize/overlays"
    with_pods = folder / f"{tmp_path_factory.mktemp('with-pods').name}-test"
    with_pods.mkdir()
    try:
        (with_pods / "kustomization.yaml").write_text(
            yaml.safe_dump(
                {"resources": ["../replace"], "components": ["../../components/pods-verified"]}
            )
        )
        done = subprocess.run(
            ["kubectl", "kustomize", with_pods], capture_output=True, text=True, check=True
        )
    finally:
        (with_pods / "kustomization.yaml").unlink()
        with_pods.rmdir()
    role = only(list(yaml.safe_load_all(done.stdout)), "ClusterRole")
    assert role["rules"][0]["resources"] == ["namespaces", "pods", "services"]
