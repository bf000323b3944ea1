"""The DNS of a cluster as its distributions ship it: what their API servers say, in short."""

import copy
from typing import Any

from tests.corefiles import KUBEADM_BEFORE

Tree = dict[str, Any]

K3S_COREFILE = KUBEADM_BEFORE.replace(
    "    loadbalance\n}",
    """    loadbalance
    hosts /etc/coredns/NodeHosts {
        ttl 60
        reload 15s
        fallthrough
    }
    import /etc/coredns/custom/*.override
}""",
) + ("import /etc/coredns/custom/*.server\n")


def configmap(name: str, **data: str) -> Tree:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(
    name: str = "coredns", image: str = "registry.k8s.io/coredns/coredns:v1.12.1"
) -> Tree:
    container = {
        "name": "coredns",
        "image": image,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m"}},
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
        ],
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}},
        "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}},
        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns"}],
    }
    items = [{"key": "Corefile", "path": "Corefile"}]
    volume = {"name": "config-volume", "configMap": {"name": "coredns", "items": items}}
    spec = {"serviceAccountName": "coredns", "containers": [container], "volumes": [volume]}
    labels = {"k8s-app": "kube-dns"}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"template": {"metadata": {"labels": dict(labels)}, "spec": spec}},
    }


def service(name: str = "kube-dns", ip: str = "10.96.0.10") -> Tree:
    return {
        "kind": "Service",
        "metadata": {"name": name, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"k8s-app": "kube-dns"}},
    }


def role(*resources: str) -> Tree:
    core = [name for name in resources if name != "endpointslices"]
    rules = [{"apiGroups": [""], "resources": core, "verbs": ["list", "watch"]}]
    if "endpointslices" in resources:
        rules.append(
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            }
        )
    return {"kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": rules}


def binding(account: str = "coredns", name: str = "system:coredns") -> Tree:
    subject = {"kind": "ServiceAccount", "namespace": "kube-system", "name": account}
    return {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"kind": "ClusterRole", "name": name},
        "subjects": [subject],
    }


def node(provider: str, version: str = "v1.34.1") -> Tree:
    return {
        "kind": "Node",
        "metadata": {"name": "one"},
        "spec": {"providerID": provider},
        "status": {"nodeInfo": {"kubeletVersion": version}},
    }


def kubeadm() -> list[Tree]:
    """As kubeadm leaves a cluster; what it may read is more than it needs."""
    return [
        deployment(),
        service(),
        configmap("coredns", Corefile=KUBEADM_BEFORE),
        role("endpoints", "services", "pods", "namespaces", "endpointslices"),
        binding(),
        node(""),
    ]


def kind() -> list[Tree]:
    return [*kubeadm()[:-1], node("kind://docker/kind/kind-control-plane")]


def k3s() -> list[Tree]:
    """coredns-custom is mounted and imported; NodeHosts lies beside the Corefile."""
    made = deployment()
    made["metadata"]["annotations"] = {"objectset.rio.cattle.io/owner-name": "coredns"}
    spec = made["spec"]["template"]["spec"]
    spec["volumes"][0]["configMap"]["items"].append({"key": "NodeHosts", "path": "NodeHosts"})
    custom = {"name": "custom", "configMap": {"name": "coredns-custom", "optional": True}}
    spec["volumes"].append(custom)
    mount = {"name": "custom", "mountPath": "/etc/coredns/custom", "readOnly": True}
    spec["containers"][0]["volumeMounts"].append(mount)
    held = configmap("coredns", Corefile=K3S_COREFILE, NodeHosts="192.168.0.1 one\n")
    extra = configmap(
        "coredns-custom",
        **{"lab.server": "lab.test:53 {\n    forward . 10.0.0.1\n}\n", "log.override": "log\n"},
    )
    roles = [role("endpoints", "services", "pods", "namespaces", "endpointslices"), binding()]
    return [made, service(ip="10.43.0.10"), held, extra, *roles, node("k3s://one", "v1.34.1+k3s1")]


def eks() -> list[Tree]:
    made = deployment(image="602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.11.4")
    made["metadata"]["labels"]["eks.amazonaws.com/component"] = "coredns"
    return [made, *kubeadm()[1:-1], node("aws:///eu-west-1a/i-0")]


def aks() -> list[Tree]:
    made, _, held, extra, *rest = k3s()
    made["metadata"]["annotations"] = {}
    made["metadata"]["labels"]["kubernetes.azure.com/managedby"] = "aks"
    return [made, service(ip="10.0.0.10"), held, extra, *rest[:-1], node("azure:///vm")]


def gke() -> list[Tree]:
    """kube-dns itself, which has no Corefile."""
    made = deployment("kube-dns", "gke.gcr.io/k8s-dns-kube-dns:1.23.0")
    made["spec"]["template"]["spec"]["volumes"] = [
        {"name": "kube-dns-config", "configMap": {"name": "kube-dns", "optional": True}}
    ]
    stubs = configmap("kube-dns", stubDomains='{"lab.test": ["10.0.0.1"]}')
    return [made, service(), stubs, role("services", "endpointslices"), binding(), node("gce://p")]


def rke2() -> list[Tree]:
    name = "rke2-coredns-rke2-coredns"
    made = deployment(name)
    made["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = name
    held = configmap(name, Corefile=KUBEADM_BEFORE)
    return [made, service(name), held, *kubeadm()[3:-1], node("rke2://one", "v1.34.1+rke2r1")]


SHAPES = {
    "kubeadm": kubeadm, "kind": kind, "k3s": k3s, "EKS": eks, "AKS": aks, "GKE": gke, "RKE2": rke2,
}  # fmt: skip


class Objects:
    """An API server's objects, read as `Reader` reads them. forbidden: kinds that are refused."""

    PLURALS = (
        ("Deployment", "deployments"), ("DaemonSet", "daemonsets"), ("Service", "services"),
        ("ConfigMap", "configmaps"), ("ClusterRole", "clusterroles"),
        ("ClusterRoleBinding", "clusterrolebindings"), ("Node", "nodes"),
    )  # fmt: skip

    def __init__(self, trees: list[Tree], forbidden: tuple[str, ...] = ()) -> None:
        self._trees = copy.deepcopy(trees)
        self._plurals = dict(self.PLURALS)
        self.forbidden = forbidden

    def find(self, plural: str, name: str = "", selector: str = "") -> list[Tree]:
        """The objects of a kind. Raises PermissionError."""
        if plural in self.forbidden:
            raise PermissionError(plural)
        key, _, value = selector.partition("=")
        return [
            tree
            for tree in self._trees
            if self._plurals[tree["kind"]] == plural
            and name in ("", tree["metadata"]["name"])
            and (not key or (tree["metadata"].get("labels") or {}).get(key) == value)
        ]

    async def get(self, path: str) -> Any | None:
        *_, plural, name = path.split("/")
        found = self.find(plural, name)
        return found[0] if found else None

    async def items(self, path: str, **query: str) -> list[Any]:
        return self.find(path.rpartition("/")[2], selector=query.get("labelSelector", ""))
