"""deploy/helm/kdns: what `helm install` would apply, in each mode."""

import json
from pathlib import Path

import pytest
import yaml

from kdns.plan import make_plan
from tests.deploy.described import CHART, SOURCE
from tests.deploy.rendered import (
    MODES,
    Object,
    Refused,
    chart,
    complaints,
    helm,
    kinds,
    needs_helm,
    only,
    pods,
)
from tests.deploy.restricted import violations

pytestmark = needs_helm

EXAMPLES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
ALL = {
    "prometheus": {
        "service": {"enabled": True},
        "monitor": {"enabled": True},
        "rules": {"enabled": True},
    },
    "grafana": {"dashboard": {"enabled": True}},
    "networkPolicy": {"enabled": True},
}


def container(objects: list[Object], kind: str = "Deployment") -> Object:
    """kdns's own."""
    found: Object = only(objects, kind)["spec"]["template"]["spec"]["containers"][0]
    return found


def corefile(plugins: list[Object]) -> list[Object]:
    """The value `servers` for one block."""
    return [{"port": 53, "plugins": plugins}]


@pytest.mark.parametrize("mode", MODES)
def test_lint_has_nothing_to_say(mode: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--namespace=kube-system", f"--set=mode={mode}")
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_lint_has_nothing_to_say_about_values_of_the_coredns_chart(example: Path) -> None:
    said = helm("lint", "--strict", str(CHART), "--namespace=kube-system", f"--values={example}")
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_takes_every_object(mode: str) -> None:
    assert complaints(chart(values={"mode": mode} | ALL)) == []


@pytest.mark.parametrize("mode", ["beside", "replace"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_cluster_takes_what_values_of_the_coredns_chart_make(example: Path, mode: str) -> None:
    assert complaints(chart(f"--values={example}", values={"mode": mode})) == []


@pytest.mark.parametrize("mode", MODES)
def test_the_pods_pass_the_restricted_standard(mode: str) -> None:
    [template] = pods(chart(values={"mode": mode}))
    assert violations(template) == []


def test_the_autoscaler_s_pod_passes_the_restricted_standard() -> None:
    templates = pods(chart(values={"autoscaler": {"enabled": True}}))
    assert [violations(template) for template in templates] == [[], []]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("beside", "Deployment"), ("replace", "Deployment"), ("nodelocal", "DaemonSet")],
)
def test_the_mode_decides_what_runs(mode: str, expected: str) -> None:
    objects = chart(values={"mode": mode})
    assert [found["kind"] for found in objects if "template" in found.get("spec", {})] == [expected]


def test_beside_touches_nothing_that_a_cluster_has() -> None:
    assert {found["metadata"]["name"] for found in chart()} == {"kdns"}


@pytest.mark.parametrize("mode", ["replace", "nodelocal"])
def test_the_service_is_kube_dns_with_the_labels_that_kubeadm_gives_it(mode: str) -> None:
    service = only(chart(values={"mode": mode}), "Service")
    labels = {
        name: text
        for name, text in service["metadata"]["labels"].items()
        if not name.startswith(("app.", "helm."))
    }
    assert (service["metadata"]["name"], labels) == (
        "kube-dns",
        {
            "k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true",
            "kubernetes.io/name": "CoreDNS",
        },
    )


@pytest.mark.parametrize("mode", ["replace", "nodelocal"])
def test_the_service_s_ports_are_those_of_kube_dns(mode: str) -> None:
    ports = only(chart(values={"mode": mode}), "Service")["spec"]["ports"]
    assert ports == [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
    ]


@pytest.mark.parametrize("mode", ["replace", "nodelocal"])
def test_coredns_s_pods_are_behind_the_service_too(mode: str) -> None:
    assert only(chart(values={"mode": mode}), "Service")["spec"]["selector"] == {
        "k8s-app": "kube-dns"
    }


@pytest.mark.parametrize("mode", ["replace", "nodelocal"])
def test_the_service_stays_when_the_release_goes(mode: str) -> None:
    metadata = only(chart(values={"mode": mode}), "Service")["metadata"]
    assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_service_s_address_is_the_one_that_kubelets_know() -> None:
    objects = chart(values={"mode": "replace", "service": {"clusterIP": "10.96.0.10"}})
    assert only(objects, "Service")["spec"]["clusterIP"] == "10.96.0.10"


def test_the_service_that_exists_can_be_left_alone() -> None:
    objects = chart(values={"mode": "replace", "service": {"create": False}})
    assert "Service" not in kinds(objects)


def test_the_pods_of_a_release_are_told_from_coredns_s_by_its_deployment() -> None:
    selector = only(chart(values={"mode": "replace"}), "Deployment")["spec"]["selector"]
    assert selector["matchLabels"] == {
        "app.kubernetes.io/instance": "kdns",
        "app.kubernetes.io/name": "kdns",
    }


def test_nodelocal_asks_the_same_node() -> None:
    service = only(chart(values={"mode": "nodelocal"}), "Service")
    assert service["spec"]["trafficDistribution"] == "PreferSameNode"


def test_nodelocal_has_neither_the_host_s_network_nor_its_ports() -> None:
    spec = only(chart(values={"mode": "nodelocal"}), "DaemonSet")["spec"]["template"]["spec"]
    taken = [port for port in spec["containers"][0]["ports"] if "hostPort" in port]
    assert (spec.get("hostNetwork", False), taken) == (False, [])


def test_an_update_of_nodelocal_starts_the_new_pod_first() -> None:
    spec = only(chart(values={"mode": "nodelocal"}), "DaemonSet")["spec"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 0}


def test_nodelocal_can_stop_the_old_pod_first() -> None:
    update = {"maxSurge": 0, "maxUnavailable": 1}
    spec = only(chart(values={"mode": "nodelocal", "rollingUpdate": update}), "DaemonSet")["spec"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}


def test_nodelocal_has_no_disruption_budget_since_a_drain_passes_over_it() -> None:
    assert "PodDisruptionBudget" not in kinds(chart(values={"mode": "nodelocal"}))


def test_the_container_has_kubeadm_s_arguments_and_the_snapshot() -> None:
    assert container(chart())["args"] == [
        "-conf", "/etc/coredns/Corefile", "--state-dir", "/var/lib/kdns",
    ]  # fmt: skip


def test_without_the_snapshot_the_arguments_are_kubeadm_s() -> None:
    objects = chart(values={"state": {"enabled": False}})
    assert container(objects)["args"] == ["-conf", "/etc/coredns/Corefile"]


def test_the_corefile_of_coredns_is_mounted_when_told_with_all_that_is_beside_it() -> None:
    """k3s has the file of `hosts` in there."""
    objects = chart(values={"existingConfigMap": "coredns"})
    volumes = only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"] == {"name": "coredns"}


def test_no_corefile_is_made_beside_one_that_exists() -> None:
    assert "ConfigMap" not in kinds(chart(values={"existingConfigMap": "coredns"}))


def test_the_default_corefile_is_one_that_kdns_serves() -> None:
    text = only(chart(), "ConfigMap")["data"]["Corefile"]
    plan = make_plan(text, "Corefile", environ={}, port=53, lenient=False)
    assert [block.zones for block in plan.blocks] == [(".",)]


def test_a_server_block_is_written_as_the_coredns_chart_writes_it() -> None:
    [text] = [
        found["data"]["Corefile"]
        for found in chart(f"--values={Path(__file__).parent / 'values/examples.yaml'}")
        if "Corefile" in found.get("data", {})
    ]
    assert text.splitlines()[:8] == [
        "import /opt/coredns/*.conf",
        "tls://hello.world.:12345 dns://foo.bar.:12345 {",
        "    whoami",
        "    cache 30 foo.bar {",
        "        success 100",
        "        denial 100",
        "    }",
        "}",
    ]


def test_the_pods_are_replaced_when_the_corefile_changes() -> None:
    changed = corefile([{"name": "whoami"}])
    one, other = (
        pods(objects)[0]["metadata"]["annotations"]["checksum/config"]
        for objects in (chart(), chart(values={"servers": changed}))
    )
    assert one != other


def test_probes_follow_the_ports_of_the_corefile() -> None:
    plugins = [
        {"name": "health", "parameters": ":8090"},
        {"name": "ready", "parameters": ":8191"},
        {"name": "prometheus", "parameters": ":9253"},
    ]
    ports = container(chart(values={"servers": corefile(plugins)}))["ports"]
    assert {port["name"]: port["containerPort"] for port in ports} == {
        "udp-53": 53, "tcp-53": 53, "metrics": 9253, "health": 8090, "ready": 8191,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("pods insecure", ["namespaces", "services"]),
        ("pods verified", ["namespaces", "pods", "services"]),
    ],
)
def test_pods_are_listed_only_if_the_corefile_verifies_them(
    block: str, expected: list[str]
) -> None:
    plugins = [{"name": "kubernetes", "parameters": "cluster.local", "configBlock": block}]
    rules = only(chart(values={"servers": corefile(plugins)}), "ClusterRole")["rules"]
    assert rules[0]["resources"] == expected


def test_endpoint_slices_are_not_listed_without_endpoints() -> None:
    plugins = [{"name": "kubernetes", "configBlock": "noendpoints"}]
    rules = only(chart(values={"servers": corefile(plugins)}), "ClusterRole")["rules"]
    assert [rule["apiGroups"] for rule in rules] == [[""]]


def test_whether_pods_are_listed_can_be_told() -> None:
    rules = only(chart(values={"rbac": {"pods": True}}), "ClusterRole")["rules"]
    assert rules[0]["resources"] == ["namespaces", "pods", "services"]


def test_everything_listed_is_watched_and_nothing_else_is_done() -> None:
    rules = only(chart(), "ClusterRole")["rules"]
    assert [rule["verbs"] for rule in rules] == [["list", "watch"]] * 2


def test_the_image_of_coredns_is_not_run_with_arguments_of_kdns() -> None:
    objects = chart(values={"image": {"repository": "registry.example/coredns", "tag": "1.13.1"}})
    assert container(objects)["image"] == "kdns:0.1.0"


def test_a_digest_pins_the_image() -> None:
    objects = chart(values={"image": {"digest": "sha256:00"}})
    assert container(objects)["image"] == "kdns:0.1.0@sha256:00"


def test_pods_are_spread_and_counted_among_themselves() -> None:
    spec = only(chart(), "Deployment")["spec"]["template"]["spec"]
    selectors = [one["labelSelector"] for one in spec["topologySpreadConstraints"]]
    labels = {"app.kubernetes.io/instance": "kdns", "app.kubernetes.io/name": "kdns"}
    assert selectors == [{"matchLabels": labels}] * 2


@pytest.mark.parametrize(
    ("given", "expected"), [({}, {"maxUnavailable": 1}), ({"minAvailable": 1}, {"minAvailable": 1})]
)
def test_a_budget_says_what_it_is_told(given: Object, expected: Object) -> None:
    """Helm merges what is given into the defaults, and the two bounds exclude each other."""
    spec = only(chart(values={"podDisruptionBudget": given}), "PodDisruptionBudget")["spec"]
    assert {name: spec[name] for name in spec if name != "selector"} == expected


def test_no_budget_can_be_wanted() -> None:
    assert "PodDisruptionBudget" not in kinds(chart(values={"podDisruptionBudget": None}))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"emptyDir": {"sizeLimit": "256Mi"}}),
        (
            {"persistentVolumeClaim": {"claimName": "a"}},
            {"persistentVolumeClaim": {"claimName": "a"}},
        ),
    ],
)
def test_the_snapshot_is_on_the_volume_that_is_told(given: Object, expected: Object) -> None:
    objects = chart(values={"state": {"volume": given}})
    volumes = only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[1] == {"name": "state"} | expected


def test_an_autoscaler_decides_how_many_pods_there_are() -> None:
    objects = chart(values={"hpa": {"enabled": True}})
    assert "replicas" not in only(objects, "Deployment")["spec"]


@pytest.mark.parametrize("name", ["hpa", "autoscaler"])
def test_nodelocal_is_not_scaled(name: str) -> None:
    with pytest.raises(Refused, match="one pod on each node"):
        chart(values={"mode": "nodelocal", name: {"enabled": True}})


def test_kube_dns_is_in_kube_system() -> None:
    with pytest.raises(Refused, match="expected --namespace kube-system, got dns"):
        chart("--namespace=dns", values={"mode": "replace"})


def test_what_kdns_does_not_serve_yet_is_told_before_it_is_applied() -> None:
    with pytest.raises(Refused, match="multicluster"):
        chart(values={"rbac": {"multiclusterEnable": True}})


def test_a_value_that_is_not_known_is_told() -> None:
    with pytest.raises(Refused, match="additional properties 'replicas' not allowed"):
        chart(values={"replicas": 3})


def test_the_monitor_finds_the_service_for_metrics() -> None:
    objects = chart(values=ALL)
    wanted = only(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    [service] = [
        found
        for found in objects
        if found["kind"] == "Service" and found["metadata"]["name"] == "kdns-metrics"
    ]
    assert wanted.items() <= service["metadata"]["labels"].items()


def test_the_rules_are_those_of_the_file() -> None:
    rule = only(chart(values=ALL), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((SOURCE / "deploy/alerts/kdns.yaml").read_text())


def test_the_dashboard_is_the_one_of_the_file() -> None:
    [board] = [
        found["data"]["kdns.json"]
        for found in chart(values=ALL)
        if "kdns.json" in found.get("data", {})
    ]
    assert json.loads(board) == json.loads((SOURCE / "deploy/dashboards/kdns.json").read_text())


def test_labels_of_the_operator_s_own_are_on_every_object() -> None:
    objects = chart(values={"customLabels": {"team": "dns"}} | ALL)
    assert [found["metadata"]["labels"].get("team") for found in objects] == ["dns"] * len(objects)
